//! One database of state tables.

use super::current::Current;
use super::gaps::Gaps;
use crate::SnapshotReader;
use crate::dir::{GroupContext, locked};
use crate::error::{REBUILD, Result, StorageError};
use crate::files::{self, Scratch};
use crate::record::Applied;
use crate::rocks;
use rocksdb::checkpoint::Checkpoint;
use rocksdb::{ColumnFamily, DB, WriteBatch, WriteOptions};
use sched_core::codec::{self, Kind};
use sched_core::tables::{Change, Changes, Table};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard};

/// In the default column family, which holds nothing else.
const KEY_APPLIED: &[u8] = b"applied";

/// An open database of state tables.
pub(crate) struct StateDb {
    /// Closed before the folder is removed; always there until then.
    db: Option<DB>,
    folder: PathBuf,
    gaps: Mutex<Gaps>,
    remove_when_closed: AtomicBool,
    _context: GroupContext,
}

impl StateDb {
    /// Opens existing tables.
    pub(crate) fn open(ctx: &GroupContext, folder: PathBuf, remedy: &'static str) -> Result<Self> {
        let db = ctx.shared.open_state(&folder, false, remedy)?;
        Ok(Self::of(db, folder, ctx))
    }

    /// Makes empty tables and puts them into use.
    pub(crate) fn create(ctx: &GroupContext, current: &mut Current) -> Result<Self> {
        let (number, folder) = current.next();
        let scratch = Scratch::new(folder.clone())?;
        let db = Self::of(ctx.shared.open_state(&folder, true, REBUILD)?, folder, ctx);
        db.write(Changes::new(), &Applied::default())?;
        // From here on, tables without the record are damaged tables.
        db.flush()?;
        scratch.keep();
        current.switch(number)?;
        Ok(db)
    }

    /// Makes tables of a verified snapshot and puts them into use, durably.
    pub(crate) fn from_snapshot(ctx: &GroupContext, current: &mut Current, from: &SnapshotReader) -> Result<Self> {
        let (number, folder) = current.next();
        let scratch = Scratch::new(folder.clone())?;
        from.copy_to(&folder)?;
        let db = Self::open(ctx, folder, from.remedy())?;
        let (found, wanted) = (db.applied()?, &from.manifest().applied);
        if found != *wanted {
            let problem = format!("its tables hold {:?}, its manifest says {:?}", found.last, wanted.last);
            return Err(StorageError::damaged(from.folder(), problem, from.remedy()));
        }
        scratch.keep();
        current.switch(number)?;
        Ok(db)
    }

    fn of(db: DB, folder: PathBuf, ctx: &GroupContext) -> Self {
        Self {
            db: Some(db),
            folder,
            gaps: Mutex::new(Gaps::new()),
            remove_when_closed: AtomicBool::new(false),
            _context: ctx.clone(),
        }
    }

    pub(super) fn db(&self) -> Result<&DB> {
        // Taken out by `drop` alone.
        self.db
            .as_ref()
            .ok_or_else(|| StorageError::misuse(&self.folder, "the tables are closed"))
    }

    pub(super) fn cf(&self, name: &'static str) -> Result<&ColumnFamily> {
        let missing = || StorageError::damaged(&self.folder, format!("table {name:?} is missing"), REBUILD);
        self.db()?.cf_handle(name).ok_or_else(missing)
    }

    pub(super) fn on_use(&self, action: &'static str, e: &rocksdb::Error) -> StorageError {
        rocks::on_use(&self.folder, action, e, REBUILD)
    }

