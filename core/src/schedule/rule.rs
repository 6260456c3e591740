//! One compiled rule, and a set of rules and dates, both answering in instants.

use super::DstPolicy;
use super::calendar::{Calendar, Period};
use super::civil::DAY_S;
use super::days::Days;
use super::error::{ScheduleError, quoted};
use super::parts::{Freq, Parts, Until};
use super::positions::Positions;
use super::search::{Miss, Seek, Steps};
use super::slots::{Slots, Unit};
use super::times::{HOURS, SIXTY, Times};
use super::yearly;
use super::zone::{Reading, Zone};
use crate::time::Timestamp;

/// How many steps mapping a local reading to an instant counts.
const READING_STEPS: u32 = 8;

/// A rule with what bounds it, in instants.
#[derive(Clone, Debug)]
pub(super) struct Rule {
    engine: Engine,
    /// No occurrence is before this instant.
    begin: i64,
    /// No occurrence is after this instant.
    end: i64,
}

#[derive(Clone, Debug)]
enum Engine {
    Wall(Calendar),
    Absolute(Slots),
}

impl Rule {
    /// Compiles an RRULE that begins at instant `begin`.
    ///
    /// # Errors
    ///
    /// When it is malformed, can never occur, or is too costly to evaluate.
    pub(super) fn from_rrule(text: &str, begin: i64, zone: &Zone, dst: DstPolicy) -> Result<Self, ScheduleError> {
        let parts = Parts::read(text)?;
        let local = begin + zone.offset_at(begin);
        let end = match parts.until {
            Some(Until::Instant(until)) => until,
            // In a gap or a fold the earliest instant with that reading.
            Some(Until::Local(until)) => zone.instant_of(until, DstPolicy::Shift).unwrap_or(until),
            None => zone.last_instant(),
        };
        let end = end.min(zone.last_instant());
        let engine = if parts.freq <= Freq::Daily {
            Engine::Wall(calendar(&parts, local))
        } else {
            Engine::Absolute(slots(&parts, begin, local, zone))
        };
        let mut rule = Self { engine, begin, end };
        rule.check_possible(text, zone)?;
        rule.check_occurs(text, zone)?;
        if let Some(count) = parts.count {
            rule.bound_by_count(count, text, zone, dst)?;
        }
        Ok(rule)
    }

    /// Makes a rule of days and times without a beginning: cron.
    pub(super) fn from_cron(days: Days, times: Times, on_wall_clock: bool, zone: &Zone) -> Self {
        let begin = super::civil::FIRST_DAY * DAY_S;
        let engine = if on_wall_clock {
            Engine::Wall(Calendar {
                period: Period::Day,
                interval: 1,
                days,
                times,
                positions: Positions::default(),
                start: begin - DAY_S,
                end: i64::MAX,
            })
        } else {
            Engine::Absolute(Slots::new(
                Unit::Second,
                1,
                days,
                times,
                Positions::default(),
                (begin, begin),
            ))
        };
        Self {
            engine,
            begin,
            end: zone.last_instant(),
        }
    }

    /// Returns the first occurrence at or after instant `from`.
    pub(super) fn next(&self, from: i64, zone: &Zone, dst: DstPolicy, steps: &mut Steps) -> Seek {
        let from = from.max(self.begin);
        if from > self.end {
            return Err(Miss::End);
        }
        match &self.engine {
            Engine::Wall(calendar) => self.next_on_wall(calendar, from, zone, dst, steps),
            Engine::Absolute(slots) => slots.next(from, self.end, zone, steps),
        }
    }

    fn next_on_wall(&self, calendar: &Calendar, from: i64, zone: &Zone, dst: DstPolicy, steps: &mut Steps) -> Seek {
        // One second after the reading of the second before: at the end of a gap that is where the gap begins, so that what was
        // shifted out of it is found; at the end of a fold it is where readings are new again.
        let offset = zone.offset_at(from - 1);
        let mut local = from + offset;
        loop {
            let found = calendar.next(local, steps).map_err(|miss| match miss {
                // A day covers every offset, so that nothing is skipped when the search is taken up from there.
                Miss::Budget { until } if !zone.is_utc() => Miss::Budget {
                    until: (until - DAY_S).max(from - 1),
                },
                other => other,
            })?;
            let (instant, next) = match zone.read(found) {
                Reading::At { instant, fold_end } => (Some(instant), fold_end.unwrap_or(found + 1)),
                Reading::Gap { instant, gap_end } => ((dst == DstPolicy::Shift).then_some(instant), gap_end),
            };
            match instant {
                Some(instant) if instant > self.end => return Err(Miss::End),
                Some(instant) if instant >= from => return Ok(instant),
                _ => local = next.max(found + 1),
            }
            steps.take(READING_STEPS, from - 1)?;
        }
    }

