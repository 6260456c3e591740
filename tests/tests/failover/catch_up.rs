//! A node that was away while the log was purged gets a snapshot, while the cluster is busy.

use anyhow::{Context, Result, ensure};
use sched_tests::load::{Arrival, Enqueue, Way};
use sched_tests::{Cluster, Plan, eventually, http, scenario};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Small, so that there is a snapshot every few seconds.
const SNAPSHOT_ENTRIES: &str = "200";
/// A log keeps 64 MiB behind its snapshot for nodes that are away for a moment; with large tasks that is soon written.
const PAYLOAD: usize = 56 * 1024;
const CALLERS: usize = 8;
/// The load ends when the node has caught up; this is for when it never does.
const LIMIT: Duration = Duration::from_secs(120);

#[test]
fn a_node_that_missed_the_purged_log_catches_up_by_snapshot_under_load() {
    let plan = Plan::nodes(3).with("--snapshot-entries").with(SNAPSHOT_ENTRIES);
    scenario(plan, Duration::from_secs(180), async |cluster| {
        let away = cluster.follower().await?;
        let leader = cluster.leader().await?;
        cluster.kill9(away).await?;
        let missed = http::metric(&cluster.nodes[leader].client, "sched_log_last_index").await?;
        let stop = CancellationToken::new();
        let load = Enqueue {
            endpoints: vec![cluster.nodes[leader].client.clone()],
            callers: CALLERS,
            connections: 1,
            payload: PAYLOAD,
            way: Way::Unary,
            arrival: Arrival::Closed,
            warm_up: Duration::ZERO,
            duration: LIMIT,
            stop: stop.clone(),
            pids: Vec::new(),
        };
        let load = tokio::spawn(async move { load.run("background").await });
        purged(cluster, leader, missed).await?;
        cluster.start(away)?;
        caught_up(cluster, away, leader).await?;
        ensure!(
            !load.is_finished(),
            "the load ended before the node had caught up; this shows nothing"
        );
        stop.cancel();
        let report = load.await??;
        ensure!(report.errors == 0, "the load was disturbed: {report}");
        // What was written after its return reaches it as a follower.
        caught_up(cluster, away, leader).await?;
        same_tables(cluster).await?;
        println!("caught up by snapshot under load; meanwhile: {report}");
        Ok(())
    });
}

/// Waits until the log no longer has what the node missed.
async fn purged(cluster: &Cluster, leader: usize, missed: f64) -> Result<()> {
    let address = cluster.nodes[leader].client.clone();
    eventually("what was missed is purged", Duration::from_secs(60), async || {
        let purged = http::metric(&address, "sched_log_purged_index").await?;
        ensure!(purged > missed, "purged up to {purged} of {missed}");
        Ok(())
    })
    .await
}

async fn caught_up(cluster: &mut Cluster, node: usize, leader: usize) -> Result<()> {
    let (node, leader) = (cluster.nodes[node].client.clone(), cluster.nodes[leader].client.clone());
    let goal = http::metric(&leader, "sched_log_committed_index").await?;
    eventually(
        "the node holds what was committed",
        Duration::from_secs(40),
        async || {
            let applied = http::metric(&node, "sched_log_applied_index").await?;
            let installed = http::metric(&node, "sched_snapshots_installed_total").await?;
            ensure!(
                applied >= goal,
                "at entry {applied} of {goal}, {installed} snapshots installed"
            );
            ensure!(
                installed >= 1.0,
                "it caught up without a snapshot: the log was not purged"
            );
            Ok(())
        },
    )
    .await
}

/// Every node counts the same tasks.
async fn same_tables(cluster: &Cluster) -> Result<()> {
    eventually("all nodes count the same tasks", Duration::from_secs(20), async || {
        let mut counts = Vec::new();
        for node in &cluster.nodes {
            counts.push(http::metric(&node.client, "sched_tasks").await.context("counting")?);
        }
        ensure!(
            counts[0] > 0.0 && counts.iter().all(|count| *count == counts[0]),
            "{counts:?}"
        );
        Ok(())
    })
    .await
}
