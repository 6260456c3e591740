//! Stretches of a table that are known to hold nothing.
//!
//! Most tables are queues: put at one end, taken from the other. RocksDB keeps a mark for every key that was removed,
//! until a compaction drops it, and a scan walks over all of them: after some hundred thousand runs, a look at the
//! head of the queue would take tens of milliseconds. So a scan that walked over many marks notes the stretch it
//! found empty, and later ones jump over it.
//!
//! What is known must be true of the very moment that is read:
//!
//! - A key that is put is taken out of its stretch *before* it is written, a key that was removed joins its neighbours
//!   *after* it was written. Between the two, what is known holds for the tables before the batch and after it.
//! - A reader takes what is known in one step with its snapshot or iterator, and keeps it: stretches found later may
//!   hold what it can still see.
//! - What a reader of an earlier moment found is taken over less the keys that were put since. Only the newest of these
//!   are remembered; who comes later than that has found nothing.

use sched_core::tables::{Change, Table};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Bound::{Excluded, Included, Unbounded};
use std::sync::Arc;

/// Removed keys in a row that make a stretch worth knowing: fewer cost less than a jump.
pub(super) const SKIPPED_MIN: u64 = 32;
/// Stretches known per table; beyond it the one that saves least is forgotten.
const STRETCHES_MAX: usize = 64;
/// Keys put last that are remembered per table.
const RECENT_MAX: usize = 1024;

/// Empty stretches of one table at one moment.
#[derive(Clone, Default, Debug, PartialEq, Eq)]
pub(super) struct Known {
    /// By their first key: where the stretch ends (exclusive), and how many removed keys it saves walking over.
    stretches: BTreeMap<Vec<u8>, (Vec<u8>, u64)>,
}

/// What is known of all tables at one moment.
#[derive(Clone)]
pub(super) struct Seen {
    known: [Arc<Known>; Table::ALL.len()],
    puts: [u64; Table::ALL.len()],
}

/// What is known of one table at one moment.
pub(super) struct SeenOne {
    pub(super) known: Arc<Known>,
    puts: u64,
}

/// A stretch that a scan found empty.
pub(super) struct Found {
    pub(super) from: Vec<u8>,
    pub(super) to: Vec<u8>,
    pub(super) skipped: u64,
}

/// What is known of all tables now.
pub(super) struct Gaps {
    seen: Seen,
    /// The keys put last, oldest first; the newest is number `seen.puts`.
    recent: [VecDeque<Vec<u8>>; Table::ALL.len()],
}

/// Returns the first key after `key`.
pub(super) fn after(key: &[u8]) -> Vec<u8> {
    let mut next = Vec::with_capacity(key.len() + 1);
    next.extend_from_slice(key);
    next.push(0);
    next
}

impl Known {
    /// Returns the end of the stretch that holds `at`.
    pub(super) fn end_of(&self, at: &[u8]) -> Option<&[u8]> {
        let (_, (end, _)) = self.stretches.range::<[u8], _>((Unbounded, Included(at))).next_back()?;
        (at < end.as_slice()).then_some(end)
    }

    /// Returns the beginning of the stretch that lies right before `end`, or holds it.
    pub(super) fn start_of(&self, end: &[u8]) -> Option<&[u8]> {
        let (start, (stretch_end, _)) = self
            .stretches
            .range::<[u8], _>((Unbounded, Excluded(end)))
            .next_back()?;
        (end <= stretch_end.as_slice()).then_some(start)
    }

    /// Adds a stretch, joined with those it touches.
    fn insert(&mut self, mut from: Vec<u8>, mut to: Vec<u8>, mut saves: u64) {
        if from >= to {
            return;
        }
        // Stretches do not touch each other, so those that touch this one are the last ones that begin before its end.
        while let Some((start, (end, _))) = self
            .stretches
            .range::<[u8], _>((Unbounded, Included(to.as_slice())))
            .next_back()
            && *end >= from
        {
            let start = start.clone();
            let Some((end, saved)) = self.stretches.remove(&start) else {
                break;
            };
            from = from.min(start);
            to = to.max(end);
            saves += saved;
        }
        self.stretches.insert(from, (to, saves));
        if self.stretches.len() > STRETCHES_MAX
            && let Some(least) = self
                .stretches
                .iter()
                .min_by_key(|(_, (_, saves))| *saves)
                .map(|(start, _)| start.clone())
        {
            self.stretches.remove(&least);
        }
    }

