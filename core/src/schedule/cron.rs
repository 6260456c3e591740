//! Cron expressions: five or six fields, names, ranges, steps, lists, `L`, `W`, `#`, `?`, `H` and the `@` words.

use super::civil;
use super::days::{DaySet, Days, YearKind};
use super::duration::parse_duration;
use super::error::{ScheduleError, quoted};
use super::times::{HOURS, Times};
use crate::hash::{Fnv, spread};

/// Longest expression in bytes: every list complete stays below it.
const EXPR_BYTES_MAX: usize = 4096;

/// The `@` words that stand for five fields.
const WORDS: [(&str, &str); 7] = [
    ("@yearly", "0 0 1 1 *"),
    ("@annually", "0 0 1 1 *"),
    ("@monthly", "0 0 1 * *"),
    ("@weekly", "0 0 * * 0"),
    ("@daily", "0 0 * * *"),
    ("@midnight", "0 0 * * *"),
    ("@hourly", "0 * * * *"),
];

/// What an expression means.
#[derive(Clone, Debug)]
pub(super) enum Cron {
    /// `@every D`: an interval in milliseconds from the Unix epoch.
    Every(u64),
    /// Days and times.
    Fields {
        /// The days.
        days: Days,
        /// The times of each day.
        times: Times,
        /// Whether the hours are fixed: such a rule follows the wall clock, any other absolute time.
        fixed_hours: bool,
        /// The fields that decide about days, for people.
        rule: DayRule,
    },
}

impl Cron {
    /// Reads an expression; `H` is a hash of `key`.
    ///
    /// # Errors
    ///
    /// When it is malformed, or when no year has a day it selects.
    pub(super) fn read(text: &str, key: &str) -> Result<Self, ScheduleError> {
        if text.len() > EXPR_BYTES_MAX {
            return Err(ScheduleError::TooBig {
                form: "cron",
                what: "the length of the expression in bytes",
                size: text.len() as u64,
                most: EXPR_BYTES_MAX as u64,
            });
        }
        let lower = text.trim().to_ascii_lowercase();
        if lower.starts_with('@') {
            return Self::read_word(&lower, text, key);
        }
        let fields: Vec<&str> = lower.split_ascii_whitespace().collect();
        match fields[..] {
            [minute, hour, day, month, weekday] => {
                Self::read_fields(["0", minute, hour, day, month, weekday], text, key)
            }
            [second, minute, hour, day, month, weekday] => {
                Self::read_fields([second, minute, hour, day, month, weekday], text, key)
            }
            _ => Err(ScheduleError::invalid(
                "cron",
                format!("expression of {} fields", fields.len()),
                text,
                "five fields (minute hour day month weekday) or six (second first), for example \"30 9 * * MON-FRI\"",
            )),
        }
    }

    fn read_word(word: &str, text: &str, key: &str) -> Result<Self, ScheduleError> {
        if let Some(duration) = word.strip_prefix("@every") {
            return parse_duration(duration).map(Cron::Every).map_err(|_| {
                ScheduleError::invalid(
                    "cron",
                    "@every",
                    duration.trim(),
                    "a duration, for example \"@every 1h30m\"",
                )
            });
        }
        match WORDS.iter().find(|(name, _)| *name == word) {
            Some((_, fields)) => Self::read(fields, key),
            None => Err(ScheduleError::invalid(
                "cron",
                "word",
                text,
                "one of @yearly, @annually, @monthly, @weekly, @daily, @midnight, @hourly, @every DURATION",
            )),
        }
    }

