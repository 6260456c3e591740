//! Reads of one thing, and waiting for its end. Linearizable: a quorum confirms first that this node is up to date.

use super::errors;
use crate::calendars::Compiled;
use crate::leader::Term;
use crate::recurrences::{compile, guarded};
use crate::shared::{OrStop, Shared, aside};
use crate::state;
use sched_core::apply::decode_record;
use sched_core::codec::Kind;
use sched_core::explain::{self, Ahead};
use sched_core::ids::{RunId, TaskId};
use sched_core::limits::LEDGER_LINES_MAX;
use sched_core::run::{LedgerLine, Run};
use sched_core::schedule::Occurrences;
use sched_core::tables::{Key, Table, View};
use sched_core::task::{Task, TaskRef, TaskStatus};
use sched_proto::convert::{from_wire, to_wire};
use sched_proto::limits::WAIT_MS_MAX;
use sched_proto::v1::{
    self, ExplainReply, ExplainRequest, GetRunReply, GetRunRequest, GetTaskReply, GetTaskRequest, WaitReply,
    WaitRequest, explain_request, wait_request,
};
use std::pin::pin;
use std::time::Duration;
use tokio::time::{Instant, sleep_until};
use tonic::Status;

/// Waits until this node holds everything that was acknowledged before.
pub(super) async fn barrier(shared: &Shared) -> Result<(), Status> {
    shared.replica.read_barrier().await.map_err(|e| errors::unconfirmed(&e))
}

/// Returns the task a caller means.
pub(super) fn resolve(view: &impl View, task: &TaskRef) -> Result<TaskId, Status> {
    let found = state::resolve(view, task).or_stop();
    let found = found.filter(|id| state::status(view, *id).or_stop().is_some());
    found.ok_or_else(|| match task {
        TaskRef::Id(id) => errors::not_found(format!("task {id}")),
        TaskRef::Name { namespace, name } => errors::not_found(format!("task {name:?} in namespace {namespace:?}")),
    })
}

fn task_and_status(view: &impl View, id: TaskId) -> Result<(Task, TaskStatus), Status> {
    let task = state::task(view, id).or_stop();
    let status = state::status(view, id).or_stop();
    task.zip(status).ok_or_else(|| errors::not_found(format!("task {id}")))
}

/// Returns a run, or says that it does not exist.
pub(super) fn find_run(view: &impl View, id: RunId) -> Result<Run, Status> {
    state::run(view, id)
        .or_stop()
        .ok_or_else(|| errors::not_found(format!("run {id}")))
}

fn run_on_wire(view: &impl View, run: &Run) -> v1::Run {
    let name = state::task(view, run.id.task).or_stop().and_then(|task| task.spec.name);
    to_wire::run(run, name.as_deref())
}

/// Returns what the attempt that is under way said last, when this node leads.
pub(super) fn progress(term: Option<&Term>, run: &Run) -> Option<v1::Progress> {
    let (token, session) = run.state.holder()?;
    term?.hub.progress(run.id, token, session)
}

pub(super) async fn get_task(shared: &Shared, call: GetTaskRequest) -> Result<GetTaskReply, Status> {
    let task = from_wire::task_ref(call.task).map_err(|e| errors::rejected(&e))?;
    barrier(shared).await?;
    let view = shared.replica.view();
    let id = resolve(&view, &task)?;
    let (task, status) = task_and_status(&view, id)?;
    let (from, to) = Key::ledger_of(id, 0);
    let lines = usize::try_from(LEDGER_LINES_MAX).unwrap_or(usize::MAX);
    let mut ledger = Vec::new();
    for (key, value) in view.scan_back(Table::Ledger, &from, &to, lines).or_stop() {
        let line: LedgerLine = decode_record(Table::Ledger, &key, Kind::LedgerLine, &value).or_stop();
        ledger.push(to_wire::ledger_line(&line));
    }
    Ok(GetTaskReply {
        task: Some(to_wire::task(id, &task, &status)),
        ledger,
    })
}

pub(super) async fn get_run(shared: &Shared, call: GetRunRequest) -> Result<GetRunReply, Status> {
    let id = from_wire::run_id(call.run).map_err(|e| errors::rejected(&e))?;
    barrier(shared).await?;
    let view = shared.replica.view();
    let run = find_run(&view, id)?;
    let progress = progress(shared.terms.current().as_deref(), &run);
    Ok(GetRunReply {
        run: Some(v1::Run {
            progress,
            ..run_on_wire(&view, &run)
        }),
        output_tail: run.output_tail.into(),
        result: run.result.into(),
    })
}

