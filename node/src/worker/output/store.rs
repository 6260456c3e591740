//! All output of a worker: what is being written, what is kept, what has to go.

use super::index::{Index, scan};
use super::read::{self, Piece, ReadError};
use super::writer::Progress;
use super::{OutputId, OutputLimits};
use crate::worker::WorkerClock;
use bytes::Bytes;
use sched_core::{RunId, Timestamp};
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio::task::spawn_blocking;
use tokio::time::{Instant, timeout, timeout_at};

/// Most bytes of one piece.
const PIECE_BYTES_MAX: usize = 256 * 1024;
/// Longest wait for more output.
const WAIT_MAX: Duration = Duration::from_secs(30);
/// Files deleted in one round, between which the lock is free.
const PRUNE_ROUND: usize = 256;
/// Between looks at the age of the oldest output, at least and at most.
const PRUNE_EVERY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(3600));

/// All output of a worker.
#[derive(Debug)]
pub struct OutputStore {
    root: PathBuf,
    limits: OutputLimits,
    /// Never held across an await.
    state: Mutex<State>,
    clock: WorkerClock,
    /// What is kept has grown, or the store is gone.
    grown: Arc<Notify>,
    /// The files of an earlier life are in the index.
    scanned: watch::Sender<bool>,
}

#[derive(Debug, Default)]
struct State {
    live: BTreeMap<OutputId, watch::Receiver<Progress>>,
    kept: Index,
}

