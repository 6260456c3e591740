//! What a schedule means, in words for people.
//!
//! Each part is said by itself and in the order "how often, at what time, on which days, which of them, until when". A rule of many
//! parts reads like a list then: longer than a person would say it, but never other than what the engine does.

use super::civil::{self, DAY_S};
use super::cron::{Cron, DayRule};
use super::error::ScheduleError;
use super::parts::{Freq, Parts, Until};
use super::times::{HOURS, SIXTY};
use super::words::{self, counted, every, list, ordinal};
use super::zone::Zone;
use super::{Recurrence, Schedule, Zones, format_duration, seconds};
use crate::task::Ending;
use crate::time::Timestamp;

/// More dates than these are counted, not listed.
const DATES_SHOWN: usize = 3;

/// Says in one line what a schedule means.
///
/// `hash_key` is the task's name, on which `H` in a cron expression depends.
///
/// # Errors
///
/// When the schedule does not compile: only what can run is explained.
pub fn explain(schedule: &Schedule, hash_key: &str, zones: &dyn Zones) -> Result<String, ScheduleError> {
    Recurrence::compile(schedule, hash_key, zones)?;
    Ok(match schedule {
        Schedule::Now => "once, at once".to_owned(),
        Schedule::At(at) => format!("once, at {}", instant(*at)),
        Schedule::In { delay_ms } => format!("once, {} after it is accepted", format_duration(*delay_ms)),
        Schedule::Manual => "only when triggered".to_owned(),
        Schedule::After { parents, on } => {
            let parents: Vec<String> = parents.iter().map(|parent| format!("task {parent}")).collect();
            let how = match on {
                Ending::Success => "have succeeded",
                Ending::Failure => "have failed",
                Ending::Any => "have ended",
            };
            format!("once, when all of these {how}: {}", parents.join(", "))
        }
        Schedule::Before { event, before_ms } => {
            format!("once, {} before {}", format_duration(*before_ms), instant(*event))
        }
        Schedule::Every { every_ms, anchor } => interval(*every_ms, *anchor),
        Schedule::Cron { expr, zone, .. } => match Cron::read(expr, hash_key)? {
            Cron::Every(every_ms) => interval(every_ms, Timestamp::EPOCH),
            Cron::Fields { rule, times, .. } => {
                let when = words::times(times.hours, times.minutes, times.seconds);
                let (days, months) = cron_days(&rule);
                let daily = if days.is_empty() && when.starts_with("at") {
                    "every day "
                } else {
                    ""
                };
                format!("{daily}{when}{days}{months}, {zone}")
            }
        },
        Schedule::Rrule {
            rules,
            dtstart,
            rdates,
            exdates,
            zone: name,
            ..
        } => {
            let zone = Zone::find(name, zones)?;
            let start = seconds(*dtstart);
            let local = start + zone.offset_at(start);
            let each: Result<Vec<String>, ScheduleError> = rules
                .iter()
                .map(|rule| Ok(rrule(&Parts::read(rule)?, local, *dtstart)))
                .collect();
            let mut text = each?.join("; and ");
            text.push_str(&dates("and also", rdates));
            text.push_str(&dates("but not", exdates));
            format!("{text}, {name}")
        }
    })
}

/// Writes an instant without the zeros that most have.
fn instant(at: Timestamp) -> String {
    at.to_string().replace(".000Z", "Z")
}

fn interval(every_ms: u64, anchor: Timestamp) -> String {
    format!("every {}, counted from {}", format_duration(every_ms), instant(anchor))
}

fn dates(how: &str, dates: &[Timestamp]) -> String {
    match dates.len() {
        0 => String::new(),
        1..=DATES_SHOWN => {
            let shown: Vec<String> = dates.iter().map(|date| instant(*date)).collect();
            format!(", {how} at {}", list(&shown, "and"))
        }
        many => format!(", {how} at {many} given instants"),
    }
}

