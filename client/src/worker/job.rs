//! What a handler gets, and what it answers.

use super::output::Output;
use super::stop::{Cause, StopSignal, Urgency};
use bytes::Bytes;
use sched_core::{RunId, Timestamp, Token};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;

/// One attempt of a run, as its handler sees it. Clones are the same attempt.
#[derive(Clone, Debug)]
pub struct Job {
    pub(super) facts: Arc<Facts>,
    pub(super) stop: StopSignal,
    pub(super) said: Arc<Said>,
}

/// What does not change while it runs.
#[derive(Debug)]
pub(super) struct Facts {
    pub(super) queue: String,
    pub(super) payload: Bytes,
    pub(super) run: RunId,
    pub(super) token: Token,
    pub(super) attempt: u32,
    pub(super) namespace: String,
    pub(super) task_name: Option<String>,
    pub(super) scheduled_at: Timestamp,
    pub(super) deadline: Option<Instant>,
    pub(super) progress_timeout: Option<Duration>,
    pub(super) params: Vec<(String, String)>,
}

impl Job {
    /// Returns the queue it came from.
    pub fn queue(&self) -> &str {
        &self.facts.queue
    }

    /// Returns the payload as it was submitted; empty when there was none.
    pub fn payload(&self) -> &[u8] {
        &self.facts.payload
    }

    /// Reads the payload as JSON; none stands for `null`.
    ///
    /// # Errors
    ///
    /// It is not JSON, or not of this shape. A handler that passes this on with `?` fails the attempt.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        match self.payload() {
            [] => serde_json::from_str("null"),
            payload => serde_json::from_slice(payload),
        }
    }

    /// Returns the run: the same for all attempts, so that it serves as a key against doing the same work twice.
    pub fn run(&self) -> RunId {
        self.facts.run
    }

    /// Returns which attempt of the run this is, from 1.
    pub fn attempt(&self) -> u32 {
        self.facts.attempt
    }

    /// Returns the attempt's token. Tokens of later attempts, of whatever run, are greater: who keeps the greatest it has seen can refuse
    /// what an attempt does that was given up.
    pub fn token(&self) -> Token {
        self.facts.token
    }

    /// Returns the task's namespace.
    pub fn namespace(&self) -> &str {
        &self.facts.namespace
    }

    /// Returns the task's name, if it has one.
    pub fn task_name(&self) -> Option<&str> {
        self.facts.task_name.as_deref()
    }

    /// Returns when the run was to start: the instant it stands for, however late it is.
    pub fn scheduled_at(&self) -> Timestamp {
        self.facts.scheduled_at
    }

    /// Returns when the task's time limit is over, if it has one: then it is told to stop, and dropped after the worker's grace.
    pub fn deadline(&self) -> Option<Instant> {
        self.facts.deadline
    }

    /// Returns how long it may go without [`progress`](Self::progress), if its task says so: then it is told to stop, and dropped after
    /// the worker's grace. What is logged does not count.
    pub fn progress_timeout(&self) -> Option<Duration> {
        self.facts.progress_timeout
    }

    /// Returns the parameters of a manual trigger.
    pub fn params(&self) -> &[(String, String)] {
        &self.facts.params
    }

    /// Says how far it is: `schedcli get` and `schedcli runs` show the newest, `schedcli logs` all.
    ///
    /// Cheap: what is said faster than it can be told is told with what is newest. `percent` is cut to 100, the message to 4 KiB.
    pub fn progress(&self, percent: impl Into<Option<u32>>, message: impl Into<String>) {
        self.said.progress(percent.into(), message.into());
    }

    /// Writes a line of output, for `schedcli logs`. The last 64 KiB are kept while it runs, the last 16 KiB with the run.
    pub fn log(&self, line: impl AsRef<str>) {
        self.said.log(line.as_ref());
    }

    /// Whether it shall stop.
    pub fn is_stopped(&self) -> bool {
        self.stop.urgency() > Urgency::None
    }

    /// Waits until it shall stop, and says why. A handler that has something to tidy up waits for this beside its work; it is dropped
    /// when the worker's grace is over. One that blocks its thread cannot be dropped, and has to look at [`is_stopped`](Self::is_stopped);
    /// if it does not, its attempt is over all the same, and the reason says that it was left behind.
    pub async fn stopped(&self) -> Cause {
        let mut stop = self.stop.clone();
        stop.reached(Urgency::Terminate).await;
        // Set with the urgency.
        stop.cause().unwrap_or(Cause::Cancelled)
    }
}

/// What a handler answers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Answer {
    /// It is done. The bytes are recorded with the run, at most 16 KiB.
    Done(Vec<u8>),
    /// It failed; tries may be left.
    Failed(String),
    /// Not now: again after a while, without using up a try.
    DelayMe {
        /// How long.
        delay: Duration,
        /// For people.
        reason: String,
    },
}

