//! `DrainWorker` and `UndrainWorker`: whether a worker gets new runs.

use super::ctx::{Ctx, Stop};
use crate::codec::Kind;
use crate::command::{Effect, Fault, Reject, Reply};
use crate::ids::SessionId;
use crate::limits;
use crate::session::Drained;
use crate::tables::{Key, Table, View};

/// Gives a worker no new runs from now on; what it has goes on. The name counts, not the session: it stays so when the worker comes back.
/// One that is drained already stays so as it was.
pub(super) fn drain<V: View>(ctx: &mut Ctx<'_, V>, principal: &str, worker: &str, note: &str) -> Result<Reply, Stop> {
    if is_drained(ctx, worker)? {
        return Ok(Reply::Done);
    }
    must_exist(ctx, worker)?;
    let (from, to) = Key::drained_all();
    let drained = ctx
        .staged
        .scan(Table::Sessions, &from, &to, limits::DRAINED_WORKERS_MAX)?;
    if drained.len() >= limits::DRAINED_WORKERS_MAX {
        return Err(Reject::Invalid {
            field: "worker".into(),
            problem: format!(
                "{} workers are drained, the limit; undrain those that are gone",
                drained.len()
            ),
        }
        .into());
    }
    let record = Drained {
        worker: worker.to_owned(),
        since: ctx.now(),
        by: principal.to_owned(),
        note: note.to_owned(),
    };
    ctx.put(&Key::Drained(worker), Kind::Drained, &record);
    ctx.effect(Effect::WorkerDrained {
        worker: worker.to_owned(),
        drained: true,
    });
    Ok(Reply::Done)
}

/// Gives a worker runs again, or whoever takes its name next.
pub(super) fn undrain<V: View>(ctx: &mut Ctx<'_, V>, worker: &str) -> Result<Reply, Stop> {
    if !is_drained(ctx, worker)? {
        must_exist(ctx, worker)?;
        return Ok(Reply::Done);
    }
    ctx.delete(&Key::Drained(worker));
    ctx.effect(Effect::WorkerDrained {
        worker: worker.to_owned(),
        drained: false,
    });
    ctx.effect(Effect::WakeDispatcher);
    Ok(Reply::Done)
}

/// Whether an operator said that this worker gets no new runs.
pub(super) fn is_drained<V: View>(ctx: &Ctx<'_, V>, worker: &str) -> Result<bool, Fault> {
    Ok(ctx.get::<Drained>(&Key::Drained(worker), Kind::Drained)?.is_some())
}

/// A name that nobody has is a typing error more often than not.
fn must_exist<V: View>(ctx: &Ctx<'_, V>, worker: &str) -> Result<(), Stop> {
    match ctx.get::<SessionId>(&Key::Worker(worker), Kind::WorkerEntry)? {
        Some(_) => Ok(()),
        None => Err(Reject::NotFound {
            what: format!("worker {worker:?}"),
        }
        .into()),
    }
}
