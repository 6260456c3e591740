//! What a command did, for the proposer and for the duties.

use super::{Reject, Reply};
use crate::ids::{RunId, SessionId, TaskId, Token};
use crate::time::Timestamp;

/// A hint for the node that holds the duty. Lost ones are found again by the next round.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Effect {
    /// Something is due at this instant.
    WakeTicker(Timestamp),
    /// Something became ready, or a slot became free.
    WakeDispatcher,
    /// The spool has operations to drain.
    WakeDrain,
    /// Tell the worker to start (at-least-once) or to ask for the grant (at-most-once).
    StartAttempt {
        /// Which.
        run: RunId,
        /// The attempt.
        token: Token,
        /// Whose.
        session: SessionId,
    },
    /// Tell the worker to kill it.
    Kill {
        /// Which.
        run: RunId,
        /// The attempt.
        token: Token,
        /// Whose.
        session: SessionId,
    },
    /// A run changed its state.
    RunChanged {
        /// Which.
        run: RunId,
    },
    /// A task changed its state.
    TaskChanged {
        /// Which.
        task: TaskId,
    },
    /// A run ended whose task has somebody to notify.
    RunEnded {
        /// Which.
        run: RunId,
        /// It finished, and the run that ended before it failed.
        recovered: bool,
    },
    /// A run became LOST whose task has somebody to notify.
    RunLost {
        /// Which.
        run: RunId,
    },
    /// Occurrences were missed or skipped of a task that has somebody to notify.
    OccurrencesMissed {
        /// Which.
        task: TaskId,
        /// The number of the line in its ledger that says which.
        line: u64,
    },
    /// A session ended.
    SessionEnded {
        /// Which.
        session: SessionId,
    },
    /// A worker gets no new runs any more, or again.
    WorkerDrained {
        /// Its name.
        worker: String,
        /// No new runs.
        drained: bool,
    },
}

/// What one command did.
#[derive(Clone, PartialEq, Debug)]
pub struct Outcome {
    /// For the proposer.
    pub reply: Result<Reply, Reject>,
    /// For the duties.
    pub effects: Vec<Effect>,
}
