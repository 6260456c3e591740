//! The worker's journal: what it was given and what became of it, on disk before anybody acts on it.
//!
//! `S token` is durable before a process starts, `X token result` before its end is reported, `R token` before a refusal is. An attempt
//! that is in the journal is never started. One thread writes: it takes whatever waits and makes it durable with one sync, so that all
//! attempts that start or end together share it, and so that a slow disk stops nobody who only waits for the network.
//!
//! The records are a chain: each position (length and hash over all of them) says what came before. The leader keeps the highest that
//! it was told, and refuses a journal that went backwards: it was restored or copied, and what it does not know may have run. A copy on
//! the same machine is found at once: a file knows its inode.
//!
//! The first error of a write or a sync is the last: nothing is written any more, and the worker takes no more work.

mod book;
mod file;
mod record;
mod writer;

pub(crate) use record::{Mark, Record};

use file::JournalFile;
use sched_core::Token;
use sched_core::session::JournalPosition;
use std::collections::BTreeSet;
use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use writer::{Order, Writer};

/// Makes what was written to a file durable. Tests let it fail.
pub(crate) type Sync = Arc<dyn Fn(&File) -> io::Result<()> + Send + std::marker::Sync>;

const LOCK: &str = "journal.lock";
/// For another process to let go of the journal: one that is being stopped.
const LOCK_PATIENCE: Duration = Duration::from_secs(10);

/// Why there is no journal.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The file or its folder cannot be used.
    #[error("the worker's journal {path} cannot be used: {source}; check its owner and the disk", path = path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another process writes to it.
    #[error(
        "the worker's journal {path} is in use by another process: two workers cannot share a folder; stop the other one, or give \
         this one a folder of its own",
        path = path.display()
    )]
    InUse {
        /// Which file is locked.
        path: PathBuf,
    },
    /// Bytes in the middle of it are not what was written.
    #[error(
        "the worker's journal {path} is damaged at byte {offset}: {problem}. What ran here can no longer be told: move the file away \
         and start again, and the worker joins as a new one. Runs it had are started elsewhere; those that start at most once are LOST \
         until `schedcli resolve` says how they ended",
        path = path.display()
    )]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// Where.
        offset: u64,
        /// What is wrong.
        problem: String,
    },
}

/// What the thread that writes has done.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Event {
    /// These are on disk, and the journal ends here.
    Durable {
        marks: Vec<Mark>,
        position: JournalPosition,
    },
    /// A journal of a new worker was begun.
    Renewed { journal: u128, position: JournalPosition },
    /// A write or a sync failed: nothing is written any more.
    Failed(String),
}

/// What a journal says when it is opened.
pub(crate) struct Recovered {
    /// The last record of each attempt whose end is not recorded.
    pub(crate) open: Vec<Record>,
    /// Attempts that are recorded.
    pub(crate) settled: BTreeSet<Token>,
    /// The highest attempt that was recorded and is no longer among them.
    pub(crate) forgotten: Option<Token>,
}

/// How the journal is opened.
pub(crate) struct JournalOptions {
    pub(crate) sync: Sync,
    /// Write at once, in the caller's own thread: for tests whose time stands still while threads run.
    pub(crate) inline: bool,
}

impl Default for JournalOptions {
    fn default() -> Self {
        Self {
            sync: Arc::new(File::sync_data),
            inline: false,
        }
    }
}

/// The agent's end of the journal.
pub(crate) struct Journal {
    writer: Writer,
    events: mpsc::UnboundedReceiver<Event>,
    id: u128,
    position: JournalPosition,
    openings: Vec<u64>,
    failed: Option<String>,
    /// Held as long as this is.
    _lock: File,
}