impl Answer {
    /// It is done, and there is nothing to say.
    pub fn done() -> Self {
        Answer::Done(Vec::new())
    }

    /// It is done, with this value as JSON.
    ///
    /// # Errors
    ///
    /// The value cannot be written as JSON.
    pub fn json(value: &impl Serialize) -> Result<Self, serde_json::Error> {
        Ok(Answer::Done(serde_json::to_vec(value)?))
    }

    /// Not now: again after a while.
    pub fn delay_me(delay: Duration, reason: impl Into<String>) -> Self {
        Answer::DelayMe {
            delay,
            reason: reason.into(),
        }
    }
}

/// What a handler may return: nothing, an [`Answer`], or a `Result` of either, whose error fails the attempt.
pub trait IntoAnswer {
    /// Returns the answer.
    fn into_answer(self) -> Answer;
}

impl IntoAnswer for Answer {
    fn into_answer(self) -> Answer {
        self
    }
}

impl IntoAnswer for () {
    fn into_answer(self) -> Answer {
        Answer::done()
    }
}

impl<T: IntoAnswer, E: fmt::Display> IntoAnswer for Result<T, E> {
    fn into_answer(self) -> Answer {
        match self {
            Ok(answer) => answer.into_answer(),
            Err(error) => Answer::Failed(error.to_string()),
        }
    }
}

/// The attempts that have said something which the agent has not seen yet. Bounded by their number.
#[derive(Debug, Default)]
pub(super) struct Heard {
    tokens: Mutex<BTreeSet<Token>>,
    pub(super) any: Notify,
}

impl Heard {
    fn note(&self, token: Token) {
        self.tokens.lock().unwrap_or_else(PoisonError::into_inner).insert(token);
        self.any.notify_one();
    }

    /// Takes them.
    pub(super) fn take(&self) -> BTreeSet<Token> {
        std::mem::take(&mut *self.tokens.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// What an attempt has said: its newest progress, and its output.
#[derive(Debug)]
pub(super) struct Said {
    token: Token,
    heard: Arc<Heard>,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    progress: Option<(Option<u32>, String)>,
    /// When it was told; before the first time, when the attempt began.
    progressed_at: Instant,
    output: Output,
}

impl Said {
    pub(super) fn new(token: Token, heard: Arc<Heard>) -> Self {
        Self {
            token,
            heard,
            inner: Mutex::new(Inner {
                progress: None,
                progressed_at: Instant::now(),
                output: Output::default(),
            }),
        }
    }

    fn inner(&self) -> std::sync::MutexGuard<'_, Inner> {
        // What a handler that panicked has left is whole: each change is one assignment.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn progress(&self, percent: Option<u32>, message: String) {
        let percent = percent.map(|percent| percent.min(100));
        {
            let mut inner = self.inner();
            let line = match (percent, message.as_str()) {
                (None, message) => message.to_owned(),
                (Some(percent), "") => format!("{percent} %"),
                (Some(percent), message) => format!("{percent} % {message}"),
            };
            inner.output.line(&line);
            inner.progress = Some((percent, message));
            inner.progressed_at = Instant::now();
        }
        self.heard.note(self.token);
    }

    fn log(&self, line: &str) {
        self.inner().output.line(line);
        self.heard.note(self.token);
    }

    /// Returns the newest progress.
    pub(super) fn newest(&self) -> Option<(Option<u32>, String)> {
        self.inner().progress.clone()
    }

    /// Returns when progress was told last; before the first time, when the attempt began.
    pub(super) fn progressed_at(&self) -> Instant {
        self.inner().progressed_at
    }

    /// Looks at the output.
    pub(super) fn output<T>(&self, look: impl FnOnce(&mut Output) -> T) -> T {
        look(&mut self.inner().output)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_handlers_return_is_an_answer() {
        let fine: Result<(), std::io::Error> = Ok(());
        assert_eq!(fine.into_answer(), Answer::Done(Vec::new()));
        let bad: Result<Answer, &str> = Err("no disk");
        assert_eq!(bad.into_answer(), Answer::Failed("no disk".into()));
        let later = Answer::delay_me(Duration::from_secs(1), "busy");
        assert_eq!(Ok::<_, String>(later.clone()).into_answer(), later);
        assert_eq!(
            Answer::json(&[1, 2]).map(IntoAnswer::into_answer).ok(),
            Some(Answer::Done(b"[1,2]".to_vec()))
        );
    }

    #[test]
    fn many_words_of_one_attempt_are_heard_once() {
        let heard = Arc::new(Heard::default());
        let token = Token { index: 3, position: 1 };
        let said = Said::new(token, heard.clone());
        for percent in 0..200 {
            said.progress(Some(percent), "x".into());
        }
        assert_eq!(heard.take(), BTreeSet::from([token]));
        assert_eq!(heard.take(), BTreeSet::new());
        assert_eq!(
            said.newest(),
            Some((Some(100), "x".into())),
            "there is nothing beyond 100"
        );
    }
}
