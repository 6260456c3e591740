//! openraft's own suite for logs and state machines, over RocksDB.

use super::support::open_group;
use crate::fault::FaultCell;
use crate::log::Log;
use crate::machine::Machine;
use crate::shared::Board;
use crate::types::TypeConfig;
use openraft::StorageError;
use openraft::testing::log::{StoreBuilder, Suite};
use sched_storage::DataDir;
use tempfile::TempDir;

struct Builder;

/// Keeps the folder for as long as one case of the suite uses it.
type Guard = (DataDir, TempDir);

impl StoreBuilder<TypeConfig, Log, Machine, Guard> for Builder {
    async fn build(&self) -> Result<(Guard, Log, Machine), StorageError<TypeConfig>> {
        let dir = tempfile::tempdir().unwrap();
        let (data, group) = open_group(dir.path());
        let faults = FaultCell::new(1, 0, dir.path().display().to_string());
        let log = Log::new(group.log, faults.clone());
        let machine = Machine::open(group.state, group.snapshots, Board::new(), faults).unwrap();
        Ok(((data, dir), log, machine))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn openrafts_suite_passes_on_rocksdb() {
    Suite::<TypeConfig, Log, Machine, Builder, Guard>::test_all(Builder)
        .await
        .unwrap();
}
