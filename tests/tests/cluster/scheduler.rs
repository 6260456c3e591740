//! The scheduler as a whole: status, nodes, check; shutdown, spool, start.

use crate::{LIMIT, SOON, rows, text};
use anyhow::ensure;
use sched_proto::v1;
use sched_tests::{Plan, Recorder, eventually, scenario};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

#[test]
fn status_nodes_and_check_describe_a_healthy_cluster() {
    scenario(Plan::nodes(3), LIMIT, async |cluster| {
        for index in 0..3 {
            let status = cluster.cli_at(index, &["--output", "json", "status"]).await?.json()?;
            ensure!(
                status["state"] == "RUNNING" && status["leader"].is_u64() && status["term"].is_u64(),
                "{status}"
            );
            for key in ["spooled", "waiting", "ready", "running", "failed", "finished"] {
                ensure!(status[key] == 0, "{key} in {status}");
            }
            let nodes = cluster.cli_at(index, &["--output", "json", "nodes"]).await?.json()?;
            ensure!(rows(&nodes)?.len() == 3, "{nodes}");
            for node in rows(&nodes)? {
                text(node, "client_address")?;
                text(node, "peer_address")?;
                ensure!(
                    node["id"].is_u64() && node["reachable"].is_boolean() && node.get("lag_entries").is_some(),
                    "{node}"
                );
            }
            let leaders = rows(&nodes)?.iter().filter(|node| node["role"] == "LEADER").count();
            ensure!(leaders == 1, "{nodes}");
            ensure!(
                !cluster.cli_at(index, &["status"]).await?.done()?.is_empty(),
                "status says something to people too"
            );
        }
        eventually("no findings", SOON, async || cluster.cli(&["check"]).await?.done()).await?;
        let yaml = cluster.cli(&["--output", "yaml", "status"]).await?.done()?;
        let yaml: serde_json::Value = serde_norway::from_str(&yaml)?;
        ensure!(yaml["state"] == "RUNNING", "{yaml}");
        Ok(())
    });
}

#[test]
fn shut_down_operations_stay_in_the_spool_until_start() {
    scenario(Plan::nodes(3), LIMIT, async |cluster| {
        let recorder = Recorder::at(cluster.file("starts"))?;
        let argv = recorder.argv("spooled");
        let command: Vec<&str> = argv.iter().map(String::as_str).collect();

        cluster.cli(&["shutdown", "--message", "moving house"]).await?.done()?;
        let status = cluster.json(&["status"]).await?;
        ensure!(
            status["state"] == "SHUTDOWN" && status.to_string().contains("moving house"),
            "{status}"
        );
        let reply = cluster
            .json(&[&["enqueue", "--name", "kept", "--in", "200ms", "--"], &command[..]].concat())
            .await?;
        ensure!(reply["state"] == "SPOOLED" && reply["id"].is_u64(), "{reply}");
        let spool = cluster.json(&["show", "spool"]).await?;
        ensure!(
            rows(&spool)?.len() == 1 && spool.to_string().contains("kept"),
            "{spool}"
        );
        ensure!(
            cluster.json(&["status"]).await?["spooled"] == 1,
            "status counts the spool"
        );

        // Durable: over a kill of the leader, and the name stays reserved.
        let leader = cluster.leader().await?;
        cluster.kill9(leader).await?;
        cluster.start(leader)?;
        cluster.ready().await?;
        ensure!(
            rows(&cluster.json(&["show", "spool"]).await?)?.len() == 1,
            "the spool has survived"
        );
        let taken = cluster.cli(&["enqueue", "--name", "kept", "--sample", "ok"]).await?;
        taken.failed(sched_tests::cli::REFUSED, &["kept"])?;
        ensure!(recorder.starts().is_empty(), "something was started while shut down");

        cluster.cli(&["start"]).await?.done()?;
        recorder.hear("spooled", 1, SOON).await?;
        ensure!(
            rows(&cluster.json(&["show", "spool"]).await?)?.is_empty(),
            "the spool is worked off"
        );
        Ok(())
    });
}

#[test]
fn a_cleared_spool_says_how_many_were_removed() {
    scenario(Plan::nodes(3), LIMIT, async |cluster| {
        cluster.cli(&["shutdown"]).await?.done()?;
        for _ in 0..3 {
            cluster
                .cli(&["enqueue", "--in", "1h", "--sample", "ok"])
                .await?
                .done()?;
        }
        // Without a terminal to ask at, it does nothing unless told.
        let asked = cluster.cli(&["clear-spool"]).await?;
        ensure!(asked.code != 0 && asked.stderr.contains("--yes"), "{asked}");
        ensure!(
            rows(&cluster.json(&["show", "spool"]).await?)?.len() == 3,
            "nothing was removed"
        );
        let cleared = cluster.cli(&["clear-spool", "--yes"]).await?.done()?;
        ensure!(cleared.contains('3'), "{cleared}");
        ensure!(
            rows(&cluster.json(&["show", "spool"]).await?)?.is_empty(),
            "the spool is empty"
        );
        cluster.cli(&["start"]).await?.done()?;
        ensure!(
            cluster.json(&["status"]).await?["waiting"] == 0,
            "what was cleared does not come back"
        );
        Ok(())
    });
}

#[test]
fn all_nodes_stop_in_order_and_nothing_is_lost() {
    scenario(Plan::nodes(3), LIMIT, async |cluster| {
        for _ in 0..20 {
            cluster.enqueue(&["--in", "1h", "--sample", "ok"]).await?;
        }
        for index in 0..3 {
            let status = cluster.sigterm(index).await?;
            ensure!(status.success(), "{} ended with {status}", cluster.nodes[index].name);
        }
        for index in [2, 0, 1] {
            cluster.start(index)?;
        }
        cluster.ready().await?;
        ensure!(
            rows(&cluster.json(&["list"]).await?)?.len() == 20,
            "twenty tasks were acknowledged"
        );
        Ok(())
    });
}

/// A leader that stands still takes connections and answers nothing: what was asked of it must not hold up what comes after.
#[test]
fn reads_at_followers_do_not_wait_for_a_leader_that_stands_still() {
    /// An election, and a busy machine; a read that waits for the old leader takes 5 s.
    const ANSWERED: Duration = Duration::from_secs(3);
    scenario(Plan::nodes(3), LIMIT, async |cluster| {
        let leader = cluster.leader().await?;
        let followers: Vec<usize> = (0..3).filter(|node| *node != leader).collect();
        // One read is under way at each of them whenever the leader stops.
        let mut readers = JoinSet::new();
        for node in &followers {
            let mut api = cluster.nodes[*node].api();
            readers.spawn(async move {
                loop {
                    // Which of them fail while nobody leads is not the question here.
                    let _ = api.list_tasks(v1::ListTasksRequest::default()).await;
                }
            });
        }
        cluster.enqueue(&["--sample", "ok", "--wait"]).await?;
        cluster.sigstop(leader)?;
        let stopped = Instant::now();
        for node in followers {
            eventually("a read is answered", ANSWERED, async || {
                let asked = cluster.nodes[node]
                    .api()
                    .list_tasks(v1::ListTasksRequest::default())
                    .await;
                Ok(asked.map(drop)?)
            })
            .await?;
            ensure!(stopped.elapsed() < ANSWERED, "it took {:?}", stopped.elapsed());
        }
        cluster.sigcont(leader)
    });
}
