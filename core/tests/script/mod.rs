//! Golden scripts: commands above the line, what they did below it.
//!
//! A script drives `apply_entry` on tables in memory; all invariants hold after every line. The words are those of the product.

mod show;

use sched_core::apply::{Position, apply_entry, read_record};
use sched_core::codec::Kind;
use sched_core::command::{AssignItem, DrainItem, FireItem, MissedRange};
use sched_core::run::{RunResult, Verdict};
use sched_core::schedule::Schedule;
use sched_core::tables::{Key, MemTables, Meta, Staged, Table, View, decode_run, decode_task};
use sched_core::task::{
    Action, Bounds, Delivery, Ending, Group, Missed, NextRun, Overlap, Policy, Task, TaskRef, TaskSpec, TaskStatus,
    Tries,
};
use sched_core::{Command, Entry, Item, Reply, RequestKey, RunId, SessionId, TaskId, Timestamp, Token};
use show::{show_effect, show_next, show_reply, show_state};
use std::collections::BTreeMap;
use std::fmt::Write;

pub(crate) struct Machine {
    tables: MemTables,
    index: u64,
    term: u64,
    now: Timestamp,
    sessions: BTreeMap<String, SessionId>,
}

/// Words of a line: `verb plain… key=value…`.
struct Line<'a> {
    verb: &'a str,
    plain: Vec<&'a str>,
    options: BTreeMap<&'a str, &'a str>,
}

impl<'a> Line<'a> {
    fn parse(line: &'a str) -> Self {
        let mut words = line.split_whitespace();
        let verb = words.next().expect("a line has a verb");
        let (mut plain, mut options) = (Vec::new(), BTreeMap::new());
        for word in words {
            match word.split_once('=') {
                Some((key, value)) if key.chars().all(|c| c.is_ascii_lowercase() || c == '_') => {
                    options.insert(key, value);
                }
                _ => plain.push(word),
            }
        }
        Self { verb, plain, options }
    }

    fn has(&self, word: &str) -> bool {
        self.plain.contains(&word)
    }

    fn number(&self, key: &str) -> Option<u64> {
        self.options.get(key).map(|value| {
            value
                .parse()
                .unwrap_or_else(|_| panic!("{key}={value} is not a number"))
        })
    }
}

fn ms(text: &str) -> Timestamp {
    Timestamp::from_millis(text.parse().unwrap_or_else(|_| panic!("{text:?} is not a time in ms")))
}

fn next(text: Option<&&str>) -> NextRun {
    match text {
        None | Some(&"never") => NextRun::Never,
        Some(text) => NextRun::At(ms(text)),
    }
}

fn task_ref(word: &str) -> TaskRef {
    match word.parse() {
        Ok(id) => TaskRef::Id(TaskId(id)),
        Err(_) => TaskRef::Name {
            namespace: "default".into(),
            name: word.into(),
        },
    }
}

fn run_id(word: &str) -> RunId {
    word.parse().unwrap_or_else(|e| panic!("{e}"))
}

fn token(word: &str) -> Token {
    let (index, position) = word
        .split_once('.')
        .unwrap_or_else(|| panic!("{word:?} is not a token"));
    Token {
        index: index.parse().expect("index"),
        position: position.parse().expect("position"),
    }
}

fn schedule(line: &Line<'_>) -> Schedule {
    if let (Some(at), Some(before_ms)) = (line.options.get("at"), line.number("before")) {
        Schedule::Before {
            event: ms(at),
            before_ms,
        }
    } else if let Some(at) = line.options.get("at") {
        Schedule::At(ms(at))
    } else if let Some(every) = line.number("every") {
        Schedule::Every {
            every_ms: every,
            anchor: Timestamp::EPOCH,
        }
    } else if let Some(parents) = line.options.get("after") {
        let on = match line.options.get("on") {
            None | Some(&"success") => Ending::Success,
            Some(&"failure") => Ending::Failure,
            Some(_) => Ending::Any,
        };
        Schedule::After {
            parents: parents.split(',').map(task_ref).collect(),
            on,
        }
    } else if line.has("manual") {
        Schedule::Manual
    } else {
        Schedule::Now
    }
}

