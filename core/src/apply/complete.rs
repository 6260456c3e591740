//! `Complete` and `Nack`: an attempt's end, accepted only under the current token.

use super::ctx::{Ctx, Stop};
use super::runs::end_attempt;
use crate::command::{Effect, Fault, Reply};
use crate::ids::{RunId, Token};
use crate::limits;
use crate::run::{AttemptEnd, Run, RunResult, RunState, Verdict, cut};
use crate::tables::View;
use crate::task::{Delivery, TaskState, TaskStatus};

pub(super) fn complete<V: View>(
    ctx: &mut Ctx<'_, V>,
    id: RunId,
    token: Token,
    result: &RunResult,
) -> Result<Reply, Stop> {
    let Some(old) = ctx.find_run(id)? else {
        // Retention took the run; there is nothing left to flag.
        ctx.meta.stale_reports += 1;
        return Ok(Reply::Completed { current: false });
    };
    if !is_current(&old, token) {
        return Ok(stale(ctx, &old, token)?);
    }
    let old_status = ctx.status(id.task)?;
    let mut status = old_status.clone();
    let mut new = old.clone();
    new.started_at = Some(result.started_at);
    new.exit_code = result.exit_code;
    let tail = &result.output_tail;
    new.output_tail = tail[tail.len().saturating_sub(limits::OUTPUT_TAIL_BYTES_MAX)..].to_vec();
    new.result = result.result[..result.result.len().min(limits::RESULT_BYTES_MAX)].to_vec();
    ctx.effect(Effect::WakeDispatcher);
    match &result.verdict {
        Verdict::Success => {
            end_attempt(&mut new, token, AttemptEnd::Success);
            ctx.end_run(&mut status, &old, new, RunState::Finished, String::new())?;
        }
        Verdict::Failure { reason } => failed(ctx, &mut status, &old, new, token, cut(reason))?,
        Verdict::DelayMe { delay_ms, reason } => {
            put_off(ctx, &mut status, &old, new, token, (*delay_ms, cut(reason)))?;
        }
        Verdict::Cancelled if old.cancelling => {
            end_attempt(&mut new, token, AttemptEnd::Cancelled);
            let reason = old.reason.clone();
            ctx.end_run(&mut status, &old, new, RunState::Terminated, reason)?;
        }
        // The worker gave it up by itself: it lost contact, or was stopped.
        Verdict::Cancelled => lose(ctx, &mut status, &old, new, token, "its worker gave it up")?,
    }
    ctx.set_status(id.task, Some(&old_status), Some(&status))?;
    Ok(Reply::Completed { current: true })
}

/// A lost run takes the late report of its own attempt.
fn is_current(run: &Run, token: Token) -> bool {
    match run.state {
        RunState::Lost { token: lost } => lost == token,
        state => state.holder().is_some_and(|(held, _)| held == token),
    }
}

/// Records a report under another token; one that was recorded before is only answered again.
fn stale<V: View>(ctx: &mut Ctx<'_, V>, old: &Run, token: Token) -> Result<Reply, Fault> {
    let repeated = old.attempts.iter().any(|attempt| {
        attempt.token == token && !matches!(attempt.ended, None | Some(AttemptEnd::WorkerLost | AttemptEnd::Refused))
    });
    if !repeated {
        ctx.meta.stale_reports += 1;
        let mut new = old.clone();
        new.stale_reports = new.stale_reports.saturating_add(1);
        end_attempt(&mut new, token, AttemptEnd::ReportedLate);
        ctx.set_run(old.id, Some(old), Some(&new))?;
    }
    Ok(Reply::Completed { current: false })
}

fn failed<V: View>(
    ctx: &mut Ctx<'_, V>,
    status: &mut TaskStatus,
    old: &Run,
    mut new: Run,
    token: Token,
    reason: &str,
) -> Result<(), Fault> {
    end_attempt(&mut new, token, AttemptEnd::Failure);
    if old.cancelling {
        let reason = old.reason.clone();
        return ctx.end_run(status, old, new, RunState::Terminated, reason);
    }
    let done = new.tries.saturating_sub(new.tries_before);
    if done < status.policy.tries.max {
        let delay = status.policy.tries.delay_after(done);
        let reason = format!("try {done} of {} failed: {reason}", status.policy.tries.max);
        return later(ctx, status, old, new, delay, reason);
    }
    ctx.end_run(status, old, new, RunState::Failed, reason.to_owned())
}

