//! The one thread that writes the log.

use super::disk::key;
use super::inventory::Standing;
use super::{Done, Log, Witness};
use crate::dir::locked;
use crate::error::{Result, StorageError};
use crate::record::LogPosition;
use crate::rocks::LOG_ENTRIES;
use bytes::Bytes;
use rocksdb::{WriteBatch, WriteOptions};
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Instant;

/// Bytes after which a batch is closed: more would delay the first writer in it without saving the disk anything.
const BATCH_BYTES_MAX: usize = 4 << 20;

/// A change of the log on its way to disk.
pub(super) enum What {
    /// Entries from index `first` on.
    Append { first: u64, entries: Vec<Bytes> },
    /// A vote: it is part of the standing.
    Vote,
    /// Removal of `from <= index < to`.
    Truncate { from: u64, to: u64 },
    /// Removal of `first..=upto`.
    Purge { first: u64, upto: u64 },
}

pub(super) struct Write {
    /// Where the log stands after it.
    pub(super) standing: Standing,
    pub(super) what: What,
    pub(super) done: Done,
}

pub(super) struct Writer {
    log: Arc<Log>,
    witness: Witness,
}

/// What is written next.
struct Work {
    writes: Vec<Write>,
    committed: Option<Option<LogPosition>>,
}

impl Write {
    fn bytes(&self) -> usize {
        match &self.what {
            What::Append { entries, .. } => entries.iter().map(Bytes::len).sum(),
            What::Vote | What::Truncate { .. } | What::Purge { .. } => 0,
        }
    }
}

impl Writer {
    pub(super) fn new(log: Arc<Log>, witness: Witness) -> Self {
        Self { log, witness }
    }

    /// Writes until the last handle is gone and the queue is empty, or until the first failure.
    pub(super) fn run(mut self) {
        // Also when a callback panics: nobody may wait for a thread that is gone.
        let _answer = AnswerAll {
            log: Arc::clone(&self.log),
        };
        while let Some(work) = self.next() {
            let written = self.write(&work);
            match written {
                Ok(()) => self.completed(work),
                Err(e) => return self.failed(work, e),
            }
        }
    }

    /// Waits for work; `None` when the log is closed.
    fn next(&self) -> Option<Work> {
        let mut now = locked(&self.log.now);
        // The commit marker waits for the next write, or for the end: alone it is worth none.
        while now.queue.is_empty() {
            if now.closing {
                if now.committed_waits {
                    break;
                }
                return None;
            }
            now = self.log.wake.wait(now).unwrap_or_else(PoisonError::into_inner);
        }
        let mut writes = Vec::with_capacity(now.queue.len());
        let mut bytes = 0;
        while bytes < BATCH_BYTES_MAX
            && let Some(write) = now.queue.pop_front()
        {
            bytes += write.bytes();
            writes.push(write);
        }
        let committed = std::mem::take(&mut now.committed_waits).then_some(now.committed);
        Some(Work { writes, committed })
    }

    fn write(&mut self, work: &Work) -> Result<()> {
        let started = Instant::now();
        let mut batch = WriteBatch::default();
        for write in &work.writes {
            self.stage(&mut batch, &write.what)?;
        }
        let last = work.writes.last().map(|w| &w.standing);
        if let Some(standing) = last {
            self.log.disk.put_standing(&mut batch, standing)?;
        }
        if let Some(committed) = work.committed {
            self.log.disk.put_committed(&mut batch, committed)?;
        }
        let mut options = WriteOptions::default();
        // The commit marker alone may be lost: it is found again when a leader speaks.
        options.set_sync(last.is_some());
        self.log
            .disk
            .db
            .write_opt(batch, &options)
            .map_err(|e| self.log.disk.on_use("write the log", &e))?;
        if let Some(standing) = last {
            self.witness.note(standing.number)?;
            let elapsed = u64::try_from(started.elapsed().as_nanos()).unwrap_or(u64::MAX);
            self.log.counters.syncs.fetch_add(1, Ordering::Relaxed);
            self.log.counters.write_ns.fetch_add(elapsed, Ordering::Relaxed);
        }
        Ok(())
    }

    fn stage(&self, batch: &mut WriteBatch, what: &What) -> Result<()> {
        let log = self.log.disk.cf(LOG_ENTRIES)?;
        match what {
            What::Append { first, entries } => {
                for (index, bytes) in (*first..).zip(entries) {
                    batch.put_cf(log, key(index), bytes);
                    self.log.counters.bytes.fetch_add(bytes.len() as u64, Ordering::Relaxed);
                }
                self.log
                    .counters
                    .entries
                    .fetch_add(entries.len() as u64, Ordering::Relaxed);
            }
            What::Vote => {}
            What::Truncate { from, to } => batch.delete_range_cf(log, key(*from), key(*to)),
            // From the first entry, never from zero: a range deletion covers as little as it can.
            What::Purge { first, upto } if first <= upto => batch.delete_range_cf(log, key(*first), key(upto + 1)),
            What::Purge { .. } => {}
        }
        Ok(())
    }

    fn completed(&self, work: Work) {
        if let Some(last) = work.writes.last() {
            locked(&self.log.now).tail.evict(last.standing.number);
        }
        let purged = work.writes.iter().filter_map(|w| match w.what {
            What::Purge { first, upto } if first < upto => Some((first, upto)),
            _ => None,
        });
        let purged: Vec<_> = purged.collect();
        for write in work.writes {
            (write.done)(Ok(()));
        }
        for (first, last) in purged {
            self.drop_files(first, last);
        }
    }

    /// Gives back files that hold nothing but purged entries, without waiting for a compaction.
    fn drop_files(&self, first: u64, last: u64) {
        let Ok(cf) = self.log.disk.cf(LOG_ENTRIES) else { return };
        if let Err(e) = self.log.disk.db.delete_file_in_range_cf(cf, key(first), key(last)) {
            // The entries are deleted already; their space comes back with the next compaction.
            tracing::warn!(error = %e, "files of purged log entries stay for now");
        }
    }

    fn failed(&self, work: Work, e: StorageError) {
        tracing::error!(error = %e, "the log could not be written and takes no more");
        locked(&self.log.now).failure = Some(e.clone());
        for write in work.writes {
            (write.done)(Err(e.clone()));
        }
    }
}

/// Closes the log when its writer ends, and answers all that still waits.
struct AnswerAll {
    log: Arc<Log>,
}

impl Drop for AnswerAll {
    fn drop(&mut self) {
        let (waiting, refusal) = {
            let mut now = locked(&self.log.now);
            let ended = || StorageError::misuse(&self.log.disk.folder, "the log's writer has ended");
            now.failure.get_or_insert_with(ended);
            (std::mem::take(&mut now.queue), now.refusal())
        };
        for write in waiting {
            // `refusal` is there: the failure was just set.
            let refusal = refusal
                .clone()
                .unwrap_or_else(|| StorageError::misuse(&self.log.disk.folder, "the log is closed"));
            (write.done)(Err(refusal));
        }
    }
}
