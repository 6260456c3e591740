//! Snapshots on disk.

use super::manifest::{MANIFEST_FILE, Manifest};
use crate::dir::{GroupContext, locked};
use crate::error::{DROP_SNAPSHOT, Result, StorageError};
use crate::files::{self, Scratch};
use bytes::Bytes;
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

/// The folder of snapshots within the group's.
const FOLDER: &str = "snap";

/// The stored snapshots of one group, oldest first.
pub(crate) struct StoredSnapshots {
    context: GroupContext,
    list: Mutex<Vec<Arc<Stored>>>,
}

/// One stored snapshot.
struct Stored {
    folder: PathBuf,
    tmp: PathBuf,
    manifest: Manifest,
    /// Files whose bytes were compared with the manifest since the start.
    verified: Mutex<BTreeSet<String>>,
    /// Whether newer snapshots have taken its place: it goes when nobody reads it.
    replaced: AtomicBool,
}

/// Reads a stored snapshot, which stays on disk while the reader lives.
#[derive(Clone)]
pub struct SnapshotReader {
    stored: Arc<Stored>,
}

impl StoredSnapshots {
    /// Finds the snapshots of a group.
    pub(crate) fn load(ctx: &GroupContext) -> Result<Self> {
        let folder = ctx.dir.join(FOLDER);
        files::make_dir(&folder)?;
        let mut list = Vec::new();
        for name in files::names(&folder)? {
            list.push(Arc::new(Stored::load(ctx, folder.join(name))?));
        }
        list.sort_by_key(|s| s.order());
        let snapshots = Self {
            context: ctx.clone(),
            list: Mutex::new(list),
        };
        snapshots.prune();
        Ok(snapshots)
    }

    pub(crate) fn newest(&self) -> Option<SnapshotReader> {
        locked(&self.list).last().map(|stored| SnapshotReader {
            stored: Arc::clone(stored),
        })
    }

    pub(super) fn find(&self, id: &str) -> Option<SnapshotReader> {
        let list = locked(&self.list);
        list.iter().find(|s| s.manifest.id == id).map(|stored| SnapshotReader {
            stored: Arc::clone(stored),
        })
    }

    pub(super) fn folder(&self) -> PathBuf {
        self.context.dir.join(FOLDER)
    }

    pub(super) fn context(&self) -> &GroupContext {
        &self.context
    }

    /// Puts a folder whose files are whole and durable among the snapshots.
    pub(super) fn store(&self, files: Scratch, manifest: Manifest) -> Result<SnapshotReader> {
        files::replace(&files.path().join(MANIFEST_FILE), &manifest.encode())?;
        let folder = self.folder().join(&manifest.id);
        files.keep_as(&folder)?;
        let stored = Arc::new(Stored::new(&self.context, folder, manifest));
        let mut list = locked(&self.list);
        list.push(Arc::clone(&stored));
        list.sort_by_key(|s| s.order());
        Ok(SnapshotReader { stored })
    }

    /// Lets all but the newest go.
    pub(super) fn prune(&self) {
        let mut list = locked(&self.list);
        // One at least: the log is purged up to it.
        let kept = self.context.shared.options().snapshots_kept.max(1);
        let old = list.len().saturating_sub(kept);
        for stored in list.drain(..old) {
            stored.replaced.store(true, Ordering::Relaxed);
        }
    }
}

impl Stored {
    fn new(ctx: &GroupContext, folder: PathBuf, manifest: Manifest) -> Self {
        let (verified, replaced) = (Mutex::new(BTreeSet::new()), AtomicBool::new(false));
        Self {
            folder,
            tmp: ctx.tmp.clone(),
            manifest,
            verified,
            replaced,
        }
    }

