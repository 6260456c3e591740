//! The only place that reads the system clock.
//!
//! Leader time is the wall clock at the start of the term plus the time that `CLOCK_BOOTTIME` counted since: a jump of this machine's
//! wall clock during a term does nothing, and time spent suspended counts. Outside a term the wall clock is followed as it is.

use sched_core::Timestamp;
pub use sched_supervisor::boot;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime};
use tokio::sync::watch;

/// [`Clock::offset_ns`] while the wall clock is followed.
const FOLLOW: i64 = i64::MIN;

/// Fastest correction of leader time, in parts per million of the elapsed time: runs keep their order and their distance.
const SLEW_PPM_MAX: i64 = 500;

/// Leader time and the time since boot. Shared by reference; all reads are one atomic load and one system call without a trap.
#[derive(Debug)]
pub struct Clock {
    /// Nanoseconds to add to the time since boot, or [`FOLLOW`].
    offset_ns: AtomicI64,
    /// A majority's clocks confirm leader time: entries of the log carry it.
    confirmed: watch::Sender<bool>,
}

impl Default for Clock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock {
    /// Returns a clock that follows the wall clock.
    pub fn new() -> Self {
        Self {
            offset_ns: AtomicI64::new(FOLLOW),
            confirmed: watch::Sender::new(false),
        }
    }

    /// Returns the time for an entry of the log: leader time once a majority's clocks confirm it. Before that, and while they do not, time
    /// stands still at what the state has, so that a leader with a wrong clock cannot carry it away.
    pub fn stamp(&self) -> Timestamp {
        if *self.confirmed.borrow() {
            self.now()
        } else {
            Timestamp::MIN
        }
    }

    /// Notes whether a majority's clocks confirm leader time.
    pub fn confirm(&self, confirmed: bool) {
        self.confirmed.send_replace(confirmed);
    }

    /// Returns whether they do, now and from now on.
    pub fn confirmed(&self) -> watch::Receiver<bool> {
        self.confirmed.subscribe()
    }

    /// Returns leader time when this node leads, else the wall clock.
    pub fn now(&self) -> Timestamp {
        match self.offset_ns.load(Ordering::Relaxed) {
            FOLLOW => wall(),
            offset => Timestamp::from_millis(boot_ns().saturating_add(offset).div_euclid(1_000_000)),
        }
    }

    /// Starts a term: from now on leader time is the wall clock of this moment plus the time elapsed. Returns this moment.
    pub fn begin_term(&self) -> Timestamp {
        self.confirm(false);
        let now_ns = wall_ns();
        self.offset_ns
            .store(now_ns.saturating_sub(boot_ns()), Ordering::Relaxed);
        Timestamp::from_millis(now_ns.div_euclid(1_000_000))
    }

    /// Ends a term: the wall clock is followed again.
    pub fn end_term(&self) {
        self.confirm(false);
        self.offset_ns.store(FOLLOW, Ordering::Relaxed);
    }

    /// Moves leader time towards `ahead_ms` of itself, by no more than the slew rate allows for `elapsed`. Nothing outside a term.
    pub fn slew(&self, ahead_ms: i64, elapsed: Duration) {
        let elapsed_us = i64::try_from(elapsed.as_micros()).unwrap_or(i64::MAX);
        let most_ns = elapsed_us.saturating_mul(SLEW_PPM_MAX) / 1_000;
        let step = ahead_ms.saturating_mul(1_000_000).clamp(-most_ns, most_ns);
        // A term that ends or begins meanwhile wins: the exchange then fails.
        let offset = self.offset_ns.load(Ordering::Relaxed);
        if offset != FOLLOW {
            let _ = self.offset_ns.compare_exchange(
                offset,
                offset.saturating_add(step),
                Ordering::Relaxed,
                Ordering::Relaxed,
            );
        }
    }
}

/// Returns the wall clock.
pub fn wall() -> Timestamp {
    Timestamp::from_millis(wall_ns().div_euclid(1_000_000))
}

/// By way of the C library, not of the kernel: a test can put another clock there, for one process.
fn wall_ns() -> i64 {
    match SystemTime::now().duration_since(SystemTime::UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_nanos()).unwrap_or(i64::MAX),
        Err(before) => i64::try_from(before.duration().as_nanos()).map_or(i64::MIN, |ns| -ns),
    }
}

fn boot_ns() -> i64 {
    i64::try_from(boot().as_nanos()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leader_time_starts_at_the_wall_clock_and_moves_with_the_time_since_boot() {
        let clock = Clock::new();
        assert!(clock.now().millis_since(wall()).abs() < 1000);
        let start = clock.begin_term();
        let boot_before = boot_ns();
        clock
            .offset_ns
            .store(1_000_000_000_000 - boot_before, Ordering::Relaxed);
        let now = clock.now();
        assert!(
            (1_000_000..1_001_000).contains(&now.as_millis()),
            "{now}, started at {start}"
        );
        clock.end_term();
        assert!(clock.now().millis_since(wall()).abs() < 1000);
    }

    #[test]
    fn slewing_is_bounded_and_only_within_a_term() {
        let clock = Clock::new();
        clock.slew(1000, Duration::from_secs(10));
        assert_eq!(clock.offset_ns.load(Ordering::Relaxed), FOLLOW);
        clock.begin_term();
        let before = clock.offset_ns.load(Ordering::Relaxed);
        clock.slew(1000, Duration::from_secs(10));
        assert_eq!(
            clock.offset_ns.load(Ordering::Relaxed) - before,
            5_000_000,
            "500 ppm of 10 s"
        );
        clock.slew(-2, Duration::from_secs(10));
        assert_eq!(
            clock.offset_ns.load(Ordering::Relaxed) - before,
            3_000_000,
            "no further than asked for"
        );
    }
}
