//! Who leads and who belongs to the cluster, as one node sees it.

use sched_core::NodeId;

/// The node that decides, and where to find it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Leader {
    /// Which node.
    pub node: NodeId,
    /// Where clients reach it: `host:port`, a name that is resolved at each dial.
    pub client_address: String,
    /// Where peers reach it.
    pub peer_address: String,
}

/// What this node is at the moment.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Role {
    /// The newest term this node has heard of.
    pub term: u64,
    /// Who leads this term, when that is known.
    pub leader: Option<Leader>,
    /// This node leads `term` *and* has applied the blank entry of its own term: its tables hold everything that was
    /// acknowledged before, so the duties of a leader may run.
    pub leading: bool,
}

/// One member of the cluster.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Member {
    /// Which node.
    pub node: NodeId,
    /// Where peers reach it.
    pub peer_address: String,
    /// Where clients reach it.
    pub client_address: String,
    /// It votes; otherwise it only learns.
    pub voter: bool,
    /// It answered this node within the last election timeout. Only a leader watches its followers; a follower knows this of the leader.
    pub reachable: Option<bool>,
    /// Entries it is behind the leader's log; known on the leader only.
    pub lag_entries: Option<u64>,
    /// Why it refuses this node's messages, as long as it does: one of the two was started with a folder that is not its own.
    pub refuses: Option<String>,
}

/// How far the forming of the cluster has come.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Formation {
    /// The initial members look for each other.
    Forming {
        /// Whom this node waits for and why, one line each.
        waiting: Vec<String>,
    },
    /// The node belongs to a cluster.
    Formed {
        /// Its name.
        cluster: [u8; 16],
    },
    /// It will not be formed as things are: an operator must act.
    Refused {
        /// Why, and what to do.
        reason: String,
    },
}

/// Counters of one replica, for its metrics page. All count from the start of the process.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Metrics {
    /// The newest term this node has heard of.
    pub term: u64,
    /// This node leads.
    pub leading: bool,
    /// Index of the newest entry in the log.
    pub last_log_index: u64,
    /// Index of the newest entry known to be on a quorum.
    pub committed_index: u64,
    /// Index of the newest entry that the tables hold.
    pub applied_index: u64,
    /// Index of the newest entry in a snapshot.
    pub snapshot_index: u64,
    /// Index of the newest entry that was purged from the log.
    pub purged_index: u64,
    /// Milliseconds since a quorum last answered this leader; absent on followers.
    pub quorum_age_ms: Option<u64>,
    /// Commands accepted into the queue of the proposer.
    pub proposed_items: u64,
    /// Entries proposed for them.
    pub proposed_entries: u64,
    /// Calls refused because the queue was full.
    pub overloaded: u64,
    /// Commands whose outcome remained unknown.
    pub unknown: u64,
    /// Commands that wait in the queue now.
    pub waiting_items: u64,
    /// Entries applied.
    pub applied_entries: u64,
    /// Commands applied.
    pub applied_items: u64,
    /// Batches written to the tables.
    pub applied_batches: u64,
    /// Elections this node has won.
    pub elections_won: u64,
    /// Snapshots built.
    pub snapshots_built: u64,
    /// Snapshots sent to others.
    pub snapshots_sent: u64,
    /// Snapshots installed from others.
    pub snapshots_installed: u64,
    /// Messages of peers that were refused.
    pub peer_refused: u64,
    /// Messages of this node that peers refused.
    pub refused_by_peers: u64,
    /// Synced writes of the log.
    pub log_syncs: u64,
    /// Nanoseconds spent in them.
    pub log_sync_ns: u64,
}
