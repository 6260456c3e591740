//! What is shown: the same structures become tables, JSON and YAML. Their field names are part of the interface.

use crate::document::{TaskDocument, document_of};
use crate::table::{Table, printable};
use sched_client::v1;
use sched_core::Timestamp;
use sched_core::task::{Policy, PolicyField, TaskSpec};
use sched_proto::convert::from_wire;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// Writes an instant as everywhere: RFC 3339 in UTC with milliseconds.
pub(crate) fn instant(unix_ms: i64) -> String {
    Timestamp::from_millis(unix_ms).to_string()
}

fn instant_or_none(unix_ms: Option<i64>) -> Option<String> {
    unix_ms.map(instant)
}

/// Returns the word of an enumeration value: `TASK_STATE_QUEUED` is `QUEUED`.
fn word(name: &str, prefix: &str) -> String {
    name.strip_prefix(prefix).unwrap_or(name).to_owned()
}

pub(crate) fn task_state(state: v1::TaskState) -> String {
    word(state.as_str_name(), "TASK_STATE_")
}

pub(crate) fn run_state(state: v1::RunState) -> String {
    word(state.as_str_name(), "RUN_STATE_")
}

/// Returns the next run time, if there is one.
fn next_run(next: Option<v1::NextRun>) -> Option<String> {
    match next.and_then(|next| next.next) {
        Some(v1::next_run::Next::AtUnixMs(at)) => Some(instant(at)),
        _ => None,
    }
}

/// Writes a table's empty cell.
fn or_dash(text: Option<&str>) -> String {
    text.filter(|text| !text.is_empty()).unwrap_or("-").to_owned()
}

/// A task after a change.
#[derive(Serialize, Debug, PartialEq)]
pub(crate) struct Handle {
    pub(crate) id: u64,
    pub(crate) name: Option<String>,
    pub(crate) state: String,
    pub(crate) next_run: Option<String>,
}

impl From<v1::SubmitReply> for Handle {
    fn from(reply: v1::SubmitReply) -> Self {
        Self {
            id: reply.id,
            state: task_state(reply.state()),
            next_run: next_run(reply.next_run),
            name: reply.name,
        }
    }
}

impl From<v1::TaskReply> for Handle {
    fn from(reply: v1::TaskReply) -> Self {
        Self {
            id: reply.id,
            state: task_state(reply.state()),
            next_run: next_run(reply.next_run),
            name: reply.name,
        }
    }
}

/// Lists tasks after a change.
pub(crate) fn handles(handles: &[Handle]) -> String {
    let mut table = Table::new(&["ID", "NAME", "STATE", "NEXT RUN"]);
    for handle in handles {
        let (name, next) = (or_dash(handle.name.as_deref()), or_dash(handle.next_run.as_deref()));
        table.row([handle.id.to_string(), name, handle.state.clone(), next]);
    }
    table.render()
}

/// A task of a file, after it was applied.
#[derive(Serialize, Debug, PartialEq)]
pub(crate) struct Applied {
    #[serde(flatten)]
    pub(crate) task: Handle,
    /// `created`, `updated` or `unchanged`.
    pub(crate) result: &'static str,
}

/// Lists the tasks of a file.
pub(crate) fn applied(list: &[Applied]) -> String {
    let mut table = Table::new(&["ID", "NAME", "STATE", "NEXT RUN", "RESULT"]);
    for Applied { task, result } in list {
        let (name, next) = (or_dash(task.name.as_deref()), or_dash(task.next_run.as_deref()));
        table.row([
            task.id.to_string(),
            name,
            task.state.clone(),
            next,
            (*result).to_owned(),
        ]);
    }
    table.render()
}

/// A run after a change.
#[derive(Serialize, Debug, PartialEq)]
pub(crate) struct RunHandle {
    /// Nothing when the operation went into the spool.
    pub(crate) run: Option<String>,
    pub(crate) task: u64,
}

impl From<v1::RunReply> for RunHandle {
    fn from(reply: v1::RunReply) -> Self {
        Self {
            run: reply.run.map(run_id),
            task: reply.task,
        }
    }
}

/// Writes the name of a run.
pub(crate) fn run_id(run: v1::RunId) -> String {
    format!("{}:{}", run.task, run.number)
}

