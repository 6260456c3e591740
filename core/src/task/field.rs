//! Policies one by one: which of them a task's owner has stated, and reading, writing and taking over a single one by its name.
//!
//! What is not stated gets the cluster's default when the task is accepted, and keeps it: see [`crate::config`].

use super::{Missed, Overlap, Policy};
use crate::schedule::{format_duration, parse_duration};
use serde::{Deserialize, Serialize};
use std::str::FromStr;

/// A policy that has a default. The names are those of the fields of a task document; the numbers are on disk.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[repr(u8)]
pub enum PolicyField {
    /// [`Policy::grace_ms`].
    Grace = 0,
    /// [`Policy::missed`].
    Missed = 1,
    /// [`Policy::overlap`].
    Overlap = 2,
    /// [`super::Tries::max`].
    Tries = 3,
    /// [`super::Tries::delay_ms`].
    RetryDelay = 4,
    /// [`super::Tries::factor_percent`].
    RetryFactor = 5,
    /// [`super::Tries::delay_ms_max`].
    RetryDelayMax = 6,
    /// [`Policy::time_limit_ms`].
    TimeLimit = 7,
    /// [`Policy::priority`].
    Priority = 8,
    /// [`super::Retention::finished_max`].
    KeepFinished = 9,
    /// [`super::Retention::failed_max`].
    KeepFailed = 10,
    /// [`super::Retention::finished_age_ms_max`].
    KeepFor = 11,
    /// [`super::Retention::failed_age_ms_max`].
    KeepFailedFor = 12,
    /// [`super::Tries::put_off_ms_max`].
    PutOffMax = 13,
    /// [`Policy::catch_up_every_ms`].
    CatchUpEvery = 14,
}

impl PolicyField {
    /// All of them, in the order of their numbers.
    pub const ALL: [PolicyField; 15] = [
        PolicyField::Grace,
        PolicyField::Missed,
        PolicyField::Overlap,
        PolicyField::Tries,
        PolicyField::RetryDelay,
        PolicyField::RetryFactor,
        PolicyField::RetryDelayMax,
        PolicyField::TimeLimit,
        PolicyField::Priority,
        PolicyField::KeepFinished,
        PolicyField::KeepFailed,
        PolicyField::KeepFor,
        PolicyField::KeepFailedFor,
        PolicyField::PutOffMax,
        PolicyField::CatchUpEvery,
    ];

    /// Returns its name in a task document.
    pub fn as_str(self) -> &'static str {
        match self {
            PolicyField::Grace => "grace",
            PolicyField::Missed => "missed",
            PolicyField::Overlap => "overlap",
            PolicyField::Tries => "tries",
            PolicyField::RetryDelay => "retry_delay",
            PolicyField::RetryFactor => "retry_factor",
            PolicyField::RetryDelayMax => "retry_delay_max",
            PolicyField::TimeLimit => "time_limit",
            PolicyField::Priority => "priority",
            PolicyField::KeepFinished => "keep_finished",
            PolicyField::KeepFailed => "keep_failed",
            PolicyField::KeepFor => "keep_for",
            PolicyField::KeepFailedFor => "keep_failed_for",
            PolicyField::PutOffMax => "put_off_max",
            PolicyField::CatchUpEvery => "catch_up_every",
        }
    }
}

/// Which policies were stated: a set of [`PolicyField`], one bit each.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Stated(u32);

impl Stated {
    /// Whether a policy was stated.
    pub fn contains(self, field: PolicyField) -> bool {
        self.0 & (1 << field as u8) != 0
    }

    /// Notes whether a policy was stated.
    pub fn set(&mut self, field: PolicyField, stated: bool) {
        if stated {
            self.0 |= 1 << field as u8;
        } else {
            self.0 &= !(1 << field as u8);
        }
    }

    /// Returns those that were stated.
    pub fn iter(self) -> impl Iterator<Item = PolicyField> {
        PolicyField::ALL.into_iter().filter(move |field| self.contains(*field))
    }
}

