//! The Raft log: entries, vote, and how far it was purged and committed.
//!
//! - What was handed over can be read at once, durable or not.
//! - All writes form one stream. One thread takes everything that waits, writes it in one batch, syncs once, and tells
//!   the writers in the order of the stream: many writers share one sync.
//! - The first failure is the last: after it nothing is written any more, because what a failed sync left on disk is
//!   unknown. The process must end and start again.
//! - There is no hole between the first and the last entry.

mod disk;
mod inventory;
mod reader;
mod tail;
mod witness;
mod writer;

use crate::dir::{GroupContext, locked};
use crate::error::{REJOIN, Result, StorageError};
use crate::files;
use crate::record::LogPosition;
use bytes::Bytes;
use disk::Disk;
use inventory::{Inventory, fingerprint};
use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::{self, JoinHandle};
use tail::Tail;
use tokio::sync::oneshot;
use witness::Witness;
use writer::{What, Write, Writer};

/// Called once when a write is durable, or with the reason why it never will be.
///
/// Runs on the log's writer thread, in the order of the writes: it must be quick and must not block.
pub type Done = Box<dyn FnOnce(std::result::Result<(), StorageError>) + Send>;

/// The folder of the log's database within the group's.
const FOLDER: &str = "log";
/// The witness, beside the folder it watches.
const WITNESS: &str = "SYNCED";

/// A handle of the log. The writer thread ends with the last one.
#[derive(Clone)]
pub struct LogStore {
    handle: Arc<Handle>,
}

struct Handle {
    log: Arc<Log>,
    writer: Option<JoinHandle<()>>,
    _context: GroupContext,
}

/// What handles and writer share.
struct Log {
    disk: Disk,
    now: Mutex<Now>,
    wake: Condvar,
    counters: Counters,
}

/// The log as its callers see it, ahead of the disk by what is queued.
struct Now {
    inventory: Inventory,
    tail: Tail,
    committed: Option<LogPosition>,
    /// Whether `committed` is newer than on disk.
    committed_waits: bool,
    /// Waiting writes. Bounded by the callers: consensus holds what it was given until it is told that it is durable.
    queue: VecDeque<Write>,
    /// Truncations and purges so far: a reader that sees this change starts again.
    removals: u64,
    failure: Option<StorageError>,
    closing: bool,
}