/// A task in a list.
#[derive(Serialize, Debug, PartialEq)]
pub(crate) struct TaskView {
    pub(crate) id: u64,
    pub(crate) name: Option<String>,
    pub(crate) namespace: String,
    pub(crate) state: String,
    pub(crate) paused: bool,
    pub(crate) next_run: Option<String>,
    /// The search for the next run met its bound; it is searched again then.
    pub(crate) searched_again_at: Option<String>,
    /// In one line.
    pub(crate) schedule: String,
    /// In one line.
    pub(crate) action: String,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) owner: String,
    pub(crate) description: String,
    pub(crate) generation: u64,
    pub(crate) periodic: bool,
    pub(crate) created_at: String,
    pub(crate) last_scheduled_at: Option<String>,
    pub(crate) ended_at: Option<String>,
    pub(crate) runs_created: u64,
    pub(crate) live: Vec<String>,
    pub(crate) held: Vec<String>,
    pub(crate) finished: u64,
    pub(crate) failed: u64,
    pub(crate) pause: Option<PauseView>,
}

/// A pause.
#[derive(Serialize, Debug, PartialEq)]
pub(crate) struct PauseView {
    pub(crate) note: String,
    pub(crate) until: Option<String>,
    pub(crate) since: String,
}

/// Returns the task as it was asked for; nothing when this release does not understand it.
pub(crate) fn spec_of(task: &v1::Task) -> Option<TaskSpec> {
    from_wire::task_spec(task.spec.clone()?, Timestamp::from_millis(task.created_at_unix_ms)).ok()
}

impl TaskView {
    pub(crate) fn new(task: v1::Task) -> Self {
        let spec = spec_of(&task);
        let wire = task.spec.clone().unwrap_or_default();
        let runs = |numbers: &[u64]| numbers.iter().map(|number| format!("{}:{number}", task.id)).collect();
        let again = match task.next_run.and_then(|next| next.next) {
            Some(v1::next_run::Next::GaveUp(gave_up)) => Some(instant(gave_up.retry_at_unix_ms)),
            _ => None,
        };
        Self {
            id: task.id,
            state: task_state(task.state()),
            paused: task.pause.is_some(),
            next_run: next_run(task.next_run),
            searched_again_at: again,
            schedule: spec.as_ref().map(|spec| spec.schedule.to_string()).unwrap_or_default(),
            action: spec.as_ref().map(action_line).unwrap_or_default(),
            generation: task.generation,
            periodic: task.periodic,
            created_at: instant(task.created_at_unix_ms),
            last_scheduled_at: instant_or_none(task.last_scheduled_at_unix_ms),
            ended_at: instant_or_none(task.ended_at_unix_ms),
            runs_created: task.runs_created,
            live: runs(&task.live),
            held: runs(&task.held),
            finished: task.finished,
            failed: task.failed,
            pause: task.pause.map(|pause| PauseView {
                note: pause.note,
                until: instant_or_none(pause.until_unix_ms),
                since: instant(pause.since_unix_ms),
            }),
            name: wire.name,
            namespace: wire.namespace,
            labels: wire.labels,
            owner: wire.owner,
            description: wire.description,
        }
    }

    fn shown_state(&self) -> String {
        if self.paused {
            format!("{} (paused)", self.state)
        } else {
            self.state.clone()
        }
    }
}

/// Lists tasks.
pub(crate) fn tasks(tasks: &[TaskView]) -> String {
    let mut table = Table::new(&["ID", "NAME", "STATE", "NEXT RUN", "SCHEDULE", "ACTION"]);
    for task in tasks {
        table.row([
            task.id.to_string(),
            or_dash(task.name.as_deref()),
            task.shown_state(),
            or_dash(task.next_run.as_deref()),
            task.schedule.clone(),
            task.action.clone(),
        ]);
    }
    table.render()
}

/// A task with all there is to know.
#[derive(Serialize, Debug)]
pub(crate) struct TaskDetails {
    #[serde(flatten)]
    pub(crate) task: TaskView,
    /// As a document, to be edited and enqueued again.
    pub(crate) document: Option<TaskDocument>,
    /// The policies that it does not state, as it got them from the cluster when it was accepted.
    pub(crate) policy_defaults: BTreeMap<&'static str, String>,
    /// Newest first.
    pub(crate) ledger: Vec<LedgerView>,
}

