//! Between the wire's types and openraft's. What arrives is checked here, once: nothing of a peer panics further in.

use crate::record::{ENTRY_RECORD_BYTES_MAX, decode_entry, vote_of};
use crate::types::{LogId, TypeConfig, Vote, log_id, term_of};
use openraft::raft::{
    AppendEntriesRequest, StreamAppendError, TransferLeaderError, TransferLeaderRequest, VoteRequest, VoteResponse,
};
use sched_proto::peer;
use tonic::Status;

/// Every record fits a message, with room for the rest of an append.
const _: () = assert!(ENTRY_RECORD_BYTES_MAX + 1024 * 1024 < super::MESSAGE_BYTES_MAX);

/// Entries in one append: far more than a request is filled with.
const APPEND_ENTRIES_MAX: usize = 4096;

pub(crate) type StreamAppendResult = Result<Option<LogId>, StreamAppendError<TypeConfig>>;
pub(crate) type TransferLeaderResult = Result<(), TransferLeaderError<TypeConfig>>;

fn missing(what: &'static str) -> Status {
    Status::invalid_argument(format!("{what} is missing"))
}

pub(crate) fn position(id: &LogId) -> peer::Position {
    peer::Position {
        term: term_of(id),
        index: id.index(),
    }
}

pub(crate) fn id(position: &peer::Position) -> LogId {
    log_id(position.term, position.index)
}

pub(crate) fn accepted(last: Option<&LogId>) -> peer::Accepted {
    peer::Accepted {
        last: last.map(position),
    }
}

pub(crate) fn ballot(vote: &Vote) -> peer::Ballot {
    let leader = vote.leader_id();
    peer::Ballot {
        term: leader.term,
        node: leader.voted_for,
        committed: vote.is_committed(),
    }
}

pub(crate) fn vote(ballot: Option<&peer::Ballot>) -> Result<Vote, Status> {
    let ballot = ballot.ok_or_else(|| missing("ballot"))?;
    Ok(vote_of(ballot.term, ballot.node, ballot.committed))
}

pub(crate) fn append_request(
    route: Option<peer::Route>,
    request: &AppendEntriesRequest<TypeConfig>,
) -> peer::AppendRequest {
    peer::AppendRequest {
        route,
        ballot: Some(ballot(&request.vote)),
        previous: request.prev_log_id.as_ref().map(position),
        committed: request.leader_commit.as_ref().map(position),
        entries: request.entries.iter().map(|entry| entry.record()).collect(),
    }
}

/// Reads an append. The entries must follow `previous` without a gap: consensus relies on it and would stop the node.
pub(crate) fn append(request: peer::AppendRequest) -> Result<AppendEntriesRequest<TypeConfig>, Status> {
    if request.entries.len() > APPEND_ENTRIES_MAX {
        return Err(Status::invalid_argument(format!(
            "{} entries exceed {APPEND_ENTRIES_MAX}",
            request.entries.len()
        )));
    }
    let vote = vote(request.ballot.as_ref())?;
    if !vote.is_committed() {
        return Err(Status::invalid_argument(
            "only a leader appends: the ballot is not committed",
        ));
    }
    let prev_log_id = request.previous.as_ref().map(id);
    let mut next = match &prev_log_id {
        Some(previous) => previous
            .index()
            .checked_add(1)
            .ok_or_else(|| Status::invalid_argument("index overflow"))?,
        None => 0,
    };
    let mut term = prev_log_id.as_ref().map_or(0, term_of);
    let mut entries = Vec::with_capacity(request.entries.len());
    for record in request.entries {
        let entry = decode_entry(record).map_err(|e| Status::invalid_argument(format!("entry {next}: {e}")))?;
        let at = entry.id();
        if at.index() != next || term_of(&at) < term || term_of(&at) > vote.leader_id().term {
            return Err(Status::invalid_argument(format!(
                "entry {at} cannot stand at {next} of the leader {vote}"
            )));
        }
        term = term_of(&at);
        next = next
            .checked_add(1)
            .ok_or_else(|| Status::invalid_argument("index overflow"))?;
        entries.push(entry);
    }
    let leader_commit = request.committed.as_ref().map(id);
    Ok(AppendEntriesRequest {
        vote,
        prev_log_id,
        entries,
        leader_commit,
    })
}

