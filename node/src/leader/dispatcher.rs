//! Gives ready runs to workers with room.

use super::{RETRY, Term};
use crate::shared::{OrStop, Shared};
use crate::state::{self, END};
use sched_core::command::{AssignItem, Command, Fault, Reply};
use sched_core::ids::RunId;
use sched_core::limits::ROUND_ITEMS_MAX;
use sched_core::plan::Candidate;
use sched_core::tables::{Key, Table, View, decode_ready};
use sched_core::task::Placement;
use sched_raft::ProposeError;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// A part of the ready list is read from its remembered head on, because before it lies only what the database has not cleared away yet.
/// A run of higher priority may come to lie before the head: it is found within this time.
const HEAD_TRUSTED: Duration = Duration::from_millis(100);
/// Parts of the ready list that are looked at in one round; the next round begins where this one ended.
const PARTS_MAX: usize = 256;

/// Runs of one part with demands that are looked at in one round.
const PART_RUNS_MAX: usize = 64;

/// Assigns ready runs until the term is over.
pub(super) async fn run(shared: Arc<Shared>, term: Arc<Term>) {
    let mut heads = Heads::default();
    loop {
        match round(&shared, &term, &mut heads).await {
            Round::Idle => term.dispatch.notified().await,
            Round::Again => {}
            Round::Failed => tokio::time::sleep(RETRY).await,
        }
    }
}

enum Round {
    /// Nothing is ready, or nobody has room.
    Idle,
    Again,
    Failed,
}

async fn round(shared: &Shared, term: &Term, heads: &mut Heads) -> Round {
    let room = term.hub.free().min(ROUND_ITEMS_MAX);
    if room == 0 {
        return Round::Idle;
    }
    let ready = heads
        .ready(&shared.replica.view(), room, |queue, placement| {
            term.hub.fits(queue, placement)
        })
        .or_stop();
    let items = term.hub.place(&ready);
    if items.is_empty() {
        return Round::Idle;
    }
    let result = super::propose_one(shared, Command::Assign { items: items.clone() }).await;
    if settle(shared, term, &items, result).await {
        Round::Again
    } else {
        Round::Failed
    }
}

/// Frees the slots of runs that were not assigned. False: nothing was, for a reason that passes.
pub(super) async fn settle(
    shared: &Shared,
    term: &Term,
    items: &[AssignItem],
    result: Result<Reply, ProposeError>,
) -> bool {
    match result {
        Ok(Reply::Assigned(tokens)) => {
            for (n, item) in items.iter().enumerate() {
                if tokens.get(n).copied().flatten().is_some() {
                    shared.counters.assigned.add(1);
                } else {
                    shared.counters.refused.add(1);
                    term.hub.release(item.session, item.run);
                }
            }
            true
        }
        Err(ProposeError::Unknown { reason }) => {
            tracing::warn!(
                reason,
                term = term.number,
                "outcome of an assignment is unknown, reading the tables"
            );
            find_out(shared, term, items).await;
            false
        }
        other => {
            if let Err(e) = other {
                tracing::info!(error = %e, term = term.number, "runs not assigned");
            }
            items.iter().for_each(|item| term.hub.release(item.session, item.run));
            false
        }
    }
}

/// Reads what became of an assignment whose outcome is unknown; until that is known the slots stay taken.
async fn find_out(shared: &Shared, term: &Term, items: &[AssignItem]) {
    while let Err(e) = shared.replica.read_barrier().await {
        tracing::info!(error = %e, term = term.number, "tables not confirmed");
        tokio::time::sleep(RETRY).await;
    }
    let view = shared.replica.view();
    for item in items {
        let run = state::run(&view, item.run).or_stop();
        let holder = run.and_then(|run| run.state.holder());
        if holder.is_none_or(|(_, session)| session != item.session) {
            term.hub.release(item.session, item.run);
        }
    }
}

/// Where the parts of the ready list begin, as far as is known.
#[derive(Default)]
struct Heads {
    /// Of the runs that any worker may take.
    anywhere: Head,
    /// Of the other parts, while they are not empty.
    parts: BTreeMap<u64, Head>,
    /// The part that the next round begins with, when there are more than one round looks at.
    begin: u64,
}

impl Heads {
    /// Returns the first ready runs of each part for which there is room, by priority and due time.
    fn ready(
        &mut self,
        view: &impl View,
        limit: usize,
        fits: impl Fn(Option<&str>, &Placement) -> bool,
    ) -> Result<Vec<Candidate>, Fault> {
        let meta = state::meta(view)?;
        if meta.shutdown.is_some() || meta.ready == 0 {
            return Ok(Vec::new());
        }
        let expected = usize::try_from(meta.ready).unwrap_or(usize::MAX).min(limit);
        // The workers with room may all serve queues.
        let plain = if fits(None, &Placement::default()) {
            self.anywhere.read(view, 0, expected, limit)?
        } else {
            Vec::new()
        };
        let anywhere = plain.into_iter().map(|(key, run)| (key, Candidate::anywhere(run)));
        let mut found: Vec<(Vec<u8>, Candidate)> = anywhere.collect();
        if usize::try_from(meta.ready).is_ok_and(|ready| found.len() == ready) {
            return Ok(found.into_iter().map(|(_, candidate)| candidate).collect());
        }
        self.demanding(view, limit.min(PART_RUNS_MAX), fits, &mut found)?;
        // Each part is in order; together they are ordered by the same.
        found.sort_by(|(a, _), (b, _)| a.cmp(b));
        // Not cut to what there is room for: the first may all be for a worker that has none.
        Ok(found.into_iter().map(|(_, candidate)| candidate).collect())
    }

