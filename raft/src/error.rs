//! What can go wrong, seen from the callers of this crate.

use crate::role::Leader;
use sched_core::Reject;

/// Why a command was not carried out, or why nobody knows whether it was.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ProposeError {
    /// Every replica refused it: an answer, and nothing was changed.
    #[error(transparent)]
    Reject(#[from] Reject),
    /// Another node decides; nothing was changed here.
    #[error("this node does not lead; {}", leader_hint(.leader.as_ref()))]
    NotLeader {
        /// Who leads, as far as this node knows.
        leader: Option<Leader>,
    },
    /// It may or may not be carried out: retry with the same request key, or look before repeating.
    #[error("the outcome is unknown: {reason}; retry with the same request key")]
    Unknown {
        /// For people.
        reason: String,
    },
    /// There is no room for it in the queue of proposals, or its turn did not come in time: nothing was proposed, try again after the delay.
    #[error("{waiting} commands wait to be proposed, too many to take this one; try again in {retry_after_ms} ms")]
    Overloaded {
        /// How many wait.
        waiting: usize,
        /// When to try again, in milliseconds.
        retry_after_ms: u64,
    },
    /// The command alone is larger than an entry of the log may be.
    #[error("the command takes {bytes} bytes, the limit is {bytes_max}")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The bound.
        bytes_max: usize,
    },
    /// This node is stopping; nothing was proposed.
    #[error("this node is stopping; ask another one")]
    Stopped,
}

fn leader_hint(leader: Option<&Leader>) -> String {
    match leader {
        Some(leader) => format!("node {} at {} does", leader.node, leader.client_address),
        None => "no leader is known, an election may be under way".to_owned(),
    }
}

/// Why a replica could not be started or a change of the cluster could not be made.
#[derive(Debug, thiserror::Error)]
pub enum RaftError {
    /// An option is not acceptable.
    #[error("{option}: {problem}")]
    Option {
        /// Which.
        option: &'static str,
        /// What is wrong, and what would be accepted.
        problem: String,
    },
    /// The data folder could not be opened or read.
    #[error(transparent)]
    Storage(#[from] sched_storage::StorageError),
    /// The address for peers could not be served.
    #[error("serving peers on {address}: {source}")]
    Listen {
        /// Which.
        address: String,
        /// Why.
        source: std::io::Error,
    },
    /// Records in the data folder contradict each other.
    #[error("{path}: {problem}; {advice}")]
    Data {
        /// Which folder or file.
        path: String,
        /// What is wrong.
        problem: String,
        /// What to do.
        advice: String,
    },
    /// The cluster may not be formed, or not with this node.
    #[error("the cluster was not formed: {0}")]
    Formation(String),
    /// The membership was not changed.
    #[error("the membership was not changed: {0}")]
    Membership(String),
    /// Another node decides.
    #[error("this node does not lead; {}", leader_hint(.leader.as_ref()))]
    NotLeader {
        /// Who leads, as far as this node knows.
        leader: Option<Leader>,
    },
    /// It did not end in time.
    #[error("{what} did not end within {after_ms} ms")]
    Timeout {
        /// What.
        what: &'static str,
        /// The limit.
        after_ms: u64,
    },
    /// The replica has stopped.
    #[error("the replica has stopped: {0}")]
    Stopped(String),
}

/// Why the replica stopped by itself. The process must end: it can serve nothing any more.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("group {group} of node {node} in {folder}: {problem}; {advice}")]
pub struct Fatal {
    /// The node.
    pub node: u64,
    /// The group of the log that failed.
    pub group: u32,
    /// Where the data is.
    pub folder: String,
    /// What happened.
    pub problem: String,
    /// What to do.
    pub advice: String,
}
