//! One test on one cluster.

use crate::{Cluster, Plan};
use anyhow::{Context, Result};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::time::timeout;

/// Scenarios of one binary run one after the other: three nodes at a time are what two cores can carry with honest timing.
static ALONE: Mutex<()> = Mutex::new(());

/// Makes a cluster, runs `test` on it, and fails with the nodes' logs when it returns an error, panics, or takes longer than `limit`.
///
/// # Panics
/// When the test failed.
pub fn scenario(plan: Plan, limit: Duration, test: impl AsyncFnOnce(&mut Cluster) -> Result<()>) {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build();
    let runtime = runtime.unwrap_or_else(|error| panic!("no runtime: {error}"));
    let start = Instant::now();
    runtime.block_on(async {
        let mut cluster = Shown(Cluster::new(plan).await.unwrap_or_else(|error| panic!("{error:?}")));
        let formed = start.elapsed();
        let result = timeout(limit, test(&mut cluster.0))
            .await
            .with_context(|| format!("not done within {limit:?}"));
        if let Err(error) = result.and_then(|result| result) {
            panic!("{error:?}");
        }
        eprintln!(
            "formed in {:.1} s, all took {:.1} s",
            formed.as_secs_f64(),
            start.elapsed().as_secs_f64()
        );
    });
}

/// Prints the logs when a panic passes by.
struct Shown(Cluster);

impl Drop for Shown {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.0.log_tails());
            self.0.keep_if_asked();
        }
    }
}
