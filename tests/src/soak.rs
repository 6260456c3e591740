//! A cluster at work for a long time, with frequent snapshots and kills, and what grows meanwhile.
//!
//! One node is never killed: what grows in it is a leak. The two others are killed in turn, so that it leads, follows and brings others
//! up to date. Kept history is bounded by a small number, so that the state stops growing early.

use crate::{Cluster, Plan, http, procfs, tasks};
use anyhow::{Context, Result, ensure};
use sched_client::{Client, Options};
use sched_proto::v1;
use sched_proto::v1::schedule::Form;
use serde::Serialize;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};
use tokio_util::sync::CancellationToken;

/// Entries after which each node makes a snapshot; the default is ten times as many.
const SNAPSHOT_ENTRIES: &str = "2000";
/// Ended tasks that are kept.
const KEPT: &str = "keep_ended_tasks=2000";
/// Recurring tasks, and how often each is due: a hundred runs a second.
const RECURRING: u64 = 500;
const EVERY_MS: u64 = 5_000;
/// One-shots handed over each second, due at once.
const RATE: u64 = 200;
/// Callers that hand them over.
const CALLERS: u64 = 8;
/// Between two kills.
const KILL_EVERY: Duration = Duration::from_secs(30);
/// For which a killed node is away.
const AWAY: Duration = Duration::from_secs(3);
/// Between two looks at what grows.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// The part of the time, in tenths, after which caches are full and the kept history is as long as it gets: in half an hour, it is after 14
/// minutes that memory stops growing.
const WARM_UP_TENTHS: u32 = 5;
/// The node that is never killed.
const WITNESS: usize = 0;

/// What was seen at one moment.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Look {
    /// Since the start, in seconds.
    pub at_s: f64,
    /// Resident memory of the node that is never killed, in MiB.
    pub resident_mib: f64,
    /// Its open files.
    pub files: usize,
    /// Its data folder, in MiB.
    pub disk_mib: f64,
}

/// What came of it.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Soaked {
    /// Everything that was seen, oldest first.
    pub looks: Vec<Look>,
    /// Nodes killed.
    pub kills: u64,
    /// One-shots acknowledged.
    pub acknowledged: u64,
    /// Calls that failed although they had half a minute.
    pub failed: u64,
    /// Runs that ended.
    pub finished: u64,
    /// Runs that failed.
    pub runs_failed: u64,
    /// Snapshots that the witness made.
    pub snapshots: f64,
}

impl Soaked {
    /// The looks after the warm-up.
    pub fn warm(&self) -> &[Look] {
        let from = self.looks.len() * WARM_UP_TENTHS as usize / 10;
        &self.looks[from..]
    }

    /// By how many percent of its mean a value grows in an hour, and the standard error of that: the slope of the straight line with the
    /// least squared distance.
    pub fn slope_percent_per_hour(&self, value: impl Fn(&Look) -> f64) -> (f64, f64) {
        let looks = self.warm();
        let count = looks.len() as f64;
        let mean = |of: &dyn Fn(&Look) -> f64| looks.iter().map(of).sum::<f64>() / count;
        let (time, level) = (mean(&|look| look.at_s), mean(&value));
        let along: f64 = looks.iter().map(|look| (look.at_s - time).powi(2)).sum();
        let both: f64 = looks
            .iter()
            .map(|look| (look.at_s - time) * (value(look) - level))
            .sum();
        let slope = both / along;
        let off = |look: &Look| value(look) - level - slope * (look.at_s - time);
        let squares: f64 = looks.iter().map(|look| off(look).powi(2)).sum();
        let error = (squares / (count - 2.0) / along).sqrt();
        let percent = |per_second: f64| per_second * 3600.0 / level * 100.0;
        (percent(slope), percent(error))
    }

    /// The least and the most of a value after the warm-up.
    pub fn range(&self, value: impl Fn(&Look) -> f64) -> (f64, f64) {
        let values = self.warm().iter().map(value);
        values.fold((f64::MAX, f64::MIN), |(least, most), value| {
            (least.min(value), most.max(value))
        })
    }
}

