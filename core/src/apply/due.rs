//! `Due`: delayed runs whose time has come become ready; lost ones that nobody told about leave their place to others.

use super::ctx::{Ctx, Stop};
use crate::command::Reply;
use crate::ids::RunId;
use crate::limits;
use crate::run::RunState;
use crate::tables::View;

pub(super) fn due<V: View>(ctx: &mut Ctx<'_, V>, runs: &[RunId]) -> Result<Reply, Stop> {
    let mut count = 0;
    for id in runs.iter().take(limits::ROUND_ITEMS_MAX) {
        let Some(old) = ctx.find_run(*id)? else { continue };
        match old.state {
            RunState::Delayed { until } if until <= ctx.now() => {
                let mut new = old.clone();
                new.state = ctx.ready_or_blocked(&old)?;
                ctx.set_run(*id, Some(&old), Some(&new))?;
                count += 1;
            }
            RunState::Lost {
                token,
                hold_until: Some(until),
            } if until <= ctx.now() => {
                let mut new = old.clone();
                new.state = RunState::Lost {
                    token,
                    hold_until: None,
                };
                ctx.set_run(*id, Some(&old), Some(&new))?;
                let old_status = ctx.status(id.task)?;
                let mut status = old_status.clone();
                status.leave_place(id.number);
                ctx.release_held(&mut status, id.task)?;
                ctx.settle(&mut status, Some(new.state));
                ctx.set_status(id.task, Some(&old_status), Some(&status))?;
                count += 1;
            }
            _ => {}
        }
    }
    Ok(Reply::Count { count, more: false })
}
