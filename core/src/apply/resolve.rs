//! `Resolve`: an operator says what became of a lost run.

use super::complete::found;
use super::ctx::{Ctx, Stop};
use super::runs::{Place, end_attempt};
use crate::command::{Reject, Reply, Resolution};
use crate::ids::RunId;
use crate::run::{AttemptEnd, LedgerFact, RunState};
use crate::tables::View;
use crate::task::TaskState;

pub(super) fn resolve<V: View>(
    ctx: &mut Ctx<'_, V>,
    principal: &str,
    id: RunId,
    resolution: Resolution,
) -> Result<Reply, Stop> {
    let old = ctx.run(id)?;
    let RunState::Lost { token, hold_until } = old.state else {
        return Err(Reject::WrongState {
            what: format!("run {id}"),
            state: old.state.as_str().into(),
            expected: "only a LOST run is resolved by hand".into(),
        }
        .into());
    };
    let old_status = ctx.status(id.task)?;
    let mut status = old_status.clone();
    let by = if principal.is_empty() { "by hand" } else { principal };
    let reason = format!("lost, resolved as {}: {by}", resolution.as_str());
    let mut new = old.clone();
    end_attempt(&mut new, token, AttemptEnd::Resolved);
    let fact = LedgerFact::Resolved {
        run: id,
        resolution: resolution.as_str().to_owned(),
        principal: principal.to_owned(),
    };
    ctx.ledger(id.task, &mut status, fact);
    match resolution {
        Resolution::Failed => ctx.end_run(&mut status, &old, new, RunState::Failed, reason)?,
        Resolution::Finished => ctx.end_run(&mut status, &old, new, RunState::Finished, reason)?,
        Resolution::Retry => {
            if status.state == TaskState::Terminated {
                return Err(Reject::WrongState {
                    what: format!("task {}", id.task),
                    state: status.state.as_str().into(),
                    expected: "runs of a dequeued task cannot be retried".into(),
                }
                .into());
            }
            // One that keeps its place has it still.
            let place = match hold_until {
                Some(_) => Place::Ready,
                None => ctx.place_by_hand(id.task, &status)?,
            };
            new.reason = reason;
            new.state = match place {
                Place::Ready if hold_until.is_some() => RunState::Ready,
                Place::Ready => ctx.ready_or_blocked(&new)?,
                Place::Held => RunState::Held,
            };
            found(&mut status, &new);
            ctx.set_run(id, Some(&old), Some(&new))?;
            ctx.settle(&mut status, None);
        }
    }
    ctx.set_status(id.task, Some(&old_status), Some(&status))?;
    Ok(Reply::Run {
        run: Some(id),
        task: id.task,
    })
}
