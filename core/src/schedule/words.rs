//! Numbers, days and times of day in words, for [`explain`](super::explain).

use super::civil::{self, DAY_S};
use super::times::{HOURS, SIXTY};

/// Names of the weekdays, from Monday.
pub(super) const WEEKDAYS: [&str; 7] = [
    "Monday",
    "Tuesday",
    "Wednesday",
    "Thursday",
    "Friday",
    "Saturday",
    "Sunday",
];
/// Names of the months, from January.
pub(super) const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

/// Monday to Friday.
const WORKDAYS: u8 = 0b1_1111;
/// Saturday and Sunday.
const WEEKEND: u8 = 0b110_0000;
/// More times of day than these are not listed one by one.
const TIMES_MAX: u32 = 6;

/// Writes `a`, `a and b`, `a, b and c`.
pub(super) fn list(items: &[String], last: &str) -> String {
    match items {
        [] => String::new(),
        [only] => only.clone(),
        [first @ .., end] => format!("{} {last} {end}", first.join(", ")),
    }
}

/// Writes `1st`, `2nd`, `11th`; from the end `last`, `2nd last`.
pub(super) fn ordinal(n: i64) -> String {
    if n == -1 {
        return "last".to_owned();
    }
    let size = n.unsigned_abs();
    let ending = match (size % 10, size % 100) {
        (_, 11..=13) => "th",
        (1, _) => "st",
        (2, _) => "nd",
        (3, _) => "rd",
        _ => "th",
    };
    format!("{size}{ending}{}", if n < 0 { " last" } else { "" })
}

/// Writes the numbers whose bits are set, three and more in a row as a range.
pub(super) fn numbers(bits: u64, name: impl Fn(u32) -> String) -> String {
    let mut items = Vec::new();
    let mut rest = bits;
    while rest != 0 {
        let first = rest.trailing_zeros();
        let length = (rest >> first).trailing_ones();
        if length >= 3 {
            items.push(format!("{} to {}", name(first), name(first + length - 1)));
        } else {
            items.extend((first..first + length).map(&name));
        }
        let end = first + length;
        rest = if end > 63 { 0 } else { rest >> end << end };
    }
    list(&items, "and")
}

/// Writes `minute 5` or `minutes 0 and 30`.
pub(super) fn counted(unit: &str, bits: u64) -> String {
    let plural = if bits.count_ones() == 1 { "" } else { "s" };
    format!("{unit}{plural} {}", numbers(bits, |n| n.to_string()))
}

/// Writes weekdays of a mask that begins with Monday.
pub(super) fn weekdays(mask: u8) -> String {
    match mask {
        WORKDAYS => "weekdays".to_owned(),
        WEEKEND => "weekends".to_owned(),
        _ => numbers(u64::from(mask), |day| WEEKDAYS[day as usize].to_owned()),
    }
}

/// Writes months of a mask whose bit 1 is January.
pub(super) fn months(mask: u16) -> String {
    numbers(u64::from(mask), |month| MONTHS[month as usize - 1].to_owned())
}

/// Writes `every minute` or `every 5 minutes`.
pub(super) fn every(interval: i64, unit: &str) -> String {
    match interval {
        1 => format!("every {unit}"),
        n => format!("every {n} {unit}s"),
    }
}

/// Returns the step of a mask of 0 to 59 that has every so-many-th number and divides the hour.
fn step(mask: u64) -> Option<u32> {
    (1..=30).find(|n| 60 % n == 0 && (0..60).step_by(*n as usize).fold(0u64, |bits, at| bits | 1 << at) == mask)
}

/// Writes times of day without a preposition for the day: `at 02:30`, `every 15 minutes in hours 9 to 17`.
pub(super) fn times(hours: u32, minutes: u64, seconds: u64) -> String {
    if hours == HOURS {
        let within = within_hours(minutes, seconds);
        return if within.starts_with("every") {
            within
        } else {
            format!("every hour {within}")
        };
    }
    if hours.count_ones() * minutes.count_ones() * seconds.count_ones() <= TIMES_MAX {
        let each = |bits: u64| (0..60u32).filter(move |n| bits >> n & 1 == 1);
        let mut times = Vec::new();
        for hour in each(u64::from(hours)) {
            for minute in each(minutes) {
                times.extend(each(seconds).map(|second| match seconds {
                    1 => format!("{hour:02}:{minute:02}"),
                    _ => format!("{hour:02}:{minute:02}:{second:02}"),
                }));
            }
        }
        return format!("at {}", list(&times, "and"));
    }
    format!(
        "{} in {}",
        within_hours(minutes, seconds),
        counted("hour", u64::from(hours))
    )
}

/// Writes what happens in each hour.
fn within_hours(minutes: u64, seconds: u64) -> String {
    let often = |mask: u64, unit: &str| step(mask).map(|n| every(i64::from(n), unit));
    let minute = || counted("minute", minutes);
    match (often(minutes, "minute"), often(seconds, "second")) {
        (_, Some(second)) if minutes == SIXTY => second,
        (_, Some(second)) => format!("{second} in {}", minute()),
        (Some(often), None) if seconds == 1 => often,
        (Some(often), None) => format!("{often} at {}", counted("second", seconds)),
        (None, None) if seconds == 1 => format!("at {}", minute()),
        (None, None) => format!("at {}, {}", minute(), counted("second", seconds)),
    }
}

/// Writes the date of a local second.
pub(super) fn date(local: i64) -> String {
    let day = local.div_euclid(DAY_S);
    let year = civil::year_of(day);
    let (month, day) = civil::month_and_day(civil::is_leap(year), day - civil::year_start(year));
    format!("{year:04}-{month:02}-{day:02}")
}

/// Writes the time of day of a local second, with seconds where there are any.
pub(super) fn time(local: i64) -> String {
    let second = local.rem_euclid(DAY_S);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    match second {
        0 => format!("{hour:02}:{minute:02}"),
        _ => format!("{hour:02}:{minute:02}:{second:02}"),
    }
}