    /// Refuses what can be seen to be impossible without a search.
    fn check_possible(&self, text: &str, zone: &Zone) -> Result<(), ScheduleError> {
        let (days, keeps_none, misses) = match &self.engine {
            Engine::Wall(calendar) => (&calendar.days, calendar.keeps_none(), false),
            Engine::Absolute(slots) => (
                slots.days(),
                slots.keeps_none(),
                zone.is_utc() && slots.misses_weekdays(),
            ),
        };
        let why = if days.is_never() {
            "no year has a day that satisfies all its parts, like 30 February"
        } else if keeps_none {
            "BYSETPOS is beyond the largest set of a period"
        } else if misses {
            "its interval never leads to such a time on such a weekday"
        } else {
            return Ok(());
        };
        Err(ScheduleError::Impossible {
            form: "rrule",
            rule: quoted(text),
            why: why.to_owned(),
        })
    }

    /// Refuses a rule without any occurrence.
    fn check_occurs(&self, text: &str, zone: &Zone) -> Result<(), ScheduleError> {
        // Shifting finds every reading; a rule whose every occurrence is in a gap is possible, if odd.
        match self.next(self.begin, zone, DstPolicy::Shift, &mut Steps::new(Steps::MOST)) {
            Ok(_) => Ok(()),
            Err(Miss::End) => Err(ScheduleError::Impossible {
                form: "rrule",
                rule: quoted(text),
                why: format!(
                    "from its start to {} no time satisfies all its parts and its interval",
                    Timestamp::from_millis(self.end.saturating_mul(1000))
                ),
            }),
            Err(Miss::Budget { until }) => Err(ScheduleError::TooCostly {
                form: "rrule",
                rule: quoted(text),
                why: format!(
                    "no occurrence found until {}; check whether its parts contradict each other",
                    Timestamp::from_millis(until.saturating_mul(1000))
                ),
            }),
        }
    }

    /// Turns COUNT into an end, by counting once, so that a search needs no count.
    ///
    /// What a gap shifts counts, also when it lands on another occurrence; what a gap drops does not, as RFC 5545 has it.
    fn bound_by_count(&mut self, count: u64, text: &str, zone: &Zone, dst: DstPolicy) -> Result<(), ScheduleError> {
        let steps = &mut Steps::new(Steps::MOST);
        let dropping = dst == DstPolicy::Skip && !zone.is_utc();
        let last = match &self.engine {
            Engine::Wall(calendar) if dropping => {
                let mut last = self.next_on_wall(calendar, self.begin, zone, dst, steps);
                let mut left = count - 1;
                while let (Ok(found), true) = (last, left > 0) {
                    let taken = steps.take(READING_STEPS, found);
                    last = taken.and_then(|()| self.next_on_wall(calendar, found + 1, zone, dst, steps));
                    left -= 1;
                }
                last
            }
            Engine::Wall(calendar) => calendar.nth(count, steps),
            Engine::Absolute(slots) => slots.nth(count, self.end, zone, steps),
        };
        match (last, &mut self.engine) {
            (Ok(last), Engine::Wall(calendar)) if !dropping => calendar.end = last,
            (Ok(last), _) => self.end = last,
            // There are fewer occurrences than COUNT until the end of the calendar.
            (Err(Miss::End), _) => {}
            (Err(Miss::Budget { .. }), _) => {
                return Err(ScheduleError::TooCostly {
                    form: "rrule",
                    rule: quoted(text),
                    why: format!("COUNT={count} needs more counting than one search may do; give UNTIL instead"),
                });
            }
        }
        Ok(())
    }
}

