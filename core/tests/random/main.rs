//! Random commands, most of them sensible and some not: every invariant holds after every step, two replicas that batch the log
//! differently end in the same bytes, and a repeated entry of requests changes nothing.
//!
//! The seeds are printed; `SEED=n cargo test -p sched-core --test random` replays one.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "what is banned from the state machine is not from its tests"
)]

mod calendars;
mod rng;
mod workers;

use rng::Rng;
use sched_core::apply::{Position, apply_entry, read_record};
use sched_core::check::Checker;
use sched_core::codec::{Kind, decode, encode};
use sched_core::command::{AssignItem, ClosedRange, DrainItem, FireItem, MissedRange, Resolution};
use sched_core::config::{Config, Setting};
use sched_core::run::Run;
use sched_core::schedule::Schedule;
use sched_core::tables::{Key, MemTables, Meta, Staged, Table, View, decode_run, decode_task, decode_u64};
use sched_core::task::{
    Action, Bounds, Delivery, Ending, Group, NextRun, Overlap, Policy, TaskRef, TaskSpec, TaskStatus,
};
use sched_core::{Command, Entry, Item, Reply, RequestKey, RunId, SessionId, TaskId, Timestamp};
use std::collections::BTreeMap;

struct World {
    rng: Rng,
    now: i64,
    index: u64,
    sessions: Vec<SessionId>,
    tables: MemTables,
    requests: Vec<Item>,
}

const END: [u8; 64] = [0xff; 64];

impl World {
    fn tasks(&self) -> Vec<(TaskId, TaskStatus)> {
        let rows = self.tables.scan(Table::Status, &[], &END, 1000).expect("readable");
        rows.iter()
            .map(|(k, v)| {
                (
                    decode_task(k).expect("key"),
                    decode(Kind::TaskStatus, v).expect("status"),
                )
            })
            .collect()
    }

    fn runs(&self) -> Vec<Run> {
        let rows = self.tables.scan(Table::Runs, &[], &END, 10_000).expect("readable");
        rows.iter().map(|(_, v)| decode(Kind::Run, v).expect("run")).collect()
    }

    fn task_ref(&mut self) -> TaskRef {
        match self.rng.below(4) {
            0 => TaskRef::Name {
                namespace: "default".into(),
                name: format!("n{}", self.rng.below(6)),
            },
            1 => TaskRef::Id(TaskId(self.rng.below(60))),
            _ => {
                let tasks = self.tasks();
                TaskRef::Id(self.rng.pick(&tasks).map_or(TaskId(1), |(id, _)| id))
            }
        }
    }

    fn run_id(&mut self) -> RunId {
        let runs = self.runs();
        match self.rng.pick(&runs) {
            Some(run) if !self.rng.one_in(8) => run.id,
            _ => RunId {
                task: TaskId(self.rng.below(20)),
                number: self.rng.below(5),
            },
        }
    }

    fn time_ahead(&mut self) -> Timestamp {
        Timestamp::from_millis(self.now + self.rng.below(5000) as i64)
    }

    fn spec(&mut self) -> TaskSpec {
        let at = self.time_ahead();
        let parents = self.rng.below(3);
        let schedule = match self.rng.below(6) {
            5 => Schedule::After {
                parents: (0..=parents).map(|_| self.task_ref()).collect(),
                on: self
                    .rng
                    .pick(&[Ending::Success, Ending::Failure, Ending::Any])
                    .expect("not empty"),
            },
            0 => Schedule::Now,
            1 => Schedule::Manual,
            2 => Schedule::At(at),
            _ => Schedule::Every {
                every_ms: 500,
                anchor: Timestamp::EPOCH,
            },
        };
        let mut policy = Policy {
            overlap: self.rng.pick(&Overlap::ALL).expect("not empty"),
            ..Policy::default()
        };
        policy.tries.max = 1 + self.rng.below(3) as u32;
        policy.tries.delay_ms = self.rng.below(800);
        policy.retention.finished_max = self.rng.below(4) as u32;
        policy.retention.failed_max = self.rng.below(4) as u32;
        policy.retention.finished_age_ms_max = self.rng.below(6000);
        policy.retention.failed_age_ms_max = self.rng.below(6000);
        policy.priority = self.rng.below(7) as i8 - 3;
        policy.delivery = self.rng.one_in(3).then_some(Delivery::AtMostOnce);
        policy.lost_hold_ms = self.rng.below(3) * 400;
        // Two limits in one group: each run keeps to that of its own task.
        policy.group = self.rng.one_in(2).then(|| Group {
            name: format!("g{}", self.rng.below(2)),
            limit: 1 + self.rng.below(3) as u32,
        });
        if self.rng.one_in(3) {
            policy.placement.require = BTreeMap::from([("l".to_owned(), self.rng.below(2).to_string())]);
        }
        let bounds = Bounds {
            count: self.rng.one_in(3).then(|| 1 + self.rng.below(6)),
            expires: self.rng.one_in(3).then(|| self.time_ahead()),
            calendars: (0..3).filter(|_| self.rng.one_in(4)).map(|n| format!("c{n}")).collect(),
            ..Bounds::default()
        };
        TaskSpec {
            bounds,
            namespace: "default".into(),
            name: self.rng.one_in(2).then(|| format!("n{}", self.rng.below(6))),
            labels: BTreeMap::from([("l".to_owned(), self.rng.below(3).to_string())]),
            owner: String::new(),
            description: String::new(),
            schedule,
            action: Action::Worker {
                queue: format!("q{}", self.rng.below(2)),
                payload: Vec::new(),
                progress_timeout_ms: None,
            },
            policy,
        }
    }

