//! Where changes of the local clock touch a schedule, for people who want to know beforehand.

use super::rule::{RuleSet, Wall};
use super::search::Steps;
use super::{DstPolicy, Kind, Recurrence, seconds, words};
use crate::time::Timestamp;

/// Readings of one change that are named; the rest is "more".
const READINGS_SHOWN: usize = 4;
/// Most changes that are looked at: a zone has two a year, Morocco four.
const CHANGES_MAX: usize = 64;

/// A change of the local clock that touches a schedule.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ClockChange {
    /// When the clock changes.
    pub at: Timestamp,
    /// Whether readings are left out; otherwise they come twice.
    pub gap: bool,
    /// When the first occurrence it touches runs; none when the gap drops it.
    pub runs_at: Option<Timestamp>,
    /// All of it in one line.
    pub text: String,
}

/// What the local clock does to a schedule.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Clock {
    /// Nothing: no clock that changes, or none that counts.
    Untouched,
    /// It follows what the clock shows; the changes are listed.
    Wall,
    /// It counts absolute time: what the clock shows only filters.
    Absolute,
}

impl Recurrence {
    /// Tells what changes of the local clock do to the schedule from `from` until `to`.
    pub fn clock(&self, from: Timestamp, to: Timestamp) -> Clock {
        let Kind::Rules(set) = &self.kind else {
            return Clock::Untouched;
        };
        match set.zone().next_change(seconds(from)) {
            Some(change) if change < seconds(to) => {
                if set.walls().next().is_some() {
                    Clock::Wall
                } else {
                    Clock::Absolute
                }
            }
            _ => Clock::Untouched,
        }
    }

    /// Returns the changes of the local clock after `from` and before `to` that touch occurrences, in order.
    ///
    /// Only rules on the wall clock are touched. `zone` is the name to show.
    pub fn clock_changes(&self, from: Timestamp, to: Timestamp, zone: &str) -> Vec<ClockChange> {
        let Kind::Rules(set) = &self.kind else {
            return Vec::new();
        };
        let to = to.min(self.until.plus_millis(1));
        let mut at = seconds(from.max(self.not_before));
        let mut found = Vec::new();
        for _ in 0..CHANGES_MAX {
            match set.zone().next_change(at) {
                Some(change) if change < seconds(to) => at = change,
                _ => break,
            }
            found.extend(touched(set, at, zone));
        }
        found
    }
}

/// Returns what the change of the clock at this instant does, if it does anything.
fn touched(set: &RuleSet, change: i64, zone: &str) -> Option<ClockChange> {
    let (before, after) = (set.zone().offset_at(change - 1), set.zone().offset_at(change));
    let gap = after > before;
    // What the clock leaves out, or shows twice.
    let (first, end) = (change + before.min(after), change + before.max(after));
    let mut readings: Vec<i64> = set.walls().flat_map(|wall| readings(&wall, first, end)).collect();
    readings.sort_unstable();
    readings.dedup();
    let runs_at = |reading: i64| set.zone().instant_of(reading, set.dst());
    readings.retain(|reading| !runs_at(*reading).is_some_and(|at| set.is_taken_out(at)));
    let shown: Vec<String> = readings
        .iter()
        .take(READINGS_SHOWN)
        .map(|at| words::time(*at))
        .collect();
    let (date, runs_at) = (words::date(*readings.first()?), runs_at(readings[0]));
    let times = if readings.len() > shown.len() {
        format!("{} and more", shown.join(", "))
    } else {
        words::list(&shown, "and")
    };
    let several = readings.len() > 1;
    let say = |one: &'static str, many: &'static str| if several { many } else { one };
    let text = match (gap, set.dst()) {
        (true, DstPolicy::Shift) => {
            let then = if words::date(end) == date {
                words::time(end)
            } else {
                format!("{} {}", words::date(end), words::time(end))
            };
            let exist = say("does not exist", "do not exist");
            let runs = say("runs at", "one run at");
            format!("{times} {exist} in {zone}; {runs} {then} instead (dst=shift)")
        }
        (true, DstPolicy::Skip) => {
            let (exist, run) = (say("does not exist", "do not exist"), say("does not run", "do not run"));
            format!("{times} {exist} in {zone}; {run} (dst=skip)")
        }
        (false, _) => {
            let (happen, run) = (say("happens", "happen"), say("runs", "run"));
            format!("{times} {happen} twice in {zone}; {run} the first time only")
        }
    };
    let at = |second: i64| Timestamp::from_millis(second * 1000);
    Some(ClockChange {
        at: at(change),
        gap,
        runs_at: runs_at.map(at),
        text: format!("{date}: {text}"),
    })
}

/// Returns the first occurrences with a reading from `first` on, before `end`; one more than are shown.
fn readings(wall: &Wall<'_>, first: i64, end: i64) -> Vec<i64> {
    let steps = &mut Steps::new(Steps::MOST);
    let mut found = Vec::new();
    let mut from = first;
    while found.len() <= READINGS_SHOWN
        && let Some(reading) = wall.next(from, steps).filter(|reading| *reading < end)
    {
        found.push(reading);
        from = reading + 1;
    }
    found
}