/// Puts the defaults of python-dateutil in: what is not given comes from where the rule begins.
fn with_default_days(parts: &Parts, local: i64) -> Parts {
    let mut parts = parts.clone();
    let given = !parts.week_numbers.is_empty()
        || !parts.year_days.is_empty()
        || parts.month_days != 0
        || parts.month_days_back != 0
        || parts.weekdays != 0
        || !parts.nth_weekdays.is_empty()
        || !parts.easter.is_empty();
    if given {
        return parts;
    }
    let day = local.div_euclid(DAY_S);
    let year = super::civil::year_of(day);
    let (month, month_day) =
        super::civil::month_and_day(super::civil::is_leap(year), day - super::civil::year_start(year));
    match parts.freq {
        Freq::Yearly => {
            if parts.months == 0 {
                parts.months = 1 << month;
            }
            parts.month_days = 1 << month_day;
        }
        Freq::Monthly => parts.month_days = 1 << month_day,
        Freq::Weekly => parts.weekdays = 1 << super::civil::weekday_of(day),
        _ => {}
    }
    parts
}

fn days(parts: &Parts) -> Days {
    Days::new(|kind| yearly::days_of(parts, kind), parts.easter.clone())
}

/// Returns the days, of which only those on one weekday count: whole weeks from the start never lead to another. What contradicts that
/// is then seen to be impossible, and the rest is found in fewer steps.
fn days_on_weekday(parts: &Parts, local: i64) -> Days {
    let weekday = super::civil::weekday_of(local.div_euclid(DAY_S));
    let on_it = Parts {
        weekdays: 1 << weekday,
        ..Parts::with_freq(Freq::Daily)
    };
    let days = |kind| yearly::days_of(parts, kind).and(yearly::days_of(&on_it, kind));
    Days::new(days, parts.easter.clone())
}

/// Returns the mask, or the bit of what the clock shows when the part is not given.
fn or_bit(mask: u64, value: i64) -> u64 {
    if mask != 0 { mask } else { 1 << value }
}

fn calendar(parts: &Parts, local: i64) -> Calendar {
    let second = local.rem_euclid(DAY_S);
    let parts = with_default_days(parts, local);
    Calendar {
        period: match parts.freq {
            Freq::Yearly => Period::Year,
            Freq::Monthly => Period::Month,
            Freq::Weekly => Period::Week {
                start: parts.week_start,
            },
            _ => Period::Day,
        },
        interval: parts.interval,
        days: match parts.freq {
            Freq::Daily if parts.interval % 7 == 0 => days_on_weekday(&parts, local),
            _ => days(&parts),
        },
        times: Times {
            // The mask has 24 bits.
            hours: or_bit(u64::from(parts.hours), second / 3600) as u32,
            minutes: or_bit(parts.minutes, second / 60 % 60),
            seconds: or_bit(parts.seconds, second % 60),
        },
        positions: Positions::new(parts.positions.clone()),
        start: local,
        end: match parts.until {
            Some(Until::Local(until)) => until,
            _ => i64::MAX,
        },
    }
}

/// A part that is not given is what the clock shows at the start, at the same distance in absolute time: an hourly rule without
/// BYMINUTE and BYSECOND is one of every 3600th second, whatever a zone does to its minutes.
fn slots(parts: &Parts, begin: i64, local: i64, zone: &Zone) -> Slots {
    let hours = if parts.hours != 0 { parts.hours } else { HOURS };
    let all = |mask: u64| if mask != 0 { mask } else { SIXTY };
    let (unit, interval) = match parts.freq {
        Freq::Hourly if parts.minutes != 0 => (Unit::Hour, parts.interval),
        Freq::Hourly if parts.seconds != 0 => (Unit::Minute, parts.interval * 60),
        Freq::Hourly => (Unit::Second, parts.interval * 3600),
        Freq::Minutely if parts.seconds != 0 => (Unit::Minute, parts.interval),
        Freq::Minutely => (Unit::Second, parts.interval * 60),
        _ => (Unit::Second, parts.interval),
    };
    let seconds = match unit {
        Unit::Hour => or_bit(parts.seconds, local.rem_euclid(60)),
        Unit::Minute | Unit::Second => all(parts.seconds),
    };
    let times = Times {
        hours,
        minutes: all(parts.minutes),
        seconds,
    };
    let positions = Positions::new(parts.positions.clone());
    // Elsewhere a change of the clock may lead from one weekday to another.
    let weekly = zone.is_utc() && interval * unit.seconds() % (7 * DAY_S) == 0;
    let days = if weekly {
        days_on_weekday(parts, local)
    } else {
        days(parts)
    };
    Slots::new(unit, interval, days, times, positions, (begin, local))
}