/// Writes the day fields and the month field of cron; empty when they leave all open.
fn cron_days(rule: &DayRule) -> (String, String) {
    let mut by_day = Vec::new();
    let days = &rule.month_days;
    if days.days != 0 {
        by_day.push(format!("{} of the month", counted("day", u64::from(days.days))));
    }
    for back in (0..31).filter(|n| days.back >> n & 1 == 1) {
        by_day.push(match back {
            0 => "the last day of the month".to_owned(),
            1 => "the day before the last day of the month".to_owned(),
            n => format!("{n} days before the last day of the month"),
        });
    }
    for day in (1..32).filter(|n| days.nearest >> n & 1 == 1) {
        by_day.push(format!("the working day nearest to day {day} of the month"));
    }
    if days.last_workday {
        by_day.push("the last working day of the month".to_owned());
    }
    let mut by_weekday = Vec::new();
    let weekdays = &rule.weekdays;
    if weekdays.days != 0 {
        by_weekday.push(words::weekdays(weekdays.days));
    }
    for (number, name) in words::WEEKDAYS.iter().enumerate() {
        for nth in (1..=5).filter(|n| weekdays.nth[number] >> n & 1 == 1) {
            by_weekday.push(format!("the {} {name} of the month", ordinal(nth)));
        }
        if weekdays.last >> number & 1 == 1 {
            by_weekday.push(format!("the last {name} of the month"));
        }
    }
    let either = match (days.wildcard, weekdays.wildcard) {
        (true, true) => Vec::new(),
        (false, true) => by_day,
        (true, false) => by_weekday,
        // Either is enough.
        (false, false) => [by_day, by_weekday].concat(),
    };
    let on = if either.is_empty() {
        String::new()
    } else {
        format!(" on {}", list(&either, "or"))
    };
    let months = match rule.months {
        EVERY_MONTH => String::new(),
        some => format!(" in {}", words::months(some)),
    };
    (on, months)
}

/// Bits 1 to 12.
const EVERY_MONTH: u16 = 0b1_1111_1111_1110;

/// Writes one RRULE; `local` is what the clock shows at its start.
fn rrule(parts: &Parts, local: i64, dtstart: Timestamp) -> String {
    let (mut text, implied) = match parts.freq {
        Freq::Hourly | Freq::Minutely | Freq::Secondly => absolute(parts),
        _ => (on_the_wall(parts, local), false),
    };
    for (number, filter) in day_filters(parts, local).into_iter().enumerate() {
        let only = if number == 0 { "" } else { "and only " };
        text.push_str(&format!(" {only}{filter}"));
    }
    if !parts.positions.is_empty() {
        let positions: Vec<String> = parts.positions.iter().map(|n| ordinal(i64::from(*n))).collect();
        let period = unit(parts.freq);
        text.push_str(&format!(
            ", of these the {} in each {period}",
            list(&positions, "and the")
        ));
    }
    if parts.interval > 1 || implied {
        text.push_str(&format!(", counted from {}", instant(dtstart)));
    }
    if parts.interval > 1 && parts.freq == Freq::Weekly {
        let first = words::WEEKDAYS[usize::from(parts.week_start)];
        text.push_str(&format!(" in weeks that begin on {first}"));
    }
    if let Some(count) = parts.count {
        text.push_str(&match count {
            1 => ", once".to_owned(),
            n => format!(", {n} times in all"),
        });
    }
    match parts.until {
        Some(Until::Instant(at)) => {
            text.push_str(&format!(", until {}", instant(Timestamp::from_millis(at * 1000))));
        }
        Some(Until::Local(at)) => {
            text.push_str(&format!(", until {} {} local time", words::date(at), words::time(at)));
        }
        None => {}
    }
    text
}

fn unit(freq: Freq) -> &'static str {
    match freq {
        Freq::Yearly => "year",
        Freq::Monthly => "month",
        Freq::Weekly => "week",
        Freq::Daily => "day",
        Freq::Hourly => "hour",
        Freq::Minutely => "minute",
        Freq::Secondly => "second",
    }
}

/// Writes how often and at what time a rule on the wall clock runs.
fn on_the_wall(parts: &Parts, local: i64) -> String {
    let second = local.rem_euclid(DAY_S);
    let or_start = |mask: u64, value: i64| if mask != 0 { mask } else { 1 << value };
    let times = words::times(
        // The mask has 24 bits.
        or_start(u64::from(parts.hours), second / 3600) as u32,
        or_start(parts.minutes, second / 60 % 60),
        or_start(parts.seconds, second % 60),
    );
    let comma = if times.starts_with("every") { "," } else { "" };
    format!("{}{comma} {times}", every(parts.interval, unit(parts.freq)))
}

