//! `Backfill`: runs for occurrences that have passed, computed by the leader from the generation it names.

use super::ctx::{Ctx, Stop};
use super::runs::{NewRun, Place};
use super::spool::shut_down;
use crate::command::{Item, Reject, Reply};
use crate::limits;
use crate::run::Occurrence;
use crate::tables::View;
use crate::task::{ScheduleKind, TaskRef, TaskState};
use crate::time::Timestamp;

pub(super) fn backfill<V: View>(
    ctx: &mut Ctx<'_, V>,
    item: &Item,
    task: &TaskRef,
    generation: u64,
    times: &[Timestamp],
    at_once: bool,
) -> Result<Reply, Stop> {
    if ctx.meta.shutdown.is_some() {
        return Err(shut_down());
    }
    let id = ctx.resolve(task)?;
    let old = ctx.status(id)?;
    if matches!(old.state, TaskState::Terminated | TaskState::Spooled) || old.kind != ScheduleKind::Periodic {
        return Err(Reject::WrongState {
            what: format!("task {id}"),
            state: old.state.as_str().into(),
            expected: "only a task that recurs, and was not dequeued, can be backfilled".into(),
        }
        .into());
    }
    if old.generation != generation {
        return Err(Reject::Conflict {
            task: id,
            expected: generation,
            actual: old.generation,
        }
        .into());
    }
    let alive = old.live.len() + old.held.len();
    if alive + times.len() > limits::LIVE_RUNS_MAX {
        let what = format!(
            "task {id} would have {} runs alive, more than {}; backfill a shorter range",
            alive + times.len(),
            limits::LIVE_RUNS_MAX
        );
        return Err(Reject::Overloaded {
            what,
            retry_after_ms: 1000,
        }
        .into());
    }
    let mut status = old.clone();
    let mut created = Vec::with_capacity(times.len());
    for at in times {
        let place = if at_once || status.is_turn_free() {
            Place::Ready
        } else {
            Place::Held
        };
        let new = NewRun {
            occurrence: Occurrence::Backfill(item.request.clone()),
            scheduled_at: *at,
            params: Vec::new(),
        };
        created.push(ctx.create_run(id, &mut status, new, place)?);
    }
    ctx.settle(&mut status, None);
    ctx.set_status(id, Some(&old), Some(&status))?;
    Ok(Reply::Runs(created))
}
