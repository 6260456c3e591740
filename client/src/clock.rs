//! The clocks that this crate reads, all of them here.

use sched_core::Timestamp;
use std::time::{Duration, SystemTime};

/// Returns this machine's time: good enough for an expiry of minutes and for people.
pub(crate) fn wall() -> Timestamp {
    let since_epoch = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    Timestamp::from_millis(i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX))
}

/// Returns the time since boot, suspension included: a lease runs out while a machine sleeps, too.
#[cfg(target_os = "linux")]
pub(crate) fn boot() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    // Since boot: never negative, and nanoseconds are below a second.
    Duration::new(
        u64::try_from(now.tv_sec).unwrap_or(0),
        u32::try_from(now.tv_nsec).unwrap_or(0),
    )
}

/// Returns the time since the first call. Whether it counts suspension is the system's choice; where it does not, a machine that slept may
/// go on for up to one lease with what has been given to another meanwhile.
#[cfg(not(target_os = "linux"))]
pub(crate) fn boot() -> Duration {
    static FIRST: std::sync::OnceLock<std::time::Instant> = std::sync::OnceLock::new();
    FIRST.get_or_init(std::time::Instant::now).elapsed()
}
