//! Operations that were accepted and are not yet in the queue.

use crate::ids::{RequestKey, TaskId};
use crate::schedule::Schedule;
use crate::task::{NextRun, TaskSpec};
use crate::time::Timestamp;
use serde::{Deserialize, Serialize};

/// An operation in the spool.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct SpoolOp {
    /// When it was accepted, by leader time.
    pub accepted_at: Timestamp,
    /// Who asked.
    pub principal: String,
    /// What.
    pub action: SpoolAction,
}

/// What an operation in the spool does.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub enum SpoolAction {
    /// Queue this task, whose record exists.
    Enqueue(TaskId),
    /// Take it out.
    Dequeue {
        /// Which.
        task: TaskId,
        /// Cancel live runs.
        kill: bool,
    },
    /// Give it a new start.
    Move {
        /// Which.
        task: TaskId,
        /// The schedule with its new start.
        schedule: Schedule,
    },
    /// Run it once.
    Trigger {
        /// Which.
        task: TaskId,
        /// Given to the run.
        params: Vec<(String, String)>,
        /// The request that asked.
        request: Option<RequestKey>,
    },
    /// Give it another definition.
    Update {
        /// Which.
        task: TaskId,
        /// The whole definition.
        spec: Box<TaskSpec>,
        /// Its next run time is to be computed anew.
        reschedule: bool,
    },
}

impl SpoolAction {
    /// Returns the task it is about.
    pub fn task(&self) -> TaskId {
        match self {
            SpoolAction::Enqueue(task)
            | SpoolAction::Dequeue { task, .. }
            | SpoolAction::Move { task, .. }
            | SpoolAction::Trigger { task, .. }
            | SpoolAction::Update { task, .. } => *task,
        }
    }

    /// Returns the word used by API and command line.
    pub fn kind(&self) -> &'static str {
        match self {
            SpoolAction::Enqueue(_) => "enqueue",
            SpoolAction::Dequeue { .. } => "dequeue",
            SpoolAction::Move { .. } => "move",
            SpoolAction::Trigger { .. } => "run",
            SpoolAction::Update { .. } => "update",
        }
    }
}

/// One operation of [`super::Command::Drain`].
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct DrainItem {
    /// Its number in the spool.
    pub seq: u64,
    /// The run time computed anew.
    pub next: NextRun,
}
