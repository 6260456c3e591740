//! Instants and spans as the state machine sees them: milliseconds, never read from a clock.

use serde::{Deserialize, Serialize};
use std::fmt;

/// An instant in milliseconds since 1970-01-01T00:00:00Z, without leap seconds.
///
/// `core` never asks for the current time: it arrives with each entry of the log.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
pub struct Timestamp(i64);

impl Timestamp {
    /// The Unix epoch.
    pub const EPOCH: Self = Self(0);
    /// The first instant a task may name: 0001-01-01T00:00:00Z.
    pub const MIN: Self = Self(-62_135_596_800_000);
    /// The last instant a task may name: 9999-12-31T23:59:59.999Z.
    pub const MAX: Self = Self(253_402_300_799_999);

    /// Returns the instant `ms` milliseconds after the epoch, clamped to [`MIN`](Self::MIN) and [`MAX`](Self::MAX).
    pub const fn from_millis(ms: i64) -> Self {
        if ms < Self::MIN.0 {
            Self::MIN
        } else if ms > Self::MAX.0 {
            Self::MAX
        } else {
            Self(ms)
        }
    }

    /// Returns the milliseconds since the epoch.
    pub const fn as_millis(self) -> i64 {
        self.0
    }

    /// Returns the instant `ms` later (earlier when negative), clamped to the range of instants.
    pub const fn plus_millis(self, ms: i64) -> Self {
        Self::from_millis(self.0.saturating_add(ms))
    }

    /// Returns how many milliseconds `self` is after `earlier`; negative when it is before.
    pub const fn millis_since(self, earlier: Self) -> i64 {
        self.0 - earlier.0
    }
}

impl fmt::Display for Timestamp {
    /// Writes RFC 3339 in UTC with milliseconds, as everywhere in the product.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match chrono::DateTime::from_timestamp_millis(self.0) {
            Some(t) => write!(f, "{}", t.format("%Y-%m-%dT%H:%M:%S%.3fZ")),
            None => write!(f, "{} ms", self.0),
        }
    }
}

impl std::str::FromStr for Timestamp {
    type Err = chrono::ParseError;

    /// Reads RFC 3339 with any offset; finer than a millisecond is cut off.
    fn from_str(s: &str) -> Result<Self, Self::Err> {
        Ok(Self::from_millis(
            chrono::DateTime::parse_from_rfc3339(s)?.timestamp_millis(),
        ))
    }
}
