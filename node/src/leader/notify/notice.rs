//! What is said, and to whom.

use crate::state;
use sched_core::apply::read_record;
use sched_core::codec::Kind;
use sched_core::command::Fault;
use sched_core::ids::{RunId, TaskId};
use sched_core::run::{LedgerFact, LedgerLine, Run, RunState};
use sched_core::tables::{Key, View};
use sched_core::task::{NotifyOn, NotifyTo, Task};

/// One notification, ready to go.
pub(super) struct Notice {
    pub(super) to: NotifyTo,
    /// The same for all tries.
    pub(super) key: String,
    pub(super) subject: String,
    pub(super) body: serde_json::Value,
    /// So many failed.
    pub(super) tries: u32,
}

/// Returns what is to be said of a run that ended, or whose end nobody knows. One that is gone or was retried meanwhile has nothing to
/// say.
pub(super) fn ended(view: &impl View, id: RunId, recovered: bool) -> Result<Vec<Notice>, Fault> {
    let (Some(run), Some(task)) = (state::run(view, id)?, state::task(view, id.task)?) else {
        return Ok(Vec::new());
    };
    let applies = |on| match on {
        NotifyOn::End => run.state.is_terminal(),
        NotifyOn::Failure => matches!(run.state, RunState::Failed | RunState::Lost { .. }),
        NotifyOn::Recovery => run.state == RunState::Finished && recovered,
        NotifyOn::Miss => false,
    };
    let wanted = task.spec.policy.notify.iter().filter(|notify| applies(notify.on));
    Ok(wanted
        .map(|notify| of_run(notify.on, notify.to.clone(), &run, &task))
        .collect())
}

fn of_run(on: NotifyOn, to: NotifyTo, run: &Run, task: &Task) -> Notice {
    let (id, state, event) = (run.id, run.state.as_str(), on.as_str());
    // A run that was retried ends again: that is another event, and so is the end of one that was LOST.
    let when = match (run.state, run.ended_at) {
        (RunState::Lost { token, .. }, _) => format!("lost-{token}"),
        (_, ended_at) => ended_at.map_or(0, |at| at.as_millis()).to_string(),
    };
    Notice {
        to,
        key: format!("{id}:{event}:{when}"),
        subject: format!("{}: run {id} is {state}", shown(task, id.task)),
        body: serde_json::json!({
            "event": event,
            "task": id.task.0,
            "name": task.spec.name,
            "namespace": task.spec.namespace,
            "run": id.to_string(),
            "state": state,
            "reason": run.reason,
            "exit_code": run.exit_code,
            "attempts": run.attempts_count,
            "scheduled_at": run.scheduled_at.to_string(),
            "ended_at": run.ended_at.map(|at| at.to_string()),
        }),
        tries: 0,
    }
}

/// Returns what is to be said of a line of the ledger about occurrences that got no run.
pub(super) fn missed(view: &impl View, id: TaskId, number: u64) -> Result<Vec<Notice>, Fault> {
    let line: Option<LedgerLine> = read_record(view, &Key::Ledger(id, number), Kind::LedgerLine)?;
    let (Some(line), Some(task)) = (line, state::task(view, id)?) else {
        return Ok(Vec::new());
    };
    let (first, last, count, reason) = match line.fact {
        LedgerFact::Missed {
            first,
            last,
            count,
            reason,
        } => (first, last, count, reason),
        LedgerFact::Skipped { scheduled_at, reason } => (scheduled_at, scheduled_at, 1, reason),
        LedgerFact::DrainFailed { .. }
        | LedgerFact::Closed { .. }
        | LedgerFact::StaleReport { .. }
        | LedgerFact::Resolved { .. } => return Ok(Vec::new()),
    };
    let wanted = task.spec.policy.notify.iter();
    let wanted = wanted.filter(|notify| notify.on == NotifyOn::Miss);
    let notice = |to: &NotifyTo| Notice {
        to: to.clone(),
        key: format!("{id}:miss:{number}"),
        subject: format!("{}: {count} missed, from {first}", shown(&task, id)),
        body: serde_json::json!({
            "event": NotifyOn::Miss.as_str(),
            "task": id.0,
            "name": task.spec.name,
            "namespace": task.spec.namespace,
            "line": number,
            "first": first.to_string(),
            "last": last.to_string(),
            "count": count,
            "reason": reason,
        }),
        tries: 0,
    };
    Ok(wanted.map(|notify| notice(&notify.to)).collect())
}