    fn next_time(&mut self) -> NextRun {
        match self.rng.below(6) {
            0 => NextRun::Never,
            1 => {
                let at = self.time_ahead();
                NextRun::GaveUp {
                    retry_at: at,
                    searched_until: at,
                }
            }
            _ => NextRun::At(self.time_ahead()),
        }
    }

    fn fire(&mut self) -> Command {
        let now = Timestamp::from_millis(self.now);
        let due: Vec<(TaskId, TaskStatus)> = self
            .tasks()
            .into_iter()
            .filter(|(_, s)| matches!(s.next, NextRun::At(at) if at <= now))
            .collect();
        let mut items = Vec::new();
        for (task, status) in due {
            let NextRun::At(cursor) = status.next else { continue };
            let mut runs = vec![cursor];
            while self.rng.one_in(2) {
                let last = *runs.last().expect("not empty");
                runs.push(last.plus_millis(1 + self.rng.below(300) as i64));
            }
            // Some plans reach beyond now: they must be refused.
            let last = *runs.last().expect("not empty");
            let missed = self.rng.one_in(4).then(|| MissedRange {
                first: cursor,
                last: cursor,
                count: 1,
                reason: "random".into(),
            });
            if missed.is_some() {
                runs.remove(0);
            }
            let next = if self.rng.one_in(4) {
                NextRun::Never
            } else {
                NextRun::At(last.plus_millis(500))
            };
            let generation = if self.rng.one_in(10) {
                status.generation + 1
            } else {
                status.generation
            };
            items.push(FireItem {
                task,
                generation,
                cursor,
                runs,
                missed,
                next,
                closed: None,
                calendars: self.calendar_generation(),
            });
            if self.rng.one_in(4)
                && let Some(item) = items.last_mut()
            {
                // Skipped instead; of a task without calendars that must be refused.
                (item.runs, item.missed) = (Vec::new(), None);
                item.closed = Some(ClosedRange {
                    first: cursor,
                    last: cursor,
                    count: 1,
                    calendar: "c0".into(),
                });
            }
        }
        let leader_since = Timestamp::from_millis(self.now - self.rng.below(3000) as i64);
        Command::Fire { leader_since, items }
    }

    fn assign(&mut self) -> Command {
        let ready: Vec<RunId> = self
            .runs()
            .iter()
            .filter(|run| !run.state.is_terminal())
            .map(|run| run.id)
            .collect();
        let mut items = Vec::new();
        for run in ready {
            if let Some(session) = self.rng.pick(&self.sessions.clone())
                && !self.rng.one_in(3)
            {
                items.push(AssignItem { run, session });
            }
        }
        Command::Assign { items }
    }

    fn drain(&mut self) -> Command {
        let rows = self.tables.scan(Table::Spool, &[], &END, 5).expect("readable");
        let mut items: Vec<DrainItem> = Vec::new();
        for (key, _) in rows {
            let next = self.next_time();
            items.push(DrainItem {
                seq: decode_u64(&key).expect("spool key"),
                next,
            });
        }
        Command::Drain { items }
    }

    fn update(&mut self) -> Command {
        Command::Update {
            task: self.task_ref(),
            generation: 1 + self.rng.below(4),
            spec: Box::new(self.spec()),
            next: self.rng.one_in(2).then(|| self.next_time()),
        }
    }

