//! A long queue: what it takes of memory and disk, how fast nodes come back to it, and a new node that has to get all of it.

use super::{Figure, Row, Settings};
use crate::figures::{self, PAYLOAD};
use crate::load::{Arrival, Enqueue, Way};
use crate::{Cluster, Plan, eventually, procfs};
use anyhow::{Context, Result, ensure};
use sched_proto::v1;
use std::path::Path;
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

/// A node that takes longer to get a snapshot is not getting it.
const INSTALL_LIMIT: Duration = Duration::from_secs(300);
/// Enqueues per second beside which a snapshot is installed: light, so that what is seen is the snapshot.
const BESIDE: f64 = 200.0;
const MIB: f64 = 1024.0 * 1024.0;

pub(super) async fn rows(settings: &Settings) -> Result<Vec<Row>> {
    let count = settings.queue;
    let mut cluster = Cluster::new(Plan::nodes(3)).await?;
    let empty = disk_bytes(&cluster.nodes[0].data)?;
    let begin = Instant::now();
    let last = figures::fill(&cluster, count).await?;
    let rate = count as f64 / begin.elapsed().as_secs_f64();
    let resident: Vec<f64> = cluster
        .pids()
        .iter()
        .filter_map(|pid| procfs::resident_mib(*pid).ok())
        .collect();
    let largest = resident.iter().copied().fold(0.0, f64::max);
    // The log's part is bounded by its own settings, whatever the queue; the tables' part is what a task costs.
    let (tables, all) = (
        disk_bytes(&cluster.nodes[0].data.join("groups/0/state"))?,
        disk_bytes(&cluster.nodes[0].data)? - empty,
    );
    let each = tables / count as f64 - PAYLOAD as f64;
    let setting = format!("{count} queued tasks, {PAYLOAD} B each");
    let mut rows = vec![
        Row::plain(
            "memory and disk of a node",
            &setting,
            vec![
                Figure::new("RSS", largest, " MiB").at_most(200.0 * (count as f64 / 1e6).max(1.0)),
                Figure::new("tables beyond payload", each, " B each").at_most(400.0),
            ],
        )
        .beside(format!(
            "filled at {rate:.0}/s; {:.0} MiB on disk with log and snapshots",
            all / MIB
        )),
    ];
    rows.push(install(&mut cluster, &setting).await?);
    let restart = figures::restarted(&mut cluster, count, last).await?;
    rows.push(Row::plain(
        "restart until it serves",
        &setting,
        vec![
            Figure::new("follower", restart.follower_seconds, " s").at_most(3.0),
            Figure::new("leader", restart.leader_seconds, " s").at_most(3.0),
            Figure::new("all three at once", restart.all_seconds, " s").at_most(3.0),
        ],
    ));
    Ok(rows)
}

/// A fourth node joins and gets everything while tasks are enqueued beside it.
async fn install(cluster: &mut Cluster, setting: &str) -> Result<Row> {
    let quiet = beside(cluster, Duration::from_secs(5), CancellationToken::new()).await?;
    let new = cluster.add(&[])?;
    let stop = CancellationToken::new();
    let load = tokio::spawn({
        let load = load(cluster, INSTALL_LIMIT, stop.clone()).await?;
        async move { load.run("beside a snapshot").await }
    });
    let begin = Instant::now();
    cluster.start(new)?;
    let address = cluster.nodes[new].client.clone();
    let leader = cluster.leader().await?;
    eventually("the new node has everything", INSTALL_LIMIT, async || {
        let reply = cluster.nodes[leader]
            .api()
            .nodes(v1::NodesRequest {})
            .await?
            .into_inner();
        let node = reply.nodes.iter().find(|node| node.client_address == address);
        let lag = node
            .context("it is no member yet")?
            .lag_entries
            .context("its lag is not known")?;
        ensure!(lag < 100, "{lag} entries behind");
        Ok(())
    })
    .await?;
    let seconds = begin.elapsed().as_secs_f64();
    stop.cancel();
    let report = load.await??;
    let (before, during) = (quiet.latency.p99_ms, report.latency.p99_ms);
    let id = cluster.nodes[new].status().await?.node;
    cluster.json(&["cluster", "remove", &id.to_string()]).await?;
    cluster.kill9(new).await?;
    let figures = vec![
        Figure::new("installed in", seconds, " s").at_most(30.0),
        Figure::new("p99 of enqueues during it", during / before.max(0.001), "× before").at_most(2.0),
    ];
    Ok(
        Row::of("snapshot to a new node", setting, report, figures).beside(format!(
            "enqueues at {BESIDE:.0}/s beside it: p99 {before:.1} ms before, {during:.1} ms during"
        )),
    )
}

async fn load(cluster: &Cluster, duration: Duration, stop: CancellationToken) -> Result<Enqueue> {
    let leader = cluster.leader().await?;
    Ok(Enqueue {
        endpoints: vec![cluster.nodes[leader].client.clone()],
        callers: 32,
        connections: 4,
        payload: PAYLOAD,
        way: Way::Unary,
        arrival: Arrival::Open(BESIDE),
        warm_up: Duration::ZERO,
        duration,
        stop,
        pids: cluster.pids(),
    })
}

async fn beside(cluster: &Cluster, duration: Duration, stop: CancellationToken) -> Result<crate::load::Report> {
    load(cluster, duration, stop).await?.run("before a snapshot").await
}

/// The bytes of all files in a folder.
fn disk_bytes(folder: &Path) -> Result<f64> {
    let mut bytes = 0.0;
    for entry in std::fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let entry = entry?;
        // RocksDB deletes files at any time: what is gone counts nothing.
        let Ok(meta) = entry.metadata() else { continue };
        bytes += if meta.is_dir() {
            disk_bytes(&entry.path()).unwrap_or(0.0)
        } else {
            meta.len() as f64
        };
    }
    Ok(bytes)
}
