//! Matches what had to run with what ran, earliest deadline first.
//!
//! For one task, starts are taken in the order of time. Each takes, of the targets that are due and not yet over, the one with the
//! earliest deadline: if any matching serves all targets in time, this one does. What finds no such target is late for one that is
//! over, early for one to come, or nobody's.

use super::targets::Target;
use std::collections::BTreeSet;

/// How a start fits.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum Fit {
    /// It serves a target in time.
    InTime(Target),
    /// It serves one whose deadline was over.
    Late(Target),
    /// It serves one that is not yet due.
    Early(Target),
    /// Nobody asked for it.
    Orphan,
}

/// What came of a sweep.
#[derive(Debug, Default)]
pub(super) struct Swept {
    /// One for each start, in their order.
    pub(super) fits: Vec<Fit>,
    /// Targets that nothing served.
    pub(super) unserved: Vec<Target>,
}

/// Matches `starts`, ascending, with `targets`. A start counts as due if it is by `early_ms_max` too soon.
pub(super) fn sweep(mut targets: Vec<Target>, starts: &[i64], early_ms_max: i64) -> Swept {
    targets.sort_by_key(|target| (target.release_ms, target.deadline.at_ms, !target.must));
    let mut coming = targets.into_iter().peekable();
    // By deadline; those that must be served before those that may.
    let mut open: Vec<Option<Target>> = Vec::new();
    let mut order: BTreeSet<(i64, bool, usize)> = BTreeSet::new();
    let mut over: Vec<Target> = Vec::new();
    let mut swept = Swept::default();
    for start in starts {
        while let Some(target) = coming.next_if(|target| target.release_ms.saturating_sub(early_ms_max) <= *start) {
            order.insert((target.deadline.at_ms, !target.must, open.len()));
            open.push(Some(target));
        }
        while let Some((deadline, _, index)) = order.first().copied()
            && deadline < *start
        {
            order.pop_first();
            over.extend(open[index].take());
        }
        let in_time = order.pop_first().and_then(|(_, _, index)| open[index].take());
        let fit = if let Some(target) = in_time {
            Fit::InTime(target)
        } else if !over.is_empty() {
            // Not the optional ones first: that would hide a miss behind a target that may go without.
            let place = over.iter().position(|target| target.must).unwrap_or(0);
            Fit::Late(over.remove(place))
        } else {
            coming.next().map_or(Fit::Orphan, Fit::Early)
        };
        swept.fits.push(fit);
    }
    swept.unserved = over;
    swept.unserved.extend(open.into_iter().flatten());
    swept.unserved.extend(coming);
    swept
}

#[cfg(test)]
mod tests {
    use super::super::timeline::Deadline;
    use super::*;

    fn target(release_ms: i64, deadline: i64) -> Target {
        Target {
            due_ms: release_ms,
            release_ms,
            deadline: Deadline {
                at_ms: deadline,
                healed_at_ms: None,
            },
            must: true,
            manual: false,
        }
    }

    fn words(targets: &[(i64, i64)], starts: &[i64]) -> (String, usize) {
        let targets = targets.iter().map(|(due, deadline)| target(*due, *deadline)).collect();
        let swept = sweep(targets, starts, 5);
        let word = |fit: &Fit| match fit {
            Fit::InTime(target) => format!("{}", target.due_ms),
            Fit::Late(target) => format!("late {}", target.due_ms),
            Fit::Early(target) => format!("early {}", target.due_ms),
            Fit::Orphan => "orphan".to_owned(),
        };
        let words: Vec<_> = swept.fits.iter().map(word).collect();
        (words.join(", "), swept.unserved.len())
    }

    #[test]
    fn starts_serve_the_earliest_deadline() {
        #[allow(clippy::type_complexity, reason = "a table, read once")]
        let cases: &[(&[(i64, i64)], &[i64], &str, usize)] = &[
            (&[(100, 200)], &[150], "100", 0),
            (&[(100, 200)], &[95], "100", 0),
            (&[(100, 200)], &[94], "early 100", 0),
            (&[(100, 200)], &[201], "late 100", 0),
            (&[(100, 200)], &[], "", 1),
            (&[(100, 200)], &[150, 160], "100, orphan", 0),
            // In the order of time the first start would serve the first target and leave the second in the lurch.
            (&[(100, 900), (110, 200)], &[150, 800], "110, 100", 0),
            (&[(100, 200), (300, 400)], &[350], "300", 1),
            (&[(100, 200), (300, 400)], &[350, 360], "300, late 100", 0),
        ];
        for (targets, starts, fits, unserved) in cases {
            assert_eq!(
                words(targets, starts),
                ((*fits).to_owned(), *unserved),
                "{targets:?} {starts:?}"
            );
        }
    }
}