#[derive(Default)]
struct Counters {
    syncs: AtomicU64,
    entries: AtomicU64,
    bytes: AtomicU64,
    write_ns: AtomicU64,
}

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
    /// Whether the group has, or had, a log: from the first opening on, its witness is there.
    pub(crate) fn exists(ctx: &GroupContext) -> bool {
        ctx.dir.join(WITNESS).exists()
    }

    pub(crate) fn open(ctx: &GroupContext) -> Result<Self> {
        let folder = ctx.dir.join(FOLDER);
        let witness_path = ctx.dir.join(WITNESS);
        let witness = Witness::open(&witness_path)?;
        // Only a log that never was may be made: a database that lost its beginning must not be taken for an empty one.
        let create = witness.is_none();
        if create {
            files::make_dir(&folder)?;
        }
        let db = ctx.shared.open_log(&folder, create)?;
        let disk = Disk { db, folder };
        let standing = disk.standing()?;
        let number = standing.number;
        let witness = match witness {
            Some((witness, seen)) => {
                refuse_loss(&disk.folder, seen, number)?;
                witness
            }
            None if number == 0 => Witness::create(&witness_path)?,
            None => {
                let problem = "the file is missing although the log is not empty";
                return Err(StorageError::damaged(&witness_path, problem, REJOIN));
            }
        };
        let now = disk.load(&standing, ctx.shared.options().log_cache_bytes)?;
        let log = Arc::new(Log {
            disk,
            now: Mutex::new(now),
            wake: Condvar::new(),
            counters: Counters::default(),
        });
        let writer = Writer::new(Arc::clone(&log), witness);
        let spawned = thread::Builder::new()
            .name("raft-log".to_owned())
            .spawn(move || writer.run());
        let writer = spawned.map_err(|e| StorageError::io(&log.disk.folder, "start the writer thread of", e))?;
        Ok(Self {
            handle: Arc::new(Handle {
                log,
                writer: Some(writer),
                _context: ctx.clone(),
            }),
        })
    }

    fn log(&self) -> &Log {
        &self.handle.log
    }

    /// Appends entries that follow the last one, or begin an empty log.
    ///
    /// When it returns they can be read; `done` is called when they are durable. An empty list is durable when
    /// everything before it is.
    pub fn append(&self, entries: Vec<(u64, Bytes)>, done: Done) {
        let log = self.log();
        // Outside the lock: readers and the writer go on.
        let prints: Vec<u64> = entries
            .iter()
            .map(|(index, bytes)| fingerprint(*index, bytes))
            .collect();
        let mut now = locked(&log.now);
        let first = match now.accepts(&log.disk.folder, &entries) {
            Ok(first) => first,
            Err(e) => {
                drop(now);
                return done(Err(e));
            }
        };
        let number = now.inventory.standing().number + 1;
        let mut list = Vec::with_capacity(entries.len());
        for ((_, bytes), print) in entries.into_iter().zip(prints) {
            now.inventory.append(print);
            now.tail.push(bytes.clone(), number);
            list.push(bytes);
        }
        log.issue(&mut now, What::Append { first, entries: list }, done);
    }

    /// Stores the vote, durably, in order with all other writes. Takes its place in that order when called.
    pub fn save_vote(&self, vote: Bytes) -> impl Future<Output = Result<()>> + Send + use<> {
        let ticket = self.order(|now| {
            now.inventory.vote(vote.to_vec());
            Ok(Some(What::Vote))
        });
        ticket.wait()
    }

    /// Removes every entry after `last`, or all of them for `None`. Takes its place in the order when called.
    ///
    /// Readers no longer see the entries when it returns its future; the future ends when the removal is durable.
    pub fn truncate_after(&self, last: Option<u64>) -> impl Future<Output = Result<()>> + Send + use<> {
        let folder = self.log().disk.folder.clone();
        let ticket = self.order(|now| {
            let from = last.map_or(0, |last| last.saturating_add(1));
            let next = now.tail.next();
            if from >= next {
                return Ok(None);
            }
            if now
                .inventory
                .standing()
                .purged
                .is_some_and(|purged| from <= purged.index)
            {
                return Err(StorageError::misuse(
                    &folder,
                    format!("entries from {from} on are to be removed, but are already purged"),
                ));
            }
            now.tail.truncate(from);
            now.inventory.truncate(from);
            now.removals += 1;
            Ok(Some(What::Truncate { from, to: next }))
        });
        ticket.wait()
    }

    /// Removes every entry up to and including `upto`, and remembers its position. Takes its place in the order when
    /// called. A position that is not after the one last purged changes nothing.
    ///
    /// Purge only what a durable snapshot holds: see [`crate::Snapshots`].
    pub fn purge(&self, upto: LogPosition) -> impl Future<Output = Result<()>> + Send + use<> {
        let ticket = self.order(|now| {
            let standing = now.inventory.standing();
            if standing.purged.is_some_and(|purged| purged.index >= upto.index) {
                return Ok(None);
            }
            let first = standing.first;
            now.tail.purge(upto.index + 1);
            now.inventory.purge(upto);
            now.removals += 1;
            Ok(Some(What::Purge {
                first,
                upto: upto.index,
            }))
        });
        ticket.wait()
    }

    /// Makes a change of the log visible and queues its write in one step; `None` means that there is nothing to write.
    fn order(&self, change: impl FnOnce(&mut Now) -> Result<Option<What>>) -> Ticket {
        let log = self.log();
        let folder = log.disk.folder.clone();
        let mut now = locked(&log.now);
        let changed = match now.refusal() {
            Some(e) => Err(e),
            None => change(&mut now),
        };
        let told = changed.map(|what| {
            // Without a write of its own it still waits for those before it: they may be what the caller relies on.
            let what = what.unwrap_or(What::Append {
                first: now.tail.next(),
                entries: Vec::new(),
            });
            let (tell, told) = oneshot::channel();
            // A caller that no longer waits does not want to know.
            log.issue(&mut now, what, Box::new(move |result| drop(tell.send(result))));
            told
        });
        Ticket { told, folder }
    }

    /// Remembers how far the log is known to be committed. Returns at once; it is written with the next entries, so that after a crash an
    /// older value may be back.
    ///
    /// # Errors
    /// The log is closed after a failure.
    pub fn save_committed(&self, committed: Option<LogPosition>) -> Result<()> {
        let log = self.log();
        let mut now = locked(&log.now);
        if let Some(e) = now.refusal() {
            return Err(e);
        }
        now.committed = committed;
        now.committed_waits = true;
        Ok(())
    }

    /// Returns the vote last stored.
    ///
    /// # Errors
    /// None today; the vote is in memory.
    pub fn read_vote(&self) -> Result<Option<Bytes>> {
        Ok(locked(&self.log().now)
            .inventory
            .standing()
            .vote
            .clone()
            .map(Bytes::from))
    }

    /// Returns the position last purged.
    ///
    /// # Errors
    /// None today; the position is in memory.
    pub fn read_purged(&self) -> Result<Option<LogPosition>> {
        Ok(locked(&self.log().now).inventory.standing().purged)
    }

    /// Returns how far the log was known to be committed.
    ///
    /// # Errors
    /// None today; the position is in memory.
    pub fn read_committed(&self) -> Result<Option<LogPosition>> {
        Ok(locked(&self.log().now).committed)
    }

    /// Returns the first failure of a write, after which the log takes no more.
    pub fn failure(&self) -> Option<StorageError> {
        locked(&self.log().now).failure.clone()
    }

    /// Returns the error for an entry whose bytes the caller could not decode.
    pub fn damaged_entry(&self, index: u64, problem: &str) -> StorageError {
        StorageError::damaged(&self.log().disk.folder, format!("log entry {index}: {problem}"), REJOIN)
    }

    /// Returns what the log has done since it was opened.
    pub fn stats(&self) -> LogStats {
        let c = &self.log().counters;
        LogStats {
            syncs: c.syncs.load(Ordering::Relaxed),
            entries: c.entries.load(Ordering::Relaxed),
            bytes: c.bytes.load(Ordering::Relaxed),
            write_ns: c.write_ns.load(Ordering::Relaxed),
        }
    }
}

