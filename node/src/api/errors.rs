//! Refusals and failures as what clients see.

use sched_core::Reject;
use sched_proto::convert;
use sched_proto::v1::{Failure, FailureKind};
use sched_raft::ProposeError;
use tonic::Status;

/// Returns what a client sees of a command that was not carried out.
pub(super) fn failure(e: &ProposeError) -> Failure {
    match e {
        ProposeError::Reject(reject) => convert::reject(reject),
        ProposeError::NotLeader { leader } => {
            convert::not_leader(leader.as_ref().map(|leader| leader.client_address.as_str()))
        }
        ProposeError::Unknown { .. } => convert::failure(FailureKind::OutcomeUnknown, e.to_string()),
        ProposeError::Overloaded { retry_after_ms, .. } => Failure {
            retry_after_ms: *retry_after_ms,
            ..convert::failure(FailureKind::Overloaded, e.to_string())
        },
        ProposeError::TooLarge { .. } => convert::failure(FailureKind::Invalid, e.to_string()),
        ProposeError::Stopped => convert::failure(FailureKind::Stopping, e.to_string()),
    }
}

/// Returns the status of a command that was not carried out.
pub(super) fn refuse(e: &ProposeError) -> Status {
    convert::status(&failure(e))
}

/// Returns the status of a read that no quorum confirmed.
pub(super) fn unconfirmed(e: &ProposeError) -> Status {
    match e {
        ProposeError::Stopped => refuse(e),
        _ => {
            let text = format!("no quorum confirmed that this node is up to date: {e}");
            convert::status(&convert::failure(FailureKind::NoQuorum, text))
        }
    }
}

/// Returns the status of a refusal.
pub(super) fn rejected(reject: &Reject) -> Status {
    convert::reject_status(reject)
}

/// Returns the refusal of something that does not exist.
pub(super) fn not_found(what: impl Into<String>) -> Status {
    rejected(&Reject::NotFound { what: what.into() })
}

/// Returns the refusal of a field.
pub(super) fn invalid(field: &str, problem: impl Into<String>) -> Status {
    rejected(&Reject::Invalid {
        field: field.to_owned(),
        problem: problem.into(),
    })
}

/// Returns the status of an answer that does not fit its question: a fault in the program.
pub(super) fn internal(text: &str) -> Status {
    tracing::error!(text, "internal error");
    convert::status(&convert::failure(FailureKind::Internal, text))
}

/// Returns the status of a node that is stopping.
pub(super) fn stopping() -> Status {
    refuse(&ProposeError::Stopped)
}

/// Returns the refusal of a call because a bound is reached.
pub(super) fn overloaded(what: &str, retry_after_ms: u64) -> Status {
    rejected(&Reject::Overloaded {
        what: what.to_owned(),
        retry_after_ms,
    })
}
