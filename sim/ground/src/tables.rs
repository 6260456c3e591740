//! The state tables, in memory: never synced on the way, as RocksDB's are not.

use crate::dir::crashed;
use crate::disk::Disk;
use crate::error::{REBUILD, Result, StorageError};
use crate::record::{Applied, LogPosition};
use crate::world::world;
use sched_core::Fault;
use sched_core::check::Checker;
use sched_core::tables::{Change, Changes, MemTables, Pair, Table, View};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// One batch in so many reaches the disk by itself.
const FLUSHED_PERMILLE: u64 = 30;

/// Tables at one index.
#[derive(Clone, Default)]
pub(crate) struct Image {
    tables: MemTables,
    pub(crate) applied: Applied,
    hash: u64,
}

fn hash_of(table: Table, key: &[u8], value: &[u8]) -> u64 {
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    let mut add = |bytes: &[u8]| {
        for byte in bytes {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    };
    add(table.name().as_bytes());
    add(&(key.len() as u64).to_be_bytes());
    add(key);
    add(value);
    // Spread, because the hashes of all pairs are added up.
    hash ^= hash >> 32;
    hash.wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

impl Image {
    pub(crate) fn tables(&self) -> &MemTables {
        &self.tables
    }

    /// Returns a hash of all pairs.
    pub(crate) fn hash(&self) -> u64 {
        self.hash
    }

    fn take(&mut self, table: Table, key: &[u8]) -> std::result::Result<(), Fault> {
        if let Some(old) = self.tables.get(table, key)? {
            self.hash = self.hash.wrapping_sub(hash_of(table, key, &old));
        }
        Ok(())
    }

    fn write(&mut self, changes: Changes, checker: &mut Checker) -> std::result::Result<(), Fault> {
        for change in changes {
            checker.take(&self.tables, &change)?;
            match &change {
                Change::Put { table, key, value } => {
                    self.take(*table, key)?;
                    self.hash = self.hash.wrapping_add(hash_of(*table, key, value));
                }
                Change::Delete { table, key } => self.take(*table, key)?,
                Change::DeleteRange { table, from, to } => {
                    for (key, _) in self.tables.scan(*table, from, to, usize::MAX)? {
                        self.take(*table, &key)?;
                    }
                }
            }
            self.tables.write(vec![change]);
        }
        Ok(())
    }

    /// Returns every pair, with lengths before keys and values.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut put = |part: &[u8]| {
            bytes.extend_from_slice(&u32::try_from(part.len()).unwrap_or(u32::MAX).to_be_bytes());
            bytes.extend_from_slice(part);
        };
        for (number, table) in Table::ALL.iter().enumerate() {
            for (key, value) in self.tables.dump(*table) {
                put(&[u8::try_from(number).unwrap_or(u8::MAX)]);
                put(&key);
                put(&value);
            }
        }
        bytes
    }

    /// Reads what [`encode`](Self::encode) wrote.
    pub(crate) fn decode(bytes: &[u8], applied: Applied) -> std::result::Result<Self, Fault> {
        let mut image = Self {
            applied,
            ..Self::default()
        };
        let mut rest = bytes;
        let mut next = || {
            let (length, tail) = rest.split_first_chunk::<4>()?;
            let (part, tail) = tail.split_at_checked(u32::from_be_bytes(*length) as usize)?;
            rest = tail;
            Some(part.to_vec())
        };
        let mut changes = Vec::new();
        while let Some(number) = next() {
            let pair = number
                .first()
                .and_then(|number| Table::ALL.get(usize::from(*number)))
                .zip(next())
                .zip(next());
            let Some(((table, key), value)) = pair else {
                return Err(Fault::Inconsistent("a snapshot ends early".into()));
            };
            changes.push(Change::Put {
                table: *table,
                key,
                value,
            });
        }
        image.write(changes, &mut Checker::default())?;
        Ok(image)
    }
}

/// A handle of the tables.
#[derive(Clone)]
pub struct StateStore {
    inner: Arc<Inner>,
}

struct Inner {
    disk: Arc<Disk>,
    life: u64,
    path: PathBuf,
    now: Mutex<Now>,
}

struct Now {
    image: Arc<Image>,
    /// Follows the tables change by change.
    checker: Checker,
}

impl Now {
    fn of(image: Arc<Image>) -> std::result::Result<Self, Fault> {
        let checker = Checker::read(image.tables())?;
        Ok(Self { image, checker })
    }
}