impl Log {
    /// Queues a write that is already visible.
    fn issue(&self, now: &mut Now, what: What, done: Done) {
        debug_assert_eq!(
            now.tail.next(),
            now.inventory.standing().next,
            "memory and inventory agree"
        );
        let standing = now.inventory.stamp();
        now.queue.push_back(Write { standing, what, done });
        self.wake.notify_one();
    }
}

impl Now {
    fn refusal(&self) -> Option<StorageError> {
        self.failure
            .as_ref()
            .map(|first| StorageError::Closed(Arc::new(first.clone())))
    }

    /// Checks that entries follow the end of the log without a hole; returns the index of the first.
    fn accepts(&mut self, folder: &Path, entries: &[(u64, Bytes)]) -> Result<u64> {
        if let Some(e) = self.refusal() {
            return Err(e);
        }
        let next = self.tail.next();
        let Some((first, _)) = entries.first() else {
            return Ok(next);
        };
        let may_begin = self.inventory.is_empty() && self.inventory.standing().purged.is_none();
        let hole = entries.windows(2).find(|w| w[1].0 != w[0].0 + 1);
        let problem = match hole {
            Some(w) => format!(
                "entries {} and {} are to be appended with a hole between them",
                w[0].0, w[1].0
            ),
            None if *first != next && !may_begin => {
                format!("entry {first} is to be appended, but the next one is {next}")
            }
            None => {
                if *first != next {
                    self.tail.begin_at(*first);
                    self.inventory.begin_at(*first);
                }
                return Ok(*first);
            }
        };
        Err(StorageError::misuse(folder, problem))
    }
}

/// The place of a write in the stream, or the reason why it has none.
struct Ticket {
    told: Result<oneshot::Receiver<Result<()>>>,
    folder: PathBuf,
}

impl Ticket {
    /// Waits until the write, and all before it, are durable.
    async fn wait(self) -> Result<()> {
        // The writer answers every write, even when it dies (see `writer::AnswerAll`), unless a callback panicked.
        let gone = |_| StorageError::misuse(&self.folder, "the log's writer ended without an answer");
        self.told?.await.unwrap_or_else(|e| Err(gone(e)))
    }
}

/// Stops a log that is shorter than what was acknowledged from it.
fn refuse_loss(folder: &Path, seen: u64, number: u64) -> Result<()> {
    if number >= seen {
        return Ok(());
    }
    let problem = format!(
        "the log ends with write {number}, but write {seen} was acknowledged: {} acknowledged writes are lost",
        seen - number
    );
    Err(StorageError::damaged(folder, problem, REJOIN))
}

impl Drop for Handle {
    fn drop(&mut self) {
        locked(&self.log.now).closing = true;
        self.log.wake.notify_one();
        if let Some(writer) = self.writer.take() {
            // A callback may own the last handle; the thread it runs on ends by itself.
            if writer.thread().id() != thread::current().id() && writer.join().is_err() {
                tracing::error!("the log's writer thread panicked");
            }
        }
    }
}
