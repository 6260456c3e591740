//! The forms of schedules, their text, their refusals, and the questions a recurrence answers.

use crate::support::{after, compile, compiled, cron_in, rrule, rrule_in, shown, t};
use sched_core::Timestamp;
use sched_core::schedule::{DstPolicy, Next, Schedule};

fn every(every_ms: u64, anchor: Timestamp) -> Schedule {
    Schedule::Every { every_ms, anchor }
}

#[test]
fn shown_in_one_line() {
    let dates = Schedule::Rrule {
        rules: vec!["RRULE:FREQ=DAILY".to_owned(), "FREQ=WEEKLY;BYDAY=SU".to_owned()],
        dtstart: t("2026-01-01T00:00:00Z"),
        rdates: vec![t("2026-01-02T00:00:00Z")],
        exdates: vec![t("2026-01-03T00:00:00Z"), t("2026-01-04T00:00:00Z")],
        zone: "Asia/Tokyo".to_owned(),
        dst: DstPolicy::Skip,
    };
    let table = [
        (Schedule::Now, "now"),
        (Schedule::At(t("2026-01-01T00:00:00Z")), "at 2026-01-01T00:00:00.000Z"),
        (Schedule::In { delay_ms: 5_400_000 }, "in 1h30m"),
        (
            Schedule::Before {
                event: t("2026-01-01T00:00:00Z"),
                before_ms: 900_000,
            },
            "15m before 2026-01-01T00:00:00.000Z",
        ),
        (every(300_000, Timestamp::EPOCH), "every 5m"),
        (
            every(300_000, t("2026-01-01T00:00:01Z")),
            "every 5m from 2026-01-01T00:00:01.000Z",
        ),
        (
            cron_in("0  9 * * 1-5", "Europe/Zurich", DstPolicy::Shift),
            "cron 0 9 * * 1-5 Europe/Zurich",
        ),
        (cron_in("@daily", "UTC", DstPolicy::Skip), "cron @daily dst=skip"),
        (
            rrule("FREQ=DAILY", "2026-01-01T00:00:00Z"),
            "rrule FREQ=DAILY from 2026-01-01T00:00:00.000Z",
        ),
        (
            dates,
            "rrule FREQ=DAILY + FREQ=WEEKLY;BYDAY=SU from 2026-01-01T00:00:00.000Z +1 dates -2 dates Asia/Tokyo dst=skip",
        ),
        (Schedule::Manual, "manual"),
    ];
    for (schedule, expected) in table {
        assert_eq!(schedule.to_string(), expected);
    }
}

#[test]
fn one_shots() {
    let now = t("2026-01-01T00:00:00Z");
    let late = t("2025-01-01T00:00:00Z");
    let table = [
        (Schedule::Now, Next::At(now), false),
        (Schedule::In { delay_ms: 1500 }, Next::At(now.plus_millis(1500)), false),
        (Schedule::At(late), Next::At(late), false),
        (Schedule::Manual, Next::Exhausted, false),
        (every(60_000, Timestamp::EPOCH), Next::At(now), true),
    ];
    for (schedule, first, periodic) in table {
        let recurrence = compiled(&schedule);
        assert_eq!(recurrence.first_from(now), first, "{schedule}");
        assert_eq!(recurrence.is_periodic(), periodic, "{schedule}");
        assert_eq!(schedule.is_periodic(), periodic, "{schedule}");
    }
    assert_eq!(compiled(&Schedule::At(now)).next_after(now), Next::Exhausted);
    assert_eq!(compiled(&Schedule::At(now)).next_after(late), Next::At(now));
    let alarm = Schedule::Before {
        event: now,
        before_ms: 1500,
    };
    assert_eq!(compiled(&alarm).first_from(now), Next::At(now.plus_millis(-1500)));
    assert_eq!(compiled(&alarm).next_after(now.plus_millis(-1500)), Next::Exhausted);
    assert_eq!(
        Schedule::In { delay_ms: 5 }.resolved(now),
        Schedule::At(now.plus_millis(5))
    );
    assert_eq!(Schedule::Now.resolved(now), Schedule::Now);
    assert_eq!(Schedule::Manual.resolved(now), Schedule::Manual);
    assert_eq!(
        compiled(&Schedule::In { delay_ms: u64::MAX }).first_from(now),
        Next::At(Timestamp::MAX)
    );
}

