//! What callers put into a call.

use rand::Rng as _;
use sched_core::ids::{RequestKey, RunId};
use sched_core::limits::REQUEST_TTL_MS;
use sched_core::schedule::Schedule;
use sched_core::task::{Action, Bounds, Policy, TaskRef, TaskSpec, TaskState};
use sched_core::{Timestamp, validate};
use sched_proto::convert::to_wire;
use sched_proto::v1;
use std::collections::BTreeMap;

use crate::clock;
use crate::error::ClientError;

/// Returns a task in the namespace `default` that leaves every policy to the cluster's defaults; the rest is set on the value, and what
/// is set to another value than the one built in is asked for. [`Policy::state`] asks for just any value.
pub fn task(schedule: Schedule, action: Action) -> TaskSpec {
    TaskSpec {
        namespace: "default".to_owned(),
        name: None,
        labels: BTreeMap::new(),
        owner: String::new(),
        description: String::new(),
        schedule,
        action,
        policy: Policy::default(),
        bounds: Bounds::default(),
    }
}

/// A task to be accepted.
#[derive(Clone, PartialEq, Debug)]
pub struct Submission {
    /// The task.
    pub spec: TaskSpec,
    /// Accept an instant further in the past than the grace, and run at once.
    pub late_ok: bool,
    /// The caller's own request id, remembered by the cluster for 24 h; without one the client makes a key that lives as long as
    /// the call.
    pub key: Option<String>,
    /// Let the leader's clock say where rules begin, instead of the dtstart in the task: the second of acceptance.
    pub starts_when_accepted: bool,
}

impl Submission {
    /// Returns a submission of this task, without extras.
    pub fn new(spec: TaskSpec) -> Self {
        Self {
            spec,
            late_ok: false,
            key: None,
            starts_when_accepted: false,
        }
    }

    /// Checks it and makes the message, with its request key.
    pub(crate) fn to_wire(&self) -> Result<v1::SubmitRequest, ClientError> {
        validate::task_spec(&self.spec)?;
        let request = match &self.key {
            Some(key) => caller_key(&self.spec.namespace, key)?,
            None => fresh_key(),
        };
        Ok(v1::SubmitRequest {
            request: Some(to_wire::request_key(&request)),
            task: Some(on_wire(&self.spec, self.starts_when_accepted)),
            late_ok: self.late_ok,
        })
    }
}

/// Returns a task as it is asked for.
fn on_wire(spec: &TaskSpec, starts_when_accepted: bool) -> v1::TaskSpec {
    let mut task = to_wire::asked_task(spec);
    if starts_when_accepted
        && let Some(v1::Schedule {
            form: Some(v1::schedule::Form::Rrule(rule)),
        }) = &mut task.schedule
    {
        rule.dtstart_unix_ms = None;
    }
    task
}

/// Another definition for a task.
#[derive(Clone, PartialEq, Debug)]
pub struct Update {
    /// Which.
    pub task: TaskRef,
    /// Refused unless the task is at this generation: the one that its definition was read at.
    pub generation: u64,
    /// The whole definition. Who has read it and changed a part of it leaves to the cluster what was left to it before, with
    /// [`Policy::only_stated`]; otherwise those policies count as stated.
    pub spec: TaskSpec,
    /// As in [`Submission::late_ok`], when the schedule is another.
    pub late_ok: bool,
    /// Rules begin where they began, and rules of a task that had none when the change is accepted, instead of at the dtstart in the task.
    pub starts_when_accepted: bool,
}

impl Update {
    /// Checks it and makes the message, without a request key.
    pub(crate) fn to_wire(&self) -> Result<v1::UpdateRequest, ClientError> {
        validate::task_spec(&self.spec)?;
        Ok(v1::UpdateRequest {
            request: None,
            task: Some(to_wire::task_ref(&self.task)),
            generation: self.generation,
            spec: Some(on_wire(&self.spec, self.starts_when_accepted)),
            late_ok: self.late_ok,
        })
    }
}

/// How a run has ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ended {
    /// With success.
    Finished,
    /// In another way: failed, missed or cancelled.
    Failed,
}

/// A new start for a task.
#[derive(Clone, PartialEq, Debug)]
pub struct MoveTo {
    /// Which.
    pub task: TaskRef,
    /// When.
    pub start: Start,
    /// As in [`Submission::late_ok`].
    pub late_ok: bool,
    /// Refused unless the task is at this generation.
    pub generation: Option<u64>,
}

/// See [`MoveTo`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Start {
    /// At an instant.
    At(Timestamp),
    /// So many milliseconds after acceptance, by leader time.
    In(u64),
}

/// Which tasks to list.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct TaskFilter {
    /// Nothing means every namespace.
    pub namespace: Option<String>,
    /// None means every state.
    pub states: Vec<TaskState>,
    /// All must match.
    pub labels: BTreeMap<String, String>,
}

/// Which runs to list.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct RunFilter {
    /// Nothing means the runs of every task.
    pub task: Option<TaskRef>,
    /// None means every state.
    pub states: Vec<v1::RunState>,
}

/// A part of a list.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Page {
    /// At most so many entries; 0 leaves it to the node.
    pub limit: u32,
    /// From the page before; empty to begin.
    pub cursor: String,
}

/// What a wait came to.
#[derive(Clone, PartialEq, Debug)]
pub struct Waited {
    /// False: the time passed first.
    pub ended: bool,
    /// As it is now, when a task was waited for.
    pub task: Option<v1::Task>,
    /// As it is now: the run waited for, or the newest run of the task.
    pub run: Option<v1::Run>,
}

/// What is waited for.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Subject {
    Task(TaskRef),
    Run(RunId),
}

impl Subject {
    pub(crate) fn to_wire(&self) -> v1::wait_request::Subject {
        match self {
            Subject::Task(task) => v1::wait_request::Subject::Task(to_wire::task_ref(task)),
            Subject::Run(run) => v1::wait_request::Subject::Run(to_wire::run_id(*run)),
        }
    }
}

/// Returns a key for one call and its retries. The lifetime also covers a client's clock that is minutes off.
pub(crate) fn fresh_key() -> RequestKey {
    RequestKey::Client {
        expires_at: clock::wall().plus_millis(REQUEST_TTL_MS),
        nonce: rand::rng().random(),
    }
}

/// Returns the key that a caller gave, checked.
pub(crate) fn caller_key(namespace: &str, key: &str) -> Result<RequestKey, ClientError> {
    validate::name("request id", key)?;
    Ok(RequestKey::Caller {
        namespace: namespace.to_owned(),
        key: key.to_owned(),
    })
}
