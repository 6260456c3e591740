//! Snapshots of the tables.

use crate::error::Result;
use crate::record::Applied;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// A handle of the snapshots of one group. All calls block: run them off the async threads.
#[derive(Clone)]
pub struct Snapshots {}

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

/// One file of a snapshot.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ManifestFile {
    /// Its name, without any folder.
    pub name: String,
    /// Its length in bytes.
    pub size: u64,
    /// Its hash.
    pub sha256: [u8; 32],
}

/// What a snapshot consists of: enough to fetch it and to know that it is whole.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Manifest {
    /// The snapshot's name.
    pub id: String,
    /// How far its tables go.
    pub applied: Applied,
    /// Its files.
    pub files: Vec<ManifestFile>,
}

/// A checkpoint that is not yet a snapshot; dropped, it is removed.
pub struct Checkpoint {}

/// Reads a stored snapshot, which stays on disk while it lives.
#[derive(Clone)]
pub struct SnapshotReader {}

/// Takes the chunks of a snapshot from a peer, in any order; dropped, it removes what it has.
pub struct SnapshotWriter {}

/// A snapshot from a peer, whole and verified, not yet installed.
pub struct ReceivedSnapshot {}

impl Manifest {
    /// Returns its bytes for disk and wire.
    pub fn encode(&self) -> Vec<u8> {
        unimplemented!()
    }
    /// Reads and checks the bytes of a manifest.
    pub fn decode(_bytes: &[u8]) -> Result<Self> {
        unimplemented!()
    }
    /// Returns the bytes of all files together.
    pub fn total_bytes(&self) -> u64 {
        unimplemented!()
    }
    /// Returns what the snapshot is called and how far it goes.
    pub fn info(&self) -> SnapshotInfo {
        unimplemented!()
    }
}

impl Snapshots {
    /// Takes a checkpoint of the tables: quick, to be called between two applies.
    pub fn checkpoint(&self) -> Result<Checkpoint> {
        unimplemented!()
    }
    /// Takes a checkpoint and seals it.
    pub fn build(&self) -> Result<SnapshotInfo> {
        unimplemented!()
    }
    /// Returns the newest stored snapshot.
    pub fn newest(&self) -> Option<SnapshotInfo> {
        unimplemented!()
    }
    /// Opens a stored snapshot for reading.
    pub fn open(&self, _id: &str) -> Result<SnapshotReader> {
        unimplemented!()
    }
    /// Starts to receive a snapshot from a peer.
    pub fn begin_receive(&self, _manifest: Manifest) -> Result<SnapshotWriter> {
        unimplemented!()
    }
    /// Replaces the tables by a received snapshot, durably and at once, and keeps it as the newest stored one.
    pub fn install(&self, _received: ReceivedSnapshot) -> Result<SnapshotInfo> {
        unimplemented!()
    }
}

impl Checkpoint {
    /// Hashes, syncs and stores the checkpoint as the newest snapshot; slow, may run beside applies.
    pub fn seal(self) -> Result<SnapshotInfo> {
        unimplemented!()
    }
    /// Returns how far its tables go.
    pub fn applied(&self) -> &Applied {
        unimplemented!()
    }
}

impl SnapshotReader {
    /// Returns what the snapshot consists of.
    pub fn manifest(&self) -> &Manifest {
        unimplemented!()
    }
    /// Returns up to `len` bytes of a file from `offset` on; fewer only at its end.
    pub fn read(&self, _file: &str, _offset: u64, _len: usize) -> Result<Bytes> {
        unimplemented!()
    }
}

impl SnapshotWriter {
    /// Returns what is to be received.
    pub fn manifest(&self) -> &Manifest {
        unimplemented!()
    }
    /// Stores a chunk of a file.
    pub fn write_chunk(&mut self, _file: &str, _offset: u64, _bytes: &[u8]) -> Result<()> {
        unimplemented!()
    }
    /// Checks sizes and hashes and syncs everything.
    pub fn finish(self) -> Result<ReceivedSnapshot> {
        unimplemented!()
    }
}

impl ReceivedSnapshot {
    /// Returns what the snapshot is called and how far it goes.
    pub fn info(&self) -> SnapshotInfo {
        unimplemented!()
    }
}
