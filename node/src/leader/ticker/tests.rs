use super::*;
use sched_core::apply::{Position, apply_entry};
use sched_core::calendar::{CalendarSpec, Interval};
use sched_core::command::Entry;
use sched_core::schedule::{DstPolicy, Schedule};
use sched_core::tables::{MemTables, Staged};
use sched_core::task::{Action, Bounds, Missed, Policy, TaskSpec};

/// Tables, changed as the log would change them.
struct Cluster {
    tables: MemTables,
    index: u64,
}

impl Cluster {
    fn new() -> Self {
        Self {
            tables: MemTables::new(),
            index: 0,
        }
    }

    fn apply(&mut self, now: i64, command: Command) -> Reply {
        self.index += 1;
        let entry = Entry {
            term: 1,
            now: at(now),
            items: vec![Item::internal(command)],
        };
        let mut staged = Staged::new(&self.tables);
        let position = Position {
            index: self.index,
            term: 1,
        };
        let outcome = apply_entry(&mut staged, position, &entry).unwrap().remove(0);
        let changes = staged.into_changes();
        self.tables.write(changes);
        outcome.reply.unwrap()
    }

    fn submit(&mut self, now: i64, schedule: Schedule, first: i64) -> TaskId {
        self.submit_with(now, schedule, first, Policy::default(), Bounds::default())
    }

    fn submit_with(&mut self, now: i64, schedule: Schedule, first: i64, policy: Policy, bounds: Bounds) -> TaskId {
        let spec = TaskSpec {
            namespace: "default".into(),
            name: None,
            labels: Default::default(),
            owner: String::new(),
            description: String::new(),
            schedule,
            action: Action::Sample {
                succeed: true,
                duration_ms: 0,
                payload: Vec::new(),
            },
            policy,
            bounds,
        };
        match self.apply(
            now,
            Command::Submit {
                spec: Box::new(spec),
                first: NextRun::At(at(first)),
            },
        ) {
            Reply::Task { id, .. } => id,
            other => panic!("{other:?}"),
        }
    }

    fn plan(&self, planner: &mut Planner, head: i64, now: i64) -> Round {
        planner.plan(&self.tables, at(head), at(now), false).unwrap()
    }
}

fn at(ms: i64) -> Timestamp {
    Timestamp::from_millis(ms)
}

fn planner() -> Planner {
    Planner {
        zones: Arc::new(SystemZones::open()),
        recurrences: Recurrences::default(),
        calendars: Compiled::default(),
    }
}

fn every(ms: u64) -> Schedule {
    Schedule::Every {
        every_ms: ms,
        anchor: Timestamp::EPOCH,
    }
}

#[test]
fn what_is_due_is_fired_and_what_is_not_sets_the_timer() {
    let mut cluster = Cluster::new();
    let once = cluster.submit(0, Schedule::At(at(1000)), 1000);
    let often = cluster.submit(0, every(1000), 1000);
    cluster.submit(0, Schedule::At(at(5000)), 5000);
    let mut planner = planner();
    let round = cluster.plan(&mut planner, 0, 999);
    assert!(round.is_empty() && round.next == Some(at(1000)));

    let round = cluster.plan(&mut planner, 0, 1000);
    let tasks: Vec<TaskId> = round.fires.iter().map(|item| item.task).collect();
    assert_eq!(tasks, [once, often]);
    assert_eq!(round.first_runs.len(), 2, "both can be assigned in the same entry");
    assert_eq!(round.next, Some(at(5000)));
    let fired = cluster.apply(
        1000,
        Command::Fire {
            leader_since: at(0),
            items: round.fires,
        },
    );
    assert_eq!(
        fired,
        Reply::Fired {
            runs: round.first_runs,
            refused: 0
        }
    );

    let round = cluster.plan(&mut planner, 1000, 1000);
    assert!(
        round.is_empty() && round.next == Some(at(2000)),
        "the periodic one comes again"
    );
    let round = cluster.plan(&mut planner, 1000, 2000);
    assert!(
        round.first_runs.is_empty(),
        "its run is still alive: the overlap policy skips the next"
    );
    assert_eq!(round.fires.len(), 1);
}

