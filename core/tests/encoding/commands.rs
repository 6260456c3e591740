//! One of each command.

use super::*;

pub(super) fn commands() -> Vec<Command> {
    let task = TaskRef::Name {
        namespace: "default".into(),
        name: "backup".into(),
    };
    let next = NextRun::GaveUp {
        retry_at: t(5000),
        searched_until: t(4000),
    };
    let rrule = Schedule::Rrule {
        rules: vec!["FREQ=DAILY".into()],
        dtstart: t(0),
        rdates: vec![t(1)],
        exdates: vec![t(2)],
        zone: "UTC".into(),
        dst: DstPolicy::Shift,
    };
    let verdict = Verdict::DelayMe {
        delay_ms: 5,
        reason: "busy".into(),
    };
    let result = RunResult {
        verdict,
        exit_code: Some(75),
        started_at: t(1),
        ended_at: t(2),
        output_tail: vec![1],
        result: vec![2],
    };
    let missed = MissedRange {
        first: t(1),
        last: t(2),
        count: 2,
        reason: "old".into(),
    };
    let fire = FireItem {
        task: TaskId(1),
        generation: 2,
        cursor: t(3),
        runs: vec![t(3)],
        missed: Some(missed),
        next,
        closed: Some(ClosedRange {
            first: t(3),
            last: t(4),
            count: 2,
            calendar: "holidays".into(),
        }),
        calendars: 7,
    };
    vec![
        Command::Submit {
            spec: Box::new(spec()),
            first: NextRun::At(t(5)),
        },
        Command::Dequeue {
            task: TaskRef::Id(TaskId(1)),
            kill: true,
        },
        Command::Move {
            task: task.clone(),
            generation: 1,
            schedule: rrule,
            next,
        },
        Command::Submit {
            spec: Box::new(reminder()),
            first: NextRun::At(t(5)),
        },
        Command::Submit {
            spec: Box::new(worker_spec()),
            first: NextRun::At(t(5)),
        },
        Command::Trigger {
            task: task.clone(),
            params: vec![("K".into(), "v".into())],
        },
        Command::Retry { run: RUN },
        Command::Cancel { run: RUN },
        Command::Pause {
            task: task.clone(),
            until: Some(t(7)),
            note: "n".into(),
        },
        Command::Backfill {
            task: TaskRef::Id(TaskId(7)),
            generation: 2,
            times: vec![t(1), t(2)],
            at_once: true,
        },
        Command::SearchedAgain {
            task: TaskId(7),
            generation: 2,
            next,
        },
        Command::SetCalendar {
            namespace: "default".into(),
            name: "holidays".into(),
            calendar: Box::new(calendar()),
            generation: Some(0),
        },
        Command::DeleteCalendar {
            namespace: "default".into(),
            name: "holidays".into(),
            generation: None,
        },
        Command::Resume {
            task,
            generation: 2,
            next: NextRun::Never,
            paused: Some(MissedRange {
                first: t(1),
                last: t(2),
                count: 3,
                reason: "paused".into(),
            }),
        },
        Command::ClearSpool { upto: 9 },
        Command::Shutdown { message: "m".into() },
        Command::Start,
        Command::Drain {
            items: vec![DrainItem { seq: 1, next }],
        },
        Command::Fire {
            leader_since: t(1),
            items: vec![fire],
        },
        Command::Due { runs: vec![RUN] },
        Command::Assign {
            items: vec![AssignItem {
                run: RUN,
                session: SESSION,
            }],
        },
        Command::Grant {
            run: RUN,
            token: TOKEN,
            session: SESSION,
            position: Some(POSITION),
        },
        Command::Complete {
            run: RUN,
            token: TOKEN,
            session: SESSION,
            position: Some(POSITION),
            result: Box::new(result),
        },
        Command::Nack {
            run: RUN,
            token: TOKEN,
            session: SESSION,
            reason: "full".into(),
        },
        Command::NotStarted {
            run: RUN,
            token: TOKEN,
            session: SESSION,
            position: None,
            reason: "no contact".into(),
        },
        Command::Resolve {
            run: RUN,
            resolution: Resolution::Finished,
        },
        Command::ResetClock { to: t(5) },
        Command::SessionOpen {
            worker: "w".into(),
            journal: 5,
            node: Some(NodeId(7)),
            slots: 8,
            labels: BTreeMap::from([("gpu".into(), "yes".into())]),
            held: vec![(RUN, TOKEN)],
            queues: BTreeSet::from(["images".into()]),
            position: Some(POSITION),
            openings: vec![7, 8],
        },
        Command::SessionExpire {
            session: SESSION,
            bound: TOKEN,
        },
        Command::SessionClose { session: SESSION },
        Command::DrainWorker {
            worker: "w".into(),
            note: "disk".into(),
        },
        Command::UndrainWorker { worker: "w".into() },
        Command::Retain {
            runs: vec![RUN],
            tasks: vec![TaskId(1)],
            requests_until: t(9),
        },
        Command::Update {
            task: TaskRef::Id(TaskId(7)),
            generation: 3,
            spec: Box::new(spec()),
            next: Some(NextRun::At(t(5))),
        },
        Command::Configure {
            set: Box::new(config()),
            unset: vec![Setting::KeepEndedTasks, Setting::Policy(PolicyField::Grace)],
        },
        Command::DeleteHistory {
            task: TaskRef::Id(TaskId(7)),
            runs: vec![1, 2],
            lines_before: Some(t(4)),
        },
    ]
}
