//! Gaps and folds of the local clock.

use crate::support::{Bundled, Rng, after, at_second, compiled, cron_in, rrule_in, second, seeds, shown, t};
use jiff::tz::TimeZone;
use sched_core::schedule::{DstPolicy, Next, Recurrence, Zones as _};

const ZONES: [&str; 44] = [
    "Africa/Cairo",
    "Africa/Casablanca",
    "Africa/El_Aaiun",
    "Africa/Monrovia",
    "America/Adak",
    "America/Asuncion",
    "America/Caracas",
    "America/Godthab",
    "America/Havana",
    "America/New_York",
    "America/Santiago",
    "America/Sao_Paulo",
    "America/Scoresbysund",
    "America/St_Johns",
    "Antarctica/Casey",
    "Antarctica/Troll",
    "Asia/Amman",
    "Asia/Beirut",
    "Asia/Gaza",
    "Asia/Jerusalem",
    "Asia/Kathmandu",
    "Asia/Kolkata",
    "Asia/Manila",
    "Asia/Pyongyang",
    "Asia/Tehran",
    "Asia/Tokyo",
    "Atlantic/Azores",
    "Australia/Adelaide",
    "Australia/Lord_Howe",
    "Australia/Sydney",
    "Etc/GMT+12",
    "Europe/Dublin",
    "Europe/Istanbul",
    "Europe/Lisbon",
    "Europe/London",
    "Europe/Moscow",
    "Europe/Zurich",
    "Pacific/Apia",
    "Pacific/Auckland",
    "Pacific/Chatham",
    "Pacific/Enderbury",
    "Pacific/Kiritimati",
    "Pacific/Kwajalein",
    "UTC",
];

/// Schedule, zone, after, and what follows with `dst = shift` and with `dst = skip`.
type Row = (
    &'static str,
    &'static str,
    &'static str,
    &'static [&'static str],
    &'static [&'static str],
);

const CRON: [Row; 15] = [
    // Zurich's gap is at 01:00Z, its fold at 01:00Z too.
    (
        "30 2 * * *",
        "Europe/Zurich",
        "2026-03-28T00:00:00Z",
        &["2026-03-28T01:30:00Z", "2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"],
        &["2026-03-28T01:30:00Z", "2026-03-30T00:30:00Z"],
    ),
    (
        "30 2 * * *",
        "Europe/Zurich",
        "2026-10-24T00:00:00Z",
        &["2026-10-24T00:30:00Z", "2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"],
        &["2026-10-24T00:30:00Z", "2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"],
    ),
    // A question from within the second pass of the fold.
    (
        "30 2 * * *",
        "Europe/Zurich",
        "2026-10-25T01:10:00Z",
        &["2026-10-26T01:30:00Z"],
        &["2026-10-26T01:30:00Z"],
    ),
    // A whole hour in the gap is one occurrence, and the one at its end is the same.
    (
        "*/10 2,3 * * *",
        "Europe/Zurich",
        "2026-03-28T03:00:00Z",
        &["2026-03-29T01:00:00Z", "2026-03-29T01:10:00Z", "2026-03-29T01:20:00Z"],
        &["2026-03-29T01:00:00Z", "2026-03-29T01:10:00Z", "2026-03-29T01:20:00Z"],
    ),
    (
        "* 2 * * *",
        "Europe/Zurich",
        "2026-03-28T02:00:00Z",
        &["2026-03-29T01:00:00Z", "2026-03-30T00:00:00Z"],
        &["2026-03-30T00:00:00Z", "2026-03-30T00:01:00Z"],
    ),
    // Hours with a wildcard or a step are absolute time: both passes of a fold, nothing in a gap.
    (
        "*/30 * * * *",
        "Europe/Zurich",
        "2026-10-24T23:59:00Z",
        &[
            "2026-10-25T00:00:00Z",
            "2026-10-25T00:30:00Z",
            "2026-10-25T01:00:00Z",
            "2026-10-25T01:30:00Z",
        ],
        &[
            "2026-10-25T00:00:00Z",
            "2026-10-25T00:30:00Z",
            "2026-10-25T01:00:00Z",
            "2026-10-25T01:30:00Z",
        ],
    ),
    (
        "0 */2 * * *",
        "Europe/Zurich",
        "2026-03-28T22:00:00Z",
        &["2026-03-28T23:00:00Z", "2026-03-29T02:00:00Z"],
        &["2026-03-28T23:00:00Z", "2026-03-29T02:00:00Z"],
    ),
    // Lord Howe moves by half an hour.
    (
        "15 2 * * *",
        "Australia/Lord_Howe",
        "2026-10-02T16:00:00Z",
        &["2026-10-03T15:30:00Z", "2026-10-04T15:15:00Z"],
        &["2026-10-04T15:15:00Z", "2026-10-05T15:15:00Z"],
    ),
    (
        "45 1 * * *",
        "Australia/Lord_Howe",
        "2026-04-03T16:00:00Z",
        &["2026-04-04T14:45:00Z", "2026-04-05T15:15:00Z"],
        &["2026-04-04T14:45:00Z", "2026-04-05T15:15:00Z"],
    ),
    // Havana loses and repeats midnight.
    (
        "0 0 * * *",
        "America/Havana",
        "2025-03-08T06:00:00Z",
        &["2025-03-09T05:00:00Z", "2025-03-10T04:00:00Z"],
        &["2025-03-10T04:00:00Z", "2025-03-11T04:00:00Z"],
    ),
    // The words are in the zone, too.
    (
        "@daily",
        "America/Havana",
        "2025-03-08T06:00:00Z",
        &["2025-03-09T05:00:00Z", "2025-03-10T04:00:00Z"],
        &["2025-03-10T04:00:00Z", "2025-03-11T04:00:00Z"],
    ),
    (
        "30 0 * * *",
        "America/Havana",
        "2025-11-01T05:00:00Z",
        &["2025-11-02T04:30:00Z", "2025-11-03T05:30:00Z"],
        &["2025-11-02T04:30:00Z", "2025-11-03T05:30:00Z"],
    ),
    // Apia never had 30 December 2011.
    (
        "0 10 * * *",
        "Pacific/Apia",
        "2011-12-29T00:00:00Z",
        &["2011-12-29T20:00:00Z", "2011-12-30T10:00:00Z", "2011-12-30T20:00:00Z"],
        &["2011-12-29T20:00:00Z", "2011-12-30T20:00:00Z"],
    ),
    // Casablanca's clock goes back for Ramadan.
    (
        "30 2 * * *",
        "Africa/Casablanca",
        "2026-02-14T02:00:00Z",
        &["2026-02-15T01:30:00Z", "2026-02-16T02:30:00Z"],
        &["2026-02-15T01:30:00Z", "2026-02-16T02:30:00Z"],
    ),
    (
        "30 2 * * *",
        "Africa/Casablanca",
        "2026-03-21T03:00:00Z",
        &["2026-03-22T02:00:00Z", "2026-03-23T01:30:00Z"],
        &["2026-03-23T01:30:00Z", "2026-03-24T01:30:00Z"],
    ),
];

