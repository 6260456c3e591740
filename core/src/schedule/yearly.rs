//! Which days of a year the BY-parts of an RRULE select.
//!
//! The rules are those of python-dateutil, with one exception: BYDAY that mixes weekdays with and without an ordinal (`MO,2TU`) means
//! either of them, as RFC 5545 says, where python-dateutil asks for both at once and finds nothing.

use super::civil;
use super::days::{DaySet, YearKind};
use super::parts::{Freq, Parts};

/// Returns the days that satisfy all BY-parts but BYEASTER in a year of this kind.
pub(super) fn days_of(parts: &Parts, kind: YearKind) -> DaySet {
    let mut days = all_days(kind);
    if parts.months != 0 {
        days = days.and(in_months(parts, kind));
    }
    if parts.month_days != 0 || parts.month_days_back != 0 {
        days = days.and(on_month_days(parts, kind));
    }
    if !parts.year_days.is_empty() {
        days = days.and(on_year_days(parts, kind));
    }
    if !parts.week_numbers.is_empty() {
        days = days.and(in_weeks(parts, kind));
    }
    if parts.weekdays != 0 || !parts.nth_weekdays.is_empty() {
        days = days.and(on_weekdays(parts, kind).or(on_nth_weekdays(parts, kind)));
    }
    days
}

/// Returns the set of the days that pass the test.
fn days_where(kind: YearKind, test: impl Fn(i64) -> bool) -> DaySet {
    let mut days = DaySet::default();
    (0..kind.days())
        .filter(|day| test(*day))
        .for_each(|day| days.insert(day));
    days
}

fn all_days(kind: YearKind) -> DaySet {
    days_where(kind, |_| true)
}

fn in_months(parts: &Parts, kind: YearKind) -> DaySet {
    let mut days = DaySet::default();
    for (first, last) in months_of(parts.months, kind) {
        (first..=last).for_each(|day| days.insert(day));
    }
    days
}

/// Returns the first and the last day of each month in the mask, of all months when the mask is 0.
fn months_of(mask: u16, kind: YearKind) -> impl Iterator<Item = (i64, i64)> {
    let starts = civil::month_starts(kind.leap);
    (1..=12usize)
        .filter(move |month| mask == 0 || mask & (1 << month) != 0)
        .map(move |month| (i64::from(starts[month - 1]), i64::from(starts[month]) - 1))
}

fn on_month_days(parts: &Parts, kind: YearKind) -> DaySet {
    let mut days = DaySet::default();
    for (first, last) in months_of(0, kind) {
        for day in first..=last {
            let forward = parts.month_days & (1 << (day - first + 1)) != 0;
            let back = parts.month_days_back & (1 << (last - day + 1)) != 0;
            if forward || back {
                days.insert(day);
            }
        }
    }
    days
}

fn on_year_days(parts: &Parts, kind: YearKind) -> DaySet {
    let mut days = DaySet::default();
    for number in parts.year_days.iter().map(|number| i64::from(*number)) {
        let day = if number > 0 { number - 1 } else { kind.days() + number };
        if day < kind.days() {
            days.insert(day);
        }
    }
    days
}

fn on_weekdays(parts: &Parts, kind: YearKind) -> DaySet {
    days_where(kind, |day| parts.weekdays & (1 << kind.weekday(day)) != 0)
}

/// Ordinals count within the month, or within the year for a YEARLY rule without BYMONTH.
fn on_nth_weekdays(parts: &Parts, kind: YearKind) -> DaySet {
    let mut days = DaySet::default();
    let mut mark = |first: i64, last: i64| {
        for (nth, weekday) in &parts.nth_weekdays {
            let nth = i64::from(*nth);
            let day = if nth < 0 {
                let latest = last + (nth + 1) * 7;
                latest - i64::from((kind.weekday(latest) + 7 - weekday) % 7)
            } else {
                let earliest = first + (nth - 1) * 7;
                earliest + i64::from((weekday + 7 - kind.weekday(earliest)) % 7)
            };
            if (first..=last).contains(&day) {
                days.insert(day);
            }
        }
    };
    if parts.freq == Freq::Yearly && parts.months == 0 {
        mark(0, kind.days() - 1);
    } else {
        months_of(parts.months, kind).for_each(|(first, last)| mark(first, last));
    }
    days
}

/// The weeks of a year that begin on WKST: where week 1 begins, and how many there are.
struct Weeks {
    /// First day of week 1 in this year: 0 when the week began in the year before.
    first: i64,
    /// The first WKST of the year.
    first_start: i64,
    /// How many weeks.
    count: i64,
}

impl Weeks {
    fn of(kind: YearKind, start: u8) -> Self {
        let first_start = i64::from((7 + start - kind.jan1) % 7);
        let (first, days) = if first_start >= 4 {
            (0, kind.days() + i64::from((7 + kind.jan1 - start) % 7))
        } else {
            (first_start, kind.days() - first_start)
        };
        Self {
            first,
            first_start,
            count: days / 7 + days % 7 / 4,
        }
    }

    /// Returns the first day of a week; of week 1, the first one in this year.
    fn start(&self, number: i64) -> i64 {
        let shifted = if self.first != self.first_start {
            7 - self.first_start
        } else {
            0
        };
        if number > 1 {
            self.first + (number - 1) * 7 - shifted
        } else {
            self.first
        }
    }
}

/// BYWEEKNO, day by day what python-dateutil selects, its treatment of the weeks that two years share included.
fn in_weeks(parts: &Parts, kind: YearKind) -> DaySet {
    let mut days = DaySet::default();
    let start = parts.week_start;
    let weeks = Weeks::of(kind, start);
    let mut mark = |from: i64| {
        for day in from..from + 7 {
            if day < kind.days() {
                days.insert(day);
            }
            if kind.weekday(day + 1) == start {
                break;
            }
        }
    };
    let has = |number: i64| parts.week_numbers.iter().any(|n| i64::from(*n) == number);
    for number in parts.week_numbers.iter().map(|n| i64::from(*n)) {
        let number = if number < 0 { number + weeks.count + 1 } else { number };
        if (1..=weeks.count).contains(&number) {
            mark(weeks.start(number));
        }
    }
    if has(1) {
        // The first days of the next year's week 1 may be the last ones of this year.
        mark(weeks.start(weeks.count + 1));
    }
    // The first days of this year may belong to the last week of the year before.
    if weeks.first > 0 && (has(-1) || has(last_week_before(kind, start, &weeks))) {
        (0..weeks.first).for_each(|day| days.insert(day));
    }
    days
}

/// Returns the number of the last week of the year before, as python-dateutil counts it.
fn last_week_before(kind: YearKind, start: u8, weeks: &Weeks) -> i64 {
    let before_days = 365 + i64::from(kind.after_leap);
    let before_jan1 = kind.weekday(-before_days);
    if (7 + start - before_jan1) % 7 >= 4 {
        52 + (before_days + i64::from((7 + before_jan1 - start) % 7)) % 7 / 4
    } else {
        // It takes the length of this year here, which makes a difference after some leap years only.
        52 + (kind.days() - weeks.first) % 7 / 4
    }
}
