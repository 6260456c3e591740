//! Cron expressions: tables, and the croner crate as a second opinion.

use crate::support::{after, at_second, compile, compiled, cron, second, shown, t};
use chrono::DateTime;
use std::str::FromStr as _;

#[test]
fn occurs_when_expected() {
    let table: [(&str, &str, &[&str]); 25] = [
        (
            "*/15 * * * *",
            "2026-01-01T00:00:00Z",
            &["2026-01-01T00:15:00Z", "2026-01-01T00:30:00Z"],
        ),
        (
            "30 9 * * MON-FRI",
            "2026-01-02T09:30:00Z",
            &["2026-01-05T09:30:00Z", "2026-01-06T09:30:00Z"],
        ),
        (
            "0 0 29 2 *",
            "2026-01-01T00:00:00Z",
            &["2028-02-29T00:00:00Z", "2032-02-29T00:00:00Z"],
        ),
        (
            "0 12 L * *",
            "2026-01-31T12:00:00Z",
            &["2026-02-28T12:00:00Z", "2026-03-31T12:00:00Z"],
        ),
        (
            "0 12 L-3 * *",
            "2026-01-31T12:00:00Z",
            &["2026-02-25T12:00:00Z", "2026-03-28T12:00:00Z"],
        ),
        (
            "0 12 LW * *",
            "2026-01-31T12:00:00Z",
            &["2026-02-27T12:00:00Z", "2026-03-31T12:00:00Z"],
        ),
        (
            "0 12 15W * *",
            "2026-02-01T00:00:00Z",
            &["2026-02-16T12:00:00Z", "2026-03-16T12:00:00Z"],
        ),
        (
            "0 12 1W * *",
            "2026-07-31T13:00:00Z",
            &["2026-08-03T12:00:00Z", "2026-09-01T12:00:00Z"],
        ),
        (
            "0 12 31W * *",
            "2026-01-01T00:00:00Z",
            &["2026-01-30T12:00:00Z", "2026-03-31T12:00:00Z"],
        ),
        (
            "0 12 * * 5L",
            "2026-01-01T00:00:00Z",
            &["2026-01-30T12:00:00Z", "2026-02-27T12:00:00Z"],
        ),
        (
            "0 12 * * FRIL",
            "2026-01-01T00:00:00Z",
            &["2026-01-30T12:00:00Z", "2026-02-27T12:00:00Z"],
        ),
        (
            "0 12 * * 5#2",
            "2026-01-01T00:00:00Z",
            &["2026-01-09T12:00:00Z", "2026-02-13T12:00:00Z"],
        ),
        (
            "0 12 * * mon#1,mon#3",
            "2026-01-01T00:00:00Z",
            &["2026-01-05T12:00:00Z", "2026-01-19T12:00:00Z"],
        ),
        (
            "0 12 ? * 7",
            "2026-01-01T00:00:00Z",
            &["2026-01-04T12:00:00Z", "2026-01-11T12:00:00Z"],
        ),
        (
            "0 12 * * FRI-MON",
            "2026-01-01T00:00:00Z",
            &["2026-01-02T12:00:00Z", "2026-01-03T12:00:00Z"],
        ),
        (
            "0 12 * * 5-7",
            "2026-01-04T12:00:00Z",
            &["2026-01-09T12:00:00Z", "2026-01-10T12:00:00Z"],
        ),
        (
            "0 12 13 * FRI",
            "2026-01-01T00:00:00Z",
            &["2026-01-02T12:00:00Z", "2026-01-09T12:00:00Z"],
        ),
        (
            "0 12 */2 * MON",
            "2026-01-01T13:00:00Z",
            &["2026-01-03T12:00:00Z", "2026-01-05T12:00:00Z"],
        ),
        (
            "0 0 1 jan,JUL *",
            "2026-01-01T00:00:00Z",
            &["2026-07-01T00:00:00Z", "2027-01-01T00:00:00Z"],
        ),
        (
            "*/20 30 9 * * *",
            "2026-01-01T00:00:00Z",
            &["2026-01-01T09:30:00Z", "2026-01-01T09:30:20Z"],
        ),
        (
            "5/20 8-10/2 * * *",
            "2026-01-01T08:25:00Z",
            &["2026-01-01T08:45:00Z", "2026-01-01T10:05:00Z"],
        ),
        (
            "@yearly",
            "2026-01-01T00:00:00Z",
            &["2027-01-01T00:00:00Z", "2028-01-01T00:00:00Z"],
        ),
        (
            "@Weekly",
            "2026-01-01T00:00:00Z",
            &["2026-01-04T00:00:00Z", "2026-01-11T00:00:00Z"],
        ),
        (
            "@hourly",
            "2026-01-01T00:00:00Z",
            &["2026-01-01T01:00:00Z", "2026-01-01T02:00:00Z"],
        ),
        (
            "@every 90m",
            "2026-01-01T00:10:00Z",
            &["2026-01-01T01:30:00Z", "2026-01-01T03:00:00Z"],
        ),
    ];
    for (expr, from, expected) in table {
        assert_eq!(shown(&after(&compiled(&cron(expr)), t(from), 2)), expected, "{expr}");
    }
}

