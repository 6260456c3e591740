//! Snapshots of the tables: what a node that is far behind receives, and what lets the log be purged.
//!
//! A snapshot is a checkpoint of RocksDB: its files are linked, not copied, so taking one costs a flush. It counts from
//! the moment it is durable: only then is it reported, and only then may the log be purged up to it.

mod manifest;
mod receive;
mod stored;

use crate::error::{Result, StorageError};
use crate::files::{self, Scratch};
use crate::record::Applied;
use crate::state::StateStore;
pub use manifest::{Manifest, ManifestFile};
pub use receive::{ReceivedSnapshot, SnapshotWriter};
use std::path::Path;
use std::sync::Arc;
pub use stored::SnapshotReader;
pub(crate) use stored::StoredSnapshots;

/// A handle of the snapshots of one group. All calls block: run them off the async threads.
#[derive(Clone)]
pub struct Snapshots {
    stored: Arc<StoredSnapshots>,
    state: StateStore,
}

/// What a snapshot is called and how far it goes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SnapshotInfo {
    /// Its name, unique over the cluster.
    pub id: String,
    /// How far its tables go.
    pub applied: Applied,
    /// Bytes of all its files.
    pub total_bytes: u64,
}

/// A checkpoint that is not yet a snapshot; dropped, it is removed.
pub struct Checkpoint {
    snapshots: Snapshots,
    scratch: Scratch,
    applied: Applied,
    id: String,
}

impl StoredSnapshots {
    /// Joins the stored snapshots with the tables that new ones are taken of.
    pub(crate) fn of(self, state: StateStore) -> Snapshots {
        Snapshots {
            stored: Arc::new(self),
            state,
        }
    }
}

impl Snapshots {
    /// Takes a checkpoint of the tables: flushes and links their files. To be called between two applies; other threads
    /// may go on reading.
    ///
    /// # Errors
    /// RocksDB or the disk refuses.
    pub fn checkpoint(&self) -> Result<Checkpoint> {
        let ctx = self.state.context();
        let scratch = Scratch::reserve(ctx.tmp.join(format!("checkpoint-{:016x}", random(&ctx.tmp)?)))?;
        let applied = self.state.db().checkpoint(ctx, scratch.path())?;
        let id = self.unique(&applied)?;
        Ok(Checkpoint {
            snapshots: self.clone(),
            scratch,
            applied,
            id,
        })
    }

    /// Takes a checkpoint and seals it.
    ///
    /// # Errors
    /// RocksDB or the disk refuses.
    pub fn build(&self) -> Result<SnapshotInfo> {
        self.checkpoint()?.seal()
    }

    /// Returns the newest stored snapshot.
    pub fn newest(&self) -> Option<SnapshotInfo> {
        self.stored.newest().map(|s| s.manifest().info())
    }

    /// Opens a stored snapshot for reading.
    ///
    /// # Errors
    /// There is no such snapshot, or no longer.
    pub fn open(&self, id: &str) -> Result<SnapshotReader> {
        let unknown = || StorageError::misuse(&self.stored.folder(), format!("there is no snapshot {id:?}"));
        self.stored.find(id).ok_or_else(unknown)
    }

    /// Replaces the tables by a received snapshot, at once, and keeps it as the newest stored one. Durable when it returns.
    ///
    /// Views taken before go on reading the tables that were replaced. Interrupted at any point, the node starts with
    /// either tables, whole.
    ///
    /// # Errors
    /// RocksDB or the disk refuses, or the files are not what the manifest says; the tables stay as they were.
    pub fn install(&self, received: ReceivedSnapshot) -> Result<SnapshotInfo> {
        let ReceivedSnapshot { manifest, scratch } = received;
        let reader = match self.stored.find(&manifest.id) {
            // Received before, and interrupted after that.
            Some(known) if *known.manifest() == manifest => {
                known.verify()?;
                known
            }
            Some(_) => {
                let problem = format!("another snapshot is called {:?} too", manifest.id);
                return Err(StorageError::misuse(&self.stored.folder(), problem));
            }
            None => {
                let stored = self.stored.store(scratch, manifest)?;
                stored.mark_all_verified();
                stored
            }
        };
        self.state.replace(&reader)?;
        self.stored.prune();
        Ok(reader.manifest().info())
    }

    /// Returns a name no other snapshot has, on any node.
    fn unique(&self, applied: &Applied) -> Result<String> {
        let (index, term) = applied.last.map_or((0, 0), |last| (last.index, last.term));
        Ok(format!("{index}-{term}-{:016x}", random(&self.stored.folder())?))
    }
}

impl Checkpoint {
    /// Returns how far its tables go.
    pub fn applied(&self) -> &Applied {
        &self.applied
    }

    /// Hashes, syncs and stores the checkpoint as a snapshot; slow, may run beside applies.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn seal(self) -> Result<SnapshotInfo> {
        let Self {
            snapshots,
            scratch,
            applied,
            id,
        } = self;
        let mut files = Vec::new();
        for name in files::names(scratch.path())? {
            let path = scratch.path().join(&name);
            files.push(ManifestFile::of(&path, name)?);
            files::sync_file(&path)?;
        }
        let manifest = Manifest { id, applied, files };
        let stored = snapshots.stored.store(scratch, manifest)?;
        stored.mark_all_verified();
        snapshots.stored.prune();
        Ok(stored.manifest().info())
    }
}

fn random(near: &Path) -> Result<u64> {
    getrandom::u64().map_err(|e| StorageError::io(near, "ask the system for a random number for", e.into()))
}