#[test]
fn every_counts_from_its_anchor() {
    let anchor = t("2026-01-01T00:00:07.500Z");
    let recurrence = compiled(&every(60_000, anchor));
    assert_eq!(recurrence.next_after(Timestamp::MIN), Next::At(anchor));
    assert_eq!(recurrence.next_after(anchor), Next::At(anchor.plus_millis(60_000)));
    assert_eq!(
        recurrence.next_after(anchor.plus_millis(59_999)),
        Next::At(anchor.plus_millis(60_000))
    );
    assert_eq!(recurrence.next_after(Timestamp::MAX), Next::Exhausted);
    for wrong in [0, 9, u64::MAX, 101 * 366 * 86_400_000] {
        let error = compile(&every(wrong, anchor)).expect_err("out of bounds").to_string();
        assert!(error.contains("for example 5m"), "{error}");
    }
}

#[test]
fn counts_and_finds_the_latest_of_a_range() {
    let hourly = compiled(&rrule("FREQ=HOURLY", "2026-01-01T00:30:00Z"));
    let burst = compiled(&rrule(
        "FREQ=YEARLY;BYHOUR=1;BYMINUTE=2;BYSECOND=3,4,5",
        "2026-01-01T00:00:00Z",
    ));
    let minutes = compiled(&every(60_000, t("2026-01-01T00:00:00Z")));
    let table = [
        (
            &hourly,
            "2026-01-01T00:30:00Z",
            "2026-01-01T03:30:00Z",
            3,
            Some("2026-01-01T02:30:00Z"),
        ),
        (
            &hourly,
            "2026-01-01T00:30:00.001Z",
            "2026-01-01T03:30:00.001Z",
            3,
            Some("2026-01-01T03:30:00Z"),
        ),
        (&hourly, "2026-01-01T00:30:01Z", "2026-01-01T01:30:00Z", 0, None),
        (&hourly, "2026-01-01T03:00:00Z", "2026-01-01T03:00:00Z", 0, None),
        (&hourly, "2026-01-01T04:00:00Z", "2026-01-01T03:00:00Z", 0, None),
        (&hourly, "2025-01-01T00:00:00Z", "2025-06-01T00:00:00Z", 0, None),
        (
            &burst,
            "2025-01-01T00:00:00Z",
            "2030-01-01T00:00:00Z",
            12,
            Some("2029-01-01T01:02:05Z"),
        ),
        (
            &burst,
            "2025-01-01T00:00:00Z",
            "2029-01-01T01:02:04Z",
            10,
            Some("2029-01-01T01:02:03Z"),
        ),
        (
            &minutes,
            "2025-12-31T00:00:00Z",
            "2026-01-01T00:10:00Z",
            10,
            Some("2026-01-01T00:09:00Z"),
        ),
        (
            &minutes,
            "2026-01-01T00:00:00.001Z",
            "2026-01-01T00:10:00.001Z",
            10,
            Some("2026-01-01T00:10:00Z"),
        ),
        (&minutes, "2025-01-01T00:00:00Z", "2026-01-01T00:00:00Z", 0, None),
    ];
    for (recurrence, from, to, count, latest) in table {
        assert_eq!(recurrence.count_in(t(from), t(to), 1000), count, "{from} {to}");
        assert_eq!(recurrence.count_in(t(from), t(to), 2), count.min(2), "{from} {to}");
        assert_eq!(recurrence.latest_in(t(from), t(to)), latest.map(t), "{from} {to}");
    }
}