    fn configure(&mut self) -> Command {
        let mut set = Config::default();
        let kept = if self.rng.one_in(2) { "3" } else { "1000" };
        set.set(Setting::KeepEndedTasks, kept).expect("a number");
        let (set, unset) = (Box::new(set), vec![Setting::KeepEndedTasks; self.rng.below(2) as usize]);
        Command::Configure { set, unset }
    }

    fn command(&mut self) -> Command {
        match self.rng.below(46) {
            40..=42 => self.calendar(),
            43 => self.searched_again(),
            0..=5 => Command::Submit {
                spec: Box::new(self.spec()),
                first: self.next_time(),
            },
            6 => Command::Dequeue {
                task: self.task_ref(),
                kill: self.rng.one_in(2),
            },
            7 => {
                let spec = self.spec();
                let generation = 1 + self.rng.below(3);
                Command::Move {
                    task: self.task_ref(),
                    generation,
                    schedule: spec.schedule,
                    next: self.next_time(),
                }
            }
            8 | 9 => Command::Trigger {
                task: self.task_ref(),
                params: vec![],
            },
            10 => Command::Retry { run: self.run_id() },
            11 if self.rng.one_in(20) => Command::ResetClock {
                to: Timestamp::from_millis(self.now - self.rng.below(20) as i64),
            },
            11 => Command::Resolve {
                run: self.run_id(),
                resolution: self
                    .rng
                    .pick(&[Resolution::Failed, Resolution::Finished, Resolution::Retry])
                    .expect("not empty"),
            },
            12 => Command::Cancel { run: self.run_id() },
            13 => {
                let until = self.rng.one_in(2).then(|| self.time_ahead());
                Command::Pause {
                    task: self.task_ref(),
                    until,
                    note: String::new(),
                }
            }
            14 => {
                let generation = 1 + self.rng.below(4);
                Command::Resume {
                    task: self.task_ref(),
                    generation,
                    next: self.next_time(),
                    paused: None,
                }
            }
            15 => Command::ClearSpool {
                upto: if self.rng.one_in(2) {
                    u64::MAX
                } else {
                    self.rng.below(20)
                },
            },
            16 if self.rng.one_in(3) => Command::Shutdown { message: "m".into() },
            16 | 17 => Command::Start,
            18 => self.drain(),
            19..=22 => self.fire(),
            23 => Command::Due {
                runs: self.runs().iter().map(|run| run.id).collect(),
            },
            24 | 25 => self.assign(),
            26 => {
                let (run, token, session) = self.attempt();
                let position = self.position();
                Command::Grant {
                    run,
                    token,
                    session,
                    position,
                }
            }
            27 | 28 => {
                let (run, token, holder) = self.attempt();
                Command::Complete {
                    run,
                    token,
                    session: self.reporter(holder),
                    position: self.position(),
                    result: Box::new(self.result()),
                }
            }
            29 => {
                let (run, token, holder) = self.attempt();
                let (session, position, reason) = (self.reporter(holder), self.position(), "no".into());
                if self.rng.one_in(2) {
                    Command::Nack {
                        run,
                        token,
                        session,
                        reason,
                    }
                } else {
                    Command::NotStarted {
                        run,
                        token,
                        session,
                        position,
                        reason,
                    }
                }
            }
            30 => self.open(),
            31 => {
                let session = self.session();
                let record: Option<sched_core::session::Session> =
                    read_record(&self.tables, &Key::Session(session), Kind::Session).expect("readable");
                let bound = record.map_or(session.0, |session| session.bound);
                Command::SessionExpire { session, bound }
            }
            32 => Command::SessionClose {
                session: self.session(),
            },
            44 | 45 => workers::drained(&mut self.rng),
            33 => Command::Backfill {
                task: self.task_ref(),
                generation: 1 + self.rng.below(3),
                times: (0..self.rng.below(5))
                    .map(|n| Timestamp::from_millis(n as i64))
                    .collect(),
                at_once: self.rng.one_in(2),
            },
            34 | 35 => self.update(),
            36 => self.configure(),
            37 => Command::DeleteHistory {
                task: self.task_ref(),
                runs: (0..self.rng.below(6)).collect(),
                lines_before: self.rng.one_in(2).then(|| self.time_ahead()),
            },
            _ => {
                let tasks = self.tasks().iter().map(|(id, _)| *id).collect();
                let runs = self.runs().iter().map(|run| run.id).collect();
                Command::Retain {
                    runs,
                    tasks,
                    requests_until: self.time_ahead(),
                }
            }
        }
    }

