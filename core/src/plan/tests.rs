use super::*;
use crate::ids::Token;
use crate::schedule::Zones;
use crate::task::{Policy, ScheduleKind, TaskState};

struct NoZones;
impl Zones for NoZones {
    fn zone(&self, name: &str) -> Option<jiff::tz::TimeZone> {
        (name == "UTC").then_some(jiff::tz::TimeZone::UTC)
    }
}

fn t(s: i64) -> Timestamp {
    Timestamp::from_millis(s * 1000)
}

fn status(kind: ScheduleKind, cursor: Timestamp, policy: Policy) -> TaskStatus {
    TaskStatus {
        state: TaskState::Queued,
        generation: 4,
        kind,
        policy,
        next: NextRun::At(cursor),
        pause: None,
        last_scheduled: None,
        runs_created: 0,
        live: vec![],
        held: vec![],
        finished: 0,
        failed: 0,
        finished_kept: 0,
        failed_kept: 0,
        ledger_lines: 0,
        ended_at: None,
    }
}

fn every(s: u64) -> (Schedule, Recurrence) {
    let schedule = Schedule::Every {
        every_ms: s * 1000,
        anchor: Timestamp::EPOCH,
    };
    let recurrence = Recurrence::compile(&schedule, "t", &NoZones).expect("compiles");
    (schedule, recurrence)
}

fn seconds(times: &[Timestamp]) -> Vec<i64> {
    times.iter().map(|at| at.as_millis() / 1000).collect()
}

/// (cursor, now, missed policy, grace) -> runs, missed first..last/count, next; every ten seconds, times in seconds.
#[test]
fn periodic_tasks_after_an_outage() {
    type Row = (i64, i64, Missed, u64, Vec<i64>, Option<(i64, i64, u64)>, i64);
    let rows: Vec<Row> = vec![
        (100, 100, Missed::Latest, 3600, vec![100], None, 110),
        // Under fifteen seconds late: all run.
        (100, 114, Missed::Skip, 3600, vec![100, 110], None, 120),
        (100, 115, Missed::Skip, 3600, vec![110], Some((100, 100, 1)), 120),
        // Older: the policy decides, what is fresh runs.
        (100, 200, Missed::Skip, 3600, vec![190, 200], Some((100, 180, 9)), 210),
        (100, 200, Missed::Latest, 3600, vec![190, 200], Some((100, 180, 9)), 210),
        (
            100,
            200,
            Missed::All { max: 3 },
            3600,
            vec![160, 170, 180, 190, 200],
            Some((100, 150, 6)),
            210,
        ),
        (
            100,
            200,
            Missed::All { max: 30 },
            3600,
            (100..=200).step_by(10).collect(),
            None,
            210,
        ),
        // The grace bounds what may still run.
        (
            100,
            200,
            Missed::All { max: 30 },
            50,
            vec![150, 160, 170, 180, 190, 200],
            Some((100, 140, 5)),
            210,
        ),
    ];
    for (cursor, now, missed, grace, runs, range, next) in rows {
        let policy = Policy {
            missed,
            grace_ms: grace * 1000,
            ..Policy::default()
        };
        let status = status(ScheduleKind::Periodic, t(cursor), policy);
        let (_, recurrence) = every(10);
        let item = plan_fire(TaskId(1), &status, &recurrence, t(now)).expect("due");
        let what = format!("cursor {cursor}, now {now}, {missed:?}, grace {grace}");
        assert_eq!(seconds(&item.runs), runs, "{what}");
        let actual = item
            .missed
            .map(|m| (m.first.as_millis() / 1000, m.last.as_millis() / 1000, m.count));
        assert_eq!(actual, range, "{what}");
        assert_eq!(item.next, NextRun::At(t(next)), "{what}");
        assert_eq!((item.generation, item.cursor), (4, t(cursor)), "{what}");
    }
}

#[test]
fn latest_runs_when_nothing_fresh_is_due() {
    let (_, recurrence) = every(100);
    let policy = Policy {
        missed: Missed::Latest,
        ..Policy::default()
    };
    let status = status(ScheduleKind::Periodic, t(100), policy);
    let item = plan_fire(TaskId(1), &status, &recurrence, t(480)).expect("due");
    assert_eq!(seconds(&item.runs), [400]);
    let missed = item.missed.expect("missed");
    assert_eq!((missed.first, missed.last, missed.count), (t(100), t(300), 3));
    assert_eq!(item.next, NextRun::At(t(500)));
}

