//! Deletes what retention no longer keeps: ended runs and tasks by age, ended tasks by number, answers whose time has passed.
//!
//! Each task has its own age, so that the indexes, which are ordered by end time, are walked: some thousand entries a round, from where the
//! last round stopped.

use super::propose_one;
use crate::shared::{OrStop, Shared, aside};
use crate::state::{self, run_in};
use sched_core::Timestamp;
use sched_core::command::{Command, Fault, Reply};
use sched_core::config::Config;
use sched_core::ids::{RunId, TaskId};
use sched_core::limits::ROUND_ITEMS_MAX;
use sched_core::tables::{Key, Table, TaskOutcome, View, decode_ended, decode_label_task};
use sched_core::task::TaskState;
use std::sync::Arc;
use std::time::Duration;

/// Between rounds that found nothing.
const PERIOD: Duration = Duration::from_secs(10);
/// Between rounds that found something: the work of clients comes first.
const PACE: Duration = Duration::from_millis(20);
/// Between rounds of a walk that found nothing yet.
const STEP: Duration = Duration::from_millis(250);
/// Index entries read in one round of one walk.
const READ_MAX: usize = 2048;

/// Deletes what is over until the term is.
pub(super) async fn run(shared: Arc<Shared>) {
    let mut walks = Walks::default();
    loop {
        let (view, now) = (shared.replica.view(), shared.clock.now());
        let planned = aside(move || {
            let round = walks.round(&view, now);
            (round, walks)
        });
        let Ok((round, kept)) = planned.await else {
            walks = Walks::default();
            tokio::time::sleep(PERIOD).await;
            continue;
        };
        walks = kept;
        let round = round.or_stop();
        if round.is_empty() {
            tokio::time::sleep(if walks.are_through() { PERIOD } else { STEP }).await;
            continue;
        }
        // Answers go out of date all the time: some of them gone is no reason to look again at once.
        let deletes = !round.runs.is_empty() || !round.tasks.is_empty();
        let command = Command::Retain {
            runs: round.runs,
            tasks: round.tasks,
            requests_until: now,
        };
        match propose_one(&shared, command).await {
            Ok(Reply::Count { count, more }) if more || (count > 0 && deletes) => {
                tracing::debug!(count, "retention");
                tokio::time::sleep(PACE).await;
            }
            // Nothing was deleted although something seemed over, or nothing could be proposed: later.
            Ok(_) => tokio::time::sleep(PERIOD).await,
            Err(e) => {
                tracing::info!(error = %e, "retention put off");
                tokio::time::sleep(PERIOD).await;
            }
        }
    }
}

#[derive(Default)]
struct Round {
    runs: Vec<RunId>,
    tasks: Vec<TaskId>,
    requests: bool,
}

impl Round {
    fn is_empty(&self) -> bool {
        self.runs.is_empty() && self.tasks.is_empty() && !self.requests
    }
}

/// Where each walk goes on; empty means from the oldest.
#[derive(Default)]
struct Walks {
    finished: Vec<u8>,
    failed: Vec<u8>,
    tasks: Vec<u8>,
}

impl Walks {
    /// Whether each has come to its end.
    fn are_through(&self) -> bool {
        self.finished.is_empty() && self.failed.is_empty() && self.tasks.is_empty()
    }

    fn round(&mut self, view: &impl View, now: Timestamp) -> Result<Round, Fault> {
        let mut round = Round::default();
        for (outcome, walk) in [
            (TaskOutcome::Finished, &mut self.finished),
            (TaskOutcome::Failed, &mut self.failed),
        ] {
            let range = Key::ended_until(outcome, now);
            for key in page(view, range, walk, ROUND_ITEMS_MAX - round.runs.len())? {
                let (ended_at, _) = decode_ended(&key).ok_or_else(damaged)?;
                let run = run_in(&key)?;
                if over(view, run.task, ended_at, now, outcome == TaskOutcome::Finished)? {
                    round.runs.push(run);
                }
            }
        }
        for key in page(view, Key::ended_tasks_until(now), &mut self.tasks, ROUND_ITEMS_MAX)? {
            let task = decode_label_task(&key).ok_or_else(damaged)?;
            let status = state::status(view, task)?;
            if let Some((ended_at, state)) = status.and_then(|status| Some((status.ended_at?, status.state)))
                && over(view, task, ended_at, now, state != TaskState::Failed)?
            {
                round.tasks.push(task);
            }
        }
        too_many(view, now, &mut round)?;
        for (from, to) in [Key::client_requests_until(now), Key::caller_expiries_until(now)] {
            round.requests |= !view.scan(Table::Requests, &from, &to, 1)?.is_empty();
        }
        Ok(round)
    }
}

/// Adds the oldest of the ended tasks that are more than the cluster keeps, as many as a round has room for.
fn too_many(view: &impl View, now: Timestamp, round: &mut Round) -> Result<(), Fault> {
    let ended = state::meta(view)?.ended_tasks;
    let excess = ended.saturating_sub(Config::read(view)?.ended_tasks_max());
    let room = ROUND_ITEMS_MAX.saturating_sub(round.tasks.len());
    let excess = usize::try_from(excess).unwrap_or(usize::MAX).min(room);
    if excess == 0 {
        return Ok(());
    }
    let (from, to) = Key::ended_tasks_until(now);
    let mut found = 0;
    // Those that were dequeued under a run that goes on stay until it ends: younger ones go in their place.
    for (key, _) in view.scan(Table::Ended, &from, &to, READ_MAX)? {
        let task = decode_label_task(&key).ok_or_else(damaged)?;
        let busy = state::status(view, task)?.is_none_or(|status| !status.live.is_empty() || !status.held.is_empty());
        if found == excess {
            break;
        }
        if !busy && !round.tasks.contains(&task) {
            round.tasks.push(task);
            found += 1;
        }
    }
    Ok(())
}

fn damaged() -> Fault {
    Fault::Inconsistent("key of the index of ended runs".into())
}

/// Returns the next keys of a walk, and where it goes on: behind them, or from the beginning when they were the last.
fn page(
    view: &impl View,
    (from, to): (Vec<u8>, Vec<u8>),
    walk: &mut Vec<u8>,
    room: usize,
) -> Result<Vec<Vec<u8>>, Fault> {
    let limit = READ_MAX.min(room);
    let low = if walk.is_empty() { &from } else { &*walk };
    let keys: Vec<Vec<u8>> = view
        .scan(Table::Ended, low, &to, limit)?
        .into_iter()
        .map(|(key, _)| key)
        .collect();
    walk.clear();
    if let Some(last) = keys.last()
        && keys.len() == limit
    {
        walk.clone_from(last);
        walk.push(0);
    }
    Ok(keys)
}

fn over(view: &impl View, task: TaskId, ended_at: Timestamp, now: Timestamp, finished: bool) -> Result<bool, Fault> {
    let Some(status) = state::status(view, task)? else {
        return Ok(false);
    };
    Ok(now.millis_since(ended_at) >= status.policy.retention.age_ms_max(finished))
}
