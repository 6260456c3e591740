//! The clock of a simulated node: the product's rules over the world's time, and a wall clock that may be wrong.

use sched_core::Timestamp;
use sim_ground::world;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;
use tokio::sync::watch;

/// Fastest correction of leader time, as in the product.
const SLEW_PPM_MAX: i64 = 500;

/// Leader time of one node.
#[derive(Debug)]
pub struct Clock {
    host: String,
    /// Microseconds to add to the time since boot; nothing outside a term.
    offset_us: Mutex<Option<i64>>,
    /// A majority's clocks confirm leader time.
    confirmed: watch::Sender<bool>,
}

impl Clock {
    /// Returns the clock of a host, which follows its wall clock.
    pub fn of(host: &str) -> Self {
        Self {
            host: host.to_owned(),
            offset_us: Mutex::new(None),
            confirmed: watch::Sender::new(false),
        }
    }

    /// Returns the time for an entry of the log: none until a majority's clocks confirm leader time.
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

    fn offset(&self) -> std::sync::MutexGuard<'_, Option<i64>> {
        self.offset_us.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns leader time when this node leads, else the wall clock.
    pub fn now(&self) -> Timestamp {
        match *self.offset() {
            None => Timestamp::from_millis(world().wall_ms(&self.host)),
            Some(offset) => Timestamp::from_millis((elapsed_us() + offset).div_euclid(1000)),
        }
    }

    /// Starts a term.
    pub fn begin_term(&self) -> Timestamp {
        self.confirm(false);
        let now = world().wall_ms(&self.host);
        *self.offset() = Some(now * 1000 - elapsed_us());
        Timestamp::from_millis(now)
    }

    /// Ends a term.
    pub fn end_term(&self) {
        self.confirm(false);
        *self.offset() = None;
    }

    /// Moves leader time towards `ahead_ms` of itself.
    pub fn slew(&self, ahead_ms: i64, elapsed: Duration) {
        let elapsed_us = i64::try_from(elapsed.as_micros()).unwrap_or(i64::MAX);
        let most = elapsed_us.saturating_mul(SLEW_PPM_MAX) / 1_000_000;
        if let Some(offset) = &mut *self.offset() {
            *offset += (ahead_ms * 1000).clamp(-most, most);
        }
    }
}

fn elapsed_us() -> i64 {
    i64::try_from(world().elapsed().as_micros()).unwrap_or(i64::MAX)
}

/// Returns true time.
pub fn wall() -> Timestamp {
    Timestamp::from_millis(world().now_ms())
}

/// Returns the time since boot.
pub fn boot() -> Duration {
    world().boot()
}
