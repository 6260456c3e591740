//! How a run is run: one executor per kind of action.

mod command;
mod http;
mod mail;
mod process;
mod sample;
mod user;

pub use command::{CommandExecutor, Surroundings};
pub use http::HttpExecutor;
pub(crate) use http::client as http_client;
pub use mail::{MailExecutor, MailOptions, Relay, SmtpTls, TIMEOUT_DEFAULT as MAIL_TIMEOUT_DEFAULT};
pub(crate) use mail::{certificates, message_id};
pub use sample::SampleExecutor;

use super::output::OutputWriter;
use super::stop::{Cause, StopSignal};
use super::wire::Job;
use futures::future::BoxFuture;
use sched_core::run::Verdict;
use sched_core::task::Action;
use std::error::Error;

/// How an execution ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Outcome {
    /// What the executor answers; absent when it ended because it was told to.
    pub verdict: Option<Verdict>,
    /// Exit code of a command, status of an HTTP exchange, answer of a mail relay.
    pub exit_code: Option<i32>,
    /// Why it was ended, when not the agent did it.
    pub cause: Option<Cause>,
}

impl Outcome {
    /// It succeeded.
    pub fn success() -> Self {
        Self {
            verdict: Some(Verdict::Success),
            exit_code: None,
            cause: None,
        }
    }

    /// It failed.
    pub fn failure(reason: impl Into<String>) -> Self {
        Self {
            verdict: Some(Verdict::Failure { reason: reason.into() }),
            exit_code: None,
            cause: None,
        }
    }

    /// It asks to be tried again after a delay.
    pub fn delay_me(delay_ms: u64, reason: impl Into<String>) -> Self {
        Self {
            verdict: Some(Verdict::DelayMe {
                delay_ms,
                reason: reason.into(),
            }),
            exit_code: None,
            cause: None,
        }
    }

    /// It ended because it was told to.
    pub fn stopped() -> Self {
        Self {
            verdict: None,
            exit_code: None,
            cause: None,
        }
    }

    /// It was ended by somebody else than the agent.
    pub fn ended_for(cause: Cause) -> Self {
        Self {
            cause: Some(cause),
            ..Self::stopped()
        }
    }

    /// The same with an exit code.
    #[must_use]
    pub fn with_code(mut self, code: i32) -> Self {
        self.exit_code = Some(code);
        self
    }
}

/// Runs actions of one kind.
///
/// An executor ends soon after `stop` reaches *terminate* and at once after *kill*, and nothing of what it started is left when it
/// returns. Dropping the future has the effect of *kill*.
pub trait Executor: Send + Sync {
    /// Runs the job's action to its end.
    fn execute<'a>(
        &'a self,
        job: &'a Job,
        stop: &'a mut StopSignal,
        output: &'a mut OutputWriter,
    ) -> BoxFuture<'a, Outcome>;
}

/// All executors of a worker.
pub struct Executors {
    /// Processes.
    pub command: CommandExecutor,
    /// HTTP requests.
    pub http: HttpExecutor,
    /// Sleeps, for demos and tests.
    pub sample: SampleExecutor,
    /// Mails.
    pub mail: MailExecutor,
}

impl Executors {
    /// Returns the executor of an action.
    pub fn of(&self, action: &Action) -> &dyn Executor {
        match action {
            Action::Command { .. } => &self.command,
            Action::Http { .. } => &self.http,
            Action::Sample { .. } => &self.sample,
            Action::Mail { .. } => &self.mail,
            Action::Worker { .. } => &Elsewhere,
        }
    }
}

/// Stands for what only a remote worker can do. No leader gives such a run to a node's own worker.
struct Elsewhere;

impl Executor for Elsewhere {
    fn execute<'a>(&'a self, _: &'a Job, _: &'a mut StopSignal, _: &'a mut OutputWriter) -> BoxFuture<'a, Outcome> {
        let reason = "this worker serves no queue: a run of a queue is for a remote worker";
        Box::pin(async move { Outcome::failure(reason) })
    }
}

/// Writes an error with its causes, without repeating what the outer one says already.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        next = cause.source();
    }
    text
}
