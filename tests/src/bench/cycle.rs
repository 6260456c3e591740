//! The whole life of a task: enqueue, fire, assign, run, complete, each step replicated and durable.

use super::{Figure, Row, Settings};
use crate::figures::PAYLOAD;
use crate::load::{Meter, Report};
use crate::stats::Samples;
use crate::{Cluster, Plan, tasks};
use anyhow::{Context, Result, bail};
use sched_proto::v1;
use sched_proto::v1::action::Kind;
use sched_proto::v1::schedule::Form;
use sched_proto::v1::scheduler_client::SchedulerClient;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;

/// Runs that each worker takes at once: with 64, the default, a worker waits for the log more than it runs.
const SLOTS: &str = "1000";
/// Tasks that are accepted and have not ended: enough to keep every step busy.
const UNDER_WAY: u64 = 2_000;
/// Between two looks at how many have ended.
const LOOK: Duration = Duration::from_millis(20);
/// Not measured.
const WARM_UP: Duration = Duration::from_secs(2);
/// Of the runs that ended last, so many are asked how long they took.
const SAMPLE: u32 = 1000;

/// Makes what each run does.
type Make = fn() -> Kind;

pub(super) async fn rows(settings: &Settings) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    let table: [(&str, Make, Option<f64>); 2] = [
        ("`sample`", || tasks::sample(0, PAYLOAD), Some(10_000.0)),
        (
            "a process, `/bin/true`",
            || tasks::command(vec!["/bin/true".to_owned()]),
            None,
        ),
    ];
    for (what, make, bound) in table {
        let cluster = Cluster::new(Plan::nodes(3).with("--slots").with(SLOTS)).await?;
        let report = cycle(&cluster, make, UNDER_WAY, settings.duration).await?;
        eprintln!("{report}");
        let mut rate = Figure::new("rate", report.ops_per_second, " runs/s");
        rate.bound = bound.map(super::row::Bound::AtLeast);
        let figures = vec![
            rate,
            Figure::new("enqueue to end p50", report.latency.p50_ms, " ms"),
            Figure::new("p99", report.latency.p99_ms, " ms"),
        ];
        let setting = format!("{what}, 2,000 under way, {SLOTS} slots a worker");
        rows.push(Row::of("full cycle", &setting, report, figures));
    }
    Ok(rows)
}

/// The full cycle of samples on a fresh cluster, with so many under way.
pub(super) async fn of_samples(settings: &Settings, under_way: u64) -> Result<Report> {
    let cluster = Cluster::new(Plan::nodes(3).with("--slots").with(SLOTS)).await?;
    cycle(&cluster, || tasks::sample(0, PAYLOAD), under_way, settings.duration).await
}

/// Keeps so many tasks under way for a while and counts those that end.
async fn cycle(cluster: &Cluster, make: Make, under_way: u64, duration: Duration) -> Result<Report> {
    let leader = cluster.leader().await?;
    let mut api = cluster.nodes[leader].api();
    let feed = Feed::start(cluster.nodes[leader].api(), make);
    let before = ended(&mut api).await?;
    let mut looks = interval(LOOK);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let begin = Instant::now();
    let mut measured = None;
    let (mut submitted, mut done) = (0, 0);
    while begin.elapsed() < WARM_UP + duration {
        looks.tick().await;
        done = ended(&mut api).await? - before;
        if measured.is_none() && begin.elapsed() >= WARM_UP {
            measured = Some((Meter::start(&cluster.pids())?, done));
        }
        while submitted < done + under_way {
            feed.more.send(()).await.context("the stream of submits has ended")?;
            submitted += 1;
        }
    }
    let (meter, from) = measured.context("the warm-up is shorter than the measurement")?;
    let ops = done - from;
    let (seconds, cost) = meter.stop(ops)?;
    feed.end().await?;
    Ok(Report {
        name: "full cycle".to_owned(),
        seconds,
        ops,
        errors: 0,
        last_error: None,
        ops_per_second: ops as f64 / seconds,
        latency: took(&mut api).await?.summary(),
        cost,
    })
}

/// How many runs have ended, ever, as long as none is dropped: retention is a week.
async fn ended(api: &mut SchedulerClient<Channel>) -> Result<u64> {
    let status = api.status(v1::StatusRequest {}).await?.into_inner();
    if status.failed > 0 {
        let request = v1::ListRunsRequest {
            states: vec![v1::RunState::Failed.into()],
            limit: 1,
            ..v1::ListRunsRequest::default()
        };
        let one = api.list_runs(request).await?.into_inner().runs.pop();
        let why = one.map(|run| run.reason);
        bail!("{} runs failed, one of them because: {why:?}", status.failed);
    }
    Ok(status.finished)
}

/// From the acceptance of a task to the end of its run, of those that ended last.
async fn took(api: &mut SchedulerClient<Channel>) -> Result<Samples> {
    let request = v1::ListRunsRequest {
        task: None,
        states: vec![v1::RunState::Finished.into()],
        limit: SAMPLE,
        cursor: String::new(),
    };
    let reply = api.list_runs(request).await?.into_inner();
    let took = reply.runs.iter().map(|run| {
        let ended = run.ended_at_unix_ms.unwrap_or(run.scheduled_at_unix_ms);
        Duration::from_millis(u64::try_from(ended - run.scheduled_at_unix_ms).unwrap_or(0))
    });
    Ok(took.collect())
}

/// Hands over one task for each word it is given, over one stream, and makes sure that each is accepted.
struct Feed {
    more: mpsc::Sender<()>,
    answers: JoinHandle<Result<()>>,
}

impl Feed {
    fn start(mut api: SchedulerClient<Channel>, make: Make) -> Self {
        let (more, words) = mpsc::channel(4096);
        let requests = ReceiverStream::new(words).map(move |()| v1::SubmitStreamRequest {
            seq: 0,
            item: Some(tasks::submit(tasks::task(Form::Now(v1::NowSchedule {}), make()))),
        });
        let answers = tokio::spawn(async move {
            let mut replies = api.submit_stream(requests).await?.into_inner();
            while let Some(reply) = replies.next().await {
                match reply?.result.and_then(|result| result.result) {
                    Some(v1::submit_result::Result::Accepted(_)) => {}
                    refused => anyhow::bail!("a task was not accepted: {refused:?}"),
                }
            }
            Ok(())
        });
        Self { more, answers }
    }

    async fn end(self) -> Result<()> {
        drop(self.more);
        self.answers.await?
    }
}
