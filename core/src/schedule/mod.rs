//! When a task runs: schedules, and a search for their next occurrence that seeks instead of walking.
//!
//! [`Schedule`] is what is stored. [`Recurrence`] is what it compiles to: it answers "the first occurrence after T" at a cost that
//! does not depend on how long ago the schedule began. Zone data is handed in through [`Zones`]; nothing here reads a clock, a file
//! or the environment, and nothing here may be called by `apply`, because zone data differs between hosts.

mod calendar;
mod changes;
mod civil;
mod cron;
mod days;
mod duration;
mod error;
mod explain;
mod parts;
mod positions;
mod rule;
mod search;
mod slots;
mod times;
mod within;
mod words;
mod yearly;
mod zone;

pub use changes::{Clock, ClockChange};
pub use duration::{format_duration, parse_duration};
pub use error::ScheduleError;
pub use explain::explain;
pub use within::{DECISION_STEPS_MAX, Occurrences};
pub use zone::day_bounds;

use crate::hash::spread;
use crate::task::{Bounds, Ending, Jitter, TaskRef};
use crate::time::Timestamp;
use cron::Cron;
use rule::{Rule, RuleSet};
use search::{Miss, Steps};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;
use within::Budget;
use zone::Zone;

/// Shortest interval of `every`: below it the cost of starting a run exceeds the interval.
const EVERY_MS_MIN: i64 = 10;
/// Most RRULEs of one schedule: a search looks at each.
const RULES_MAX: usize = 16;
/// Most RDATEs, and most EXDATEs, of one schedule.
const DATES_MAX: usize = 4096;
/// Longest interval of `every`: a hundred years.
const EVERY_MS_MAX: i64 = 100 * 366 * 86_400_000;

/// When a task runs, as it is stored in the task and in the log.
///
/// The encoding is positional: the order of the variants and of their fields is frozen, new ones go to the end.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Schedule {
    /// Due at once.
    Now,
    /// One shot at an instant.
    At(Timestamp),
    /// One shot after a delay; the leader resolves it to [`At`](Self::At) before it is stored, see [`Schedule::resolved`].
    In {
        /// The delay from the moment of acceptance, in milliseconds.
        delay_ms: u64,
    },
    /// At a fixed interval of absolute time.
    Every {
        /// The interval in milliseconds.
        every_ms: u64,
        /// The origin: the first occurrence, from which all others are counted. Never the start of a process.
        anchor: Timestamp,
    },
    /// A cron expression.
    Cron {
        /// Five or six fields or an `@` word.
        expr: String,
        /// An IANA zone name, usually `UTC`.
        zone: String,
        /// What a gap of the local clock does to wall-clock occurrences.
        dst: DstPolicy,
    },
    /// RFC 5545 recurrence rules and dates.
    Rrule {
        /// One or more RRULE values; the prefix `RRULE:` is optional.
        rules: Vec<String>,
        /// Where the rules begin.
        dtstart: Timestamp,
        /// Instants added.
        rdates: Vec<Timestamp>,
        /// Instants taken out.
        exdates: Vec<Timestamp>,
        /// An IANA zone name, usually `UTC`.
        zone: String,
        /// What a gap of the local clock does to wall-clock occurrences.
        dst: DstPolicy,
    },
    /// Only when triggered.
    Manual,
    /// Once, when other tasks have ended.
    After {
        /// All of these.
        parents: Vec<TaskRef>,
        /// And so.
        on: Ending,
    },
    /// One shot ahead of an event, for reminders: when the event moves, the run moves with it.
    Before {
        /// When the event is.
        event: Timestamp,
        /// How long before it the task is due, in milliseconds.
        before_ms: u64,
    },
}

/// What happens to a wall-clock occurrence that falls into a gap of the local clock.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub enum DstPolicy {
    /// It moves to the first instant after the gap.
    #[default]
    Shift,
    /// It is left out.
    Skip,
}

/// Where zone data comes from: the node hands it in.
pub trait Zones {
    /// Returns the zone with this IANA name, if it is known.
    fn zone(&self, name: &str) -> Option<jiff::tz::TimeZone>;
}

