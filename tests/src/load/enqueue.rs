//! Enqueues, as fast as they are acknowledged or at a given rate.

use super::{Meter, Report};
use crate::stats::Samples;
use crate::tasks;
use anyhow::{Context, Result, ensure};
use sched_proto::v1;
use sched_proto::v1::scheduler_client::SchedulerClient;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint};

/// Tasks of a measurement are due this far ahead: what is measured is accepting them, not running them.
const DUE_IN_MS: i64 = 30 * 24 * 3600 * 1000;
/// Longest call.
const CALL_LIMIT: Duration = Duration::from_secs(10);
/// A caller that was refused waits so long, so that a cluster in trouble is not also hammered.
const BACK_OFF: Duration = Duration::from_millis(5);

/// How tasks are handed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// One call each.
    Unary,
    /// Calls with so many each.
    Batch(usize),
    /// One stream per caller, with so many under way.
    Stream(usize),
}

/// When the next one is handed over.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Arrival {
    /// When the one before is acknowledged.
    Closed,
    /// So many per second over all callers, whether acknowledged or not; each latency counts from the intended start, so that a
    /// cluster that stalls is charged for everything that had to wait.
    Open(f64),
}

/// A load of enqueues.
#[derive(Clone, Debug)]
pub struct Enqueue {
    /// `host:port` or URLs of the nodes that are called; each connection goes to the next of them.
    pub endpoints: Vec<String>,
    /// Callers at once.
    pub callers: usize,
    /// Connections they share.
    pub connections: usize,
    /// Bytes in each task.
    pub payload: usize,
    /// How.
    pub way: Way,
    /// When.
    pub arrival: Arrival,
    /// Not measured.
    pub warm_up: Duration,
    /// Measured, unless it is stopped before.
    pub duration: Duration,
    /// Ends it early.
    pub stop: CancellationToken,
    /// Processes whose cost counts.
    pub pids: Vec<u32>,
}

/// What a caller has seen.
#[derive(Default)]
struct Seen {
    ops: u64,
    errors: u64,
    last_error: Option<String>,
    latency: Samples,
}

impl Seen {
    fn add(&mut self, other: Self) {
        self.ops += other.ops;
        self.errors += other.errors;
        self.last_error = other.last_error.or(self.last_error.take());
        self.latency.add(&other.latency);
    }
}

/// What all callers of a run share.
struct Course {
    /// Before it nothing counts.
    from: Instant,
    /// Nothing begins after it.
    to: Instant,
    stop: CancellationToken,
    due_ms: i64,
    payload: usize,
}

impl Course {
    fn request(&self) -> v1::SubmitRequest {
        tasks::submit(tasks::task(tasks::at(self.due_ms), tasks::sample(0, self.payload)))
    }

    fn over(&self) -> bool {
        Instant::now() >= self.to || self.stop.is_cancelled()
    }

    /// Counts `ops` successes that began at `start` and have just ended.
    fn count(&self, seen: &mut Seen, start: Instant, ops: u64) {
        let end = Instant::now();
        if start >= self.from && end <= self.to {
            seen.ops += ops;
            seen.latency.record(end - start);
        }
    }

    fn error(&self, seen: &mut Seen, error: impl std::fmt::Display) {
        seen.errors += 1;
        seen.last_error = Some(error.to_string());
    }
}

impl Enqueue {
    /// Runs the load to its end.
    ///
    /// # Errors
    /// No connection, or settings that make no sense.
    pub async fn run(&self, name: &str) -> Result<Report> {
        ensure!(
            self.callers > 0 && self.connections > 0 && !self.endpoints.is_empty(),
            "callers, connections and endpoints are needed"
        );
        let channels = self.connect().await?;
        let from = Instant::now() + self.warm_up;
        let course = Arc::new(Course {
            from,
            to: from + self.duration,
            stop: self.stop.clone(),
            due_ms: tasks::now_ms() + DUE_IN_MS,
            payload: self.payload,
        });
        let mut callers = JoinSet::new();
        for index in 0..self.callers {
            let client = SchedulerClient::new(channels[index % channels.len()].clone());
            callers.spawn(self.caller(index, client, Arc::clone(&course)));
        }
        sleep_until(from).await;
        let meter = Meter::start(&self.pids)?;
        tokio::select! {
            () = sleep_until(course.to) => {}
            () = self.stop.cancelled() => {}
        }
        let seconds = from.elapsed().as_secs_f64();
        let mut total = Seen::default();
        while let Some(seen) = callers.join_next().await {
            total.add(seen.context("a caller panicked")?);
        }
        // The last answers come a little after the end: their cost is in the figures, they are not.
        let (_, cost) = meter.stop(total.ops)?;
        Ok(Report {
            name: name.to_owned(),
            seconds,
            ops: total.ops,
            errors: total.errors,
            last_error: total.last_error,
            ops_per_second: total.ops as f64 / seconds,
            latency: total.latency.summary(),
            cost,
        })
    }

