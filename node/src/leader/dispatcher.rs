//! Gives ready runs to workers with room.

use super::{RETRY, Term};
use crate::shared::{OrStop, Shared};
use crate::state::{self, END};
use sched_core::command::{AssignItem, Command, Fault, Reply};
use sched_core::ids::RunId;
use sched_core::limits::ROUND_ITEMS_MAX;
use sched_core::tables::{Table, View, decode_ready};
use sched_raft::ProposeError;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The ready list is read from its remembered head on, because before it lies only what the database has not cleared away yet. A run of
/// higher priority may come to lie before the head: it is found within this time.
const HEAD_TRUSTED: Duration = Duration::from_millis(100);

/// Assigns ready runs until the term is over.
pub(super) async fn run(shared: Arc<Shared>, term: Arc<Term>) {
    let mut head = Head::default();
    loop {
        match round(&shared, &term, &mut head).await {
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

async fn round(shared: &Shared, term: &Term, head: &mut Head) -> Round {
    let room = term.hub.free().min(ROUND_ITEMS_MAX);
    if room == 0 {
        return Round::Idle;
    }
    let ready = head.ready(&shared.replica.view(), room).or_stop();
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

/// Where the ready list begins, as far as is known.
#[derive(Default)]
struct Head {
    key: Vec<u8>,
    read_whole: Option<Instant>,
}

impl Head {
    /// Returns the first ready runs.
    fn ready(&mut self, view: &impl View, limit: usize) -> Result<Vec<RunId>, Fault> {
        let meta = state::meta(view)?;
        if meta.shutdown.is_some() || meta.ready == 0 {
            return Ok(Vec::new());
        }
        let expected = usize::try_from(meta.ready).unwrap_or(usize::MAX).min(limit);
        let trusted = self.read_whole.is_some_and(|at| at.elapsed() < HEAD_TRUSTED);
        if trusted {
            let found = self.read(view, limit)?;
            // Fewer than there are: some lie before the head.
            if found.len() == expected {
                return Ok(found);
            }
        }
        self.key.clear();
        self.read_whole = Some(Instant::now());
        self.read(view, limit)
    }

    fn read(&mut self, view: &impl View, limit: usize) -> Result<Vec<RunId>, Fault> {
        let pairs = view.scan(Table::Ready, &self.key, &END, limit)?;
        if let Some((first, _)) = pairs.first() {
            self.key.clone_from(first);
        }
        let run = |key: &[u8]| decode_ready(key).map(|(_, _, run)| run);
        let runs: Option<Vec<RunId>> = pairs.iter().map(|(key, _)| run(key)).collect();
        runs.ok_or_else(|| Fault::Inconsistent("key of the ready list".into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sched_core::Timestamp;
    use sched_core::codec::{Kind, encode};
    use sched_core::ids::TaskId;
    use sched_core::tables::{Change, Key, MemTables, Meta};

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
            put(Key::Ready(*priority, Timestamp::from_millis(*due), run), Vec::new())
        });
        tables.write(ready.collect());
        let meta = Meta {
            ready: keys.len() as u64,
            ..Meta::default()
        };
        tables.write(vec![put(Key::Meta, encode(Kind::Meta, &meta))]);
        tables
    }

    fn tasks(runs: &[RunId]) -> Vec<u64> {
        runs.iter().map(|run| run.task.0).collect()
    }

    #[test]
    fn the_list_is_read_from_its_head_and_what_lies_before_is_found() {
        let mut head = Head::default();
        let found = head.ready(&tables(&[(0, 5, 1), (0, 6, 2), (0, 7, 3)]), 2).unwrap();
        assert_eq!(tasks(&found), [1, 2]);
        let found = head.ready(&tables(&[(0, 6, 2), (0, 7, 3)]), 8).unwrap();
        assert_eq!(tasks(&found), [2, 3]);
        let found = head.ready(&tables(&[(9, 9, 4), (0, 7, 3)]), 8).unwrap();
        assert_eq!(tasks(&found), [4, 3], "one of higher priority came before the head");
        assert!(head.ready(&tables(&[]), 8).unwrap().is_empty());
    }
}
