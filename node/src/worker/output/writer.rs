//! Writes the output of one attempt.

use super::store::OutputStore;
use super::{OutputId, OutputLimits};
use sched_core::RunId;
use sched_core::limits::OUTPUT_TAIL_BYTES_MAX;
use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::fs::File;
use tokio::io::AsyncWriteExt;
use tokio::sync::watch;

/// How far an attempt under way has come.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Progress {
    /// Bytes that can be read from the files, dropped ones included.
    pub(super) len: u64,
    /// Nothing follows.
    pub(super) ended: bool,
}

/// Writes the output of one attempt. Readers see it as it grows.
///
/// Writing never fails: when the disk does, the rest is dropped, with one line that says so, and the tail is still right.
pub struct OutputWriter {
    id: OutputId,
    store: Arc<OutputStore>,
    progress: watch::Sender<Progress>,
    /// The open file, and where it ends.
    file: Option<(File, u64)>,
    /// Bytes written in all.
    len: u64,
    /// Bytes of them still on disk.
    kept: u64,
    /// Starts of the pieces after the head that are still there, with their sizes.
    pieces: VecDeque<(u64, u64)>,
    tail: Tail,
    failed: bool,
}

impl OutputWriter {
    /// Begins the output of an attempt; without a byte there will be no file.
    pub fn new(store: &Arc<OutputStore>, run: RunId, attempt: u32) -> Self {
        let id = OutputId { run, attempt };
        let progress = watch::Sender::new(Progress::default());
        store.began(id, progress.subscribe());
        Self {
            id,
            store: store.clone(),
            progress,
            file: None,
            len: 0,
            kept: 0,
            pieces: VecDeque::new(),
            tail: Tail::default(),
            failed: false,
        }
    }

    /// From now on the beginning is reported instead of the end: of an answer to a request, the beginning says more.
    pub fn report_start(&mut self) {
        self.tail.start = true;
    }

    /// Appends.
    pub async fn write(&mut self, bytes: &[u8]) {
        self.tail.push(bytes);
        if self.failed {
            return;
        }
        if let Err(e) = self.append(bytes).await {
            self.failed = true;
            self.file = None;
            tracing::warn!(run = %self.id.run, attempt = self.id.attempt, error = %e, "output cannot be written; the rest is dropped");
        }
        self.progress.send_modify(|progress| progress.len = self.len);
    }

    /// Ends the output and returns what is reported of it.
    pub async fn finish(mut self) -> Vec<u8> {
        if let Some((mut file, _)) = self.file.take()
            && let Err(e) = file.flush().await
        {
            tracing::warn!(run = %self.id.run, attempt = self.id.attempt, error = %e, "the end of the output cannot be written");
        }
        std::mem::take(&mut self.tail).into_bytes()
    }

    async fn append(&mut self, mut bytes: &[u8]) -> std::io::Result<()> {
        while !bytes.is_empty() {
            if self.file.as_ref().is_none_or(|(_, end)| *end == self.len) {
                let opened = self.next_file().await?;
                self.file = Some(opened);
            }
            let Some((file, end)) = &mut self.file else {
                return Ok(());
            };
            let room = usize::try_from(*end - self.len).unwrap_or(usize::MAX);
            let (now, rest) = bytes.split_at(room.min(bytes.len()));
            file.write_all(now).await?;
            // The file type buffers; without this a reader would see less than `len`.
            file.flush().await?;
            self.len += now.len() as u64;
            self.kept += now.len() as u64;
            if let Some((_, size)) = self.pieces.back_mut() {
                *size += now.len() as u64;
            }
            bytes = rest;
        }
        Ok(())
    }

    /// Opens the file for the next byte, and drops the piece that is one too many.
    async fn next_file(&mut self) -> std::io::Result<(File, u64)> {
        let root = self.store.root();
        let limits: &OutputLimits = self.store.limits();
        if self.len == 0 {
            return Ok((create(self.id.head(root)).await?, limits.head_bytes()));
        }
        if self.pieces.len() == 2
            && let Some((start, size)) = self.pieces.pop_front()
        {
            tokio::fs::remove_file(self.id.more(root, start)).await?;
            self.kept -= size;
        }
        let file = create(self.id.more(root, self.len)).await?;
        self.pieces.push_back((self.len, 0));
        Ok((file, self.len + limits.piece_bytes()))
    }
}

impl Drop for OutputWriter {
    /// Also on a path where nobody called `finish`, so that a reader that follows never waits for ever.
    fn drop(&mut self) {
        self.store.ended(self.id, self.kept);
        self.progress.send_modify(|progress| progress.ended = true);
    }
}

/// Creates a file with its folder. The folder may be pruned between the two steps, so there are two tries.
async fn create(path: PathBuf) -> std::io::Result<File> {
    match File::create(&path).await {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
        other => return other,
    }
    if let Some(dir) = path.parent() {
        tokio::fs::create_dir_all(dir).await?;
    }
    File::create(&path).await
}

/// The part of the output that travels with the result.
#[derive(Default)]
struct Tail {
    bytes: VecDeque<u8>,
    /// Keep the start, not the end.
    start: bool,
}

impl Tail {
    fn push(&mut self, new: &[u8]) {
        if self.start {
            let room = OUTPUT_TAIL_BYTES_MAX - self.bytes.len();
            self.bytes.extend(&new[..room.min(new.len())]);
            return;
        }
        let new = &new[new.len().saturating_sub(OUTPUT_TAIL_BYTES_MAX)..];
        let over = (self.bytes.len() + new.len()).saturating_sub(OUTPUT_TAIL_BYTES_MAX);
        self.bytes.drain(..over);
        self.bytes.extend(new);
    }

    fn into_bytes(self) -> Vec<u8> {
        self.bytes.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tail_is_the_end_or_on_request_the_start() {
        let max = OUTPUT_TAIL_BYTES_MAX;
        let all: Vec<u8> = (0..max * 2 + 77).map(|i| (i % 251) as u8).collect();
        for step in [1, 7, 4096, max, max + 1, all.len()] {
            let mut end = Tail::default();
            let mut start = Tail {
                start: true,
                ..Tail::default()
            };
            for part in all.chunks(step) {
                end.push(part);
                start.push(part);
            }
            assert_eq!(end.into_bytes(), all[all.len() - max..], "by {step}");
            assert_eq!(start.into_bytes(), all[..max], "by {step}");
        }
    }
}
