//! Names of things: serial numbers given by the state machine, and positions in the log.

use crate::time::Timestamp;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// A task's serial number, given when it is accepted, never reused.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct TaskId(pub u64);

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// One occurrence of a task that was started or is to be started: `task:number`, numbered from 1.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct RunId {
    /// The task.
    pub task: TaskId,
    /// The serial number of the run within its task.
    pub number: u64,
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.task.0, self.number)
    }
}

/// The text is not a run id.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0:?} is not a run id; expected TASK:NUMBER, for example 42:3")]
pub struct NotARunId(pub String);

impl FromStr for RunId {
    type Err = NotARunId;

    fn from_str(s: &str) -> Result<Self, NotARunId> {
        let parse = || {
            let (task, number) = s.split_once(':')?;
            Some(RunId {
                task: TaskId(task.parse().ok()?),
                number: number.parse().ok()?,
            })
        };
        parse().ok_or_else(|| NotARunId(s.to_owned()))
    }
}

/// The place in the log where something was decided: unique, and strictly increasing over the cluster.
///
/// One entry carries many decisions, so the index alone is not enough.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
pub struct Token {
    /// The index of the log entry.
    pub index: u64,
    /// The position within the entry, from 0.
    pub position: u32,
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.index, self.position)
    }
}

/// A worker's session: the log position of its `SessionOpen`. It survives reconnects and changes of leader.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
pub struct SessionId(pub Token);

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A node's random 63-bit number, created with its data folder and never reused.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct NodeId(pub u64);

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// What makes a retried call recognisable, so that it is never executed twice.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum RequestKey {
    /// Made by the client library. It carries its own expiry: a later retry is refused, not executed.
    Client {
        /// After this instant (by leader time) the request is refused. At most [`crate::limits::REQUEST_TTL_MS`] ahead.
        expires_at: Timestamp,
        /// Random.
        nonce: u128,
    },
    /// Given by the caller; remembered for [`crate::limits::CALLER_KEY_TTL_MS`].
    Caller {
        /// The namespace it is unique in.
        namespace: String,
        /// The caller's own text.
        key: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn run_ids_read_back_and_nonsense_is_refused() {
        let id = RunId {
            task: TaskId(42),
            number: 3,
        };
        assert_eq!("42:3".parse::<RunId>(), Ok(id));
        assert_eq!(id.to_string(), "42:3");
        for bad in ["", "42", "42:", ":3", "42:3:1", "-1:2", "a:b", "18446744073709551616:1"] {
            assert!(bad.parse::<RunId>().is_err(), "{bad}");
        }
    }
}