    /// Reads the manifest and compares names and sizes; bytes are compared before they are used.
    fn load(ctx: &GroupContext, folder: PathBuf) -> Result<Self> {
        let path = folder.join(MANIFEST_FILE);
        let damaged = |path: &Path, problem: String| StorageError::damaged(path, problem, DROP_SNAPSHOT);
        let bytes = files::read_if_there(&path)?.ok_or_else(|| damaged(&path, "the file is missing".to_owned()))?;
        let manifest = Manifest::read(&bytes).map_err(|problem| damaged(&path, problem))?;
        if folder.file_name().is_none_or(|name| name != manifest.id.as_str()) {
            return Err(damaged(&path, format!("it is the manifest of {:?}", manifest.id)));
        }
        for file in &manifest.files {
            let path = folder.join(&file.name);
            let size = match fs::metadata(&path) {
                Ok(found) => found.len(),
                Err(e) if e.kind() == ErrorKind::NotFound => {
                    return Err(damaged(&path, "the file is missing".to_owned()));
                }
                Err(e) => return Err(StorageError::io(&path, "read the size of", e)),
            };
            if size != file.size {
                return Err(damaged(&path, format!("{size} bytes instead of {}", file.size)));
            }
        }
        Ok(Self::new(ctx, folder, manifest))
    }

    fn order(&self) -> (Option<u64>, u64) {
        let last = self.manifest.applied.last;
        (last.map(|l| l.index), last.map_or(0, |l| l.term))
    }
}

impl Drop for Stored {
    fn drop(&mut self) {
        if !self.replaced.load(Ordering::Relaxed) {
            return;
        }
        // First out of sight in one step: half a snapshot would be taken for a damaged one.
        let away = self.tmp.join(format!("gone-{}", self.manifest.id));
        let gone = files::remove_tree(&away).and_then(|()| files::rename(&self.folder, &away));
        if let Err(e) = gone.and_then(|()| files::remove_tree(&away)) {
            tracing::warn!(error = %e, "an old snapshot was not removed");
        }
    }
}

impl SnapshotReader {
    /// Returns what the snapshot consists of.
    pub fn manifest(&self) -> &Manifest {
        &self.stored.manifest
    }

    /// Returns up to `len` bytes of a file from `offset` on; fewer only at its end.
    ///
    /// # Errors
    /// The snapshot has no such file, or its bytes are not those of the manifest: nothing damaged is handed out.
    pub fn read(&self, file: &str, offset: u64, len: usize) -> Result<Bytes> {
        self.verify_file(file)?;
        let path = self.stored.folder.join(file);
        let mut open = File::open(&path).map_err(|e| StorageError::io(&path, "open", e))?;
        open.seek(SeekFrom::Start(offset))
            .map_err(|e| StorageError::io(&path, "seek in", e))?;
        let mut bytes = Vec::new();
        open.take(len as u64)
            .read_to_end(&mut bytes)
            .map_err(|e| StorageError::io(&path, "read", e))?;
        Ok(Bytes::from(bytes))
    }

    /// Compares every file with the manifest.
    pub(crate) fn verify(&self) -> Result<()> {
        self.manifest()
            .files
            .iter()
            .try_for_each(|file| self.verify_file(&file.name))
    }

    /// Compares a file with the manifest, once per start.
    fn verify_file(&self, name: &str) -> Result<()> {
        if locked(&self.stored.verified).contains(name) {
            return Ok(());
        }
        let Some(file) = self.manifest().file(name) else {
            let problem = format!("snapshot {:?} has no file {name:?}", self.manifest().id);
            return Err(StorageError::misuse(&self.stored.folder, problem));
        };
        file.verify(&self.stored.folder.join(name), DROP_SNAPSHOT)?;
        self.mark_verified(name);
        Ok(())
    }

    fn mark_verified(&self, name: &str) {
        locked(&self.stored.verified).insert(name.to_owned());
    }

    /// Notes that every file has just been hashed.
    pub(super) fn mark_all_verified(&self) {
        self.manifest()
            .files
            .iter()
            .for_each(|file| self.mark_verified(&file.name));
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.stored.folder
    }

    pub(crate) fn remedy(&self) -> &'static str {
        DROP_SNAPSHOT
    }

    /// Makes a database's folder of the snapshot, durably. Tables' files are linked: RocksDB never changes them.
    pub(crate) fn copy_to(&self, folder: &Path) -> Result<()> {
        for file in &self.manifest().files {
            let (from, to) = (self.stored.folder.join(&file.name), folder.join(&file.name));
            let linked = file.name.ends_with(".sst") && fs::hard_link(&from, &to).is_ok();
            if !linked {
                fs::copy(&from, &to).map_err(|e| StorageError::io(&to, "copy to", e))?;
                files::sync_file(&to)?;
            }
        }
        files::sync_dir(folder)
    }
}