    fn read_fields(fields: [&str; 6], text: &str, key: &str) -> Result<Self, ScheduleError> {
        let [second, minute, hour, day, month, weekday] = fields;
        let hours = SECOND_TO_HOUR[2].read(hour, key)?;
        let times = Times {
            // Field HOUR reads at most 24 bits.
            hours: hours.bits as u32,
            minutes: SECOND_TO_HOUR[1].read(minute, key)?.bits,
            seconds: SECOND_TO_HOUR[0].read(second, key)?.bits,
        };
        let rule = DayRule {
            // At most bit 12.
            months: MONTH.read(month, key)?.bits as u16,
            month_days: MonthDays::read(day, key)?,
            weekdays: Weekdays::read(weekday, key)?,
        };
        let days = Days::new(|kind| rule.days_of(kind), Vec::new());
        if days.is_never() {
            return Err(ScheduleError::Impossible {
                form: "cron",
                rule: quoted(text),
                why: "no year has a day that satisfies all its fields, like 30 February".to_owned(),
            });
        }
        let fixed_hours = !hours.stepped && times.hours != HOURS;
        Ok(Cron::Fields {
            days,
            times,
            fixed_hours,
            rule,
        })
    }
}

/// A field of plain numbers.
struct Field {
    name: &'static str,
    least: u8,
    most: u8,
    /// The largest number that `H` chooses.
    hash_most: u8,
    /// Names of the numbers from `least` on.
    names: &'static [&'static str],
    example: &'static str,
}

const MONTHS: [&str; 12] = [
    "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
];
const WEEKDAYS: [&str; 8] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat", "sun"];

const SECOND_TO_HOUR: [Field; 3] = [
    Field {
        name: "second",
        least: 0,
        most: 59,
        hash_most: 59,
        names: &[],
        example: "0 to 59, for example 0 or */10",
    },
    Field {
        name: "minute",
        least: 0,
        most: 59,
        hash_most: 59,
        names: &[],
        example: "0 to 59, for example 30 or */5",
    },
    Field {
        name: "hour",
        least: 0,
        most: 23,
        hash_most: 23,
        names: &[],
        example: "0 to 23, for example 9 or 8-18",
    },
];
const MONTH_DAY: Field = Field {
    name: "day",
    least: 1,
    most: 31,
    // Every month has these.
    hash_most: 28,
    names: &[],
    example: "1 to 31, L, L-3, LW or 15W, for example 1,15",
};
const MONTH: Field = Field {
    name: "month",
    least: 1,
    most: 12,
    hash_most: 12,
    names: &MONTHS,
    example: "1 to 12 or JAN to DEC",
};
const WEEKDAY: Field = Field {
    name: "weekday",
    least: 0,
    most: 7,
    hash_most: 6,
    names: &WEEKDAYS,
    example: "0 to 7 (0 and 7 are Sunday) or SUN to SAT, 5L or 5#2, for example MON-FRI",
};

/// What a field of plain numbers selects.
#[derive(Clone, Copy, Default)]
struct Numbers {
    /// Bit n is number n.
    bits: u64,
    /// Whether it has a `*`, a `?` or a stepped `H`, and so means "every so often" rather than given values.
    stepped: bool,
}

impl Field {
    fn invalid(&self, item: &str) -> ScheduleError {
        ScheduleError::invalid("cron", self.name, item, self.example)
    }

    /// Reads a list.
    fn read(&self, text: &str, key: &str) -> Result<Numbers, ScheduleError> {
        let mut numbers = Numbers::default();
        for item in text.split(',') {
            let read = self.read_item(item, key)?;
            numbers.bits |= read.bits;
            numbers.stepped |= read.stepped;
        }
        Ok(numbers)
    }

    /// Reads `*`, `?`, `n`, `a-b`, `H`, `H(a-b)`, each with an optional `/step`.
    fn read_item(&self, item: &str, key: &str) -> Result<Numbers, ScheduleError> {
        let bad = || self.invalid(item);
        let (range, step) = match item.split_once('/') {
            Some((range, step)) => (range, Some(small_number(step).filter(|s| *s > 0).ok_or_else(bad)?)),
            None => (item, None),
        };
        if let Some(bounds) = range.strip_prefix('h') {
            return self.read_hash(bounds, step, key).ok_or_else(bad);
        }
        let wildcard = matches!(range, "*" | "?");
        // Both ends of Sunday are one day; without this a wildcard would step over it twice.
        let most = if self.most == 7 { 6 } else { self.most };
        let (first, last) = if wildcard {
            (self.least, most)
        } else if let Some((first, last)) = range.split_once('-') {
            (self.number(first).ok_or_else(bad)?, self.number(last).ok_or_else(bad)?)
        } else {
            let only = self.number(range).ok_or_else(bad)?;
            (only, if step.is_some() { most.max(only) } else { only })
        };
        let bits = if first <= last {
            stepped_bits(first, last, step.unwrap_or(1))
        } else if self.most == 7 && step.is_none() {
            // FRI-MON goes over the end of the week, as everybody expects.
            stepped_bits(first, 6, 1) | stepped_bits(0, last, 1)
        } else {
            return Err(bad());
        };
        Ok(Numbers {
            bits,
            stepped: wildcard,
        })
    }