#[test]
fn a_round_is_bounded_and_goes_on_where_it_stopped() {
    let mut cluster = Cluster::new();
    for n in 0..ROUND_ITEMS_MAX as i64 + 10 {
        cluster.submit(0, Schedule::At(at(n)), n);
    }
    let mut planner = planner();
    let round = cluster.plan(&mut planner, 0, 10_000);
    assert!(round.full && round.len() == ROUND_ITEMS_MAX);
    let last = round.last.unwrap();
    cluster.apply(
        10_000,
        Command::Fire {
            leader_since: at(0),
            items: round.fires,
        },
    );
    let round = cluster.plan(&mut planner, last.as_millis(), 10_000);
    assert!(!round.full && round.len() == 10);
    assert!(
        round.backlog,
        "the first round's runs are ready: these do not overtake them"
    );
}

#[test]
fn a_pause_ends_by_itself() {
    let mut cluster = Cluster::new();
    let id = cluster.submit(0, every(1000), 1000);
    let pause = Command::Pause {
        task: TaskRef::Id(id),
        until: Some(at(3500)),
        note: String::new(),
    };
    cluster.apply(0, pause);
    let mut planner = planner();
    let round = cluster.plan(&mut planner, 0, 3000);
    assert!(round.is_empty() && round.next == Some(at(3500)));
    let mut round = cluster.plan(&mut planner, 0, 3600);
    cluster.apply(3600, round.others.remove(0));
    assert_eq!(
        cluster.plan(&mut planner, 3600, 3600).next,
        Some(at(4000)),
        "the missed ones are not made up for"
    );
}

#[test]
fn a_search_that_gave_up_goes_on_later_from_where_it_stopped() {
    let mut cluster = Cluster::new();
    let id = cluster.submit(0, every(1000), 1000);
    let next = NextRun::GaveUp {
        retry_at: at(7000),
        searched_until: at(90_000),
    };
    let fire = FireItem {
        task: id,
        generation: 1,
        cursor: at(1000),
        runs: vec![at(1000)],
        missed: None,
        next,
        closed: None,
        calendars: 0,
    };
    cluster.apply(
        1000,
        Command::Fire {
            leader_since: at(0),
            items: vec![fire],
        },
    );
    let mut planner = planner();
    let round = cluster.plan(&mut planner, 1000, 7000);
    let [Command::SearchedAgain { next, .. }] = round.others.as_slice() else {
        panic!("{:?}", round.others)
    };
    assert_eq!(*next, NextRun::At(at(91_000)));
}

#[test]
fn nothing_is_fired_while_the_scheduler_is_shut_down_or_clocks_are_apart() {
    let mut cluster = Cluster::new();
    cluster.submit(0, Schedule::At(at(1)), 1);
    let mut planner = planner();
    let held = planner.plan(&cluster.tables, at(0), at(10), true).unwrap();
    assert!(held.shut_down && held.is_empty());
    cluster.apply(5, Command::Shutdown { message: "m".into() });
    let round = cluster.plan(&mut planner, 0, 10);
    assert!(round.shut_down && round.is_empty());
}

#[test]
fn a_zone_that_is_gone_delays_the_search_and_not_the_run() {
    let mut cluster = Cluster::new();
    let cron = Schedule::Cron {
        expr: "0 9 * * *".into(),
        zone: "Mars/Olympus".into(),
        dst: DstPolicy::Shift,
    };
    let id = cluster.submit(0, cron, 1000);
    let round = cluster.plan(&mut planner(), 0, 1500);
    assert_eq!(round.fires[0].task, id);
    assert_eq!(round.fires[0].runs, [at(1000)]);
    assert!(matches!(round.fires[0].next, NextRun::GaveUp { .. }));
}

#[test]
fn the_earliest_of_several_pokes_counts() {
    let wake = Wake::default();
    assert_eq!(wake.take(), Timestamp::MAX);
    wake.poke(at(5));
    wake.poke(at(3));
    wake.poke(at(4));
    assert_eq!(wake.take(), at(3));
    assert_eq!(wake.take(), Timestamp::MAX);
}

/// A task whose zone is gone, due at 1000.
fn nowhere(cluster: &mut Cluster, policy: Policy) -> TaskId {
    let cron = Schedule::Cron {
        expr: "0 9 * * *".into(),
        zone: "Mars/Olympus".into(),
        dst: DstPolicy::Shift,
    };
    cluster.submit_with(0, cron, 1000, policy, Bounds::default())
}

