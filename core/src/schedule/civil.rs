//! Days, years and Easter of the proleptic Gregorian calendar, in plain integers.
//!
//! A *day* counts from 1970-01-01; a *local second* counts from 1970-01-01T00:00:00 on the clock of some zone.

/// Seconds in a day.
pub(super) const DAY_S: i64 = 86_400;
/// The last day of year 9999, beyond which nothing is searched.
pub(super) const LAST_DAY: i64 = 2_932_896;
/// The first day of year 1.
pub(super) const FIRST_DAY: i64 = -719_162;

/// Days before each month of a common year and of a leap year; the last entry is the length of the year.
const MONTH_STARTS: [[u16; 13]; 2] = [
    [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334, 365],
    [0, 31, 60, 91, 121, 152, 182, 213, 244, 274, 305, 335, 366],
];

/// Returns the day of the week, Monday being 0.
pub(super) fn weekday_of(day: i64) -> u8 {
    // 1970-01-01 was a Thursday; the remainder is below 7.
    (day + 3).rem_euclid(7) as u8
}

/// Whether the year has 366 days.
pub(super) fn is_leap(year: i64) -> bool {
    (year % 4 == 0 && year % 100 != 0) || year % 400 == 0
}

/// Returns the months' starts within a year, and its length as the thirteenth entry.
pub(super) fn month_starts(leap: bool) -> &'static [u16; 13] {
    &MONTH_STARTS[usize::from(leap)]
}

/// Returns the first day of a year.
pub(super) fn year_start(year: i64) -> i64 {
    let before = year - 1;
    before * 365 + before.div_euclid(4) - before.div_euclid(100) + before.div_euclid(400) + FIRST_DAY
}

/// Returns the first day of the month with this number, counted from January of year 0.
pub(super) fn month_start(month: i64) -> i64 {
    let year = month.div_euclid(12);
    // The remainder is below 12.
    year_start(year) + i64::from(month_starts(is_leap(year))[month.rem_euclid(12) as usize])
}

/// Returns the year a day is in.
pub(super) fn year_of(day: i64) -> i64 {
    // 400 years have 146,097 days. The estimate is never more than one year off.
    let year = (day - FIRST_DAY).div_euclid(146_097) * 400 + (day - FIRST_DAY).rem_euclid(146_097) * 400 / 146_097 + 1;
    if year_start(year) > day {
        year - 1
    } else if year_start(year + 1) <= day {
        year + 1
    } else {
        year
    }
}

/// Returns the month a day is in, counted from January of year 0.
pub(super) fn month_of(day: i64) -> i64 {
    let year = year_of(day);
    let (month, _) = month_and_day(is_leap(year), day - year_start(year));
    year * 12 + i64::from(month) - 1
}

/// Returns month (1 to 12) and day of the month (1 to 31) of a day within its year, counted from 0.
pub(super) fn month_and_day(leap: bool, day_of_year: i64) -> (u8, u8) {
    let starts = month_starts(leap);
    let mut month = 12;
    while i64::from(starts[month - 1]) > day_of_year {
        month -= 1;
    }
    // At most 12 and 31.
    (month as u8, (day_of_year - i64::from(starts[month - 1]) + 1) as u8)
}

/// Returns the day of a date; nothing when there is no such date from year 1 to 9999.
pub(super) fn day_of(year: i64, month: u8, day: u8) -> Option<i64> {
    if !(1..=9999).contains(&year) || !(1..=12).contains(&month) || day == 0 {
        return None;
    }
    let starts = month_starts(is_leap(year));
    let first = starts[usize::from(month) - 1];
    let length = starts[usize::from(month)] - first;
    (u16::from(day) <= length).then(|| year_start(year) + i64::from(first) + i64::from(day) - 1)
}

/// Returns the day of Western Easter Sunday.
pub(super) fn easter(year: i64) -> i64 {
    // The anonymous Gregorian computus.
    let golden = year % 19;
    let century = year / 100;
    let epact = (century - century / 4 - (8 * century + 13) / 25 + 19 * golden + 15).rem_euclid(30);
    let correction = epact - (epact / 28) * (1 - (epact / 28) * (29 / (epact + 1)) * ((21 - golden) / 11));
    let weekday = (year + year / 4 + correction + 2 - century + century / 4).rem_euclid(7);
    let from_march = correction - weekday;
    let starts = month_starts(is_leap(year));
    // 28 days before the full moon's Sunday counts from the end of February.
    year_start(year) + i64::from(starts[2]) + from_march + 27
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::Datelike as _;

    #[test]
    fn agrees_with_chrono_on_every_day() {
        let epoch = chrono::NaiveDate::from_ymd_opt(1970, 1, 1).expect("a date");
        for day in (FIRST_DAY..=LAST_DAY).step_by(7).chain(-1000..40_000) {
            let date = epoch + chrono::Duration::days(day);
            let year = year_of(day);
            assert_eq!(year, i64::from(date.year()), "{date}");
            assert_eq!(
                u32::from(weekday_of(day)),
                date.weekday().num_days_from_monday(),
                "{date}"
            );
            let (month, dom) = month_and_day(is_leap(year), day - year_start(year));
            assert_eq!((u32::from(month), u32::from(dom)), (date.month(), date.day()), "{date}");
            assert_eq!(day_of(year, month, dom), Some(day));
            assert_eq!(month_of(day), year * 12 + i64::from(month) - 1);
            assert!(month_start(month_of(day)) <= day && day < month_start(month_of(day) + 1));
        }
        assert_eq!(
            (year_of(FIRST_DAY), year_of(LAST_DAY), year_of(LAST_DAY + 1)),
            (1, 9999, 10_000)
        );
    }

    #[test]
    fn easter_as_published() {
        for (year, month, day) in [
            (1818, 3, 22),
            (1943, 4, 25),
            (1954, 4, 18),
            (1981, 4, 19),
            (2000, 4, 23),
            (2008, 3, 23),
            (2019, 4, 21),
            (2024, 3, 31),
            (2025, 4, 20),
            (2026, 4, 5),
            (2038, 4, 25),
            (2285, 3, 22),
        ] {
            assert_eq!(Some(easter(year)), day_of(year, month, day), "{year}");
        }
    }

    #[test]
    fn refuses_dates_that_do_not_exist() {
        for (year, month, day) in [
            (2026, 2, 29),
            (2026, 4, 31),
            (2026, 13, 1),
            (2026, 0, 1),
            (2026, 1, 0),
            (0, 1, 1),
        ] {
            assert_eq!(day_of(year, month, day), None, "{year}-{month}-{day}");
        }
    }
}
