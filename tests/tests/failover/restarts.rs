//! Nodes that are killed and started again at once: their workers come back with their journals, and start nothing twice.

use crate::feed::{Account, Feed};
use anyhow::{Context, ensure};
use sched_proto::v1::{AttemptEnd, Delivery, RunState};
use sched_tests::{Plan, Recorder, scenario};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

/// How often a node is killed.
const KILLS: usize = 6;
/// Starts heard between two kills: a second and a half of them.
const QUIET_STARTS: usize = 15;
/// Something that must come has come.
const SOON: Duration = Duration::from_secs(30);

/// Every second task starts at most once.
fn delivery(number: u64) -> Delivery {
    if number.is_multiple_of(2) {
        Delivery::AtMostOnce
    } else {
        Delivery::AtLeastOnce
    }
}

#[test]
fn a_killed_and_restarted_node_starts_no_at_most_once_task_twice_and_flags_the_others() {
    scenario(Plan::nodes(3), Duration::from_secs(300), async |cluster| {
        let recorder = Arc::new(Recorder::at(cluster.file("starts"))?);
        let feed = Feed::with(cluster, &recorder, "exec sleep 0.3", delivery)?;
        recorder.hear("0", 1, SOON).await?;
        let mut killed = BTreeSet::new();
        for kill in 0..KILLS {
            let before = recorder.starts().len();
            let more = recorder.until("tasks start", SOON, |starts| {
                (starts.len() >= before + QUIET_STARTS).then_some(())
            });
            more.await?;
            let node = match kill % 2 {
                0 => cluster.follower().await?,
                _ => cluster.leader().await?,
            };
            cluster.kill9(node).await?;
            killed.insert(cluster.nodes[node].name.clone());
            // At once: its session and what it held are still its own.
            cluster.start(node)?;
            cluster.ready().await?;
        }
        let account = Account::of(&feed.stop().await?, cluster, &recorder).await?;
        let mut lost = Vec::new();
        let mut again = 0;
        for (number, run) in &account.runs {
            let heard = account.starts.get(number).map_or(&[][..], Vec::as_slice);
            let tokens: BTreeSet<_> = heard.iter().map(|start| &start.token).collect();
            ensure!(tokens.len() == heard.len(), "one attempt started twice: {heard:?}");
            if delivery(*number) == Delivery::AtMostOnce {
                ensure!(heard.len() <= 1, "task {number} started {} times: {run:?}", heard.len());
                match run.state() {
                    RunState::Finished => ensure!(heard.len() == 1, "task {number} never started: {run:?}"),
                    RunState::Lost => {
                        ensure!(killed.contains(&run.worker), "{} was not killed: {run:?}", run.worker);
                        lost.push(run.id.context("a run has an id")?);
                    }
                    other => anyhow::bail!("task {number} is {other:?}: {run:?}"),
                }
                continue;
            }
            ensure!(
                run.state() == RunState::Finished && !heard.is_empty(),
                "task {number} has not run: {run:?}"
            );
            let (_, earlier) = run.attempts.split_last().context("a run that ran has attempts")?;
            for attempt in earlier {
                let flagged = [AttemptEnd::WorkerLost, AttemptEnd::ReportedLate].contains(&attempt.ended());
                ensure!(
                    attempt.ended() == AttemptEnd::Refused || (flagged && killed.contains(&attempt.worker)),
                    "task {number}: a second attempt that is not flagged: {run:?}"
                );
            }
            ensure!(heard.len() <= earlier.len() + 1, "task {number}: {heard:?}, {run:?}");
            again += usize::from(heard.len() > 1);
        }
        println!(
            "{KILLS} restarts after kill -9: {} tasks, {} LOST, {again} at-least-once ones started again and flagged",
            account.runs.len(),
            lost.len()
        );
        // Each way out is one word of an operator, and is kept.
        for run in lost {
            let id = format!("{}:{}", run.task, run.number);
            cluster.cli(&["resolve", &id, "--as", "failed"]).await?.done()?;
            let said = cluster.cli(&["explain", &run.task.to_string()]).await?.done()?;
            ensure!(
                said.contains(&format!("Lost run {id} was resolved as failed")),
                "{said}"
            );
        }
        Ok(())
    });
}

#[test]
fn an_orderly_restart_of_a_node_loses_no_run_and_counts_no_loss() {
    scenario(Plan::nodes(3), Duration::from_secs(180), async |cluster| {
        let recorder = Arc::new(Recorder::at(cluster.file("starts"))?);
        // Longer than a node waits for its runs when it stops.
        let ids = [
            cluster
                .enqueue(&["--delivery", "at-least-once", "--", "/bin/sleep", "40"])
                .await?,
            cluster
                .enqueue(&["--delivery", "at-least-once", "--", "/bin/sleep", "40"])
                .await?,
            cluster
                .enqueue(&["--delivery", "at-least-once", "--", "/bin/sleep", "40"])
                .await?,
        ];
        let feed = Feed::start(cluster, &recorder, "")?;
        recorder.hear("10", 1, SOON).await?;
        let follower = cluster.follower().await?;
        let status = cluster.sigterm(follower).await?;
        ensure!(status.success(), "stopped with {status}");
        cluster.start(follower)?;
        cluster.ready().await?;
        let account = Account::of(&feed.stop().await?, cluster, &recorder).await?;
        account.every_one_started()?;
        for id in ids {
            let run = cluster.json(&["get", &format!("{id}:1")]).await?;
            ensure!(run["state"] == "RUNNING" && run["losses"] == 0, "{run}");
        }
        Ok(())
    });
}
