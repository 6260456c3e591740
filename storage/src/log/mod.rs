//! The Raft log.

use crate::StorageError;
use crate::error::Result;
use crate::record::LogPosition;
use bytes::Bytes;

/// Called once when a write is durable, or with the reason why it never will be.
///
/// Runs on the log's writer thread, in the order of the writes: it must be quick and must not block.
pub type Done = Box<dyn FnOnce(std::result::Result<(), StorageError>) + Send>;

/// A handle of the log.
#[derive(Clone)]
pub struct LogStore {}

/// What the log has done since it was opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct LogStats {
    /// Synced batches.
    pub syncs: u64,
    /// Entries in them.
    pub entries: u64,
    /// Bytes of these entries.
    pub bytes: u64,
    /// Time spent writing and syncing, in nanoseconds.
    pub write_ns: u64,
}

impl LogStore {
    /// Appends entries that follow the last one. When it returns they can be read; `done` is called when they are durable.
    pub fn append(&self, _entries: Vec<(u64, Bytes)>, _done: Done) {
        unimplemented!()
    }
    /// Stores the vote, durably, in order with all other writes of the log.
    pub async fn save_vote(&self, _vote: Bytes) -> Result<()> {
        unimplemented!()
    }
    /// Returns the vote last stored.
    pub fn read_vote(&self) -> Result<Option<Bytes>> {
        unimplemented!()
    }
    /// Removes every entry after `last`, or all of them for `None`, durably.
    pub async fn truncate_after(&self, _last: Option<u64>) -> Result<()> {
        unimplemented!()
    }
    /// Removes every entry up to and including `upto`, and remembers its position.
    pub async fn purge(&self, _upto: LogPosition) -> Result<()> {
        unimplemented!()
    }
    /// Returns the position last purged.
    pub fn read_purged(&self) -> Result<Option<LogPosition>> {
        unimplemented!()
    }
    /// Returns the index of the first entry.
    pub fn first_index(&self) -> Result<Option<u64>> {
        unimplemented!()
    }
    /// Returns the index and the bytes of the last entry.
    pub fn last_entry(&self) -> Result<Option<(u64, Bytes)>> {
        unimplemented!()
    }
    /// Returns the entries with `from <= index < to`, as many as fit into `max_bytes`, but at least one if there is one.
    ///
    /// # Errors
    /// A hole within the range or a damaged record.
    pub fn read(&self, _from: u64, _to: u64, _max_bytes: usize) -> Result<Vec<(u64, Bytes)>> {
        unimplemented!()
    }
    /// Remembers how far the log is known to be committed; not synced, it may be older after a crash.
    pub fn save_committed(&self, _committed: Option<LogPosition>) -> Result<()> {
        unimplemented!()
    }
    /// Returns how far the log was known to be committed.
    pub fn read_committed(&self) -> Result<Option<LogPosition>> {
        unimplemented!()
    }
    /// Returns the first failure of a write, after which the log takes no more.
    pub fn failure(&self) -> Option<StorageError> {
        unimplemented!()
    }
    /// Returns what the log has done since it was opened.
    pub fn stats(&self) -> LogStats {
        unimplemented!()
    }
}
