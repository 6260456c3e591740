//! Waiting for something that happens in another process.

use anyhow::{Context, Result, bail};
use std::future::Future;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout_at};

/// Time between two looks. What is waited for is outside this process and tells nobody, so it must be looked at; a look costs a call.
const LOOK_AGAIN: Duration = Duration::from_millis(25);

/// Looks again and again until `look` succeeds; fails with its last error once `limit` has passed.
///
/// # Errors
/// Says what was waited for, for how long, and what the last look found.
pub async fn eventually<T>(what: &str, limit: Duration, mut look: impl AsyncFnMut() -> Result<T>) -> Result<T> {
    let end = Instant::now() + limit;
    let mut ticks = interval(LOOK_AGAIN);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut last = anyhow::anyhow!("no look has ended");
    loop {
        ticks.tick().await;
        match timeout_at(end, look()).await {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(error)) => last = error,
            Err(_) => return Err(last).with_context(|| format!("{what}: not within {limit:?}")),
        }
        if Instant::now() >= end {
            return Err(last).with_context(|| format!("{what}: not within {limit:?}"));
        }
    }
}

/// Does the work, unless the program is told to end first: then what the work has started ends with it, as it does not with a program that is
/// simply gone.
///
/// # Errors
/// Those of the work, or that there was a signal.
pub async fn unless_ended<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        done = work => done,
        _ = terminate.recv() => bail!("ended by SIGTERM"),
        interrupt = tokio::signal::ctrl_c() => {
            interrupt?;
            bail!("ended by SIGINT")
        }
    }
}
