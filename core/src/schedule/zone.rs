//! From instants to the local clock of a zone and back.

use super::civil::{DAY_S, FIRST_DAY, LAST_DAY};
use super::error::{ScheduleError, quoted};
use super::{DstPolicy, Zones};
use crate::time::Timestamp;
use jiff::tz::TimeZone;

/// No offset is larger, in seconds: what jiff accepts, far above any that was ever used.
const OFFSET_MAX: i64 = 26 * 3600;

/// A zone; UTC is apart because it needs no look-up.
#[derive(Clone, Debug)]
pub(super) enum Zone {
    /// Offset 0 for ever.
    Utc,
    /// Any other.
    Named(TimeZone),
}

/// What a reading of the local clock means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Reading {
    /// The clock shows it, the first time at this instant. In a fold, it repeats until the clock shows `fold_end` once more.
    At {
        /// The instant, in seconds.
        instant: i64,
        /// The local second from which on readings are unique again; only in a fold.
        fold_end: Option<i64>,
    },
    /// The clock never shows it.
    Gap {
        /// The first instant after the gap.
        instant: i64,
        /// What the clock shows then.
        gap_end: i64,
    },
}

impl Zone {
    /// Finds a zone by its IANA name.
    ///
    /// # Errors
    ///
    /// When `zones` does not know it.
    pub(super) fn find(name: &str, zones: &dyn Zones) -> Result<Self, ScheduleError> {
        if matches!(name, "UTC" | "Etc/UTC") {
            return Ok(Self::Utc);
        }
        match zones.zone(name) {
            Some(zone) if zone.to_fixed_offset().is_ok_and(|offset| offset.seconds() == 0) => Ok(Self::Utc),
            Some(zone) => Ok(Self::Named(zone)),
            None => Err(ScheduleError::UnknownZone { zone: quoted(name) }),
        }
    }

    /// Whether the offset is 0 for ever.
    pub(super) fn is_utc(&self) -> bool {
        matches!(self, Zone::Utc)
    }

    /// Returns the last instant that is searched.
    pub(super) fn last_instant(&self) -> i64 {
        // Two days less than the calendar has, so that any offset stays within what the zone data can express.
        (LAST_DAY - if self.is_utc() { 0 } else { 2 }) * DAY_S + DAY_S - 1
    }

    /// Returns what the local clock is ahead of UTC, in seconds.
    pub(super) fn offset_at(&self, instant: i64) -> i64 {
        match self {
            Zone::Utc => 0,
            Zone::Named(zone) => i64::from(zone.to_offset(timestamp(instant)).seconds()),
        }
    }

    /// Returns the instant after `instant` at which the offset may change next.
    pub(super) fn next_change(&self, instant: i64) -> Option<i64> {
        match self {
            Zone::Utc => None,
            Zone::Named(zone) => zone
                .following(timestamp(instant))
                .next()
                .map(|t| t.timestamp().as_second()),
        }
    }

    /// Returns what a reading of the local clock means: the clock is watched from before it can show it, until it does or jumps over it.
    ///
    /// Only offsets of instants and their changes are asked for. Asking the zone data for the offset of a local time would be shorter,
    /// but is answered in contradiction to the former near the last change that is listed, where the rule of later years takes over.
    pub(super) fn read(&self, local: i64) -> Reading {
        let Zone::Named(zone) = self else {
            return Reading::At {
                instant: local,
                fold_end: None,
            };
        };
        let mut offset = self.offset_at(local - OFFSET_MAX);
        for change in zone.following(timestamp(local - OFFSET_MAX)) {
            let (instant, next) = (change.timestamp().as_second(), i64::from(change.offset().seconds()));
            if local < instant + offset {
                let repeats = local >= instant + next;
                return Reading::At {
                    instant: local - offset,
                    fold_end: repeats.then_some(instant + offset),
                };
            }
            if local < instant + next {
                return Reading::Gap {
                    instant,
                    gap_end: instant + next,
                };
            }
            offset = next;
        }
        Reading::At {
            instant: local - offset,
            fold_end: None,
        }
    }

    /// Returns the instant a wall-clock occurrence happens at, if it does.
    pub(super) fn instant_of(&self, local: i64, dst: DstPolicy) -> Option<i64> {
        match (self.read(local), dst) {
            (Reading::At { instant, .. }, _) | (Reading::Gap { instant, .. }, DstPolicy::Shift) => Some(instant),
            (Reading::Gap { .. }, DstPolicy::Skip) => None,
        }
    }
}

/// Returns the first instant of each of these days, given as days since 1970-01-01, on the local clock of a zone, and of the day after
/// it. A day that the clock leaves out begins where the next one does.
///
/// # Errors
///
/// When the zone is not known.
pub fn day_bounds(days: &[i32], zone: &str, zones: &dyn Zones) -> Result<Vec<(Timestamp, Timestamp)>, ScheduleError> {
    let zone = Zone::find(zone, zones)?;
    let begins = |day: i64| {
        let local = day * DAY_S;
        let second = match zone.read(local) {
            Reading::At { instant, .. } | Reading::Gap { instant, .. } => instant,
        };
        Timestamp::from_millis(second.saturating_mul(1000))
    };
    let bounds = |day: &i32| (begins(i64::from(*day)), begins(i64::from(*day) + 1));
    Ok(days.iter().map(bounds).collect())
}

/// Returns the same instant in jiff's type, clamped to the years that are searched.
fn timestamp(second: i64) -> jiff::Timestamp {
    let second = second.clamp((FIRST_DAY - 2) * DAY_S, (LAST_DAY - 1) * DAY_S);
    // Within the clamped range, which is within jiff's, this cannot fail; the epoch stands for "cannot happen".
    jiff::Timestamp::from_second(second).unwrap_or(jiff::Timestamp::UNIX_EPOCH)
}
