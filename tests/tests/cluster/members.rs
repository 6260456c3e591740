//! Nodes that join, vote, lead, leave and are replaced, as an operator does it.

use crate::{LIMIT, rows};
use anyhow::{Context, Result, ensure};
use sched_tests::{Cluster, Plan, eventually, scenario};
use std::time::Duration;

#[test]
fn a_dead_node_is_replaced_by_a_new_one() {
    scenario(Plan::nodes(3), LIMIT, async |cluster| {
        let task = cluster.enqueue(&["--in", "1h", "--sample", "ok"]).await?.to_string();
        let dead = cluster.leader().await?;
        let dead_id = id(cluster, dead).await?;
        cluster.kill9(dead).await?;
        cluster.leader().await?;

        let new = cluster.add(&[])?;
        cluster.start(new)?;
        let new_id = eventually("the new node is a member", Duration::from_secs(30), async || {
            id(cluster, new).await
        })
        .await?;
        ensure!(role(cluster, new_id).await? == "LEARNER", "a newcomer does not vote");
        cluster
            .json(&["cluster", "replace", &dead_id.to_string(), &new_id.to_string()])
            .await?;
        ensure!(role(cluster, new_id).await? == "FOLLOWER", "the new node votes");
        ensure!(role(cluster, dead_id).await.is_err(), "the dead node is gone");
        // The answer to the first may have been lost: a repeat changes nothing.
        cluster
            .json(&["cluster", "replace", &dead_id.to_string(), &new_id.to_string()])
            .await?;

        // Three voters again: any one of them can go.
        let follower = cluster.follower().await?;
        cluster.kill9(follower).await?;
        cluster.enqueue(&["--in", "1h", "--sample", "ok"]).await?;
        cluster.cli_at(new, &["get", &task]).await?.done().map(drop)
    });
}

#[test]
fn the_leader_hands_over_and_leaves() {
    scenario(Plan::nodes(3), LIMIT, async |cluster| {
        let first = cluster.leader().await?;
        cluster.json(&["cluster", "hand-over"]).await?;
        let second = cluster.leader().await?;
        ensure!(first != second, "the same node leads");

        let leaves = id(cluster, second).await?.to_string();
        cluster.json(&["cluster", "demote", &leaves]).await?;
        ensure!(cluster.leader().await? != second, "a node that does not vote leads");
        ensure!(role(cluster, leaves.parse()?).await? == "LEARNER", "demoted");
        cluster.json(&["cluster", "promote", &leaves]).await?;
        ensure!(role(cluster, leaves.parse()?).await? == "FOLLOWER", "promoted again");

        let leader = cluster.leader().await?;
        let leaves = id(cluster, leader).await?.to_string();
        cluster.json(&["cluster", "remove", &leaves]).await?;
        ensure!(role(cluster, leaves.parse()?).await.is_err(), "the leader left");
        cluster.kill9(leader).await?;
        cluster.enqueue(&["--in", "1h", "--sample", "ok"]).await.map(drop)
    });
}

#[test]
fn a_change_that_would_cost_the_quorum_is_refused() {
    scenario(Plan::nodes(3), LIMIT, async |cluster| {
        let down = cluster.follower().await?;
        cluster.kill9(down).await?;
        let up = cluster.follower().await?;
        let up = id(cluster, up).await?.to_string();
        // Two voters would be left, and one of them is down.
        eventually(
            "the leader knows that it is down",
            Duration::from_secs(10),
            async || {
                let nodes = cluster.json(&["nodes"]).await?;
                let reachable = rows(&nodes)?.iter().filter(|node| node["reachable"] == true).count();
                ensure!(reachable == 2, "{nodes}");
                Ok(())
            },
        )
        .await?;
        for verb in ["demote", "remove"] {
            let ran = cluster.cli(&["cluster", verb, &up]).await?;
            ensure!(ran.code == 1, "{verb}: {ran:?}");
            ensure!(ran.stderr.contains("a majority is 2"), "{verb}: {ran:?}");
        }
        let ran = cluster.cli(&["cluster", "promote", "4711"]).await?;
        ensure!(ran.code == 4 && ran.stderr.contains("node 4711"), "{ran:?}");
        let ran = cluster.cli(&["cluster", "promote", "n2"]).await?;
        ensure!(ran.code == 2 && ran.stderr.contains("n2"), "{ran:?}");
        Ok(())
    });
}

/// The number of a node that runs and is a member.
async fn id(cluster: &Cluster, index: usize) -> Result<u64> {
    let address = &cluster.nodes[index].client;
    let nodes = cluster.json(&["nodes"]).await?;
    let node = rows(&nodes)?
        .iter()
        .find(|node| node["client_address"] == **address)
        .with_context(|| format!("no member at {address}: {nodes}"))?;
    node["id"].as_u64().with_context(|| format!("no id in {node}"))
}

async fn role(cluster: &Cluster, node: u64) -> Result<String> {
    let nodes = cluster.json(&["nodes"]).await?;
    let node = rows(&nodes)?
        .iter()
        .find(|member| member["id"] == node)
        .with_context(|| format!("node {node} is no member: {nodes}"))?;
    node["role"].as_str().map(str::to_owned).context("no role")
}
