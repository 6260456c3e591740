//! The product: the leader's plan and `apply` on tables in memory, and a worker with room for everything.

use crate::{GRACE, INTERVAL, Outcome, World};
use sched_core::apply::{Position, apply_entry, read_record};
use sched_core::calendar::Calendars;
use sched_core::codec::{Kind, decode};
use sched_core::command::AssignItem;
use sched_core::plan::plan_fire;
use sched_core::run::{LedgerFact, LedgerLine, Run, RunResult, RunState, Verdict};
use sched_core::schedule::{Occurrences, Recurrence, Schedule, Zones};
use sched_core::tables::{Key, MemTables, Staged, Table, View};
use sched_core::task::{Action, Bounds, Missed, NextRun, Overlap, Policy, TaskSpec, TaskStatus};
use sched_core::{Command, Effect, Entry, Item, Reply, RunId, SessionId, TaskId, Timestamp, Token};
use std::collections::{BTreeMap, BTreeSet};

const TASK: TaskId = TaskId(1);

struct Utc;
impl Zones for Utc {
    fn zone(&self, _: &str) -> Option<jiff::tz::TimeZone> {
        Some(jiff::tz::TimeZone::UTC)
    }
}

pub(crate) struct Machine {
    tables: MemTables,
    index: u64,
    recurrence: Recurrence,
    length: i64,
    session: SessionId,
    /// The end and the token of each run that the worker runs.
    running: BTreeMap<RunId, (i64, Token)>,
    started: BTreeMap<i64, i64>,
    killed: Vec<(RunId, Token)>,
}

impl Machine {
    pub(crate) fn new(missed: Missed, overlap: Overlap, length: i64) -> Self {
        let schedule = Schedule::Every {
            every_ms: INTERVAL as u64,
            anchor: Timestamp::EPOCH,
        };
        let mut machine = Self {
            tables: MemTables::new(),
            index: 0,
            recurrence: Recurrence::compile(&schedule, "t", &Utc).expect("compiles"),
            length,
            session: SessionId::default(),
            running: BTreeMap::new(),
            started: BTreeMap::new(),
            killed: Vec::new(),
        };
        let mut policy = Policy {
            missed,
            overlap,
            grace_ms: GRACE as u64,
            ..Policy::default()
        };
        policy.retention.finished_max = 10_000;
        policy.retention.failed_max = 10_000;
        let spec = TaskSpec {
            namespace: "default".into(),
            name: None,
            labels: BTreeMap::new(),
            owner: String::new(),
            description: String::new(),
            schedule,
            action: Action::Sample {
                succeed: true,
                duration_ms: 0,
                payload: Vec::new(),
            },
            policy,
            bounds: Bounds::default(),
        };
        let first = NextRun::At(Timestamp::from_millis(INTERVAL));
        machine.apply(
            0,
            Command::Submit {
                spec: Box::new(spec),
                first,
            },
        );
        let open = Command::SessionOpen {
            worker: "w".into(),
            journal: 1,
            node: None,
            slots: 10_000,
            labels: BTreeMap::new(),
            held: Vec::new(),
            queues: BTreeSet::new(),
            position: None,
            openings: Vec::new(),
        };
        if let Reply::Session { id, .. } = machine.apply(0, open) {
            machine.session = id;
        }
        machine
    }

    fn apply(&mut self, now: i64, command: Command) -> Reply {
        self.index += 1;
        let entry = Entry {
            term: 1,
            now: Timestamp::from_millis(now),
            items: vec![Item::internal(command)],
        };
        let position = Position {
            index: self.index,
            term: 1,
        };
        let mut staged = Staged::new(&self.tables);
        let outcome = apply_entry(&mut staged, position, &entry)
            .expect("no faults in memory")
            .remove(0);
        let changes = staged.into_changes();
        self.tables.write(changes);
        for effect in &outcome.effects {
            if let Effect::Kill { run, token, .. } = effect {
                self.killed.push((*run, *token));
            }
        }
        outcome.reply.expect("accepted")
    }

