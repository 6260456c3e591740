//! What can go wrong with a call.

use sched_core::command::Reject;
use sched_proto::v1::{Failure, FailureKind};
use std::fmt;
use std::time::Duration;

/// Why a call did not succeed.
#[derive(Clone, PartialEq, Debug, thiserror::Error)]
pub enum ClientError {
    /// An address cannot be used.
    #[error("endpoint {endpoint:?}: {problem}")]
    Endpoint {
        /// As given.
        endpoint: String,
        /// What is wrong with it, and what would be accepted.
        problem: String,
    },
    /// Found before anything was sent.
    #[error(transparent)]
    Invalid(#[from] Reject),
    /// The cluster answered: no.
    #[error("{}", .0.message)]
    Refused(Failure),
    /// No node gave an answer in time.
    #[error("{}", Unanswered(self))]
    Unreachable {
        /// How long was tried.
        waited: Duration,
        /// What each node said last.
        said: Vec<Said>,
        /// The call changes something and may have been carried out.
        outcome_unknown: bool,
    },
    /// A node answered something that makes no sense.
    #[error("{endpoint}: {problem}; is it a node of this release?")]
    Protocol {
        /// Which.
        endpoint: String,
        /// What.
        problem: String,
    },
}

impl ClientError {
    /// Returns what kind of refusal it is, when the cluster refused.
    pub fn refusal(&self) -> Option<FailureKind> {
        match self {
            ClientError::Refused(failure) => Some(failure.kind()),
            _ => None,
        }
    }

    /// Whether the task or run does not exist.
    pub fn is_not_found(&self) -> bool {
        self.refusal() == Some(FailureKind::NotFound)
    }

    /// Whether no node gave an answer.
    pub fn is_unreachable(&self) -> bool {
        matches!(self, ClientError::Unreachable { .. } | ClientError::Protocol { .. })
    }
}

/// What one node said last.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Said {
    /// Its address.
    pub endpoint: String,
    /// What it said, or what became of the attempt.
    pub what: String,
}

/// Writes an [`ClientError::Unreachable`]: one line per node.
struct Unanswered<'a>(&'a ClientError);

impl fmt::Display for Unanswered<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ClientError::Unreachable {
            waited,
            said,
            outcome_unknown,
        } = self.0
        else {
            return Ok(());
        };
        write!(f, "no answer from the cluster within {:.1} s", waited.as_secs_f64())?;
        for Said { endpoint, what } in said {
            write!(f, "\n  {endpoint}: {what}")?;
        }
        if *outcome_unknown {
            f.write_str("\nwhether it was carried out is not known: look before you repeat it")?;
        }
        Ok(())
    }
}
