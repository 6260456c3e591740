//! The leader goes, by force or by request, while tasks are due ten times a second.

use crate::feed::{Account, Feed};
use anyhow::{Context, Result, ensure};
use sched_proto::v1::AttemptEnd;
use sched_tests::stats::Samples;
use sched_tests::{Plan, Recorder, scenario};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// How often the leader is killed.
const KILLS: usize = 20;
/// Starts heard between two kills, once everything runs again: two seconds of them.
const QUIET_STARTS: usize = 20;
/// The first start after a kill comes within this, or the cluster is not coming back.
const BACK_LIMIT: Duration = Duration::from_secs(30);
/// Longest silence around a kill, 99 of 100.
const GAP_KILL: Duration = Duration::from_secs(3);
/// Longest silence around an orderly stop.
const GAP_TERM: Duration = Duration::from_secs(1);
/// A silence that begins longer than this after an event was not caused by it.
const EVENT_SPAN: Duration = Duration::from_secs(6);

/// One departure of a leader.
struct Departure {
    at: Instant,
    /// The name of the node, and of its worker.
    worker: String,
}

#[test]
fn every_task_starts_through_twenty_killed_leaders() {
    scenario(Plan::nodes(3), Duration::from_secs(420), async |cluster| {
        let recorder = Arc::new(Recorder::at(cluster.file("starts"))?);
        // Long enough that some run is under way at most kills.
        let feed = Feed::start(cluster, &recorder, "exec sleep 0.2")?;
        recorder.hear("0", 1, BACK_LIMIT).await?;
        let mut departures = Vec::new();
        for _ in 0..KILLS {
            further_starts(&recorder, QUIET_STARTS).await?;
            let leader = cluster.leader().await?;
            let at = Instant::now();
            cluster.kill9(leader).await?;
            departures.push(Departure {
                at,
                worker: cluster.nodes[leader].name.clone(),
            });
            further_starts(&recorder, 1).await?;
            cluster.start(leader)?;
            cluster.ready().await?;
        }
        let accepted = feed.stop().await?;
        let account = Account::of(&accepted, cluster, &recorder).await?;
        account.every_one_started()?;
        repeats_are_marked(&account, &departures)?;
        let gaps = gaps(&account.heard(), &departures);
        let repeated = account.repeated().count();
        println!(
            "{KILLS} kills, {} tasks, {repeated} with a second attempt; gaps: {}",
            accepted.len(),
            gaps.summary()
        );
        ensure!(
            gaps.summary().p99_ms <= GAP_KILL.as_millis() as f64,
            "the gap's p99 is above {GAP_KILL:?}"
        );
        Ok(())
    });
}

#[test]
fn an_orderly_stop_of_the_leader_is_hardly_felt() {
    scenario(Plan::nodes(3), Duration::from_secs(180), async |cluster| {
        let recorder = Arc::new(Recorder::at(cluster.file("starts"))?);
        let feed = Feed::start(cluster, &recorder, "")?;
        recorder.hear("0", 1, BACK_LIMIT).await?;
        let mut departures = Vec::new();
        for _ in 0..3 {
            further_starts(&recorder, QUIET_STARTS).await?;
            let leader = cluster.leader().await?;
            let at = Instant::now();
            let status = cluster.sigterm(leader).await?;
            ensure!(status.success(), "{} stopped with {status}", cluster.nodes[leader].name);
            departures.push(Departure {
                at,
                worker: cluster.nodes[leader].name.clone(),
            });
            further_starts(&recorder, 1).await?;
            cluster.start(leader)?;
            cluster.ready().await?;
        }
        let accepted = feed.stop().await?;
        let account = Account::of(&accepted, cluster, &recorder).await?;
        account.every_one_started()?;
        for (number, run) in account.repeated() {
            let lost = run
                .attempts
                .iter()
                .any(|attempt| attempt.ended() == AttemptEnd::WorkerLost);
            ensure!(
                !lost,
                "task {number}: a worker that left in order was taken for lost: {run:?}"
            );
        }
        let gaps = gaps(&account.heard(), &departures);
        println!("3 orderly stops, {} tasks; gaps: {}", accepted.len(), gaps.summary());
        ensure!(
            gaps.summary().max_ms <= GAP_TERM.as_millis() as f64,
            "a gap is above {GAP_TERM:?}"
        );
        Ok(())
    });
}

#[test]
fn a_killed_follower_is_not_felt_by_others() {
    scenario(Plan::nodes(3), Duration::from_secs(180), async |cluster| {
        let recorder = Arc::new(Recorder::at(cluster.file("starts"))?);
        let feed = Feed::start(cluster, &recorder, "exec sleep 0.2")?;
        recorder.hear("0", 1, BACK_LIMIT).await?;
        further_starts(&recorder, QUIET_STARTS).await?;
        let follower = cluster.follower().await?;
        let at = Instant::now();
        cluster.kill9(follower).await?;
        let departures = [Departure {
            at,
            worker: cluster.nodes[follower].name.clone(),
        }];
        further_starts(&recorder, QUIET_STARTS).await?;
        cluster.start(follower)?;
        cluster.ready().await?;
        let account = Account::of(&feed.stop().await?, cluster, &recorder).await?;
        account.every_one_started()?;
        repeats_are_marked(&account, &departures)?;
        let gaps = gaps(&account.heard(), &departures);
        println!("a follower killed; gap: {}", gaps.summary());
        ensure!(
            gaps.summary().max_ms <= GAP_TERM.as_millis() as f64,
            "the gap is above {GAP_TERM:?}"
        );
        Ok(())
    });
}

/// Waits until so many more starts are heard.
async fn further_starts(recorder: &Recorder, number: usize) -> Result<()> {
    let before = recorder.starts().len();
    let heard = recorder.until("tasks start", BACK_LIMIT, |starts| {
        (starts.len() >= before + number).then_some(())
    });
    heard.await
}

/// A second attempt needs a lost worker, and that was a killed node, and its record says so.
fn repeats_are_marked(account: &Account, departures: &[Departure]) -> Result<()> {
    for (number, run) in account.repeated() {
        let (last, earlier) = run.attempts.split_last().context("a run that was tried has attempts")?;
        for attempt in earlier {
            // An attempt that never left the dispatcher, or that the worker refused, did no harm.
            if matches!(attempt.ended(), AttemptEnd::Refused | AttemptEnd::Delayed) {
                continue;
            }
            ensure!(
                attempt.ended() == AttemptEnd::WorkerLost,
                "task {number}: a second attempt without a lost worker: {run:?}"
            );
            let killed = departures.iter().any(|departure| departure.worker == attempt.worker);
            ensure!(killed, "task {number}: {} was not killed: {run:?}", attempt.worker);
        }
        ensure!(last.ended() == AttemptEnd::Success, "task {number}: {run:?}");
    }
    Ok(())
}

/// The longest silence around each departure.
fn gaps(heard: &[Instant], departures: &[Departure]) -> Samples {
    let longest = |departure: &Departure| {
        let around = heard
            .windows(2)
            .filter(|pair| pair[1] > departure.at && pair[0] < departure.at + EVENT_SPAN);
        around.map(|pair| pair[1] - pair[0]).max().unwrap_or_default()
    };
    departures.iter().map(longest).collect()
}