impl Policy {
    /// Takes the value of one policy over from another, not whether it was stated.
    pub fn take(&mut self, field: PolicyField, from: &Policy) {
        let (tries, kept) = (&from.tries, &from.retention);
        match field {
            PolicyField::Grace => self.grace_ms = from.grace_ms,
            PolicyField::Missed => self.missed = from.missed,
            PolicyField::Overlap => self.overlap = from.overlap,
            PolicyField::Tries => self.tries.max = tries.max,
            PolicyField::RetryDelay => self.tries.delay_ms = tries.delay_ms,
            PolicyField::RetryFactor => self.tries.factor_percent = tries.factor_percent,
            PolicyField::RetryDelayMax => self.tries.delay_ms_max = tries.delay_ms_max,
            PolicyField::TimeLimit => self.time_limit_ms = from.time_limit_ms,
            PolicyField::Priority => self.priority = from.priority,
            PolicyField::KeepFinished => self.retention.finished_max = kept.finished_max,
            PolicyField::KeepFailed => self.retention.failed_max = kept.failed_max,
            PolicyField::KeepFor => self.retention.finished_age_ms_max = kept.finished_age_ms_max,
            PolicyField::KeepFailedFor => self.retention.failed_age_ms_max = kept.failed_age_ms_max,
            PolicyField::PutOffMax => self.tries.put_off_ms_max = tries.put_off_ms_max,
            PolicyField::CatchUpEvery => self.catch_up_every_ms = from.catch_up_every_ms,
        }
    }

    /// Whether one policy has the same value in both.
    pub fn has_same(&self, field: PolicyField, other: &Policy) -> bool {
        let (tries, kept) = (&self.tries, &self.retention);
        match field {
            PolicyField::Grace => self.grace_ms == other.grace_ms,
            PolicyField::Missed => self.missed == other.missed,
            PolicyField::Overlap => self.overlap == other.overlap,
            PolicyField::Tries => tries.max == other.tries.max,
            PolicyField::RetryDelay => tries.delay_ms == other.tries.delay_ms,
            PolicyField::RetryFactor => tries.factor_percent == other.tries.factor_percent,
            PolicyField::RetryDelayMax => tries.delay_ms_max == other.tries.delay_ms_max,
            PolicyField::TimeLimit => self.time_limit_ms == other.time_limit_ms,
            PolicyField::Priority => self.priority == other.priority,
            PolicyField::KeepFinished => kept.finished_max == other.retention.finished_max,
            PolicyField::KeepFailed => kept.failed_max == other.retention.failed_max,
            PolicyField::KeepFor => kept.finished_age_ms_max == other.retention.finished_age_ms_max,
            PolicyField::KeepFailedFor => kept.failed_age_ms_max == other.retention.failed_age_ms_max,
            PolicyField::PutOffMax => tries.put_off_ms_max == other.tries.put_off_ms_max,
            PolicyField::CatchUpEvery => self.catch_up_every_ms == other.catch_up_every_ms,
        }
    }

    /// Gives every policy that is not stated its value: the one it had in the task `before`, if it was not stated there either, else
    /// the default. Failed runs are kept as long as finished ones where only that is stated.
    pub fn fill(&mut self, before: Option<&Policy>, defaults: &Policy) {
        for field in PolicyField::ALL {
            if !self.stated.contains(field) {
                let kept = before.filter(|before| !before.stated.contains(field));
                self.take(field, kept.unwrap_or(defaults));
            }
        }
        if self.stated.contains(PolicyField::KeepFor) && !self.stated.contains(PolicyField::KeepFailedFor) {
            self.retention.failed_age_ms_max = self.retention.finished_age_ms_max;
        }
    }

    /// Gives every policy that is not stated the value that no default has touched, so that only what was stated is left.
    pub fn only_stated(mut self) -> Self {
        let plain = Policy::default();
        for field in PolicyField::ALL {
            if !self.stated.contains(field) {
                self.take(field, &plain);
            }
        }
        self
    }

    /// Whether both ask for the same: what is stated, and the values of that.
    pub fn asks_like(&self, other: &Policy) -> bool {
        self.clone().only_stated() == other.clone().only_stated()
    }

