//! Nodes that do not die but stop answering, and a loss of all of them at once.

use crate::feed::{Account, Feed};
use anyhow::{Context, Result, ensure};
use sched_proto::v1::AttemptEnd;
use sched_tests::{Cluster, Plan, Recorder, eventually, scenario};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Something that must come has come.
const SOON: Duration = Duration::from_secs(30);
/// Longer than the lease of the frozen node's worker: its runs are somebody else's when it wakes.
const FROZEN: Duration = Duration::from_secs(14);

#[test]
fn a_frozen_leader_is_replaced_and_does_no_harm_when_it_wakes() {
    scenario(Plan::nodes(3), Duration::from_secs(180), async |cluster| {
        let recorder = Arc::new(Recorder::at(cluster.file("starts"))?);
        let feed = Feed::start(cluster, &recorder, "exec sleep 0.2")?;
        recorder.hear("20", 1, SOON).await?;
        let frozen = cluster.leader().await?;
        let term = cluster.nodes[frozen].status().await?.term;
        cluster.sigstop(frozen)?;
        let since = Instant::now();
        // Others lead, tasks start, and that for longer than the lease.
        let goal = since + FROZEN;
        let heard = recorder.until("tasks start without the frozen node", SOON + FROZEN, |starts| {
            starts.last().is_some_and(|start| start.heard > goal).then_some(())
        });
        heard.await?;
        cluster.sigcont(frozen)?;
        follows(cluster, frozen, term).await?;
        let accepted = feed.stop().await?;
        let account = Account::of(&accepted, cluster, &recorder).await?;
        account.every_one_started()?;
        let name = cluster.nodes[frozen].name.clone();
        for (number, run) in account.repeated() {
            let (_, earlier) = run.attempts.split_last().context("a run that was tried has attempts")?;
            for attempt in earlier {
                let excused = [AttemptEnd::Refused, AttemptEnd::Delayed].contains(&attempt.ended());
                ensure!(
                    excused || attempt.worker == name,
                    "task {number}: {} was not frozen: {run:?}",
                    attempt.worker
                );
            }
        }
        println!(
            "leader frozen for {FROZEN:?}: {} tasks, {} with a second attempt",
            accepted.len(),
            account.repeated().count()
        );
        Ok(())
    });
}

/// Waits until a node that was frozen knows a newer term, and that somebody leads it.
async fn follows(cluster: &Cluster, node: usize, term: u64) -> Result<()> {
    eventually("the woken node follows", SOON, async || {
        let status = cluster.nodes[node].status().await?;
        ensure!(
            status.term > term && status.confirmed,
            "term {}, confirmed {}",
            status.term,
            status.confirmed
        );
        Ok(())
    })
    .await
}

#[test]
fn nothing_acknowledged_is_lost_when_all_nodes_die_at_once() {
    scenario(Plan::nodes(3), Duration::from_secs(180), async |cluster| {
        let recorder = Arc::new(Recorder::at(cluster.file("starts"))?);
        let feed = Feed::start(cluster, &recorder, "")?;
        for number in [20, 60] {
            // By number and not by count: what was handed over before the loss is due after it.
            recorder.hear(&number.to_string(), 1, SOON).await?;
            for node in 0..3 {
                cluster.kill9(node).await?;
            }
            for node in 0..3 {
                cluster.start(node)?;
            }
            cluster.ready().await?;
        }
        recorder.hear("100", 1, SOON).await?;
        let accepted = feed.stop().await?;
        let account = Account::of(&accepted, cluster, &recorder).await?;
        account.every_one_started()?;
        println!(
            "all nodes killed twice: {} tasks acknowledged, all started",
            accepted.len()
        );
        Ok(())
    });
}
