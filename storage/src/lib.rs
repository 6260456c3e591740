//! Everything a node keeps on disk: the Raft log, the state tables, snapshots, and the identity of the data folder.
//!
//! ```text
//! data/
//!   IDENTITY          format version, node id, cluster id
//!   FORMATION         the agreed member list while the cluster forms
//!   LOCK              held while a process uses the folder
//!   groups/0/log/     RocksDB: entries, vote, purge marker; synced by one writer thread
//!   groups/0/state/   CURRENT names the folder beside it that holds the tables
//!   groups/0/snap/    snapshots: checkpoints of the tables, each with a manifest of sizes and hashes
//!   worker/           the worker's journal and output files
//!   tmp/              work in progress; wiped at start
//! ```
//!
//! Three rules carry the rest. The log is synced before anything in it is acknowledged. The tables are never synced on
//! the way: they are a function of the log, and say themselves how much of it they hold. The log is purged only up to a
//! snapshot that is durable.
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test that fails should say where"))]

mod dir;
mod error;
mod files;
mod log;
mod record;
mod rocks;
mod snapshot;
mod state;

pub use dir::{DataDir, Group, StorageOptions};
pub use error::StorageError;
pub use log::{Done, LogStats, LogStore};
pub use record::{Applied, Identity, LogPosition};
pub use snapshot::{
    Checkpoint, Manifest, ManifestFile, ReceivedSnapshot, SnapshotInfo, SnapshotReader, SnapshotWriter, Snapshots,
};
pub use state::{LatestView, StateStore, StateView};
