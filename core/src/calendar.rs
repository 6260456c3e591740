//! Calendars: named sets of whole days and of intervals in which the tasks that name them do not run.
//!
//! What is stored is what people said: days of a zone's local clock, and instants. What a day is in instants depends on zone data, so
//! that only the leader compiles a calendar ([`ClosedTimes`]), when it decides about an occurrence that is due; `apply` checks that
//! no calendar has changed since.

use crate::limits;
use crate::schedule::{ScheduleError, Zones, day_bounds};
use crate::task::TaskStatus;
use crate::time::Timestamp;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// A stretch of time, its end not included.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct Interval {
    /// Its beginning.
    pub from: Timestamp,
    /// Where it is over.
    pub to: Timestamp,
}

/// What a calendar says. Days ascend, each once; intervals ascend and do not touch.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct CalendarSpec {
    /// For people.
    pub description: String,
    /// The zone of the days, by its IANA name.
    pub zone: String,
    /// Whole local days, as days since 1970-01-01.
    pub days: Vec<i32>,
    /// Stretches of time.
    pub intervals: Vec<Interval>,
}

impl CalendarSpec {
    /// Puts a calendar into its one form, whatever the order of its parts.
    pub fn new(description: String, zone: String, mut days: Vec<i32>, mut intervals: Vec<Interval>) -> Self {
        days.sort_unstable();
        days.dedup();
        intervals.sort_unstable();
        Self {
            description,
            zone,
            days,
            intervals: joined(intervals),
        }
    }

    /// Returns how many days and intervals there are.
    pub fn entries(&self) -> usize {
        self.days.len() + self.intervals.len()
    }
}

/// A calendar as it is stored.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Calendar {
    /// What it says.
    pub spec: CalendarSpec,
    /// Grows with every change; no two calendars, and no two of one name after each other, ever have the same.
    pub generation: u64,
    /// When it was set, by leader time.
    pub changed_at: Timestamp,
}

/// Joins intervals that touch or overlap; they must ascend. Empty ones are dropped.
fn joined(intervals: Vec<Interval>) -> Vec<Interval> {
    let mut joined: Vec<Interval> = Vec::with_capacity(intervals.len());
    for interval in intervals.into_iter().filter(|interval| interval.from < interval.to) {
        match joined.last_mut() {
            Some(last) if last.to >= interval.from => last.to = last.to.max(interval.to),
            _ => joined.push(interval),
        }
    }
    joined
}

/// A calendar in instants.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ClosedTimes(Vec<Interval>);

impl ClosedTimes {
    /// Looks up what the days of a calendar are in instants.
    ///
    /// # Errors
    /// When the zone is not known here.
    pub fn compile(spec: &CalendarSpec, zones: &dyn Zones) -> Result<Self, ScheduleError> {
        let mut all = spec.intervals.clone();
        for (from, to) in day_bounds(&spec.days, &spec.zone, zones)? {
            all.push(Interval { from, to });
        }
        all.sort_unstable();
        Ok(Self(joined(all)))
    }

    /// Returns the stretch that an instant falls into.
    pub fn covering(&self, at: Timestamp) -> Option<Interval> {
        let after = self.0.partition_point(|interval| interval.from <= at);
        let last = self.0.get(after.checked_sub(1)?)?;
        (at < last.to).then_some(*last)
    }

    /// Returns the beginning of the first stretch that begins after an instant.
    pub fn next_beginning(&self, after: Timestamp) -> Option<Timestamp> {
        let at = self.0.partition_point(|interval| interval.from <= after);
        self.0.get(at).map(|interval| interval.from)
    }
}

/// The calendars of one task, compiled.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Calendars {
    named: Vec<(String, Arc<ClosedTimes>)>,
    /// The newest change of any calendar when these were read.
    generation: u64,
}

impl Calendars {
    /// Puts the calendars of a task together, in the order in which it names them. One that does not exist closes nothing.
    pub fn new(named: Vec<(String, Arc<ClosedTimes>)>, generation: u64) -> Self {
        Self { named, generation }
    }

    /// Returns the newest change of any calendar when these were read.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Whether they close nothing at all.
    pub fn is_empty(&self) -> bool {
        self.named.iter().all(|(_, closed)| closed.0.is_empty())
    }

    /// Returns the first calendar that closes an instant, and the stretch that it falls into.
    pub fn covering(&self, at: Timestamp) -> Option<(&str, Interval)> {
        self.named
            .iter()
            .find_map(|(name, closed)| Some((name.as_str(), closed.covering(at)?)))
    }

    /// Returns the beginning of the first stretch of any of them that begins after an instant.
    pub fn next_beginning(&self, after: Timestamp) -> Option<Timestamp> {
        self.named
            .iter()
            .filter_map(|(_, closed)| closed.next_beginning(after))
            .min()
    }
}

/// Returns the calendars that a task keeps from being deleted: those it may still ask.
pub fn used_by(status: &TaskStatus) -> &[String] {
    if status.state.is_ended() {
        &[]
    } else {
        &status.bounds.calendars
    }
}

