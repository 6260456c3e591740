//! Runs one attempt: the handler under its limits, and what came of it.

use super::job::{Answer, Job, Said};
use super::stop::{Cause, Stopper, Urgency};
use crate::clock;
use futures::future::BoxFuture;
use sched_core::limits::{OUTPUT_TAIL_BYTES_MAX, RESULT_BYTES_MAX};
use sched_core::run::{RunResult, Verdict};
use sched_core::{RunId, Token};
use std::any::Any;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, sleep_until, timeout};

/// How long a handler that is dropped may take to be gone: one that blocks its thread is left behind.
const GONE_WITHIN: Duration = Duration::from_secs(1);

/// What does the work.
pub(super) type Handler = Arc<dyn Fn(Job) -> BoxFuture<'static, Answer> + Send + Sync>;

/// The end of an attempt.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Finished {
    pub(super) result: RunResult,
    /// Why, when the verdict has no place for it.
    pub(super) reason: String,
}

impl Finished {
    /// The end of an attempt that was not begun, because it cannot be done here.
    pub(super) fn failed(reason: String) -> Self {
        let now = clock::wall();
        Self {
            result: RunResult {
                verdict: Verdict::Failure { reason },
                exit_code: None,
                started_at: now,
                ended_at: now,
                output_tail: Vec::new(),
                result: Vec::new(),
            },
            reason: String::new(),
        }
    }
}

/// How long a handler may take.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Limits {
    /// In all.
    pub(super) time: Option<Duration>,
    /// Without telling its progress.
    pub(super) progress: Option<Duration>,
    /// To end by itself when it is told to.
    pub(super) grace: Duration,
}

/// Runs an attempt to its end. Dropping the future drops the handler's.
pub(super) async fn run(handler: Handler, job: Job, stopper: Stopper, limits: Limits) -> Finished {
    let started_at = clock::wall();
    let said = job.said.clone();
    let (run, token) = (job.run(), job.token());
    // A task of its own: one that blocks its thread keeps nobody from seeing that its time is over.
    let mut work = JoinSet::new();
    work.spawn(async move { handler(job).await });
    let mut ended = tokio::select! {
        // First: one that is done is not dropped.
        biased;
        ended = work.join_next() => ended,
        () = overdue(&stopper, &said, limits) => None,
    };
    let mut left_behind = false;
    if ended.is_none() {
        work.abort_all();
        match timeout(GONE_WITHIN, work.join_next()).await {
            // It may have ended while it was dropped.
            Ok(late) => ended = late,
            Err(_) => {
                tracing::warn!(%run, attempt = %token, "a handler blocks its thread: its attempt is over, it is not");
                left_behind = true;
                work.detach_all();
            }
        }
    }
    let answer = ended.and_then(|ended| answer_of(ended, run, token));
    let (verdict, result, reason) = judge(answer, stopper.cause(), left_behind);
    let output_tail = said.output(|output| {
        output.end();
        output.tail(OUTPUT_TAIL_BYTES_MAX).to_vec()
    });
    Finished {
        result: RunResult {
            verdict,
            exit_code: None,
            started_at,
            ended_at: clock::wall(),
            output_tail,
            result,
        },
        reason,
    }
}

/// What a handler's task ended with; nothing when it was dropped.
fn answer_of(ended: Result<Answer, JoinError>, run: RunId, token: Token) -> Option<Answer> {
    match ended {
        Ok(answer) => Some(answer),
        Err(error) if error.is_cancelled() => None,
        Err(error) => {
            tracing::error!(%run, attempt = %token, "a handler panicked");
            let panic = error.into_panic();
            Some(Answer::Failed(format!("the handler panicked: {}", message_of(&*panic))))
        }
    }
}

