//! Reads a piece of an attempt's output, from the files.

use super::OutputId;
use bytes::Bytes;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// A piece of output.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Piece {
    /// Of which attempt.
    pub attempt: u32,
    /// Where it begins; later than asked when the bytes between were dropped.
    pub offset: u64,
    /// The bytes.
    pub data: Bytes,
    /// Where to read on.
    pub next_offset: u64,
    /// The attempt has ended and nothing follows.
    pub end: bool,
}

/// Why there is no piece.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// Never run here, nothing written, or pruned.
    #[error("this worker has no such output")]
    NotFound,
    /// The files cannot be read.
    #[error("the output cannot be read: {0}")]
    Failed(#[from] io::Error),
}

/// The files of an attempt, by the offset they begin at, ascending.
fn files(root: &Path, id: OutputId) -> io::Result<Vec<(u64, PathBuf)>> {
    let mut files = vec![(0, id.head(root))];
    match std::fs::read_dir(id.more_dir(root)) {
        Ok(entries) => {
            for entry in entries {
                let entry = entry?;
                if let Some(start) = entry.file_name().to_str().and_then(|name| name.parse().ok()) {
                    files.push((start, entry.path()));
                }
            }
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        Err(e) => return Err(e),
    }
    files.sort_unstable();
    Ok(files)
}

/// What was read.
pub(super) struct Found {
    pub(super) from: u64,
    pub(super) data: Vec<u8>,
    /// Nothing on disk follows.
    pub(super) last: bool,
}

/// Reads up to `limit` bytes from `offset`, not past `len` (of an attempt under way) and not across a gap. `None` means that nothing
/// is left from there on.
///
/// A piece that is dropped while it is read is no error: reading goes on after it.
pub(super) fn read(
    root: &Path,
    id: OutputId,
    offset: u64,
    limit: usize,
    len: Option<u64>,
) -> io::Result<Option<Found>> {
    let mut files = files(root, id)?.into_iter().peekable();
    while let Some((start, path)) = files.next() {
        let mut file = match File::open(&path) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
            Err(e) => return Err(e),
        };
        let end = (start + file.metadata()?.len()).min(len.unwrap_or(u64::MAX));
        if offset >= end {
            continue;
        }
        let from = offset.max(start);
        let take = (end - from).min(limit as u64);
        file.seek(SeekFrom::Start(from - start))?;
        // Bounded by `limit`, which the caller bounds.
        let mut data = Vec::with_capacity(usize::try_from(take).unwrap_or(0));
        file.take(take).read_to_end(&mut data)?;
        let last = from + take == end && files.peek().is_none();
        return Ok(Some(Found { from, data, last }));
    }
    Ok(None)
}

/// Deletes the files of an attempt, and the task's folder when it was the last in it.
pub(super) fn delete(root: &Path, id: OutputId) -> io::Result<()> {
    let absent_is_fine = |result: io::Result<()>| match result {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    };
    // The head last: what has no head is not found again by the next start.
    absent_is_fine(std::fs::remove_dir_all(id.more_dir(root)))?;
    absent_is_fine(std::fs::remove_file(id.head(root)))?;
    // Fails while others are in it, as it should.
    let _ = std::fs::remove_dir(id.task_dir(root));
    Ok(())
}
