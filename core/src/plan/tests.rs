use super::*;
use crate::ids::Token;
use crate::schedule::Zones;
use crate::task::{Bounds, Ending, Jitter, Policy, ScheduleKind, TaskState};

pub(super) struct NoZones;
impl Zones for NoZones {
    fn zone(&self, name: &str) -> Option<jiff::tz::TimeZone> {
        (name == "UTC").then_some(jiff::tz::TimeZone::UTC)
    }
}

/// Without calendars.
fn plan_fire(id: TaskId, status: &TaskStatus, recurrence: &Recurrence, now: Timestamp) -> Option<FireItem> {
    super::plan_fire(
        id,
        status,
        &mut Occurrences::new(recurrence, &Calendars::default()),
        now,
    )
}

pub(super) fn t(s: i64) -> Timestamp {
    Timestamp::from_millis(s * 1000)
}

pub(super) fn status(kind: ScheduleKind, cursor: Timestamp, policy: Policy) -> TaskStatus {
    TaskStatus {
        state: TaskState::Queued,
        generation: 4,
        kind,
        policy,
        bounds: Bounds::default(),
        namespace: "default".into(),
        occurrences: 0,
        waits_for: vec![],
        waits_on: Ending::default(),
        doomed: None,
        dependents: 0,
        next: NextRun::At(cursor),
        pause: None,
        last_scheduled: None,
        runs_created: 0,
        live: vec![],
        held: vec![],
        lost: vec![],
        finished: 0,
        failed: 0,
        failing: false,
        finished_kept: 0,
        failed_kept: 0,
        ledger_lines: 0,
        ended_at: None,
        turn: None,
        caught_up_at: None,
        queue: None,
    }
}

pub(super) fn every(s: u64) -> (Schedule, Recurrence) {
    let schedule = Schedule::Every {
        every_ms: s * 1000,
        anchor: Timestamp::EPOCH,
    };
    let recurrence = Recurrence::compile(&schedule, "t", &NoZones).expect("compiles");
    (schedule, recurrence)
}