    /// Writes one policy as a task document has it.
    pub fn text_of(&self, field: PolicyField) -> String {
        match field {
            PolicyField::Grace => format_duration(self.grace_ms),
            PolicyField::Missed => self.missed.to_string(),
            PolicyField::Overlap => self.overlap.as_str().to_owned(),
            PolicyField::Tries => self.tries.max.to_string(),
            PolicyField::RetryDelay => format_duration(self.tries.delay_ms),
            PolicyField::RetryFactor => (f64::from(self.tries.factor_percent) / 100.0).to_string(),
            PolicyField::RetryDelayMax => format_duration(self.tries.delay_ms_max),
            PolicyField::TimeLimit => self.time_limit_ms.map_or_else(|| NONE.to_owned(), format_duration),
            PolicyField::Priority => self.priority.to_string(),
            PolicyField::KeepFinished => self.retention.finished_max.to_string(),
            PolicyField::KeepFailed => self.retention.failed_max.to_string(),
            PolicyField::KeepFor => format_duration(self.retention.finished_age_ms_max),
            PolicyField::KeepFailedFor => format_duration(self.retention.failed_age_ms_max),
            PolicyField::PutOffMax => format_duration(self.tries.put_off_ms_max),
            PolicyField::CatchUpEvery => format_duration(self.catch_up_every_ms),
        }
    }

    /// States one policy, from what a task document would say. Bounds are [`crate::validate`]'s.
    ///
    /// # Errors
    /// Says what the text is not, with an example of what it could be.
    pub fn state(&mut self, field: PolicyField, text: &str) -> Result<(), String> {
        let text = text.trim();
        let (tries, kept) = (&mut self.tries, &mut self.retention);
        match field {
            PolicyField::Grace => self.grace_ms = duration(text)?,
            PolicyField::Missed => self.missed = text.parse()?,
            PolicyField::Overlap => self.overlap = text.parse()?,
            PolicyField::Tries => tries.max = number(text, "3")?,
            PolicyField::RetryDelay => tries.delay_ms = duration(text)?,
            PolicyField::RetryFactor => tries.factor_percent = factor(text)?,
            PolicyField::RetryDelayMax => tries.delay_ms_max = duration(text)?,
            PolicyField::TimeLimit if text == NONE => self.time_limit_ms = None,
            PolicyField::TimeLimit => self.time_limit_ms = Some(duration(text)?),
            PolicyField::Priority => self.priority = number(text, "10")?,
            PolicyField::KeepFinished => kept.finished_max = number(text, "100")?,
            PolicyField::KeepFailed => kept.failed_max = number(text, "100")?,
            PolicyField::KeepFor => kept.finished_age_ms_max = duration(text)?,
            PolicyField::KeepFailedFor => kept.failed_age_ms_max = duration(text)?,
            PolicyField::PutOffMax => tries.put_off_ms_max = duration(text)?,
            PolicyField::CatchUpEvery => self.catch_up_every_ms = duration(text)?,
        }
        self.stated.set(field, true);
        Ok(())
    }
}

/// Says that there is no time limit, where a default has one.
pub const NONE: &str = "none";

fn duration(text: &str) -> Result<u64, String> {
    parse_duration(text).map_err(|error| error.to_string())
}

fn number<N: FromStr>(text: &str, example: &str) -> Result<N, String> {
    text.parse()
        .map_err(|_| format!("{text:?} is not a number in range; expected for example {example}"))
}

fn factor(text: &str) -> Result<u32, String> {
    match text.parse::<f64>() {
        // Within these bounds the cast is exact to the hundredth.
        Ok(factor) if (1.0..=100.0).contains(&factor) => Ok((factor * 100.0).round() as u32),
        _ => Err(format!(
            "{text:?} is not a number within 1 to 100; expected for example 1.5"
        )),
    }
}

impl std::fmt::Display for Missed {
    /// As a task document has it.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Missed::Skip => f.write_str("skip"),
            Missed::Latest => f.write_str("latest"),
            Missed::All { max } => write!(f, "all:{max}"),
        }
    }
}

impl FromStr for Missed {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let max = || text.strip_prefix("all:")?.trim().parse().ok();
        match text {
            "skip" => Ok(Missed::Skip),
            "latest" => Ok(Missed::Latest),
            _ => max()
                .map(|max| Missed::All { max })
                .ok_or_else(|| format!("{text:?} is not skip, latest or all:N; expected for example all:10")),
        }
    }
}

impl Overlap {
    /// All of them.
    pub const ALL: [Overlap; 5] = [
        Overlap::Allow,
        Overlap::Skip,
        Overlap::QueueOne,
        Overlap::QueueAll,
        Overlap::Replace,
    ];

