//! The log's database.

use super::Now;
use super::inventory::{Inventory, Standing, fingerprint};
use super::reader::Read;
use super::tail::Tail;
use crate::error::{REJOIN, Result, StorageError};
use crate::record::LogPosition;
use crate::rocks::{self, LOG_ENTRIES, LOG_META};
use bytes::Bytes;
use rocksdb::{ColumnFamily, DB, Direction, IteratorMode, ReadOptions, WriteBatch};
use sched_core::codec::{self, Kind};
use serde::de::DeserializeOwned;
use std::collections::VecDeque;
use std::path::PathBuf;

const KEY_STANDING: &[u8] = b"standing";
const KEY_COMMITTED: &[u8] = b"committed";
/// Read ahead at the start, when every entry is read.
const READ_AHEAD_BYTES: usize = 1 << 20;

/// The log's database and where it lies.
pub(super) struct Disk {
    pub(super) db: DB,
    pub(super) folder: PathBuf,
}

pub(super) fn key(index: u64) -> [u8; 8] {
    index.to_be_bytes()
}

impl Disk {
    pub(super) fn cf(&self, name: &'static str) -> Result<&ColumnFamily> {
        self.db
            .cf_handle(name)
            .ok_or_else(|| self.damaged(format!("column family {name:?} is missing")))
    }

    pub(super) fn on_use(&self, action: &'static str, e: &rocksdb::Error) -> StorageError {
        rocks::on_use(&self.folder, action, e, REJOIN)
    }

    pub(super) fn damaged(&self, problem: String) -> StorageError {
        StorageError::damaged(&self.folder, problem, REJOIN)
    }

    fn meta<T: DeserializeOwned + Default>(&self, key: &'static [u8], kind: Kind) -> Result<T> {
        let bytes = self.db.get_cf(self.cf(LOG_META)?, key);
        let Some(bytes) = bytes.map_err(|e| self.on_use("read the log's markers", &e))? else {
            return Ok(T::default());
        };
        let damaged = |e| self.damaged(format!("marker {:?}: {e}", String::from_utf8_lossy(key)));
        codec::decode(kind, &bytes).map_err(damaged)
    }

    /// Stages where the log stands after a batch.
    pub(super) fn put_standing(&self, batch: &mut WriteBatch, standing: &Standing) -> Result<()> {
        batch.put_cf(
            self.cf(LOG_META)?,
            KEY_STANDING,
            codec::encode(Kind::LogStanding, standing),
        );
        Ok(())
    }

    /// Stages how far the log is known to be committed.
    pub(super) fn put_committed(&self, batch: &mut WriteBatch, committed: Option<LogPosition>) -> Result<()> {
        batch.put_cf(
            self.cf(LOG_META)?,
            KEY_COMMITTED,
            codec::encode(Kind::LogPosition, &committed),
        );
        Ok(())
    }

    /// Reads where the log stood after its last write.
    pub(super) fn standing(&self) -> Result<Standing> {
        self.meta(KEY_STANDING, Kind::LogStanding)
    }

    /// Reads every entry and compares what is found with where the log stood.
    pub(super) fn load(&self, standing: &Standing, cache_bytes: usize) -> Result<Now> {
        let mut inventory = Inventory::empty_at(standing);
        let mut tail = Tail::new(standing.first, cache_bytes);
        let mut options = ReadOptions::default();
        // From an explicit lower bound, so that nothing walks over what was purged.
        options.set_iterate_lower_bound(key(standing.first).to_vec());
        options.set_readahead_size(READ_AHEAD_BYTES);
        options.fill_cache(false);
        for item in self
            .db
            .iterator_cf_opt(self.cf(LOG_ENTRIES)?, options, IteratorMode::Start)
        {
            let (found, bytes) = item.map_err(|e| self.on_use("read the log", &e))?;
            let next = inventory.standing().next;
            if *found != key(next) {
                return Err(self.damaged(format!("log entry {next} is missing")));
            }
            inventory.append(fingerprint(next, &bytes));
            tail.push(Bytes::from(Vec::from(bytes)), standing.number);
            tail.evict(standing.number);
        }
        if inventory.standing() != standing {
            let found = inventory.standing();
            return Err(self.damaged(format!(
                "entries {}..{} with the sum {:016x} were acknowledged, but {}..{} with the sum {:016x} are there",
                standing.first, standing.next, standing.sum, found.first, found.next, found.sum
            )));
        }
        Ok(Now {
            inventory,
            tail,
            committed: self.meta(KEY_COMMITTED, Kind::LogPosition)?,
            committed_waits: false,
            queue: VecDeque::new(),
            removals: 0,
            failure: None,
            closing: false,
        })
    }

    /// Reads on from disk up to `before`; returns the first index that should be there and is not.
    pub(super) fn read(&self, read: &mut Read, before: u64) -> Result<Option<u64>> {
        let from = key(read.at);
        let mut options = ReadOptions::default();
        options.set_iterate_range(from.to_vec()..key(before).to_vec());
        let mode = IteratorMode::From(&from, Direction::Forward);
        for item in self.db.iterator_cf_opt(self.cf(LOG_ENTRIES)?, options, mode) {
            let (found, bytes) = item.map_err(|e| self.on_use("read the log", &e))?;
            if *found != key(read.at) {
                return Ok(Some(read.at));
            }
            if !read.take(Bytes::from(Vec::from(bytes))) {
                return Ok(None);
            }
        }
        Ok((read.at < before).then_some(read.at))
    }
}
