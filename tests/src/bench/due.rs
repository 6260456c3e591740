//! How late tasks start: due at a steady rate, all in the same second, and again and again.

use super::{Figure, Row, Settings};
use crate::load::{Lateness, Meter, Report};
use crate::stats::Samples;
use crate::{Cluster, Plan, eventually, procfs, tasks};
use anyhow::{Context, Result, ensure};
use sched_proto::v1;
use sched_proto::v1::schedule::Form;
use sched_proto::v1::scheduler_client::SchedulerClient;
use std::time::Duration;
use tokio::time::{Instant, sleep_until};
use tonic::transport::Channel;

/// Runs that each worker takes at once.
const SLOTS: &str = "1000";
/// Tasks handed over in one call.
const BATCH: usize = 500;
/// Runs read in one call.
const PAGE: u32 = 1000;
/// Nothing here is given up on earlier.
const PATIENCE: Duration = Duration::from_secs(180);
/// What recurs, recurs so often, and so many do.
const EVERY: Duration = Duration::from_secs(10);
const RECURRING: usize = 10_000;

pub(super) async fn lateness(settings: &Settings) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for (rate, p50, p99) in [(200.0, None, 50.0), (1_000.0, Some(3.0), 10.0), (5_000.0, None, 50.0)] {
        let cluster = Cluster::new(Plan::nodes(3).with("--slots").with(SLOTS)).await?;
        let leader = cluster.leader().await?;
        let load = Lateness {
            rate,
            duration: settings.duration,
            lead: Duration::from_secs(3),
            pids: cluster.pids(),
        };
        let report = load.run(&mut cluster.nodes[leader].api(), "lateness").await?;
        eprintln!("{report}");
        let mut middle = Figure::new("p50", report.latency.p50_ms, " ms");
        middle.bound = p50.map(super::row::Bound::AtMost);
        let figures = vec![
            middle,
            Figure::new("p99", report.latency.p99_ms, " ms").at_most(p99),
            Figure::new("max", report.latency.max_ms, " ms"),
        ];
        let setting = format!("one-shots of `sample`, {rate:.0} due per second");
        rows.push(Row::of("lateness of starts", &setting, report, figures));
    }
    Ok(rows)
}

pub(super) async fn burst(settings: &Settings) -> Result<Vec<Row>> {
    let count = settings.burst;
    let cluster = Cluster::new(Plan::nodes(3).with("--slots").with(SLOTS)).await?;
    let leader = cluster.leader().await?;
    let mut api = cluster.nodes[leader].api();
    let term = api.status(v1::StatusRequest {}).await?.into_inner().term;
    let loading = Duration::from_secs_f64(count as f64 / 5_000.0) + Duration::from_secs(5);
    let first = tasks::now_ms() + i64::try_from(loading.as_millis())?;
    fill(&mut api, count, |index| {
        tasks::at(first + (index * 1000 / count) as i64)
    })
    .await?;
    ensure!(tasks::now_ms() < first, "handing over took longer than {loading:?}");
    let wait = u64::try_from(first - tasks::now_ms()).unwrap_or(0);
    let begin = Instant::now() + Duration::from_millis(wait);
    sleep_until(begin).await;
    let meter = Meter::start(&cluster.pids())?;
    finished(&mut api, count as u64).await?;
    let (seconds, cost) = meter.stop(count as u64)?;
    let late = late(&mut api).await?;
    let status = api.status(v1::StatusRequest {}).await?.into_inner();
    let report = Report {
        name: "burst".to_owned(),
        seconds,
        ops: count as u64,
        errors: late.again,
        last_error: None,
        ops_per_second: count as f64 / seconds,
        latency: late.samples.summary(),
        cost,
    };
    eprintln!("{report}");
    let figures = vec![
        Figure::new("last start", report.latency.max_ms / 1000.0, " s").at_most(15.0),
        Figure::new("elections", (status.term - term) as f64, "").at_most(0.0),
        Figure::new("started again", late.again as f64, "").at_most(0.0),
    ];
    let setting = format!("{count} one-shots of `sample` in the same second");
    Ok(vec![Row::of("burst", &setting, report, figures)])
}

