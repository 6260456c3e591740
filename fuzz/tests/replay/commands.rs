//! One of each command, on a state in which there is something for each of them to do.

use sched_core::apply::{Position, apply_entry};
use sched_core::calendar::{CalendarSpec, Interval};
use sched_core::command::{AssignItem, DrainItem, FireItem, MissedRange, Resolution};
use sched_core::run::{RunResult, Verdict};
use sched_core::schedule::Schedule;
use sched_core::tables::{MemTables, Staged};
use sched_core::task::{Action, Bounds, Delivery, Group, NextRun, Overlap, Policy, TaskRef, TaskSpec};
use sched_core::{Command, Entry, Item, RunId, SessionId, TaskId, Timestamp, Token};
use std::collections::{BTreeMap, BTreeSet};

/// When the state was made.
pub(crate) const NOW: i64 = 1_000_000;
pub(crate) const TERM: u64 = 1;

fn t(ms: i64) -> Timestamp {
    Timestamp::from_millis(ms)
}

fn token(index: u64) -> Token {
    Token { index, position: 0 }
}

fn run(task: u64) -> RunId {
    RunId {
        task: TaskId(task),
        number: 1,
    }
}

fn spec(name: &str, schedule: Schedule, delivery: Delivery) -> TaskSpec {
    TaskSpec {
        namespace: "default".into(),
        name: Some(name.into()),
        labels: BTreeMap::from([("app".into(), "db".into())]),
        owner: String::new(),
        description: String::new(),
        schedule,
        action: Action::Sample {
            succeed: true,
            duration_ms: 1,
            payload: Vec::new(),
        },
        policy: Policy {
            delivery: Some(delivery),
            overlap: Overlap::QueueAll,
            group: Some(Group {
                name: "g".into(),
                limit: 2,
            }),
            ..Policy::default()
        },
        bounds: Bounds::default(),
    }
}

fn every() -> Schedule {
    Schedule::Every {
        every_ms: 1_000,
        anchor: t(0),
    }
}

fn result(verdict: Verdict) -> Box<RunResult> {
    Box::new(RunResult {
        verdict,
        exit_code: Some(0),
        started_at: t(NOW),
        ended_at: t(NOW + 1),
        output_tail: b"out".to_vec(),
        result: b"42".to_vec(),
    })
}

fn submit(name: &str, schedule: Schedule, delivery: Delivery) -> Command {
    Command::Submit {
        spec: Box::new(spec(name, schedule, delivery)),
        first: NextRun::At(t(NOW)),
    }
}

/// Makes the state, one entry per command: tasks 1 to 4, a session that is the second entry's, a run that runs, one assigned.
fn history() -> Vec<Command> {
    vec![
        submit("a", every(), Delivery::AtLeastOnce),
        Command::SessionOpen {
            worker: "w".into(),
            journal: 7,
            node: None,
            slots: 10,
            labels: BTreeMap::new(),
            held: Vec::new(),
            queues: BTreeSet::new(),
            position: None,
            openings: vec![1],
        },
        submit("b", Schedule::Now, Delivery::AtMostOnce),
        submit("c", Schedule::Manual, Delivery::AtLeastOnce),
        submit("d", Schedule::At(t(NOW * 2)), Delivery::AtLeastOnce),
        fire(1, NOW),
        fire(2, NOW),
        assign(1),
        assign(2),
    ]
}

fn fire(task: u64, at: i64) -> Command {
    Command::Fire {
        leader_since: t(0),
        items: vec![FireItem {
            task: TaskId(task),
            generation: 1,
            cursor: t(at),
            runs: vec![t(at)],
            missed: None,
            next: if task == 1 {
                NextRun::At(t(at + 1_000))
            } else {
                NextRun::Never
            },
            closed: None,
            calendars: 0,
        }],
    }
}

fn assign(task: u64) -> Command {
    Command::Assign {
        items: vec![AssignItem {
            run: run(task),
            session: SessionId(token(2)),
        }],
    }
}

