//! `Pause` and `Resume`: a paused task keeps its records and is not fired.

use super::ctx::{Ctx, Stop};
use super::submit::{queue, reply};
use crate::command::{MissedRange, Reject, Reply};
use crate::ids::TaskId;
use crate::schedule::Schedule;
use crate::tables::View;
use crate::task::{NextRun, Pause, ScheduleKind, TaskRef, TaskState, TaskStatus};
use crate::time::Timestamp;

pub(super) fn pause<V: View>(
    ctx: &mut Ctx<'_, V>,
    task: &TaskRef,
    until: Option<Timestamp>,
    note: &str,
) -> Result<Reply, Stop> {
    let id = ctx.resolve(task)?;
    let old = ctx.status(id)?;
    if old.state.is_ended() {
        return Err(wrong(id, &old, "only a task that can still run can be paused").into());
    }
    let now = ctx.now();
    if let Some(until) = until.filter(|until| *until <= now) {
        let problem = format!("{until} is not after now, {now}");
        return Err(Reject::Invalid {
            field: "until".into(),
            problem,
        }
        .into());
    }
    let mut status = old.clone();
    let since = old.pause.as_ref().map_or(now, |pause| pause.since);
    status.pause = Some(Pause {
        note: note.to_owned(),
        until,
        since,
    });
    status.generation += 1;
    ctx.set_status(id, Some(&old), Some(&status))?;
    Ok(reply(id, ctx.task(id)?.spec.name, &status))
}

pub(super) fn resume<V: View>(
    ctx: &mut Ctx<'_, V>,
    task: &TaskRef,
    generation: u64,
    next: NextRun,
    paused: Option<&MissedRange>,
) -> Result<Reply, Stop> {
    let id = ctx.resolve(task)?;
    let old = ctx.status(id)?;
    if old.pause.is_none() {
        return Err(wrong(id, &old, "it is not paused").into());
    }
    if old.generation != generation {
        return Err(Reject::Conflict {
            task: id,
            expected: generation,
            actual: old.generation,
        }
        .into());
    }
    let task = ctx.task(id)?;
    let mut status = old.clone();
    status.pause = None;
    status.generation += 1;
    if status.state != TaskState::Spooled {
        if let Some(range) = paused {
            ctx.miss(id, &mut status, range);
        }
        if matches!(task.spec.schedule, Schedule::After { .. }) {
            // It waits for its parents, paused or not.
        } else if status.last_scheduled.is_none() || status.kind != ScheduleKind::OneShot {
            // A one-shot for `now` that was paused before it ran still has its one occurrence.
            queue(ctx, id, &mut status, &task.spec.schedule, next)?;
        }
        ctx.settle(&mut status, None);
    }
    ctx.set_status(id, Some(&old), Some(&status))?;
    Ok(reply(id, task.spec.name, &status))
}

fn wrong(id: TaskId, status: &TaskStatus, expected: &str) -> Reject {
    Reject::WrongState {
        what: format!("task {id}"),
        state: status.state.as_str().into(),
        expected: expected.into(),
    }
}
