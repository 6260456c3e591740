//! Snapshots: one file each, durable before they are told of.

use crate::dir::crashed;
use crate::disk::Disk;
use crate::error::{DROP_SNAPSHOT, Result, StorageError};
use crate::mutants::Mutant;
use crate::record::Applied;
use crate::tables::{Image, StateStore};
use crate::world::world;
use bytes::Bytes;
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};
use std::sync::Arc;

#[allow(dead_code, reason = "the product's own manifest, whole")]
#[path = "../../../storage/src/snapshot/manifest.rs"]
mod manifest;

pub use manifest::{Manifest, ManifestFile};

/// The one file of a snapshot.
const FILE: &str = "TABLES";
/// Snapshots kept.
const KEPT: usize = 2;

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

/// A stored snapshot.
pub(crate) struct Stored {
    pub(crate) manifest: Manifest,
    pub(crate) bytes: Bytes,
}

/// A handle of the snapshots.
#[derive(Clone)]
pub struct Snapshots {
    disk: Arc<Disk>,
    life: u64,
    path: PathBuf,
    state: StateStore,
}

/// A checkpoint that is not yet a snapshot.
pub struct Checkpoint {
    snapshots: Snapshots,
    image: Arc<Image>,
    applied: Applied,
    id: String,
}

/// A stored snapshot, to be read.
#[derive(Clone)]
pub struct SnapshotReader(Arc<Stored>);

/// A snapshot that is being received.
pub struct SnapshotWriter {
    manifest: Manifest,
    bytes: Vec<u8>,
    path: PathBuf,
}

/// A snapshot that has arrived whole.
pub struct ReceivedSnapshot {
    manifest: Manifest,
    bytes: Bytes,
}

impl Snapshots {
    pub(crate) fn of(disk: &Arc<Disk>, life: u64, path: &Path, state: &StateStore) -> Self {
        Self {
            disk: disk.clone(),
            life,
            path: path.join("snap"),
            state: state.clone(),
        }
    }

    fn alive(&self) -> Result<()> {
        if self.disk.life() == self.life {
            Ok(())
        } else {
            Err(crashed(&self.path))
        }
    }

    /// Takes a checkpoint of the tables.
    ///
    /// # Errors
    /// The node has crashed.
    pub fn checkpoint(&self) -> Result<Checkpoint> {
        self.alive()?;
        let image = self.state.image();
        // A checkpoint flushes.
        self.disk.kept().tables = image.clone();
        let world = world();
        let mut applied = image.applied.clone();
        if world.is(Mutant::SnapshotNewer)
            && let Some(last) = &mut applied.last
        {
            last.index = last.index.saturating_sub(1);
        }
        let last = image.applied.index().unwrap_or(0);
        let id = format!("{last}-{:016x}", world.draw(crate::Chance::number));
        Ok(Checkpoint {
            snapshots: self.clone(),
            image,
            applied,
            id,
        })
    }

    /// Takes a checkpoint and seals it.
    ///
    /// # Errors
    /// The node has crashed.
    pub fn build(&self) -> Result<SnapshotInfo> {
        self.checkpoint()?.seal()
    }

    /// Returns the newest stored snapshot.
    pub fn newest(&self) -> Option<SnapshotInfo> {
        self.disk.kept().snapshots.last().map(|stored| stored.manifest.info())
    }

    /// Opens a stored snapshot.
    ///
    /// # Errors
    /// There is no such snapshot.
    pub fn open(&self, id: &str) -> Result<SnapshotReader> {
        let found = self
            .disk
            .kept()
            .snapshots
            .iter()
            .find(|stored| stored.manifest.id == id)
            .cloned();
        let unknown = || StorageError::misuse(&self.path, format!("there is no snapshot {id:?}"));
        found.map(SnapshotReader).ok_or_else(unknown)
    }

    /// Begins to receive a snapshot.
    ///
    /// # Errors
    /// The node has crashed, or the manifest is not that of a snapshot of ours.
    pub fn begin_receive(&self, manifest: Manifest) -> Result<SnapshotWriter> {
        self.alive()?;
        let [file] = &manifest.files[..] else {
            return Err(StorageError::misuse(&self.path, "a snapshot has one file"));
        };
        let bytes = vec![0; usize::try_from(file.size).unwrap_or(0)];
        Ok(SnapshotWriter {
            manifest,
            bytes,
            path: self.path.clone(),
        })
    }