#[test]
fn cron_in_gaps_and_folds() {
    for (expr, zone, from, shift, skip) in CRON {
        for (dst, expected) in [(DstPolicy::Shift, shift), (DstPolicy::Skip, skip)] {
            let found = after(&compiled(&cron_in(expr, zone, dst)), t(from), expected.len());
            assert_eq!(shown(&found), expected, "{expr} {zone} {dst:?}");
        }
    }
}

const RRULE: [Row; 8] = [
    // The start is 02:30 on the wall.
    (
        "FREQ=DAILY",
        "Europe/Zurich",
        "2026-03-28T01:30:00Z",
        &["2026-03-28T01:30:00Z", "2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"],
        &["2026-03-28T01:30:00Z", "2026-03-30T00:30:00Z"],
    ),
    (
        "FREQ=WEEKLY",
        "Europe/Zurich",
        "2026-03-22T01:30:00Z",
        &["2026-03-22T01:30:00Z", "2026-03-29T01:00:00Z", "2026-04-05T00:30:00Z"],
        &["2026-03-22T01:30:00Z", "2026-04-05T00:30:00Z"],
    ),
    // UNTIL is compared as what it is: an instant, or a reading of the clock.
    (
        "FREQ=DAILY;UNTIL=20260330T003000Z",
        "Europe/Zurich",
        "2026-03-28T01:30:00Z",
        &["2026-03-28T01:30:00Z", "2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"],
        &["2026-03-28T01:30:00Z", "2026-03-30T00:30:00Z"],
    ),
    (
        "FREQ=DAILY;UNTIL=20260329T023000",
        "Europe/Zurich",
        "2026-03-28T01:30:00Z",
        &["2026-03-28T01:30:00Z", "2026-03-29T01:00:00Z"],
        &["2026-03-28T01:30:00Z"],
    ),
    // What a gap drops is not counted.
    (
        "FREQ=DAILY;COUNT=3",
        "Europe/Zurich",
        "2026-03-28T01:30:00Z",
        &["2026-03-28T01:30:00Z", "2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"],
        &["2026-03-28T01:30:00Z", "2026-03-30T00:30:00Z", "2026-03-31T00:30:00Z"],
    ),
    // Absolute time: every sixth hour, whatever the clock shows.
    (
        "FREQ=HOURLY;INTERVAL=6",
        "Europe/Zurich",
        "2026-03-28T21:00:00Z",
        &["2026-03-28T21:00:00Z", "2026-03-29T03:00:00Z", "2026-03-29T09:00:00Z"],
        &["2026-03-28T21:00:00Z", "2026-03-29T03:00:00Z", "2026-03-29T09:00:00Z"],
    ),
    // The filter reads the local clock: 02:15 comes twice.
    (
        "FREQ=HOURLY;BYHOUR=2;BYMINUTE=15",
        "Europe/Zurich",
        "2026-10-24T12:00:00Z",
        &["2026-10-25T00:15:00Z", "2026-10-25T01:15:00Z", "2026-10-26T01:15:00Z"],
        &["2026-10-25T00:15:00Z", "2026-10-25T01:15:00Z", "2026-10-26T01:15:00Z"],
    ),
    // Every hour is an hour, even where the clock moves by half of one.
    (
        "FREQ=HOURLY",
        "Australia/Lord_Howe",
        "2026-10-03T14:40:00Z",
        &["2026-10-03T14:40:00Z", "2026-10-03T15:40:00Z", "2026-10-03T16:40:00Z"],
        &["2026-10-03T14:40:00Z", "2026-10-03T15:40:00Z", "2026-10-03T16:40:00Z"],
    ),
];