#[test]
fn dates_are_added_and_taken_out() {
    let schedule = Schedule::Rrule {
        rules: vec![
            "FREQ=DAILY;COUNT=4".to_owned(),
            "RRULE:freq=daily;interval=2;count=3".to_owned(),
        ],
        dtstart: t("2026-01-01T09:00:00.250Z"),
        rdates: vec![
            t("2026-01-01T00:00:00Z"),
            t("2026-01-02T12:00:00Z"),
            t("2026-01-02T12:00:00Z"),
        ],
        exdates: vec![t("2026-01-03T09:00:00Z"), t("2027-01-01T00:00:00Z")],
        zone: "UTC".to_owned(),
        dst: DstPolicy::Shift,
    };
    let expected = [
        "2026-01-01T00:00:00Z",
        "2026-01-01T09:00:00Z",
        "2026-01-02T09:00:00Z",
        "2026-01-02T12:00:00Z",
        "2026-01-04T09:00:00Z",
        "2026-01-05T09:00:00Z",
    ];
    assert_eq!(shown(&after(&compiled(&schedule), Timestamp::MIN, 20)), expected);
}

#[test]
fn weekdays_with_and_without_ordinal_mean_either() {
    let recurrence = compiled(&rrule("FREQ=MONTHLY;BYDAY=SU,2TU", "2026-01-01T00:00:00Z"));
    let expected = [
        "2026-01-04T00:00:00Z",
        "2026-01-11T00:00:00Z",
        "2026-01-13T00:00:00Z",
        "2026-01-18T00:00:00Z",
    ];
    assert_eq!(shown(&after(&recurrence, Timestamp::MIN, 4)), expected);
}

#[test]
fn large_counts_are_counted_by_arithmetic() {
    let table = [
        ("FREQ=SECONDLY;COUNT=4294967295", "2162-02-07T06:28:14Z"),
        ("FREQ=MINUTELY;COUNT=1000001", "2027-11-26T10:40:00Z"),
        ("FREQ=DAILY;COUNT=100001", "2299-10-17T00:00:00Z"),
        ("FREQ=SECONDLY;INTERVAL=30;BYDAY=SU;COUNT=2881", "2026-01-11T00:00:00Z"),
        ("FREQ=MINUTELY;BYSECOND=40;COUNT=1000001", "2027-11-26T10:40:40Z"),
    ];
    for (rule, last) in table {
        let recurrence = compiled(&rrule(rule, "2026-01-01T00:00:00Z"));
        assert_eq!(
            recurrence.next_after(t(last).plus_millis(-1)),
            Next::At(t(last)),
            "{rule}"
        );
        assert_eq!(recurrence.next_after(t(last)), Next::Exhausted, "{rule}");
    }
    let plain = compiled(&rrule_in(
        "FREQ=HOURLY;COUNT=100000",
        "2026-01-01T00:00:00Z",
        "Europe/Zurich",
        DstPolicy::Shift,
    ));
    assert_eq!(plain.next_after(t("2037-05-29T15:00:00Z")), Next::Exhausted);
    assert_eq!(
        plain.next_after(t("2037-05-29T14:59:59Z")),
        Next::At(t("2037-05-29T15:00:00Z"))
    );
}

