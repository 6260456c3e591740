//! What rules mean in words, and where changes of the clock touch them.

use crate::support::{Bundled, compile, compiled, cron, cron_in, rrule, rrule_in, t};
use sched_core::Timestamp;
use sched_core::ids::TaskId;
use sched_core::schedule::{Clock, DstPolicy, Schedule, explain};
use sched_core::task::{Ending, TaskRef};

/// A Thursday.
const START: &str = "2026-01-15T10:30:40Z";

fn words(schedule: &Schedule) -> String {
    explain(schedule, "backup", &Bundled::new()).unwrap_or_else(|error| panic!("{schedule}: {error}"))
}

#[test]
fn cron_in_words() {
    for (expr, expected) in [
        ("* * * * *", "every minute, UTC"),
        ("* * * * * *", "every second, UTC"),
        ("*/10 * * * * *", "every 10 seconds, UTC"),
        ("40 * * * * *", "every minute at second 40, UTC"),
        ("*/15 * * * *", "every 15 minutes, UTC"),
        (
            "*/7 * * * *",
            "every hour at minutes 0, 7, 14, 21, 28, 35, 42, 49 and 56, UTC",
        ),
        ("30 * * * *", "every hour at minute 30, UTC"),
        ("30 2 * * *", "every day at 02:30, UTC"),
        ("30 2 * * 1-5", "at 02:30 on weekdays, UTC"),
        ("0 9,17 * * SAT,SUN", "at 09:00 and 17:00 on weekends, UTC"),
        (
            "*/15 9-17 * * MON-FRI",
            "every 15 minutes in hours 9 to 17 on weekdays, UTC",
        ),
        (
            "0 */2 * * *",
            "every day at minute 0 in hours 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20 and 22, UTC",
        ),
        ("0 0 1,15 * *", "at 00:00 on days 1 and 15 of the month, UTC"),
        ("0 0 13 * FRI", "at 00:00 on day 13 of the month or Friday, UTC"),
        ("0 0 L * *", "at 00:00 on the last day of the month, UTC"),
        (
            "0 0 L-3 * *",
            "at 00:00 on 3 days before the last day of the month, UTC",
        ),
        ("0 0 LW * *", "at 00:00 on the last working day of the month, UTC"),
        (
            "0 0 15W * *",
            "at 00:00 on the working day nearest to day 15 of the month, UTC",
        ),
        ("0 0 * * 5L", "at 00:00 on the last Friday of the month, UTC"),
        ("0 0 * * 5#2", "at 00:00 on the 2nd Friday of the month, UTC"),
        (
            "0 0 1 1,6-9 *",
            "at 00:00 on day 1 of the month in January and June to September, UTC",
        ),
        ("0 0 * 2 *", "every day at 00:00 in February, UTC"),
        ("@daily", "every day at 00:00, UTC"),
        ("@hourly", "every hour at minute 0, UTC"),
        ("@yearly", "at 00:00 on day 1 of the month in January, UTC"),
        ("@every 90m", "every 1h30m, counted from 1970-01-01T00:00:00Z"),
        // What H stands for is said, not that it was H.
        ("H H * * *", "every day at 15:13, UTC"),
        ("5 30 9 * * *", "every day at 09:30:05, UTC"),
    ] {
        assert_eq!(words(&cron(expr)), expected, "{expr}");
    }
    let zurich = cron_in("30 2 * * 1-5", "Europe/Zurich", DstPolicy::Shift);
    assert_eq!(words(&zurich), "at 02:30 on weekdays, Europe/Zurich");
}

