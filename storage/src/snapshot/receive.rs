//! Receiving a snapshot from a peer.

use super::manifest::Manifest;
use super::{SnapshotInfo, Snapshots};
use crate::error::{Result, StorageError};
use crate::files::{self, Scratch};
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;

/// What a peer should do when what it sent does not check.
const SEND_AGAIN: &str = "the transfer starts anew; if this repeats, the sender's disk or the network alters data";

/// Takes the chunks of a snapshot from a peer, in any order; dropped, it removes what it has.
pub struct SnapshotWriter {
    manifest: Manifest,
    scratch: Scratch,
    /// The file of the last chunk, open: chunks come mostly in order.
    open: Option<(String, File)>,
}

/// A snapshot from a peer, whole, verified and durable, but not yet installed; dropped, it is removed.
pub struct ReceivedSnapshot {
    pub(super) manifest: Manifest,
    pub(super) scratch: Scratch,
}

impl Snapshots {
    /// Starts to receive a snapshot from a peer.
    ///
    /// # Errors
    /// The manifest names something that is not a file of a snapshot, or the disk refuses.
    pub fn begin_receive(&self, manifest: Manifest) -> Result<SnapshotWriter> {
        let ctx = self.stored.context();
        manifest
            .check()
            .map_err(|problem| StorageError::misuse(&self.stored.folder(), problem))?;
        let scratch = Scratch::new(ctx.tmp.join(format!("receive-{}", self.unique(&manifest.applied)?)))?;
        for file in &manifest.files {
            let path = scratch.path().join(&file.name);
            File::create_new(&path).map_err(|e| StorageError::io(&path, "create", e))?;
        }
        Ok(SnapshotWriter {
            manifest,
            scratch,
            open: None,
        })
    }
}

impl SnapshotWriter {
    /// Returns what is to be received.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Stores a chunk of a file. The same chunk may come twice.
    ///
    /// # Errors
    /// The manifest has no such file, the chunk reaches beyond its end, or the disk refuses.
    pub fn write_chunk(&mut self, file: &str, offset: u64, bytes: &[u8]) -> Result<()> {
        let path = self.scratch.path().join(file);
        let Some(known) = self.manifest.file(file) else {
            // Not the joined path: the name is the peer's and may point anywhere.
            let problem = format!("a chunk came for {file:?}, which the snapshot's manifest does not name");
            return Err(StorageError::misuse(self.scratch.path(), problem));
        };
        if offset
            .checked_add(bytes.len() as u64)
            .is_none_or(|end| end > known.size)
        {
            let problem = format!(
                "a chunk of {} bytes at {offset} reaches beyond its {} bytes",
                bytes.len(),
                known.size
            );
            return Err(StorageError::misuse(&path, problem));
        }
        let open = match self.open.take() {
            Some((name, open)) if name == file => open,
            _ => OpenOptions::new()
                .write(true)
                .open(&path)
                .map_err(|e| StorageError::io(&path, "open", e))?,
        };
        open.write_all_at(bytes, offset)
            .map_err(|e| StorageError::io(&path, "write", e))?;
        self.open = Some((file.to_owned(), open));
        Ok(())
    }

    /// Checks sizes and hashes and syncs everything.
    ///
    /// # Errors
    /// A file is short or altered, or the disk refuses.
    pub fn finish(mut self) -> Result<ReceivedSnapshot> {
        self.open = None;
        for file in &self.manifest.files {
            let path = self.scratch.path().join(&file.name);
            file.verify(&path, SEND_AGAIN)?;
            files::sync_file(&path)?;
        }
        files::sync_dir(self.scratch.path())?;
        Ok(ReceivedSnapshot {
            manifest: self.manifest,
            scratch: self.scratch,
        })
    }
}

impl ReceivedSnapshot {
    /// Returns what the snapshot is called and how far it goes.
    pub fn info(&self) -> SnapshotInfo {
        self.manifest.info()
    }
}
