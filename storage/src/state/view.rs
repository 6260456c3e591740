//! Reading the tables: at one moment, or as they are.

use super::db::StateDb;
use crate::error::Result;
use crate::record::Applied;
use rocksdb::{ColumnFamily, DBIterator, Direction, IteratorMode, ReadOptions, Snapshot};
use sched_core::command::Fault;
use sched_core::tables::{Pair, Table, View};
use std::sync::Arc;

type Read<T> = std::result::Result<T, Fault>;

self_cell::self_cell!(
    /// A snapshot of RocksDB and the database it belongs to, in one owned value.
    struct Moment {
        owner: Arc<StateDb>,
        #[not_covariant]
        dependent: TakenSnapshot,
    }
);

type TakenSnapshot<'a> = Result<Snapshot<'a>>;

/// The tables at one moment: owned, consistent, cheap to take; keeps replaced tables alive while it lives.
///
/// Drop it soon: RocksDB keeps every older version of a key as long as a view may read it.
pub struct StateView {
    moment: Moment,
}

/// The tables as they are, for the thread that writes them.
#[derive(Clone)]
pub struct LatestView {
    db: Arc<StateDb>,
}

impl StateView {
    pub(super) fn of(db: Arc<StateDb>) -> Self {
        Self {
            moment: Moment::new(db, |db| db.db().map(|db| db.snapshot())),
        }
    }

    /// Returns how far this view goes.
    ///
    /// # Errors
    /// The record is missing or damaged.
    pub fn applied(&self) -> Result<Applied> {
        self.moment
            .with_dependent(|db, snapshot| db.applied_in(snapshot.as_ref().map_err(Clone::clone)?))
    }

    /// Calls `read` with the database, a table of it and the snapshot.
    fn at<T>(&self, table: Table, read: impl FnOnce(&StateDb, &ColumnFamily, &Snapshot<'_>) -> Result<T>) -> Read<T> {
        let read = |db: &Arc<StateDb>, snapshot: &Result<Snapshot<'_>>| {
            read(db, db.cf(table.name())?, snapshot.as_ref().map_err(Clone::clone)?)
        };
        self.moment
            .with_dependent(read)
            .map_err(|e| Fault::Storage(e.to_string()))
    }

    fn pairs(&self, table: Table, range: [&[u8]; 2], limit: usize, towards: Direction) -> Read<Vec<Pair>> {
        let Some((options, mode)) = bounds(range, limit, towards) else {
            return Ok(Vec::new());
        };
        self.at(table, |db, cf, snapshot| {
            collect(db, snapshot.iterator_cf_opt(cf, options, mode), limit)
        })
    }
}

impl LatestView {
    pub(super) fn of(db: Arc<StateDb>) -> Self {
        Self { db }
    }

    fn pairs(&self, table: Table, range: [&[u8]; 2], limit: usize, towards: Direction) -> Read<Vec<Pair>> {
        let Some((options, mode)) = bounds(range, limit, towards) else {
            return Ok(Vec::new());
        };
        let read = || {
            collect(
                &self.db,
                self.db.db()?.iterator_cf_opt(self.db.cf(table.name())?, options, mode),
                limit,
            )
        };
        read().map_err(|e| Fault::Storage(e.to_string()))
    }
}

/// Returns how to iterate over a range; `None` when there is nothing in it.
fn bounds([from, to]: [&[u8]; 2], limit: usize, towards: Direction) -> Option<(ReadOptions, IteratorMode<'static>)> {
    if from >= to || limit == 0 {
        return None;
    }
    let mut options = ReadOptions::default();
    options.set_iterate_range(from.to_vec()..to.to_vec());
    let mode = match towards {
        Direction::Forward => IteratorMode::Start,
        Direction::Reverse => IteratorMode::End,
    };
    Some((options, mode))
}

fn collect(db: &StateDb, iterator: DBIterator<'_>, limit: usize) -> Result<Vec<Pair>> {
    let owned = |pair: std::result::Result<(Box<[u8]>, Box<[u8]>), rocksdb::Error>| match pair {
        Ok((key, value)) => Ok((key.into_vec(), value.into_vec())),
        Err(e) => Err(db.on_use("scan the tables", &e)),
    };
    iterator.take(limit).map(owned).collect()
}

impl View for StateView {
    fn get(&self, table: Table, key: &[u8]) -> Read<Option<Vec<u8>>> {
        self.at(table, |db, cf, snapshot| {
            snapshot.get_cf(cf, key).map_err(|e| db.on_use("read the tables", &e))
        })
    }

    fn scan(&self, table: Table, from: &[u8], to: &[u8], limit: usize) -> Read<Vec<Pair>> {
        self.pairs(table, [from, to], limit, Direction::Forward)
    }

    fn scan_back(&self, table: Table, from: &[u8], to: &[u8], limit: usize) -> Read<Vec<Pair>> {
        self.pairs(table, [from, to], limit, Direction::Reverse)
    }
}

impl View for LatestView {
    fn get(&self, table: Table, key: &[u8]) -> Read<Option<Vec<u8>>> {
        let read = || {
            let value = self.db.db()?.get_cf(self.db.cf(table.name())?, key);
            value.map_err(|e| self.db.on_use("read the tables", &e))
        };
        read().map_err(|e| Fault::Storage(e.to_string()))
    }

    fn scan(&self, table: Table, from: &[u8], to: &[u8], limit: usize) -> Read<Vec<Pair>> {
        self.pairs(table, [from, to], limit, Direction::Forward)
    }

    fn scan_back(&self, table: Table, from: &[u8], to: &[u8], limit: usize) -> Read<Vec<Pair>> {
        self.pairs(table, [from, to], limit, Direction::Reverse)
    }
}
