//! Reading the tables: at one moment, or as they are.

use super::db::StateDb;
use super::gaps::{Found, SKIPPED_MIN, Seen, SeenOne, after};
use crate::error::Result;
use crate::record::Applied;
use rocksdb::perf::PerfContext;
use rocksdb::{ColumnFamily, DBAccess, DBRawIteratorWithThreadMode, Direction, PerfMetric, ReadOptions, Snapshot};
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
    seen: Seen,
}

/// The tables as they are, for the thread that writes them.
#[derive(Clone)]
pub struct LatestView {
    db: Arc<StateDb>,
}

/// A scan: where, how far, how much.
struct Wanted<'a> {
    table: Table,
    from: &'a [u8],
    to: &'a [u8],
    limit: usize,
}

impl Wanted<'_> {
    fn is_nothing(&self) -> bool {
        self.from >= self.to || self.limit == 0
    }

    fn options(&self) -> ReadOptions {
        let mut options = ReadOptions::default();
        options.set_iterate_range(self.from.to_vec()..self.to.to_vec());
        options
    }
}

impl StateView {
    pub(super) fn of(db: Arc<StateDb>) -> Self {
        // In one step: see `gaps`.
        let gaps = db.gaps();
        let moment = Moment::new(Arc::clone(&db), |db| db.db().map(|db| db.snapshot()));
        Self {
            moment,
            seen: gaps.seen(),
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

    fn pairs(&self, wanted: &Wanted<'_>, towards: Direction) -> Read<Vec<Pair>> {
        if wanted.is_nothing() {
            return Ok(Vec::new());
        }
        self.at(wanted.table, |db, cf, snapshot| {
            let iterator = snapshot.raw_iterator_cf_opt(cf, wanted.options());
            Scan {
                db,
                iterator,
                seen: self.seen.of(wanted.table),
                wanted,
                found: Vec::new(),
            }
            .run(towards)
        })
    }
}

impl LatestView {
    pub(super) fn of(db: Arc<StateDb>) -> Self {
        Self { db }
    }

    fn pairs(&self, wanted: &Wanted<'_>, towards: Direction) -> Read<Vec<Pair>> {
        if wanted.is_nothing() {
            return Ok(Vec::new());
        }
        let db = &*self.db;
        let read = || {
            let (iterator, seen) = {
                // In one step: see `gaps`.
                let gaps = db.gaps();
                (
                    db.db()?
                        .raw_iterator_cf_opt(db.cf(wanted.table.name())?, wanted.options()),
                    gaps.seen_of(wanted.table),
                )
            };
            Scan {
                db,
                iterator,
                seen,
                wanted,
                found: Vec::new(),
            }
            .run(towards)
        };
        read().map_err(|e| Fault::Storage(e.to_string()))
    }
}

/// A scan under way.
struct Scan<'a, D: DBAccess> {
    db: &'a StateDb,
    iterator: DBRawIteratorWithThreadMode<'a, D>,
    seen: SeenOne,
    wanted: &'a Wanted<'a>,
    found: Vec<Found>,
}

impl<D: DBAccess> Scan<'_, D> {
    fn run(mut self, towards: Direction) -> Result<Vec<Pair>> {
        let pairs = match towards {
            Direction::Forward => self.up(),
            Direction::Reverse => self.down(),
        };
        // At its end, or because a read failed.
        self.iterator
            .status()
            .map_err(|e| self.db.on_use("scan the tables", &e))?;
        if !self.found.is_empty() {
            self.db.gaps().learn(self.wanted.table, &self.seen, self.found);
        }
        Ok(pairs)
    }

    fn up(&mut self) -> Vec<Pair> {
        let mut pairs = Vec::new();
        let known = Arc::clone(&self.seen.known);
        let mut at = self.wanted.from.to_vec();
        while pairs.len() < self.wanted.limit {
            let jump = known.end_of(&at);
            if jump.is_some_and(|end| end >= self.wanted.to) {
                break;
            }
            let skipped = skipped(|| match jump {
                Some(end) => self.iterator.seek(end),
                None if pairs.is_empty() => self.iterator.seek(&at),
                None => self.iterator.next(),
            });
            let item = self.iterator.item().map(|(key, value)| (key.to_vec(), value.to_vec()));
            let end = item.as_ref().map_or(self.wanted.to, |(key, _)| key);
            self.note(at, end.to_vec(), skipped, jump.is_some());
            let Some((key, value)) = item else { break };
            at = after(&key);
            pairs.push((key, value));
        }
        pairs
    }

    fn down(&mut self) -> Vec<Pair> {
        let mut pairs = Vec::new();
        let known = Arc::clone(&self.seen.known);
        let mut before = self.wanted.to.to_vec();
        while pairs.len() < self.wanted.limit {
            let jump = known.start_of(&before);
            if jump.is_some_and(|start| start <= self.wanted.from) {
                break;
            }
            let skipped = skipped(|| match jump {
                // The stretch's first key is not there: this is the last one before it.
                Some(start) => self.iterator.seek_for_prev(start),
                None if pairs.is_empty() => self.iterator.seek_to_last(),
                None => self.iterator.prev(),
            });
            let item = self.iterator.item().map(|(key, value)| (key.to_vec(), value.to_vec()));
            let start = item
                .as_ref()
                .map_or_else(|| self.wanted.from.to_vec(), |(key, _)| after(key));
            self.note(start, std::mem::take(&mut before), skipped, jump.is_some());
            let Some((key, value)) = item else { break };
            before = key.clone();
            pairs.push((key, value));
        }
        pairs
    }

    /// Notes an empty stretch that was dear, or that makes a known one longer.
    fn note(&mut self, from: Vec<u8>, to: Vec<u8>, skipped: u64, jumped: bool) {
        // After a failed read nothing is known to be empty.
        let whole = self.iterator.valid() || self.iterator.status().is_ok();
        if whole && (skipped >= SKIPPED_MIN || (jumped && skipped > 0)) {
            self.found.push(Found { from, to, skipped });
        }
    }
}

/// Returns how many removed keys a step walked over.
fn skipped(step: impl FnOnce()) -> u64 {
    // RocksDB counts per thread, and has counting switched on by default.
    let counters = PerfContext::default();
    let before = counters.metric(PerfMetric::InternalDeleteSkippedCount);
    step();
    counters.metric(PerfMetric::InternalDeleteSkippedCount) - before
}

impl View for StateView {
    fn get(&self, table: Table, key: &[u8]) -> Read<Option<Vec<u8>>> {
        self.at(table, |db, cf, snapshot| {
            snapshot.get_cf(cf, key).map_err(|e| db.on_use("read the tables", &e))
        })
    }

    fn scan(&self, table: Table, from: &[u8], to: &[u8], limit: usize) -> Read<Vec<Pair>> {
        self.pairs(&Wanted { table, from, to, limit }, Direction::Forward)
    }

    fn scan_back(&self, table: Table, from: &[u8], to: &[u8], limit: usize) -> Read<Vec<Pair>> {
        self.pairs(&Wanted { table, from, to, limit }, Direction::Reverse)
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
        self.pairs(&Wanted { table, from, to, limit }, Direction::Forward)
    }

    fn scan_back(&self, table: Table, from: &[u8], to: &[u8], limit: usize) -> Read<Vec<Pair>> {
        self.pairs(&Wanted { table, from, to, limit }, Direction::Reverse)
    }
}