fn policy(line: &Line<'_>) -> Policy {
    let mut policy = Policy::default();
    match line.options.get("overlap") {
        None | Some(&"skip") => {}
        Some(&"allow") => policy.overlap = Overlap::Allow,
        Some(&"queue-one") => policy.overlap = Overlap::QueueOne,
        Some(&"queue-all") => policy.overlap = Overlap::QueueAll,
        Some(&"replace") => policy.overlap = Overlap::Replace,
        Some(other) => panic!("overlap={other}"),
    }
    if let Some(max) = line.number("tries") {
        policy.tries = Tries {
            max: max as u32,
            delay_ms: line.number("delay").unwrap_or(10_000),
            ..Tries::default()
        };
    }
    if let Some(priority) = line.options.get("priority") {
        policy.priority = priority.parse().expect("priority");
    }
    if let Some(keep) = line.number("keep") {
        policy.retention.finished_max = keep as u32;
        policy.retention.failed_max = keep as u32;
    }
    if let Some(age) = line.number("age") {
        policy.retention.finished_age_ms_max = age;
        policy.retention.failed_age_ms_max = line.number("failed_age").unwrap_or(age);
    }
    if line.has("at-most-once") {
        policy.delivery = Some(Delivery::AtMostOnce);
    }
    if let Some((name, limit)) = line.options.get("group").and_then(|group| group.split_once(':')) {
        policy.group = Some(Group {
            name: name.into(),
            limit: limit.parse().expect("limit"),
        });
    }
    policy.placement.require = labels(line, "require");
    policy.placement.prefer = labels(line, "prefer");
    policy.missed = Missed::Latest;
    policy
}

fn labels(line: &Line<'_>, key: &str) -> BTreeMap<String, String> {
    let pairs = line
        .options
        .get(key)
        .map(|pairs| pairs.split(','))
        .into_iter()
        .flatten();
    let pair = |pair: &str| {
        pair.split_once(':')
            .map(|(label, value)| (label.to_owned(), value.to_owned()))
    };
    pairs.filter_map(pair).collect()
}

fn bounds(line: &Line<'_>) -> Bounds {
    Bounds {
        expires: line.options.get("expires").map(|at| ms(at)),
        count: line.number("count"),
        ..Bounds::default()
    }
}

impl Machine {
    pub(crate) fn new() -> Self {
        let now = Timestamp::from_millis(1000);
        Self {
            tables: MemTables::new(),
            index: 0,
            term: 1,
            now,
            sessions: BTreeMap::new(),
        }
    }

    /// Carries a script out and returns what each line did.
    pub(crate) fn run(&mut self, script: &str) -> String {
        let mut out = String::new();
        let mut batch: Vec<Item> = Vec::new();
        let mut workers: Vec<Option<String>> = Vec::new();
        let mut stale_term = false;
        for text in script
            .lines()
            .map(str::trim)
            .filter(|l| !l.is_empty() && !l.starts_with('#'))
        {
            let (text, joined) = match text.strip_suffix('&') {
                Some(text) => (text, true),
                None => (text, false),
            };
            let line = Line::parse(text);
            match line.verb {
                "at" => self.now = ms(line.plain[0]),
                "term" => self.term = line.plain[0].parse().expect("term"),
                "old-leader" => stale_term = true,
                "show" => self.show(&mut out),
                "ledger" => self.ledger(&mut out, line.plain[0]),
                "explain" => self.explain(&mut out, line.plain[0]),
                _ => {
                    workers.push((line.verb == "open").then(|| line.plain[0].to_owned()));
                    batch.push(self.item(&line));
                    if !joined {
                        let proposer = if stale_term { self.term - 1 } else { self.term };
                        self.apply(
                            &mut out,
                            proposer,
                            std::mem::take(&mut batch),
                            std::mem::take(&mut workers),
                        );
                        stale_term = false;
                    }
                }
            }
        }
        out
    }

