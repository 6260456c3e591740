//! Conversions between the wire and `sched-core`, and the one table from refusals to status codes.
//!
//! [`to_wire`] cannot fail. [`from_wire`] refuses what no task could mean (an absent schedule, an unknown enumeration value, an
//! instant outside the years 1 to 9999) with a [`Reject`] that names the field; bounds on sizes are
//! [`sched_core::validate`]'s, which the caller runs on the result. [`worker`] does the same for the stream of a worker.

pub mod from_wire;
pub mod to_wire;
pub mod worker;

#[cfg(test)]
mod tests;

use crate::limits::FAILURE_MESSAGE_BYTES_MAX;
use crate::metadata;
use crate::v1::{Failure, FailureKind};
use prost::Message as _;
use sched_core::command::Reject;
use tonic::{Code, Status};

/// Returns the status code under which a kind of refusal travels.
pub fn code(kind: FailureKind) -> Code {
    match kind {
        FailureKind::Unspecified => Code::Unknown,
        FailureKind::NotFound => Code::NotFound,
        FailureKind::NameTaken => Code::AlreadyExists,
        FailureKind::WrongState | FailureKind::RequestExpired | FailureKind::NoSession | FailureKind::OtherJournal => {
            Code::FailedPrecondition
        }
        FailureKind::NotYours => Code::PermissionDenied,
        FailureKind::Conflict | FailureKind::StaleAttempt => Code::Aborted,
        FailureKind::Invalid => Code::InvalidArgument,
        FailureKind::Overloaded => Code::ResourceExhausted,
        FailureKind::NotLeader
        | FailureKind::OutcomeUnknown
        | FailureKind::NoQuorum
        | FailureKind::WorkerUnreachable
        | FailureKind::Stopping => Code::Unavailable,
        FailureKind::Internal => Code::Internal,
        FailureKind::Unsupported => Code::Unimplemented,
    }
}

/// Whether the same call, under the same request key, may succeed at another node or a little later.
pub fn is_worth_another_try(kind: FailureKind) -> bool {
    match kind {
        FailureKind::NotLeader
        | FailureKind::OutcomeUnknown
        | FailureKind::NoQuorum
        | FailureKind::WorkerUnreachable
        | FailureKind::Stopping
        | FailureKind::Overloaded => true,
        FailureKind::Unspecified
        | FailureKind::NotFound
        | FailureKind::NameTaken
        | FailureKind::WrongState
        | FailureKind::Conflict
        | FailureKind::Invalid
        | FailureKind::RequestExpired
        | FailureKind::StaleAttempt
        | FailureKind::NoSession
        | FailureKind::OtherJournal
        | FailureKind::NotYours
        | FailureKind::Internal
        | FailureKind::Unsupported => false,
    }
}

/// Returns a failure with nothing but a kind and a message, which is cut when it is too long for a header.
pub fn failure(kind: FailureKind, message: impl Into<String>) -> Failure {
    Failure {
        kind: kind.into(),
        message: cut(message.into()),
        ..Failure::default()
    }
}

/// Returns the failure of a node that is not the leader and does not pass the call on.
pub fn not_leader(leader: Option<&str>) -> Failure {
    let message = match leader {
        Some(address) => format!("this node is not the leader; the leader is at {address}"),
        None => "this node is not the leader and knows none; an election may be under way".to_owned(),
    };
    Failure {
        leader: leader.unwrap_or_default().to_owned(),
        ..failure(FailureKind::NotLeader, message)
    }
}

/// The table: what each refusal is on the wire.
pub fn reject(reject: &Reject) -> Failure {
    let kind = match reject {
        Reject::NotFound { .. } => FailureKind::NotFound,
        Reject::NameTaken { .. } => FailureKind::NameTaken,
        Reject::WrongState { .. } => FailureKind::WrongState,
        Reject::Conflict { .. } | Reject::Changed { .. } => FailureKind::Conflict,
        Reject::Invalid { .. } => FailureKind::Invalid,
        Reject::RequestExpired { .. } => FailureKind::RequestExpired,
        Reject::Overloaded { .. } => FailureKind::Overloaded,
        Reject::StaleAttempt { .. } => FailureKind::StaleAttempt,
        Reject::NoSession { .. } => FailureKind::NoSession,
        Reject::OtherJournal { .. } => FailureKind::OtherJournal,
        Reject::NotYours { .. } => FailureKind::NotYours,
        // Nothing was done: the leader of the next term takes the same request.
        Reject::WrongTerm { .. } => FailureKind::OutcomeUnknown,
    };
    let mut failure = failure(kind, reject.to_string());
    match reject {
        Reject::NameTaken { by, .. } => failure.existing_task = Some(by.0),
        Reject::Invalid { field, .. } => failure.field = cut(field.clone()),
        Reject::Overloaded { retry_after_ms, .. } => failure.retry_after_ms = *retry_after_ms,
        _ => {}
    }
    failure
}

/// Returns the status that carries a failure: its code, its message, and the failure itself in the details.
pub fn status(failure: &Failure) -> Status {
    let details = failure.encode_to_vec().into();
    let mut status = Status::with_details(code(failure.kind()), failure.message.clone(), details);
    if !failure.leader.is_empty() {
        metadata::set_leader(status.metadata_mut(), &failure.leader);
    }
    status
}

/// Returns the status of a refusal.
pub fn reject_status(refusal: &Reject) -> Status {
    status(&reject(refusal))
}

/// Returns the failure that a status carries; nothing when it comes from elsewhere (a proxy, the transport, another service).
pub fn failure_of(status: &Status) -> Option<Failure> {
    let failure = Failure::decode(status.details()).ok()?;
    let kind = failure.kind();
    (kind != FailureKind::Unspecified && code(kind) == status.code()).then_some(failure)
}

/// Cuts a message at the bound of a header.
fn cut(mut text: String) -> String {
    if text.len() <= FAILURE_MESSAGE_BYTES_MAX {
        return text;
    }
    let mut end = FAILURE_MESSAGE_BYTES_MAX;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.truncate(end);
    text.push('…');
    text
}
