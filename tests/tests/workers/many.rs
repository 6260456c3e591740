//! Hundreds of workers at one leader: none is forgotten, and the work is spread.

use anyhow::{Result, ensure};
use sched_proto::v1::schedule::Form;
use sched_tests::tasks::{sample, submission, task};
use sched_tests::{Fleet, Plan, eventually, scenario};
use std::time::Duration;
use tokio::time::Instant;

/// Of agents, each with a stream of its own.
const WORKERS: usize = 200;
/// Each.
const SLOTS: u32 = 4;
/// Something that must come has come.
const SOON: Duration = Duration::from_secs(30);
/// A worker whose last acknowledged sign of life is older starts nothing more: then it was late.
const LATE: Duration = Duration::from_secs(4);
/// How long the workers are only watched: five signs of life of each.
const WATCHED: Duration = Duration::from_secs(10);

#[test]
fn two_hundred_workers_are_heard_in_time_and_share_the_work() {
    scenario(
        Plan::nodes(3).with("--slots").with("0"),
        Duration::from_secs(240),
        async |cluster| {
            let nodes: Vec<String> = cluster.nodes.iter().map(|node| node.client.clone()).collect();
            let since = Instant::now();
            let mut fleet = Fleet::start(&nodes, WORKERS, SLOTS);
            fleet.all_connected(SOON).await?;
            let connected = since.elapsed();
            // Twice as many runs as workers, all at once: the least loaded is asked first, so each gets two.
            let runs = 2 * WORKERS;
            submit(cluster, runs, 20_000).await?;
            eventually("all runs are under way", SOON, async || {
                let given: u32 = fleet.seen().runs.values().sum();
                ensure!(given as usize == runs, "{given} of {runs}");
                Ok(())
            })
            .await?;
            let seen = fleet.seen();
            let (least, most) = (seen.runs.values().min().copied(), seen.runs.values().max().copied());
            ensure!(
                seen.runs.len() == WORKERS && least == Some(2) && most == Some(2),
                "{:?}",
                seen.runs
            );
            // Many short ones, while signs of life go on.
            fleet.take();
            let since = Instant::now();
            let short = 4000;
            submit(cluster, short, 100).await?;
            let end = since + WATCHED;
            eventually("all are recorded, and some time has passed", 2 * SOON, async || {
                let recorded = fleet.seen().recorded;
                ensure!(
                    recorded >= short + runs && Instant::now() >= end,
                    "{recorded} of {}",
                    short + runs
                );
                Ok(())
            })
            .await?;
            let mut seen = fleet.take();
            seen.round_trips.sort_unstable();
            let at = |share: usize| seen.round_trips[(seen.round_trips.len() - 1) * share / 100];
            println!(
                "{WORKERS} workers connected within {:.1} s; {} signs of life acknowledged within p50 {:.0} ms, p99 {:.0} ms, all within {:.0} ms; \
             oldest contact {:.1} s; {short} runs shared by {} workers",
                connected.as_secs_f64(),
                seen.round_trips.len(),
                ms(at(50)),
                ms(at(99)),
                ms(at(100)),
                seen.oldest_contact.as_secs_f64(),
                seen.runs.len(),
            );
            ensure!(seen.oldest_contact < LATE, "a sign of life was late");
            // All go to the next leader, with what they hold.
            submit(cluster, WORKERS, 15_000).await?;
            let held = async || {
                let given: u32 = fleet.seen().runs.values().sum();
                ensure!(given as usize >= WORKERS, "{given} of {WORKERS}");
                Ok(())
            };
            eventually("all hold a run", SOON, held).await?;
            let leader = cluster.leader().await?;
            let since = Instant::now();
            cluster.kill9(leader).await?;
            cluster.leader().await?;
            fleet.all_connected(SOON).await?;
            println!(
                "leader killed: all connected to the next within {:.1} s",
                since.elapsed().as_secs_f64()
            );
            eventually("all is recorded by the next leader", SOON, async || {
                let recorded = fleet.seen().recorded;
                ensure!(recorded == WORKERS, "{recorded} of {WORKERS}");
                Ok(())
            })
            .await?;
            let status = cluster.client()?.status().await?;
            ensure!(
                status.lost == 0 && status.failed == 0 && status.stale_reports == 0,
                "{status:?}"
            );
            Ok(())
        },
    );
}

fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

async fn submit(cluster: &sched_tests::Cluster, count: usize, duration_ms: u64) -> Result<()> {
    let now = || task(Form::Now(sched_proto::v1::NowSchedule {}), sample(duration_ms, 0));
    let submissions = (0..count).map(|_| submission(now())).collect::<Result<Vec<_>>>()?;
    let client = cluster.client()?;
    for batch in submissions.chunks(500) {
        for accepted in client.submit_many(batch).await? {
            accepted?;
        }
    }
    Ok(())
}