    async fn connect(&self) -> Result<Vec<Channel>> {
        let mut channels = Vec::with_capacity(self.connections);
        for endpoint in self.endpoints.iter().cycle().take(self.connections) {
            let url = if endpoint.contains("://") {
                endpoint.clone()
            } else {
                format!("http://{endpoint}")
            };
            let channel = Endpoint::from_shared(url)?
                .connect_timeout(CALL_LIMIT)
                .tcp_nodelay(true)
                .connect()
                .await;
            channels.push(channel.with_context(|| format!("connecting to {endpoint}"))?);
        }
        Ok(channels)
    }

    fn caller(
        &self,
        index: usize,
        client: SchedulerClient<Channel>,
        course: Arc<Course>,
    ) -> impl Future<Output = Seen> + use<> {
        let (way, arrival, callers) = (self.way, self.arrival, self.callers);
        async move {
            match (way, arrival) {
                (Way::Unary, Arrival::Open(rate)) => open(client, course, index, rate, callers).await,
                (Way::Unary, Arrival::Closed) => unary(client, course).await,
                (Way::Batch(size), _) => batch(client, course, size).await,
                (Way::Stream(window), _) => stream(client, course, window).await,
            }
        }
    }
}

/// Calls, waits for the answer, calls again.
async fn unary(mut client: SchedulerClient<Channel>, course: Arc<Course>) -> Seen {
    let mut seen = Seen::default();
    while !course.over() {
        let start = Instant::now();
        match timeout(CALL_LIMIT, client.submit(course.request())).await {
            Ok(Ok(_)) => course.count(&mut seen, start, 1),
            Ok(Err(status)) => {
                course.error(&mut seen, status);
                sleep_until(Instant::now() + BACK_OFF).await;
            }
            Err(elapsed) => course.error(&mut seen, elapsed),
        }
    }
    seen
}

/// Calls at its own points of a common grid, late ones at once. A caller has one call under way: give enough callers for the rate.
async fn open(
    mut client: SchedulerClient<Channel>,
    course: Arc<Course>,
    index: usize,
    rate: f64,
    callers: usize,
) -> Seen {
    let mut seen = Seen::default();
    let step = Duration::from_secs_f64(callers as f64 / rate);
    let mut intended = Instant::now() + step.mul_f64(index as f64 / callers as f64);
    while intended < course.to && !course.stop.is_cancelled() {
        sleep_until(intended).await;
        match timeout(CALL_LIMIT, client.submit(course.request())).await {
            Ok(Ok(_)) => course.count(&mut seen, intended, 1),
            Ok(Err(status)) => course.error(&mut seen, status),
            Err(elapsed) => course.error(&mut seen, elapsed),
        }
        intended += step;
    }
    seen
}

async fn batch(mut client: SchedulerClient<Channel>, course: Arc<Course>, size: usize) -> Seen {
    let mut seen = Seen::default();
    while !course.over() {
        let start = Instant::now();
        let items = (0..size).map(|_| course.request()).collect();
        match timeout(CALL_LIMIT, client.submit_many(v1::SubmitManyRequest { items })).await {
            Ok(Ok(reply)) => {
                let mut accepted = 0;
                for result in reply.into_inner().results {
                    match result.result {
                        Some(v1::submit_result::Result::Accepted(_)) => accepted += 1,
                        Some(v1::submit_result::Result::Refused(failure)) => course.error(&mut seen, failure.message),
                        None => course.error(&mut seen, "an empty result"),
                    }
                }
                course.count(&mut seen, start, accepted);
            }
            Ok(Err(status)) => {
                course.error(&mut seen, status);
                sleep_until(Instant::now() + BACK_OFF).await;
            }
            Err(elapsed) => course.error(&mut seen, elapsed),
        }
    }
    seen
}

async fn stream(mut client: SchedulerClient<Channel>, course: Arc<Course>, window: usize) -> Seen {
    let mut seen = Seen::default();
    let (send, requests) = tokio::sync::mpsc::channel(window.max(1));
    let mut replies = match client.submit_stream(ReceiverStream::new(requests)).await {
        Ok(reply) => reply.into_inner(),
        Err(status) => {
            course.error(&mut seen, status);
            return seen;
        }
    };
    let mut under_way = std::collections::BTreeMap::new();
    let mut seq = 0;
    loop {
        while under_way.len() < window.max(1) && !course.over() {
            under_way.insert(seq, Instant::now());
            let request = v1::SubmitStreamRequest {
                seq,
                item: Some(course.request()),
            };
            if send.send(request).await.is_err() {
                break;
            }
            seq += 1;
        }
        if under_way.is_empty() {
            return seen;
        }
        match timeout(CALL_LIMIT, replies.next()).await {
            Ok(Some(Ok(reply))) => {
                let Some(start) = under_way.remove(&reply.seq) else {
                    course.error(&mut seen, format!("an answer to {}, which was not asked", reply.seq));
                    continue;
                };
                match reply.result.and_then(|result| result.result) {
                    Some(v1::submit_result::Result::Accepted(_)) => course.count(&mut seen, start, 1),
                    refused => course.error(&mut seen, format!("{refused:?}")),
                }
            }
            Ok(Some(Err(status))) => {
                course.error(&mut seen, status);
                return seen;
            }
            Ok(None) => return seen,
            Err(elapsed) => {
                course.error(&mut seen, elapsed);
                return seen;
            }
        }
    }
}
