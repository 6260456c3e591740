//! `Complete`, `Nack` and `NotStarted`: an attempt's end, accepted only under the current token and from whoever was given it.

use super::ctx::{Ctx, Stop};
use super::runs::end_attempt;
use super::session::reporter;
use crate::command::{Effect, Fault, Reject, Reply};
use crate::ids::{RunId, SessionId, Token};
use crate::limits;
use crate::run::{Attempt, AttemptEnd, LedgerFact, Run, RunResult, RunState, Verdict, cut};
use crate::session::{JournalPosition, Session};
use crate::tables::View;
use crate::task::{Overlap, TaskState, TaskStatus};

/// A word of a worker about an attempt.
pub(super) struct Report {
    pub(super) run: RunId,
    pub(super) token: Token,
    pub(super) session: SessionId,
    pub(super) position: Option<JournalPosition>,
}

pub(super) fn complete<V: View>(ctx: &mut Ctx<'_, V>, report: &Report, result: &RunResult) -> Result<Reply, Stop> {
    let (id, token) = (report.run, report.token);
    let session = reporter(ctx, report.session, report.position)?;
    let Some(old) = ctx.find_run(id)? else {
        // Retention took the run; there is nothing left to flag.
        ctx.meta.stale_reports += 1;
        return Ok(Reply::Completed { current: false });
    };
    given_to(&old, token, &session)?;
    let old_status = ctx.status(id.task)?;
    let mut status = old_status.clone();
    if !is_current(&old, token) {
        stale(ctx, &mut status, &old, token, &session, result)?;
        ctx.set_status(id.task, Some(&old_status), Some(&status))?;
        return Ok(Reply::Completed { current: false });
    }
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
        Verdict::Cancelled if old.cancelling => cancelled(ctx, &mut status, &old, new, token)?,
        // Killed although nobody asked: the worker gave it up.
        Verdict::Cancelled => {
            let reason = "its worker gave it up";
            abandoned(ctx, &mut status, &old, new, token, reason, false)?;
        }
        Verdict::Abandoned { .. } if old.cancelling => cancelled(ctx, &mut status, &old, new, token)?,
        Verdict::Abandoned { reason, stopping } => abandoned(ctx, &mut status, &old, new, token, reason, *stopping)?,
        Verdict::Lost { reason } => lose(ctx, &mut status, &old, new, token, reason)?,
    }
    ctx.set_status(id.task, Some(&old_status), Some(&status))?;
    Ok(Reply::Completed { current: true })
}

/// A lost run takes the late report of its own attempt.
fn is_current(run: &Run, token: Token) -> bool {
    match run.state {
        RunState::Lost { token: lost, .. } => lost == token,
        state => state.holder().is_some_and(|(held, _)| held == token),
    }
}

fn attempt(run: &Run, token: Token) -> Option<&Attempt> {
    run.attempts.iter().rev().find(|attempt| attempt.token == token)
}

/// Whether an attempt starts at most once. That of a run that is under way is among those described.
fn starts_once(run: &Run, token: Token) -> bool {
    attempt(run, token).is_some_and(|attempt| attempt.at_most_once)
}

/// Whether the attempt was given to the worker that names it. One that is no longer described is taken at its word: it changes nothing
/// but a counter.
fn given_to(run: &Run, token: Token, session: &Session) -> Result<(), Reject> {
    let forgotten = usize::try_from(run.attempts_count).unwrap_or(usize::MAX) > run.attempts.len();
    let older = run.attempts.first().is_none_or(|oldest| token < oldest.token);
    let given = match attempt(run, token) {
        Some(attempt) => attempt.journal == session.journal,
        None => forgotten && older,
    };
    if given {
        return Ok(());
    }
    Err(Reject::NotYours {
        run: run.id,
        token,
        worker: session.worker.clone(),
    })
}

