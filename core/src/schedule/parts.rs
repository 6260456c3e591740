//! The text of an RRULE, read into its parts.

use super::civil::{self, DAY_S};
use super::error::ScheduleError;

/// Longest text of one rule in bytes: every list complete stays below it.
pub(super) const RULE_BYTES_MAX: usize = 4096;
/// Largest INTERVAL: 68 years of seconds.
const INTERVAL_MAX: u64 = i32::MAX as u64;
/// Largest COUNT.
const COUNT_MAX: u64 = u32::MAX as u64;
/// Furthest offset to Easter, in days.
const EASTER_OFFSET_MAX: i64 = 366;

/// FREQ, from coarse to fine.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Freq {
    /// FREQ=YEARLY
    Yearly,
    /// FREQ=MONTHLY
    Monthly,
    /// FREQ=WEEKLY
    Weekly,
    /// FREQ=DAILY
    Daily,
    /// FREQ=HOURLY
    Hourly,
    /// FREQ=MINUTELY
    Minutely,
    /// FREQ=SECONDLY
    Secondly,
}

const FREQS: [(&str, Freq); 7] = [
    ("YEARLY", Freq::Yearly),
    ("MONTHLY", Freq::Monthly),
    ("WEEKLY", Freq::Weekly),
    ("DAILY", Freq::Daily),
    ("HOURLY", Freq::Hourly),
    ("MINUTELY", Freq::Minutely),
    ("SECONDLY", Freq::Secondly),
];

/// The two letters of each weekday, from Monday.
pub(super) const WEEKDAYS: [&str; 7] = ["MO", "TU", "WE", "TH", "FR", "SA", "SU"];

/// UNTIL, as it is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Until {
    /// With `Z`: an instant, in seconds.
    Instant(i64),
    /// Without: a local second of the rule's zone. A date alone means its midnight, as in python-dateutil.
    Local(i64),
}

/// What an RRULE says. A list that is not given is empty, or a mask of 0.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Parts {
    pub(super) freq: Freq,
    pub(super) interval: i64,
    pub(super) count: Option<u64>,
    pub(super) until: Option<Until>,
    /// WKST, Monday being 0.
    pub(super) week_start: u8,
    /// Bit m is month m, from 1.
    pub(super) months: u16,
    /// Bit d is day d of the month, from 1.
    pub(super) month_days: u32,
    /// Bit d is the d-th last day of the month, from 1.
    pub(super) month_days_back: u32,
    pub(super) year_days: Vec<i16>,
    pub(super) week_numbers: Vec<i16>,
    /// Bit w is weekday w, Monday being 0.
    pub(super) weekdays: u8,
    /// Weekdays with an ordinal, as (ordinal, weekday).
    pub(super) nth_weekdays: Vec<(i16, u8)>,
    pub(super) easter: Vec<i16>,
    pub(super) hours: u32,
    pub(super) minutes: u64,
    pub(super) seconds: u64,
    pub(super) positions: Vec<i16>,
}

impl Parts {
    /// Reads a rule such as `FREQ=DAILY;BYHOUR=9`; the prefix `RRULE:` is optional, letters may be small.
    ///
    /// # Errors
    ///
    /// When a part is unknown, given twice, malformed or out of range, or when parts contradict each other.
    pub(super) fn read(text: &str) -> Result<Self, ScheduleError> {
        if text.len() > RULE_BYTES_MAX {
            return Err(ScheduleError::TooBig {
                form: "rrule",
                what: "the length of a rule in bytes",
                size: text.len() as u64,
                most: RULE_BYTES_MAX as u64,
            });
        }
        let upper = text.trim().to_ascii_uppercase();
        let body = upper.strip_prefix("RRULE:").unwrap_or(&upper).trim_end_matches(';');
        let mut pairs: Vec<(&str, &str)> = Vec::new();
        for piece in body.split(';') {
            let (name, value) = match piece.split_once('=') {
                Some((name, value)) => (canonical(name.trim()), value.trim()),
                None => return Err(invalid("part", piece, "NAME=VALUE, for example FREQ=DAILY")),
            };
            if pairs.iter().any(|(seen, _)| *seen == name) {
                return Err(contradiction(
                    format!("{name} is given twice"),
                    "give all its values in one list",
                ));
            }
            pairs.push((name, value));
        }
        let Some((_, freq)) = pairs.iter().find(|(name, _)| *name == "FREQ") else {
            return Err(ScheduleError::Missing {
                form: "rrule",
                part: "FREQ",
                expected: "one of YEARLY, MONTHLY, WEEKLY, DAILY, HOURLY, MINUTELY, SECONDLY, for example FREQ=DAILY",
            });
        };
        let mut parts = Self::with_freq(read_freq(freq)?);
        for (name, value) in pairs {
            parts.set(name, value)?;
        }
        parts.check()
    }

