//! A data folder without files.

use crate::disk::Disk;
use crate::error::{Result, StorageError};
use crate::log::LogStore;
use crate::record::Identity;
use crate::snapshots::Snapshots;
use crate::tables::StateStore;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A handle of a disk, good for one life of its node.
#[derive(Clone)]
pub struct DataDir {
    disk: Arc<Disk>,
    life: u64,
    path: PathBuf,
}

/// One Raft group's log, tables and snapshots.
#[derive(Clone)]
pub struct Group {
    /// The Raft log and vote.
    pub log: LogStore,
    /// The state tables.
    pub state: StateStore,
    /// Snapshots of the tables.
    pub snapshots: Snapshots,
}

/// What an operation of an ended life is answered with.
pub(crate) fn crashed(path: &Path) -> StorageError {
    StorageError::io(path, "write", io::Error::other("the node has crashed"))
}

impl DataDir {
    /// Begins a life on a disk.
    pub fn open(disk: &Arc<Disk>) -> Self {
        Self {
            disk: disk.clone(),
            life: disk.life(),
            path: PathBuf::from(format!("/sim/{}", disk.node)),
        }
    }

    /// Returns the name of the folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns who the folder belongs to.
    pub fn identity(&self) -> Identity {
        self.disk.kept().identity
    }

    fn alive(&self) -> Result<()> {
        if self.disk.life() == self.life {
            Ok(())
        } else {
            Err(crashed(&self.path))
        }
    }

    /// Makes the node a member of a cluster, durably.
    ///
    /// # Errors
    /// The node has crashed, or belongs to another one.
    pub fn set_cluster(&self, id: [u8; 16]) -> Result<()> {
        self.alive()?;
        let mut kept = self.disk.kept();
        match kept.identity.cluster {
            Some(other) if other != id => Err(StorageError::misuse(&self.path, "belongs to another cluster")),
            _ => {
                kept.identity.cluster = Some(id);
                Ok(())
            }
        }
    }

    /// Stores what the members agreed on, durably.
    ///
    /// # Errors
    /// The node has crashed.
    pub fn save_formation(&self, bytes: &[u8]) -> Result<()> {
        self.alive()?;
        self.disk.kept().formation = Some(bytes.to_vec());
        Ok(())
    }

    /// Returns what the members agreed on.
    ///
    /// # Errors
    /// None.
    pub fn read_formation(&self) -> Result<Option<Vec<u8>>> {
        Ok(self.disk.kept().formation.clone())
    }

    /// Opens log, tables and snapshots.
    ///
    /// # Errors
    /// The tables are older than the log's first entry, and no snapshot reaches it.
    pub fn group(&self, _group: u32) -> Result<Group> {
        self.alive()?;
        self.disk.read_by(self.life);
        let log = LogStore::open(&self.disk, self.life, &self.path);
        let purged = log.read_purged()?;
        let state = StateStore::open(&self.disk, self.life, &self.path, purged)?;
        let snapshots = Snapshots::of(&self.disk, self.life, &self.path, &state);
        Ok(Group { log, state, snapshots })
    }
}