    /// Adds the first runs of the parts with demands. Runs that nobody may take stay in their parts and are in nobody's way.
    fn demanding(
        &mut self,
        view: &impl View,
        limit: usize,
        fits: impl Fn(Option<&str>, &Placement) -> bool,
        found: &mut Vec<(Vec<u8>, Candidate)>,
    ) -> Result<(), Fault> {
        let mut class = self.begin.max(1);
        for _ in 0..PARTS_MAX {
            let (from, _) = Key::ready_of(class);
            let first = view.scan(Table::Ready, &from, &END, 1)?;
            let Some(part) = first
                .first()
                .and_then(|(key, _)| decode_ready(key))
                .map(|(part, ..)| part)
            else {
                self.begin = 0;
                return Ok(());
            };
            let runs = self.parts.entry(part).or_default().read(view, part, limit, limit)?;
            if runs.is_empty() {
                self.parts.remove(&part);
            }
            for (key, id) in runs {
                let Some(run) = state::run(view, id)? else { continue };
                // Runs of a part demand the same.
                if !fits(run.queue.as_deref(), &run.placement) {
                    break;
                }
                let avoid = run.avoids().map(str::to_owned);
                let candidate = Candidate {
                    run: id,
                    placement: run.placement,
                    avoid,
                    queue: run.queue,
                };
                found.push((key, candidate));
            }
            let Some(next) = part.checked_add(1) else {
                self.begin = 0;
                return Ok(());
            };
            class = next;
        }
        self.begin = class;
        // Heads of parts that have become empty are not kept for ever.
        while self.parts.len() > 2 * PARTS_MAX {
            self.parts.pop_first();
        }
        Ok(())
    }
}

/// Where one part of the ready list begins, as far as is known.
#[derive(Default)]
struct Head {
    key: Vec<u8>,
    read_whole: Option<Instant>,
}

impl Head {
    /// Returns the first runs of a part, each with what it is ordered by. `expected` are there unless other parts have some of them.
    fn read(
        &mut self,
        view: &impl View,
        class: u64,
        expected: usize,
        limit: usize,
    ) -> Result<Vec<(Vec<u8>, RunId)>, Fault> {
        let trusted = self.read_whole.is_some_and(|at| at.elapsed() < HEAD_TRUSTED);
        if trusted {
            let found = self.take_from_head(view, class, limit)?;
            // Fewer: some may lie before the head.
            if found.len() == expected {
                return Ok(found);
            }
        }
        self.key.clear();
        self.read_whole = Some(Instant::now());
        self.take_from_head(view, class, limit)
    }

    fn take_from_head(&mut self, view: &impl View, class: u64, limit: usize) -> Result<Vec<(Vec<u8>, RunId)>, Fault> {
        let (from, to) = Key::ready_of(class);
        let pairs = view.scan(Table::Ready, self.key.as_slice().max(&from), &to, limit)?;
        if let Some((first, _)) = pairs.first() {
            self.key.clone_from(first);
        }
        let order = |key: &[u8]| Some((key.get(8..)?.to_vec(), decode_ready(key)?.3));
        let runs: Option<Vec<_>> = pairs.iter().map(|(key, _)| order(key)).collect();
        runs.ok_or_else(|| Fault::Inconsistent("key of the ready list".into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sched_core::Timestamp;
    use sched_core::codec::{Kind, encode};
    use sched_core::ids::TaskId;
    use sched_core::tables::{Change, MemTables, Meta};

    fn tables(keys: &[(i8, i64, u64)]) -> MemTables {
        let put = |key: Key<'_>, value| Change::Put {
            table: key.table(),
            key: key.encode(),
            value,
        };
        let mut tables = MemTables::new();
        let ready = keys.iter().map(|(priority, due, task)| {
            let run = RunId {
                task: TaskId(*task),
                number: 1,
            };
            put(Key::Ready(0, *priority, Timestamp::from_millis(*due), run), Vec::new())
        });
        tables.write(ready.collect());
        let meta = Meta {
            ready: keys.len() as u64,
            ..Meta::default()
        };
        tables.write(vec![put(Key::Meta, encode(Kind::Meta, &meta))]);
        tables
    }

    fn tasks(runs: &[Candidate]) -> Vec<u64> {
        runs.iter().map(|candidate| candidate.run.task.0).collect()
    }

    #[test]
    fn the_list_is_read_from_its_head_and_what_lies_before_is_found() {
        let mut head = Heads::default();
        let found = head
            .ready(&tables(&[(0, 5, 1), (0, 6, 2), (0, 7, 3)]), 2, |_, _| true)
            .unwrap();
        assert_eq!(tasks(&found), [1, 2]);
        let found = head.ready(&tables(&[(0, 6, 2), (0, 7, 3)]), 8, |_, _| true).unwrap();
        assert_eq!(tasks(&found), [2, 3]);
        let found = head.ready(&tables(&[(9, 9, 4), (0, 7, 3)]), 8, |_, _| true).unwrap();
        assert_eq!(tasks(&found), [4, 3], "one of higher priority came before the head");
        assert!(head.ready(&tables(&[]), 8, |_, _| true).unwrap().is_empty());
    }
}