pub(crate) fn append_reply(result: &StreamAppendResult) -> peer::AppendReply {
    use peer::append_reply::Outcome;
    let outcome = match result {
        Ok(last) => Outcome::Accepted(accepted(last.as_ref())),
        Err(StreamAppendError::Conflict(at)) => Outcome::Conflict(position(at)),
        Err(StreamAppendError::HigherVote(vote)) => Outcome::Higher(ballot(vote)),
    };
    peer::AppendReply { outcome: Some(outcome) }
}

/// Reads the reply to an append whose entries lie after `previous` and end at `last`.
pub(crate) fn append_result(
    reply: peer::AppendReply,
    previous: Option<LogId>,
    last: Option<LogId>,
) -> Result<StreamAppendResult, Status> {
    use peer::append_reply::Outcome;
    match reply.outcome.ok_or_else(|| missing("outcome"))? {
        Outcome::Accepted(peer::Accepted { last: matched }) => {
            let matched = matched.as_ref().map(id);
            // A peer that acknowledges what it was not sent would make us commit what no quorum holds.
            if matched > last {
                return Err(Status::invalid_argument("more was accepted than was sent"));
            }
            Ok(Ok(matched))
        }
        Outcome::Conflict(at) => match previous {
            Some(previous) if previous == id(&at) => Ok(Err(StreamAppendError::Conflict(previous))),
            _ => Err(Status::invalid_argument("a conflict at another place than asked about")),
        },
        Outcome::Higher(higher) => Ok(Err(StreamAppendError::HigherVote(vote(Some(&higher))?))),
    }
}

pub(crate) fn vote_request(route: peer::Route, request: &VoteRequest<TypeConfig>) -> peer::VoteRequest {
    peer::VoteRequest {
        route: Some(route),
        ballot: Some(ballot(&request.vote)),
        last: request.last_log_id.as_ref().map(position),
        transfer: request.leadership_transfer,
    }
}

pub(crate) fn ask_vote(request: &peer::VoteRequest) -> Result<VoteRequest<TypeConfig>, Status> {
    let vote = vote(request.ballot.as_ref())?;
    let from = request.route.as_ref().map_or(0, |route| route.from);
    if vote.leader_id().voted_for != from || vote.is_committed() {
        return Err(Status::invalid_argument(
            "a candidate asks for itself, with a ballot that is not committed",
        ));
    }
    let mut asked = VoteRequest::new(vote, request.last.as_ref().map(id));
    asked.leadership_transfer = request.transfer;
    Ok(asked)
}

pub(crate) fn vote_reply(response: &VoteResponse<TypeConfig>) -> peer::VoteReply {
    peer::VoteReply {
        ballot: Some(ballot(&response.vote)),
        granted: response.vote_granted,
        last: response.last_log_id.as_ref().map(position),
    }
}

pub(crate) fn vote_response(reply: &peer::VoteReply) -> Result<VoteResponse<TypeConfig>, Status> {
    Ok(VoteResponse::new(
        vote(reply.ballot.as_ref())?,
        reply.last.as_ref().map(id),
        reply.granted,
    ))
}

pub(crate) fn transfer_request(
    route: peer::Route,
    request: &TransferLeaderRequest<TypeConfig>,
) -> peer::TransferLeaderRequest {
    peer::TransferLeaderRequest {
        route: Some(route),
        from: Some(ballot(request.from_leader())),
        to: *request.to_node_id(),
        last: request.last_log_id().map(position),
    }
}

pub(crate) fn transfer(request: &peer::TransferLeaderRequest) -> Result<TransferLeaderRequest<TypeConfig>, Status> {
    let from = vote(request.from.as_ref())?;
    Ok(TransferLeaderRequest::new(
        from,
        request.to,
        request.last.as_ref().map(id),
    ))
}

pub(crate) fn transfer_reply(result: &TransferLeaderResult) -> peer::TransferLeaderReply {
    use peer::transfer_leader_reply::Outcome;
    let outcome = match result {
        Ok(()) => Outcome::Accepted(accepted(None)),
        Err(TransferLeaderError::VoteChanged { actual, .. }) => Outcome::Changed(ballot(actual)),
        Err(TransferLeaderError::LogNotFlushed { actual, .. }) => Outcome::Behind(accepted(actual.as_ref())),
    };
    peer::TransferLeaderReply { outcome: Some(outcome) }
}