impl Journal {
    /// Opens the journal of a folder, or begins one.
    ///
    /// # Errors
    /// It is in use, damaged, or cannot be written.
    pub(crate) fn open(dir: &Path, options: JournalOptions) -> Result<(Self, Recovered), JournalError> {
        let lock = lock(dir)?;
        let mut file = JournalFile::open(dir, options.sync)?;
        let recovered = Recovered {
            open: file.book.open.values().cloned().collect(),
            settled: file.book.settled.clone(),
            forgotten: file.book.forgotten,
        };
        // Also says at once whether it can be written.
        let number = rand::random();
        file.append(vec![Record::Opening { number }])
            .map_err(|source| JournalError::Io {
                path: dir.to_owned(),
                source,
            })?;
        let (tx, events) = mpsc::unbounded_channel();
        let (id, position, openings) = (file.journal, file.position, file.book.openings.clone());
        let writer = Writer::start(file, tx, options.inline).map_err(|source| JournalError::Io {
            path: dir.to_owned(),
            source,
        })?;
        let journal = Self {
            writer,
            events,
            id,
            position,
            openings,
            failed: None,
            _lock: lock,
        };
        Ok((journal, recovered))
    }

    /// Returns its number: 128 random bits, made with the file.
    pub(crate) fn id(&self) -> u128 {
        self.id
    }

    /// Returns where it ends, as far as it is on disk.
    pub(crate) fn position(&self) -> JournalPosition {
        self.position
    }

    /// Returns the numbers of its openings, the newest last: those that were not answered, and the last that was.
    pub(crate) fn openings(&self) -> &[u64] {
        &self.openings
    }

    /// Returns why nothing is written any more.
    pub(crate) fn failure(&self) -> Option<&str> {
        self.failed.as_deref()
    }

    /// Hands a record to the thread that writes.
    pub(crate) fn write(&self, record: Record) {
        self.writer.give(Order::Write(record));
    }

    /// A session was opened under the newest number: the next opening gets another one.
    pub(crate) fn opened(&mut self) {
        let Some(number) = self.openings.last().copied() else {
            return;
        };
        self.openings.drain(..self.openings.len() - 1);
        self.write(Record::Opened { number });
        self.write(Record::Opening { number: rand::random() });
    }

    /// Begins a journal of a new worker in place of this one.
    pub(crate) fn renew(&self) {
        self.writer.give(Order::Renew);
    }

    /// Waits for something to be on disk. Forgetting the wait loses nothing.
    pub(crate) async fn next(&mut self) -> Event {
        let Some(event) = self.events.recv().await else {
            // The thread has ended; it said why before.
            return std::future::pending().await;
        };
        self.note(&event);
        event
    }

    fn note(&mut self, event: &Event) {
        match event {
            Event::Durable { marks, position } => {
                self.position = *position;
                self.openings.extend(marks.iter().filter_map(|mark| match mark {
                    Mark::Opening(number) => Some(*number),
                    _ => None,
                }));
            }
            Event::Renewed { journal, position } => {
                (self.id, self.position) = (*journal, *position);
                self.openings.clear();
            }
            Event::Failed(reason) => self.failed = Some(reason.clone()),
        }
    }

    /// Writes what waits and lets go of the file.
    pub(crate) fn close(&mut self) {
        self.writer.close();
    }
}

/// Locks the journal of a folder against other processes, until the file is closed everywhere.
fn lock(dir: &Path) -> Result<File, JournalError> {
    let path = dir.join(LOCK);
    let io = |source| JournalError::Io {
        path: path.clone(),
        source,
    };
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(io)?;
    match file.try_lock() {
        Ok(()) => return Ok(file),
        Err(TryLockError::Error(e)) => return Err(io(e)),
        Err(TryLockError::WouldBlock) => {}
    }
    // Nobody can be asked to wait for a lock for so long and no longer, so another thread waits. Should it get the lock later, it lets
    // it go at once.
    let (tx, rx) = std::sync::mpsc::channel();
    let waiting = file.try_clone().map_err(io)?;
    std::thread::Builder::new()
        .name("journal-lock".to_owned())
        .spawn(move || {
            let locked = waiting.lock();
            let _ = tx.send(locked);
        })
        .map_err(io)?;
    match rx.recv_timeout(LOCK_PATIENCE) {
        Ok(Ok(())) => Ok(file),
        Ok(Err(e)) => Err(io(e)),
        Err(_) => Err(JournalError::InUse { path }),
    }
}

#[cfg(test)]
#[path = "../tests/journal.rs"]
mod tests;