#[test]
fn an_occurrence_that_is_decided_about_alone_keeps_to_the_missed_policy() {
    for (missed, late_ms, runs) in [
        (Missed::Latest, 500, true),
        (Missed::Latest, 20_000, true),
        (Missed::Skip, 14_000, true),
        (Missed::Skip, 20_000, false),
        (Missed::Latest, 4_000_000, false),
    ] {
        let mut cluster = Cluster::new();
        let policy = Policy {
            missed,
            ..Policy::default()
        };
        let id = nowhere(&mut cluster, policy);
        let round = cluster.plan(&mut planner(), 0, 1000 + late_ms);
        let item = &round.fires[0];
        assert_eq!(
            (item.task, !item.runs.is_empty()),
            (id, runs),
            "{missed:?}, {late_ms} ms late"
        );
        assert_eq!(item.missed.is_none(), runs);
        assert!(matches!(item.next, NextRun::GaveUp { .. }));
    }
}

#[test]
fn a_search_is_made_again_whatever_is_in_the_spool() {
    let mut cluster = Cluster::new();
    let id = cluster.submit(0, every(1000), 1000);
    let next = NextRun::GaveUp {
        retry_at: at(7000),
        searched_until: at(90_000),
    };
    let fire = FireItem {
        task: id,
        generation: 1,
        cursor: at(1000),
        runs: vec![at(1000)],
        missed: None,
        next,
        closed: None,
        calendars: 0,
    };
    cluster.apply(
        1000,
        Command::Fire {
            leader_since: at(0),
            items: vec![fire],
        },
    );
    cluster.apply(2000, Command::Shutdown { message: String::new() });
    cluster.submit(2000, every(1000), 3000);
    cluster.apply(2500, Command::Start);
    let mut planner = planner();
    let mut round = cluster.plan(&mut planner, 1000, 7000);
    assert_eq!(round.others.len(), 1);
    cluster.apply(7000, round.others.remove(0));
    let round = cluster.plan(&mut planner, 7000, 7000);
    assert!(
        round.is_empty() && round.next == Some(at(91_000)),
        "found, and not asked for again"
    );
    let status = state::status(&cluster.tables, id).unwrap().unwrap();
    assert_eq!(status.generation, 1, "the task itself has not changed");
}

#[test]
fn a_calendar_holds_for_a_time_that_was_computed_before_it_changed() {
    let mut cluster = Cluster::new();
    let set = |from: i64, to: i64| Command::SetCalendar {
        namespace: "default".into(),
        name: "holidays".into(),
        calendar: Box::new(CalendarSpec::new(
            String::new(),
            "UTC".into(),
            Vec::new(),
            vec![Interval {
                from: at(from),
                to: at(to),
            }],
        )),
        generation: None,
    };
    cluster.apply(0, set(900_000, 1_000_000));
    let bounds = Bounds {
        calendars: vec!["holidays".into()],
        ..Bounds::default()
    };
    let id = cluster.submit_with(0, every(1000), 1000, Policy::default(), bounds);
    let mut planner = planner();
    let open = cluster.plan(&mut planner, 0, 1000);
    assert_eq!(open.fires[0].runs, [at(1000)]);
    // It changes between the plan and its entry: refused, and planned anew from what is now.
    cluster.apply(1000, set(1000, 3000));
    let fire = |items| Command::Fire {
        leader_since: at(0),
        items,
    };
    let refused = cluster.apply(1000, fire(open.fires));
    assert_eq!(
        refused,
        Reply::Fired {
            runs: Vec::new(),
            refused: 1
        }
    );
    let closed = cluster.plan(&mut planner, 0, 2500);
    assert!(closed.first_runs.is_empty() && closed.fires[0].runs.is_empty());
    cluster.apply(2500, fire(closed.fires));
    // The calendar is opened again before its time is over: the next occurrence runs.
    cluster.apply(2600, set(1000, 2900));
    let round = cluster.plan(&mut planner, 2500, 3000);
    assert_eq!(
        (round.fires[0].task, round.fires[0].runs.as_slice()),
        (id, &[at(3000)][..])
    );
}