/// What a search for an occurrence found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Next {
    /// The occurrence.
    At(Timestamp),
    /// There is none, and there never will be.
    Exhausted,
    /// The search met its bound: neither an occurrence nor the end was found. Search again later, raise an alarm, never take it
    /// for the end.
    GaveUp {
        /// There is no occurrence up to here.
        searched_until: Timestamp,
    },
}

impl Next {
    /// Returns the occurrence, if one was found.
    pub fn at(self) -> Option<Timestamp> {
        match self {
            Next::At(at) => Some(at),
            Next::Exhausted | Next::GaveUp { .. } => None,
        }
    }
}

/// A compiled schedule: answers when it occurs next. Cheap to clone and to keep.
#[derive(Clone, Debug)]
pub struct Recurrence {
    kind: Kind,
    not_before: Timestamp,
    until: Timestamp,
    jitter: Option<Jitter>,
}

#[derive(Clone, Debug)]
enum Kind {
    /// Once, this long after acceptance.
    AfterAcceptance { delay_ms: u64 },
    /// Once.
    Once(Timestamp),
    /// At a fixed interval of absolute time from an origin.
    Every { every_ms: i64, anchor: Timestamp },
    /// Cron or RRULE; shared, so that a clone is cheap.
    Rules(Arc<RuleSet>),
    /// Never by itself.
    Manual,
}

impl Recurrence {
    /// Compiles a schedule, checking all of it.
    ///
    /// `hash_key` is the task's name (its id when it has none): `H` in a cron expression is a hash of it.
    ///
    /// # Errors
    ///
    /// When the schedule is malformed, exceeds a bound, names an unknown zone, or can never occur.
    pub fn compile(schedule: &Schedule, hash_key: &str, zones: &dyn Zones) -> Result<Self, ScheduleError> {
        let kind = match schedule {
            Schedule::Now => Kind::AfterAcceptance { delay_ms: 0 },
            Schedule::In { delay_ms } => Kind::AfterAcceptance { delay_ms: *delay_ms },
            Schedule::At(_) | Schedule::Before { .. } => Kind::Once(schedule.instant().unwrap_or(Timestamp::MAX)),
            Schedule::Every { every_ms, anchor } => Kind::Every {
                every_ms: checked_interval(*every_ms)?,
                anchor: *anchor,
            },
            Schedule::Manual | Schedule::After { .. } => Kind::Manual,
            Schedule::Cron { expr, zone, dst } => {
                let zone = Zone::find(zone, zones)?;
                match Cron::read(expr, hash_key)? {
                    Cron::Every(every_ms) => Kind::Every {
                        every_ms: checked_interval(every_ms)?,
                        anchor: Timestamp::EPOCH,
                    },
                    Cron::Fields {
                        days,
                        times,
                        fixed_hours,
                        rule: _,
                    } => {
                        let rule = Rule::from_cron(days, times, fixed_hours, &zone);
                        Kind::Rules(Arc::new(RuleSet::new(vec![rule], Vec::new(), Vec::new(), zone, *dst)))
                    }
                }
            }
            Schedule::Rrule {
                rules,
                dtstart,
                rdates,
                exdates,
                zone,
                dst,
            } => {
                let zone = Zone::find(zone, zones)?;
                let rules = compile_rules(rules, *dtstart, &zone, *dst)?;
                let (rdates, exdates) = (dates("RDATE", rdates)?, dates("EXDATE", exdates)?);
                Kind::Rules(Arc::new(RuleSet::new(rules, rdates, exdates, zone, *dst)))
            }
        };
        Ok(Self {
            kind,
            not_before: Timestamp::MIN,
            until: Timestamp::MAX,
            jitter: None,
        })
    }

    /// Cuts the schedule down to a task's bounds. They hold for schedules that recur: a one-shot has an instant of its own.
    #[must_use]
    pub fn within(mut self, bounds: &Bounds) -> Self {
        if self.is_periodic() {
            self.not_before = bounds.not_before.unwrap_or(self.not_before);
            self.jitter = bounds.jitter;
            self = self.ending(bounds.until.unwrap_or(Timestamp::MAX));
        }
        self
    }

