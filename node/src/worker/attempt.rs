//! Runs one attempt: the executor under its time limit, and the result.

use super::WorkerClock;
use super::executors::{Executors, Outcome};
use super::output::{OutputStore, OutputWriter};
use super::stop::{Cause, StopSignal, Stopper, Urgency};
use super::wire::Job;
use futures::FutureExt;
use sched_core::Timestamp;
use sched_core::run::{RunResult, Verdict};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

/// What all attempts of a worker share.
pub(crate) struct Runner {
    pub(crate) executors: Executors,
    pub(crate) output: Arc<OutputStore>,
    pub(crate) clock: WorkerClock,
    /// Between asking an attempt to end and killing it.
    pub(crate) grace: Duration,
}

/// The end of an attempt.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Finished {
    pub(crate) result: RunResult,
    /// Why, when the verdict has no place for it.
    pub(crate) reason: String,
}

impl Runner {
    /// Runs an attempt to its end. Dropping the future kills it.
    pub(crate) async fn run(&self, job: &Job, stopper: &Stopper) -> Finished {
        let started_at = self.clock.wall();
        let run = AssertUnwindSafe(self.execute(job, stopper, started_at)).catch_unwind();
        run.await.unwrap_or_else(|_| {
            tracing::error!(run = %job.run, attempt = %job.token, kind = job.action.kind(), "executor panicked");
            let reason = "the executor failed inside; the log of the worker says where".to_owned();
            let (verdict, ended_at) = (Verdict::Failure { reason }, self.clock.wall());
            let result = RunResult {
                verdict,
                exit_code: None,
                started_at,
                ended_at,
                output_tail: Vec::new(),
                result: Vec::new(),
            };
            Finished {
                result,
                reason: String::new(),
            }
        })
    }

    async fn execute(&self, job: &Job, stopper: &Stopper, started_at: Timestamp) -> Finished {
        let mut output = OutputWriter::new(&self.output, job.run, job.attempt_number);
        let outcome = self.bounded(job, stopper, &mut output).await;
        let (verdict, reason) = judge(outcome.verdict, stopper.cause().or(outcome.cause));
        let output_tail = output.finish().await;
        let ended_at = self.clock.wall();
        // An executor's reason may quote what others said, at any length.
        let result = RunResult {
            verdict,
            exit_code: outcome.exit_code,
            started_at,
            ended_at,
            output_tail,
            result: Vec::new(),
        };
        Finished {
            result: result.bounded(),
            reason,
        }
    }

    async fn bounded(&self, job: &Job, stopper: &Stopper, output: &mut OutputWriter) -> Outcome {
        let mut signal = stopper.signal();
        let executor = self.executors.of(&job.action);
        let execution = executor.execute(job, &mut signal, output);
        let limits = enforce(stopper, stopper.signal(), job.time_limit, self.grace);
        tokio::select! {
            // First: an attempt that is over is not asked to end.
            biased;
            outcome = execution => outcome,
            never = limits => never,
        }
    }
}

/// Asks the attempt to end when its time is over; kills it when it was asked by anybody and the grace is over.
async fn enforce<T>(stopper: &Stopper, mut signal: StopSignal, limit: Option<Duration>, grace: Duration) -> T {
    if let Some(limit) = limit {
        if tokio::time::timeout(limit, signal.reached(Urgency::Terminate))
            .await
            .is_err()
        {
            stopper.raise(Urgency::Terminate, Cause::TimeLimit(limit));
        }
    } else {
        signal.reached(Urgency::Terminate).await;
    }
    tokio::time::sleep(grace).await;
    if let Some(cause) = stopper.cause() {
        stopper.raise(Urgency::Kill, cause);
    }
    std::future::pending().await
}

/// Combines what the executor says with why it was told to end.
fn judge(verdict: Option<Verdict>, cause: Option<Cause>) -> (Verdict, String) {
    match (verdict, cause) {
        (Some(verdict), _) => (verdict, String::new()),
        (None, Some(cause @ Cause::TimeLimit(_))) => (
            Verdict::Failure {
                reason: cause.describe(),
            },
            String::new(),
        ),
        // Another attempt has taken its place: whatever is said of it is only noted.
        (None, Some(cause @ (Cause::Cancelled | Cause::Stale))) => (Verdict::Cancelled, cause.describe()),
        (None, Some(cause)) => {
            let verdict = Verdict::Abandoned {
                reason: cause.describe(),
                stopping: cause == Cause::Leaving,
            };
            (verdict, String::new())
        }
        (None, None) => (
            Verdict::Failure {
                reason: "the executor ended without an answer".to_owned(),
            },
            String::new(),
        ),
    }
}

#[cfg(test)]
#[path = "tests/attempt.rs"]
mod tests;
