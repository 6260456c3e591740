//! Files and folders that survive a power cut: write aside, sync, rename, sync the folder.

use crate::error::{Result, StorageError};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Makes the entries of a folder durable: new, renamed and removed names.
pub(crate) fn sync_dir(dir: &Path) -> Result<()> {
    let file = File::open(dir).map_err(|e| StorageError::io(dir, "open folder", e))?;
    file.sync_all().map_err(|e| StorageError::io(dir, "sync folder", e))
}

/// Makes a file's bytes durable.
pub(crate) fn sync_file(path: &Path) -> Result<()> {
    let file = File::open(path).map_err(|e| StorageError::io(path, "open", e))?;
    file.sync_all().map_err(|e| StorageError::io(path, "sync", e))
}

/// Makes a folder and its missing parents, durably.
pub(crate) fn make_dir(dir: &Path) -> Result<()> {
    if dir.is_dir() {
        return Ok(());
    }
    // A relative path of one name has the empty path as its parent: the current folder.
    let parent = match dir.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    make_dir(parent)?;
    match fs::create_dir(dir) {
        Ok(()) => sync_dir(parent),
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(e) => Err(StorageError::io(dir, "create folder", e)),
    }
}

/// Replaces a small file, at once and durably: after a power cut it holds the old bytes or the new ones.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    let aside = path.with_extension("new");
    let mut file = File::create(&aside).map_err(|e| StorageError::io(&aside, "create", e))?;
    file.write_all(bytes)
        .map_err(|e| StorageError::io(&aside, "write", e))?;
    file.sync_all().map_err(|e| StorageError::io(&aside, "sync", e))?;
    rename(&aside, path)
}

/// Renames a file or folder and makes the new name durable.
pub(crate) fn rename(from: &Path, to: &Path) -> Result<()> {
    fs::rename(from, to).map_err(|e| StorageError::io(to, "rename to", e))?;
    to.parent().map_or(Ok(()), sync_dir)
}

/// Reads a file that may be absent.
pub(crate) fn read_if_there(path: &Path) -> Result<Option<Vec<u8>>> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(StorageError::io(path, "read", e)),
    }
}

/// Removes a file that may be absent.
pub(crate) fn remove_file(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Ok(()) => path.parent().map_or(Ok(()), sync_dir),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(StorageError::io(path, "remove", e)),
    }
}

/// Removes a folder and all in it; it may be absent.
pub(crate) fn remove_tree(dir: &Path) -> Result<()> {
    match fs::remove_dir_all(dir) {
        Ok(()) => Ok(()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(StorageError::io(dir, "remove folder", e)),
    }
}

/// Returns the names in a folder, sorted.
pub(crate) fn names(dir: &Path) -> Result<Vec<String>> {
    let entries = fs::read_dir(dir).map_err(|e| StorageError::io(dir, "list", e))?;
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|e| StorageError::io(dir, "list", e))?;
        names.push(entry.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

/// A folder in the making: removed when dropped, unless it was kept.
pub(crate) struct Scratch {
    path: PathBuf,
    kept: bool,
}

impl Scratch {
    /// Makes an empty folder, in place of one that may be left from an earlier attempt.
    pub(crate) fn new(path: PathBuf) -> Result<Self> {
        remove_tree(&path)?;
        make_dir(&path)?;
        Ok(Self { path, kept: false })
    }

    /// Takes charge of a path at which somebody else will make the folder.
    pub(crate) fn reserve(path: PathBuf) -> Result<Self> {
        remove_tree(&path)?;
        Ok(Self { path, kept: false })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Moves the folder to its place for good.
    pub(crate) fn keep_as(mut self, to: &Path) -> Result<()> {
        rename(&self.path, to)?;
        self.kept = true;
        Ok(())
    }

    /// Leaves the folder where it is.
    pub(crate) fn keep(mut self) -> PathBuf {
        self.kept = true;
        std::mem::take(&mut self.path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if !self.kept
            && let Err(e) = remove_tree(&self.path)
        {
            // The next start clears what is left.
            tracing::warn!(error = %e, "unfinished folder not removed");
        }
    }
}