    /// Writes one batch.
    pub(super) fn write(&self, changes: Changes, applied: &Applied) -> Result<()> {
        let mut batch = WriteBatch::default();
        for change in &changes {
            match change {
                Change::Put { table, key, value } => batch.put_cf(self.table(*table)?, key, value),
                Change::Delete { table, key } => batch.delete_cf(self.table(*table)?, key),
                // RocksDB refuses a range that ends before it begins.
                Change::DeleteRange { from, to, .. } if from >= to => {}
                Change::DeleteRange { table, from, to } => batch.delete_range_cf(self.table(*table)?, from, to),
            }
        }
        batch.put(KEY_APPLIED, codec::encode(Kind::Applied, applied));
        let mut options = WriteOptions::default();
        options.disable_wal(true);
        self.gaps().before_write(&changes);
        let written = self.db()?.write_opt(batch, &options);
        written.map_err(|e| self.on_use("write the tables", &e))?;
        self.gaps().after_write(&changes);
        Ok(())
    }

    /// What is known of empty stretches; held only for moments.
    pub(super) fn gaps(&self) -> MutexGuard<'_, Gaps> {
        locked(&self.gaps)
    }

    fn table(&self, table: Table) -> Result<&ColumnFamily> {
        self.cf(table.name())
    }

    pub(super) fn applied(&self) -> Result<Applied> {
        let bytes = self
            .db()?
            .get(KEY_APPLIED)
            .map_err(|e| self.on_use("read how far the tables go", &e))?;
        decode_applied(&self.folder, bytes, REBUILD)
    }

    pub(super) fn applied_in(&self, snapshot: &rocksdb::Snapshot<'_>) -> Result<Applied> {
        let bytes = snapshot
            .get(KEY_APPLIED)
            .map_err(|e| self.on_use("read how far the tables go", &e))?;
        decode_applied(&self.folder, bytes, REBUILD)
    }

    pub(super) fn flush(&self) -> Result<()> {
        let names = Table::ALL
            .iter()
            .map(|t| t.name())
            .chain([rocksdb::DEFAULT_COLUMN_FAMILY_NAME]);
        let cfs = names.map(|name| self.cf(name)).collect::<Result<Vec<_>>>()?;
        let cfs: Vec<&&ColumnFamily> = cfs.iter().collect();
        let options = rocksdb::FlushOptions::default();
        self.db()?
            .flush_cfs_opt(&cfs, &options)
            .map_err(|e| self.on_use("flush the tables", &e))
    }

    /// Makes a checkpoint in a folder that does not exist yet, and returns how far it goes.
    pub(crate) fn checkpoint(&self, ctx: &GroupContext, to: &Path) -> Result<Applied> {
        let checkpoint =
            Checkpoint::new(self.db()?).map_err(|e| self.on_use("prepare a checkpoint of the tables", &e))?;
        checkpoint
            .create_checkpoint(to)
            .map_err(|e| self.on_use("make a checkpoint of the tables", &e))?;
        // From the checkpoint itself: whatever was written meanwhile, it never claims more than it holds.
        let db = ctx.shared.open_state_to_read(to, REBUILD)?;
        let bytes = db
            .get(KEY_APPLIED)
            .map_err(|e| self.on_use("read how far a checkpoint goes", &e))?;
        decode_applied(to, bytes, REBUILD)
    }

    /// Has the folder removed when the last reader is gone.
    pub(crate) fn remove_when_closed(&self) {
        self.remove_when_closed.store(true, Ordering::Relaxed);
    }
}

impl Drop for StateDb {
    fn drop(&mut self) {
        let doomed = self.remove_when_closed.load(Ordering::Relaxed);
        if let (true, Some(db)) = (doomed, &self.db) {
            // Nothing of it is needed any more, so that closing need not wait for compactions.
            db.cancel_all_background_work(false);
        }
        drop(self.db.take());
        if doomed && let Err(e) = files::remove_tree(&self.folder) {
            // The next start removes it.
            tracing::warn!(error = %e, "replaced tables not removed");
        }
    }
}

fn decode_applied(folder: &Path, bytes: Option<Vec<u8>>, remedy: &'static str) -> Result<Applied> {
    let missing = || StorageError::damaged(folder, "the record of how far the tables go is missing", remedy);
    let bytes = bytes.ok_or_else(missing)?;
    let damaged = |e| StorageError::damaged(folder, format!("the record of how far the tables go: {e}"), remedy);
    codec::decode(Kind::Applied, &bytes).map_err(damaged)
}