impl OutputStore {
    /// Opens the folder, creating it if need be. Must be called within a runtime: files of an earlier life are found, and the oldest
    /// deleted, in the background for as long as the store lives.
    ///
    /// # Errors
    /// The folder cannot be created.
    pub fn open(root: PathBuf, limits: OutputLimits, clock: WorkerClock) -> io::Result<Arc<Self>> {
        std::fs::create_dir_all(&root)?;
        let store = Arc::new(Self {
            root,
            limits,
            clock,
            state: Mutex::default(),
            grown: Arc::default(),
            scanned: watch::Sender::new(false),
        });
        // Ends by itself once the store is dropped.
        tokio::spawn(keep_bounded(Arc::downgrade(&store)));
        Ok(store)
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    pub(super) fn limits(&self) -> &OutputLimits {
        &self.limits
    }

    pub(super) fn began(&self, id: OutputId, progress: watch::Receiver<Progress>) {
        let mut state = self.lock();
        state.kept.remove(id);
        state.live.insert(id, progress);
    }

    pub(super) fn ended(&self, id: OutputId, bytes: u64) {
        let mut state = self.lock();
        state.live.remove(&id);
        if bytes > 0 {
            state.kept.insert(id, bytes, self.clock.wall());
            drop(state);
            self.grown.notify_one();
        }
    }

    /// Reads up to `limit` bytes from `offset` of an attempt (0 means the newest). At the end of what an attempt under way has written,
    /// waits for more, at most `wait`.
    ///
    /// # Errors
    /// There is no such output, or the files cannot be read.
    pub async fn read(
        self: &Arc<Self>,
        run: RunId,
        attempt: u32,
        offset: u64,
        limit: usize,
        wait: Duration,
    ) -> Result<Piece, ReadError> {
        let _ = self.scanned.subscribe().wait_for(|done| *done).await;
        let (id, live) = self.find(run, attempt).ok_or(ReadError::NotFound)?;
        let progress = match live {
            Some(live) => Some(follow(live, offset, wait.min(WAIT_MAX)).await),
            None => None,
        };
        let len = progress.filter(|progress| !progress.ended).map(|progress| progress.len);
        let limit = if limit == 0 {
            PIECE_BYTES_MAX
        } else {
            limit.min(PIECE_BYTES_MAX)
        };
        let root = self.root.clone();
        let read = spawn_blocking(move || read::read(&root, id, offset, limit, len)).await;
        // Without anything: not yet written, or nothing left.
        let found = read.map_err(io::Error::other)??.unwrap_or(read::Found {
            from: offset,
            data: Vec::new(),
            last: true,
        });
        Ok(Piece {
            attempt: id.attempt,
            offset: found.from,
            next_offset: found.from + found.data.len() as u64,
            data: Bytes::from(found.data),
            end: found.last && len.is_none(),
        })
    }

    /// Finds an attempt's output, and its progress while it is under way.
    fn find(&self, run: RunId, attempt: u32) -> Option<(OutputId, Option<watch::Receiver<Progress>>)> {
        let state = self.lock();
        let range = match attempt {
            0 => OutputId { run, attempt: 0 }..=OutputId { run, attempt: u32::MAX },
            attempt => OutputId { run, attempt }..=OutputId { run, attempt },
        };
        let live = state
            .live
            .range(range)
            .next_back()
            .map(|(id, live)| (*id, Some(live.clone())));
        let kept = match attempt {
            0 => state.kept.newest(run),
            attempt => Some(OutputId { run, attempt }).filter(|id| state.kept.contains(*id)),
        };
        // The newest of both; one that is under way is in `live` alone.
        live.into_iter()
            .chain(kept.map(|id| (id, None)))
            .max_by_key(|(id, _)| *id)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic while it is held cannot leave the index worse than incomplete.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds what an earlier life left. What has begun anew meanwhile is newer.
    fn adopt(&self, found: Vec<(OutputId, u64, Timestamp)>) {
        let mut state = self.lock();
        for (id, bytes, ended) in found {
            if !state.live.contains_key(&id) && !state.kept.contains(id) {
                state.kept.insert(id, bytes, ended);
            }
        }
    }

    /// Deletes what is over the limits.
    async fn prune(&self) {
        loop {
            let excess = self
                .lock()
                .kept
                .take_excess(&self.limits, self.clock.wall(), PRUNE_ROUND);
            if excess.is_empty() {
                return;
            }
            let root = self.root.clone();
            let deleted = spawn_blocking(move || {
                for id in excess {
                    if let Err(e) = read::delete(&root, id) {
                        tracing::warn!(run = %id.run, attempt = id.attempt, error = %e, "old output cannot be deleted");
                    }
                }
            });
            if deleted.await.is_err() {
                return;
            }
        }
    }

    fn until_too_old(&self) -> Duration {
        let (least, most) = PRUNE_EVERY;
        let until = self.lock().kept.until_too_old(&self.limits, self.clock.wall());
        until.unwrap_or(most).clamp(least, most)
    }

    #[cfg(test)]
    pub(in crate::worker) fn bytes_kept(&self) -> u64 {
        self.lock().kept.bytes()
    }
}

impl Drop for OutputStore {
    fn drop(&mut self) {
        self.grown.notify_one();
    }
}

/// Waits until there is something at `offset`, the attempt has ended, or the time is over.
async fn follow(mut live: watch::Receiver<Progress>, offset: u64, wait: Duration) -> Progress {
    let deadline = Instant::now() + wait;
    loop {
        let progress = *live.borrow_and_update();
        if progress.ended || progress.len > offset {
            return progress;
        }
        match timeout_at(deadline, live.changed()).await {
            Ok(Ok(())) => {}
            // Dropped without a word cannot happen, and would be an end.
            Ok(Err(_)) => {
                return Progress {
                    ended: true,
                    ..progress
                };
            }
            Err(_) => return progress,
        }
    }
}

async fn keep_bounded(weak: Weak<OutputStore>) {
    let Some(grown) = weak.upgrade().map(|store| store.grown.clone()) else {
        return;
    };
    if let Some(store) = weak.upgrade() {
        let root = store.root.clone();
        match spawn_blocking(move || scan(&root)).await {
            Ok(Ok(found)) => store.adopt(found),
            Ok(Err(e)) => tracing::warn!(dir = %store.root.display(), error = %e, "old output cannot be listed"),
            // The runtime is shutting down.
            Err(_) => return,
        }
        store.scanned.send_replace(true);
    }
    // Between rounds nothing keeps the store alive.
    while let Some(store) = weak.upgrade() {
        store.prune().await;
        let wait = store.until_too_old();
        drop(store);
        let _ = timeout(wait, grown.notified()).await;
    }
}
