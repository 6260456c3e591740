//! What can go wrong below the state machine, each with the file and what to do about it.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A disk error or damaged bytes. All of them stop the node; none is a replicated answer.
///
/// Cheap to clone, because the first failure of the log is reported to every caller after it.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StorageError {
    /// The operating system refused.
    #[error("{path}: {action}: {source}")]
    Io {
        /// Which file or folder.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// What the system said.
        source: Arc<io::Error>,
    },
    /// Bytes on disk are not what was written.
    #[error("{path}: damaged: {problem}; {remedy}")]
    Damaged {
        /// Which file or folder.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
        /// What to do.
        remedy: &'static str,
    },
    /// RocksDB failed for a reason other than damage.
    #[error("{path}: {action}: {problem}")]
    Database {
        /// The database's folder.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// What RocksDB said.
        problem: String,
    },
    /// Another process uses the data folder.
    #[error("{path}: in use by another process; stop it, or choose another data folder")]
    InUse {
        /// The data folder.
        path: PathBuf,
    },
    /// The data folder was written by a release this one does not know.
    #[error(
        "{path}: format {found} is not known to this release (it knows {known}); use the release that wrote it, or a newer one"
    )]
    Format {
        /// The data folder's identity file.
        path: PathBuf,
        /// As stored.
        found: u32,
        /// As known.
        known: u32,
    },
    /// The data folder belongs to another cluster.
    #[error(
        "{path}: belongs to cluster {found}, not {wanted}; point the node at its own data folder, or start it with an empty one"
    )]
    OtherCluster {
        /// The data folder's identity file.
        path: PathBuf,
        /// As stored, in hex.
        found: String,
        /// As wanted, in hex.
        wanted: String,
    },
    /// The caller broke the contract of a call: a hole in the log, an unknown snapshot.
    #[error("{path}: {problem}")]
    Misuse {
        /// The folder concerned.
        path: PathBuf,
        /// What was asked, and why it cannot be.
        problem: String,
    },
    /// An earlier write failed; the log takes no more until the process is started again.
    #[error("the log is closed after an earlier failure: {0}")]
    Closed(Arc<StorageError>),
}

/// What every caller of this crate may get.
pub(crate) type Result<T> = std::result::Result<T, StorageError>;

/// What to do when the log or the identity is lost: the peers have everything.
pub(crate) const REJOIN: &str = "keep the folder for analysis, start this node with an empty data folder and add it to the cluster as a new member; the other members hold all acknowledged data";

/// What to do when the tables are lost: they are a function of the newest snapshot and the log.
pub(crate) const REBUILD: &str = "remove this group's `state` folder and start the node again: the tables are rebuilt from the newest snapshot and the log; if the disk is failing, replace it first";

/// What to do when a snapshot is lost: it is a copy.
pub(crate) const DROP_SNAPSHOT: &str =
    "remove this snapshot's folder and start the node again: another snapshot will be built or fetched";

impl StorageError {
    pub(crate) fn io(path: &Path, action: &'static str, source: io::Error) -> Self {
        Self::Io {
            path: path.to_owned(),
            action,
            source: Arc::new(source),
        }
    }

    pub(crate) fn damaged(path: &Path, problem: impl Into<String>, remedy: &'static str) -> Self {
        Self::Damaged {
            path: path.to_owned(),
            problem: problem.into(),
            remedy,
        }
    }

    pub(crate) fn misuse(path: &Path, problem: impl Into<String>) -> Self {
        Self::Misuse {
            path: path.to_owned(),
            problem: problem.into(),
        }
    }

    /// Whether bytes on disk were found to be wrong, as opposed to a disk that is full, slow or gone.
    pub fn is_damage(&self) -> bool {
        match self {
            Self::Damaged { .. } => true,
            Self::Closed(first) => first.is_damage(),
            _ => false,
        }
    }
}
