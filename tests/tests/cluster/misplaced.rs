//! Folders in the wrong place: a node or an agent with the data folder of another cluster is refused, says why and what to do, and
//! disturbs nobody.

use crate::LIMIT;
use anyhow::{Context, Result, ensure};
use sched_tests::{Agent, Cluster, Plan, eventually, http, scenario};
use std::time::Duration;

/// Messages between nodes go several times a second.
const SOON: Duration = Duration::from_secs(30);
/// Counted on whoever refuses.
const REFUSED: &str = "sched_peer_messages_refused_total";
/// Counted on whoever is refused.
const REFUSED_BY: &str = "sched_refused_by_peers_total";

#[test]
fn a_node_with_the_folder_of_another_cluster_is_refused_and_disturbs_nobody() {
    scenario(Plan::nodes(3), LIMIT, async |cluster| {
        let former = cluster.nodes[0].status().await?.cluster;
        cluster
            .enqueue(&["--name", "of-the-former", "--in", "1h", "--sample", "ok"])
            .await?;
        for index in 0..3 {
            cluster.sigterm(index).await?;
            std::fs::rename(&cluster.nodes[index].data, former_folder(cluster, index))?;
        }
        // Another cluster comes to be at the same addresses.
        for index in 0..3 {
            cluster.start(index)?;
        }
        cluster.ready().await?;
        let leader = cluster.leader().await?;
        let before = cluster.nodes[leader].status().await?;
        ensure!(before.cluster != former, "the same cluster again");
        let mut refused = Vec::new();
        for node in &cluster.nodes {
            refused.push(http::metric(&node.client, REFUSED).await?);
        }

        let stray = cluster.follower().await?;
        cluster.sigterm(stray).await?;
        let own = cluster.file("its-own");
        std::fs::rename(&cluster.nodes[stray].data, &own)?;
        std::fs::rename(former_folder(cluster, stray), &cluster.nodes[stray].data)?;
        let seen = cluster.nodes[stray].log()?.len();
        cluster.start(stray)?;
        says_what_to_do(cluster, stray, seen, &former, &before.cluster).await?;
        // The others refuse it, say so, count it, and go on; the leader hears that its own messages are refused there.
        eventually("the others refuse it and count it", SOON, async || {
            for index in (0..3).filter(|index| *index != stray) {
                let node = &cluster.nodes[index];
                let count = http::metric(&node.client, REFUSED).await?;
                ensure!(count > refused[index], "{} refused {count}", node.name);
                let log = node.log()?;
                let said = log
                    .lines()
                    .find(|line| line.contains("a peer's message was refused") && line.contains(&former));
                ensure!(
                    said.is_some_and(|line| line.contains("--join")),
                    "{} does not say it",
                    node.name
                );
            }
            let check = cluster.cli_at(leader, &["check"]).await?;
            ensure!(
                check.code == 1
                    && check.stdout.contains("refuses this node's messages")
                    && check.stdout.contains(&former),
                "{check}"
            );
            ensure!(http::metric(&cluster.nodes[leader].client, REFUSED_BY).await? > 0.0);
            Ok(())
        })
        .await?;
        cluster
            .cli_at(leader, &["enqueue", "--sample", "ok", "--wait"])
            .await?
            .done()?;
        let tasks = cluster.json(&["list", "--limit", "0"]).await?;
        ensure!(crate::rows(&tasks)?.len() == 1, "tasks of another cluster: {tasks}");
        ensure!(cluster.nodes[leader].status().await?.cluster == before.cluster);

        // Its own folder again, and all is well.
        cluster.sigterm(stray).await?;
        std::fs::rename(&cluster.nodes[stray].data, cluster.file("no-longer-needed"))?;
        std::fs::rename(&own, &cluster.nodes[stray].data)?;
        cluster.start(stray)?;
        cluster.ready().await?;
        eventually("nothing is refused any more", SOON, async || {
            let said = cluster.cli(&["check"]).await?.stdout;
            ensure!(!said.contains("refuses"), "{said}");
            Ok(())
        })
        .await
    });
}

fn former_folder(cluster: &Cluster, index: usize) -> std::path::PathBuf {
    cluster.file(&format!("former-{index}"))
}

/// The node says in its log, on its pages and to whoever asks it that it does not belong here, and what to do.
async fn says_what_to_do(cluster: &mut Cluster, stray: usize, seen: usize, own: &str, other: &str) -> Result<()> {
    eventually("the node says what is wrong with it", SOON, async || {
        let node = &mut cluster.nodes[stray];
        node.still_runs()?;
        let log = node.log()?;
        let said = log.get(seen..).context("a log only grows")?;
        // It refuses, and it is refused.
        for words in ["a peer's message was refused", "a member refuses this node's messages"] {
            let line = said.lines().find(|line| line.contains(words));
            ensure!(
                line.is_some_and(|line| [own, other, "its own folder", "--join"]
                    .iter()
                    .all(|part| line.contains(part))),
                "{words:?}, with both clusters and what to do, in: {said}"
            );
        }
        let (status, body) = http::get(&node.client, "/readyz").await?;
        ensure!(
            status == 503 && body.contains("refuses this node") && body.contains(other),
            "{status} {body}"
        );
        for name in [REFUSED, REFUSED_BY] {
            ensure!(http::metric(&node.client, name).await? > 0.0, "{name} is 0");
        }
        Ok(())
    })
    .await?;
    let check = cluster.cli_at(stray, &["check"]).await?;
    ensure!(
        check.code == 1 && check.stdout.contains("refuses this node's messages"),
        "{check}"
    );
    Ok(())
}

#[test]
fn an_agent_with_the_folder_of_another_cluster_says_so_and_ends() {
    scenario(Plan::nodes(1), LIMIT, async |cluster| {
        let mut other = Cluster::new(Plan::nodes(1)).await?;
        let (here, there) = (
            cluster.nodes[0].status().await?.cluster,
            other.nodes[0].status().await?.cluster,
        );
        let mut agent = Agent::new(cluster, "a1", &[]);
        agent.start(cluster)?;
        connected(cluster).await?;
        agent.signal(rustix::process::Signal::TERM)?;
        agent.ended(cluster, SOON).await?;

        let mut stray = Agent::new(&other, "a1", &[]);
        stray.data.clone_from(&agent.data);
        stray.start(&mut other)?;
        let status = stray.ended(&mut other, SOON).await?;
        let log = stray.log();
        ensure!(status.code() == Some(1), "ended with {status}: {log}");
        for part in [&here, &there, "join the old one", "empty folder"] {
            ensure!(log.contains(part), "expected {part:?} in: {log}");
        }
        ensure!(!log.contains("panicked"), "{log}");
        let workers = other.json(&["workers"]).await?;
        ensure!(
            crate::rows(&workers)?.iter().all(|worker| worker["name"] != "a1"),
            "{workers}"
        );
        // The folder is as it was.
        agent.start(cluster)?;
        connected(cluster).await
    });
}

async fn connected(cluster: &Cluster) -> Result<()> {
    eventually("the agent is connected", SOON, async || {
        let workers = cluster.json(&["workers"]).await?;
        let found = crate::rows(&workers)?
            .iter()
            .any(|worker| worker["name"] == "a1" && worker["state"] == "CONNECTED");
        ensure!(found, "{workers}");
        Ok(())
    })
    .await
}
