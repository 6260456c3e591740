//! Calendars in the leader's plan, and what bounds it.

use super::tests::{NoZones, every, seconds, status, t};
use super::*;
use crate::calendar::{CalendarSpec, ClosedTimes};
use crate::schedule::DstPolicy;
use std::sync::Arc;

/// One calendar per list of `from..to`, in seconds.
fn calendars(lists: &[(&str, &[(i64, i64)])]) -> Calendars {
    let closed = |list: &[(i64, i64)]| {
        let intervals = list.iter().map(|(from, to)| Interval {
            from: t(*from),
            to: t(*to),
        });
        let spec = CalendarSpec::new(String::new(), "UTC".into(), Vec::new(), intervals.collect());
        Arc::new(ClosedTimes::compile(&spec, &NoZones).expect("compiles"))
    };
    Calendars::new(
        lists
            .iter()
            .map(|(name, list)| ((*name).to_owned(), closed(list)))
            .collect(),
        7,
    )
}

/// What became of occurrences: `run 100`, `missed 100..120/3`, `closed a 100..110/2`.
fn lines(item: &FireItem) -> Vec<String> {
    let s = |at: Timestamp| at.as_millis() / 1000;
    let mut lines = Vec::new();
    if let Some(missed) = &item.missed {
        lines.push(format!(
            "missed {}..{}/{}",
            s(missed.first),
            s(missed.last),
            missed.count
        ));
    }
    if let Some(closed) = &item.closed {
        lines.push(format!(
            "closed {} {}..{}/{}",
            closed.calendar,
            s(closed.first),
            s(closed.last),
            closed.count
        ));
    }
    lines.extend(seconds(&item.runs).iter().map(|at| format!("run {at}")));
    lines
}

/// Plans until nothing is due; every item begins where the one before ended.
fn all(mut status: TaskStatus, recurrence: &Recurrence, calendars: &Calendars, now: i64) -> (Vec<String>, NextRun) {
    let mut found = Vec::new();
    while let Some(item) = plan_fire(TaskId(1), &status, &mut Occurrences::new(recurrence, calendars), t(now)) {
        assert_eq!(item.calendars, calendars.generation());
        assert!(found.len() < 100, "{found:?}");
        found.extend(lines(&item));
        status.occurrences += item.runs.len() as u64
            + item.missed.map_or(0, |missed| missed.count)
            + item.closed.map_or(0, |closed| closed.count);
        status.next = item.next;
        if status.bounds.count.is_some_and(|count| status.occurrences >= count) {
            status.next = NextRun::Never;
        }
    }
    (found, status.next)
}