    /// Reads what follows an `H`.
    fn read_hash(&self, bounds: &str, step: Option<u8>, key: &str) -> Option<Numbers> {
        let (first, last) = match bounds {
            "" => (self.least, self.hash_most),
            _ => {
                let (first, last) = bounds.strip_prefix('(')?.strip_suffix(')')?.split_once('-')?;
                (self.number(first)?, self.number(last)?)
            }
        };
        let size = last.checked_sub(first)? + 1;
        let hash = |among: u8| (stable_hash(key, self.name) % u64::from(among)) as u8;
        Some(match step {
            None => Numbers {
                bits: 1 << (first + hash(size)),
                stepped: false,
            },
            Some(step) => Numbers {
                bits: stepped_bits(first + hash(step.min(size)), last, step),
                stepped: bounds.is_empty(),
            },
        })
    }

    /// Reads a number or a name.
    fn number(&self, text: &str) -> Option<u8> {
        if let Some(at) = self.names.iter().position(|name| *name == text) {
            // At most twelve names.
            return Some(self.least + at as u8);
        }
        small_number(text).filter(|n| (self.least..=self.most).contains(n))
    }
}

/// Whether a field leaves all days open, and so does not widen what the other day field selects. As most schedulers have it, and other
/// than in Vixie's cron, a step restricts: `*/2` is every odd day, whatever the weekday field says besides.
fn is_wildcard(text: &str) -> bool {
    matches!(text, "*" | "?" | "*/1" | "?/1")
}

/// Reads a number of at most two digits.
fn small_number(text: &str) -> Option<u8> {
    ((1..=2).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit()))
        .then(|| text.parse().ok())
        .flatten()
}

fn stepped_bits(first: u8, last: u8, step: u8) -> u64 {
    (first..=last)
        .step_by(usize::from(step))
        .fold(0, |bits, n| bits | 1 << n)
}

/// Hashes a task's name for a field (FNV-1a, then a mixer). Part of the format: a change would move every `H` task.
fn stable_hash(key: &str, field: &str) -> u64 {
    let mut hash = Fnv::default();
    for part in [field.as_bytes(), &[0], key.as_bytes()] {
        hash.add(part);
    }
    spread(hash.finish())
}

/// The day-of-month field.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct MonthDays {
    /// Leaves all days open.
    pub(super) wildcard: bool,
    /// Bit d is day d.
    pub(super) days: u32,
    /// Bit n is the n-th day before the last one: `L` is bit 0.
    pub(super) back: u32,
    /// Bit d is the weekday nearest to day d.
    pub(super) nearest: u32,
    /// The last weekday, Monday to Friday.
    pub(super) last_workday: bool,
}

impl MonthDays {
    fn read(text: &str, key: &str) -> Result<Self, ScheduleError> {
        let mut field = Self {
            wildcard: is_wildcard(text),
            ..Self::default()
        };
        for item in text.split(',') {
            let bad = || MONTH_DAY.invalid(item);
            if matches!(item, "lw" | "wl") {
                field.last_workday = true;
            } else if let Some(back) = item.strip_prefix('l') {
                let back = match back.strip_prefix('-') {
                    Some(days) => small_number(days).filter(|n| *n <= 30).ok_or_else(bad)?,
                    None if back.is_empty() => 0,
                    None => return Err(bad()),
                };
                field.back |= 1 << back;
            } else if let Some(day) = item.strip_suffix('w') {
                field.nearest |= 1 << MONTH_DAY.number(day).ok_or_else(bad)?;
            } else {
                // At most bit 31.
                field.days |= MONTH_DAY.read_item(item, key)?.bits as u32;
            }
        }
        Ok(field)
    }