    fn apply(&mut self, out: &mut String, proposer: u64, items: Vec<Item>, workers: Vec<Option<String>>) {
        self.index += 1;
        let entry = Entry {
            term: proposer,
            now: self.now,
            items,
        };
        let mut staged = Staged::new(&self.tables);
        let position = Position {
            index: self.index,
            term: self.term,
        };
        let outcomes = apply_entry(&mut staged, position, &entry).expect("tables in memory have no faults");
        let changes = staged.into_changes();
        self.tables.write(changes);
        for (outcome, worker) in outcomes.iter().zip(workers) {
            if let (Some(worker), Ok(Reply::Session { id, .. })) = (worker, &outcome.reply) {
                self.sessions.insert(worker, *id);
            }
            let reply = match &outcome.reply {
                Ok(reply) => format!("ok {}", show_reply(reply)),
                Err(reject) => format!("refused: {reject}"),
            };
            let effects: Vec<String> = outcome.effects.iter().filter_map(show_effect).collect();
            let _ = writeln!(out, "{reply} [{}]", effects.join(", "));
        }
        let findings = sched_core::check::check(&self.tables).expect("readable");
        assert!(findings.is_empty(), "after {entry:?}:\n{findings:#?}");
    }

    fn session(&self, worker: &str) -> SessionId {
        *self
            .sessions
            .get(worker)
            .unwrap_or_else(|| panic!("worker {worker} has no session"))
    }

    /// The newest opening of a session that exists.
    fn bound(&self, session: SessionId) -> Token {
        let record: Option<sched_core::session::Session> =
            read_record(&self.tables, &Key::Session(session), Kind::Session).expect("readable");
        record.map_or(session.0, |session| session.bound)
    }

    /// The token a line names, or the run's current one.
    fn token_of(&self, line: &Line<'_>, run: RunId) -> Token {
        if let Some(word) = line.options.get("token") {
            return token(word);
        }
        let record: sched_core::run::Run = read_record(&self.tables, &Key::Run(run), Kind::Run)
            .expect("readable")
            .expect("run exists");
        record
            .state
            .holder()
            .map(|(token, _)| token)
            .expect("run has a holder; name the token")
    }

    fn item(&self, line: &Line<'_>) -> Item {
        let request = line.options.get("req").map(|key| match key.split_once('/') {
            Some((expires, nonce)) => RequestKey::Client {
                expires_at: ms(expires),
                nonce: nonce.parse().expect("nonce"),
            },
            None => RequestKey::Caller {
                namespace: "default".into(),
                key: (*key).into(),
            },
        });
        Item {
            request,
            principal: "test".into(),
            command: self.command(line),
        }
    }