/// Records a report under another token; one that was recorded before is only answered again. The caller writes `status`.
fn stale<V: View>(
    ctx: &mut Ctx<'_, V>,
    status: &mut TaskStatus,
    old: &Run,
    token: Token,
    session: &Session,
    result: &RunResult,
) -> Result<(), Fault> {
    if is_recorded(old, token) {
        return Ok(());
    }
    ctx.meta.stale_reports += 1;
    let mut new = old.clone();
    new.stale_reports = new.stale_reports.saturating_add(1);
    end_attempt(&mut new, token, AttemptEnd::ReportedLate);
    ctx.set_run(old.id, Some(old), Some(&new))?;
    let fact = LedgerFact::StaleReport {
        run: old.id,
        token,
        worker: session.worker.clone(),
        verdict: result.verdict.as_str().to_owned(),
    };
    ctx.ledger(old.id.task, status, fact);
    Ok(())
}

/// Whether the end of an attempt was reported and is part of the run's record.
pub(super) fn is_recorded(run: &Run, token: Token) -> bool {
    attempt(run, token).is_some_and(|attempt| {
        !matches!(
            attempt.ended,
            None | Some(AttemptEnd::WorkerLost | AttemptEnd::Refused | AttemptEnd::Resolved)
        )
    })
}

fn cancelled<V: View>(
    ctx: &mut Ctx<'_, V>,
    status: &mut TaskStatus,
    old: &Run,
    mut new: Run,
    token: Token,
) -> Result<(), Fault> {
    end_attempt(&mut new, token, AttemptEnd::Cancelled);
    let reason = old.reason.clone();
    ctx.end_run(status, old, new, RunState::Terminated, reason)
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
    if done < status.policy.tries.max && !starts_once(old, token) {
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
        let reason = format!("task was dequeued; {reason}");
        return ctx.end_run(status, old, new, RunState::Terminated, reason);
    }
    let delay = i64::try_from(delay_ms).unwrap_or(i64::MAX);
    let until = ctx.now().plus_millis(delay);
    let number = new.id.number;
    let others = status.live.iter().any(|live| *live != number);
    new.state = match (delay, old.state) {
        // It has given up its place, and others have taken it.
        (0, RunState::Lost { hold_until: None, .. }) if others && status.policy.overlap != Overlap::Allow => {
            RunState::Held
        }
        // It took its room when it became ready, and has it still.
        (0, state) if state.takes_room() => RunState::Ready,
        (0, _) => ctx.ready_or_blocked(&new)?,
        _ => RunState::Delayed { until },
    };
    new.reason = reason;
    ctx.set_run(new.id, Some(old), Some(&new))?;
    if matches!(old.state, RunState::Lost { .. }) {
        found(status, &new);
        ctx.settle(status, None);
    }
    Ok(())
}

/// A run that was lost is under way again, or waits to be. The caller writes `status`.
pub(super) fn found(status: &mut TaskStatus, run: &Run) {
    let number = run.id.number;
    status.lost.retain(|lost| *lost != number);
    let list = if run.state == RunState::Held {
        &mut status.held
    } else {
        &mut status.live
    };
    if !list.contains(&number) {
        super::retry::insert(list, number);
    }
}

/// The worker ended the attempt by itself: no outcome of the task's own, and nothing of it runs any more.
fn abandoned<V: View>(
    ctx: &mut Ctx<'_, V>,
    status: &mut TaskStatus,
    old: &Run,
    mut new: Run,
    token: Token,
    reason: &str,
    stopping: bool,
) -> Result<(), Fault> {
    if starts_once(old, token) {
        // It has started, and will not start again.
        return failed(ctx, status, old, new, token, reason);
    }
    if !stopping {
        return lose(ctx, status, old, new, token, reason);
    }
    end_attempt(&mut new, token, AttemptEnd::WorkerStopped);
    new.tries = new.tries.saturating_sub(1);
    later(ctx, status, old, new, 0, reason.to_owned())
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
    if matches!(old.state, RunState::Lost { .. }) {
        // Its worker came back and does not know either.
        new.reason = format!("{reason}; the outcome is unknown");
        return ctx.set_run(new.id, Some(old), Some(&new));
    }
    end_attempt(&mut new, token, AttemptEnd::WorkerLost);
    let granted = matches!(old.state, RunState::Running { .. });
    // A lost worker uses up no try, unless the start can never be repeated: the try may have happened, and its report may still come.
    if !(granted && starts_once(old, token)) {
        new.tries = new.tries.saturating_sub(1);
    }
    if !granted {
        // The start was never granted, so it never happened.
        return later(ctx, status, old, new, 0, reason.to_owned());
    }
    if starts_once(old, token) {
        return outcome_unknown(ctx, status, old, new, token, reason);
    }
    new.losses += 1;
    if new.losses >= limits::LOSSES_MAX && !old.cancelling {
        return ctx.end_run(status, old, new, RunState::Failed, "worker_lost".to_owned());
    }
    let reason = format!("worker lost ({} of {}): {reason}", new.losses, limits::LOSSES_MAX);
    later(ctx, status, old, new, 0, reason)
}

