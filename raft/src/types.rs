//! What openraft is told about our log: the types it passes through, and the entry that keeps its own encoding.

use crate::runtime::Runtime;
use bytes::Bytes;
use openraft::entry::RaftEntry;
use openraft::impls::leader_id_std;
use openraft::raft::responder::Responder;
use openraft::{EntryPayload, OptionalSend, RaftTypeConfig};
use sched_core::{Reject, Reply};
use std::fmt;
use std::sync::OnceLock;

/// One leader per term, terms and nodes are plain numbers, entries keep their encoding. Written out, as openraft's macro does not let us say who
/// is told of an outcome.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub(crate) struct TypeConfig {}

impl RaftTypeConfig for TypeConfig {
    type D = Commands;
    type R = Replies;
    type NodeId = u64;
    type Node = Place;
    type Term = u64;
    type LeaderId = leader_id_std::LeaderId<u64, u64>;
    type Vote = openraft::impls::Vote<Self::LeaderId>;
    type Payload = Payload;
    type Entry = LogEntry;
    type AsyncRuntime = Runtime;
    type Responder<T>
        = Callback<T>
    where
        T: OptionalSend + 'static;
    type Batch<T>
        = openraft::impls::InlineBatch<T>
    where
        T: OptionalSend + 'static;
    type ErrorSource = openraft::impls::BoxedErrorSource;
}

/// Called with the outcome of a proposal, where it is found out: no task has to wake for it. It must not block. Dropped, the outcome is
/// unknown.
pub(crate) struct Callback<T>(Box<dyn FnOnce(T) + Send>);

impl<T> Callback<T> {
    pub(crate) fn new(call: impl FnOnce(T) + Send + 'static) -> Self {
        Self(Box::new(call))
    }
}

impl<T: OptionalSend + 'static> Responder<TypeConfig, T> for Callback<T> {
    fn on_complete(self, outcome: T) {
        (self.0)(outcome);
    }
}

pub(crate) type Vote = <TypeConfig as RaftTypeConfig>::Vote;
pub(crate) type LogId = openraft::type_config::alias::LogIdOf<TypeConfig>;
pub(crate) type Membership = openraft::Membership<u64, Place>;
pub(crate) type StoredMembership = openraft::type_config::alias::StoredMembershipOf<TypeConfig>;
pub(crate) type SnapshotMeta = openraft::type_config::alias::SnapshotMetaOf<TypeConfig>;
pub(crate) type Payload = EntryPayload<Commands, u64, Place>;
pub(crate) type CommittedLeaderId = openraft::type_config::alias::CommittedLeaderIdOf<TypeConfig>;

/// Returns the name openraft has for a place in the log.
pub(crate) fn log_id(term: u64, index: u64) -> LogId {
    LogId::new(CommittedLeaderId::new(term), index)
}

/// Returns the term of a place in the log.
pub(crate) fn term_of(id: &LogId) -> u64 {
    id.committed_leader_id().term
}

/// Where a member is reached. Names, resolved at each dial.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Place {
    /// By peers.
    pub(crate) peer_address: String,
    /// By clients.
    pub(crate) client_address: String,
}

/// A [`sched_core::command::Entry`] in its envelope: encoded once by the proposer, decoded once by each replica's apply.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Commands(pub(crate) Bytes);

impl fmt::Debug for Commands {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "commands of {} bytes", self.0.len())
    }
}

impl fmt::Display for Commands {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// The answers to the commands of one entry, in order; none for entries that carry no commands.
#[derive(Clone, PartialEq, Debug, Default)]
pub(crate) struct Replies(pub(crate) Vec<Result<Reply, Reject>>);

/// An entry of the log together with its record: the same bytes go to the disk and to every peer.
pub(crate) struct LogEntry {
    leader: CommittedLeaderId,
    index: u64,
    pub(crate) payload: Payload,
    record: OnceLock<Bytes>,
}

impl LogEntry {
    /// Returns the entry that was read from `record`.
    pub(crate) fn from_record(id: LogId, payload: Payload, record: Bytes) -> Self {
        let kept = OnceLock::new();
        // A new cell is empty.
        let _ = kept.set(record);
        Self {
            leader: *id.committed_leader_id(),
            index: id.index(),
            payload,
            record: kept,
        }
    }

    /// Returns the record, encoded at the first call.
    pub(crate) fn record(&self) -> Bytes {
        self.record
            .get_or_init(|| crate::record::encode_entry(&self.id(), &self.payload))
            .clone()
    }

    /// Returns its place in the log.
    pub(crate) fn id(&self) -> LogId {
        LogId::new(self.leader, self.index)
    }
}

impl RaftEntry for LogEntry {
    type CommittedLeaderId = CommittedLeaderId;
    type Payload = Payload;

    fn new(id: LogId, payload: Payload) -> Self {
        Self {
            leader: *id.committed_leader_id(),
            index: id.index(),
            payload,
            record: OnceLock::new(),
        }
    }

    fn log_id_parts(&self) -> (&CommittedLeaderId, u64) {
        (&self.leader, self.index)
    }

    fn set_log_id(&mut self, new: LogId) {
        self.leader = *new.committed_leader_id();
        self.index = new.index();
        // The record names the place.
        self.record = OnceLock::new();
    }

    fn get_membership(&self) -> Option<Membership> {
        match &self.payload {
            EntryPayload::Membership(membership) => Some(membership.clone()),
            EntryPayload::Blank | EntryPayload::Normal(_) => None,
        }
    }
}

impl Clone for LogEntry {
    fn clone(&self) -> Self {
        Self {
            leader: self.leader,
            index: self.index,
            payload: self.payload.clone(),
            record: self.record.clone(),
        }
    }
}

impl PartialEq for LogEntry {
    fn eq(&self, other: &Self) -> bool {
        self.leader == other.leader && self.index == other.index && self.payload == other.payload
    }
}

impl fmt::Debug for LogEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{:?}", self.id(), self.payload)
    }
}

impl fmt::Display for LogEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.id(), self.payload)
    }
}