    fn command(&self, line: &Line<'_>) -> Command {
        let word = |i: usize| {
            *line
                .plain
                .get(i)
                .unwrap_or_else(|| panic!("{} wants more words", line.verb))
        };
        let nth_task = || task_ref(word(0));
        let generation = line.number("gen").unwrap_or(1);
        match line.verb {
            "submit" => submit(line, word(0)),
            "dequeue" => Command::Dequeue {
                task: nth_task(),
                kill: line.has("kill"),
            },
            "move" => {
                let next = next(line.options.get("next"));
                Command::Move {
                    task: nth_task(),
                    generation,
                    schedule: schedule(line),
                    next,
                }
            }
            "run" => Command::Trigger {
                task: nth_task(),
                params: Vec::new(),
            },
            "retry" => Command::Retry { run: run_id(word(0)) },
            "cancel" => Command::Cancel { run: run_id(word(0)) },
            "pause" => Command::Pause {
                task: nth_task(),
                until: line.options.get("until").map(|t| ms(t)),
                note: "note".into(),
            },
            "resume" => Command::Resume {
                task: nth_task(),
                generation,
                next: next(line.options.get("next")),
                paused: line.options.get("paused").map(|range| missed_range(range)),
            },
            "backfill" => Command::Backfill {
                task: nth_task(),
                generation,
                times: times(line, "times"),
                at_once: line.has("at-once"),
            },
            "clear-spool" => Command::ClearSpool {
                upto: line.number("upto").unwrap_or(u64::MAX),
            },
            "shutdown" => Command::Shutdown {
                message: "maintenance".into(),
            },
            "start" => Command::Start,
            "drain" => Command::Drain {
                items: line.plain.iter().map(|word| drain_item(word)).collect(),
            },
            "fire" => {
                let since = line
                    .number("leader_since")
                    .map_or(Timestamp::EPOCH, |t| Timestamp::from_millis(t as i64));
                Command::Fire {
                    leader_since: since,
                    items: vec![fire_item(line, word(0), generation)],
                }
            }
            "due" => Command::Due {
                runs: line.plain.iter().map(|word| run_id(word)).collect(),
            },
            "assign" => Command::Assign {
                items: line.plain.iter().map(|word| self.assign_item(word)).collect(),
            },
            "grant" => {
                let run = run_id(word(0));
                Command::Grant {
                    run,
                    token: self.token_of(line, run),
                    session: self.session(word(1)),
                }
            }
            "complete" => {
                let run = run_id(word(0));
                let token = self.token_of(line, run);
                Command::Complete {
                    run,
                    token,
                    result: Box::new(self.result(line, word(1))),
                }
            }
            "nack" => {
                let run = run_id(word(0));
                Command::Nack {
                    run,
                    token: self.token_of(line, run),
                    reason: "no room".into(),
                }
            }
            "open" => Command::SessionOpen {
                worker: word(0).into(),
                journal: line.number("journal").unwrap_or(1).into(),
                node: None,
                slots: 4,
                labels: labels(line, "labels"),
                held: line.plain[1..]
                    .iter()
                    .map(|held| held.split_once('@').expect("RUN@TOKEN"))
                    .map(|(run, held)| (run_id(run), token(held)))
                    .collect(),
            },
            "expire" => {
                let session = self.session(word(0));
                let bound = match line.options.get("bound") {
                    Some(word) => token(word),
                    None => self.bound(session),
                };
                Command::SessionExpire { session, bound }
            }
            "close" => Command::SessionClose {
                session: self.session(word(0)),
            },
            "retain" => Command::Retain {
                runs: line
                    .plain
                    .iter()
                    .filter(|w| w.contains(':'))
                    .map(|w| run_id(w))
                    .collect(),
                tasks: line
                    .plain
                    .iter()
                    .filter(|w| !w.contains(':'))
                    .map(|w| TaskId(w.parse().expect("id")))
                    .collect(),
                requests_until: line.options.get("requests").map_or(Timestamp::EPOCH, |t| ms(t)),
            },
            other => panic!("unknown verb {other}"),
        }
    }

    fn result(&self, line: &Line<'_>, verdict: &str) -> RunResult {
        let verdict = match verdict {
            "ok" => Verdict::Success,
            "fail" => Verdict::Failure {
                reason: "exit code 1".into(),
            },
            "delay-me" => Verdict::DelayMe {
                delay_ms: line.number("by").expect("by="),
                reason: "busy".into(),
            },
            "cancelled" => Verdict::Cancelled,
            other => panic!("unknown verdict {other}"),
        };
        let (started_at, ended_at) = (self.now.plus_millis(-1), self.now);
        RunResult {
            verdict,
            exit_code: None,
            started_at,
            ended_at,
            output_tail: Vec::new(),
        }
    }

    fn assign_item(&self, word: &str) -> AssignItem {
        let (run, worker) = word.split_once('>').expect("RUN>WORKER");
        AssignItem {
            run: run_id(run),
            session: self.session(worker),
        }
    }