/// Lets a cluster of three work for so long.
///
/// # Errors
/// A node ended by itself or said that it cannot go on, or the cluster did not do its work.
pub async fn soak(length: Duration) -> Result<Soaked> {
    let mut cluster = Cluster::new(Plan::nodes(3).with("--snapshot-entries").with(SNAPSHOT_ENTRIES)).await?;
    cluster.cli(&["config", "set", KEPT]).await?.done()?;
    recurring(&cluster).await?;
    let load = Load::start(&cluster)?;
    let mut soaked = Soaked::default();
    let start = Instant::now();
    let mut looks = interval(LOOK_EVERY);
    looks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut next_kill = start + KILL_EVERY;
    while start.elapsed() < length {
        looks.tick().await;
        soaked.looks.push(look(&cluster, start)?);
        if Instant::now() >= next_kill {
            let victim = 1 + usize::try_from(soaked.kills % 2)?;
            cluster.kill9(victim).await?;
            sleep(AWAY).await;
            cluster.start(victim)?;
            cluster.ready().await?;
            soaked.kills += 1;
            next_kill = Instant::now() + KILL_EVERY;
        }
        for node in &mut cluster.nodes {
            node.still_runs()?;
        }
    }
    (soaked.acknowledged, soaked.failed) = load.end().await?;
    let status = cluster.nodes[cluster.leader().await?].status().await?;
    (soaked.finished, soaked.runs_failed) = (status.finished, status.failed);
    let witness = &cluster.nodes[WITNESS];
    soaked.snapshots = http::metric(&witness.client, "sched_snapshots_built_total").await?;
    for node in &cluster.nodes {
        let log = node.log()?;
        for fatal in ["panicked at", "the replica failed"] {
            ensure!(
                !log.contains(fatal),
                "{} says {fatal:?}: {}",
                node.name,
                node.log_tail()
            );
        }
    }
    Ok(soaked)
}

/// Hands over what recurs.
async fn recurring(cluster: &Cluster) -> Result<()> {
    let client = cluster.client()?;
    for number in 0..RECURRING {
        let anchor = i64::try_from(number * EVERY_MS / RECURRING)?;
        let form = Form::Every(v1::EverySchedule {
            every_ms: EVERY_MS,
            anchor_unix_ms: Some(anchor),
        });
        let task = tasks::task(form, tasks::sample(0, 0));
        client
            .submit(tasks::submission(task)?)
            .await
            .context("a recurring task")?;
    }
    Ok(())
}

fn look(cluster: &Cluster, start: Instant) -> Result<Look> {
    let witness = &cluster.nodes[WITNESS];
    let pid = witness.pid()?;
    Ok(Look {
        at_s: start.elapsed().as_secs_f64(),
        resident_mib: procfs::resident_mib(pid)?,
        files: std::fs::read_dir(format!("/proc/{pid}/fd"))?.count(),
        disk_mib: bytes_below(&witness.data) as f64 / f64::from(1 << 20),
    })
}

/// What is deleted while it is counted counts nothing.
fn bytes_below(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.metadata() {
            Ok(meta) if meta.is_dir() => bytes_below(&entry.path()),
            Ok(meta) => meta.len(),
            Err(_) => 0,
        })
        .sum()
}

/// One-shots at a rate.
struct Load {
    acknowledged: Arc<AtomicU64>,
    stop: CancellationToken,
    callers: JoinSet<Result<u64>>,
}

impl Load {
    fn start(cluster: &Cluster) -> Result<Self> {
        let options = Options {
            deadline: Duration::from_secs(30),
            ..Options::default()
        };
        let client = Client::with_options(cluster.endpoints(), options)?;
        let (acknowledged, stop) = (Arc::new(AtomicU64::new(0)), CancellationToken::new());
        let mut callers = JoinSet::new();
        for _ in 0..CALLERS {
            let (client, acknowledged, stop) = (client.clone(), acknowledged.clone(), stop.clone());
            callers.spawn(async move {
                let mut failed = 0;
                let mut ticks = interval(Duration::from_millis(1000 * CALLERS / RATE));
                ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
                while !stop.is_cancelled() {
                    ticks.tick().await;
                    let task = tasks::task(tasks::at(tasks::now_ms() + 100), tasks::sample(0, 64));
                    match client.submit(tasks::submission(task)?).await {
                        Ok(_) => drop(acknowledged.fetch_add(1, Ordering::Relaxed)),
                        Err(_) => failed += 1,
                    }
                }
                Ok(failed)
            });
        }
        Ok(Self {
            acknowledged,
            stop,
            callers,
        })
    }

    /// Returns how many were acknowledged, and how many were not.
    async fn end(mut self) -> Result<(u64, u64)> {
        self.stop.cancel();
        let mut failed = 0;
        while let Some(caller) = self.callers.join_next().await {
            failed += caller.context("a caller panicked")??;
        }
        Ok((self.acknowledged.load(Ordering::Relaxed), failed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_grows_is_seen_and_what_goes_up_and_down_is_not() {
        let soaked = |level: fn(u32) -> f64| Soaked {
            looks: (0..360)
                .map(|n| Look {
                    at_s: f64::from(n) * 5.0,
                    resident_mib: level(n),
                    files: 100,
                    disk_mib: 1.0,
                })
                .collect(),
            ..Soaked::default()
        };
        let slope = |level| soaked(level).slope_percent_per_hour(|look| look.resident_mib).0;
        // From 100 to 200 MiB in half an hour, of which the mean after the warm-up is 175.
        assert!((slope(|n| 100.0 + f64::from(n) / 3.6) - 200.0 / 1.75).abs() < 1.0);
        assert!(slope(|n| 100.0 + f64::from(n % 2)).abs() < 0.1);
        // What only the warm-up brings is none.
        assert!(slope(|n| if n < 100 { f64::from(n) } else { 100.0 }).abs() < 1e-9);
    }
}