    /// Cuts off what comes after an instant.
    #[must_use]
    pub fn ending(mut self, until: Timestamp) -> Self {
        self.until = self.until.min(until);
        self
    }

    /// Returns the first occurrence strictly after `after`.
    pub fn next_after(&self, after: Timestamp) -> Next {
        self.search(after, &Budget::of_one())
    }

    /// Returns the first occurrence strictly after `after`, as far as the budget goes.
    fn search(&self, after: Timestamp, budget: &Budget) -> Next {
        let after = after.max(self.not_before.plus_millis(-1));
        let next = match self.jitter {
            None => self.nominal_after(after, budget),
            Some(jitter) => self.put_off_after(jitter, after, budget),
        };
        match next {
            Next::At(at) if at > self.until => Next::Exhausted,
            Next::GaveUp { searched_until } if searched_until >= self.until => Next::Exhausted,
            next => next,
        }
    }

    /// Searches among occurrences that are put off: the one before `after` may be put off to a time after it.
    fn put_off_after(&self, jitter: Jitter, after: Timestamp, budget: &Budget) -> Next {
        let reach = i64::try_from(jitter.ms).unwrap_or(i64::MAX);
        let nominal = |after| self.nominal_after(after, budget);
        if let Some(before) = latest(nominal, after.plus_millis(1 - reach), after.plus_millis(1)) {
            let at = self.put_off(jitter, before, budget);
            if at > after {
                return Next::At(at);
            }
        }
        match self.nominal_after(after, budget) {
            Next::At(at) => Next::At(self.put_off(jitter, at, budget)),
            next => next,
        }
    }

    fn put_off(&self, jitter: Jitter, nominal: Timestamp, budget: &Budget) -> Timestamp {
        let most = match self.nominal_after(nominal, budget) {
            Next::At(next) => jitter.ms.min(next.millis_since(nominal).unsigned_abs()),
            Next::Exhausted | Next::GaveUp { .. } => jitter.ms,
        };
        // The increment of SplitMix64, which keeps the seed 0 from giving 0.
        let bits = (jitter.seed ^ nominal.as_millis().unsigned_abs()).wrapping_add(0x9e37_79b9_7f4a_7c15);
        let delay = spread(bits) % most.max(1);
        nominal.plus_millis(i64::try_from(delay).unwrap_or(i64::MAX))
    }

    /// Returns the first occurrence of the schedule itself strictly after `after`.
    fn nominal_after(&self, after: Timestamp, budget: &Budget) -> Next {
        let Some(steps) = budget.grant() else {
            return Next::GaveUp { searched_until: after };
        };
        let granted = steps.left();
        match &self.kind {
            Kind::AfterAcceptance { .. } | Kind::Manual => Next::Exhausted,
            Kind::Once(at) if *at > after => Next::At(*at),
            Kind::Once(_) => Next::Exhausted,
            Kind::Every { every_ms, anchor } => {
                budget.spend(granted, granted);
                next_multiple(*every_ms, *anchor, after)
            }
            Kind::Rules(set) => {
                let mut steps = steps;
                let next = next_of_rules(set, after, &mut steps);
                budget.spend(granted, steps.left());
                next
            }
        }
    }

    /// Returns the first occurrence at or after `from`, the moment a task is accepted.
    ///
    /// For [`Schedule::Now`] and [`Schedule::In`] that is `from` and `from` plus the delay; for [`Schedule::At`] the instant itself,
    /// even when it is past: whether a late one-shot is accepted is the caller's decision.
    pub fn first_from(&self, from: Timestamp) -> Next {
        match &self.kind {
            Kind::AfterAcceptance { delay_ms } => {
                Next::At(from.plus_millis(i64::try_from(*delay_ms).unwrap_or(i64::MAX)))
            }
            Kind::Once(at) => Next::At(*at),
            Kind::Every { .. } | Kind::Rules(_) | Kind::Manual => self.next_after(from.plus_millis(-1)),
        }
    }

    /// Whether the schedule can have more than one occurrence.
    pub fn is_periodic(&self) -> bool {
        matches!(self.kind, Kind::Every { .. } | Kind::Rules(_))
    }