    fn complete(&mut self, now: i64, run: RunId, token: Token, verdict: Verdict) {
        self.running.remove(&run);
        let at = Timestamp::from_millis(now);
        let result = RunResult {
            verdict,
            exit_code: None,
            started_at: at,
            ended_at: at,
            output_tail: Vec::new(),
            result: Vec::new(),
        };
        let result = Box::new(result);
        let complete = Command::Complete {
            run,
            token,
            session: self.session,
            position: None,
            result,
        };
        self.apply(now, complete);
    }

    fn runs(&self) -> Vec<Run> {
        let (from, to) = Key::runs_of(TASK, 0);
        let rows = self.tables.scan(Table::Runs, &from, &to, 100_000).expect("readable");
        rows.iter()
            .map(|(_, value)| decode(Kind::Run, value).expect("a run"))
            .collect()
    }

    fn fire(&mut self, now: i64, leader_since: i64) {
        loop {
            let status: TaskStatus = read_record(&self.tables, &Key::Status(TASK), Kind::TaskStatus)
                .expect("readable")
                .expect("the task");
            let none = Calendars::default();
            let mut due = Occurrences::new(&self.recurrence, &none);
            let Some(item) = plan_fire(TASK, &status, &mut due, Timestamp::from_millis(now)) else {
                break;
            };
            let leader_since = Timestamp::from_millis(leader_since);
            let items = vec![item];
            self.apply(now, Command::Fire { leader_since, items });
            for (run, token) in std::mem::take(&mut self.killed) {
                self.complete(now, run, token, Verdict::Cancelled);
            }
        }
    }

    /// Gives every ready run to the worker, which starts it at once.
    fn assign(&mut self, now: i64) {
        let session = self.session;
        let ready = self.runs().into_iter().filter(|run| run.state == RunState::Ready);
        let ready: Vec<(RunId, i64)> = ready.map(|run| (run.id, run.scheduled_at.as_millis())).collect();
        for (run, scheduled_at) in ready {
            let items = vec![AssignItem { run, session }];
            let Reply::Assigned(tokens) = self.apply(now, Command::Assign { items }) else {
                panic!("not assigned");
            };
            let token = tokens[0].expect("assigned");
            self.running.insert(run, (now + self.length, token));
            self.started.insert(scheduled_at, now);
        }
    }
}

impl World for Machine {
    fn step(&mut self, now: i64, leader_since: i64) {
        let over: Vec<(RunId, Token)> = self
            .running
            .iter()
            .filter(|(_, (end, _))| *end <= now)
            .map(|(run, (_, token))| (*run, *token))
            .collect();
        for (run, token) in over {
            self.complete(now, run, token, Verdict::Success);
        }
        self.assign(now);
        self.fire(now, leader_since);
        self.assign(now);
        let findings = sched_core::check::check(&self.tables).expect("readable");
        assert!(findings.is_empty(), "{findings:#?}");
    }

    fn outcome(self) -> Outcome {
        let mut outcome = Outcome::default();
        for run in self.runs() {
            let at = run.scheduled_at.as_millis();
            outcome.runs.insert(at, self.started.get(&at).copied());
        }
        let (from, to) = Key::ledger_of(TASK, 0);
        for (_, value) in self.tables.scan(Table::Ledger, &from, &to, 100_000).expect("readable") {
            let line: LedgerLine = decode(Kind::LedgerLine, &value).expect("a line");
            match line.fact {
                LedgerFact::Missed { first, last, count, .. } => {
                    outcome.missed.push((first.as_millis(), last.as_millis(), count));
                }
                LedgerFact::Skipped { scheduled_at, .. } => outcome.skipped.push(scheduled_at.as_millis()),
                fact => panic!("{fact:?}"),
            }
        }
        outcome
    }
}