#[test]
fn rules_in_gaps_and_folds() {
    for (rule, zone, start, shift, skip) in RRULE {
        for (dst, expected) in [(DstPolicy::Shift, shift), (DstPolicy::Skip, skip)] {
            let recurrence = compiled(&rrule_in(rule, start, zone, dst));
            let found = after(&recurrence, t("1970-01-01T00:00:00Z"), expected.len());
            assert_eq!(shown(&found), expected, "{rule} {zone} {dst:?}");
            if rule.contains("UNTIL") || rule.contains("COUNT") {
                assert_eq!(
                    recurrence.next_after(found[found.len() - 1]),
                    Next::Exhausted,
                    "{rule} {dst:?}"
                );
            }
        }
    }
}

/// A schedule that occurs whenever a clock shows one of these times.
#[derive(Clone, Copy, Debug)]
struct Times {
    hours: Option<&'static [i64]>,
    minutes: &'static [i64],
}

impl Times {
    /// Whether a minute of the local clock, counted from its epoch, is one of them.
    fn has(self, local: i64) -> bool {
        self.hours
            .is_none_or(|hours| hours.contains(&local.div_euclid(60).rem_euclid(24)))
            && self.minutes.contains(&local.rem_euclid(60))
    }
}

/// The local clock around a change, minute by minute: (instant, what is shown), in minutes.
fn clock(zone: &TimeZone, change: i64) -> Option<Vec<(i64, i64)>> {
    let from = change / 60 - 2000;
    let read = |minute: i64| {
        let offset = zone
            .to_offset(jiff::Timestamp::from_second(minute * 60).ok()?)
            .seconds();
        // Offsets of odd seconds, as some zones had in the seventies, cannot be modelled in minutes.
        (offset % 60 == 0).then_some((minute, minute + i64::from(offset / 60)))
    };
    (from..from + 4000).map(read).collect()
}

/// What a person with a watch sees: a reading counts when the clock gets to it for the first time, by running or by jumping.
fn by_watch(clock: &[(i64, i64)], times: Times, dst: DstPolicy) -> Vec<i64> {
    let mut highest = clock[0].1;
    let mut found = Vec::new();
    for (instant, local) in &clock[1..] {
        let passed = highest + 1..=*local;
        let occurs = match dst {
            DstPolicy::Shift => passed.clone().any(|reading| times.has(reading)),
            DstPolicy::Skip => !passed.is_empty() && times.has(*local),
        };
        if occurs {
            found.push(*instant);
        }
        highest = highest.max(*local);
    }
    found
}

/// Returns the instants of the zone's changes from 1970 to 2100; of the regular ones after 2040, every ninth.
fn changes(zone: &TimeZone) -> Vec<i64> {
    let all = zone.following(jiff::Timestamp::from_second(200_000).expect("in range"));
    let all = all
        .map(|change| change.timestamp().as_second())
        .take_while(|at| *at < 4_102_444_800);
    let all: Vec<i64> = all.collect();
    all.iter()
        .enumerate()
        .filter(|(i, at)| **at < 2_208_988_800 || i % 9 == 0)
        .map(|(_, at)| *at)
        .collect()
}

