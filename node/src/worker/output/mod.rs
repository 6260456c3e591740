//! The output of attempts: bounded files on this worker, a short tail with each result, and reading while it is written.
//!
//! ```text
//! output/<task>/<run>.<attempt>.log           the first half of what an attempt may keep
//! output/<task>/<run>.<attempt>.more/<start>  later pieces, each named by the offset it begins at; the two newest are kept
//! ```
//!
//! An attempt that writes nothing has no file. One that writes too much keeps its beginning and its end: the beginning says what it was
//! up to, the end says how it went. All files together are bounded by bytes, number and age; the oldest go first.

mod index;
mod read;
mod store;
mod writer;

pub use read::{Piece, ReadError};
pub use store::OutputStore;
pub use writer::OutputWriter;

use std::path::{Path, PathBuf};
use std::time::Duration;

use sched_core::RunId;

/// How much output a worker keeps.
#[derive(Clone, Debug)]
pub struct OutputLimits {
    /// Of one attempt, in bytes. More is cut out of the middle.
    pub attempt_bytes_max: u64,
    /// Of all ended attempts, in bytes.
    pub total_bytes_max: u64,
    /// Ended attempts with output: bounds the memory of the index and the size of directories.
    pub attempts_max: usize,
    /// Older output goes.
    pub age_max: Duration,
}

impl Default for OutputLimits {
    fn default() -> Self {
        Self {
            attempt_bytes_max: 16 * 1024 * 1024,
            total_bytes_max: 1024 * 1024 * 1024,
            attempts_max: 100_000,
            age_max: Duration::from_secs(7 * 24 * 60 * 60),
        }
    }
}

impl OutputLimits {
    /// The first part, kept whole.
    fn head_bytes(&self) -> u64 {
        (self.attempt_bytes_max / 2).max(1)
    }

    /// A later piece; two are kept.
    fn piece_bytes(&self) -> u64 {
        (self.attempt_bytes_max / 4).max(1)
    }
}

/// Which output: the run and the number of the attempt. Ordered, so that the newest attempt of a run is the last of its range.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct OutputId {
    pub(crate) run: RunId,
    pub(crate) attempt: u32,
}

impl OutputId {
    fn task_dir(self, root: &Path) -> PathBuf {
        root.join(self.run.task.to_string())
    }

    fn head(self, root: &Path) -> PathBuf {
        self.task_dir(root)
            .join(format!("{}.{}.log", self.run.number, self.attempt))
    }

    fn more_dir(self, root: &Path) -> PathBuf {
        self.task_dir(root)
            .join(format!("{}.{}.more", self.run.number, self.attempt))
    }

    fn more(self, root: &Path, start: u64) -> PathBuf {
        self.more_dir(root).join(format!("{start:020}"))
    }
}
