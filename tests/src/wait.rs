//! Waiting for something that happens in another process.

use anyhow::{Context, Result};
use std::time::Duration;
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