/// A rule on the wall clock, to be asked for readings of that clock, whatever they mean as instants.
pub(super) struct Wall<'a> {
    calendar: &'a Calendar,
    rule: &'a Rule,
    zone: &'a Zone,
}

impl Wall<'_> {
    /// Returns the first reading at or after `local`, as far as a search comes.
    pub(super) fn next(&self, local: i64, steps: &mut Steps) -> Option<i64> {
        let found = self.calendar.next(local, steps).ok()?;
        let instant = self.zone.instant_of(found, DstPolicy::Shift)?;
        (self.rule.begin..=self.rule.end).contains(&instant).then_some(found)
    }
}

/// Rules and dates together: RRULE, RDATE and EXDATE, or one cron rule.
#[derive(Clone, Debug)]
pub(super) struct RuleSet {
    rules: Vec<Rule>,
    /// Seconds, ascending, each once.
    rdates: Vec<i64>,
    /// Likewise.
    exdates: Vec<i64>,
    zone: Zone,
    dst: DstPolicy,
}

impl RuleSet {
    /// Puts a set together; the dates are instants in seconds, in any order.
    pub(super) fn new(rules: Vec<Rule>, rdates: Vec<i64>, exdates: Vec<i64>, zone: Zone, dst: DstPolicy) -> Self {
        let sorted = |mut dates: Vec<i64>| {
            dates.sort_unstable();
            dates.dedup();
            dates
        };
        Self {
            rules,
            rdates: sorted(rdates),
            exdates: sorted(exdates),
            zone,
            dst,
        }
    }

    /// Returns the zone that all rules share.
    pub(super) fn zone(&self) -> &Zone {
        &self.zone
    }

    /// Returns what a gap does to the rules on the wall clock.
    pub(super) fn dst(&self) -> DstPolicy {
        self.dst
    }

    /// Whether an EXDATE takes this instant out.
    pub(super) fn is_taken_out(&self, instant: i64) -> bool {
        self.exdates.binary_search(&instant).is_ok()
    }

    /// Returns the rules on the wall clock.
    pub(super) fn walls(&self) -> impl Iterator<Item = Wall<'_>> {
        self.rules.iter().filter_map(|rule| match &rule.engine {
            Engine::Wall(calendar) => Some(Wall {
                calendar,
                rule,
                zone: &self.zone,
            }),
            Engine::Absolute(_) => None,
        })
    }

    /// Returns the first occurrence at or after instant `from`.
    pub(super) fn next(&self, from: i64, steps: &mut Steps) -> Seek {
        let mut from = from;
        loop {
            let found = self.next_included(from, steps)?;
            if self.exdates.binary_search(&found).is_err() {
                return Ok(found);
            }
            from = found + 1;
            steps.take(1, found)?;
        }
    }

    /// Returns the first occurrence at or after `from`, taken out or not.
    fn next_included(&self, from: i64, steps: &mut Steps) -> Seek {
        let mut earliest = self
            .rdates
            .get(self.rdates.partition_point(|date| *date < from))
            .copied();
        let mut unsearched = None;
        for rule in &self.rules {
            match rule.next(from, &self.zone, self.dst, steps) {
                Ok(found) => earliest = Some(earliest.map_or(found, |e| e.min(found))),
                Err(Miss::Budget { until }) => unsearched = Some(unsearched.map_or(until, |u: i64| u.min(until))),
                Err(Miss::End) => {}
            }
        }
        match (earliest, unsearched) {
            (Some(found), Some(until)) if found > until => Err(Miss::Budget { until }),
            (Some(found), _) => Ok(found),
            (None, Some(until)) => Err(Miss::Budget { until }),
            (None, None) => Err(Miss::End),
        }
    }
}