    /// Replaces the tables by a received snapshot and keeps it as the newest one.
    ///
    /// # Errors
    /// The node has crashed.
    pub fn install(&self, received: ReceivedSnapshot) -> Result<SnapshotInfo> {
        self.alive()?;
        let ReceivedSnapshot { manifest, bytes } = received;
        let image = Image::decode(&bytes, manifest.applied.clone());
        let image = image.map_err(|e| StorageError::damaged(&self.path, e.to_string(), DROP_SNAPSHOT))?;
        let info = manifest.info();
        self.store(Stored { manifest, bytes });
        self.state.replace(image)?;
        Ok(info)
    }

    fn store(&self, stored: Stored) {
        let mut kept = self.disk.kept();
        kept.snapshots.retain(|other| other.manifest.id != stored.manifest.id);
        kept.snapshots.push(Arc::new(stored));
        let extra = kept.snapshots.len().saturating_sub(KEPT);
        kept.snapshots.drain(..extra);
    }
}

impl Checkpoint {
    /// Returns how far its tables go.
    pub fn applied(&self) -> &Applied {
        &self.applied
    }

    /// Stores the checkpoint as a snapshot, durably.
    ///
    /// # Errors
    /// The node has crashed.
    pub fn seal(self) -> Result<SnapshotInfo> {
        self.snapshots.alive()?;
        let bytes = self.image.encode();
        let file = ManifestFile {
            name: FILE.to_owned(),
            size: bytes.len() as u64,
            sha256: Sha256::digest(&bytes).into(),
        };
        let manifest = Manifest {
            id: self.id,
            applied: self.applied,
            files: vec![file],
        };
        let info = manifest.info();
        world().event("snapshot", self.snapshots.disk.node, info.applied.index().unwrap_or(0));
        self.snapshots.store(Stored {
            manifest,
            bytes: bytes.into(),
        });
        Ok(info)
    }
}

impl SnapshotReader {
    /// Returns what it consists of.
    pub fn manifest(&self) -> &Manifest {
        &self.0.manifest
    }

    /// Reads a piece of its file.
    ///
    /// # Errors
    /// None.
    pub fn read(&self, _file: &str, offset: u64, len: usize) -> Result<Bytes> {
        let from = usize::try_from(offset).unwrap_or(usize::MAX).min(self.0.bytes.len());
        let to = from.saturating_add(len).min(self.0.bytes.len());
        Ok(self.0.bytes.slice(from..to))
    }
}

impl SnapshotWriter {
    /// Writes a piece of its file.
    ///
    /// # Errors
    /// It reaches beyond the file.
    pub fn write_chunk(&mut self, _file: &str, offset: u64, bytes: &[u8]) -> Result<()> {
        let from = usize::try_from(offset).unwrap_or(usize::MAX);
        let to = from.saturating_add(bytes.len());
        match self.bytes.get_mut(from..to) {
            Some(place) => {
                place.copy_from_slice(bytes);
                Ok(())
            }
            None => Err(StorageError::misuse(&self.path, "a chunk reaches beyond its file")),
        }
    }

    /// Checks the hash.
    ///
    /// # Errors
    /// The bytes are others than the manifest says.
    pub fn finish(self) -> Result<ReceivedSnapshot> {
        let hash: [u8; 32] = Sha256::digest(&self.bytes).into();
        if self.manifest.files.first().is_none_or(|file| file.sha256 != hash) {
            return Err(StorageError::damaged(
                &self.path,
                "another hash than the manifest says",
                DROP_SNAPSHOT,
            ));
        }
        Ok(ReceivedSnapshot {
            manifest: self.manifest,
            bytes: self.bytes.into(),
        })
    }
}

impl ReceivedSnapshot {
    /// Returns what the snapshot is called and how far it goes.
    pub fn info(&self) -> SnapshotInfo {
        self.manifest.info()
    }
}
