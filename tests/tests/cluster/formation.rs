//! How a cluster comes to be, once, and what a node refuses to be part of.

use crate::LIMIT;
use anyhow::{Context, Result, ensure};
use sched_tests::{Cluster, Plan, eventually, http, scenario};
use std::time::Duration;

/// A node that cannot run says so and ends within this.
const REFUSE_LIMIT: Duration = Duration::from_secs(20);

#[test]
fn forms_in_any_order_with_a_restart_in_the_middle() {
    scenario(Plan::nodes(3).not_started(), LIMIT, async |cluster| {
        cluster.start(2)?;
        forming(cluster, 2).await?;
        cluster.start(0)?;
        forming(cluster, 0).await?;
        // Nothing is decided before the third is there, so losing one loses nothing.
        cluster.kill9(2).await?;
        cluster.start(1)?;
        forming(cluster, 1).await?;
        cluster.start(2)?;
        cluster.ready().await?;
        agree(cluster).await.map(drop)
    });
}

#[test]
fn forms_when_killed_at_any_moment_of_it() {
    scenario(Plan::nodes(3).not_started(), LIMIT, async |cluster| {
        for index in 0..3 {
            cluster.start(index)?;
        }
        for victim in [0, 1, 2] {
            // As soon as it answers at all: in the middle of whatever it was doing.
            alive(cluster, victim).await?;
            cluster.kill9(victim).await?;
            cluster.start(victim)?;
        }
        cluster.ready().await?;
        agree(cluster).await.map(drop)
    });
}

#[test]
fn with_data_present_the_list_is_ignored() {
    scenario(Plan::nodes(3), LIMIT, async |cluster| {
        let before = agree(cluster).await?;
        let id = cluster.enqueue(&["--in", "1h", "--sample", "ok"]).await?.to_string();
        for index in 0..3 {
            cluster.sigterm(index).await?;
            // Itself alone: a pristine node would form a cluster of one.
            let alone = vec!["--initial-cluster".to_owned(), cluster.nodes[index].peer.clone()];
            cluster.nodes[index].set_arguments(alone);
        }
        for index in 0..3 {
            cluster.start(index)?;
        }
        cluster.ready().await?;
        ensure!(agree(cluster).await? == before, "another cluster was formed");
        cluster.cli(&["get", &id]).await?.done().map(drop)
    });
}

#[test]
fn a_wiped_node_forms_no_second_cluster() {
    scenario(Plan::nodes(3), LIMIT, async |cluster| {
        let before = agree(cluster).await?;
        let wiped = cluster.follower().await?;
        cluster.kill9(wiped).await?;
        std::fs::remove_dir_all(&cluster.nodes[wiped].data)?;
        cluster.start(wiped)?;
        // It asks the two others, who belong to a cluster in which it is a stranger.
        eventually(
            "the wiped node says that the others have a cluster",
            REFUSE_LIMIT,
            async || {
                let log = cluster.nodes[wiped].log()?;
                ensure!(
                    log.contains("already"),
                    "nothing about a cluster that exists already in its log"
                );
                Ok(())
            },
        )
        .await?;
        let readiness = http::get(&cluster.nodes[wiped].client, "/readyz").await;
        ensure!(
            readiness.is_err() || readiness.is_ok_and(|(status, _)| status == 503),
            "a stranger says that it is ready"
        );
        for index in (0..3).filter(|index| *index != wiped) {
            ensure!(
                cluster.nodes[index].status().await?.cluster == before,
                "the cluster has changed"
            );
        }
        cluster
            .cli(&["enqueue", "--in", "1h", "--sample", "ok"])
            .await?
            .done()
            .map(drop)
    });
}

#[test]
fn a_data_folder_serves_one_process_and_one_format() {
    scenario(Plan::nodes(2).not_started(), LIMIT, async |cluster| {
        // A second process on the folder of the first.
        cluster.start(0)?;
        alive(cluster, 0).await?;
        let first = cluster.nodes[0].data.clone();
        let own = std::mem::replace(&mut cluster.nodes[1].data, first.clone());
        let folder = first.display().to_string();
        refuses(cluster, 1, &[&folder, "in use"]).await?;

        // A folder that something else has written to.
        cluster.nodes[1].data = own.clone();
        std::fs::create_dir_all(&own)?;
        std::fs::write(own.join("IDENTITY"), "not one of ours")?;
        refuses(cluster, 1, &["IDENTITY"]).await?;
        std::fs::remove_file(own.join("IDENTITY"))?;
        std::fs::write(own.join("holiday.jpg"), "also not one of ours")?;
        refuses(cluster, 1, &["holiday.jpg"]).await
    });
}

#[test]
fn a_single_node_is_a_cluster() {
    scenario(Plan::nodes(1), LIMIT, async |cluster| {
        cluster
            .cli(&["enqueue", "--in", "100ms", "--sample", "ok", "--wait"])
            .await?
            .done()?;
        cluster.kill9(0).await?;
        cluster.start(0)?;
        cluster.ready().await?;
        let done = cluster.json(&["list", "--state", "FINISHED"]).await?;
        ensure!(crate::rows(&done)?.len() == 1, "the finished task is gone: {done}");
        Ok(())
    });
}

/// Waits until a node answers.
async fn alive(cluster: &mut Cluster, index: usize) -> Result<()> {
    eventually("the node answers", REFUSE_LIMIT, async || {
        cluster.nodes[index].still_runs()?;
        ensure!(
            http::get(&cluster.nodes[index].client, "/livez").await?.0 == 200,
            "not alive"
        );
        Ok(())
    })
    .await
}

/// Waits until a node answers and says that it is not ready yet.
async fn forming(cluster: &mut Cluster, index: usize) -> Result<()> {
    alive(cluster, index).await?;
    let (status, body) = http::get(&cluster.nodes[index].client, "/readyz").await?;
    ensure!(
        status == 503 && body.contains("forming"),
        "expected a cluster that is forming: {status} {body}"
    );
    Ok(())
}

/// Checks that all nodes name the same cluster, leader and members, and returns the cluster's id.
async fn agree(cluster: &Cluster) -> Result<String> {
    let leader = cluster.leader().await?;
    let expected = cluster.nodes[leader].status().await?;
    ensure!(
        expected.nodes.len() == cluster.nodes.len(),
        "members: {:?}",
        expected.nodes
    );
    for node in &cluster.nodes {
        let status = node.status().await?;
        ensure!(
            status.cluster == expected.cluster,
            "{} is in cluster {}",
            node.name,
            status.cluster
        );
        ensure!(
            status.leader == expected.leader,
            "{} follows {:?}",
            node.name,
            status.leader
        );
    }
    Ok(expected.cluster)
}

/// Starts a node that must end by itself, with an error that says all of `parts` and is no panic.
async fn refuses(cluster: &mut Cluster, index: usize, parts: &[&str]) -> Result<()> {
    let seen = cluster.nodes[index].log().map_or(0, |log| log.len());
    cluster.start(index)?;
    let status = cluster.ended(index, REFUSE_LIMIT).await?;
    let log = cluster.nodes[index].log()?;
    let said = log.get(seen..).context("a log only grows")?;
    ensure!(
        !status.success() && status.code().is_some(),
        "expected a failure, ended with {status}: {said}"
    );
    ensure!(!said.contains("panicked"), "a panic is no error message: {said}");
    for part in parts {
        ensure!(said.contains(part), "expected {part:?} in: {said}");
    }
    Ok(())
}