    /// A rule of nothing but FREQ.
    pub(super) fn with_freq(freq: Freq) -> Self {
        Self {
            freq,
            interval: 1,
            count: None,
            until: None,
            week_start: 0,
            months: 0,
            month_days: 0,
            month_days_back: 0,
            year_days: Vec::new(),
            week_numbers: Vec::new(),
            weekdays: 0,
            nth_weekdays: Vec::new(),
            easter: Vec::new(),
            hours: 0,
            minutes: 0,
            seconds: 0,
            positions: Vec::new(),
        }
    }

    fn set(&mut self, name: &str, value: &str) -> Result<(), ScheduleError> {
        match name {
            "FREQ" => {}
            "INTERVAL" => self.interval = read_number(name, value, INTERVAL_MAX)? as i64,
            "COUNT" => self.count = Some(read_number(name, value, COUNT_MAX)?),
            "UNTIL" => self.until = Some(read_until(value)?),
            "WKST" => self.week_start = read_weekday(name, value)?,
            "BYMONTH" => self.months = read_mask(name, value, 1, 12)? as u16,
            "BYMONTHDAY" => {
                for day in read_list(name, value, 31, false)? {
                    let mask = if day > 0 {
                        &mut self.month_days
                    } else {
                        &mut self.month_days_back
                    };
                    *mask |= 1 << day.unsigned_abs();
                }
            }
            "BYYEARDAY" => self.year_days = read_list(name, value, 366, false)?,
            "BYWEEKNO" => self.week_numbers = read_list(name, value, 53, false)?,
            "BYEASTER" => self.easter = read_list(name, value, EASTER_OFFSET_MAX, true)?,
            "BYSETPOS" => self.positions = read_list(name, value, 366, false)?,
            "BYDAY" => self.set_weekdays(value)?,
            "BYHOUR" => self.hours = read_mask(name, value, 0, 23)? as u32,
            "BYMINUTE" => self.minutes = read_mask(name, value, 0, 59)?,
            "BYSECOND" => self.seconds = read_mask(name, value, 0, 59)?,
            _ => {
                return Err(invalid(
                    "part",
                    name,
                    "one of FREQ, INTERVAL, COUNT, UNTIL, WKST, BYMONTH, BYMONTHDAY, BYYEARDAY, BYWEEKNO, BYDAY, \
                     BYHOUR, BYMINUTE, BYSECOND, BYSETPOS, BYEASTER",
                ));
            }
        }
        Ok(())
    }

    fn set_weekdays(&mut self, value: &str) -> Result<(), ScheduleError> {
        for item in value.split(',').map(str::trim) {
            let split = item.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(item.len());
            let (ordinal, day) = item.split_at(split);
            let weekday = read_weekday("BYDAY", day)
                .map_err(|_| invalid("BYDAY", item, "weekdays such as MO or, monthly and yearly, 2MO or -1FR"))?;
            if ordinal.is_empty() {
                self.weekdays |= 1 << weekday;
                continue;
            }
            let nth = (read_signed(ordinal).filter(|n| *n != 0 && n.abs() <= 53)).ok_or_else(|| {
                invalid(
                    "BYDAY",
                    item,
                    "an ordinal of -53 to 53 without 0, for example 2MO or -1FR",
                )
            })?;
            if self.freq > Freq::Monthly {
                return Err(contradiction(
                    format!("BYDAY={item} has an ordinal, which only MONTHLY and YEARLY rules count"),
                    format!("write BYDAY={day}, or FREQ=MONTHLY"),
                ));
            }
            // At most 53 in size.
            let nth = (nth as i16, weekday);
            if !self.nth_weekdays.contains(&nth) {
                self.nth_weekdays.push(nth);
            }
        }
        Ok(())
    }

    fn check(self) -> Result<Self, ScheduleError> {
        if self.count.is_some() && self.until.is_some() {
            return Err(contradiction(
                "COUNT and UNTIL exclude each other".to_owned(),
                "give one of them",
            ));
        }
        Ok(self)
    }
}

/// Returns the name under which a part is known.
fn canonical(name: &str) -> &str {
    if name == "BYWEEKDAY" { "BYDAY" } else { name }
}

fn invalid(part: &str, value: &str, expected: impl Into<String>) -> ScheduleError {
    ScheduleError::invalid("rrule", part, value, expected)
}

