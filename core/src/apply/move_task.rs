//! `Move`: gives a task a new start, computed by the leader from the generation it names.

use super::ctx::{Ctx, Stop};
use super::submit::{queue, reply};
use crate::codec::Kind;
use crate::command::{Reject, Reply, SpoolAction};
use crate::ids::TaskId;
use crate::schedule::Schedule;
use crate::tables::{Key, View};
use crate::task::{NextRun, ScheduleKind, TaskRef, TaskState, TaskStatus};

pub(super) fn move_task<V: View>(
    ctx: &mut Ctx<'_, V>,
    principal: &str,
    task: &TaskRef,
    generation: u64,
    schedule: &Schedule,
    next: NextRun,
) -> Result<Reply, Stop> {
    let id = ctx.resolve(task)?;
    let status = ctx.status(id)?;
    refuse_ended(id, &status)?;
    if status.generation != generation {
        return Err(Reject::Conflict {
            task: id,
            expected: generation,
            actual: status.generation,
        }
        .into());
    }
    if ctx.spooling() {
        ctx.spool(
            principal,
            SpoolAction::Move {
                task: id,
                schedule: schedule.clone(),
            },
        );
        return Ok(reply(id, ctx.task(id)?.spec.name, &status));
    }
    move_now(ctx, id, schedule, next)
}

pub(super) fn move_now<V: View>(
    ctx: &mut Ctx<'_, V>,
    id: TaskId,
    schedule: &Schedule,
    next: NextRun,
) -> Result<Reply, Stop> {
    let old = ctx.status(id)?;
    refuse_ended(id, &old)?;
    // One that had ended and runs once more, by hand, kept no calendar from being deleted.
    ctx.require_calendars(&old.namespace, &old.bounds)?;
    let mut task = ctx.task(id)?;
    task.spec.schedule = schedule.clone();
    ctx.put(&Key::Task(id), Kind::Task, &task);
    let mut status = old.clone();
    status.kind = ScheduleKind::of(schedule);
    status.generation += 1;
    status.doomed = None;
    ctx.stop_waiting(id, &mut status)?;
    queue(ctx, id, &mut status, schedule, next)?;
    ctx.settle(&mut status, None);
    ctx.set_status(id, Some(&old), Some(&status))?;
    Ok(reply(id, task.spec.name, &status))
}

fn refuse_ended(id: TaskId, status: &TaskStatus) -> Result<(), Reject> {
    let one_shot_started = status.kind == ScheduleKind::OneShot && status.state == TaskState::Running;
    if status.state.is_ended() || one_shot_started {
        return Err(Reject::WrongState {
            what: format!("task {id}"),
            state: status.state.as_str().into(),
            expected: "only a task that has not started or will run again can be moved; enqueue a new one".into(),
        });
    }
    Ok(())
}