    fn item(&mut self) -> Item {
        if self.rng.one_in(12)
            && let Some(item) = self.rng.pick(&self.requests.clone())
        {
            return item;
        }
        let request = match self.rng.below(4) {
            0 => Some(RequestKey::Client {
                expires_at: self.time_ahead(),
                nonce: self.rng.next().into(),
            }),
            1 => Some(RequestKey::Caller {
                namespace: "default".into(),
                key: self.rng.below(500).to_string(),
            }),
            _ => None,
        };
        let item = Item {
            request,
            principal: "p".into(),
            command: self.command(),
        };
        if item.request.is_some() {
            self.requests.push(item.clone());
        }
        item
    }
}

fn step(tables: &mut MemTables, checker: &mut Checker, entries: &[(Position, Entry)]) -> Vec<sched_core::Outcome> {
    let mut staged = Staged::new(&*tables);
    let mut outcomes = Vec::new();
    for (position, entry) in entries {
        outcomes.extend(apply_entry(&mut staged, *position, entry).expect("no fault in memory"));
    }
    let changes = staged.into_changes();
    for change in changes {
        checker.take(tables, &change).expect("readable");
        tables.write(vec![change]);
    }
    outcomes
}

fn run_seed(seed: u64, steps: u64) {
    let mut world = World {
        rng: Rng(seed),
        now: 1_000_000,
        index: 0,
        sessions: Vec::new(),
        tables: MemTables::new(),
        requests: Vec::new(),
    };
    let mut checker = Checker::default();
    let (mut batching, mut batching_checker) = (MemTables::new(), Checker::default());
    let mut batch = Vec::new();
    for _ in 0..steps {
        world.now += world.rng.below(400) as i64;
        world.index += 1;
        let items = (0..1 + world.rng.below(3)).map(|_| world.item()).collect();
        let term = 1 + world.index / 50;
        let proposer = if world.rng.one_in(40) { term - 1 } else { term };
        let entry = Entry {
            term: proposer,
            now: Timestamp::from_millis(world.now),
            items,
        };
        // The log keeps bytes: what is applied is what was decoded.
        let entry: Entry = decode(Kind::Entry, &encode(Kind::Entry, &entry)).expect("own entry");
        let position = Position {
            index: world.index,
            term,
        };
        let before = world.tables.clone();
        let outcomes = step(&mut world.tables, &mut checker, &[(position, entry.clone())]);
        if outcomes.iter().all(|outcome| outcome.reply.is_err()) {
            assert_eq!(
                without_time(&before),
                without_time(&world.tables),
                "seed {seed}: a refused entry changed {entry:?}"
            );
        }
        for outcome in &outcomes {
            if let Ok(Reply::Session { id, .. }) = &outcome.reply {
                world.sessions.push(*id);
            }
        }
        let findings = checker.findings();
        assert!(
            findings.is_empty(),
            "seed {seed}, step {}: {entry:#?}\n{findings:#?}",
            world.index
        );
        batch.push((position, entry));
        if world.rng.one_in(7) {
            step(&mut batching, &mut batching_checker, &std::mem::take(&mut batch));
            assert!(
                batching == world.tables,
                "seed {seed}, step {}: replicas differ",
                world.index
            );
            assert!(
                checker == batching_checker && checker == Checker::read(&world.tables).expect("readable"),
                "seed {seed}, step {}: a checker that follows the changes has another state than the tables",
                world.index
            );
        }
    }
    // Not a walk through refusals alone.
    let meta: Meta = read_record(&world.tables, &Key::Meta, Kind::Meta)
        .expect("readable")
        .expect("written");
    assert!(
        meta.last_task > steps / 20,
        "seed {seed}: only {} tasks",
        meta.last_task
    );
}

/// Everything but the counters' record, whose clock moves with every entry.
fn without_time(tables: &MemTables) -> Vec<Vec<(Vec<u8>, Vec<u8>)>> {
    Table::ALL
        .iter()
        .filter(|table| **table != Table::Meta)
        .map(|table| tables.dump(*table))
        .collect()
}

#[test]
fn random_commands_keep_every_invariant() {
    let seeds: Vec<u64> = match std::env::var("SEED") {
        Ok(seed) => vec![seed.parse().expect("SEED is a number")],
        Err(_) => {
            let fresh = std::time::UNIX_EPOCH.elapsed().expect("after 1970").as_secs();
            (1..=20).chain(fresh..fresh + 10).collect()
        }
    };
    for seed in seeds {
        println!("seed {seed}");
        run_seed(seed, 400);
    }
}

#[test]
fn run_ids_in_keys_read_back() {
    let id = RunId {
        task: TaskId(7),
        number: 9,
    };
    assert_eq!(decode_run(&Key::Run(id).encode()), Some(id));
}