#[test]
fn refuses_with_the_part_the_value_and_an_example() {
    let long = format!("FREQ=DAILY;BYHOUR={}", "1,".repeat(3000));
    let table = [
        ("", "\"\" is not valid: expected NAME=VALUE"),
        ("DAILY", "NAME=VALUE"),
        ("INTERVAL=2", "FREQ is missing"),
        ("FREQ=FORTNIGHTLY", "FREQ \"FORTNIGHTLY\""),
        ("FREQ=", "FREQ \"\""),
        ("FREQ=DAILY;FREQ=DAILY", "given twice"),
        ("FREQ=DAILY;BYDAY=MO;BYWEEKDAY=TU", "BYDAY is given twice"),
        ("FREQ=DAILY;INTERVAL=0", "INTERVAL \"0\""),
        ("FREQ=DAILY;INTERVAL=-1", "INTERVAL \"-1\""),
        ("FREQ=DAILY;INTERVAL=99999999999", "INTERVAL"),
        ("FREQ=DAILY;COUNT=0", "COUNT \"0\""),
        ("FREQ=DAILY;COUNT=x", "COUNT \"X\""),
        ("FREQ=DAILY;COUNT=3;UNTIL=20270101T000000Z", "exclude each other"),
        ("FREQ=DAILY;UNTIL=2027", "UNTIL \"2027\""),
        ("FREQ=DAILY;UNTIL=20270231T000000Z", "20261231T235959Z"),
        ("FREQ=DAILY;UNTIL=20270101T250000Z", "20261231T235959Z"),
        ("FREQ=DAILY;UNTIL=2027-01-01", "20261231T235959Z"),
        ("FREQ=DAILY;WKST=XX", "WKST \"XX\""),
        ("FREQ=DAILY;BYMONTH=13", "BYMONTH \"13\""),
        ("FREQ=DAILY;BYMONTH=", "BYMONTH \"\""),
        ("FREQ=DAILY;BYMONTHDAY=0", "BYMONTHDAY \"0\""),
        ("FREQ=DAILY;BYMONTHDAY=32", "BYMONTHDAY \"32\""),
        ("FREQ=YEARLY;BYYEARDAY=367", "BYYEARDAY \"367\""),
        ("FREQ=YEARLY;BYWEEKNO=54", "BYWEEKNO \"54\""),
        ("FREQ=YEARLY;BYEASTER=400", "BYEASTER \"400\""),
        ("FREQ=DAILY;BYDAY=1MO", "which only MONTHLY and YEARLY"),
        ("FREQ=MONTHLY;BYDAY=54MO", "BYDAY \"54MO\""),
        ("FREQ=MONTHLY;BYDAY=0MO", "BYDAY \"0MO\""),
        ("FREQ=DAILY;BYDAY=XX", "BYDAY \"XX\""),
        ("FREQ=DAILY;BYHOUR=24", "BYHOUR \"24\""),
        ("FREQ=DAILY;BYMINUTE=60", "BYMINUTE \"60\""),
        ("FREQ=DAILY;BYSECOND=60", "BYSECOND \"60\""),
        ("FREQ=DAILY;BYSETPOS=0", "BYSETPOS \"0\""),
        ("FREQ=DAILY;BYSETPOS=367", "BYSETPOS \"367\""),
        ("FREQ=DAILY;BYMOON=1", "BYMOON"),
        ("FREQ=DAILY;BYMONTH", "\"BYMONTH\""),
        ("FREQ=DAILY;UNTIL=20200101T000000Z", "never occurs"),
        (&long, "4096"),
    ];
    for (rule, expected) in table {
        let error = compile(&rrule(rule, "2026-01-01T00:00:00Z"))
            .expect_err(rule)
            .to_string();
        assert!(error.contains(expected), "{rule:?}: {error}");
        assert!(error.len() < 400, "{error}");
    }
    let unknown = cron_in("@daily", "Mars/Olympus", DstPolicy::Shift);
    assert!(
        compile(&unknown)
            .expect_err("no such zone")
            .to_string()
            .contains("\"Mars/Olympus\"")
    );
    let none = Schedule::Rrule {
        rules: Vec::new(),
        dtstart: Timestamp::EPOCH,
        rdates: vec![Timestamp::EPOCH],
        exdates: Vec::new(),
        zone: "UTC".to_owned(),
        dst: DstPolicy::Shift,
    };
    assert!(
        compile(&none)
            .expect_err("no rule")
            .to_string()
            .contains("at least one")
    );
    let many = Schedule::Rrule {
        rules: vec!["FREQ=DAILY".to_owned(); 17],
        dtstart: Timestamp::EPOCH,
        rdates: Vec::new(),
        exdates: Vec::new(),
        zone: "UTC".to_owned(),
        dst: DstPolicy::Shift,
    };
    assert!(compile(&many).expect_err("too many").to_string().contains("at most 16"));
}