#[test]
fn refuses_with_the_field_the_value_and_an_example() {
    let long = "0 ".repeat(3000);
    let table = [
        ("", "five fields"),
        ("* * * *", "five fields"),
        ("* * * * * * *", "five fields"),
        ("60 * * * *", "minute \"60\""),
        ("-1 * * * *", "minute \"-1\""),
        ("* 24 * * *", "hour \"24\""),
        ("* * 0 * *", "day \"0\""),
        ("* * 32 * *", "day \"32\""),
        ("* * * 13 *", "month \"13\""),
        ("* * * FOO *", "month \"foo\""),
        ("* * * * 8", "weekday \"8\""),
        ("* * * * MON#6", "weekday \"mon#6\""),
        ("* * * * L", "weekday \"l\""),
        ("*/0 * * * *", "minute \"*/0\""),
        ("5-1 * * * *", "minute \"5-1\""),
        ("1,,2 * * * *", "minute \"\""),
        ("1- * * * *", "minute \"1-\""),
        ("* * L-31 * *", "day \"l-31\""),
        ("* * LX * *", "day \"lx\""),
        ("H(9-1) * * * *", "minute \"h(9-1)\""),
        ("H( * * * *", "minute \"h(\""),
        ("60 * * * * *", "second \"60\""),
        ("@never", "@hourly"),
        ("@reboot", "@hourly"),
        ("@every", "@every 1h30m"),
        ("@every 1x", "@every 1h30m"),
        ("@every 0s", "for example 5m"),
        ("0 0 30 2 *", "never occurs"),
        ("0 0 31 4,6,9,11 *", "never occurs"),
        ("µ * * * *", "minute \"µ\""),
        (&long, "4096"),
    ];
    for (expr, expected) in table {
        let error = compile(&cron(expr)).expect_err(expr).to_string();
        assert!(error.contains(expected), "{expr:?}: {error}");
        assert!(error.len() < 400, "{error}");
    }
}

#[test]
fn h_is_stable_and_spread() {
    use sched_core::schedule::Recurrence;
    let zones = crate::support::Bundled::new();
    let first = |expr: &str, key: &str| {
        let recurrence = Recurrence::compile(&cron(expr), key, &zones).expect("compiles");
        after(&recurrence, t("2026-01-01T00:00:00Z").plus_millis(-1), 1)[0]
    };
    // Pinned: another hash would move the tasks of everybody who used H.
    assert_eq!(
        shown(&[first("H H * * *", "backup"), first("H H * * *", "report")]),
        PINNED
    );
    let mut minutes = std::collections::BTreeSet::new();
    for task in 0..600 {
        let key = format!("task-{task}");
        let at = first("H(10-19) 3 * * *", &key);
        let minute = second(at) / 60 % 60;
        assert!((10..=19).contains(&minute), "{key}: {at}");
        minutes.insert(minute);
        let stepped = after(&compiled_for("H/15 * * * *", &key), t("2026-01-01T00:00:00Z"), 5);
        assert!(
            stepped.windows(2).all(|pair| pair[1].millis_since(pair[0]) == 900_000),
            "{stepped:?}"
        );
        let day = first("0 0 H 2 *", &key);
        assert!(
            (1..=28).contains(&(second(day) / 86_400 - second(t("2026-01-31T00:00:00Z")) / 86_400)),
            "{day}"
        );
    }
    assert_eq!(minutes.len(), 10, "600 names reach every minute");
}

const PINNED: [&str; 2] = ["2026-01-01T15:13:00Z", "2026-01-01T00:11:00Z"];

fn compiled_for(expr: &str, key: &str) -> sched_core::schedule::Recurrence {
    let zones = crate::support::Bundled::new();
    sched_core::schedule::Recurrence::compile(&cron(expr), key, &zones).expect("compiles")
}

/// croner decides the special day forms by its own code.
#[test]
fn equals_croner_on_the_special_days() {
    let days = [
        "*", "L", "15W", "1W", "31W", "LW", "5", "1,15", "*/3", "13", "30W", "28-31",
    ];
    let weekdays = [
        "*", "MON-FRI", "5L", "1L", "5#2", "1#5", "0", "7", "SUN", "2,4", "0#1,3#3", "6-7",
    ];
    let months = ["*", "2", "2,4", "JAN-MAR", "*/5"];
    let parser = croner::parser::CronParser::builder()
        .seconds(croner::parser::Seconds::Optional)
        .build();
    for day in days {
        for weekday in weekdays {
            for month in months {
                let expr = format!("30 12 {day} {month} {weekday}");
                let (Ok(ours), Ok(theirs)) = (compile(&cron(&expr)), parser.parse(&expr)) else {
                    assert!(compile(&cron(&expr)).is_err(), "{expr}: croner refuses, we do not");
                    continue;
                };
                let start = DateTime::<chrono::Utc>::from_str("2023-05-31T12:30:00Z").expect("an instant");
                let expected: Vec<i64> = theirs
                    .iter_after(start)
                    .take(60)
                    .map(|at: DateTime<chrono::Utc>| at.timestamp())
                    .collect();
                let found: Vec<i64> = after(&ours, at_second(start.timestamp()), 60)
                    .into_iter()
                    .map(second)
                    .collect();
                assert_eq!(found, expected, "{expr}");
            }
        }
    }
}