/// Writes how often a rule on absolute time runs, and whether a finer part of its times comes from where it begins.
fn absolute(parts: &Parts) -> (String, bool) {
    let mut text = every(parts.interval, unit(parts.freq));
    let (minutes, seconds) = (parts.minutes != 0, parts.seconds != 0);
    let at = |unit: &str, mask: u64| counted(unit, mask);
    let implied = match parts.freq {
        Freq::Hourly => {
            let given = [(minutes, "minute", parts.minutes), (seconds, "second", parts.seconds)];
            let given: Vec<String> = given
                .iter()
                .filter(|(given, ..)| *given)
                .map(|(_, unit, mask)| at(unit, *mask))
                .collect();
            if !given.is_empty() {
                text.push_str(&format!(" at {}", given.join(", ")));
            }
            !minutes || !seconds
        }
        Freq::Minutely => {
            if seconds {
                text.push_str(&format!(" at {}", at("second", parts.seconds)));
            }
            !seconds
        }
        _ => false,
    };
    if parts.freq == Freq::Secondly && seconds && parts.seconds != SIXTY {
        text.push_str(&format!(", only at {}", at("second", parts.seconds)));
    }
    if parts.freq != Freq::Hourly && minutes && parts.minutes != SIXTY {
        text.push_str(&format!(", only in {}", at("minute", parts.minutes)));
    }
    if parts.hours != 0 && parts.hours != HOURS {
        text.push_str(&format!(", only in {}", at("hour", u64::from(parts.hours))));
    }
    (text, implied)
}

/// Writes what a day must satisfy, one entry for each part; a day must satisfy all of them.
fn day_filters(parts: &Parts, local: i64) -> Vec<String> {
    let mut filters = Vec::new();
    let signed = |numbers: &[i16]| -> Vec<String> { numbers.iter().map(|n| ordinal(i64::from(*n))).collect() };
    if parts.weekdays != 0 || !parts.nth_weekdays.is_empty() {
        filters.push(weekday_filter(parts));
    }
    if parts.month_days != 0 || parts.month_days_back != 0 {
        let mut days = Vec::new();
        if parts.month_days != 0 {
            days.push(counted("day", u64::from(parts.month_days)));
        }
        let back = (1..32).filter(|n| parts.month_days_back >> n & 1 == 1);
        days.extend(back.map(|n| format!("the {} day", ordinal(-n))));
        filters.push(format!("on {} of the month", list(&days, "and")));
    }
    if !parts.year_days.is_empty() {
        filters.push(format!(
            "on the {} day of the year",
            list(&signed(&parts.year_days), "and")
        ));
    }
    if !parts.week_numbers.is_empty() {
        let first = words::WEEKDAYS[usize::from(parts.week_start)];
        let weeks = list(&signed(&parts.week_numbers), "and");
        filters.push(format!("in the {weeks} week of the year, weeks beginning on {first}"));
    }
    if !parts.easter.is_empty() {
        let days: Vec<String> = parts.easter.iter().map(|offset| easter(*offset)).collect();
        filters.push(format!("on {}", list(&days, "and")));
    }
    if filters.is_empty() {
        filters.extend(implied_day(parts, local));
    } else if parts.months != 0 {
        filters.push(format!("in {}", words::months(parts.months)));
    }
    if filters.is_empty() && parts.months != 0 {
        filters.push(format!("in {}", words::months(parts.months)));
    }
    filters
}

/// Writes BYDAY.
fn weekday_filter(parts: &Parts) -> String {
    let of = if parts.freq == Freq::Yearly && parts.months == 0 {
        "year"
    } else {
        "month"
    };
    let mut days = Vec::new();
    if parts.weekdays != 0 {
        days.push(words::weekdays(parts.weekdays));
    }
    let nth = parts.nth_weekdays.iter();
    days.extend(nth.map(|(n, day)| {
        let name = words::WEEKDAYS[usize::from(*day)];
        format!("the {} {name} of the {of}", ordinal(i64::from(*n)))
    }));
    format!("on {}", list(&days, "and"))
}

fn easter(offset: i16) -> String {
    let days = offset.unsigned_abs();
    let unit = if days == 1 { "day" } else { "days" };
    match offset {
        0 => "Easter Sunday".to_owned(),
        1.. => format!("{days} {unit} after Easter Sunday"),
        _ => format!("{days} {unit} before Easter Sunday"),
    }
}

/// Writes the day that a rule without any part about days takes from where it begins.
fn implied_day(parts: &Parts, local: i64) -> Option<String> {
    let day = local.div_euclid(DAY_S);
    let year = civil::year_of(day);
    let (month, month_day) = civil::month_and_day(civil::is_leap(year), day - civil::year_start(year));
    let months = match parts.months {
        0 => String::new(),
        some => format!(" in {}", words::months(some)),
    };
    match parts.freq {
        Freq::Yearly if parts.months == 0 => {
            let name = words::MONTHS[usize::from(month) - 1];
            Some(format!("on {month_day} {name}"))
        }
        Freq::Yearly | Freq::Monthly => Some(format!("on day {month_day} of the month{months}")),
        Freq::Weekly => {
            let name = words::WEEKDAYS[usize::from(civil::weekday_of(day))];
            Some(format!("on {name}{months}"))
        }
        _ => None,
    }
}