#[test]
fn more_than_one_fire_carries_is_asked_for_again() {
    let (_, recurrence) = every(1);
    let policy = Policy {
        missed: Missed::All { max: 200 },
        ..Policy::default()
    };
    let mut status = status(ScheduleKind::Periodic, t(1000), policy);
    let mut all = Vec::new();
    let mut rounds = 0;
    while let Some(item) = plan_fire(TaskId(1), &status, &recurrence, t(1150)) {
        assert!(item.runs.len() <= FIRE_RUNS_MAX && item.missed.is_none(), "{item:?}");
        all.extend(seconds(&item.runs));
        status.next = item.next;
        rounds += 1;
        assert!(rounds < 10);
    }
    assert_eq!(all, (1000..=1150).collect::<Vec<_>>());
}

#[test]
fn one_shots_are_late_or_missed() {
    let (_, recurrence) = every(1);
    for (late_s, missed, runs) in [
        (0, Missed::Skip, true),
        (14, Missed::Skip, true),
        (15, Missed::Skip, false),
        (15, Missed::Latest, true),
    ]
    .into_iter()
    .chain([(3600, Missed::Latest, true), (3601, Missed::Latest, false)])
    {
        let policy = Policy {
            missed,
            ..Policy::default()
        };
        let item = plan_fire(
            TaskId(1),
            &status(ScheduleKind::OneShot, t(50), policy),
            &recurrence,
            t(50 + late_s),
        )
        .expect("due");
        assert_eq!(!item.runs.is_empty(), runs, "{late_s} s late, {missed:?}");
        assert_eq!(item.missed.is_none(), runs);
        assert_eq!(item.next, NextRun::Never);
    }
    assert!(
        plan_fire(
            TaskId(1),
            &status(ScheduleKind::OneShot, t(50), Policy::default()),
            &recurrence,
            t(49)
        )
        .is_none()
    );
}

#[test]
fn first_runs() {
    let at = |s| {
        let schedule = Schedule::At(t(s));
        let recurrence = Recurrence::compile(&schedule, "t", &NoZones).expect("compiles");
        (schedule, recurrence)
    };
    let first = |(schedule, recurrence): (Schedule, Recurrence), policy: Policy, late_ok| {
        first_run(&schedule, &recurrence, &policy, late_ok, t(10_000))
    };
    assert_eq!(first(at(10_001), Policy::default(), false), Ok(NextRun::At(t(10_001))));
    // Within the grace of an hour: late, and run.
    assert_eq!(first(at(9_990), Policy::default(), false), Ok(NextRun::At(t(9_990))));
    assert!(matches!(
        first(at(1_000), Policy::default(), false),
        Err(Reject::Invalid { .. })
    ));
    assert_eq!(first(at(1_000), Policy::default(), true), Ok(NextRun::At(t(10_000))));
    let strict = Policy {
        grace_ms: 0,
        ..Policy::default()
    };
    assert!(matches!(first(at(9_999), strict, false), Err(Reject::Invalid { .. })));
    assert_eq!(first(every(30), Policy::default(), false), Ok(NextRun::At(t(10_020))));
}

#[test]
fn runs_are_spread_to_the_least_loaded() {
    let session = |n| SessionId(Token { index: n, position: 0 });
    let run = |n| RunId {
        task: TaskId(n),
        number: 1,
    };
    let rooms = [
        Room {
            session: session(1),
            free: 2,
            busy: 5,
        },
        Room {
            session: session(2),
            free: 3,
            busy: 0,
        },
        Room {
            session: session(3),
            free: 0,
            busy: 0,
        },
        Room {
            session: session(4),
            free: 1,
            busy: 1,
        },
    ];
    let ready: Vec<RunId> = (1..=9).map(run).collect();
    let items = plan_assign(&ready, &rooms);
    let to: Vec<u64> = items.iter().map(|item| item.session.0.index).collect();
    assert_eq!(to, [2, 2, 4, 2, 1, 1], "room for six");
    assert_eq!(
        items.iter().map(|item| item.run.task.0).collect::<Vec<_>>(),
        [1, 2, 3, 4, 5, 6],
        "in their order"
    );
    assert!(plan_assign(&ready, &[]).is_empty());
}