/// The first day that a calendar may name, 0001-01-01, and the last, 9999-12-31, as days since 1970-01-01.
pub const DAYS: std::ops::RangeInclusive<i32> = -719_162..=2_932_896;

/// Returns what is said when a namespace, or the cluster, has as many calendars as it may.
pub(crate) fn too_many(in_namespace: bool) -> String {
    if in_namespace {
        let most = limits::CALENDARS_MAX;
        format!("the namespace has {most} calendars, which is the bound; delete one that no task uses")
    } else {
        let most = limits::CALENDARS_TOTAL_MAX;
        format!("there are {most} calendars, which is the bound; delete one that no task uses")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn t(s: i64) -> Timestamp {
        Timestamp::from_millis(s * 1000)
    }

    fn interval(from: i64, to: i64) -> Interval {
        Interval {
            from: t(from),
            to: t(to),
        }
    }

    struct Bundled;
    impl Zones for Bundled {
        fn zone(&self, name: &str) -> Option<jiff::tz::TimeZone> {
            jiff::tz::TimeZoneDatabase::bundled().get(name).ok()
        }
    }

    #[test]
    fn what_touches_is_one() {
        let parts = vec![
            interval(30, 40),
            interval(0, 10),
            interval(10, 20),
            interval(5, 5),
            interval(15, 18),
        ];
        let spec = CalendarSpec::new(String::new(), "UTC".into(), vec![3, 1, 3], parts);
        assert_eq!(spec.days, [1, 3]);
        assert_eq!(spec.intervals, [interval(0, 20), interval(30, 40)]);
        assert_eq!(spec.entries(), 4);
    }

    #[test]
    fn an_end_is_not_included() {
        let closed = ClosedTimes(vec![interval(10, 20), interval(30, 40)]);
        for (at, expected) in [
            (9, None),
            (10, Some(interval(10, 20))),
            (19, Some(interval(10, 20))),
            (20, None),
            (39, Some(interval(30, 40))),
            (40, None),
        ] {
            assert_eq!(closed.covering(t(at)), expected, "{at}");
        }
        assert_eq!(closed.next_beginning(t(9)), Some(t(10)));
        assert_eq!(closed.next_beginning(t(10)), Some(t(30)));
        assert_eq!(closed.next_beginning(t(30)), None);
    }

    /// (zone, day, first instant, first instant of the next day): days that are not of 24 hours, or do not begin at midnight.
    #[test]
    fn a_day_is_what_the_local_clock_calls_it() {
        for (zone, day, from, to) in [
            ("UTC", "2027-01-01", "2027-01-01T00:00:00Z", "2027-01-02T00:00:00Z"),
            (
                "Europe/Zurich",
                "2027-03-28",
                "2027-03-27T23:00:00Z",
                "2027-03-28T22:00:00Z",
            ),
            (
                "Europe/Zurich",
                "2027-10-31",
                "2027-10-30T22:00:00Z",
                "2027-10-31T23:00:00Z",
            ),
            // The clock goes from midnight to one.
            (
                "America/Havana",
                "2024-03-10",
                "2024-03-10T05:00:00Z",
                "2024-03-11T04:00:00Z",
            ),
            (
                "Pacific/Kiritimati",
                "2027-01-01",
                "2026-12-31T10:00:00Z",
                "2027-01-01T10:00:00Z",
            ),
        ] {
            let date: jiff::civil::Date = day.parse().expect("a date");
            let epoch = jiff::civil::date(1970, 1, 1);
            let days = date.since((jiff::Unit::Day, epoch)).expect("days").get_days();
            let spec = CalendarSpec::new(String::new(), zone.into(), vec![days], Vec::new());
            let closed = ClosedTimes::compile(&spec, &Bundled).expect("compiles");
            let expected = Interval {
                from: from.parse().expect("an instant"),
                to: to.parse().expect("an instant"),
            };
            assert_eq!(closed.0, [expected], "{zone} {day}");
        }
        // Apia has no 30 December 2011; days in a row are one stretch, and the first and the last day of all are days like others.
        let apia = |days| CalendarSpec::new(String::new(), "Pacific/Apia".into(), days, Vec::new());
        assert_eq!(
            ClosedTimes::compile(&apia(vec![15_338]), &Bundled),
            Ok(ClosedTimes(Vec::new()))
        );
        let row = ClosedTimes::compile(&apia((15_330..15_345).collect()), &Bundled).expect("compiles");
        assert_eq!(row.0.len(), 1);
        let ends = ClosedTimes::compile(&apia(vec![*DAYS.start(), *DAYS.end()]), &Bundled).expect("compiles");
        assert_eq!(ends.0.len(), 2);
        let nowhere = CalendarSpec::new(String::new(), "Mars/Olympus".into(), vec![1], Vec::new());
        assert!(ClosedTimes::compile(&nowhere, &Bundled).is_err());
    }
}