    /// Shows every task and every run.
    fn show(&self, out: &mut String) {
        let to = [0xff; 32];
        for (key, value) in self.tables.scan(Table::Status, &[], &to, 1000).expect("readable") {
            let id = decode_task(&key).expect("task key");
            let status: TaskStatus = sched_core::codec::decode(Kind::TaskStatus, &value).expect("status");
            let task: Task = read_record(&self.tables, &Key::Task(id), Kind::Task)
                .expect("readable")
                .expect("task");
            let name = task.spec.name.unwrap_or_default();
            let paused = if status.pause.is_some() { " paused" } else { "" };
            let _ = writeln!(
                out,
                "  task {id} {name} {}{paused} gen={} next={} live={:?} held={:?}",
                status.state.as_str(),
                status.generation,
                show_next(status.next),
                status.live,
                status.held,
            );
        }
        for (key, value) in self.tables.scan(Table::Runs, &[], &to, 1000).expect("readable") {
            let id = decode_run(&key).expect("run key");
            let run: sched_core::run::Run = sched_core::codec::decode(Kind::Run, &value).expect("run");
            let _ = writeln!(
                out,
                "  run {id} {} at={} tries={} losses={} stale={}{}",
                show_state(run.state),
                run.scheduled_at.as_millis(),
                run.tries,
                run.losses,
                run.stale_reports,
                if run.reason.is_empty() {
                    String::new()
                } else {
                    format!(" ({})", run.reason)
                },
            );
        }
        let meta: Meta = read_record(&self.tables, &Key::Meta, Kind::Meta)
            .expect("readable")
            .unwrap_or_default();
        let _ = writeln!(
            out,
            "  spooled={} waiting={} ready={} delayed={} running={} lost={} finished={} failed={} missed={} skipped={} stale={}",
            meta.spooled(),
            meta.waiting,
            meta.ready,
            meta.delayed,
            meta.running,
            meta.lost,
            meta.finished,
            meta.failed,
            meta.missed,
            meta.skipped,
            meta.stale_reports,
        );
    }

    fn explain(&self, out: &mut String, what: &str) {
        let lines = match what.parse::<RunId>() {
            Ok(run) => sched_core::explain::run(&self.tables, run),
            Err(_) => sched_core::explain::task(&self.tables, TaskId(what.parse().expect("task id"))),
        };
        for line in lines.expect("readable").unwrap_or_else(|| vec!["there is none".into()]) {
            let _ = writeln!(out, "  {line}");
        }
    }

    fn ledger(&self, out: &mut String, id: &str) {
        let (from, to) = Key::ledger_of(TaskId(id.parse().expect("task id")), 0);
        for (_, value) in self.tables.scan(Table::Ledger, &from, &to, 1000).expect("readable") {
            let line: sched_core::run::LedgerLine =
                sched_core::codec::decode(Kind::LedgerLine, &value).expect("ledger line");
            let _ = writeln!(out, "  {} {:?}", line.at.as_millis(), line.fact);
        }
    }
}

fn submit(line: &Line<'_>, name: &str) -> Command {
    let schedule = schedule(line);
    let first = match (schedule.instant(), line.options.get("first")) {
        (Some(at), None) => NextRun::At(at),
        (_, first) => next(first),
    };
    let spec = TaskSpec {
        namespace: "default".into(),
        name: (name != "-").then(|| name.to_owned()),
        labels: line
            .options
            .get("label")
            .map(|v| ("app".to_owned(), (*v).to_owned()))
            .into_iter()
            .collect(),
        owner: String::new(),
        description: String::new(),
        schedule,
        action: Action::Sample {
            succeed: true,
            duration_ms: 0,
            payload: Vec::new(),
        },
        policy: policy(line),
        bounds: bounds(line),
    };
    Command::Submit {
        spec: Box::new(spec),
        first,
    }
}

fn drain_item(word: &str) -> DrainItem {
    let (seq, at) = word.split_once('>').expect("SEQ>NEXT");
    DrainItem {
        seq: seq.parse().expect("seq"),
        next: next(Some(&at)),
    }
}

fn times(line: &Line<'_>, key: &str) -> Vec<Timestamp> {
    let list = line.options.get(key).map(|list| list.split(','));
    list.into_iter().flatten().map(ms).collect()
}

fn missed_range(text: &str) -> MissedRange {
    let (range, count) = text.split_once('/').expect("FIRST..LAST/COUNT");
    let (first, last) = range.split_once("..").expect("FIRST..LAST");
    MissedRange {
        first: ms(first),
        last: ms(last),
        count: count.parse().expect("count"),
        reason: "test".into(),
    }
}

fn fire_item(line: &Line<'_>, task: &str, generation: u64) -> FireItem {
    let runs = times(line, "runs");
    let missed = line.options.get("missed").map(|range| missed_range(range));
    let cursor = line.options.get("cursor").map(|t| ms(t)).unwrap_or_else(|| runs[0]);
    let next = next(line.options.get("next"));
    FireItem {
        task: TaskId(task.parse().expect("task id")),
        generation,
        cursor,
        runs,
        missed,
        next,
    }
}
