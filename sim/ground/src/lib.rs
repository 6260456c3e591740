//! The ground the simulation stands on: virtual time, seeded chance, disks that lose what was not synced, a network with faults.
//!
//! A [`World`] is one seed's. It belongs to the thread that runs it, and everything here finds it there: the product's sources are
//! compiled against this crate in place of `sched-storage`, so that they cannot be handed one.
//!
//! | file | what it holds |
//! |---|---|
//! | `world.rs`, `chance.rs` | the seed, the trace, the findings, the clocks |
//! | `net.rs`, `body.rs` | calls between hosts: delay, loss, repeats, partitions, crashes |
//! | `disk.rs` | what a crash leaves of a node |
//! | `log.rs`, `tables.rs`, `snapshots.rs`, `dir.rs` | the same interface as `sched-storage`, over such a disk |
//! | `mutants.rs` | the faults of the product that the simulation must find |
// The tests inside the product's files are run where they belong.
#![cfg(not(test))]
#![forbid(unsafe_code)]

mod body;
mod chance;
mod dir;
mod disk;
#[allow(dead_code, reason = "the product's own errors, whole")]
#[path = "../../../storage/src/error.rs"]
mod error;
mod log;
mod mutants;
mod net;
#[path = "../../../storage/src/record.rs"]
mod record;
mod snapshots;
mod tables;
mod world;

pub use chance::Chance;
pub use dir::{DataDir, Group};
pub use disk::Disk;
pub use error::StorageError;
pub use log::{Done, LogStats, LogStore};
pub use mutants::Mutant;
pub use net::{Channel, NetError, Port, Weather, register, serve_until};
pub use record::{Applied, Identity, LogPosition};
pub use snapshots::{
    Checkpoint, Manifest, ManifestFile, ReceivedSnapshot, SnapshotInfo, SnapshotReader, SnapshotWriter, Snapshots,
};
pub use tables::{LatestView, StateStore, StateView};
pub use world::{EPOCH_MS, World, world};