    /// Counts the occurrences at or after `from` and before `to`, stopping at `most`.
    pub fn count_in(&self, from: Timestamp, to: Timestamp, most: u64) -> u64 {
        let mut found = 0;
        let mut next = self.next_after(from.plus_millis(-1));
        while let Next::At(at) = next {
            if found == most || at >= to {
                break;
            }
            found += 1;
            next = self.next_after(at);
        }
        found
    }

    /// Returns the last occurrence at or after `from` and before `to`, at the cost of some forty searches.
    pub fn latest_in(&self, from: Timestamp, to: Timestamp) -> Option<Timestamp> {
        latest(|after| self.next_after(after), from, to)
    }
}

/// Returns the last occurrence at or after `from` and before `to`, by bisection.
fn latest(next_after: impl Fn(Timestamp) -> Next, from: Timestamp, to: Timestamp) -> Option<Timestamp> {
    let within = |after: Timestamp| next_after(after).at().filter(|at| *at < to);
    let mut low = from.plus_millis(-1);
    let mut latest = within(low)?;
    let mut high = to;
    // An occurrence lies after `low` and none from `high` on.
    while high.millis_since(low) > 1 {
        let middle = low.plus_millis(high.millis_since(low) / 2);
        match within(middle) {
            Some(at) => (low, latest) = (at.plus_millis(-1).max(middle), at),
            None => high = middle,
        }
    }
    Some(latest)
}

/// Compiles each RRULE.
fn compile_rules(
    rules: &[String],
    dtstart: Timestamp,
    zone: &Zone,
    dst: DstPolicy,
) -> Result<Vec<Rule>, ScheduleError> {
    if rules.is_empty() {
        return Err(ScheduleError::Missing {
            form: "rrule",
            part: "the rule",
            expected: "at least one, for example FREQ=DAILY;BYHOUR=9;BYMINUTE=0;BYSECOND=0",
        });
    }
    check_size("the number of rules", rules.len(), RULES_MAX)?;
    rules
        .iter()
        .map(|rule| Rule::from_rrule(rule, seconds(dtstart), zone, dst))
        .collect()
}

/// Returns the dates in whole seconds, which is all that iCalendar knows.
fn dates(part: &'static str, dates: &[Timestamp]) -> Result<Vec<i64>, ScheduleError> {
    check_size(part, dates.len(), DATES_MAX)?;
    Ok(dates.iter().map(|date| seconds(*date)).collect())
}

fn check_size(what: &'static str, size: usize, most: usize) -> Result<(), ScheduleError> {
    if size > most {
        return Err(ScheduleError::TooBig {
            form: "rrule",
            what,
            size: size as u64,
            most: most as u64,
        });
    }
    Ok(())
}

/// Returns the whole seconds since the epoch.
fn seconds(at: Timestamp) -> i64 {
    at.as_millis().div_euclid(1000)
}

/// Returns the first occurrence of the rules after `after`.
fn next_of_rules(set: &RuleSet, after: Timestamp, steps: &mut Steps) -> Next {
    let at = |second: i64| Timestamp::from_millis(second.saturating_mul(1000));
    match set.next(seconds(after) + 1, steps) {
        Ok(second) => Next::At(at(second)),
        Err(Miss::End) => Next::Exhausted,
        Err(Miss::Budget { until }) => Next::GaveUp {
            searched_until: at(until).max(after),
        },
    }
}

/// Returns the interval as a divisor, when it is within its bounds.
fn checked_interval(every_ms: u64) -> Result<i64, ScheduleError> {
    match i64::try_from(every_ms) {
        Ok(ms) if (EVERY_MS_MIN..=EVERY_MS_MAX).contains(&ms) => Ok(ms),
        _ => Err(ScheduleError::invalid(
            "every",
            "interval",
            &format_duration(every_ms),
            format!(
                "{} to {}, for example 5m",
                format_duration(EVERY_MS_MIN.unsigned_abs()),
                format_duration(EVERY_MS_MAX.unsigned_abs())
            ),
        )),
    }
}

