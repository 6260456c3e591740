//! `SearchedAgain`: what a search found that had given up before. The task is as it was: only its cursor moves.

use super::ctx::{Ctx, Stop};
use super::spool::shut_down;
use super::submit::reply;
use crate::command::{Reject, Reply};
use crate::ids::TaskId;
use crate::tables::View;
use crate::task::NextRun;

pub(super) fn searched_again<V: View>(
    ctx: &mut Ctx<'_, V>,
    id: TaskId,
    generation: u64,
    next: NextRun,
) -> Result<Reply, Stop> {
    if ctx.meta.shutdown.is_some() {
        return Err(shut_down());
    }
    let old = ctx.status(id)?;
    if old.generation != generation {
        return Err(Reject::Conflict {
            task: id,
            expected: generation,
            actual: old.generation,
        }
        .into());
    }
    let searching = matches!(old.next, NextRun::GaveUp { retry_at, .. } if retry_at <= ctx.now());
    if !searching || old.state.is_ended() || old.pause.is_some() {
        return Err(Reject::WrongState {
            what: format!("task {id}"),
            state: old.state.as_str().into(),
            expected: "only a search that gave up is made again".into(),
        }
        .into());
    }
    let mut status = old.clone();
    status.next = next;
    ctx.settle(&mut status, None);
    ctx.set_status(id, Some(&old), Some(&status))?;
    Ok(reply(id, None, &status))
}
