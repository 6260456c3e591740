//! The Raft log over a disk that loses what was not synced.
//!
//! The contract is that of `sched-storage`: readable at once, one ordered stream of writes, told in order when durable, the first failure
//! is the last.

use crate::dir::crashed;
use crate::disk::Disk;
use crate::error::{REJOIN, Result, StorageError};
use crate::mutants::Mutant;
use crate::record::LogPosition;
use crate::world::{World, world};
use bytes::Bytes;
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{Notify, oneshot};

/// Called once when a write is durable, or with the reason why it never will be.
pub type Done = Box<dyn FnOnce(std::result::Result<(), StorageError>) + Send>;

/// How long a log that skips its syncs leaves writes to the system.
const LAZY_MS: u64 = 30_000;

/// What a log holds.
#[derive(Clone, Default)]
pub(crate) struct Image {
    entries: BTreeMap<u64, Bytes>,
    vote: Option<Bytes>,
    purged: Option<LogPosition>,
    committed: Option<LogPosition>,
}

enum What {
    Append(Vec<(u64, Bytes)>),
    Vote(Bytes),
    /// Removes everything from here on.
    Truncate(u64),
    Purge(LogPosition),
}

struct Write {
    what: What,
    committed: Option<LogPosition>,
    done: Done,
}

impl Image {
    fn write(&mut self, what: &What) {
        match what {
            What::Append(entries) => self.entries.extend(entries.iter().cloned()),
            What::Vote(vote) => self.vote = Some(vote.clone()),
            What::Truncate(from) => drop(self.entries.split_off(from)),
            What::Purge(upto) => {
                self.entries = self.entries.split_off(&(upto.index + 1));
                self.purged = Some(*upto);
            }
        }
    }

    fn next(&self) -> Option<u64> {
        let last = self.entries.keys().next_back().copied();
        last.or(self.purged.map(|purged| purged.index)).map(|last| last + 1)
    }
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

/// A handle of the log.
#[derive(Clone)]
pub struct LogStore {
    log: Arc<Log>,
}

struct Log {
    disk: Arc<Disk>,
    life: u64,
    path: PathBuf,
    now: Mutex<Now>,
    wake: Notify,
}

/// The log as its callers see it, ahead of the disk by what is queued.
struct Now {
    image: Image,
    queue: VecDeque<Write>,
    failure: Option<StorageError>,
    stats: LogStats,
}

impl LogStore {
    pub(crate) fn open(disk: &Arc<Disk>, life: u64, path: &Path) -> Self {
        let log = Arc::new(Log {
            disk: disk.clone(),
            life,
            path: path.join("log"),
            now: Mutex::new(Now {
                image: disk.kept().log.clone(),
                queue: VecDeque::new(),
                failure: None,
                stats: LogStats::default(),
            }),
            wake: Notify::new(),
        });
        tokio::spawn(write(log.clone(), world()));
        Self { log }
    }

    /// Appends entries. When it returns they can be read; `done` is called when they are durable.
    pub fn append(&self, entries: Vec<(u64, Bytes)>, done: Done) {
        let mut now = self.log.now();
        let next = now.image.next();
        let problem = match (entries.first(), next) {
            (Some((first, _)), Some(next)) if *first != next => Some(format!("entry {first} after {next}")),
            _ if entries.windows(2).any(|w| w[1].0 != w[0].0 + 1) => Some("a hole".to_owned()),
            _ => None,
        };
        let refusal = now
            .refusal()
            .or(problem.map(|problem| StorageError::misuse(&self.log.path, problem)));
        if let Some(e) = refusal {
            drop(now);
            return done(Err(e));
        }
        self.log.issue(&mut now, What::Append(entries), done);
    }

    /// Stores the vote, durably, in order with all other writes.
    pub fn save_vote(&self, vote: Bytes) -> impl Future<Output = Result<()>> + Send + use<> {
        self.order(What::Vote(vote))
    }

    /// Removes every entry after `last`, or all of them for `None`.
    pub fn truncate_after(&self, last: Option<u64>) -> impl Future<Output = Result<()>> + Send + use<> {
        self.order(What::Truncate(last.map_or(0, |last| last + 1)))
    }

    /// Removes every entry up to and including `upto`, and remembers its position.
    pub fn purge(&self, upto: LogPosition) -> impl Future<Output = Result<()>> + Send + use<> {
        let purged = self.log.now().image.purged;
        let news = purged.is_none_or(|purged| purged.index < upto.index);
        self.order(if news {
            What::Purge(upto)
        } else {
            What::Append(Vec::new())
        })
    }

    fn order(&self, what: What) -> impl Future<Output = Result<()>> + Send + use<> {
        let (tell, told) = oneshot::channel();
        let mut now = self.log.now();
        // A caller that no longer waits does not want to know.
        let done: Done = Box::new(move |result| drop(tell.send(result)));
        match now.refusal() {
            Some(e) => done(Err(e)),
            None => self.log.issue(&mut now, what, done),
        }
        drop(now);
        let path = self.log.path.clone();
        async move { told.await.unwrap_or_else(|_| Err(crashed(&path))) }
    }

    /// Remembers how far the log is known to be committed; written with the next write.
    ///
    /// # Errors
    /// The log is closed after a failure.
    pub fn save_committed(&self, committed: Option<LogPosition>) -> Result<()> {
        let mut now = self.log.now();
        if let Some(e) = now.refusal() {
            return Err(e);
        }
        now.image.committed = committed;
        Ok(())
    }

    /// Returns the vote last stored.
    ///
    /// # Errors
    /// None.
    pub fn read_vote(&self) -> Result<Option<Bytes>> {
        Ok(self.log.now().image.vote.clone())
    }

