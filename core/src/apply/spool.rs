//! `Drain` and `ClearSpool`: what becomes of operations that were accepted while the scheduler was shut down.

use super::ctx::{Ctx, Stop};
use super::{dequeue, move_task, submit, trigger, update};
use crate::codec::Kind;
use crate::command::{DrainItem, Effect, Reject, Reply, SpoolAction, SpoolOp};
use crate::ids::TaskId;
use crate::limits;
use crate::run::LedgerFact;
use crate::tables::{Key, View};
use crate::task::{NextRun, TaskState};

/// Carries out the oldest operations, in order, with the run times the leader computed anew.
pub(super) fn drain<V: View>(ctx: &mut Ctx<'_, V>, items: &[DrainItem]) -> Result<Reply, Stop> {
    if ctx.meta.shutdown.is_some() {
        return Err(shut_down());
    }
    let mut count = 0;
    for item in items.iter().take(limits::ROUND_ITEMS_MAX) {
        // A repeated or outdated plan: what it names is done already.
        if item.seq < ctx.meta.spool_head {
            continue;
        }
        if item.seq > ctx.meta.spool_head {
            break;
        }
        let key = Key::Spool(item.seq);
        let Some(op) = ctx.get::<SpoolOp>(&key, Kind::SpoolOp)? else {
            break;
        };
        ctx.delete(&key);
        ctx.meta.spool_head += 1;
        count += 1;
        carry_out(ctx, &op, item.next)?;
    }
    let more = ctx.meta.spooled() > 0;
    if more {
        ctx.effect(Effect::WakeDrain);
    }
    Ok(Reply::Count { count, more })
}

/// An operation that fails leaves a ledger line, never silence.
fn carry_out<V: View>(ctx: &mut Ctx<'_, V>, op: &SpoolOp, next: NextRun) -> Result<(), Stop> {
    let id = op.action.task();
    let done = match &op.action {
        SpoolAction::Enqueue(id) => return enqueue(ctx, *id, next),
        SpoolAction::Dequeue { kill, .. } => dequeue::dequeue_now(ctx, id, *kill),
        SpoolAction::Move { schedule, .. } => move_task::move_now(ctx, id, schedule, next),
        SpoolAction::Trigger { params, request, .. } => trigger::trigger_now(ctx, id, params, request.clone()),
        SpoolAction::Update { spec, reschedule, .. } => update::update_now(ctx, id, spec, reschedule.then_some(next)),
    };
    match done {
        Ok(_) => Ok(()),
        // These handlers check before they change anything, so that nothing has to be taken back here.
        Err(Stop::Reject(reject)) => {
            let Some(old) = ctx.find_status(id)? else {
                // Its record is gone: an `enqueue` before it in the spool was cleared. Nothing is left to write on.
                return Ok(());
            };
            let mut status = old.clone();
            let reason = format!("{}: {reject}", op.action.kind());
            ctx.ledger(id, &mut status, LedgerFact::DrainFailed { reason });
            ctx.set_status(id, Some(&old), Some(&status))?;
            Ok(())
        }
        Err(fault) => Err(fault),
    }
}

fn enqueue<V: View>(ctx: &mut Ctx<'_, V>, id: TaskId, next: NextRun) -> Result<(), Stop> {
    let task = ctx.task(id)?;
    let old = ctx.status(id)?;
    let mut status = old.clone();
    submit::queue(ctx, id, &mut status, &task.spec.schedule, next)?;
    if status.pause.is_none() {
        ctx.settle(&mut status, None);
    }
    ctx.set_status(id, Some(&old), Some(&status))?;
    Ok(())
}

/// Removes operations, and with an `enqueue` the task it would have queued.
pub(super) fn clear<V: View>(ctx: &mut Ctx<'_, V>, upto: u64) -> Result<Reply, Stop> {
    let mut count = 0;
    while ctx.meta.spool_head < upto.min(ctx.meta.spool_tail) && count < limits::ROUND_ITEMS_MAX as u64 {
        let key = Key::Spool(ctx.meta.spool_head);
        if let Some(op) = ctx.get::<SpoolOp>(&key, Kind::SpoolOp)? {
            ctx.delete(&key);
            if let SpoolAction::Enqueue(id) = op.action {
                ctx.delete_task(id)?;
            }
        }
        ctx.meta.spool_head += 1;
        count += 1;
    }
    Ok(Reply::Count {
        count,
        more: ctx.meta.spool_head < upto.min(ctx.meta.spool_tail),
    })
}

pub(super) fn shut_down() -> Stop {
    Reject::WrongState {
        what: "the scheduler".into(),
        state: "shut down".into(),
        expected: "start it first".into(),
    }
    .into()
}

impl<V: View> Ctx<'_, V> {
    /// Deletes a task with its name and labels. Its runs and ledger lines are the caller's business.
    pub(super) fn delete_task(&mut self, id: TaskId) -> Result<(), Stop> {
        let task = self.task(id)?;
        let status = self.status(id)?;
        if let Some(name) = &task.spec.name {
            let key = Key::Name(&task.spec.namespace, name);
            // A terminated task's name may belong to another one by now.
            if status.state != TaskState::Terminated || self.get::<TaskId>(&key, Kind::NameEntry)? == Some(id) {
                self.delete(&key);
            }
        }
        for (label, value) in &task.spec.labels {
            self.delete(&Key::Label(&task.spec.namespace, label, value, id));
        }
        let mut waiting = status.clone();
        if status.state != TaskState::Spooled {
            self.stop_waiting(id, &mut waiting)?;
        }
        self.delete(&Key::Task(id));
        self.set_status(id, Some(&status), None)?;
        Ok(())
    }
}