pub(super) async fn explain(shared: &Shared, call: ExplainRequest) -> Result<ExplainReply, Status> {
    barrier(shared).await?;
    let view = shared.replica.view();
    let lines = match call.subject {
        Some(explain_request::Subject::Task(task)) => {
            let task = from_wire::task_ref(Some(task)).map_err(|e| errors::rejected(&e))?;
            let id = resolve(&view, &task)?;
            let ahead = ahead(shared, &view, id).await?;
            explain::task(&view, id, &ahead)
                .or_stop()
                .ok_or_else(|| errors::not_found(format!("task {id}")))?
        }
        Some(explain_request::Subject::Run(run)) => {
            let id = from_wire::run_id(Some(run)).map_err(|e| errors::rejected(&e))?;
            explain::run(&view, id)
                .or_stop()
                .ok_or_else(|| errors::not_found(format!("run {id}")))?
        }
        None => return Err(errors::invalid("subject", "is absent; expected a task or a run")),
    };
    Ok(ExplainReply { lines })
}

/// Looks up what depends on zone data about a task's next occurrence, where its calendars have a say in it.
async fn ahead(shared: &Shared, view: &impl View, id: TaskId) -> Result<Ahead, Status> {
    let (task, status) = task_and_status(view, id)?;
    if status.bounds.calendars.is_empty() {
        return Ok(Ahead::default());
    }
    let calendars = Compiled::default()
        .of(view, &*shared.zones, &status.namespace, &status.bounds.calendars)
        .or_stop();
    let zones = shared.zones.clone();
    let look = move || {
        let recurrence = compile(&task.spec, &*zones).ok()?;
        guarded(|| Ahead::of(&status, &Occurrences::new(&recurrence, &calendars)))
    };
    // One whose zone is gone is explained without.
    Ok(aside(look).await?.unwrap_or_default())
}

/// What a caller waits for.
#[derive(Clone, Copy)]
enum Subject {
    Task(TaskId),
    Run(RunId),
}

pub(super) async fn wait(shared: &Shared, call: WaitRequest) -> Result<WaitReply, Status> {
    if call.timeout_ms > WAIT_MS_MAX {
        return Err(errors::invalid(
            "timeout_ms",
            format!("{}; expected at most {WAIT_MS_MAX}", call.timeout_ms),
        ));
    }
    let until = Instant::now() + Duration::from_millis(call.timeout_ms);
    barrier(shared).await?;
    let subject = match call.subject {
        Some(wait_request::Subject::Task(task)) => {
            let task = from_wire::task_ref(Some(task)).map_err(|e| errors::rejected(&e))?;
            Subject::Task(resolve(&shared.replica.view(), &task)?)
        }
        Some(wait_request::Subject::Run(run)) => {
            Subject::Run(from_wire::run_id(Some(run)).map_err(|e| errors::rejected(&e))?)
        }
        None => return Err(errors::invalid("subject", "is absent; expected a task or a run")),
    };
    let watch = shared.waits.watch(match subject {
        Subject::Task(task) => task,
        Subject::Run(run) => run.task,
    });
    let mut timer = pin!(sleep_until(until));
    loop {
        // Enabled before the look, so that a change in between is not missed.
        let mut changed = pin!(watch.changed());
        changed.as_mut().enable();
        let reply = look(&shared.replica.view(), subject)?;
        if reply.ended {
            return Ok(reply);
        }
        tokio::select! {
            () = &mut changed => {}
            () = &mut timer => return Ok(reply),
            () = shared.stopping.cancelled() => return Err(errors::stopping()),
        }
    }
}

fn look(view: &impl View, subject: Subject) -> Result<WaitReply, Status> {
    match subject {
        Subject::Run(id) => {
            let run = find_run(view, id)?;
            let ended = run.state.is_terminal();
            Ok(WaitReply {
                ended,
                task: None,
                run: Some(run_on_wire(view, &run)),
            })
        }
        Subject::Task(id) => {
            let (task, status) = task_and_status(view, id)?;
            let newest = RunId {
                task: id,
                number: status.runs_created,
            };
            let run = state::run(view, newest).or_stop();
            Ok(WaitReply {
                ended: status.state.is_ended(),
                task: Some(to_wire::task(id, &task, &status)),
                run: run.map(|run| to_wire::run(&run, task.spec.name.as_deref())),
            })
        }
    }
}
