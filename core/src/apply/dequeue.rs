//! `Dequeue`: takes a task out; its name is free again, its history stays for its retention.

use super::ctx::{Ctx, Stop};
use super::submit::reply;
use crate::command::{Reject, Reply, SpoolAction};
use crate::ids::TaskId;
use crate::tables::{Key, View};
use crate::task::{NextRun, TaskRef, TaskState, TaskStatus};

pub(super) fn dequeue<V: View>(
    ctx: &mut Ctx<'_, V>,
    principal: &str,
    task: &TaskRef,
    kill: bool,
) -> Result<Reply, Stop> {
    let id = ctx.resolve(task)?;
    let status = ctx.status(id)?;
    refuse_terminated(id, &status)?;
    if ctx.spooling() {
        ctx.spool(principal, SpoolAction::Dequeue { task: id, kill });
        return Ok(reply(id, ctx.task(id)?.spec.name, &status));
    }
    dequeue_now(ctx, id, kill)
}

pub(super) fn dequeue_now<V: View>(ctx: &mut Ctx<'_, V>, id: TaskId, kill: bool) -> Result<Reply, Stop> {
    let old = ctx.status(id)?;
    refuse_terminated(id, &old)?;
    let task = ctx.task(id)?;
    if let Some(name) = &task.spec.name {
        ctx.delete(&Key::Name(&task.spec.namespace, name));
    }
    let mut status = old.clone();
    status.state = TaskState::Terminated;
    status.generation += 1;
    status.next = NextRun::Never;
    status.pause = None;
    status.ended_at = Some(ctx.now());
    if old.state == TaskState::Spooled {
        status.waits_for.clear();
    } else {
        ctx.stop_waiting(id, &mut status)?;
    }
    // Runs that have not started never do; those that have are left to end, or killed.
    let waiting: Vec<u64> = status.held.clone();
    for number in waiting {
        let run = ctx.run(crate::ids::RunId { task: id, number })?;
        ctx.stop_run(&mut status, &run, "task was dequeued")?;
    }
    for number in status.live.clone() {
        let run = ctx.run(crate::ids::RunId { task: id, number })?;
        if kill || run.state.holder().is_none() {
            ctx.stop_run(&mut status, &run, "task was dequeued")?;
        }
    }
    ctx.set_status(id, Some(&old), Some(&status))?;
    Ok(reply(id, task.spec.name, &status))
}

fn refuse_terminated(id: TaskId, status: &TaskStatus) -> Result<(), Reject> {
    if status.state == TaskState::Terminated {
        return Err(Reject::WrongState {
            what: format!("task {id}"),
            state: status.state.as_str().into(),
            expected: "it was dequeued before".into(),
        });
    }
    Ok(())
}
