//! A steady feed of one-shots through whatever happens to the cluster, and the account of them afterwards.

use anyhow::{Context, Result, ensure};
use futures::{StreamExt, TryStreamExt, stream};
use sched_client::{Client, Options, Page, RunFilter, TaskFilter};
use sched_core::task::TaskRef;
use sched_proto::v1;
use sched_tests::{Cluster, Recorder, Start, tasks};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, MissedTickBehavior, interval};

/// Between two due times.
pub(crate) const STEP: Duration = Duration::from_millis(100);
/// A task is handed over this long before it is due: longer than an election, so that handing over is not what makes it late.
const AHEAD: Duration = Duration::from_secs(5);
/// By then every task is at its end: the lease of a lost worker, one try, and a machine that is busy.
const END_LIMIT: Duration = Duration::from_secs(60);
/// Label under which a task carries its number.
const LABEL: &str = "feed";
/// Calls under way at once while the account is drawn up.
const READERS: usize = 16;

/// Hands over one task every [`STEP`] until it is stopped.
pub(crate) struct Feed {
    stop: watch::Sender<bool>,
    feeder: JoinHandle<Result<BTreeMap<u64, u64>>>,
}

impl Feed {
    /// Starts with tasks that are due from [`AHEAD`] on; each runs the recorder's line, then `more` shell.
    pub(crate) fn start(cluster: &Cluster, recorder: &Arc<Recorder>, more: &'static str) -> Result<Self> {
        Self::with(cluster, recorder, more, |_| v1::Delivery::Unspecified)
    }

    /// As [`Feed::start`], with the delivery of each task by its number.
    pub(crate) fn with(
        cluster: &Cluster,
        recorder: &Arc<Recorder>,
        more: &'static str,
        delivery: fn(u64) -> v1::Delivery,
    ) -> Result<Self> {
        let options = Options {
            deadline: Duration::from_secs(30),
            ..Options::default()
        };
        let client = Client::with_options(cluster.endpoints(), options)?;
        let (stop, stopped) = watch::channel(false);
        let feeder = tokio::spawn(feed(client, Arc::clone(recorder), more, delivery, stopped));
        Ok(Self { stop, feeder })
    }

    /// Ends it and returns the ids of the tasks by their number.
    pub(crate) async fn stop(self) -> Result<BTreeMap<u64, u64>> {
        self.stop.send(true).ok().context("the feed has ended by itself")?;
        self.feeder.await?
    }
}

async fn feed(
    client: Client,
    recorder: Arc<Recorder>,
    more: &'static str,
    delivery: fn(u64) -> v1::Delivery,
    mut stopped: watch::Receiver<bool>,
) -> Result<BTreeMap<u64, u64>> {
    let mut under_way = JoinSet::new();
    let mut ticks = interval(STEP);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let base = tasks::now_ms() + i64::try_from(AHEAD.as_millis())?;
    for number in 0_u64.. {
        tokio::select! {
            _ = ticks.tick() => {}
            _ = stopped.wait_for(|stopped| *stopped) => break,
        }
        let due = base + i64::try_from(number)? * i64::try_from(STEP.as_millis())?;
        let mut task = tasks::task(
            tasks::at(due),
            tasks::command(recorder.argv_then(&number.to_string(), more)),
        );
        task.policy.get_or_insert_default().delivery = delivery(number).into();
        task.labels.insert(LABEL.to_owned(), number.to_string());
        let submission = tasks::submission(task)?;
        let client = client.clone();
        // Not one after the other: a call that has to wait for an election must not hold up the next.
        under_way.spawn(async move { client.submit(submission).await.map(|reply| (number, reply.id)) });
    }
    let mut accepted = BTreeMap::new();
    while let Some(result) = under_way.join_next().await {
        let (number, id) = result?.context("handing a task over, with 30 s for it")?;
        accepted.insert(number, id);
    }
    Ok(accepted)
}

/// What became of every task of a feed.
pub(crate) struct Account {
    /// The runs by the number of their task.
    pub(crate) runs: BTreeMap<u64, v1::Run>,
    /// The starts that the recorder heard, likewise.
    pub(crate) starts: BTreeMap<u64, Vec<Start>>,
}