    /// Returns the position last purged.
    ///
    /// # Errors
    /// None.
    pub fn read_purged(&self) -> Result<Option<LogPosition>> {
        Ok(self.log.now().image.purged)
    }

    /// Returns how far the log was known to be committed.
    ///
    /// # Errors
    /// None.
    pub fn read_committed(&self) -> Result<Option<LogPosition>> {
        Ok(self.log.now().image.committed)
    }

    /// Returns the index of the first entry.
    ///
    /// # Errors
    /// None.
    pub fn first_index(&self) -> Result<Option<u64>> {
        Ok(self.log.now().image.entries.keys().next().copied())
    }

    /// Returns the index and the bytes of the last entry.
    ///
    /// # Errors
    /// None.
    pub fn last_entry(&self) -> Result<Option<(u64, Bytes)>> {
        let now = self.log.now();
        Ok(now
            .image
            .entries
            .iter()
            .next_back()
            .map(|(index, bytes)| (*index, bytes.clone())))
    }

    /// Returns the entries with `from <= index < to`, as many as fit into `max_bytes`, but at least one if there is one.
    ///
    /// # Errors
    /// None.
    pub fn read(&self, from: u64, to: u64, max_bytes: usize) -> Result<Vec<(u64, Bytes)>> {
        let now = self.log.now();
        let (mut found, mut room) = (Vec::new(), max_bytes);
        if from < to {
            for (index, bytes) in now.image.entries.range(from..to) {
                if !found.is_empty() && bytes.len() > room {
                    break;
                }
                room = room.saturating_sub(bytes.len());
                found.push((*index, bytes.clone()));
            }
        }
        Ok(found)
    }

    /// Returns the error for an entry whose bytes the caller could not decode.
    pub fn damaged_entry(&self, index: u64, problem: &str) -> StorageError {
        StorageError::damaged(&self.log.path, format!("log entry {index}: {problem}"), REJOIN)
    }

    /// Returns what the log has done since it was opened.
    pub fn stats(&self) -> LogStats {
        self.log.now().stats
    }
}

impl Now {
    fn refusal(&self) -> Option<StorageError> {
        self.failure
            .as_ref()
            .map(|first| StorageError::Closed(Arc::new(first.clone())))
    }
}

impl Log {
    fn now(&self) -> MutexGuard<'_, Now> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_alive(&self) -> bool {
        self.disk.life() == self.life
    }

    fn issue(&self, now: &mut Now, what: What, done: Done) {
        now.image.write(&what);
        let committed = now.image.committed;
        now.queue.push_back(Write { what, committed, done });
        self.wake.notify_one();
    }

    fn fail(&self, batch: impl IntoIterator<Item = Write>, error: &StorageError) {
        let waiting: Vec<Write> = {
            let mut now = self.now();
            now.failure.get_or_insert_with(|| error.clone());
            batch.into_iter().chain(std::mem::take(&mut now.queue)).collect()
        };
        for write in waiting {
            (write.done)(Err(error.clone()));
        }
    }

    /// Makes one write durable.
    fn keep(&self, world: &World, write: &Write) {
        if world.is(Mutant::VoteNotSaved) && matches!(write.what, What::Vote(_)) {
            return;
        }
        let mut kept = self.disk.kept();
        kept.log.write(&write.what);
        kept.log.committed = write.committed;
    }
}

/// The writer: takes everything that waits, syncs once, tells in order.
async fn write(log: Arc<Log>, world: Arc<World>) {
    loop {
        log.wake.notified().await;
        let batch: Vec<Write> = log.now().queue.drain(..).collect();
        if batch.is_empty() {
            continue;
        }
        tokio::time::sleep(log.disk.sync_time()).await;
        if !log.is_alive() {
            // The machine went down in the middle: some of it may have reached the disk, in order.
            let some = world.draw(|chance| chance.below(batch.len() as u64 + 1));
            if !world.is(Mutant::FsyncSkipped) && log.disk.may_have_kept(log.life) {
                let some = usize::try_from(some).unwrap_or(0);
                batch.iter().take(some).for_each(|write| log.keep(&world, write));
            }
            return log.fail(batch, &crashed(&log.path));
        }
        if log.disk.take_sync_failure() {
            world.note(format!("n{}: a sync fails", log.disk.node));
            let error = StorageError::io(&log.path, "sync", io::Error::other("input/output error"));
            return log.fail(batch, &error);
        }
        if world.is(Mutant::FsyncSkipped) {
            skip(&log, &world, batch);
            continue;
        }
        let mut entries = 0;
        for write in &batch {
            log.keep(&world, write);
            if let What::Append(list) = &write.what {
                entries += list.len() as u64;
            }
        }
        world.event("sync", log.disk.node, entries);
        {
            let mut now = log.now();
            now.stats.syncs += 1;
            now.stats.entries += entries;
        }
        batch.into_iter().for_each(|write| (write.done)(Ok(())));
    }
}

/// Says that a batch is durable, which it will be much later, unless the machine goes down before.
fn skip(log: &Arc<Log>, world: &Arc<World>, batch: Vec<Write>) {
    let mut late = Vec::with_capacity(batch.len());
    for write in batch {
        let Write { what, committed, done } = write;
        done(Ok(()));
        late.push(Write {
            what,
            committed,
            done: Box::new(|_| ()),
        });
    }
    let (log, world) = (log.clone(), world.clone());
    tokio::spawn(async move {
        tokio::time::sleep(std::time::Duration::from_millis(LAZY_MS)).await;
        if log.is_alive() {
            late.iter().for_each(|write| log.keep(&world, write));
        }
    });
}