/// Returns the occurrences after minute `from`, until minute `to`.
fn walk(recurrence: &Recurrence, from: i64, to: i64) -> Vec<i64> {
    let mut found = Vec::new();
    let mut at = at_second(from * 60);
    while let Next::At(next) = recurrence.next_after(at) {
        assert!(next > at, "{next} is not after {at}");
        if second(next) > to * 60 {
            break;
        }
        found.push(second(next) / 60);
        at = next;
    }
    found
}

/// Cron expressions, and rules from [`WALL_START`] that mean the same.
const WALL: [(&str, Times); 5] = [
    (
        "0 0 * * *",
        Times {
            hours: Some(&[0]),
            minutes: &[0],
        },
    ),
    (
        "*/15 2 * * *",
        Times {
            hours: Some(&[2]),
            minutes: &[0, 15, 30, 45],
        },
    ),
    (
        "30 1,23 * * *",
        Times {
            hours: Some(&[1, 23]),
            minutes: &[30],
        },
    ),
    (
        "FREQ=DAILY;BYHOUR=2;BYMINUTE=5,55;BYSECOND=0",
        Times {
            hours: Some(&[2]),
            minutes: &[5, 55],
        },
    ),
    (
        "FREQ=MONTHLY;BYMONTHDAY=1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31;\
         BYHOUR=0,3;BYMINUTE=30;BYSECOND=0",
        Times {
            hours: Some(&[0, 3]),
            minutes: &[30],
        },
    ),
];

/// Before every change that is looked at.
const WALL_START: &str = "1969-12-01T00:00:00Z";

fn on_the_wall(rule: &str, zone: &str, dst: DstPolicy) -> Recurrence {
    compiled(&match rule.starts_with("FREQ") {
        true => rrule_in(rule, WALL_START, zone, dst),
        false => cron_in(rule, zone, dst),
    })
}

#[test]
fn around_every_change_of_many_zones() {
    let zones = Bundled::new();
    let mut compared = 0;
    for name in ZONES {
        let zone = zones
            .zone(name)
            .unwrap_or_else(|| panic!("{name} is in the bundled data"));
        let mut wall = Vec::new();
        for (rule, times) in WALL {
            for dst in [DstPolicy::Shift, DstPolicy::Skip] {
                wall.push((on_the_wall(rule, name, dst), times, dst));
            }
        }
        let stepped = compiled(&cron_in("*/20 * * * *", name, DstPolicy::Shift));
        let rule = rrule_in(
            "FREQ=MINUTELY;INTERVAL=20;BYHOUR=1,2",
            "1970-01-01T00:00:00Z",
            name,
            DstPolicy::Shift,
        );
        let filtered = compiled(&rule);
        for change in changes(&zone) {
            let Some(clock) = clock(&zone, change) else { continue };
            let (from, to) = (clock[0].0, clock[clock.len() - 1].0);
            for (recurrence, times, dst) in &wall {
                let expected = by_watch(&clock, *times, *dst);
                assert_eq!(
                    walk(recurrence, from, to),
                    expected,
                    "{name} at {} {dst:?} {times:?}",
                    at_second(change)
                );
                compared += 1;
            }
            let when = |passes: &dyn Fn(i64, i64) -> bool| -> Vec<i64> {
                clock[1..]
                    .iter()
                    .filter(|(at, local)| passes(*at, *local))
                    .map(|(at, _)| *at)
                    .collect()
            };
            let expected = when(&|_, local| local % 20 == 0);
            assert_eq!(walk(&stepped, from, to), expected, "{name} at {}", at_second(change));
            let expected = when(&|at, local| at % 20 == 0 && (1..=2).contains(&local.div_euclid(60).rem_euclid(24)));
            assert_eq!(walk(&filtered, from, to), expected, "{name} at {}", at_second(change));
        }
    }
    assert!(compared > 20_000, "{compared} changes compared");
}

#[test]
fn every_day_from_1970_to_2100() {
    let zones = Bundled::new();
    for name in ZONES {
        let zone = zones
            .zone(name)
            .unwrap_or_else(|| panic!("{name} is in the bundled data"));
        let recurrence = compiled(&cron_in("30 2 * * *", name, DstPolicy::Shift));
        let (mut days, mut shifted) = (0, 0);
        let mut at = at_second(0);
        while let Next::At(next) = recurrence.next_after(at)
            && second(next) < 4_102_444_800
        {
            assert!(next > at, "{name}: {next} is not after {at}");
            at = next;
            days += 1;
            let shown = zone
                .to_datetime(jiff::Timestamp::from_second(second(at)).expect("in range"))
                .time();
            shifted += i32::from(shown != jiff::civil::time(2, 30, 0, 0));
        }
        // 130 years have 47,482 days; a day may be lost or found, and few zones jump at half past two, once a year at most.
        assert!((47_480..=47_483).contains(&days), "{name}: {days} days");
        assert!(shifted <= 140, "{name}: {shifted} days shifted");
    }
}

