//! Reading the log: from memory what is there, from disk what is older.

use super::{LogStore, Now};
use crate::dir::locked;
use crate::error::{REJOIN, Result, StorageError};
use bytes::Bytes;

/// What one step of a read came to.
enum Step {
    /// The range or the budget is used up.
    Done,
    /// Entries before this index are on disk only.
    Disk(u64),
    /// The log was cut while it was read.
    Again,
}

/// A read under way.
pub(super) struct Read {
    /// The next index wanted.
    pub(super) at: u64,
    to: u64,
    budget: usize,
    removals: u64,
    found: Vec<(u64, Bytes)>,
}

impl Read {
    fn start(now: &Now, from: u64, to: u64, budget: usize) -> Self {
        let at = from.max(now.inventory.standing().first);
        Self {
            at,
            to: to.min(now.tail.next()),
            budget,
            removals: now.removals,
            found: Vec::new(),
        }
    }

    /// Takes the next entry, unless the budget is used up; the first one always fits.
    pub(super) fn take(&mut self, bytes: Bytes) -> bool {
        if !self.found.is_empty() && bytes.len() > self.budget {
            return false;
        }
        self.budget = self.budget.saturating_sub(bytes.len());
        self.found.push((self.at, bytes));
        self.at += 1;
        true
    }

    fn take_from_memory(&mut self, now: &Now) -> Step {
        if now.removals != self.removals {
            return Step::Again;
        }
        while self.at < self.to {
            let Some(bytes) = now.tail.get(self.at) else {
                return Step::Disk(now.tail.first().min(self.to));
            };
            if !self.take(bytes.clone()) {
                break;
            }
        }
        Step::Done
    }
}

impl LogStore {
    /// Returns the index of the first entry.
    ///
    /// # Errors
    /// None today; the index is in memory.
    pub fn first_index(&self) -> Result<Option<u64>> {
        let now = locked(&self.log().now);
        Ok((now.inventory.standing().first < now.tail.next()).then_some(now.inventory.standing().first))
    }

    /// Returns the index and the bytes of the last entry.
    ///
    /// # Errors
    /// The entry is damaged or missing.
    pub fn last_entry(&self) -> Result<Option<(u64, Bytes)>> {
        let next = {
            let now = locked(&self.log().now);
            if now.inventory.standing().first == now.tail.next() {
                return Ok(None);
            }
            now.tail.next()
        };
        Ok(self.read(next - 1, next, 0)?.pop())
    }

    /// Returns the entries with `from <= index < to`, as many as fit into `max_bytes`, but at least one if there is one.
    ///
    /// Indexes before the first entry and after the last one are left out. Blocks when entries are no longer in memory.
    ///
    /// # Errors
    /// A hole within the range or a damaged record, with the file.
    pub fn read(&self, from: u64, to: u64, max_bytes: usize) -> Result<Vec<(u64, Bytes)>> {
        let log = self.log();
        let mut read = Read::start(&locked(&log.now), from, to, max_bytes);
        loop {
            let step = read.take_from_memory(&locked(&log.now));
            match step {
                Step::Done => return Ok(read.found),
                Step::Again => read = Read::start(&locked(&log.now), from, to, max_bytes),
                Step::Disk(before) => {
                    let missing = log.disk.read(&mut read, before)?;
                    let now = locked(&log.now);
                    if now.removals != read.removals {
                        // Cut while we read: what we found may be what was cut.
                        read = Read::start(&now, from, to, max_bytes);
                    } else if let Some(index) = missing {
                        let problem = format!("log entry {index} is missing");
                        return Err(StorageError::damaged(&log.disk.folder, problem, REJOIN));
                    } else if read.at < before {
                        return Ok(read.found);
                    }
                }
            }
        }
    }
}