/// Returns the first of `anchor`, `anchor + every_ms`, … after `after`.
fn next_multiple(every_ms: i64, anchor: Timestamp, after: Timestamp) -> Next {
    if after < anchor {
        return Next::At(anchor);
    }
    let steps = after.millis_since(anchor) / every_ms + 1;
    match steps
        .checked_mul(every_ms)
        .and_then(|ms| ms.checked_add(anchor.as_millis()))
    {
        Some(ms) if ms <= Timestamp::MAX.as_millis() => Next::At(Timestamp::from_millis(ms)),
        _ => Next::Exhausted,
    }
}

impl Schedule {
    /// Returns the schedule with its relative form resolved at the moment of acceptance, as it is stored: `In` becomes
    /// [`Schedule::At`]. `Now` stays: its run is created in the step that accepts it.
    pub fn resolved(self, accepted_at: Timestamp) -> Self {
        match self {
            Schedule::In { delay_ms } => {
                Schedule::At(accepted_at.plus_millis(i64::try_from(delay_ms).unwrap_or(i64::MAX)))
            }
            other => other,
        }
    }

    /// Returns when the schedule is due, if it is one fixed instant.
    pub fn instant(&self) -> Option<Timestamp> {
        match self {
            Schedule::At(at) => Some(*at),
            Schedule::Before { event, before_ms } => {
                Some(event.plus_millis(i64::try_from(*before_ms).map_or(i64::MIN, |ms| -ms)))
            }
            _ => None,
        }
    }

    /// Whether the schedule can have more than one occurrence.
    pub fn is_periodic(&self) -> bool {
        matches!(
            self,
            Schedule::Every { .. } | Schedule::Cron { .. } | Schedule::Rrule { .. }
        )
    }
}

/// One line, in the words of the command line: `every 5m`, `cron 0 9 * * 1-5 Europe/Zurich`, `rrule FREQ=DAILY;BYHOUR=9`.
impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Schedule::Now => f.write_str("now"),
            Schedule::At(at) => write!(f, "at {at}"),
            Schedule::In { delay_ms } => write!(f, "in {}", format_duration(*delay_ms)),
            Schedule::Every { every_ms, anchor } => {
                write!(f, "every {}", format_duration(*every_ms))?;
                if *anchor == Timestamp::EPOCH {
                    Ok(())
                } else {
                    write!(f, " from {anchor}")
                }
            }
            Schedule::Cron { expr, zone, dst } => {
                write!(f, "cron {}", expr.split_whitespace().collect::<Vec<_>>().join(" "))?;
                write_zone(f, zone, *dst)
            }
            Schedule::Rrule {
                rules,
                dtstart,
                rdates,
                exdates,
                zone,
                dst,
            } => {
                f.write_str("rrule ")?;
                for (i, rule) in rules.iter().enumerate() {
                    write!(
                        f,
                        "{}{}",
                        if i == 0 { "" } else { " + " },
                        rule.trim().trim_start_matches("RRULE:")
                    )?;
                }
                write!(f, " from {dtstart}")?;
                if !rdates.is_empty() {
                    write!(f, " +{} dates", rdates.len())?;
                }
                if !exdates.is_empty() {
                    write!(f, " -{} dates", exdates.len())?;
                }
                write_zone(f, zone, *dst)
            }
            Schedule::Manual => f.write_str("manual"),
            Schedule::After { parents, on } => {
                f.write_str("after ")?;
                for (i, parent) in parents.iter().enumerate() {
                    write!(f, "{}{parent}", if i == 0 { "" } else { "," })?;
                }
                write!(f, " on {}", on.as_str())
            }
            Schedule::Before { event, before_ms } => write!(f, "{} before {event}", format_duration(*before_ms)),
        }
    }
}

/// Writes the zone and the policy for gaps, unless both are the default.
fn write_zone(f: &mut fmt::Formatter<'_>, zone: &str, dst: DstPolicy) -> fmt::Result {
    if zone != "UTC" {
        write!(f, " {zone}")?;
    }
    match dst {
        DstPolicy::Shift => Ok(()),
        DstPolicy::Skip => f.write_str(" dst=skip"),
    }
}