/// Ready when the handler has had its time: it was told to end, by somebody or because a limit was reached, and the grace is over too.
async fn overdue(stopper: &Stopper, said: &Said, limits: Limits) {
    let mut signal = stopper.signal();
    tokio::select! {
        () = signal.reached(Urgency::Terminate) => {}
        cause = exceeded(said, limits) => stopper.raise(Urgency::Terminate, cause),
    }
    // Whichever comes first.
    let _ = timeout(limits.grace, signal.reached(Urgency::Kill)).await;
}

/// Waits until a limit is reached. What is too far away for the clock is never reached.
async fn exceeded(said: &Said, limits: Limits) -> Cause {
    let after = |start: Instant, limit: Option<Duration>| limit.and_then(|limit| start.checked_add(limit));
    let over_at = after(Instant::now(), limits.time);
    loop {
        let silent_at = after(said.progressed_at(), limits.progress);
        let Some(next) = over_at.into_iter().chain(silent_at).min() else {
            return std::future::pending().await;
        };
        sleep_until(next).await;
        match (limits.time, limits.progress) {
            (Some(limit), _) if over_at == Some(next) => return Cause::TimeLimit(limit),
            // Progress told in the meantime moves the end.
            (_, Some(limit)) if after(said.progressed_at(), limits.progress) <= Some(next) => {
                return Cause::NoProgress(limit);
            }
            _ => {}
        }
    }
}

/// Combines the answer with why it was told to end.
///
/// `Cancelled` without a cancellation in the cluster's state means that the worker gave the attempt up: it may run elsewhere.
fn judge(answer: Option<Answer>, cause: Option<Cause>, left_behind: bool) -> (Verdict, Vec<u8>, String) {
    let described = |cause: Cause| match left_behind {
        true => format!("{}; it blocks its thread and was left behind", cause.describe()),
        false => cause.describe(),
    };
    let failure = |reason: String| (Verdict::Failure { reason }, Vec::new(), String::new());
    match (answer, cause) {
        (Some(Answer::Done(result)), _) if result.len() > RESULT_BYTES_MAX => failure(format!(
            "its result has {} bytes, at most {RESULT_BYTES_MAX}; keep it elsewhere, and answer where it is",
            result.len()
        )),
        (Some(Answer::Done(result)), _) => (Verdict::Success, result, String::new()),
        (Some(Answer::Failed(reason)), _) => failure(reason),
        (Some(Answer::DelayMe { delay, reason }), _) => {
            let delay_ms = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
            (Verdict::DelayMe { delay_ms, reason }, Vec::new(), String::new())
        }
        (None, Some(cause @ (Cause::TimeLimit(_) | Cause::NoProgress(_)))) => failure(described(cause)),
        (None, cause) => {
            let reason = cause.map(described).unwrap_or_default();
            (Verdict::Cancelled, Vec::new(), reason)
        }
    }
}

fn message_of(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("without a message")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_judged() {
        let failure = |reason: &str| Verdict::Failure { reason: reason.into() };
        let limit = Cause::TimeLimit(Duration::from_millis(5));
        let silence = Cause::NoProgress(Duration::from_millis(5));
        // answer, cause -> verdict, reason
        let rows = [
            (Some(Answer::done()), None, Verdict::Success, ""),
            // It came to its end although it was told to stop.
            (Some(Answer::done()), Some(Cause::Cancelled), Verdict::Success, ""),
            (Some(Answer::Failed("x".into())), None, failure("x"), ""),
            (None, Some(Cause::Cancelled), Verdict::Cancelled, "cancelled"),
            (None, Some(limit), failure(&limit.describe()), ""),
            (None, Some(silence), failure(&silence.describe()), ""),
        ];
        for (answer, cause, verdict, reason) in rows {
            let shown = format!("{answer:?} {cause:?}");
            let (got, _, why) = judge(answer, cause, false);
            assert_eq!((got, why.as_str()), (verdict, reason), "{shown}");
        }
        let (verdict, result, _) = judge(Some(Answer::Done(vec![0; RESULT_BYTES_MAX + 1])), None, false);
        assert!(matches!(verdict, Verdict::Failure { reason } if reason.contains("16385")) && result.is_empty());
    }
}
