//! Runs one attempt: the handler under its time limit, and what came of it.

use super::job::{Answer, Job};
use super::stop::{Cause, Stopper, Urgency};
use crate::clock;
use futures::FutureExt;
use futures::future::BoxFuture;
use sched_core::limits::{OUTPUT_TAIL_BYTES_MAX, RESULT_BYTES_MAX};
use sched_core::run::{RunResult, Verdict};
use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;

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

/// Runs an attempt to its end. Dropping the future drops the handler's.
pub(super) async fn run(
    handler: Handler,
    job: Job,
    stopper: Stopper,
    limit: Option<Duration>,
    grace: Duration,
) -> Finished {
    let started_at = clock::wall();
    let said = job.said.clone();
    let (run, token) = (job.run(), job.token());
    let work = AssertUnwindSafe(async move { handler(job).await }).catch_unwind();
    let answer = tokio::select! {
        // First: one that is done is not dropped.
        biased;
        answer = work => Some(answer.unwrap_or_else(|panic| {
            tracing::error!(%run, attempt = %token, "a handler panicked");
            Answer::Failed(format!("the handler panicked: {}", message_of(&*panic)))
        })),
        () = overdue(&stopper, limit, grace) => None,
    };
    let (verdict, result, reason) = judge(answer, stopper.cause());
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

/// Ready when the handler has had its time: it was told to end, by somebody or because its limit was over, and the grace is over too.
async fn overdue(stopper: &Stopper, limit: Option<Duration>, grace: Duration) {
    let mut signal = stopper.signal();
    match limit {
        Some(limit) => {
            if timeout(limit, signal.reached(Urgency::Terminate)).await.is_err() {
                stopper.raise(Urgency::Terminate, Cause::TimeLimit(limit));
            }
        }
        None => signal.reached(Urgency::Terminate).await,
    }
    // Whichever comes first.
    let _ = timeout(grace, signal.reached(Urgency::Kill)).await;
}

/// Combines the answer with why it was told to end.
///
/// `Cancelled` without a cancellation in the cluster's state means that the worker gave the attempt up: it may run elsewhere.
fn judge(answer: Option<Answer>, cause: Option<Cause>) -> (Verdict, Vec<u8>, String) {
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
        (None, Some(cause @ Cause::TimeLimit(_))) => failure(cause.describe()),
        (None, cause) => {
            let reason = cause.map(Cause::describe).unwrap_or_default();
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
        // answer, cause -> verdict, reason
        let rows = [
            (Some(Answer::done()), None, Verdict::Success, ""),
            // It came to its end although it was told to stop.
            (Some(Answer::done()), Some(Cause::Cancelled), Verdict::Success, ""),
            (Some(Answer::Failed("x".into())), None, failure("x"), ""),
            (None, Some(Cause::Cancelled), Verdict::Cancelled, "cancelled"),
            (None, Some(limit), failure(&limit.describe()), ""),
        ];
        for (answer, cause, verdict, reason) in rows {
            let shown = format!("{answer:?} {cause:?}");
            let (got, _, why) = judge(answer, cause);
            assert_eq!((got, why.as_str()), (verdict, reason), "{shown}");
        }
        let (verdict, result, _) = judge(Some(Answer::Done(vec![0; RESULT_BYTES_MAX + 1])), None);
        assert!(matches!(verdict, Verdict::Failure { reason } if reason.contains("16385")) && result.is_empty());
    }
}