impl StateStore {
    pub(crate) fn open(disk: &Arc<Disk>, life: u64, path: &Path, purged: Option<LogPosition>) -> Result<Self> {
        let path = path.join("state");
        let (mut image, newest) = {
            let kept = disk.kept();
            (kept.tables.clone(), kept.snapshots.last().cloned())
        };
        let behind = |applied: &Applied| applied.index() < purged.map(|purged| purged.index);
        if behind(&image.applied) {
            let Some(stored) = newest.filter(|stored| !behind(&stored.manifest.applied)) else {
                let problem = "they are older than the log's first entry, and no snapshot reaches it";
                return Err(StorageError::damaged(&path, problem, REBUILD));
            };
            let decoded = Image::decode(&stored.bytes, stored.manifest.applied.clone());
            image = Arc::new(decoded.map_err(|e| StorageError::damaged(&path, e.to_string(), REBUILD))?);
            disk.kept().tables = image.clone();
        }
        let now = Now::of(image).map_err(|e| StorageError::damaged(&path, e.to_string(), REBUILD))?;
        Ok(Self {
            inner: Arc::new(Inner {
                disk: disk.clone(),
                life,
                path,
                now: Mutex::new(now),
            }),
        })
    }

    fn now(&self) -> MutexGuard<'_, Now> {
        self.inner.now.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn alive(&self) -> Result<()> {
        if self.inner.disk.life() == self.inner.life {
            Ok(())
        } else {
            Err(crashed(&self.inner.path))
        }
    }

    /// Writes a batch and how far it goes.
    ///
    /// # Errors
    /// The node has crashed.
    pub fn write(&self, changes: Changes, applied: &Applied) -> Result<()> {
        self.alive()?;
        let world = world();
        world.changes(applied.index().unwrap_or(0), &changes);
        let image = {
            let mut now = self.now();
            let Now { image, checker } = &mut *now;
            let tables = Arc::make_mut(image);
            let written = tables.write(changes, checker);
            written.map_err(|e| StorageError::damaged(&self.inner.path, e.to_string(), REBUILD))?;
            tables.applied.clone_from(applied);
            world.applied(self.inner.disk.node, image, checker);
            image.clone()
        };
        if world.draw(|chance| chance.permille(FLUSHED_PERMILLE)) {
            self.inner.disk.kept().tables = image;
        }
        Ok(())
    }

    /// Returns how far the tables go.
    ///
    /// # Errors
    /// None.
    pub fn applied(&self) -> Result<Applied> {
        Ok(self.now().image.applied.clone())
    }

    /// Returns the tables at this moment.
    pub fn view(&self) -> StateView {
        StateView(self.now().image.clone())
    }

    /// Returns the tables as they are.
    pub fn latest(&self) -> LatestView {
        LatestView(self.clone())
    }

    pub(crate) fn image(&self) -> Arc<Image> {
        self.now().image.clone()
    }

    /// Replaces the tables, durably.
    pub(crate) fn replace(&self, image: Image) -> Result<()> {
        self.alive()?;
        let now = Now::of(Arc::new(image));
        let now = now.map_err(|e| StorageError::damaged(&self.inner.path, e.to_string(), REBUILD))?;
        world().applied(self.inner.disk.node, &now.image, &now.checker);
        self.inner.disk.kept().tables = now.image.clone();
        *self.now() = now;
        Ok(())
    }
}

/// The tables at one moment.
pub struct StateView(Arc<Image>);

impl StateView {
    /// Returns how far this view goes.
    ///
    /// # Errors
    /// None.
    pub fn applied(&self) -> Result<Applied> {
        Ok(self.0.applied.clone())
    }

    /// Returns a hash of the tables.
    pub fn hash(&self) -> u64 {
        self.0.hash
    }
}

/// The tables as they are, for whoever writes them.
#[derive(Clone)]
pub struct LatestView(StateStore);

type Read<T> = std::result::Result<T, Fault>;

impl View for StateView {
    fn get(&self, table: Table, key: &[u8]) -> Read<Option<Vec<u8>>> {
        self.0.tables.get(table, key)
    }

    fn scan(&self, table: Table, from: &[u8], to: &[u8], limit: usize) -> Read<Vec<Pair>> {
        self.0.tables.scan(table, from, to, limit)
    }

    fn scan_back(&self, table: Table, from: &[u8], to: &[u8], limit: usize) -> Read<Vec<Pair>> {
        self.0.tables.scan_back(table, from, to, limit)
    }
}

impl View for LatestView {
    fn get(&self, table: Table, key: &[u8]) -> Read<Option<Vec<u8>>> {
        self.0.now().image.tables.get(table, key)
    }

    fn scan(&self, table: Table, from: &[u8], to: &[u8], limit: usize) -> Read<Vec<Pair>> {
        self.0.now().image.tables.scan(table, from, to, limit)
    }

    fn scan_back(&self, table: Table, from: &[u8], to: &[u8], limit: usize) -> Read<Vec<Pair>> {
        self.0.now().image.tables.scan_back(table, from, to, limit)
    }
}