/// In every zone that there is, a daily time in the middle of what a change leaves out or repeats: once a day, at the first instant that
/// shows it or, left out, at the change.
#[test]
fn in_the_middle_of_every_change_of_every_zone() {
    let zones = Bundled::new();
    let mut compared = 0;
    for name in zones.names() {
        let Some(zone) = zones.zone(&name) else { continue };
        for change in changes(&zone).into_iter().filter(|at| *at < 2_145_916_800) {
            let offset = |at: i64| {
                i64::from(
                    zone.to_offset(jiff::Timestamp::from_second(at).expect("in range"))
                        .seconds(),
                )
            };
            let (before, after) = (offset(change - 1), offset(change));
            let middle = (change + (before + after) / 2).div_euclid(60) * 60;
            let size = (before - after).abs();
            // What is less than two minutes apart has no minute in its middle; what is a day apart has every time of day.
            if !(120..=43_200).contains(&size) {
                continue;
            }
            let time = middle.rem_euclid(86_400) / 60;
            let expr = format!("{} {} * * *", time % 60, time / 60);
            let next = |dst: DstPolicy| {
                let recurrence = compiled(&cron_in(&expr, &name, dst));
                let first = recurrence.next_after(at_second(change - size - 1)).at();
                first.map(|at| (second(at), recurrence.next_after(at).at().map(second)))
            };
            let [(shifted, after_shifted), (skipped, _)] =
                [DstPolicy::Shift, DstPolicy::Skip].map(|dst| next(dst).expect("it is daily"));
            let place = format!("{name} {expr} at {}", at_second(change));
            let first_time = middle - before;
            if after > before {
                assert_eq!(shifted, change, "{place}");
                assert!(skipped > change + size, "{place}: {}", at_second(skipped));
            } else {
                assert_eq!((shifted, skipped), (first_time, first_time), "{place}");
            }
            // Not again when the clock shows it again, and not lost on the next day.
            let later = after_shifted.expect("it is daily") - shifted;
            assert!((43_000..130_000).contains(&later), "{place}: again after {later} s");
            compared += 1;
        }
    }
    assert!(compared > 10_000, "{compared} changes compared");
}

/// Asking from anywhere gives what walking gives.
#[test]
fn seeking_agrees_with_walking() {
    const RULES: [&str; 10] = [
        "FREQ=DAILY;BYHOUR=0,1,2,3;BYMINUTE=0,30",
        "FREQ=DAILY;INTERVAL=3",
        "FREQ=WEEKLY;INTERVAL=2;BYDAY=SU,WE;BYHOUR=2",
        "FREQ=MONTHLY;BYDAY=SU;BYSETPOS=-1,1;BYHOUR=1,2",
        "FREQ=YEARLY;BYMONTH=3,10;BYDAY=-1SU,2SU;BYHOUR=2,3",
        "FREQ=HOURLY;INTERVAL=7",
        "FREQ=HOURLY;INTERVAL=5;BYMINUTE=15,45",
        "FREQ=HOURLY;BYMINUTE=5,10;BYSETPOS=-1",
        "FREQ=MINUTELY;INTERVAL=45;BYHOUR=1,2,3",
        "FREQ=SECONDLY;INTERVAL=1000;BYDAY=SU",
    ];
    for seed in seeds("seeking_agrees_with_walking") {
        let mut rng = Rng(seed);
        for _ in 0..400 {
            let (zone, rule) = (*rng.pick(&ZONES), *rng.pick(&RULES));
            let dst = *rng.pick(&[DstPolicy::Shift, DstPolicy::Skip]);
            let start = at_second(rng.within(0, 3_000_000_000));
            let recurrence = compiled(&rrule_in(rule, &start.to_string(), zone, dst));
            let walked = after(&recurrence, start.plus_millis(-1), 100);
            let last = walked[walked.len() - 1].millis_since(start);
            for _ in 0..20 {
                let from = start.plus_millis(rng.within(-1000, last - 1));
                let expected = walked.iter().find(|at| **at > from).copied();
                assert_eq!(
                    recurrence.next_after(from).at(),
                    expected,
                    "{rule} {zone} {dst:?} from {start} after {from}"
                );
            }
        }
    }
}