pub(crate) fn transfer_result(
    reply: peer::TransferLeaderReply,
    request: &TransferLeaderRequest<TypeConfig>,
) -> Result<TransferLeaderResult, Status> {
    use peer::transfer_leader_reply::Outcome;
    Ok(match reply.outcome.ok_or_else(|| missing("outcome"))? {
        Outcome::Accepted(_) => Ok(()),
        Outcome::Changed(actual) => {
            let expected = *request.from_leader();
            Err(TransferLeaderError::VoteChanged {
                expected,
                actual: vote(Some(&actual))?,
            })
        }
        Outcome::Behind(peer::Accepted { last }) => {
            let expected = request.last_log_id().copied();
            Err(TransferLeaderError::LogNotFlushed {
                expected,
                actual: last.as_ref().map(id),
            })
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{Commands, LogEntry};
    use openraft::EntryPayload;
    use openraft::entry::RaftEntry;

    fn entry(term: u64, index: u64) -> bytes::Bytes {
        LogEntry::new(log_id(term, index), EntryPayload::Normal(Commands("x".into()))).record()
    }

    fn request(previous: Option<(u64, u64)>, entries: &[(u64, u64)]) -> peer::AppendRequest {
        peer::AppendRequest {
            route: None,
            ballot: Some(peer::Ballot {
                term: 3,
                node: 9,
                committed: true,
            }),
            previous: previous.map(|(term, index)| peer::Position { term, index }),
            committed: None,
            entries: entries.iter().map(|(term, index)| entry(*term, *index)).collect(),
        }
    }

    #[test]
    fn appends_read_back() {
        let wire = request(Some((1, 4)), &[(1, 5), (3, 6)]);
        let read = append(wire.clone()).unwrap();
        assert_eq!(append_request(None, &read), wire);
        let first = request(None, &[(0, 0)]);
        assert_eq!(append_request(None, &append(first.clone()).unwrap()), first);
    }

    #[test]
    fn appends_that_would_stop_the_node_are_refused() {
        for (why, bad) in [
            ("a gap", request(Some((1, 4)), &[(1, 6)])),
            ("no start", request(None, &[(1, 3)])),
            ("terms that fall", request(Some((2, 4)), &[(1, 5)])),
            ("a term after the leader's", request(Some((1, 4)), &[(4, 5)])),
            (
                "no ballot",
                peer::AppendRequest {
                    ballot: None,
                    ..request(None, &[])
                },
            ),
            ("overflow", request(Some((1, u64::MAX)), &[])),
            (
                "a candidate",
                peer::AppendRequest {
                    ballot: Some(peer::Ballot {
                        term: 3,
                        node: 9,
                        committed: false,
                    }),
                    ..request(None, &[])
                },
            ),
            (
                "nonsense",
                peer::AppendRequest {
                    entries: vec![bytes::Bytes::from_static(b"abc")],
                    ..request(None, &[])
                },
            ),
        ] {
            assert!(append(bad).is_err(), "{why}");
        }
    }

    #[test]
    fn an_acknowledgement_of_what_was_not_sent_is_refused() {
        let accepted = |term, index| peer::AppendReply {
            outcome: Some(peer::append_reply::Outcome::Accepted(peer::Accepted {
                last: Some(peer::Position { term, index }),
            })),
        };
        let (previous, last) = (Some(log_id(1, 4)), Some(log_id(1, 6)));
        assert!(append_result(accepted(1, 6), previous, last).unwrap().is_ok());
        assert!(append_result(accepted(1, 7), previous, last).is_err());
        let conflict = |index| peer::AppendReply {
            outcome: Some(peer::append_reply::Outcome::Conflict(peer::Position { term: 1, index })),
        };
        assert!(append_result(conflict(4), previous, last).unwrap().is_err());
        assert!(append_result(conflict(3), previous, last).is_err());
        assert!(
            append_result(conflict(3), None, last).is_err(),
            "nothing can conflict with the start of the log"
        );
        assert!(append_result(peer::AppendReply { outcome: None }, previous, last).is_err());
    }
}