#[test]
fn rules_in_words() {
    for (rule, expected) in [
        ("FREQ=MINUTELY;BYSECOND=40", "every minute at second 40"),
        ("FREQ=MINUTELY", "every minute, counted from 2026-01-15T10:30:40Z"),
        (
            "FREQ=MINUTELY;INTERVAL=5;BYSECOND=0",
            "every 5 minutes at second 0, counted from 2026-01-15T10:30:40Z",
        ),
        (
            "FREQ=MINUTELY;BYHOUR=9,10;BYMINUTE=0;BYSECOND=0",
            "every minute at second 0, only in minute 0, only in hours 9 and 10",
        ),
        (
            "FREQ=SECONDLY;INTERVAL=7",
            "every 7 seconds, counted from 2026-01-15T10:30:40Z",
        ),
        ("FREQ=SECONDLY;BYSECOND=0,30", "every second, only at seconds 0 and 30"),
        ("FREQ=HOURLY", "every hour, counted from 2026-01-15T10:30:40Z"),
        (
            "FREQ=HOURLY;INTERVAL=6;BYMINUTE=0;BYSECOND=0",
            "every 6 hours at minute 0, second 0, counted from 2026-01-15T10:30:40Z",
        ),
        (
            "FREQ=HOURLY;BYMINUTE=0,30;BYSECOND=0;BYDAY=MO",
            "every hour at minutes 0 and 30, second 0 on Monday",
        ),
        ("FREQ=DAILY", "every day at 10:30:40"),
        ("FREQ=DAILY;BYHOUR=9;BYMINUTE=0;BYSECOND=0", "every day at 09:00"),
        (
            "FREQ=DAILY;INTERVAL=3;BYHOUR=9;BYMINUTE=0;BYSECOND=0",
            "every 3 days at 09:00, counted from 2026-01-15T10:30:40Z",
        ),
        (
            "FREQ=DAILY;BYDAY=MO,TU,WE,TH,FR;BYHOUR=9;BYMINUTE=0;BYSECOND=0;COUNT=10",
            "every day at 09:00 on weekdays, 10 times in all",
        ),
        (
            "FREQ=DAILY;BYMONTH=12;BYHOUR=9;BYMINUTE=0;BYSECOND=0",
            "every day at 09:00 in December",
        ),
        (
            "FREQ=WEEKLY;BYHOUR=9;BYMINUTE=0;BYSECOND=0",
            "every week at 09:00 on Thursday",
        ),
        (
            "FREQ=WEEKLY;INTERVAL=2;BYDAY=MO,WE;WKST=SU",
            "every 2 weeks at 10:30:40 on Monday and Wednesday, counted from 2026-01-15T10:30:40Z in weeks that begin on Sunday",
        ),
        ("FREQ=MONTHLY", "every month at 10:30:40 on day 15 of the month"),
        (
            "FREQ=MONTHLY;BYMONTHDAY=-1",
            "every month at 10:30:40 on the last day of the month",
        ),
        (
            "FREQ=MONTHLY;BYMONTHDAY=1,15,-2",
            "every month at 10:30:40 on days 1 and 15 and the 2nd last day of the month",
        ),
        (
            "FREQ=MONTHLY;BYDAY=-1FR",
            "every month at 10:30:40 on the last Friday of the month",
        ),
        (
            "FREQ=MONTHLY;BYDAY=FR;BYMONTHDAY=13",
            "every month at 10:30:40 on Friday and only on day 13 of the month",
        ),
        (
            "FREQ=MONTHLY;BYDAY=MO,TU,WE,TH,FR;BYSETPOS=-1",
            "every month at 10:30:40 on weekdays, of these the last in each month",
        ),
        (
            "FREQ=MONTHLY;BYDAY=MO,2TU",
            "every month at 10:30:40 on Monday and the 2nd Tuesday of the month",
        ),
        ("FREQ=YEARLY", "every year at 10:30:40 on 15 January"),
        (
            "FREQ=YEARLY;BYMONTH=3,6",
            "every year at 10:30:40 on day 15 of the month in March and June",
        ),
        (
            "FREQ=YEARLY;BYDAY=20MO",
            "every year at 10:30:40 on the 20th Monday of the year",
        ),
        (
            "FREQ=YEARLY;BYMONTH=11;BYDAY=4TH",
            "every year at 10:30:40 on the 4th Thursday of the month and only in November",
        ),
        (
            "FREQ=YEARLY;BYYEARDAY=100,-1",
            "every year at 10:30:40 on the last and 100th day of the year",
        ),
        (
            "FREQ=YEARLY;BYWEEKNO=20",
            "every year at 10:30:40 in the 20th week of the year, weeks beginning on Monday",
        ),
        ("FREQ=YEARLY;BYEASTER=0", "every year at 10:30:40 on Easter Sunday"),
        (
            "FREQ=YEARLY;BYEASTER=-2,1,39",
            "every year at 10:30:40 on 2 days before Easter Sunday, 1 day after Easter Sunday and 39 days after Easter Sunday",
        ),
        (
            "FREQ=DAILY;UNTIL=20261231T000000Z",
            "every day at 10:30:40, until 2026-12-31T00:00:00Z",
        ),
        (
            "FREQ=DAILY;UNTIL=20261231",
            "every day at 10:30:40, until 2026-12-31 00:00 local time",
        ),
        ("FREQ=DAILY;COUNT=1", "every day at 10:30:40, once"),
        (
            "FREQ=DAILY;BYHOUR=1,2,3,4;BYMINUTE=0,30;BYSECOND=0;BYSETPOS=1,-1",
            "every day, every 30 minutes in hours 1 to 4, of these the last and the 1st in each day",
        ),
    ] {
        assert_eq!(words(&rrule(rule, START)), format!("{expected}, UTC"), "{rule}");
    }
    // What is not given is what the local clock shows at the start.
    let local = rrule_in("FREQ=DAILY", "2026-07-15T22:30:00Z", "Asia/Tokyo", DstPolicy::Shift);
    assert_eq!(words(&local), "every day at 07:30, Asia/Tokyo");
}

