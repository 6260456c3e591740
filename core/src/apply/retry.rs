//! `Retry`: takes a run back from the failed index and gives it a new round of tries.

use super::ctx::{Ctx, Stop};
use super::runs::Place;
use crate::command::{Reject, Reply};
use crate::ids::RunId;
use crate::run::RunState;
use crate::tables::View;
use crate::task::TaskState;

pub(super) fn retry<V: View>(ctx: &mut Ctx<'_, V>, id: RunId) -> Result<Reply, Stop> {
    let old_run = ctx.run(id)?;
    if !matches!(old_run.state, RunState::Failed | RunState::Terminated) {
        return Err(Reject::WrongState {
            what: format!("run {id}"),
            state: old_run.state.as_str().into(),
            expected: "only a FAILED or TERMINATED run can be retried; say what became of a LOST one with `resolve`"
                .into(),
        }
        .into());
    }
    let old = ctx.status(id.task)?;
    if old.state == TaskState::Terminated {
        return Err(Reject::WrongState {
            what: format!("task {}", id.task),
            state: old.state.as_str().into(),
            expected: "runs of a dequeued task cannot be retried".into(),
        }
        .into());
    }
    let place = ctx.place_by_hand(id.task, &old)?;
    let mut status = old.clone();
    let mut run = old_run.clone();
    run.tries_before = run.tries;
    run.losses = 0;
    run.delays = 0;
    run.put_off_since = None;
    run.ended_at = None;
    run.reason = "retried by hand".into();
    run.state = match place {
        Place::Ready => {
            insert(&mut status.live, id.number);
            ctx.ready_or_blocked(&run)?
        }
        Place::Held => {
            insert(&mut status.held, id.number);
            RunState::Held
        }
    };
    ctx.set_run(id, Some(&old_run), Some(&run))?;
    status.failed = status.failed.saturating_sub(1);
    status.failed_kept = status.failed_kept.saturating_sub(1);
    ctx.settle(&mut status, None);
    ctx.set_status(id.task, Some(&old), Some(&status))?;
    Ok(Reply::Run {
        run: Some(id),
        task: id.task,
    })
}

pub(super) fn insert(numbers: &mut Vec<u64>, number: u64) {
    let at = numbers.partition_point(|other| *other < number);
    numbers.insert(at, number);
}