fn contradiction(what: String, instead: impl Into<String>) -> ScheduleError {
    ScheduleError::Contradiction {
        form: "rrule",
        what,
        instead: instead.into(),
    }
}

fn read_freq(value: &str) -> Result<Freq, ScheduleError> {
    FREQS
        .iter()
        .find(|(name, _)| *name == value)
        .map(|(_, freq)| *freq)
        .ok_or_else(|| {
            invalid(
                "FREQ",
                value,
                "one of YEARLY, MONTHLY, WEEKLY, DAILY, HOURLY, MINUTELY, SECONDLY",
            )
        })
}

fn read_weekday(part: &str, value: &str) -> Result<u8, ScheduleError> {
    match WEEKDAYS.iter().position(|name| *name == value) {
        // Below 7.
        Some(weekday) => Ok(weekday as u8),
        None => Err(invalid(part, value, "one of MO, TU, WE, TH, FR, SA, SU")),
    }
}

/// Reads a number of 1 to `most`.
fn read_number(part: &str, value: &str, most: u64) -> Result<u64, ScheduleError> {
    let number = value
        .bytes()
        .all(|b| b.is_ascii_digit())
        .then(|| value.parse::<u64>().ok())
        .flatten();
    number.filter(|n| (1..=most).contains(n)).ok_or_else(|| {
        invalid(
            part,
            value,
            format!("a whole number of 1 to {most}, for example {part}=2"),
        )
    })
}

/// Reads a whole number with an optional sign.
fn read_signed(text: &str) -> Option<i64> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    let plain = !digits.is_empty() && digits.len() <= 6 && digits.bytes().all(|b| b.is_ascii_digit());
    plain.then(|| text.parse().ok()).flatten()
}

/// Reads a list of numbers of `-most` to `most`, each kept once.
fn read_list(part: &str, value: &str, most: i64, zero: bool) -> Result<Vec<i16>, ScheduleError> {
    let mut list = Vec::new();
    for item in value.split(',').map(str::trim) {
        let number = read_signed(item)
            .filter(|n| n.abs() <= most && (zero || *n != 0))
            .ok_or_else(|| {
                let without = if zero { "" } else { " without 0" };
                invalid(
                    part,
                    item,
                    format!("numbers of -{most} to {most}{without}, for example {part}=1,-1"),
                )
            })?;
        // At most 366 in size.
        list.push(number as i16);
    }
    list.sort_unstable();
    list.dedup();
    Ok(list)
}

/// Reads a list of numbers of `least` to `most`, at most 63, into a mask.
fn read_mask(part: &str, value: &str, least: i64, most: i64) -> Result<u64, ScheduleError> {
    let mut mask = 0u64;
    for item in value.split(',').map(str::trim) {
        let number = read_signed(item)
            .filter(|n| (least..=most).contains(n))
            .ok_or_else(|| {
                invalid(
                    part,
                    item,
                    format!("numbers of {least} to {most}, for example {part}={least},{most}"),
                )
            })?;
        mask |= 1 << number;
    }
    Ok(mask)
}

fn read_until(value: &str) -> Result<Until, ScheduleError> {
    let bad = || {
        invalid(
            "UNTIL",
            value,
            "20261231T235959Z, 20261231T235959 (local time) or 20261231 (its midnight)",
        )
    };
    let (text, utc) = match value.strip_suffix('Z') {
        Some(text) => (text, true),
        None => (value, false),
    };
    if !text.bytes().all(|b| b.is_ascii_digit() || b == b'T') {
        return Err(bad());
    }
    let number = |from: usize, to: usize| text.get(from..to).and_then(|digits| digits.parse::<u8>().ok());
    let date = || {
        let year = text.get(..4)?.parse::<i64>().ok()?;
        civil::day_of(year, number(4, 6)?, number(6, 8)?)
    };
    let time = || match text.len() {
        8 if !utc => Some(0),
        15 if text.as_bytes()[8] == b'T' => {
            let (hour, minute, second) = (number(9, 11)?, number(11, 13)?, number(13, 15)?);
            (hour < 24 && minute < 60 && second < 60)
                .then(|| i64::from(hour) * 3600 + i64::from(minute) * 60 + i64::from(second))
        }
        _ => None,
    };
    let local = date()
        .zip(time())
        .map(|(day, second)| day * DAY_S + second)
        .ok_or_else(bad)?;
    Ok(if utc {
        Until::Instant(local)
    } else {
        Until::Local(local)
    })
}