    /// Returns the word used by API, command line and docs.
    pub fn as_str(self) -> &'static str {
        match self {
            Overlap::Allow => "allow",
            Overlap::Skip => "skip",
            Overlap::QueueOne => "queue-one",
            Overlap::QueueAll => "queue-all",
            Overlap::Replace => "replace",
        }
    }
}

impl FromStr for Overlap {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Overlap::ALL.into_iter().find(|overlap| overlap.as_str() == text);
        found.ok_or_else(|| {
            let words = Overlap::ALL.map(Overlap::as_str).join(", ");
            format!("{text:?} is not an overlap policy; expected one of {words}")
        })
    }
}

const _: () = assert!(PolicyField::ALL.len() <= u32::BITS as usize);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_policy_is_read_as_it_is_written() {
        for (field, text) in [
            (PolicyField::Grace, "2h"),
            (PolicyField::Missed, "all:7"),
            (PolicyField::Missed, "skip"),
            (PolicyField::Missed, "latest"),
            (PolicyField::Overlap, "queue-one"),
            (PolicyField::Tries, "3"),
            (PolicyField::RetryDelay, "1m30s"),
            (PolicyField::RetryFactor, "1.5"),
            (PolicyField::RetryDelayMax, "10m"),
            (PolicyField::TimeLimit, "45s"),
            (PolicyField::TimeLimit, "none"),
            (PolicyField::Priority, "-7"),
            (PolicyField::KeepFinished, "5"),
            (PolicyField::KeepFailed, "6"),
            (PolicyField::KeepFor, "3d"),
            (PolicyField::KeepFailedFor, "30d"),
            (PolicyField::PutOffMax, "4h"),
            (PolicyField::CatchUpEvery, "10m"),
        ] {
            let mut policy = Policy::default();
            policy.state(field, text).unwrap();
            assert_eq!(policy.text_of(field), text);
            assert!(policy.stated.iter().eq([field]));
            let mut taken = Policy::default();
            assert_eq!(taken.has_same(field, &policy), taken.text_of(field) == text);
            taken.take(field, &policy);
            assert!(taken.has_same(field, &policy));
            assert_eq!(taken.text_of(field), text, "{field:?} is taken over");
            assert_eq!(taken.stated, Stated::default());
        }
    }

    #[test]
    fn what_is_no_value_is_refused_with_an_example() {
        for (field, text, expected) in [
            (PolicyField::Grace, "soon", "soon"),
            (PolicyField::Missed, "all", "all:10"),
            (PolicyField::Overlap, "both", "queue-one"),
            (PolicyField::Tries, "-1", "3"),
            (PolicyField::RetryFactor, "0.5", "1.5"),
            (PolicyField::RetryFactor, "NaN", "1.5"),
            (PolicyField::Priority, "1000", "10"),
            (PolicyField::KeepFor, "", "2d"),
        ] {
            let mut policy = Policy::default();
            let problem = policy.state(field, text).unwrap_err();
            assert!(problem.contains(expected), "{field:?} {text:?}: {problem}");
            assert_eq!(policy, Policy::default(), "a refusal changes nothing");
        }
    }

    #[test]
    fn what_is_not_stated_is_filled_from_before_or_from_the_defaults() {
        let mut defaults = Policy::default();
        defaults.state(PolicyField::Tries, "5").unwrap();
        defaults.state(PolicyField::Priority, "9").unwrap();
        let mut first = Policy::default();
        first.state(PolicyField::Priority, "1").unwrap();
        first.state(PolicyField::KeepFor, "1d").unwrap();
        first.fill(None, &defaults);
        assert_eq!((first.tries.max, first.priority), (5, 1));
        assert_eq!(first.retention.failed_age_ms_max, 24 * 60 * 60 * 1000);
        // Later the defaults are others: what was filled stays, what was stated and is no longer is filled anew.
        defaults.state(PolicyField::Tries, "7").unwrap();
        let mut second = Policy::default();
        second.fill(Some(&first), &defaults);
        assert_eq!((second.tries.max, second.priority), (5, 9));
        assert!(!first.asks_like(&second));
        assert!(second.asks_like(&Policy::default()));
    }
}
