//! `Shutdown` and `Start`: the switch of the whole scheduler.

use super::ctx::{Ctx, Stop};
use crate::command::{Effect, Reject, Reply};
use crate::tables::View;

/// Nothing is fired from now on; runs that have started go on; operations stay in the spool.
pub(super) fn shutdown<V: View>(ctx: &mut Ctx<'_, V>, message: &str) -> Result<Reply, Stop> {
    if let Some(message) = &ctx.meta.shutdown {
        return Err(Reject::WrongState {
            what: "the scheduler".into(),
            state: "shut down".into(),
            expected: format!("it was shut down before, with the message {message:?}"),
        }
        .into());
    }
    ctx.meta.shutdown = Some(message.to_owned());
    Ok(Reply::Done)
}

/// Works off the spool, then fires again.
pub(super) fn start<V: View>(ctx: &mut Ctx<'_, V>) -> Result<Reply, Stop> {
    if ctx.meta.shutdown.take().is_none() {
        return Err(Reject::WrongState {
            what: "the scheduler".into(),
            state: "running".into(),
            expected: "nothing to start".into(),
        }
        .into());
    }
    let now = ctx.now();
    ctx.effect(Effect::WakeDrain);
    ctx.effect(Effect::WakeTicker(now));
    ctx.effect(Effect::WakeDispatcher);
    Ok(Reply::Done)
}
