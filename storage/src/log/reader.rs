//! Reading the log: from memory what is there, from disk what is older.

use super::{Disk, KEY_COMMITTED, KEY_NUMBER, KEY_PURGED, KEY_VOTE, LogStore, Now, Tail, key};
use crate::dir::locked;
use crate::error::{REJOIN, Result, StorageError};
use crate::rocks::LOG_ENTRIES;
use bytes::Bytes;
use rocksdb::{Direction, IteratorMode, ReadOptions};
use std::collections::VecDeque;

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
struct Read {
    /// The next index wanted.
    at: u64,
    to: u64,
    budget: usize,
    removals: u64,
    found: Vec<(u64, Bytes)>,
}

impl Read {
    fn start(now: &Now, from: u64, to: u64, budget: usize) -> Self {
        let at = from.max(now.first);
        Self {
            at,
            to: to.min(now.tail.next()),
            budget,
            removals: now.removals,
            found: Vec::new(),
        }
    }

    /// Takes the next entry, unless the budget is used up; the first one always fits.
    fn take(&mut self, bytes: Bytes) -> bool {
        if !self.found.is_empty() && bytes.len() > self.budget {
            return false;
        }
        self.budget = self.budget.saturating_sub(bytes.len());
        self.found.push((self.at, bytes));
        self.at += 1;
        true
    }

    fn from_memory(&mut self, now: &Now) -> Step {
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
        Ok((now.first < now.tail.next()).then_some(now.first))
    }

    /// Returns the index and the bytes of the last entry.
    ///
    /// # Errors
    /// The entry is damaged or missing.
    pub fn last_entry(&self) -> Result<Option<(u64, Bytes)>> {
        let next = {
            let now = locked(&self.log().now);
            if now.first == now.tail.next() {
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
            let step = read.from_memory(&locked(&log.now));
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

impl Disk {
    /// Reads on from disk up to `before`; returns the first index that should be there and is not.
    fn read(&self, read: &mut Read, before: u64) -> Result<Option<u64>> {
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

    /// Reads where the log stands, and the number of its last write.
    pub(super) fn load(&self, cache_bytes: usize) -> Result<(Now, u64)> {
        let number = match self.meta(KEY_NUMBER)? {
            None => 0,
            Some(bytes) => u64::from_be_bytes(bytes.try_into().map_err(|b: Vec<u8>| {
                StorageError::damaged(
                    &self.folder,
                    format!("the number of writes has {} bytes", b.len()),
                    REJOIN,
                )
            })?),
        };
        let purged = self.position(KEY_PURGED)?;
        let begin = purged.map_or(0, |p| p.index + 1);
        let (first, next) = self.ends(begin)?;
        if purged.is_some() && first != begin {
            let problem = format!("entries up to {} were purged, but the first one is {first}", begin - 1);
            return Err(StorageError::damaged(&self.folder, problem, REJOIN));
        }
        let now = Now {
            first,
            tail: Tail::new(next, cache_bytes),
            vote: self.meta(KEY_VOTE)?.map(Bytes::from),
            purged,
            committed: self.position(KEY_COMMITTED)?,
            committed_waits: false,
            queue: VecDeque::new(),
            issued: number,
            removals: 0,
            failure: None,
            closing: false,
        };
        Ok((now, number))
    }

    /// Returns the index of the first entry from `begin` on and the index after the last; `begin` twice without entries.
    ///
    /// Looks from an explicit lower bound, so that it does not walk over what was purged.
    fn ends(&self, begin: u64) -> Result<(u64, u64)> {
        match (
            self.end(begin, Direction::Forward)?,
            self.end(begin, Direction::Reverse)?,
        ) {
            (Some(first), Some(last)) => Ok((first, last + 1)),
            _ => Ok((begin, begin)),
        }
    }

    /// Returns the index of the first or the last entry from `begin` on.
    fn end(&self, begin: u64, towards: Direction) -> Result<Option<u64>> {
        let mut options = ReadOptions::default();
        options.set_iterate_lower_bound(key(begin).to_vec());
        let mode = match towards {
            Direction::Forward => IteratorMode::Start,
            Direction::Reverse => IteratorMode::End,
        };
        let Some(item) = self.db.iterator_cf_opt(self.cf(LOG_ENTRIES)?, options, mode).next() else {
            return Ok(None);
        };
        let (found, _) = item.map_err(|e| self.on_use("read the log", &e))?;
        let index: [u8; 8] = (*found).try_into().map_err(|_| {
            StorageError::damaged(
                &self.folder,
                format!("a log key has {} bytes instead of 8", found.len()),
                REJOIN,
            )
        })?;
        Ok(Some(u64::from_be_bytes(index)))
    }
}