fn shown(task: &Task, id: TaskId) -> String {
    task.spec.name.clone().unwrap_or_else(|| format!("task {id}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use sched_core::apply::{Position, apply_entry};
    use sched_core::command::{AssignItem, Command, Entry, FireItem, MissedRange, Reply, Resolution};
    use sched_core::ids::{SessionId, Token};
    use sched_core::schedule::Schedule;
    use sched_core::tables::{MemTables, Staged};
    use sched_core::task::{Action, Bounds, Delivery, NextRun, Notify, Policy, TaskSpec};
    use sched_core::{Effect, Item, Timestamp};

    #[derive(Default)]
    struct Log {
        tables: MemTables,
        index: u64,
    }

    impl Log {
        /// Carries a command out; returns its answer, and event and state of each notification that follows from it.
        fn apply(&mut self, command: Command) -> (Reply, Vec<String>) {
            self.index += 1;
            let entry = Entry {
                term: 1,
                now: Timestamp::from_millis(5000),
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
            let told = outcome.effects.iter().flat_map(|effect| match effect {
                Effect::RunEnded { run, recovered } => ended(&self.tables, *run, *recovered).unwrap(),
                Effect::RunLost { run } => ended(&self.tables, *run, false).unwrap(),
                Effect::OccurrencesMissed { task, line } => missed(&self.tables, *task, *line).unwrap(),
                _ => Vec::new(),
            });
            let shown = |notice: Notice| {
                let (event, state) = (notice.body["event"].as_str(), notice.body["state"].as_str());
                assert!(notice.key.contains(event.unwrap()), "{}", notice.key);
                format!("{} {}", event.unwrap(), state.unwrap_or_default())
            };
            (outcome.reply.unwrap(), told.map(shown).collect())
        }

        /// Submits a task that starts once and has somebody to notify of everything.
        fn submit(&mut self, schedule: Schedule, first: NextRun) -> TaskId {
            let url = "http://x".to_owned();
            let notify = NotifyOn::ALL.map(|on| Notify {
                on,
                to: NotifyTo::Webhook { url: url.clone() },
            });
            let policy = Policy {
                delivery: Some(Delivery::AtMostOnce),
                notify: notify.to_vec(),
                ..Policy::default()
            };
            let action = Action::Sample {
                succeed: true,
                duration_ms: 0,
                payload: Vec::new(),
            };
            let spec = TaskSpec {
                namespace: "default".into(),
                name: None,
                labels: Default::default(),
                owner: String::new(),
                description: String::new(),
                schedule,
                action,
                policy,
                bounds: Bounds::default(),
            };
            let spec = Box::new(spec);
            match self.apply(Command::Submit { spec, first }) {
                (Reply::Task { id, .. }, _) => id,
                other => panic!("{other:?}"),
            }
        }
    }

    fn open() -> Command {
        Command::SessionOpen {
            worker: "w".into(),
            journal: 7,
            node: None,
            slots: 4,
            labels: Default::default(),
            held: Vec::new(),
            queues: Default::default(),
            position: None,
            openings: Vec::new(),
        }
    }

    #[test]
    fn each_event_is_told_to_those_who_asked_for_it() {
        let mut log = Log::default();
        let task = log.submit(Schedule::Now, NextRun::Never);
        let run = RunId { task, number: 1 };
        let (Reply::Session { id: session, .. }, _) = log.apply(open()) else {
            panic!("no session");
        };
        let items = vec![AssignItem { run, session }];
        let (Reply::Assigned(tokens), _) = log.apply(Command::Assign { items }) else {
            panic!("not assigned");
        };
        let SessionId(bound): SessionId = session;
        let token: Token = tokens[0].unwrap();
        let grant = Command::Grant {
            run,
            token,
            session,
            position: None,
        };
        log.apply(grant);
        let (_, told) = log.apply(Command::SessionExpire { session, bound });
        assert_eq!(told, ["failure LOST"]);
        let resolution = Resolution::Finished;
        let (_, told) = log.apply(Command::Resolve { run, resolution });
        assert_eq!(told, ["recovery FINISHED", "end FINISHED"]);
        let due = Timestamp::from_millis(100);
        let task = log.submit(Schedule::At(due), NextRun::At(due));
        let (first, last) = (due, due);
        let item = FireItem {
            task,
            generation: 1,
            cursor: due,
            runs: Vec::new(),
            missed: Some(MissedRange {
                first,
                last,
                count: 1,
                reason: "late".into(),
            }),
            next: NextRun::Never,
            closed: None,
            calendars: 0,
        };
        let fire = Command::Fire {
            leader_since: Timestamp::EPOCH,
            items: vec![item],
        };
        assert_eq!(log.apply(fire).1, ["miss "]);
    }
}
