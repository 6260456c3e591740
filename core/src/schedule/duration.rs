//! Durations as people write them.

use super::error::ScheduleError;
use std::fmt::Write as _;

/// Longest text of a duration in bytes: far above any sensible one.
const DURATION_BYTES_MAX: usize = 64;
/// What the messages ask for.
const EXPECTED: &str = "a duration such as 500ms, 1s, 90m, 1h30m, 2d, 1w or PT5M";

/// Units from long to short, with their length in milliseconds.
const UNITS: [(&str, u64); 6] = [
    ("w", 604_800_000),
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1_000),
    ("ms", 1),
];

/// Reads a duration and returns it in milliseconds.
///
/// Accepted are numbers with units from long to short (`1h30m`, `2d`, `500ms`, `1.5s`; units `w d h m s ms`) and ISO 8601
/// durations without years and months (`PT5M`, `P1DT12H`, `P2W`), whose length depends on no calendar. A day is 24 hours.
///
/// # Errors
///
/// When the text is something else, is finer than a millisecond, or exceeds 64 bits of milliseconds.
pub fn parse_duration(text: &str) -> Result<u64, ScheduleError> {
    let trimmed = text.trim();
    let bad = || ScheduleError::invalid("duration", "value", text, EXPECTED);
    if trimmed.is_empty() || trimmed.len() > DURATION_BYTES_MAX || !trimmed.is_ascii() {
        return Err(bad());
    }
    let lower = trimmed.to_ascii_lowercase();
    match lower.strip_prefix('p') {
        Some(iso) => parse_iso(iso),
        None => parse_units(&lower, &UNITS),
    }
    .ok_or_else(bad)
}

/// Reads what follows the `P` of an ISO 8601 duration.
fn parse_iso(text: &str) -> Option<u64> {
    let (date, time) = match text.split_once('t') {
        Some((date, time)) if !time.is_empty() => (date, time),
        Some(_) => return None,
        None => (text, ""),
    };
    if date.is_empty() && time.is_empty() {
        return None;
    }
    let days = if date.is_empty() {
        0
    } else {
        parse_units(date, &UNITS[..2])?
    };
    let rest = if time.is_empty() {
        0
    } else {
        parse_units(time, &UNITS[2..5])?
    };
    days.checked_add(rest)
}

/// Reads numbers with units that get shorter, e.g. `1h30m`.
fn parse_units(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let mut rest = text;
    let mut allowed = units;
    let mut total = 0u64;
    while !rest.is_empty() {
        let number_len = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, tail) = rest.split_at(number_len);
        let unit_len = tail.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit_len);
        let at = allowed.iter().position(|(name, _)| *name == unit)?;
        total = total.checked_add(scaled(number, allowed[at].1)?)?;
        allowed = &allowed[at + 1..];
        rest = tail.trim_start();
    }
    Some(total)
}

/// Returns `number`, which may have a decimal fraction, times `unit_ms`; nothing when that is no whole number.
fn scaled(number: &str, unit_ms: u64) -> Option<u64> {
    let (whole, fraction) = match number.split_once('.') {
        Some((_, "")) => return None,
        Some((whole, fraction)) => (whole, fraction),
        None => (number, ""),
    };
    let mut ms = whole.parse::<u64>().ok()?.checked_mul(unit_ms)?;
    if !fraction.is_empty() {
        // Nine digits resolve a nanosecond of a second; the product below then fits 64 bits for every unit.
        if fraction.len() > 9 {
            return None;
        }
        let power = 10u64.pow(u32::try_from(fraction.len()).ok()?);
        let part = fraction.parse::<u64>().ok()?.checked_mul(unit_ms)?;
        if part % power != 0 {
            return None;
        }
        ms = ms.checked_add(part / power)?;
    }
    Some(ms)
}

/// Writes milliseconds as [`parse_duration`] reads them, e.g. `1h30m`; days are the longest unit.
pub fn format_duration(ms: u64) -> String {
    if ms == 0 {
        return "0s".to_owned();
    }
    let mut text = String::new();
    let mut rest = ms;
    for (name, unit_ms) in &UNITS[1..] {
        if rest >= *unit_ms {
            // Writing to a String cannot fail.
            let _ = write!(text, "{}{name}", rest / unit_ms);
            rest %= unit_ms;
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_people_write() {
        let table = [
            ("1s", 1_000),
            ("90m", 5_400_000),
            ("1h30m", 5_400_000),
            ("1h 30m", 5_400_000),
            ("2d", 172_800_000),
            ("1w", 604_800_000),
            ("500ms", 500),
            ("1s500ms", 1_500),
            ("1.5s", 1_500),
            ("0.25h", 900_000),
            ("0s", 0),
            ("PT5M", 300_000),
            ("pt5m", 300_000),
            ("P1DT12H", 129_600_000),
            ("P2W", 1_209_600_000),
            ("PT0.5S", 500),
            (" 1s ", 1_000),
        ];
        for (text, ms) in table {
            assert_eq!(parse_duration(text), Ok(ms), "{text}");
        }
    }

    #[test]
    fn refuses_the_rest() {
        let long = "1".repeat(100);
        let table = [
            "",
            " ",
            "5",
            "s",
            "1x",
            "-1s",
            "1m1h",
            "1s1s",
            "P",
            "PT",
            "P1Y",
            "P1M",
            "P1DT",
            "1h30",
            "1..5s",
            "1.s",
            "0.0001s",
            "1,5s",
            "99999999999999999999s",
            "9999999999999999999w",
            "PT5MS",
            "1µs",
            &long,
            "0.1234567891s",
        ];
        for text in table {
            let error = parse_duration(text).expect_err(text);
            assert!(error.to_string().contains("1h30m"), "{error}");
        }
    }

    #[test]
    fn writes_what_it_reads() {
        for ms in [
            0,
            1,
            999,
            1_000,
            61_000,
            3_600_000,
            5_400_000,
            90_061_001,
            172_800_000,
            u64::MAX,
        ] {
            assert_eq!(parse_duration(&format_duration(ms)), Ok(ms), "{ms}");
        }
        assert_eq!(format_duration(5_400_000), "1h30m");
        assert_eq!(format_duration(300_000), "5m");
    }
}