    /// Takes a key out of its stretch.
    fn punch(&mut self, key: &[u8]) {
        let holds = |(start, (end, saves)): (&Vec<u8>, &(Vec<u8>, u64))| {
            (key < end.as_slice()).then(|| (start.clone(), end.clone(), *saves))
        };
        let Some((start, end, saves)) = self
            .stretches
            .range::<[u8], _>((Unbounded, Included(key)))
            .next_back()
            .and_then(holds)
        else {
            return;
        };
        self.stretches.remove(&start);
        self.insert(start, key.to_vec(), saves / 2);
        self.insert(after(key), end, saves / 2);
    }

    /// Whether a stretch ends right before a key or begins right after it.
    fn touches(&self, key: &[u8]) -> bool {
        self.start_of(key).is_some() || self.stretches.contains_key(&after(key))
    }
}

impl Gaps {
    pub(super) fn new() -> Self {
        let seen = Seen {
            known: std::array::from_fn(|_| Arc::default()),
            puts: [0; Table::ALL.len()],
        };
        Self {
            seen,
            recent: std::array::from_fn(|_| VecDeque::new()),
        }
    }

    /// Returns what is known now, to be kept with a snapshot taken in the same step.
    pub(super) fn seen(&self) -> Seen {
        self.seen.clone()
    }

    /// Returns what is known of one table now, to be kept with an iterator made in the same step.
    pub(super) fn seen_of(&self, table: Table) -> SeenOne {
        self.seen.of(table)
    }

    /// Takes out what is about to be put.
    pub(super) fn before_write(&mut self, changes: &[Change]) {
        for change in changes {
            let Change::Put { table, key, .. } = change else {
                continue;
            };
            let at = *table as usize;
            let recent = &mut self.recent[at];
            if recent.len() == RECENT_MAX {
                recent.pop_front();
            }
            recent.push_back(key.clone());
            self.seen.puts[at] += 1;
            if self.seen.known[at].end_of(key).is_some() {
                Arc::make_mut(&mut self.seen.known[at]).punch(key);
            }
        }
    }

    /// Adds what was removed and lies beside an empty stretch.
    pub(super) fn after_write(&mut self, changes: &[Change]) {
        let mut joining = Vec::new();
        for change in changes {
            if let Change::Delete { table, key } = change
                && self.seen.known[*table as usize].touches(key)
            {
                joining.push((*table, key));
            }
        }
        if joining.is_empty() {
            return;
        }
        let put = |change| match change {
            &Change::Put { table, ref key, .. } => Some((table, key)),
            _ => None,
        };
        // Put in the same batch, before or after: it may be there.
        let put: BTreeSet<_> = changes.iter().filter_map(put).collect();
        for (table, key) in joining {
            if !put.contains(&(table, key)) {
                Arc::make_mut(&mut self.seen.known[table as usize]).insert(key.clone(), after(key), 1);
            }
        }
    }

    /// Takes over what a reader found that knew `then`.
    pub(super) fn learn(&mut self, table: Table, then: &SeenOne, found: Vec<Found>) {
        let at = table as usize;
        let since = self.seen.puts[at] - then.puts;
        let recent = &self.recent[at];
        let Some(first_new) = usize::try_from(since)
            .ok()
            .and_then(|since| recent.len().checked_sub(since))
        else {
            return;
        };
        let known = Arc::make_mut(&mut self.seen.known[at]);
        for Found { from, to, skipped } in found {
            known.insert(from, to, skipped);
        }
        for key in recent.range(first_new..) {
            known.punch(key);
        }
    }
}

