//! `Trigger`: a run now, beside the schedule.

use super::ctx::{Ctx, Stop};
use super::runs::NewRun;
use crate::command::{Item, Reject, Reply, SpoolAction};
use crate::ids::{RequestKey, TaskId};
use crate::run::Occurrence;
use crate::tables::View;
use crate::task::{Overlap, TaskRef, TaskState, TaskStatus};

pub(super) fn trigger<V: View>(
    ctx: &mut Ctx<'_, V>,
    item: &Item,
    task: &TaskRef,
    params: &[(String, String)],
) -> Result<Reply, Stop> {
    let id = ctx.resolve(task)?;
    refuse_terminated(id, &ctx.status(id)?)?;
    if ctx.spooling() {
        let action = SpoolAction::Trigger {
            task: id,
            params: params.to_vec(),
            request: item.request.clone(),
        };
        ctx.spool(&item.principal, action);
        return Ok(Reply::Run { run: None, task: id });
    }
    trigger_now(ctx, id, params, item.request.clone())
}

pub(super) fn trigger_now<V: View>(
    ctx: &mut Ctx<'_, V>,
    id: TaskId,
    params: &[(String, String)],
    request: Option<RequestKey>,
) -> Result<Reply, Stop> {
    let old = ctx.status(id)?;
    refuse_terminated(id, &old)?;
    let place = ctx.place_by_hand(id, &old)?;
    let mut status = old.clone();
    if status.policy.overlap == Overlap::Replace {
        ctx.stop_all(id, &mut status, "replaced by a run asked for by hand")?;
    }
    // Stopping may have ended the runs in the way at once.
    let place = if status.live.is_empty() {
        super::runs::Place::Ready
    } else {
        place
    };
    let new = NewRun {
        occurrence: Occurrence::Manual(request),
        scheduled_at: ctx.now(),
        params: params.to_vec(),
    };
    let run = ctx.create_run(id, &mut status, new, place)?;
    ctx.settle(&mut status, None);
    ctx.set_status(id, Some(&old), Some(&status))?;
    Ok(Reply::Run {
        run: Some(run),
        task: id,
    })
}

fn refuse_terminated(id: TaskId, status: &TaskStatus) -> Result<(), Reject> {
    if status.state == TaskState::Terminated {
        return Err(Reject::WrongState {
            what: format!("task {id}"),
            state: status.state.as_str().into(),
            expected: "a dequeued task cannot run; enqueue a new one".into(),
        });
    }
    Ok(())
}