/// Every ten seconds from 100 on: closed times, now, policy, count -> what becomes of the occurrences. Times in seconds.
#[test]
fn what_a_calendar_closes_is_a_line_of_its_own_and_the_missed_policy_does_not_see_it() {
    type Row = (&'static [(i64, i64)], i64, Missed, Option<u64>, &'static [&'static str]);
    let three = Missed::All { max: 3 };
    let rows: Vec<Row> = vec![
        (&[], 100, Missed::Latest, None, &["run 100"]),
        (&[(100, 101)], 100, Missed::Latest, None, &["closed a 100..100/1"]),
        // The end is not included.
        (&[(90, 100)], 100, Missed::Latest, None, &["run 100"]),
        (&[(95, 115)], 112, Missed::Latest, None, &["closed a 100..110/2"]),
        // After an outage: the latest that is open runs, if nothing open came due since.
        (
            &[(150, 300)],
            200,
            Missed::Latest,
            None,
            &["missed 100..130/4", "run 140", "closed a 150..200/6"],
        ),
        (
            &[(150, 190)],
            200,
            Missed::Latest,
            None,
            &["missed 100..140/5", "closed a 150..180/4", "run 190", "run 200"],
        ),
        (
            &[(150, 190)],
            200,
            Missed::Skip,
            None,
            &["missed 100..140/5", "closed a 150..180/4", "run 190", "run 200"],
        ),
        // The last three of those that are open, on both sides of what is closed.
        (
            &[(150, 170)],
            200,
            three,
            None,
            &[
                "missed 100..130/4",
                "run 140",
                "closed a 150..160/2",
                "run 170",
                "run 180",
                "run 190",
                "run 200",
            ],
        ),
        (
            &[(110, 120), (130, 140)],
            200,
            three,
            None,
            &[
                "missed 100..100/1",
                "closed a 110..110/1",
                "missed 120..120/1",
                "closed a 130..130/1",
                "missed 140..150/2",
                "run 160",
                "run 170",
                "run 180",
                "run 190",
                "run 200",
            ],
        ),
        // What is closed counts: 100 to 120 are the three there are.
        (
            &[(110, 115)],
            500,
            Missed::Latest,
            Some(3),
            &["missed 100..100/1", "closed a 110..110/1", "run 120"],
        ),
    ];
    for (closed, now, missed, count, expected) in rows {
        let policy = Policy {
            missed,
            ..Policy::default()
        };
        let mut status = status(ScheduleKind::Periodic, t(100), policy);
        status.bounds.count = count;
        let calendars = calendars(&[("a", closed)]);
        let (found, next) = all(status, &every(10).1, &calendars, now);
        let what = format!("{closed:?}, now {now}, {missed:?}, {count:?}");
        assert_eq!(found, expected, "{what}");
        let expected = match count {
            Some(_) => NextRun::Never,
            None => NextRun::At(t(now / 10 * 10 + 10)),
        };
        assert_eq!(next, expected, "{what}");
    }
}

#[test]
fn the_first_calendar_that_closes_a_time_is_named() {
    let calendars = calendars(&[("a", &[(120, 130)]), ("b", &[(100, 150)])]);
    let status = status(ScheduleKind::Periodic, t(100), Policy::default());
    let (found, _) = all(status, &every(10).1, &calendars, 125);
    // The line of `b` goes on: a line has one name, and each occurrence one line.
    assert_eq!(found, ["closed b 100..120/3"]);
}

#[test]
fn a_one_shot_in_a_closed_time_is_refused_or_missed() {
    let calendars = calendars(&[("a", &[(50, 60)])]);
    let schedule = Schedule::At(t(50));
    let recurrence = Recurrence::compile(&schedule, "t", &NoZones).expect("compiles");
    let occurrences = Occurrences::new(&recurrence, &calendars);
    let first = |now, late_ok| first_run(&schedule, &occurrences, &Policy::default(), late_ok, t(now));
    let refused = first(10, false).expect_err("closed").to_string();
    assert!(
        refused.contains("calendar \"a\"") && refused.contains("00:01:00"),
        "{refused}"
    );
    // Late, and the time it would start at is open.
    assert_eq!(first(70, true), Ok(NextRun::At(t(70))));
    assert!(first(55, true).is_err());
    let status = status(ScheduleKind::OneShot, t(50), Policy::default());
    let (found, next) = all(status, &recurrence, &calendars, 50);
    assert_eq!((found, next), (vec!["missed 50..50/1".to_owned()], NextRun::Never));
}

#[test]
fn a_backfill_leaves_out_what_is_closed() {
    let calendars = calendars(&[("a", &[(105, 125)])]);
    let (_, recurrence) = every(10);
    let occurrences = Occurrences::new(&recurrence, &calendars);
    let plan = |from, to| plan_backfill(&occurrences, t(from), t(to), t(500)).map(|times| seconds(&times));
    assert_eq!(plan(100, 140), Ok(vec![100, 130, 140]));
    let refused = plan(110, 120).expect_err("none").to_string();
    assert!(refused.contains("calendars"), "{refused}");
}

/// A rule whose every search is costly: the plan ends within its bound, decides about the occurrence that is due by the same policy,
/// and leaves the rest to a search that is made again.
#[test]
fn a_plan_that_would_take_too_long_decides_about_one_occurrence() {
    let schedule = Schedule::Rrule {
        rules: vec!["FREQ=YEARLY;BYEASTER=-14;BYMONTH=3;BYMONTHDAY=8".into()],
        dtstart: Timestamp::EPOCH,
        rdates: vec![t(1), t(2), t(3)],
        exdates: Vec::new(),
        zone: "UTC".into(),
        dst: DstPolicy::Shift,
    };
    let recurrence = Recurrence::compile(&schedule, "t", &NoZones).expect("compiles");
    let none = Calendars::default();
    let now = t(3_000_000_000);
    for (missed, grace_ms, runs) in [
        (Missed::Latest, 1, 0),
        (Missed::Latest, u64::MAX, 1),
        (Missed::Skip, u64::MAX, 0),
        (Missed::All { max: 1000 }, u64::MAX, 1),
    ] {
        let policy = Policy {
            missed,
            grace_ms,
            ..Policy::default()
        };
        let status = status(ScheduleKind::Periodic, t(1), policy);
        let mut due = Occurrences::new(&recurrence, &none);
        let item = plan_fire(TaskId(1), &status, &mut due, now).expect("due");
        assert!(
            due.steps_taken() <= crate::schedule::DECISION_STEPS_MAX,
            "{}",
            due.steps_taken()
        );
        if due.met_bound() {
            assert_eq!(
                (item.runs.len(), item.missed.is_none()),
                (runs, runs == 1),
                "{missed:?}"
            );
            assert!(matches!(item.next, NextRun::GaveUp { searched_until, .. } if searched_until == t(1)));
        } else {
            assert!(item.missed.is_some() || !item.runs.is_empty());
        }
    }
}
