//! The state tables: a function of the log, kept on disk so that it need not be computed again from its beginning.
//!
//! Nothing here is synced on the way, and there is no write-ahead log: the Raft log is one already, and what it still
//! holds is applied again after a crash. Each batch carries how far it goes; all column families are flushed at one
//! moment (`atomic_flush`), so after a crash the tables are those of an earlier moment, whole, and say which. The log
//! is purged only up to a durable snapshot, and taking one flushes the tables: they are never older than the log's
//! beginning, unless a file is lost. A write-ahead log would write every change a second time to save replaying, at
//! most, the write buffers.

mod current;
mod db;
mod gaps;
mod view;

use crate::dir::{GroupContext, locked};
use crate::error::{REBUILD, REJOIN, Result, StorageError};
use crate::files;
use crate::record::{Applied, LogPosition};
use crate::snapshot::StoredSnapshots;
use arc_swap::ArcSwap;
use current::Current;
use db::StateDb;
use sched_core::tables::Changes;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
pub use view::{LatestView, StateView};

/// The folder of the tables within the group's.
const FOLDER: &str = "state";

/// A handle of the tables. One thread writes; any number read.
#[derive(Clone)]
pub struct StateStore {
    inner: Arc<Inner>,
}

struct Inner {
    folder: PathBuf,
    db: ArcSwap<StateDb>,
    /// Held while tables are written or replaced, so that no batch goes to tables on their way out.
    writing: Mutex<Current>,
    context: GroupContext,
}

impl StateStore {
    /// Opens the tables, or makes them where there are none.
    pub(crate) fn open(ctx: &GroupContext, purged: Option<LogPosition>, snapshots: &StoredSnapshots) -> Result<Self> {
        let folder = ctx.dir.join(FOLDER);
        files::make_dir(&folder)?;
        let mut current = Current::read(&folder)?;
        let mut db = match current.number() {
            Some(_) => StateDb::open(ctx, current.folder(), REBUILD)?,
            None => StateDb::create(ctx, &mut current)?,
        };
        let applied = db.applied()?;
        if applied.index() < purged.map(|p| p.index) {
            let snapshot = newest_reaching(&folder, &applied, purged, snapshots)?;
            tracing::warn!(snapshot = %snapshot.manifest().id, "tables are rebuilt from a snapshot and the log");
            snapshot.verify()?;
            db = StateDb::from_snapshot(ctx, &mut current, &snapshot)?;
        }
        current.remove_others()?;
        let inner = Inner {
            folder,
            db: ArcSwap::from_pointee(db),
            writing: Mutex::new(current),
            context: ctx.clone(),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Writes changes and how far they go, in one batch.
    ///
    /// # Errors
    /// RocksDB refused; nothing of the batch is visible.
    pub fn write(&self, changes: Changes, applied: &Applied) -> Result<()> {
        let _writing = locked(&self.inner.writing);
        self.inner.db.load().write(changes, applied)
    }

    /// Returns how far the tables go.
    ///
    /// # Errors
    /// The record is missing or damaged.
    pub fn applied(&self) -> Result<Applied> {
        self.inner.db.load().applied()
    }

    /// Returns the tables at this moment. The view keeps them, even when they are replaced meanwhile.
    pub fn view(&self) -> StateView {
        StateView::of(self.inner.db.load_full())
    }

    /// Returns the tables as they are, for the thread that writes them. Take it anew for each entry: it stays with
    /// tables that are replaced meanwhile.
    pub fn latest(&self) -> LatestView {
        LatestView::of(self.inner.db.load_full())
    }

    /// Writes the tables' buffers to disk, so that less of the log is applied again after a restart. Closing does it too.
    ///
    /// # Errors
    /// RocksDB refused.
    pub fn flush(&self) -> Result<()> {
        self.inner.db.load().flush()
    }

    pub(crate) fn db(&self) -> Arc<StateDb> {
        self.inner.db.load_full()
    }

    pub(crate) fn context(&self) -> &GroupContext {
        &self.inner.context
    }

    /// Replaces the tables by those of a stored, verified snapshot: at once, and durably when it returns.
    pub(crate) fn replace(&self, snapshot: &crate::SnapshotReader) -> Result<()> {
        let mut current = locked(&self.inner.writing);
        let db = StateDb::from_snapshot(&self.inner.context, &mut current, snapshot)?;
        self.inner.db.swap(Arc::new(db)).remove_when_closed();
        Ok(())
    }

    /// Returns the folder that holds the tables and those on their way in or out.
    pub fn folder(&self) -> &std::path::Path {
        &self.inner.folder
    }
}

/// Returns the newest snapshot, if it closes the gap between the tables and the log.
fn newest_reaching(
    folder: &std::path::Path,
    applied: &Applied,
    purged: Option<LogPosition>,
    snapshots: &StoredSnapshots,
) -> Result<crate::SnapshotReader> {
    let newest = snapshots.newest();
    let reach = newest.as_ref().and_then(|s| s.manifest().applied.index());
    if let Some(snapshot) = newest
        && reach >= purged.map(|p| p.index)
    {
        return Ok(snapshot);
    }
    let say = |index: Option<u64>| index.map_or("nothing".to_owned(), |i| format!("entry {i}"));
    let problem = format!(
        "the tables hold {}, the newest snapshot {}, but the log was purged up to {}",
        say(applied.index()),
        say(reach),
        say(purged.map(|p| p.index))
    );
    Err(StorageError::damaged(folder, problem, REJOIN))
}
