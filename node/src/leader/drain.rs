//! Works off the spool: operations that were accepted while the scheduler was shut down, oldest first, with run times computed anew.

use super::ticker::later;
use super::{RETRY, Term, propose_one};
use crate::recurrences::{compile, guarded};
use crate::shared::{OrStop, Shared, aside};
use crate::state;
use crate::zones::SystemZones;
use sched_core::Timestamp;
use sched_core::command::{Command, DrainItem, Fault, SpoolAction};
use sched_core::ids::TaskId;
use sched_core::plan::run_time_anew;
use sched_core::tables::View;
use sched_core::task::{NextRun, TaskSpec};
use std::sync::Arc;

/// Operations of one step: each may compute a next time.
const STEP: u64 = 128;

/// Works off the spool whenever there is something in it, until the term is over.
pub(super) async fn run(shared: Arc<Shared>, term: Arc<Term>) {
    let mut confirmed = shared.clock.confirmed();
    loop {
        // A time that a wrong clock computes stays wrong when a right one leads. The clock outlives this duty.
        let _ = confirmed.wait_for(|yes| *yes).await;
        let (view, zones, now) = (shared.replica.view(), shared.zones.clone(), shared.clock.now());
        let items = aside(move || plan(&view, &zones, now))
            .await
            .map(OrStop::or_stop)
            .unwrap_or_default();
        if items.is_empty() {
            term.drain.notified().await;
            continue;
        }
        let count = items.len();
        match propose_one(&shared, Command::Drain { items }).await {
            Ok(_) => tracing::debug!(count, term = term.number, "spool drained"),
            Err(e) => {
                tracing::info!(error = %e, term = term.number, "spool not drained, trying again");
                tokio::time::sleep(RETRY).await;
            }
        }
    }
}

fn plan(view: &impl View, zones: &SystemZones, now: Timestamp) -> Result<Vec<DrainItem>, Fault> {
    let meta = state::meta(view)?;
    if meta.shutdown.is_some() {
        return Ok(Vec::new());
    }
    let mut items = Vec::new();
    for seq in meta.spool_head..meta.spool_tail.min(meta.spool_head + STEP) {
        let next = match state::spool_op(view, seq)?.map(|op| op.action) {
            Some(SpoolAction::Enqueue(task)) => run_time(view, zones, task, |_| {}, now)?,
            Some(SpoolAction::Move { task, schedule }) => {
                run_time(view, zones, task, |spec| spec.schedule = schedule, now)?
            }
            Some(SpoolAction::Update {
                task,
                spec,
                reschedule: true,
            }) => run_time(view, zones, task, |of| *of = *spec, now)?,
            Some(SpoolAction::Dequeue { .. } | SpoolAction::Trigger { .. } | SpoolAction::Update { .. }) => {
                NextRun::Never
            }
            None => break,
        };
        items.push(DrainItem { seq, next });
    }
    Ok(items)
}

fn run_time(
    view: &impl View,
    zones: &SystemZones,
    id: TaskId,
    change: impl FnOnce(&mut TaskSpec),
    now: Timestamp,
) -> Result<NextRun, Fault> {
    // An operation before it in the spool may have taken the task away: apply says so where it belongs.
    let Some(mut task) = state::task(view, id)? else {
        return Ok(NextRun::Never);
    };
    change(&mut task.spec);
    let compiled = compile(&task.spec, zones);
    if let Err(e) = &compiled {
        tracing::error!(task = %id, error = %e, "the schedule of a task does not compile, it is tried again later");
    }
    let next = compiled
        .ok()
        .and_then(|compiled| guarded(|| run_time_anew(&task.spec.schedule, &compiled, now)));
    Ok(next.unwrap_or_else(|| later(now, now)))
}