    /// Whether a day, counted from 1 in a month of `length` days, is selected; `weekday_of` tells a day's weekday, Monday being 0.
    fn selects(&self, day: i64, length: i64, weekday_of: impl Fn(i64) -> u8) -> bool {
        let workday = |day: i64| weekday_of(day) < 5;
        let nearest = |wanted: i64| match weekday_of(wanted) {
            5 if wanted > 1 => wanted - 1,
            5 => wanted + 2,
            6 if wanted < length => wanted + 1,
            6 => wanted - 2,
            _ => wanted,
        };
        self.days & (1 << day) != 0
            || self.back & (1 << (length - day)) != 0
            || (self.nearest != 0
                && (1..=length).any(|wanted| self.nearest & (1 << wanted) != 0 && nearest(wanted) == day))
            || (self.last_workday && workday(day) && (day + 1..=length).all(|later| !workday(later)))
    }
}

/// The weekday field.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Weekdays {
    /// Leaves all days open.
    pub(super) wildcard: bool,
    /// Bit w is weekday w, Monday being 0.
    pub(super) days: u8,
    /// Likewise, the last one of the month.
    pub(super) last: u8,
    /// For each weekday, bit n is the n-th one of the month.
    pub(super) nth: [u8; 7],
}

impl Weekdays {
    fn read(text: &str, key: &str) -> Result<Self, ScheduleError> {
        let mut field = Self {
            wildcard: is_wildcard(text),
            ..Self::default()
        };
        // Cron counts from Sunday, we from Monday.
        let ours = |cron: u8| (cron + 6) % 7;
        for item in text.split(',') {
            let bad = || WEEKDAY.invalid(item);
            if let Some((day, nth)) = item.split_once('#') {
                let day = WEEKDAY.number(day).ok_or_else(bad)?;
                let nth = small_number(nth).filter(|n| (1..=5).contains(n)).ok_or_else(bad)?;
                field.nth[usize::from(ours(day))] |= 1 << nth;
            } else if let Some(day) = item.strip_suffix('l') {
                field.last |= 1 << ours(WEEKDAY.number(day).ok_or_else(bad)?);
            } else {
                let bits = WEEKDAY.read_item(item, key)?.bits;
                (0..=7u8)
                    .filter(|day| bits & (1 << day) != 0)
                    .for_each(|day| field.days |= 1 << ours(day));
            }
        }
        Ok(field)
    }

    /// Whether a day, counted from 1 in a month of `length` days, that is this weekday, is selected.
    fn selects(&self, day: i64, length: i64, weekday: u8) -> bool {
        self.days & (1 << weekday) != 0
            || (self.last & (1 << weekday) != 0 && day + 7 > length)
            || self.nth[usize::from(weekday)] & (1 << ((day - 1) / 7 + 1)) != 0
    }
}

/// The three fields that decide about days.
#[derive(Clone, Copy, Debug)]
pub(super) struct DayRule {
    /// Bit m is month m.
    pub(super) months: u16,
    pub(super) month_days: MonthDays,
    pub(super) weekdays: Weekdays,
}

impl DayRule {
    /// Returns the selected days of a year. As everywhere in cron, when both day fields are restricted either is enough.
    fn days_of(&self, kind: YearKind) -> DaySet {
        let starts = civil::month_starts(kind.leap);
        let both = self.month_days.wildcard || self.weekdays.wildcard;
        let mut days = DaySet::default();
        for month in (1..=12usize).filter(|month| self.months & (1 << month) != 0) {
            let (first, length) = (
                i64::from(starts[month - 1]),
                i64::from(starts[month] - starts[month - 1]),
            );
            for day in 1..=length {
                let weekday_of = |day: i64| kind.weekday(first + day - 1);
                let by_day = self.month_days.selects(day, length, weekday_of);
                let by_weekday = self.weekdays.selects(day, length, weekday_of(day));
                if if both {
                    by_day && by_weekday
                } else {
                    by_day || by_weekday
                } {
                    days.insert(first + day - 1);
                }
            }
        }
        days
    }
}
