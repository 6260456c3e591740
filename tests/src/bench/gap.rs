//! How long nothing is acknowledged when the leader dies under load.

use super::{Figure, Row, Settings};
use crate::stats::Samples;
use crate::{Cluster, Plan, tasks};
use anyhow::{Context, Result};
use sched_client::{Client, Options};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;
use tokio::time::sleep_until;
use tokio_util::sync::CancellationToken;

/// Enqueues per second.
const RATE: f64 = 2_000.0;
/// Callers that take turns: enough to go on calling while many of them wait for the election.
const CALLERS: usize = 64;
/// Between two kills, so that each hits a cluster that has recovered.
const CALM: Duration = Duration::from_secs(4);

pub(super) async fn rows(settings: &Settings) -> Result<Vec<Row>> {
    let kills = settings.rounds.max(1) * 4;
    let mut cluster = Cluster::new(Plan::nodes(3)).await?;
    let mut gaps = Samples::default();
    let load = Acknowledged::start(&cluster)?;
    for _ in 0..kills {
        sleep_until(tokio::time::Instant::now() + CALM).await;
        let leader = cluster.leader().await?;
        let killed = Instant::now();
        cluster.kill9(leader).await?;
        sleep_until(tokio::time::Instant::now() + CALM).await;
        gaps.record(load.longest_since(killed));
        cluster.start(leader)?;
        cluster.ready().await?;
    }
    let (acknowledged, failed) = load.end().await?;
    let summary = gaps.summary();
    let figures = vec![
        Figure::new("gap p50", summary.p50_ms / 1000.0, " s"),
        Figure::new("gap p99", summary.p99_ms / 1000.0, " s").at_most(2.0),
    ];
    let setting = format!("leader killed with -9, {RATE:.0} enqueues/s, {kills} kills");
    let row = Row::plain("failover", &setting, figures);
    Ok(vec![row.beside(format!(
        "{acknowledged} acknowledged, {failed} calls failed in 30 s"
    ))])
}

/// Enqueues at a rate, and when each was acknowledged.
struct Acknowledged {
    at: Arc<Mutex<Vec<Instant>>>,
    stop: CancellationToken,
    callers: JoinSet<usize>,
}

impl Acknowledged {
    fn start(cluster: &Cluster) -> Result<Self> {
        let options = Options {
            deadline: Duration::from_secs(30),
            ..Options::default()
        };
        let client = Client::with_options(cluster.endpoints(), options)?;
        let at = Arc::new(Mutex::new(Vec::new()));
        let stop = CancellationToken::new();
        let mut callers = JoinSet::new();
        let step = Duration::from_secs_f64(CALLERS as f64 / RATE);
        for _ in 0..CALLERS {
            let (client, at, stop) = (client.clone(), Arc::clone(&at), stop.clone());
            callers.spawn(async move {
                let mut failed = 0;
                let mut next = tokio::time::Instant::now();
                while !stop.is_cancelled() {
                    sleep_until(next).await;
                    next += step;
                    let due = tasks::now_ms() + 3_600_000;
                    let Ok(submission) = tasks::submission(tasks::task(tasks::at(due), tasks::sample(0, 0))) else {
                        failed += 1;
                        continue;
                    };
                    match client.submit(submission).await {
                        Ok(_) => at.lock().unwrap_or_else(PoisonError::into_inner).push(Instant::now()),
                        Err(_) => failed += 1,
                    }
                    // A caller that has waited for an election does not make up for what it could not say.
                    next = next.max(tokio::time::Instant::now());
                }
                failed
            });
        }
        Ok(Self { at, stop, callers })
    }

    /// The longest time without an acknowledgement that ended after this instant.
    fn longest_since(&self, from: Instant) -> Duration {
        let at = self.at.lock().unwrap_or_else(PoisonError::into_inner);
        let mut at: Vec<Instant> = at.iter().copied().filter(|at| *at >= from).collect();
        at.sort();
        let mut longest = Duration::ZERO;
        let mut before = from;
        for instant in at {
            longest = longest.max(instant - before);
            before = instant;
        }
        longest.max(before.elapsed().saturating_sub(CALM))
    }

    async fn end(mut self) -> Result<(usize, usize)> {
        self.stop.cancel();
        let mut failed = 0;
        while let Some(caller) = self.callers.join_next().await {
            failed += caller.context("a caller panicked")?;
        }
        let count = self.at.lock().unwrap_or_else(PoisonError::into_inner).len();
        Ok((count, failed))
    }
}