impl Account {
    /// Waits until every task has ended; checks that the cluster holds each exactly once, with exactly one run.
    pub(crate) async fn of(accepted: &BTreeMap<u64, u64>, cluster: &Cluster, recorder: &Recorder) -> Result<Self> {
        let client = cluster.client()?;
        held_once(&client, accepted).await?;
        let end = Instant::now() + END_LIMIT;
        let runs = stream::iter(accepted.iter().map(|(number, id)| (*number, *id)))
            .map(|(number, id)| ended(client.clone(), number, id, end))
            .buffer_unordered(READERS)
            .try_collect()
            .await?;
        let mut starts: BTreeMap<u64, Vec<Start>> = BTreeMap::new();
        for start in recorder.starts() {
            starts
                .entry(start.note.parse().context("a note is a number")?)
                .or_default()
                .push(start);
        }
        Ok(Self { runs, starts })
    }

    /// Checks that every task started, and that a second start belongs to a second attempt.
    pub(crate) fn every_one_started(&self) -> Result<()> {
        for (number, run) in &self.runs {
            let heard = self.starts.get(number).map_or(&[][..], Vec::as_slice);
            ensure!(!heard.is_empty(), "task {number} never started: {run:?}");
            ensure!(
                run.state() == v1::RunState::Finished,
                "run of task {number} has not finished: {run:?}"
            );
            let attempts = usize::try_from(run.attempts_count)?;
            ensure!(
                heard.len() <= attempts,
                "task {number} started {} times in {attempts} attempts: {run:?}",
                heard.len()
            );
            let mut tokens: Vec<_> = heard.iter().map(|start| &start.token).collect();
            tokens.sort();
            tokens.dedup();
            ensure!(
                tokens.len() == heard.len(),
                "task {number}: one attempt started twice: {heard:?}"
            );
        }
        Ok(())
    }

    /// The runs that took more than one attempt.
    pub(crate) fn repeated(&self) -> impl Iterator<Item = (u64, &v1::Run)> {
        self.runs
            .iter()
            .filter(|(_, run)| run.attempts_count > 1)
            .map(|(number, run)| (*number, run))
    }

    /// When starts were heard, in order.
    pub(crate) fn heard(&self) -> Vec<Instant> {
        let mut heard: Vec<Instant> = self.starts.values().flatten().map(|start| start.heard).collect();
        heard.sort();
        heard
    }
}

/// Lists all tasks of the feed: a request that was carried out twice would show as a second task with the same number.
async fn held_once(client: &Client, accepted: &BTreeMap<u64, u64>) -> Result<()> {
    let mut held = BTreeMap::new();
    let mut page = Page {
        limit: 1000,
        cursor: String::new(),
    };
    loop {
        let reply = client.tasks(&TaskFilter::default(), &page).await?;
        for task in reply.tasks {
            let spec = task.spec.context("a task without its definition")?;
            if let Some(number) = spec.labels.get(LABEL) {
                let before = held.insert(number.parse::<u64>()?, task.id);
                ensure!(
                    before.is_none(),
                    "task {number} is there twice, as {before:?} and as {}",
                    task.id
                );
            }
        }
        if reply.cursor.is_empty() {
            break;
        }
        page.cursor = reply.cursor;
    }
    ensure!(
        held == *accepted,
        "accepted and held differ: accepted {}, held {}",
        accepted.len(),
        held.len()
    );
    Ok(())
}

async fn ended(client: Client, number: u64, id: u64, end: Instant) -> Result<(u64, v1::Run)> {
    let task = TaskRef::Id(sched_core::ids::TaskId(id));
    let limit = end.saturating_duration_since(Instant::now());
    let waited = client
        .wait_task(&task, Some(limit))
        .await
        .with_context(|| format!("waiting for task {number}"))?;
    ensure!(
        waited.ended,
        "task {number} (id {id}) has not ended in time: {:?}",
        waited.run
    );
    let filter = RunFilter {
        task: Some(task),
        states: Vec::new(),
    };
    let mut runs = client.runs(&filter, &Page::default()).await?.runs;
    ensure!(runs.len() == 1, "task {number} (id {id}) has {} runs", runs.len());
    Ok((number, runs.remove(0)))
}