impl Seen {
    /// Returns what is known of one table.
    pub(super) fn of(&self, table: Table) -> SeenOne {
        let at = table as usize;
        SeenOne {
            known: Arc::clone(&self.known[at]),
            puts: self.puts[at],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng};

    const TABLE: Table = Table::Ready;

    fn key(i: u64) -> Vec<u8> {
        i.to_be_bytes().to_vec()
    }

    fn known(of: &[(u64, u64)]) -> Known {
        let mut known = Known::default();
        of.iter().for_each(|(from, to)| known.insert(key(*from), key(*to), 10));
        known
    }

    fn stretches(known: &Known) -> Vec<(Vec<u8>, Vec<u8>)> {
        known
            .stretches
            .iter()
            .map(|(from, (to, _))| (from.clone(), to.clone()))
            .collect()
    }

    #[test]
    fn stretches_that_touch_become_one() {
        assert_eq!(stretches(&known(&[(1, 3), (5, 7)])).len(), 2);
        for joined in [
            &[(1, 3), (3, 9)][..],
            &[(3, 9), (1, 3)],
            &[(1, 5), (2, 9)],
            &[(2, 3), (5, 6), (1, 9)],
        ] {
            assert_eq!(stretches(&known(joined)), [(key(1), key(9))], "{joined:?}");
        }
        assert_eq!(stretches(&known(&[(4, 4), (9, 2)])), []);
    }

    #[test]
    fn jumps_lead_to_the_ends() {
        let known = known(&[(10, 20), (30, 40)]);
        let end = |at| known.end_of(&key(at)).map(<[u8]>::to_vec);
        let start = |at| known.start_of(&key(at)).map(<[u8]>::to_vec);
        assert_eq!(
            [end(9), end(10), end(19), end(20)],
            [None, Some(key(20)), Some(key(20)), None]
        );
        assert_eq!(
            [start(10), start(11), start(20), start(21)],
            [None, Some(key(10)), Some(key(10)), None]
        );
        assert_eq!([end(35), start(35)], [Some(key(40)), Some(key(30))]);
    }

    #[test]
    fn a_key_put_splits_its_stretch_and_removed_it_joins_them_again() {
        let mut gaps = Gaps::new();
        let then = gaps.seen();
        gaps.learn(
            TABLE,
            &then.of(TABLE),
            vec![Found {
                from: key(1),
                to: key(9),
                skipped: 50,
            }],
        );
        let put = [Change::Put {
            table: TABLE,
            key: key(5),
            value: vec![],
        }];
        gaps.before_write(&put);
        gaps.after_write(&put);
        assert_eq!(
            stretches(&gaps.seen.of(TABLE).known),
            [(key(1), key(5)), (after(&key(5)), key(9))]
        );
        let delete = [Change::Delete {
            table: TABLE,
            key: key(5),
        }];
        gaps.before_write(&delete);
        assert_eq!(
            stretches(&gaps.seen.of(TABLE).known).len(),
            2,
            "not before it is written"
        );
        gaps.after_write(&delete);
        assert_eq!(stretches(&gaps.seen.of(TABLE).known), [(key(1), key(9))]);
    }

    #[test]
    fn what_was_put_since_is_not_taken_for_empty() {
        let mut gaps = Gaps::new();
        let then = gaps.seen();
        gaps.before_write(&[Change::Put {
            table: TABLE,
            key: key(5),
            value: vec![],
        }]);
        gaps.learn(
            TABLE,
            &then.of(TABLE),
            vec![Found {
                from: key(1),
                to: key(9),
                skipped: 50,
            }],
        );
        assert_eq!(
            stretches(&gaps.seen.of(TABLE).known),
            [(key(1), key(5)), (after(&key(5)), key(9))]
        );
        let long_ago = gaps.seen();
        let many: Vec<_> = (100..100 + RECENT_MAX as u64 + 1)
            .map(|i| Change::Put {
                table: TABLE,
                key: key(i),
                value: vec![],
            })
            .collect();
        gaps.before_write(&many);
        gaps.learn(
            TABLE,
            &long_ago.of(TABLE),
            vec![Found {
                from: key(20),
                to: key(30),
                skipped: 50,
            }],
        );
        assert_eq!(gaps.seen.of(TABLE).known.end_of(&key(25)), None, "found too long ago");
    }

    #[test]
    fn what_is_known_is_bounded_and_never_holds_a_key_that_is_there() {
        let mut dice = StdRng::seed_from_u64(1);
        let mut gaps = Gaps::new();
        let mut live = BTreeSet::new();
        let mut then = (gaps.seen(), live.clone());
        for _ in 0..20_000 {
            if dice.random_bool(0.1) {
                then = (gaps.seen(), live.clone());
            }
            if dice.random_bool(0.3) {
                // A scan of an earlier moment finds what is empty there.
                let from = key(dice.random_range(0..2000));
                let to = then
                    .1
                    .range(from.clone()..)
                    .next()
                    .cloned()
                    .unwrap_or_else(|| key(2000));
                gaps.learn(TABLE, &then.0.of(TABLE), vec![Found { from, to, skipped: 40 }]);
            }
            let key = key(dice.random_range(0..2000));
            let change = if dice.random_bool(0.5) {
                Change::Put {
                    table: TABLE,
                    key: key.clone(),
                    value: vec![],
                }
            } else {
                Change::Delete {
                    table: TABLE,
                    key: key.clone(),
                }
            };
            let batch = [change];
            gaps.before_write(&batch);
            match &batch[0] {
                Change::Put { key, .. } => live.insert(key.clone()),
                Change::Delete { key, .. } => live.remove(key),
                Change::DeleteRange { .. } => false,
            };
            gaps.after_write(&batch);
            let known = gaps.seen.of(TABLE).known;
            assert!(known.stretches.len() <= STRETCHES_MAX);
            assert!(known.end_of(&key).is_none() || !live.contains(&key));
        }
        assert!(live.iter().all(|key| gaps.seen.of(TABLE).known.end_of(key).is_none()));
        assert!(!gaps.seen.of(TABLE).known.stretches.is_empty());
    }
}
