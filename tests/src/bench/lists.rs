//! How long a page takes when there is much to choose from.

use super::{Figure, Row, Settings, due};
use crate::figures;
use crate::stats::Samples;
use crate::{Cluster, Plan, eventually, tasks};
use anyhow::{Result, ensure};
use sched_proto::v1;
use std::time::{Duration, Instant};

/// Pages read of each kind.
const PAGES: usize = 300;
/// Entries of a page.
const PAGE: u32 = 100;
/// Until everything that shall have ended has.
const PATIENCE: Duration = Duration::from_secs(600);

pub(super) async fn rows(settings: &Settings) -> Result<Vec<Row>> {
    let count = settings.queue;
    let cluster = Cluster::new(Plan::nodes(3).with("--slots").with("1000")).await?;
    let leader = cluster.leader().await?;
    let mut api = cluster.nodes[leader].api();
    figures::fill(&cluster, count).await?;
    due::fill(&mut api, count, |_| v1::schedule::Form::Now(v1::NowSchedule {})).await?;
    eventually("every run has ended", PATIENCE, async || {
        let status = api.clone().status(v1::StatusRequest {}).await?.into_inner();
        ensure!(status.finished >= count as u64, "{} of {count}", status.finished);
        Ok(())
    })
    .await?;
    let (mut lists, mut runs, mut states) = (Samples::default(), Samples::default(), Samples::default());
    let (mut tasks_cursor, mut runs_cursor) = (String::new(), String::new());
    for _ in 0..PAGES {
        let start = Instant::now();
        let request = v1::ListTasksRequest {
            limit: PAGE,
            cursor: tasks_cursor,
            ..v1::ListTasksRequest::default()
        };
        tasks_cursor = api.list_tasks(request).await?.into_inner().cursor;
        lists.record(start.elapsed());
        let start = Instant::now();
        let request = v1::ListRunsRequest {
            states: vec![v1::RunState::Finished.into()],
            limit: PAGE,
            cursor: runs_cursor,
            task: None,
        };
        runs_cursor = api.list_runs(request).await?.into_inner().cursor;
        runs.record(start.elapsed());
        let start = Instant::now();
        api.status(v1::StatusRequest {}).await?;
        states.record(start.elapsed());
    }
    let p99 = |name: &str, samples: &Samples| Figure::new(name, samples.summary().p99_ms, " ms").at_most(20.0);
    let figures = vec![
        p99("list p99", &lists),
        p99("runs p99", &runs),
        p99("status p99", &states),
    ];
    let setting = format!("{count} queued tasks, {count} ended runs, pages of {PAGE}");
    let row = Row::plain("a page of a list", &setting, figures);
    Ok(vec![
        row.beside(format!("measured at {}", tasks::rfc3339(tasks::now_ms()))),
    ])
}
