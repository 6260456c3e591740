//! The time since boot.

use rustix::time::{ClockId, clock_gettime};
use std::time::Duration;

/// Returns the time since boot, time spent suspended included: for leases and deadlines.
pub fn boot() -> Duration {
    let t = clock_gettime(ClockId::Boottime);
    Duration::new(t.tv_sec.unsigned_abs(), u32::try_from(t.tv_nsec).unwrap_or(0))
}