#[test]
fn other_forms_in_words() {
    let all = Schedule::Rrule {
        rules: vec!["FREQ=DAILY".to_owned(), "FREQ=WEEKLY".to_owned()],
        dtstart: t(START),
        rdates: vec![t("2026-02-01T00:00:00Z")],
        exdates: (1..5).map(|n| t(START).plus_millis(n * 86_400_000)).collect(),
        zone: "UTC".to_owned(),
        dst: DstPolicy::Shift,
    };
    let every = |every_ms, anchor| Schedule::Every { every_ms, anchor };
    for (schedule, expected) in [
        (Schedule::Now, "once, at once"),
        (Schedule::Manual, "only when triggered"),
        (Schedule::In { delay_ms: 90_000 }, "once, 1m30s after it is accepted"),
        (Schedule::At(t(START)), "once, at 2026-01-15T10:30:40Z"),
        (
            Schedule::After {
                parents: vec![TaskRef::Id(TaskId(42)), TaskRef::Id(TaskId(7))],
                on: Ending::Failure,
            },
            "once, when all of these have failed: task 42, task 7",
        ),
        (
            every(300_000, Timestamp::EPOCH),
            "every 5m, counted from 1970-01-01T00:00:00Z",
        ),
        (
            every(1500, t(START)),
            "every 1s500ms, counted from 2026-01-15T10:30:40Z",
        ),
        (
            all,
            "every day at 10:30:40; and every week at 10:30:40 on Thursday, and also at 2026-02-01T00:00:00Z, \
             but not at 4 given instants, UTC",
        ),
    ] {
        assert_eq!(words(&schedule), expected, "{schedule}");
    }
    // Only what can run is explained.
    for refused in [cron("0 0 30 2 *"), rrule("FREQ=DAILY;BYSETPOS=2", START)] {
        let ours = explain(&refused, "", &Bundled::new()).expect_err("never occurs");
        assert_eq!(ours, compile(&refused).expect_err("never occurs"));
    }
}

const FROM: &str = "2026-11-23T00:00:00Z";
const TO: &str = "2028-11-23T00:00:00Z";

fn changes(schedule: &Schedule, zone: &str) -> Vec<String> {
    let changes = compiled(schedule).clock_changes(t(FROM), t(TO), zone);
    changes.into_iter().map(|change| change.text).collect()
}

