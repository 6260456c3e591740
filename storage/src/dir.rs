//! The data folder.

use crate::error::Result;
use crate::record::Identity;
use crate::{LogStore, Snapshots, StateStore};
use std::path::{Path, PathBuf};

/// Bounds of memory and disk, with defaults that suit a node of 200 MiB.
#[derive(Clone, Debug)]
pub struct StorageOptions {
    /// Durable log entries kept in memory for replication and apply, in bytes; entries not yet durable come on top.
    pub log_cache_bytes: usize,
    /// The log's write buffer, in bytes.
    pub log_buffer_bytes: usize,
    /// The tables' write buffers together, in bytes.
    pub state_buffer_bytes: usize,
    /// Cached blocks of both databases, in bytes.
    pub block_cache_bytes: usize,
    /// Snapshots kept.
    pub snapshots_kept: usize,
}

impl Default for StorageOptions {
    fn default() -> Self {
        Self {
            log_cache_bytes: 32 << 20,
            log_buffer_bytes: 24 << 20,
            state_buffer_bytes: 32 << 20,
            block_cache_bytes: 32 << 20,
            snapshots_kept: 2,
        }
    }
}

/// An open data folder; the lock on it is held until the last clone is dropped.
#[derive(Clone)]
pub struct DataDir {}

/// One Raft group's log, tables and snapshots. All handles are cheap to clone.
#[derive(Clone)]
pub struct Group {
    /// The Raft log and vote.
    pub log: LogStore,
    /// The state tables.
    pub state: StateStore,
    /// Snapshots of the tables.
    pub snapshots: Snapshots,
}

impl DataDir {
    /// Opens a data folder, or makes one where there is none.
    pub fn open(_path: &Path) -> Result<Self> {
        unimplemented!()
    }
    /// Opens a data folder with other bounds than the default ones.
    pub fn open_with(_path: &Path, _options: StorageOptions) -> Result<Self> {
        unimplemented!()
    }
    /// Returns who the folder belongs to.
    pub fn identity(&self) -> Identity {
        unimplemented!()
    }
    /// Makes the folder belong to a cluster, durably.
    pub fn set_cluster(&self, _id: [u8; 16]) -> Result<()> {
        unimplemented!()
    }
    /// Stores what the members agreed on while the cluster forms, durably.
    pub fn save_formation(&self, _bytes: &[u8]) -> Result<()> {
        unimplemented!()
    }
    /// Returns what [`save_formation`](Self::save_formation) stored.
    pub fn read_formation(&self) -> Result<Option<Vec<u8>>> {
        unimplemented!()
    }
    /// Opens a group's log, tables and snapshots. Each group is opened once per process.
    pub fn group(&self, _group: u32) -> Result<Group> {
        unimplemented!()
    }
    /// Returns the folder for the worker's journal and output files.
    pub fn worker_dir(&self) -> PathBuf {
        unimplemented!()
    }
    /// Returns the folder for work in progress, wiped at start.
    pub fn tmp_dir(&self) -> PathBuf {
        unimplemented!()
    }
}