/// The executor asked for a delay: no try is used up, but an end is in sight.
fn put_off<V: View>(
    ctx: &mut Ctx<'_, V>,
    status: &mut TaskStatus,
    old: &Run,
    mut new: Run,
    token: Token,
    (delay_ms, reason): (u64, &str),
) -> Result<(), Fault> {
    end_attempt(&mut new, token, AttemptEnd::Delayed);
    new.tries = new.tries.saturating_sub(1);
    new.delays = new.delays.saturating_add(1);
    let delay = delay_ms.min(limits::DURATION_MS_MAX);
    let now = ctx.now();
    let since = *new.put_off_since.get_or_insert(now);
    let most = status.policy.tries.put_off_ms_max;
    let put_off = u64::try_from(now.millis_since(since))
        .unwrap_or(0)
        .saturating_add(delay);
    if !old.cancelling && (put_off > most || new.delays > limits::DELAYS_MAX) {
        let reason = format!(
            "delayed too often: with {delay} ms more it would be put off for {put_off} ms by {} delays, at most {most} ms and {} \
             delays are allowed: {reason}",
            new.delays,
            limits::DELAYS_MAX
        );
        return ctx.end_run(status, old, new, RunState::Failed, reason);
    }
    later(ctx, status, old, new, delay, format!("delayed by {delay} ms: {reason}"))
}

/// Puts a run back until its delay has passed.
fn later<V: View>(
    ctx: &mut Ctx<'_, V>,
    status: &mut TaskStatus,
    old: &Run,
    mut new: Run,
    delay_ms: u64,
    reason: String,
) -> Result<(), Fault> {
    if old.cancelling {
        let reason = old.reason.clone();
        return ctx.end_run(status, old, new, RunState::Terminated, reason);
    }
    if status.state == TaskState::Terminated {
        // It was left to end, not to begin again.
        return ctx.end_run(
            status,
            old,
            new,
            RunState::Terminated,
            format!("task was dequeued; {reason}"),
        );
    }
    let delay = i64::try_from(delay_ms).unwrap_or(i64::MAX);
    new.state = if delay == 0 {
        RunState::Ready
    } else {
        RunState::Delayed {
            until: ctx.now().plus_millis(delay),
        }
    };
    new.reason = reason;
    ctx.set_run(new.id, Some(old), Some(&new))?;
    Ok(())
}

/// An attempt whose worker is gone. Losses count apart from tries, and are bounded on their own.
pub(super) fn lose<V: View>(
    ctx: &mut Ctx<'_, V>,
    status: &mut TaskStatus,
    old: &Run,
    mut new: Run,
    token: Token,
    reason: &str,
) -> Result<(), Fault> {
    end_attempt(&mut new, token, AttemptEnd::WorkerLost);
    let granted = matches!(old.state, RunState::Running { .. });
    let delivery = status.policy.delivery;
    // A lost worker uses up no try, unless the start can never be repeated: the try may have happened, and its report may still come.
    if !(granted && delivery == Some(Delivery::AtMostOnce)) {
        new.tries = new.tries.saturating_sub(1);
    }
    if !granted {
        // The start was never granted, so it never happened.
        return later(ctx, status, old, new, 0, reason.to_owned());
    }
    if delivery == Some(Delivery::AtMostOnce) {
        new.state = RunState::Lost { token };
        new.reason = format!("{reason}; the start was granted, the outcome is unknown");
        ctx.set_run(new.id, Some(old), Some(&new))?;
        return Ok(());
    }
    new.losses += 1;
    if new.losses >= limits::LOSSES_MAX && !old.cancelling {
        return ctx.end_run(status, old, new, RunState::Failed, "worker_lost".to_owned());
    }
    let reason = format!("worker lost ({} of {}): {reason}", new.losses, limits::LOSSES_MAX);
    later(ctx, status, old, new, 0, reason)
}

/// The worker did not start the attempt: back to the ready list, no try used.
pub(super) fn nack<V: View>(ctx: &mut Ctx<'_, V>, id: RunId, token: Token, reason: &str) -> Result<Reply, Stop> {
    let Some(old) = ctx.find_run(id)?.filter(|run| is_current(run, token)) else {
        return Ok(Reply::Completed { current: false });
    };
    let old_status = ctx.status(id.task)?;
    let mut status = old_status.clone();
    let mut new = old.clone();
    end_attempt(&mut new, token, AttemptEnd::Refused);
    new.tries = new.tries.saturating_sub(1);
    later(
        ctx,
        &mut status,
        &old,
        new,
        0,
        format!("refused by its worker: {}", cut(reason)),
    )?;
    ctx.set_status(id.task, Some(&old_status), Some(&status))?;
    Ok(Reply::Completed { current: true })
}