pub(super) fn seconds(times: &[Timestamp]) -> Vec<i64> {
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
        first_run(
            &schedule,
            &Occurrences::new(&recurrence, &Calendars::default()),
            &policy,
            late_ok,
            t(10_000),
        )
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
    let room = |n, free, busy| Room {
        session: session(n),
        free,
        busy,
        worker: "w".into(),
        labels: Arc::default(),
        queues: Arc::default(),
    };
    let rooms = [room(1, 2, 5), room(2, 3, 0), room(3, 0, 0), room(4, 1, 1)];
    let ready: Vec<Candidate> = (1..=9).map(|n| Candidate::anywhere(run(n))).collect();
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

#[test]
fn runs_go_where_their_labels_say() {
    let labels = |text: &str| -> BTreeMap<String, String> {
        let pair = |pair: &str| {
            pair.split_once('=')
                .map(|(label, value)| (label.to_owned(), value.to_owned()))
        };
        text.split_whitespace().filter_map(pair).collect()
    };
    let room = |n, busy, worker: &str, has: &str| Room {
        session: SessionId(Token { index: n, position: 0 }),
        free: 2,
        busy,
        worker: worker.into(),
        labels: Arc::new(labels(has)),
        queues: Arc::default(),
    };
    let rooms = [
        room(1, 0, "a", "zone=x"),
        room(2, 5, "b", "zone=y gpu=yes"),
        room(3, 9, "c", "zone=x gpu=yes"),
    ];
    // require, prefer, avoid -> session, or nothing.
    let rows = [
        ("", "", "", Some(1)),
        ("gpu=yes", "", "", Some(2)),
        ("gpu=yes", "zone=x", "", Some(3)),
        ("gpu=no", "", "", None),
        ("", "", "a", Some(2)),
        // It is better to go back than to wait.
        ("zone=x gpu=yes", "", "c", Some(3)),
        ("", "zone=x", "a", Some(3)),
    ];
    for (require, prefer, avoid, expected) in rows {
        let candidate = Candidate {
            run: RunId {
                task: TaskId(1),
                number: 1,
            },
            placement: Placement {
                require: labels(require),
                prefer: labels(prefer),
            },
            avoid: (!avoid.is_empty()).then(|| avoid.to_owned()),
            queue: None,
        };
        let items = plan_assign(&[candidate], &rooms);
        let to = items.first().map(|item| item.session.0.index);
        assert_eq!(to, expected, "require {require:?}, prefer {prefer:?}, avoid {avoid:?}");
    }
    // One that nobody may take is not in the way of the next, and room that is taken is taken.
    let gpu = |n| Candidate {
        placement: Placement {
            require: labels("gpu=yes zone=y"),
            prefer: BTreeMap::new(),
        },
        ..Candidate::anywhere(RunId {
            task: TaskId(n),
            number: 1,
        })
    };
    let ready = [
        gpu(1),
        gpu(2),
        gpu(3),
        Candidate::anywhere(RunId {
            task: TaskId(4),
            number: 1,
        }),
    ];
    let placed: Vec<(u64, u64)> = plan_assign(&ready, &rooms)
        .iter()
        .map(|item| (item.run.task.0, item.session.0.index))
        .collect();
    assert_eq!(placed, [(1, 2), (2, 2), (4, 1)]);
}

#[test]
fn bounds_cut_a_schedule_down() {
    let bounds = Bounds {
        not_before: Some(t(95)),
        until: Some(t(120)),
        ..Bounds::default()
    };
    let recurrence = every(10).1.within(&bounds);
    assert_eq!(recurrence.first_from(t(0)), Next::At(t(100)));
    assert_eq!(recurrence.next_after(t(110)), Next::At(t(120)));
    assert_eq!(recurrence.next_after(t(120)), Next::Exhausted);
    assert_eq!(recurrence.count_in(t(0), t(1000), 99), 3);
    assert_eq!(recurrence.latest_in(t(0), t(1000)), Some(t(120)));
}

#[test]
fn a_count_ends_a_schedule_whether_its_occurrences_run_or_not() {
    let (_, recurrence) = every(10);
    // count, decided before, now -> runs, missed, next; the cursor is at 100, the policy keeps the latest.
    type Row = (u64, u64, i64, Vec<i64>, Option<(i64, i64, u64)>, Option<i64>);
    let rows: Vec<Row> = vec![
        (3, 0, 100, vec![100], None, Some(110)),
        (3, 2, 100, vec![100], None, None),
        (3, 1, 114, vec![100, 110], None, None),
        (3, 1, 109, vec![100], None, Some(110)),
        // An outage: 100 to 120 are all there ever will be.
        (3, 0, 500, vec![120], Some((100, 110, 2)), None),
    ];
    for (count, decided, now, runs, missed, next) in rows {
        let mut status = status(ScheduleKind::Periodic, t(100), Policy::default());
        status.bounds.count = Some(count);
        status.occurrences = decided;
        let item = plan_fire(TaskId(1), &status, &recurrence, t(now)).expect("due");
        let range = item
            .missed
            .as_ref()
            .map(|m| (m.first.as_millis() / 1000, m.last.as_millis() / 1000, m.count));
        let shown = match item.next {
            NextRun::At(at) => Some(at.as_millis() / 1000),
            _ => None,
        };
        assert_eq!(
            (seconds(&item.runs), range, shown),
            (runs, missed, next),
            "count {count}, {decided} before, {now}"
        );
    }
}

#[test]
fn jitter_puts_off_by_the_same_every_time_and_keeps_the_order() {
    for (ms, seed) in [(1, 1), (2_000, 2), (9_999, 3), (10_000, 4), (600_000, 5)] {
        let bounds = Bounds {
            jitter: Some(Jitter { ms, seed }),
            ..Bounds::default()
        };
        let (plain, put_off) = (every(10).1, every(10).1.within(&bounds));
        let (mut at, mut nominal, mut delays) = (t(-1), t(-1), std::collections::BTreeSet::new());
        for _ in 0..200 {
            (at, nominal) = match (put_off.next_after(at), plain.next_after(nominal)) {
                (Next::At(at), Next::At(nominal)) => (at, nominal),
                other => panic!("{other:?}"),
            };
            let delay = at.millis_since(nominal);
            assert!((0..ms.min(10_000) as i64).contains(&delay), "{delay} of {ms}");
            // Found again from any instant before it.
            assert_eq!(put_off.next_after(at.plus_millis(-1)), Next::At(at));
            delays.insert(delay);
        }
        assert!(
            ms == 1 || delays.len() > 50,
            "{} different delays of up to {ms}",
            delays.len()
        );
    }
}

#[test]
fn a_pause_leaves_a_range_in_the_ledger() {
    let mut status = status(ScheduleKind::Periodic, t(100), Policy::default());
    let (_, recurrence) = every(10);
    let none = Calendars::default();
    let paused_range =
        |status: &TaskStatus, now| super::paused_range(status, &mut Occurrences::new(&recurrence, &none), now);
    assert_eq!(paused_range(&status, t(131)), None, "not paused");
    status.pause = Some(crate::task::Pause {
        note: "repairs".into(),
        until: None,
        since: t(95),
    });
    let range = paused_range(&status, t(131)).expect("a range");
    assert_eq!((range.first, range.last, range.count), (t(100), t(130), 4));
    assert_eq!(range.reason, "paused: repairs");
    assert_eq!(paused_range(&status, t(99)), None, "nothing was due");
}

#[test]
fn a_backfill_takes_what_lies_in_its_range() {
    let (_, recurrence) = every(10);
    let none = Calendars::default();
    let occurrences = Occurrences::new(&recurrence, &none);
    let plan = |from, to, now| plan_backfill(&occurrences, t(from), t(to), t(now)).map(|times| seconds(&times));
    assert_eq!(plan(100, 120, 500), Ok(vec![100, 110, 120]));
    for (from, to, now, problem) in [
        (100, 600, 500, "after now"),
        (120, 100, 500, "after the end"),
        (101, 109, 500, "no occurrence"),
        (0, 20_000, 30_000, "more than 1000"),
    ] {
        let refused = plan(from, to, now).expect_err("refused").to_string();
        assert!(refused.contains(problem), "{refused}");
    }
}

#[test]
fn runs_of_a_queue_go_to_its_workers_and_to_nobody_else() {
    let room = |n, queues: &[&str]| Room {
        session: SessionId(Token { index: n, position: 0 }),
        free: 1,
        busy: 0,
        worker: format!("w{n}").into(),
        labels: Arc::default(),
        queues: Arc::new(queues.iter().map(|queue| (*queue).to_owned()).collect()),
    };
    let of = |n, queue: Option<&str>| Candidate {
        queue: queue.map(str::to_owned),
        ..Candidate::anywhere(RunId {
            task: TaskId(n),
            number: 1,
        })
    };
    let rooms = [room(1, &["a", "b"]), room(2, &[]), room(3, &["b"])];
    let placed = |ready: &[Candidate]| -> Vec<(u64, u64)> {
        let items = plan_assign(ready, &rooms);
        items
            .iter()
            .map(|item| (item.run.task.0, item.session.0.index))
            .collect()
    };
    // Nobody serves c, which is in nobody's way.
    let mixed = [
        of(1, Some("c")),
        of(2, Some("b")),
        of(3, None),
        of(4, Some("b")),
        of(5, Some("a")),
        of(6, None),
    ];
    assert_eq!(placed(&mixed), [(2, 1), (3, 2), (4, 3)]);
    assert_eq!(placed(&[of(1, None), of(2, None)]), [(1, 2)], "the quick way too");
}
