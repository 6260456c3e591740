//! The small records storage reads itself: who owns the folder, and how far log and tables have come.

use sched_core::ids::NodeId;
use serde::{Deserialize, Serialize};

/// A place in the log, as consensus names it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct LogPosition {
    /// The term of the leader that wrote the entry.
    pub term: u64,
    /// That leader.
    pub node: u64,
    /// The index of the entry.
    pub index: u64,
}

/// What the tables hold: written in the same batch as the changes it describes.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Applied {
    /// The last entry that was applied.
    pub last: Option<LogPosition>,
    /// The membership in force there, encoded by consensus.
    pub membership: Vec<u8>,
}

impl Applied {
    /// Returns the index of the last entry that was applied.
    pub fn index(&self) -> Option<u64> {
        self.last.map(|last| last.index)
    }
}

/// Who a data folder belongs to.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Identity {
    /// Version of the folder's layout.
    pub format: u32,
    /// The node: random, made with the folder, never reused.
    pub node: NodeId,
    /// The cluster, once the node belongs to one.
    pub cluster: Option<[u8; 16]>,
}
