//! `ResetClock`: an operator takes back the time of the state, which a wrong clock has set far ahead.

use super::ctx::{Ctx, Stop};
use crate::command::{Reject, Reply};
use crate::tables::{ClockReset, View};
use crate::time::Timestamp;

pub(super) fn reset<V: View>(ctx: &mut Ctx<'_, V>, principal: &str, to: Timestamp) -> Result<Reply, Stop> {
    let from = ctx.now();
    if to >= from {
        return Err(Reject::WrongState {
            what: "the time of the state".into(),
            state: from.to_string(),
            expected: format!("only a time before it can be set, not {to}"),
        }
        .into());
    }
    ctx.meta.now = to;
    ctx.meta.clock_reset = Some(ClockReset {
        from,
        to,
        principal: principal.to_owned(),
    });
    Ok(Reply::Done)
}