/// A line of a task's ledger.
#[derive(Serialize, Debug)]
pub(crate) struct LedgerView {
    pub(crate) at: String,
    /// `missed`, `skipped` or `drain_failed`.
    pub(crate) fact: &'static str,
    pub(crate) first: Option<String>,
    pub(crate) last: Option<String>,
    pub(crate) count: u64,
    pub(crate) reason: String,
}

impl TaskDetails {
    pub(crate) fn new(reply: v1::GetTaskReply) -> Self {
        let task = reply.task.unwrap_or_default();
        Self {
            policy_defaults: spec_of(&task).map(|spec| defaulted(&spec.policy)).unwrap_or_default(),
            document: spec_of(&task).map(|mut spec| {
                spec.policy = spec.policy.only_stated();
                document_of(&spec)
            }),
            task: TaskView::new(task),
            ledger: reply.ledger.into_iter().map(ledger::ledger_line).collect(),
        }
    }
}

fn defaulted(policy: &Policy) -> BTreeMap<&'static str, String> {
    let fields = PolicyField::ALL.into_iter();
    fields
        .filter(|field| !policy.stated.contains(*field))
        .map(|field| (field.as_str(), policy.text_of(field)))
        .collect()
}

/// Writes one thing as lines of `key  value`; what is not there is left out.
pub(crate) fn lines(pairs: &[(&str, Option<String>)]) -> String {
    let width = pairs.iter().map(|(key, _)| key.len()).max().unwrap_or(0) + 2;
    let mut text = String::new();
    for (key, value) in pairs {
        if let Some(value) = value.as_ref().filter(|value| !value.is_empty()) {
            // Writing into a String cannot fail.
            let _ = writeln!(text, "{key:<width$}{}", printable(value));
        }
    }
    text
}

/// Shows one task.
pub(crate) fn task_details(details: &TaskDetails) -> String {
    let task = &details.task;
    let labels: Vec<_> = task
        .labels
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    let pause = task.pause.as_ref().map(|pause| {
        let until = pause
            .until
            .as_ref()
            .map(|until| format!(" until {until}"))
            .unwrap_or_default();
        format!("since {}{until} {}", pause.since, pause.note)
    });
    let some = |text: &str| Some(text.to_owned());
    let mut text = lines(&[
        ("id", some(&task.id.to_string())),
        ("name", task.name.clone()),
        ("namespace", some(&task.namespace)),
        ("state", Some(task.shown_state())),
        ("paused", pause),
        ("schedule", some(&task.schedule)),
        ("next run", task.next_run.clone()),
        ("searched again", task.searched_again_at.clone()),
        ("action", some(&task.action)),
        ("labels", Some(labels.join(", "))),
        ("owner", some(&task.owner)),
        ("description", some(&task.description)),
        ("generation", some(&task.generation.to_string())),
        ("created", some(&task.created_at)),
        ("last scheduled", task.last_scheduled_at.clone()),
        ("ended", task.ended_at.clone()),
        (
            "runs",
            Some(format!(
                "{} created, {} finished, {} failed",
                task.runs_created, task.finished, task.failed
            )),
        ),
        ("live", Some(task.live.join(" "))),
        ("held", Some(task.held.join(" "))),
    ]);
    if !details.ledger.is_empty() {
        let mut table = Table::new(&["AT", "FACT", "FIRST", "LAST", "COUNT", "REASON"]);
        for line in &details.ledger {
            let (first, last) = (or_dash(line.first.as_deref()), or_dash(line.last.as_deref()));
            table.row([
                line.at.clone(),
                line.fact.to_owned(),
                first,
                last,
                line.count.to_string(),
                line.reason.clone(),
            ]);
        }
        text.push('\n');
        text.push_str(&table.render());
    }
    text
}

mod action;
pub(crate) mod calendar;
mod cluster;
mod config;
mod ledger;
mod run;
mod workers;
use action::action_line;
pub(crate) use cluster::{CheckView, NodeView, SpoolView, StatusView, check, nodes, spool, status};
pub(crate) use config::{SettingView, settings};
pub(crate) use ledger::{occurrence_table, occurrences};
pub(crate) use run::{RunDetails, RunView, run_details, runs};
pub(crate) use workers::{WorkerView, workers};