/// One of each, on that state.
pub(crate) fn each() -> Vec<Command> {
    let (a, d) = (TaskRef::Id(TaskId(1)), TaskRef::Id(TaskId(4)));
    let range = MissedRange {
        first: t(NOW),
        last: t(NOW + 5_000),
        count: 6,
        reason: "late".into(),
    };
    let mut all = history();
    all.extend([
        fire(1, NOW + 1_000),
        Command::Dequeue {
            task: a.clone(),
            kill: true,
        },
        Command::Move {
            task: d.clone(),
            generation: 1,
            schedule: Schedule::At(t(NOW * 3)),
            next: NextRun::At(t(NOW * 3)),
        },
        Command::Trigger {
            task: TaskRef::Id(TaskId(3)),
            params: vec![("K".into(), "v".into())],
        },
        Command::Retry { run: run(1) },
        Command::Cancel { run: run(2) },
        Command::Pause {
            task: a.clone(),
            until: Some(t(NOW * 9)),
            note: "n".into(),
        },
        Command::Resume {
            task: a.clone(),
            generation: 1,
            next: NextRun::At(t(NOW * 2)),
            paused: Some(range.clone()),
        },
        Command::ClearSpool { upto: 9 },
        Command::Shutdown { message: "m".into() },
        Command::Start,
        Command::Drain {
            items: vec![DrainItem {
                seq: 1,
                next: NextRun::Never,
            }],
        },
        Command::Due { runs: vec![run(1)] },
        Command::Grant {
            run: run(2),
            token: token(9),
            session: SessionId(token(2)),
            position: None,
        },
        Command::Nack {
            run: run(2),
            token: token(9),
            session: SessionId(token(2)),
            reason: "r".into(),
        },
        Command::NotStarted {
            run: run(2),
            token: token(9),
            session: SessionId(token(2)),
            position: None,
            reason: "r".into(),
        },
        Command::Resolve {
            run: run(1),
            resolution: Resolution::Retry,
        },
        Command::ResetClock { to: t(NOW - 1) },
        Command::SessionExpire {
            session: SessionId(token(2)),
            bound: token(2),
        },
        Command::SessionClose {
            session: SessionId(token(2)),
        },
        Command::Retain {
            runs: vec![run(1)],
            tasks: vec![TaskId(1)],
            requests_until: t(NOW),
        },
        Command::Backfill {
            task: a.clone(),
            generation: 1,
            times: vec![t(1_000), t(2_000)],
            at_once: false,
        },
        Command::Update {
            task: a.clone(),
            generation: 1,
            spec: Box::new(spec("a", every(), Delivery::AtMostOnce)),
            next: Some(NextRun::At(t(NOW * 2))),
        },
        Command::Configure {
            set: Box::default(),
            unset: Vec::new(),
        },
        Command::SearchedAgain {
            task: TaskId(1),
            generation: 1,
            next: NextRun::At(t(NOW * 2)),
        },
        Command::SetCalendar {
            namespace: "default".into(),
            name: "c".into(),
            calendar: Box::new(CalendarSpec::new(
                "d".into(),
                "UTC".into(),
                vec![1],
                vec![Interval { from: t(1), to: t(2) }],
            )),
            generation: Some(0),
        },
        Command::DeleteCalendar {
            namespace: "default".into(),
            name: "c".into(),
            generation: None,
        },
        Command::DeleteHistory {
            task: a,
            runs: vec![1],
            lines_before: Some(t(NOW)),
        },
    ]);
    let verdicts = [
        Verdict::Success,
        Verdict::Failure { reason: "r".into() },
        Verdict::DelayMe {
            delay_ms: 1_000,
            reason: "r".into(),
        },
        Verdict::Cancelled,
        Verdict::Abandoned {
            reason: "r".into(),
            stopping: true,
        },
        Verdict::Lost { reason: "r".into() },
    ];
    all.extend(verdicts.map(|verdict| Command::Complete {
        run: run(1),
        token: token(8),
        session: SessionId(token(2)),
        position: None,
        result: result(verdict),
    }));
    all
}

/// An entry that holds one command.
pub(crate) fn entry(command: Command) -> Entry {
    Entry {
        term: TERM,
        now: t(NOW),
        items: vec![Item::internal(command)],
    }
}

/// The state they find.
pub(crate) fn state() -> MemTables {
    let mut tables = MemTables::new();
    for (index, command) in (1..).zip(history()) {
        let mut staged = Staged::new(&tables);
        let position = Position { index, term: TERM };
        let outcomes = apply_entry(&mut staged, position, &entry(command.clone())).expect("no fault");
        assert!(outcomes[0].reply.is_ok(), "{command:?}: {:?}", outcomes[0].reply);
        let changes = staged.into_changes();
        tables.write(changes);
    }
    tables
}