#[test]
fn changes_of_the_clock_that_touch_a_rule() {
    let rows: [(&str, &str, DstPolicy, &[&str]); 9] = [
        (
            "30 2 * * *",
            "Europe/Berlin",
            DstPolicy::Shift,
            &[
                "2027-03-28: 02:30 does not exist in Europe/Berlin; runs at 03:00 instead (dst=shift)",
                "2027-10-31: 02:30 happens twice in Europe/Berlin; runs the first time only",
                "2028-03-26: 02:30 does not exist in Europe/Berlin; runs at 03:00 instead (dst=shift)",
                "2028-10-29: 02:30 happens twice in Europe/Berlin; runs the first time only",
            ],
        ),
        (
            "30 2 * 1-5 *",
            "Europe/Berlin",
            DstPolicy::Skip,
            &[
                "2027-03-28: 02:30 does not exist in Europe/Berlin; does not run (dst=skip)",
                "2028-03-26: 02:30 does not exist in Europe/Berlin; does not run (dst=skip)",
            ],
        ),
        // The changes are on Sundays.
        ("30 2 * * 1-5", "Europe/Berlin", DstPolicy::Shift, &[]),
        ("0 9 * * *", "Europe/Berlin", DstPolicy::Shift, &[]),
        ("30 2 * * *", "UTC", DstPolicy::Shift, &[]),
        ("30 2 * * *", "Asia/Tokyo", DstPolicy::Shift, &[]),
        (
            "*/10 2 28 3 *",
            "Europe/Berlin",
            DstPolicy::Shift,
            &[
                "2027-03-28: 02:00, 02:10, 02:20, 02:30 and more do not exist in Europe/Berlin; one run at 03:00 instead \
               (dst=shift)",
            ],
        ),
        (
            "45 1 * 4 *",
            "Australia/Lord_Howe",
            DstPolicy::Shift,
            &[
                "2027-04-04: 01:45 happens twice in Australia/Lord_Howe; runs the first time only",
                "2028-04-02: 01:45 happens twice in Australia/Lord_Howe; runs the first time only",
            ],
        ),
        // Absolute time.
        ("*/30 * * * *", "Europe/Berlin", DstPolicy::Shift, &[]),
    ];
    for (expr, zone, dst, expected) in rows {
        let schedule = cron_in(expr, zone, dst);
        assert_eq!(changes(&schedule, zone), expected, "{expr} {zone}");
    }
    let rule = "FREQ=MONTHLY;BYDAY=-1SU;BYHOUR=2;BYMINUTE=0,15;BYSECOND=0;UNTIL=20270401T000000Z";
    let schedule = rrule_in(rule, START, "Europe/Berlin", DstPolicy::Shift);
    assert_eq!(
        changes(&schedule, "Europe/Berlin"),
        ["2027-03-28: 02:00 and 02:15 do not exist in Europe/Berlin; one run at 03:00 instead (dst=shift)"]
    );
}

/// What is said about a change is what the search does there.
#[test]
fn what_is_said_of_a_change_happens() {
    for zone in [
        "Europe/Berlin",
        "America/Havana",
        "Australia/Lord_Howe",
        "Africa/Casablanca",
    ] {
        for expr in ["30 2 * * *", "0 0 * * *", "*/20 0,2 * * *"] {
            for dst in [DstPolicy::Shift, DstPolicy::Skip] {
                let recurrence = compiled(&cron_in(expr, zone, dst));
                for change in recurrence.clock_changes(t(FROM), t(TO), zone) {
                    let Some(runs_at) = change.runs_at else {
                        let next = recurrence.next_after(change.at.plus_millis(-1)).at();
                        assert!(change.gap && dst == DstPolicy::Skip, "{change:?}");
                        assert!(next > Some(change.at), "{zone} {expr} {change:?}");
                        continue;
                    };
                    let next = recurrence.next_after(runs_at.plus_millis(-1)).at();
                    assert_eq!(next, Some(runs_at), "{zone} {expr} {change:?}");
                }
            }
        }
    }
}

#[test]
fn the_clock_matters_or_not() {
    for (expr, zone, expected) in [
        ("30 2 * * *", "Europe/Berlin", Clock::Wall),
        ("30 * * * *", "Europe/Berlin", Clock::Absolute),
        ("@every 1h", "Europe/Berlin", Clock::Untouched),
        ("30 2 * * *", "UTC", Clock::Untouched),
        ("30 2 * * *", "Asia/Tokyo", Clock::Untouched),
    ] {
        let recurrence = compiled(&cron_in(expr, zone, DstPolicy::Shift));
        assert_eq!(recurrence.clock(t(FROM), t(TO)), expected, "{expr} {zone}");
    }
}
