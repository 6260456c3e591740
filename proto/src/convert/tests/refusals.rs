//! Refusals, as statuses of gRPC and back.

use super::super::*;
use super::ACCEPTED;
use sched_core::ids::{RunId, SessionId, TaskId, Token};

fn rejects() -> Vec<(Reject, tonic::Code)> {
    use tonic::Code;
    let run = RunId {
        task: TaskId(1),
        number: 2,
    };
    let token = Token { index: 3, position: 4 };
    vec![
        (Reject::NotFound { what: "task 42".into() }, Code::NotFound),
        (
            Reject::NameTaken {
                name: "n".into(),
                by: TaskId(7),
            },
            Code::AlreadyExists,
        ),
        (
            Reject::WrongState {
                what: "task 1".into(),
                state: "FINISHED".into(),
                expected: "x".into(),
            },
            Code::FailedPrecondition,
        ),
        (
            Reject::Conflict {
                task: TaskId(1),
                expected: 1,
                actual: 2,
            },
            Code::Aborted,
        ),
        (
            Reject::Invalid {
                field: "name".into(),
                problem: "is empty".into(),
            },
            Code::InvalidArgument,
        ),
        (
            Reject::RequestExpired {
                expired_at: ACCEPTED,
                now: ACCEPTED,
            },
            Code::FailedPrecondition,
        ),
        (
            Reject::Overloaded {
                what: "full".into(),
                retry_after_ms: 250,
            },
            Code::ResourceExhausted,
        ),
        (Reject::StaleAttempt { run, token }, Code::Aborted),
        (
            Reject::OtherJournal {
                worker: "w".into(),
                problem: "has 3 records, and had 9 before".into(),
            },
            Code::FailedPrecondition,
        ),
        (
            Reject::NotYours {
                run,
                token,
                worker: "w".into(),
            },
            Code::PermissionDenied,
        ),
        (
            Reject::NoSession {
                session: SessionId(token),
            },
            Code::FailedPrecondition,
        ),
        (
            Reject::WrongTerm {
                proposed: 1,
                committed: 2,
            },
            Code::Unavailable,
        ),
        (
            Reject::Changed {
                what: "calendar".into(),
                expected: 1,
                actual: 2,
            },
            Code::Aborted,
        ),
    ]
}

#[test]
fn every_refusal_survives_its_status() {
    for (refusal, code) in rejects() {
        let status = reject_status(&refusal);
        assert_eq!(status.code(), code, "{refusal}");
        let failure = failure_of(&status).expect("details");
        assert_eq!(failure, reject(&refusal));
        assert_eq!(failure.message, refusal.to_string());
    }
    let taken = reject(&rejects()[1].0);
    assert_eq!(taken.existing_task, Some(7));
    let invalid = reject(&rejects()[4].0);
    assert_eq!((invalid.field.as_str(), invalid.kind()), ("name", FailureKind::Invalid));
    assert_eq!(reject(&rejects()[6].0).retry_after_ms, 250);
}

#[test]
fn a_follower_names_the_leader_in_details_and_metadata() {
    let status = status(&not_leader(Some("node-2:7400")));
    assert_eq!(status.code(), tonic::Code::Unavailable);
    assert_eq!(metadata::leader(status.metadata()), Some("node-2:7400"));
    assert_eq!(failure_of(&status).expect("details").leader, "node-2:7400");
    assert!(is_worth_another_try(FailureKind::NotLeader));
}

#[test]
fn foreign_details_are_not_taken_for_ours() {
    assert_eq!(failure_of(&tonic::Status::unavailable("no route")), None);
    let garbage = tonic::Status::with_details(tonic::Code::Internal, "x", vec![255; 40].into());
    assert_eq!(failure_of(&garbage), None);
    // The kind must fit the code, or somebody between has changed one of them.
    let details = failure(FailureKind::NotFound, "x").encode_to_vec();
    let mismatch = tonic::Status::with_details(tonic::Code::Internal, "x", details.into());
    assert_eq!(failure_of(&mismatch), None);
}

#[test]
fn a_message_fits_into_headers() {
    let failure = failure(FailureKind::Invalid, "ü".repeat(100_000));
    assert!(failure.message.len() <= crate::limits::FAILURE_MESSAGE_BYTES_MAX + '…'.len_utf8());
    assert!(failure.message.ends_with('…'));
}
