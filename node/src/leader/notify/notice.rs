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

/// Returns what is to be said of a run that ended. One that is gone or was retried meanwhile has nothing to say.
pub(super) fn ended(view: &impl View, id: RunId, recovered: bool) -> Result<Vec<Notice>, Fault> {
    let (Some(run), Some(task)) = (state::run(view, id)?, state::task(view, id.task)?) else {
        return Ok(Vec::new());
    };
    let applies = |on| match on {
        NotifyOn::End => run.state.is_terminal(),
        NotifyOn::Failure => run.state == RunState::Failed,
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
    // A run that was retried ends again: that is another event.
    let ended = run.ended_at.map_or(0, |at| at.as_millis());
    Notice {
        to,
        key: format!("{id}:{event}:{ended}"),
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