pub(super) async fn recurring(settings: &Settings) -> Result<Vec<Row>> {
    let cluster = Cluster::new(Plan::nodes(3).with("--slots").with(SLOTS)).await?;
    let leader = cluster.leader().await?;
    let mut api = cluster.nodes[leader].api();
    let every_ms = u64::try_from(EVERY.as_millis())?;
    fill(&mut api, RECURRING, |index| {
        // Spread evenly over the interval.
        let anchor = (index as u64 * every_ms / RECURRING as u64) as i64;
        Form::Every(v1::EverySchedule {
            every_ms,
            anchor_unix_ms: Some(anchor),
        })
    })
    .await?;
    // Two rounds to settle: the first comes while tasks are still handed over.
    sleep_until(Instant::now() + EVERY * 2).await;
    let pids = cluster.pids();
    let resident = |pids: &[u32]| -> f64 { pids.iter().filter_map(|pid| procfs::resident_mib(*pid).ok()).sum() };
    let before = api.status(v1::StatusRequest {}).await?.into_inner();
    let (meter, memory) = (Meter::start(&pids)?, resident(&pids));
    sleep_until(Instant::now() + settings.recurring).await;
    let after = api.status(v1::StatusRequest {}).await?.into_inner();
    let grown = resident(&pids) / memory * 100.0 - 100.0;
    let ops = after.finished - before.finished;
    let (seconds, cost) = meter.stop(ops)?;
    let late = newest_late(&mut api, 50_000).await?;
    let report = Report {
        name: "recurring".to_owned(),
        seconds,
        ops,
        errors: after.failed,
        last_error: None,
        ops_per_second: ops as f64 / seconds,
        latency: late.samples.summary(),
        cost,
    };
    eprintln!("{report}");
    let lost = (after.missed + after.skipped) - (before.missed + before.skipped);
    let figures = vec![
        Figure::new("missed or skipped", lost as f64, "").at_most(0.0),
        Figure::new("rate", report.ops_per_second, " runs/s").at_least(990.0),
        Figure::new("p99", report.latency.p99_ms, " ms").at_most(50.0),
        Figure::new("memory grew by", grown, " %").at_most(5.0),
    ];
    let setting = format!(
        "{RECURRING} tasks every 10 s for {:.0} s",
        settings.recurring.as_secs_f64()
    );
    Ok(vec![Row::of("recurring", &setting, report, figures)])
}

/// Hands over so many tasks of `sample`.
pub(super) async fn fill(api: &mut SchedulerClient<Channel>, count: usize, form: impl Fn(usize) -> Form) -> Result<()> {
    for start in (0..count).step_by(BATCH) {
        let items =
            (start..count.min(start + BATCH)).map(|index| tasks::submit(tasks::task(form(index), tasks::sample(0, 0))));
        let request = v1::SubmitManyRequest { items: items.collect() };
        for result in api.submit_many(request).await?.into_inner().results {
            match result.result {
                Some(v1::submit_result::Result::Accepted(_)) => {}
                refused => anyhow::bail!("a task was not accepted: {refused:?}"),
            }
        }
    }
    Ok(())
}

async fn finished(api: &mut SchedulerClient<Channel>, count: u64) -> Result<()> {
    eventually("every task has run", PATIENCE, async || {
        let status = api.clone().status(v1::StatusRequest {}).await?.into_inner();
        ensure!(status.finished >= count, "{} of {count}", status.finished);
        Ok(())
    })
    .await
}

/// How late runs were, and how many of them took more than one attempt.
struct Late {
    samples: Samples,
    again: u64,
}

async fn late(api: &mut SchedulerClient<Channel>) -> Result<Late> {
    newest_late(api, usize::MAX).await
}

/// Of the runs that finished last, at most so many.
async fn newest_late(api: &mut SchedulerClient<Channel>, most: usize) -> Result<Late> {
    let mut late = Late {
        samples: Samples::default(),
        again: 0,
    };
    let mut cursor = String::new();
    loop {
        let request = v1::ListRunsRequest {
            task: None,
            states: vec![v1::RunState::Finished.into()],
            limit: PAGE,
            cursor,
        };
        let reply = api.list_runs(request).await?.into_inner();
        for run in reply.runs {
            let ms = run.late_ms.context("a finished run says how late it was")?;
            late.samples
                .record(Duration::from_millis(u64::try_from(ms).unwrap_or(0)));
            late.again += u64::from(run.attempts_count > 1);
        }
        cursor = reply.cursor;
        if cursor.is_empty() || late.samples.len() >= most {
            return Ok(late);
        }
    }
}
