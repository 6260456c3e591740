//! The data folder: its layout, its owner, and the lock that keeps a second process out.

use crate::error::{REJOIN, Result, StorageError};
use crate::files;
use crate::log::LogStore;
use crate::record::Identity;
use crate::rocks::Shared;
use crate::snapshot::{Snapshots, StoredSnapshots};
use crate::state::StateStore;
use sched_core::codec::{self, DecodeError, Kind};
use sched_core::ids::NodeId;
use std::collections::BTreeSet;
use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The layout this release reads and writes.
const FORMAT: u32 = 1;
const IDENTITY: &str = "IDENTITY";
const FORMATION: &str = "FORMATION";
const LOCK: &str = "LOCK";
const TMP: &str = "tmp";
const WORKER: &str = "worker";
const GROUPS: &str = "groups";
/// What may lie in a folder that is to become a data folder: our own beginnings, and what a fresh file system has.
const HARMLESS: [&str; 3] = [LOCK, "IDENTITY.new", "lost+found"];

/// Bounds of memory and disk, with defaults that suit a node of 200 MiB.
#[derive(Clone, Debug)]
pub struct StorageOptions {
    /// Durable log entries kept in memory for replication and apply, in bytes; entries not yet durable come on top.
    pub log_cache_bytes: usize,
    /// The log's write buffer, in bytes; up to three of them are in use.
    pub log_buffer_bytes: usize,
    /// The tables' write buffers together, in bytes; as much again may be on its way to disk.
    pub state_buffer_bytes: usize,
    /// Cached blocks of both databases, in bytes.
    pub block_cache_bytes: usize,
    /// Snapshots kept. Each holds on to files the tables no longer need.
    pub snapshots_kept: usize,
}

impl Default for StorageOptions {
    fn default() -> Self {
        Self {
            log_cache_bytes: 32 << 20,
            log_buffer_bytes: 16 << 20,
            state_buffer_bytes: 32 << 20,
            block_cache_bytes: 32 << 20,
            snapshots_kept: 1,
        }
    }
}

/// An open data folder. The lock on it is held until the last clone, and the last handle of its groups, is dropped.
#[derive(Clone)]
pub struct DataDir {
    inner: Arc<Inner>,
}

struct Inner {
    path: PathBuf,
    identity: Mutex<Identity>,
    opened: Mutex<BTreeSet<u32>>,
    shared: Shared,
    lock: Arc<Lock>,
}

/// The lock on a data folder.
pub(crate) struct Lock {
    file: Option<File>,
    on_release: Mutex<Vec<Box<dyn FnOnce() + Send>>>,
}

impl Drop for Lock {
    fn drop(&mut self) {
        drop(self.file.take());
        let waiting = std::mem::take(self.on_release.get_mut().unwrap_or_else(PoisonError::into_inner));
        waiting.into_iter().for_each(|call| call());
    }
}

/// One Raft group's log, tables and snapshots. All handles are cheap to clone.
#[derive(Clone)]
pub struct Group {
    /// The Raft log and vote.
    pub log: LogStore,
    /// The state tables.
    pub state: StateStore,
    /// Snapshots of the tables.
    pub snapshots: Snapshots,
}

/// What the parts of a group share.
#[derive(Clone)]
pub(crate) struct GroupContext {
    /// The group's folder.
    pub(crate) dir: PathBuf,
    /// The folder for work in progress.
    pub(crate) tmp: PathBuf,
    pub(crate) shared: Shared,
    /// Held so that the folder stays ours as long as anything of it is open.
    pub(crate) _lock: Arc<Lock>,
}

impl DataDir {
    /// Opens a data folder, or makes one where there is none, with the default bounds.
    ///
    /// # Errors
    /// See [`open_with`](Self::open_with).
    pub fn open(path: &Path) -> Result<Self> {
        Self::open_with(path, StorageOptions::default())
    }

