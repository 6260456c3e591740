//! Golden scripts: commands above the line, what they did below it.
//!
//! A script drives `apply_entry` on tables in memory; all invariants hold after every line. The words are those of the product.

mod show;
mod words;

use sched_core::apply::{Position, apply_entry, read_record};
use sched_core::codec::Kind;
use sched_core::command::{AssignItem, Resolution};
use sched_core::config::{Config, Setting};
use sched_core::run::{RunResult, Verdict};
use sched_core::tables::{Key, MemTables, Meta, Staged, Table, View, decode_ready, decode_run, decode_task};
use sched_core::task::{Task, TaskStatus};
use sched_core::{Command, Entry, Item, Reply, RequestKey, RunId, SessionId, TaskId, Timestamp, Token};
use show::{show_effect, show_next, show_reply, show_state};
use std::collections::BTreeMap;
use std::fmt::Write;
use words::*;

pub(crate) struct Machine {
    tables: MemTables,
    index: u64,
    term: u64,
    now: Timestamp,
    sessions: BTreeMap<String, SessionId>,
}

/// Words of a line: `verb plain… key=value…`.
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
                "ready" => self.ready(&mut out),
                "settings" => self.settings(&mut out),
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

    /// The session that reports: of the worker that a line names, else the run's holder, else that of the worker that had it last.
    fn reporter(&self, line: &Line<'_>, run: RunId) -> SessionId {
        if let Some(worker) = line.options.get("from") {
            return self.session(worker);
        }
        let record: Option<sched_core::run::Run> =
            read_record(&self.tables, &Key::Run(run), Kind::Run).expect("readable");
        let Some(record) = record else {
            return *self.sessions.values().next().expect("some worker has a session");
        };
        let named = line.options.get("token").map(|word| token(word));
        let attempt = record
            .attempts
            .iter()
            .rev()
            .find(|a| named.is_none_or(|named| a.token == named));
        match (record.state.holder(), attempt) {
            (Some((token, session)), _) if named.is_none_or(|named| named == token) => session,
            (_, Some(attempt)) => self.session(&attempt.worker),
            _ => panic!("nobody had that attempt; name who reports with from="),
        }
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
            "update" => update(line, word(0), generation),
            "configure" => configure(line),
            "delete-history" => Command::DeleteHistory {
                task: nth_task(),
                runs: line.plain[1..]
                    .iter()
                    .map(|word| word.parse().expect("number"))
                    .collect(),
                lines_before: line.options.get("lines_before").map(|t| ms(t)),
            },
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
                    position: position(line),
                }
            }
            "complete" => {
                let run = run_id(word(0));
                let token = self.token_of(line, run);
                Command::Complete {
                    run,
                    token,
                    session: self.reporter(line, run),
                    position: position(line),
                    result: Box::new(self.result(line, word(1))),
                }
            }
            "nack" => {
                let run = run_id(word(0));
                Command::Nack {
                    run,
                    token: self.token_of(line, run),
                    session: self.reporter(line, run),
                    reason: "no room".into(),
                }
            }
            "not-started" => {
                let run = run_id(word(0));
                Command::NotStarted {
                    run,
                    token: self.token_of(line, run),
                    session: self.reporter(line, run),
                    position: position(line),
                    reason: "contact was lost before the start".into(),
                }
            }
            "resolve" => Command::Resolve {
                run: run_id(word(0)),
                resolution: match word(1) {
                    "failed" => Resolution::Failed,
                    "finished" => Resolution::Finished,
                    "retry" => Resolution::Retry,
                    other => panic!("unknown resolution {other}"),
                },
            },
            "reset-clock" => Command::ResetClock { to: ms(word(0)) },
            "open" => Command::SessionOpen {
                worker: word(0).into(),
                journal: line.number("journal").map_or_else(|| own_journal(word(0)), u128::from),
                node: None,
                slots: 4,
                labels: labels(line, "labels"),
                held: line.plain[1..]
                    .iter()
                    .map(|held| held.split_once('@').expect("RUN@TOKEN"))
                    .map(|(run, held)| (run_id(run), token(held)))
                    .collect(),
                queues: line
                    .options
                    .get("queues")
                    .map(|queues| queues.split(',').map(str::to_owned))
                    .into_iter()
                    .flatten()
                    .collect(),
                position: position(line),
                openings: openings(line),
            },
            "expire" => {
                let session = self.session(word(0));
                let bound = match line.options.get("bound") {
                    Some(word) => token(word),
                    None => self.bound(session),
                };
                Command::SessionExpire { session, bound }
            }
            "searched-again" => Command::SearchedAgain {
                task: TaskId(word(0).parse().expect("task id")),
                generation,
                next: next(line.options.get("next")),
            },
            "set-calendar" => Command::SetCalendar {
                namespace: "default".into(),
                name: word(0).into(),
                calendar: Box::new(calendar(line)),
                generation: line.number("gen"),
            },
            "delete-calendar" => Command::DeleteCalendar {
                namespace: "default".into(),
                name: word(0).into(),
                generation: line.number("gen"),
            },
            "drain-worker" => Command::DrainWorker {
                worker: word(0).into(),
                note: "disk".into(),
            },
            "undrain-worker" => Command::UndrainWorker { worker: word(0).into() },
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
            "stopping" => Verdict::Abandoned {
                reason: "killed: the worker is stopping".into(),
                stopping: true,
            },
            "cut-off" => Verdict::Abandoned {
                reason: "killed: the worker lost contact with the leader".into(),
                stopping: false,
            },
            "unknown" => Verdict::Lost {
                reason: "its worker was restarted while it ran".into(),
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
            result: Vec::new(),
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

    /// Shows the ready list in its order.
    fn ready(&self, out: &mut String) {
        let ready = self.tables.scan(Table::Ready, &[], &[0xff; 34], 1000);
        for (key, _) in ready.expect("readable") {
            let (_, priority, at, run) = decode_ready(&key).expect("ready key");
            let _ = writeln!(out, "  {run} priority={priority} at={}", at.as_millis());
        }
    }

    /// Shows every setting that is set.
    fn settings(&self, out: &mut String) {
        let config = Config::read(&self.tables).expect("readable");
        for setting in Setting::all().filter(|setting| config.is_set(*setting)) {
            let _ = writeln!(out, "  {} = {}", setting.key(), config.value(setting));
        }
        let meta: Meta = read_record(&self.tables, &Key::Meta, Kind::Meta)
            .expect("readable")
            .unwrap_or_default();
        let _ = writeln!(
            out,
            "  ended tasks: {} of {}",
            meta.ended_tasks,
            config.ended_tasks_max()
        );
    }

    fn explain(&self, out: &mut String, what: &str) {
        let lines = match what.parse::<RunId>() {
            Ok(run) => sched_core::explain::run(&self.tables, run),
            Err(_) => {
                let ahead = sched_core::explain::Ahead::default();
                sched_core::explain::task(&self.tables, TaskId(what.parse().expect("task id")), &ahead)
            }
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