/// An at-most-once attempt has started, and nobody can say how it ended. A one-shot task has failed with it, until somebody tells.
fn outcome_unknown<V: View>(
    ctx: &mut Ctx<'_, V>,
    status: &mut TaskStatus,
    old: &Run,
    mut new: Run,
    token: Token,
    reason: &str,
) -> Result<(), Fault> {
    let hold = i64::try_from(status.policy.lost_hold_ms).unwrap_or(i64::MAX);
    let hold_until = (hold > 0).then(|| ctx.now().plus_millis(hold));
    new.state = RunState::Lost { token, hold_until };
    new.reason = format!("{reason}; the start was granted, the outcome is unknown");
    ctx.set_run(new.id, Some(old), Some(&new))?;
    super::retry::insert(&mut status.lost, new.id.number);
    // Whoever was told of it is told as well when it turns out to have finished.
    status.failing = true;
    if !status.policy.notify.is_empty() {
        ctx.effect(Effect::RunLost { run: new.id });
    }
    if hold_until.is_none() {
        status.leave_place(new.id.number);
        ctx.release_held(status, new.id.task)?;
    }
    if status.lost.len() > limits::LOST_RUNS_MAX {
        let oldest = RunId {
            number: status.lost[0],
            ..new.id
        };
        if let Some(run) = ctx.find_run(oldest)? {
            let reason = "lost, and nobody told how it ended".to_owned();
            ctx.end_run(status, &run, run.clone(), RunState::Failed, reason)?;
        }
    }
    ctx.settle(status, Some(new.state));
    Ok(())
}

/// The worker did not start the attempt and will not: back to the ready list, no try used. With `reconcile` also when the run was given
/// up as lost; then the worker's journal must not have lost the start.
pub(super) fn not_started<V: View>(
    ctx: &mut Ctx<'_, V>,
    report: &Report,
    reason: &str,
    reconcile: bool,
) -> Result<Reply, Stop> {
    let (id, token) = (report.run, report.token);
    let session = reporter(ctx, report.session, report.position)?;
    let Some(old) = ctx.find_run(id)? else {
        return Ok(Reply::Completed { current: false });
    };
    given_to(&old, token, &session)?;
    let lost = matches!(old.state, RunState::Lost { .. });
    if !is_current(&old, token) || (lost && !reconcile) {
        return Ok(Reply::Completed { current: false });
    }
    let granted_at = attempt(&old, token).map_or(0, |attempt| attempt.journal_length);
    if session.position.map_or(0, |position| position.length) < granted_at {
        return Err(Reject::OtherJournal {
            worker: session.worker,
            problem: format!("is shorter than the {granted_at} records it had when the start was granted"),
        }
        .into());
    }
    let old_status = ctx.status(id.task)?;
    let mut status = old_status.clone();
    let mut new = old.clone();
    end_attempt(&mut new, token, AttemptEnd::Refused);
    new.tries = new.tries.saturating_sub(1);
    let reason = format!("refused by its worker: {}", cut(reason));
    later(ctx, &mut status, &old, new, 0, reason)?;
    ctx.set_status(id.task, Some(&old_status), Some(&status))?;
    Ok(Reply::Completed { current: true })
}