    /// Opens a data folder, or makes one where there is none.
    ///
    /// # Errors
    /// The folder is in use by another process, holds something else, is damaged, or has an unknown format.
    pub fn open_with(path: &Path, options: StorageOptions) -> Result<Self> {
        files::make_dir(path)?;
        let lock = Arc::new(lock(path)?);
        let identity = match read_identity(path)? {
            Some(identity) => identity,
            None => make_identity(path)?,
        };
        files::remove_tree(&path.join(TMP))?;
        for dir in [TMP, WORKER, GROUPS] {
            files::make_dir(&path.join(dir))?;
        }
        let inner = Inner {
            path: path.to_owned(),
            identity: Mutex::new(identity),
            opened: Mutex::new(BTreeSet::new()),
            shared: Shared::new(options),
            lock,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Calls back when the folder is free again: when the last clone of this, and the last handle of its groups, was dropped.
    pub fn on_release(&self, call: impl FnOnce() + Send + 'static) {
        locked(&self.inner.lock.on_release).push(Box::new(call));
    }

    /// Returns the folder itself.
    pub fn path(&self) -> &Path {
        &self.inner.path
    }

    /// Returns who the folder belongs to.
    pub fn identity(&self) -> Identity {
        *locked(&self.inner.identity)
    }

    /// Makes the folder belong to a cluster, durably. To say it again is harmless.
    ///
    /// # Errors
    /// The folder belongs to another cluster, or could not be written.
    pub fn set_cluster(&self, id: [u8; 16]) -> Result<()> {
        let mut identity = locked(&self.inner.identity);
        let path = self.inner.path.join(IDENTITY);
        match identity.cluster {
            Some(found) if found == id => Ok(()),
            Some(found) => Err(StorageError::OtherCluster {
                path,
                found: hex(&found),
                wanted: hex(&id),
            }),
            None => {
                let next = Identity {
                    cluster: Some(id),
                    ..*identity
                };
                files::replace(&path, &codec::encode(Kind::Identity, &next))?;
                *identity = next;
                Ok(())
            }
        }
    }

    /// Stores what the members agreed on while the cluster forms, durably.
    ///
    /// # Errors
    /// The file could not be written.
    pub fn save_formation(&self, bytes: &[u8]) -> Result<()> {
        files::replace(
            &self.inner.path.join(FORMATION),
            &codec::encode(Kind::Formation, &bytes),
        )
    }

    /// Returns what [`save_formation`](Self::save_formation) stored.
    ///
    /// # Errors
    /// The file could not be read or is damaged.
    pub fn read_formation(&self) -> Result<Option<Vec<u8>>> {
        let path = self.inner.path.join(FORMATION);
        let Some(bytes) = files::read_if_there(&path)? else {
            return Ok(None);
        };
        let formation = codec::decode(Kind::Formation, &bytes);
        formation
            .map(Some)
            .map_err(|e| StorageError::damaged(&path, e.to_string(), REJOIN))
    }

    /// Removes what [`save_formation`](Self::save_formation) stored: the cluster exists, its log knows the members.
    ///
    /// # Errors
    /// The file could not be removed.
    pub fn clear_formation(&self) -> Result<()> {
        files::remove_file(&self.inner.path.join(FORMATION))
    }

    /// Opens a group's log, tables and snapshots. Each group is opened once per process.
    ///
    /// Tables that are missing are rebuilt: from the newest snapshot where the log no longer begins at its beginning,
    /// else from nothing, and in both cases by applying the log again.
    ///
    /// # Errors
    /// Something is damaged (the error names the file and what to do), or the tables are older than the log's first
    /// entry and no snapshot reaches it.
    pub fn group(&self, group: u32) -> Result<Group> {
        let dir = self.inner.path.join(GROUPS).join(group.to_string());
        if !locked(&self.inner.opened).insert(group) {
            return Err(StorageError::misuse(&dir, "the group is already open in this process"));
        }
        files::make_dir(&dir)?;
        let ctx = GroupContext {
            dir,
            tmp: self.tmp_dir(),
            shared: self.inner.shared.clone(),
            _lock: Arc::clone(&self.inner.lock),
        };
        let opened = Group::open(ctx);
        if opened.is_err() {
            locked(&self.inner.opened).remove(&group);
        }
        opened
    }

    /// Returns the folder for the worker's journal and output files.
    pub fn worker_dir(&self) -> PathBuf {
        self.inner.path.join(WORKER)
    }

    /// Returns the folder for work in progress, wiped at start.
    pub fn tmp_dir(&self) -> PathBuf {
        self.inner.path.join(TMP)
    }
}

impl Group {
    fn open(ctx: GroupContext) -> Result<Self> {
        let had_log = LogStore::exists(&ctx);
        let log = LogStore::open(&ctx)?;
        let snapshots = StoredSnapshots::load(&ctx)?;
        let purged = log.read_purged()?;
        let state = StateStore::open(&ctx, purged, &snapshots)?;
        if !had_log && state.applied()?.last.is_some() {
            // Without its vote the node could vote twice in one term.
            let problem = "the log and its vote are missing although the tables hold entries";
            return Err(StorageError::damaged(&ctx.dir, problem, REJOIN));
        }
        let snapshots = snapshots.of(state.clone());
        Ok(Self { log, state, snapshots })
    }
}

fn lock(path: &Path) -> Result<Lock> {
    let file = path.join(LOCK);
    let lock = OpenOptions::new().create(true).truncate(false).write(true).open(&file);
    let lock = lock.map_err(|e| StorageError::io(&file, "open", e))?;
    match lock.try_lock() {
        Ok(()) => Ok(Lock {
            file: Some(lock),
            on_release: Mutex::default(),
        }),
        Err(TryLockError::WouldBlock) => Err(StorageError::InUse { path: path.to_owned() }),
        Err(TryLockError::Error(e)) => Err(StorageError::io(&file, "lock", e)),
    }
}

fn read_identity(dir: &Path) -> Result<Option<Identity>> {
    let path = dir.join(IDENTITY);
    let Some(bytes) = files::read_if_there(&path)? else {
        return Ok(None);
    };
    let identity: Identity = codec::decode(Kind::Identity, &bytes).map_err(|e| match e {
        DecodeError::Version(found) => StorageError::Format {
            path: path.clone(),
            found: u32::from(found),
            known: FORMAT,
        },
        e => StorageError::damaged(&path, e.to_string(), REJOIN),
    })?;
    if identity.format != FORMAT {
        return Err(StorageError::Format {
            path,
            found: identity.format,
            known: FORMAT,
        });
    }
    Ok(Some(identity))
}

fn make_identity(dir: &Path) -> Result<Identity> {
    let path = dir.join(IDENTITY);
    for name in files::names(dir)? {
        if name == GROUPS || name == FORMATION {
            // A new node id on an old vote would let one node vote twice.
            let problem = format!("the file is missing although there is {name:?}");
            return Err(StorageError::damaged(&path, problem, REJOIN));
        }
        if !HARMLESS.contains(&name.as_str()) {
            let problem =
                format!("not a data folder: it holds {name:?}; name an empty folder or one that does not exist");
            return Err(StorageError::misuse(dir, problem));
        }
    }
    let random =
        getrandom::u64().map_err(|e| StorageError::io(&path, "ask the system for a random number", e.into()))?;
    // Zero is no node, so that a forgotten field never names one.
    let identity = Identity {
        format: FORMAT,
        node: NodeId((random >> 1).max(1)),
        cluster: None,
    };
    files::replace(&path, &codec::encode(Kind::Identity, &identity))?;
    Ok(identity)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// Locks a value that is whole at every moment, whatever a holder of the lock did.
pub(crate) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
