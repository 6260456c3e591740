//! Other servers under the same work, on the same machine: what ours is compared with.
//!
//! Each peer is started here from its ordinary package, on loopback, with its data on the disk of the build and every write synced,
//! and driven over its own protocol. Only ratios count: machines are noisy, so ours and theirs are measured in turn.

mod beanstalk;
mod etcd;
mod nats;
mod process;

pub use beanstalk::Beanstalk;
pub use etcd::Etcd;
pub use nats::Nats;

use crate::load::{Meter, Report};
use crate::stats::Samples;
use anyhow::{Context, Result};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// Not measured.
const WARM_UP: Duration = Duration::from_secs(2);

/// The work that is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// Something is durable on a majority: a task is enqueued, a key is put, a message is published. So many under way per caller.
    Enqueue(usize),
    /// It is also taken by a worker and done with, each step durable.
    Cycle,
}

/// One caller of a peer, with a connection of its own or a share of one.
pub trait Caller: Send + 'static {
    /// Does the work once and returns how many things were done, once they are durable.
    fn once(&mut self) -> impl Future<Output = Result<u64>> + Send;
}

/// Lets callers work, each again when it is done, and measures.
///
/// # Errors
/// The kernel does not tell what it cost.
async fn closed<C: Caller>(name: &str, callers: Vec<C>, duration: Duration, pids: &[u32]) -> Result<Report> {
    let from = Instant::now() + WARM_UP;
    let to = from + duration;
    let mut tasks = JoinSet::new();
    for mut caller in callers {
        tasks.spawn(async move {
            let (mut ops, mut errors, mut last_error, mut latency) = (0, 0, None, Samples::default());
            while Instant::now() < to {
                let start = Instant::now();
                match caller.once().await {
                    Ok(done) => {
                        let end = Instant::now();
                        if start >= from && end <= to {
                            ops += done;
                            latency.record(end - start);
                        }
                    }
                    Err(error) => {
                        errors += 1;
                        last_error = Some(format!("{error:#}"));
                        tokio::time::sleep_until((Instant::now() + Duration::from_millis(5)).into()).await;
                    }
                }
            }
            (ops, errors, last_error, latency)
        });
    }
    tokio::time::sleep_until(from.into()).await;
    let meter = Meter::start(pids)?;
    tokio::time::sleep_until(to.into()).await;
    let (mut ops, mut errors, mut last_error, mut latency) = (0, 0, None, Samples::default());
    while let Some(seen) = tasks.join_next().await {
        let seen = seen.context("a caller panicked")?;
        ops += seen.0;
        errors += seen.1;
        last_error = seen.2.or(last_error);
        latency.add(&seen.3);
    }
    let (_, cost) = meter.stop(ops)?;
    let seconds = duration.as_secs_f64();
    Ok(Report {
        name: name.to_owned(),
        seconds,
        ops,
        errors,
        last_error,
        ops_per_second: ops as f64 / seconds,
        latency: latency.summary(),
        cost,
    })
}

/// What every caller sends.
fn payload() -> Arc<[u8]> {
    vec![b'x'; crate::figures::PAYLOAD].into()
}
