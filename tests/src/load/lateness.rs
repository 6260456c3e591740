//! How late tasks are when many are due every second.

use super::{Meter, Report};
use crate::stats::Samples;
use crate::tasks;
use anyhow::{Context, Result, bail, ensure};
use sched_proto::v1;
use sched_proto::v1::scheduler_client::SchedulerClient;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::{Instant, sleep_until};
use tonic::transport::Channel;

/// The label by which the tasks of one measurement are found again.
const LABEL: &str = "lateness";
/// Tasks handed over in one call.
const BATCH: usize = 500;
/// Runs read in one call.
const PAGE: u32 = 1000;
/// After the last task was due, all have ended within this.
const END_LIMIT: Duration = Duration::from_secs(60);

/// One-shots of `sample`, due at even distances.
#[derive(Clone, Debug)]
pub struct Lateness {
    /// Due per second.
    pub rate: f64,
    /// For so long.
    pub duration: Duration,
    /// From the last hand-over to the first due time: the queue is quiet when it begins.
    pub lead: Duration,
    /// Processes whose cost counts.
    pub pids: Vec<u32>,
}

impl Lateness {
    /// Hands the tasks over, waits until they have run, and reads from the cluster how late each was assigned.
    ///
    /// # Errors
    /// One was refused, or did not run.
    pub async fn run(&self, client: &mut SchedulerClient<Channel>, name: &str) -> Result<Report> {
        let count = (self.rate * self.duration.as_secs_f64()).ceil() as usize;
        // Handing over is not measured; ten thousand per second is more than any cluster here takes.
        let loading = Duration::from_secs_f64(count as f64 / 2_000.0);
        let first_ms = tasks::now_ms() + i64::try_from((loading + self.lead).as_millis())?;
        let ids = self.hand_over(client, count, first_ms).await?;
        ensure!(
            tasks::now_ms() < first_ms,
            "handing {count} tasks over took longer than {:?}",
            loading + self.lead
        );

        let wait_ms = u64::try_from(first_ms - tasks::now_ms()).unwrap_or(0);
        let begin = Instant::now() + Duration::from_millis(wait_ms);
        sleep_until(begin).await;
        let meter = Meter::start(&self.pids)?;
        sleep_until(begin + self.duration).await;
        let (seconds, cost) = meter.stop(count as u64)?;
        let latency = self.collect(client, &ids, begin + self.duration + END_LIMIT).await?;
        Ok(Report {
            name: name.to_owned(),
            seconds,
            ops: latency.len() as u64,
            errors: 0,
            last_error: None,
            ops_per_second: latency.len() as f64 / seconds,
            latency: latency.summary(),
            cost,
        })
    }

    async fn hand_over(&self, client: &mut SchedulerClient<Channel>, count: usize, first_ms: i64) -> Result<Vec<u64>> {
        let mut ids = Vec::with_capacity(count);
        let label = first_ms.to_string();
        for start in (0..count).step_by(BATCH) {
            let items = (start..count.min(start + BATCH)).map(|index| {
                let due = first_ms + (index as f64 * 1000.0 / self.rate) as i64;
                let mut task = tasks::task(tasks::at(due), tasks::sample(0, 0));
                task.labels.insert(LABEL.to_owned(), label.clone());
                tasks::submit(task)
            });
            let request = v1::SubmitManyRequest { items: items.collect() };
            let reply = client
                .submit_many(request)
                .await
                .context("handing tasks over")?
                .into_inner();
            for result in reply.results {
                match result.result {
                    Some(v1::submit_result::Result::Accepted(reply)) => ids.push(reply.id),
                    other => bail!("a task was not accepted: {other:?}"),
                }
            }
        }
        Ok(ids)
    }

    /// Reads finished runs, newest first, until every task has been seen.
    async fn collect(&self, client: &mut SchedulerClient<Channel>, ids: &[u64], end: Instant) -> Result<Samples> {
        let mut late: BTreeMap<u64, Option<i64>> = ids.iter().map(|id| (*id, None)).collect();
        loop {
            let mut cursor = String::new();
            loop {
                let states = vec![v1::RunState::Finished.into()];
                let request = v1::ListRunsRequest {
                    task: None,
                    states,
                    limit: PAGE,
                    cursor,
                };
                let reply = client
                    .list_runs(request)
                    .await
                    .context("reading finished runs")?
                    .into_inner();
                for run in reply.runs {
                    if let Some(seen) = run.id.and_then(|id| late.get_mut(&id.task)) {
                        *seen = Some(run.late_ms.context("a finished run says how late it was")?);
                    }
                }
                cursor = reply.cursor;
                if cursor.is_empty() || late.values().all(Option::is_some) {
                    break;
                }
            }
            let missing = late.values().filter(|seen| seen.is_none()).count();
            if missing == 0 {
                break;
            }
            ensure!(
                Instant::now() < end,
                "{missing} of {} tasks have not finished",
                ids.len()
            );
            sleep_until(Instant::now() + Duration::from_millis(200)).await;
        }
        let samples = late
            .into_values()
            .flatten()
            .map(|ms| Duration::from_millis(u64::try_from(ms).unwrap_or(0)));
        Ok(samples.collect())
    }
}
