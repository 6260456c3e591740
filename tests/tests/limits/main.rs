//! Bad input, everywhere: the command line, the wire, raw bytes on the ports, the daemon's own flags. Each is answered with what was
//! wrong, where, and what would be accepted; nothing is stored; the node goes on.

mod command_line;
mod daemon;
mod garbage;
mod wire;
mod workers;

use anyhow::{Context, Result, ensure};
use sched_proto::v1;
use sched_tests::{Cluster, http};
use std::time::Duration;

/// Longest scenario of this binary.
const LIMIT: Duration = Duration::from_secs(120);

/// Checks that the cluster holds so many tasks, and takes and runs one more.
async fn holds_and_serves(cluster: &mut Cluster, tasks: usize) -> Result<()> {
    let listed = cluster.json(&["list", "--limit", "0"]).await?;
    let count = listed
        .as_array()
        .with_context(|| format!("not a list: {listed}"))?
        .len();
    ensure!(
        count == tasks,
        "expected {tasks} tasks, {count} are stored: {listed:.2000}"
    );
    for node in &mut cluster.nodes {
        node.still_runs()?;
        ensure!(
            http::get(&node.client, "/livez").await?.0 == 200,
            "{} is not alive",
            node.name
        );
        let log = node.log()?;
        ensure!(
            !log.contains("panicked"),
            "{} panicked:\n{}",
            node.name,
            node.log_tail()
        );
    }
    cluster
        .cli(&["enqueue", "--sample", "ok", "--wait"])
        .await?
        .done()
        .map(drop)
}

/// What a refusal carries besides its code.
fn failure(status: &tonic::Status) -> Result<v1::Failure> {
    sched_proto::convert::failure_of(status).with_context(|| format!("a refusal without details: {status:?}"))
}
