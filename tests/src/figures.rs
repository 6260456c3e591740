//! The figures that the project promises, each measured on a cluster of three nodes: by `bench` in full, by a test in short.

use crate::load::{Arrival, Enqueue, Lateness, Report, Way};
use crate::{Cluster, eventually, http, tasks};
use anyhow::{Context, Result, ensure};
use sched_proto::v1;
use serde::Serialize;
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

/// Writers at once.
pub const WRITERS: usize = 256;
/// Bytes in each of their tasks.
pub const PAYLOAD: usize = 256;
/// Connections that they share: the tools whose figures ours are compared with share as many.
const CONNECTIONS: usize = 8;
/// Runs due per second when lateness is measured.
pub const RATE: f64 = 200.0;
/// Tasks handed over in one call when a queue is filled.
const BATCH: usize = 500;
/// A node that takes longer to come back is not coming back.
const BACK_LIMIT: Duration = Duration::from_secs(60);

/// How the writers hand over.
pub fn ways() -> [(&'static str, Way); 3] {
    // Of a batch or stream each of eight callers has 32 under way, so that there are 256 in all.
    [
        ("enqueue, a call each", Way::Unary),
        ("enqueue, batches of 32", Way::Batch(32)),
        ("enqueue, streams of 32", Way::Stream(32)),
    ]
}

/// Measures acknowledged enqueues of [`WRITERS`] writers at the leader.
///
/// # Errors
/// No leader, or the load could not run.
pub async fn enqueue(cluster: &Cluster, name: &str, way: Way, duration: Duration) -> Result<Report> {
    let leader = cluster.leader().await?;
    let callers = match way {
        Way::Unary => WRITERS,
        Way::Batch(size) | Way::Stream(size) => WRITERS / size,
    };
    let load = Enqueue {
        endpoints: vec![cluster.nodes[leader].client.clone()],
        callers,
        connections: CONNECTIONS.min(callers),
        payload: PAYLOAD,
        way,
        arrival: Arrival::Closed,
        warm_up: Duration::from_secs(2),
        duration,
        stop: CancellationToken::new(),
        pids: cluster.pids(),
    };
    load.run(name).await
}

/// Measures how late runs of `sample` are at [`RATE`].
///
/// # Errors
/// No leader, or not every task ran.
pub async fn lateness(cluster: &Cluster, duration: Duration) -> Result<Report> {
    let leader = cluster.leader().await?;
    let load = Lateness {
        rate: RATE,
        duration,
        lead: Duration::from_secs(2),
        pids: cluster.pids(),
    };
    load.run(&mut cluster.nodes[leader].api(), "lateness of 200 runs/s")
        .await
}

/// How long nodes took to serve again.
#[derive(Clone, Debug, Serialize)]
pub struct Restart {
    /// Tasks in the queue.
    pub tasks: usize,
    /// From the start of the process to the first answered call, of a follower that was killed.
    pub follower_seconds: f64,
    /// The same of the leader, which comes back as a follower.
    pub leader_seconds: f64,
    /// The same, until the first answer of any, after all three were killed at once.
    pub all_seconds: f64,
}

/// Fills the queue, then kills and starts nodes, and measures until they serve.
///
/// # Errors
/// A task was refused, or a node did not come back.
pub async fn restart(cluster: &mut Cluster, count: usize) -> Result<Restart> {
    let id = fill(cluster, count).await?;
    restarted(cluster, count, id).await
}

/// Kills and starts nodes whose queue holds `count` tasks, the last of them `id`, and measures until they serve.
///
/// # Errors
/// A node did not come back.
pub async fn restarted(cluster: &mut Cluster, count: usize, id: u64) -> Result<Restart> {
    let follower = cluster.follower().await?;
    let follower_seconds = back(cluster, &[follower], id).await?;
    let leader = cluster.leader().await?;
    let leader_seconds = back(cluster, &[leader], id).await?;
    let all_seconds = back(cluster, &[0, 1, 2], id).await?;
    Ok(Restart {
        tasks: count,
        follower_seconds,
        leader_seconds,
        all_seconds,
    })
}

/// Enqueues so many tasks that are due in a month; returns the id of the last.
///
/// # Errors
/// One was refused.
pub async fn fill(cluster: &Cluster, count: usize) -> Result<u64> {
    let mut api = cluster.nodes[cluster.leader().await?].api();
    let due = tasks::now_ms() + 30 * 24 * 3600 * 1000;
    let mut last = 0;
    for start in (0..count).step_by(BATCH) {
        let items = (start..count.min(start + BATCH))
            .map(|_| tasks::submit(tasks::task(tasks::at(due), tasks::sample(0, PAYLOAD))));
        let reply = api
            .submit_many(v1::SubmitManyRequest { items: items.collect() })
            .await
            .context("filling the queue")?;
        for result in reply.into_inner().results {
            match result.result {
                Some(v1::submit_result::Result::Accepted(reply)) => last = reply.id,
                refused => anyhow::bail!("a task was not accepted: {refused:?}"),
            }
        }
    }
    Ok(last)
}

/// Kills nodes, starts them, and returns the seconds until the first of them has answered a call.
async fn back(cluster: &mut Cluster, nodes: &[usize], id: u64) -> Result<f64> {
    for node in nodes {
        cluster.kill9(*node).await?;
    }
    let start = Instant::now();
    for node in nodes {
        cluster.start(*node)?;
    }
    let node = nodes[0];
    eventually("the node serves", BACK_LIMIT, async || {
        cluster.nodes[node].still_runs()?;
        let (status, body) = http::get(&cluster.nodes[node].client, "/readyz").await?;
        ensure!(status == 200, "{status}: {body}");
        let by = Some(v1::task_ref::By::Id(id));
        let task = v1::GetTaskRequest {
            task: Some(v1::TaskRef { by }),
        };
        let reply = cluster.nodes[node]
            .api()
            .get_task(task)
            .await
            .context("reading the last task")?;
        ensure!(
            reply.into_inner().task.is_some_and(|task| task.id == id),
            "another task"
        );
        Ok(())
    })
    .await?;
    let seconds = start.elapsed().as_secs_f64();
    cluster.ready().await?;
    Ok(seconds)
}
