//! Verbs on runs.

use super::{Cluster, Named, ask, each, instant, is_somebody_there, page_of_runs, pages, run_id};
use crate::args::{
    Backfill, DeleteHistory, EndedWord, Format, ListRuns, Logs, ResolutionWord, Resolve, RunNow, RunStateWord, Runs,
    Wait,
};
use crate::error::{CliError, NOT_FOUND, REFUSED};
use crate::output::{self, TerminalFilter};
use crate::view::{self, RunHandle, RunView, TaskView};
use futures::StreamExt as _;
use sched_client::{Ended, LogsOf, RunFilter, Waited, v1};
use sched_core::command::Resolution;
use sched_core::ids::{RunId, TaskId};
use sched_core::task::TaskRef;
use serde::Serialize;
use std::time::Duration;

pub(super) async fn run(cluster: &Cluster, args: &RunNow) -> Result<(), CliError> {
    let task = cluster.task(&args.task);
    let reply = cluster
        .client
        .trigger(&task, &args.param, args.request_id.as_deref())
        .await?;
    let run = reply.run;
    let handle = RunHandle::from(reply);
    show(cluster, std::slice::from_ref(&handle), true)?;
    match run {
        Some(run) if args.wait => wait_for_run(cluster, core_id(run), None).await,
        None if args.wait => {
            output::talk("schedcli: the scheduler is shut down: the run waits in the spool until `schedcli start`");
            Err(CliError::Said(REFUSED))
        }
        _ => Ok(()),
    }
}

pub(super) async fn retry(cluster: &Cluster, args: &Runs) -> Result<(), CliError> {
    let client = &cluster.client;
    on_each(cluster, args, |run| async move { client.retry(run).await }).await
}

pub(super) async fn resolve(cluster: &Cluster, args: &Resolve) -> Result<(), CliError> {
    let client = &cluster.client;
    let resolution = match args.how {
        ResolutionWord::Failed => Resolution::Failed,
        ResolutionWord::Finished => Resolution::Finished,
        ResolutionWord::Retry => Resolution::Retry,
    };
    on_each(cluster, &args.runs, |run| async move {
        client.resolve(run, resolution).await
    })
    .await
}

pub(super) async fn cancel(cluster: &Cluster, args: &Runs) -> Result<(), CliError> {
    let client = &cluster.client;
    on_each(cluster, args, |run| async move { client.cancel(run).await }).await
}

pub(super) async fn backfill(cluster: &Cluster, args: &Backfill) -> Result<(), CliError> {
    let task = cluster.task(&args.task);
    let from = instant("--from", &args.from, args.tz.as_deref())?;
    let to = instant("--to", &args.to, args.tz.as_deref())?;
    let reply = cluster.client.backfill(&task, from, to, args.at_once).await?;
    let handle = |run: v1::RunId| RunHandle {
        task: run.task,
        run: Some(view::run_id(run)),
    };
    let handles: Vec<RunHandle> = reply.runs.into_iter().map(handle).collect();
    show(cluster, &handles, false)
}

async fn on_each<F>(cluster: &Cluster, args: &Runs, done: impl Fn(RunId) -> F) -> Result<(), CliError>
where
    F: Future<Output = Result<v1::RunReply, sched_client::ClientError>>,
{
    // All are read before the first is changed: a slip of the pen changes nothing.
    let runs = args
        .runs
        .iter()
        .map(|word| run_id(word))
        .collect::<Result<Vec<_>, _>>()?;
    let words: Vec<String> = runs.iter().map(RunId::to_string).collect();
    let (replies, outcome) = each(words.iter().map(String::as_str).zip(runs.iter().copied()), done).await;
    let handles: Vec<RunHandle> = replies.into_iter().map(RunHandle::from).collect();
    show(cluster, &handles, false)?;
    outcome
}

fn show(cluster: &Cluster, handles: &[RunHandle], is_single: bool) -> Result<(), CliError> {
    let table = |handles: &[RunHandle]| {
        let line = |handle: &RunHandle| format!("{}\n", handle.run.as_deref().unwrap_or("in the spool"));
        handles.iter().map(line).collect::<String>()
    };
    match (handles, is_single) {
        ([], _) => Ok(()),
        ([handle], true) => output::data(cluster.global.output, handle, |handle| {
            table(std::slice::from_ref(handle))
        }),
        _ => output::data(cluster.global.output, &handles, |handles| table(handles)),
    }
}

fn core_id(run: v1::RunId) -> RunId {
    RunId {
        task: TaskId(run.task),
        number: run.number,
    }
}

pub(super) async fn list(cluster: &Cluster, args: &ListRuns) -> Result<(), CliError> {
    let filter = RunFilter {
        task: args.task.as_deref().map(|word| cluster.task(word)),
        states: args.state.iter().map(|word| state_of(*word)).collect(),
    };
    let read = |page| page_of_runs(&cluster.client, &filter, page);
    let runs: Vec<_> = pages(&args.page, read).await?.into_iter().map(RunView::new).collect();
    output::data(cluster.global.output, &runs, |runs| view::runs(runs))
}

fn state_of(word: RunStateWord) -> v1::RunState {
    match word {
        RunStateWord::Pending => v1::RunState::Pending,
        RunStateWord::Assigned => v1::RunState::Assigned,
        RunStateWord::Running => v1::RunState::Running,
        RunStateWord::Lost => v1::RunState::Lost,
        RunStateWord::Finished => v1::RunState::Finished,
        RunStateWord::Failed => v1::RunState::Failed,
        RunStateWord::Terminated => v1::RunState::Terminated,
    }
}

pub(super) async fn logs(cluster: &Cluster, args: &Logs) -> Result<(), CliError> {
    let run = match cluster.named(&args.run) {
        Named::Run(run) => run,
        Named::Task(task) => newest_run(cluster, &task).await?,
    };
    let mut chunks = cluster.client.logs(LogsOf {
        run,
        attempt: args.attempt,
        offset: 0,
        tail: args.tail,
        follow: args.follow,
    });
    let mut filter = TerminalFilter::wanted(output::is_terminal(), args.raw);
    let mut expected = None;
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk?;
        if let Some(expected) = expected.filter(|expected| *expected < chunk.offset) {
            output::talk(&format!(
                "schedcli: {} bytes are gone from the worker's file",
                chunk.offset - expected
            ));
        }
        if chunk.tail_only && expected.is_none() {
            output::talk("schedcli: the worker's file is gone or out of reach; this is the end of the output");
        }
        expected = Some(chunk.offset + chunk.data.len() as u64);
        match &mut filter {
            Some(filter) => output::write(filter.piece(&chunk.data).as_bytes())?,
            None => output::write(&chunk.data)?,
        }
    }
    match &mut filter {
        Some(filter) => output::write(filter.end().as_bytes()),
        None => Ok(()),
    }
}

async fn newest_run(cluster: &Cluster, task: &TaskRef) -> Result<RunId, CliError> {
    let task = cluster.client.task(task).await?.task.unwrap_or_default();
    if task.runs_created == 0 {
        output::talk(&format!("schedcli: task {} has had no run yet", task.id));
        return Err(CliError::Said(NOT_FOUND));
    }
    Ok(RunId {
        task: TaskId(task.id),
        number: task.runs_created,
    })
}

pub(super) async fn wait(cluster: &Cluster, args: &Wait) -> Result<(), CliError> {
    let timeout = match &args.timeout {
        Some(timeout) => Some(super::duration("--timeout", timeout)?),
        None => None,
    };
    match cluster.named(&args.what) {
        Named::Run(run) => {
            let waited = cluster.client.wait_run(run, timeout).await?;
            if let Some(run) = &waited.run {
                let view = RunView::new(run.clone());
                output::data(cluster.global.output, &view, |view| format!("{}\n", view.state))?;
            }
            judge_run(&waited)
        }
        Named::Task(task) => {
            let waited = cluster.client.wait_task(&task, timeout).await?;
            if let Some(task) = &waited.task {
                let view = TaskView::new(task.clone());
                output::data(cluster.global.output, &view, |view| format!("{}\n", view.state))?;
            }
            judge_task(&waited)
        }
    }
}

/// Waits for what was just enqueued; the data is out already, so what becomes of it is talk.
pub(super) async fn wait_for_task(
    cluster: &Cluster,
    task: &TaskRef,
    timeout: Option<Duration>,
) -> Result<(), CliError> {
    let waited = cluster.client.wait_task(task, timeout).await?;
    if cluster.global.output == Format::Table
        && let Some(task) = &waited.task
    {
        output::talk(&format!("task {} is {}", task.id, view::task_state(task.state())));
    }
    judge_task(&waited)
}

async fn wait_for_run(cluster: &Cluster, run: RunId, timeout: Option<Duration>) -> Result<(), CliError> {
    let waited = cluster.client.wait_run(run, timeout).await?;
    if cluster.global.output == Format::Table
        && let Some(state) = waited.run.as_ref().map(v1::Run::state)
    {
        output::talk(&format!("run {run} is {}", view::run_state(state)));
    }
    judge_run(&waited)
}

fn judge_task(waited: &Waited) -> Result<(), CliError> {
    let finished = waited
        .task
        .as_ref()
        .is_some_and(|task| task.state() == v1::TaskState::Finished);
    judge(waited, finished)
}

fn judge_run(waited: &Waited) -> Result<(), CliError> {
    let finished = waited
        .run
        .as_ref()
        .is_some_and(|run| run.state() == v1::RunState::Finished);
    judge(waited, finished)
}

fn judge(waited: &Waited, finished: bool) -> Result<(), CliError> {
    if waited.ended && finished {
        return Ok(());
    }
    if !waited.ended {
        output::talk("schedcli: the time passed before it ended");
    } else if let Some(run) = &waited.run {
        let reason = if run.reason.is_empty() {
            "no reason is known"
        } else {
            &run.reason
        };
        let name = run.id.map(view::run_id).unwrap_or_default();
        let text = format!("schedcli: run {name} is {}: {reason}", view::run_state(run.state()));
        output::talk(&output::visible(&text));
    }
    Err(CliError::Said(REFUSED))
}

/// What deleting history did.
#[derive(Serialize)]
struct Deleted {
    runs: u64,
    ledger_lines: u64,
}

pub(super) async fn delete_history(cluster: &Cluster, args: &DeleteHistory) -> Result<(), CliError> {
    let before = match &args.before {
        Some(before) => Some(instant("--before", before, args.tz.as_deref())?),
        None => None,
    };
    if !args.yes {
        if !is_somebody_there() {
            let what = "delete-history deletes for good; without a terminal to ask at, it needs --yes";
            return Err(CliError::Usage(what.to_owned()));
        }
        if !ask(&format!(
            "Delete history of task {} for good?",
            output::visible(&args.task)
        ))? {
            output::talk("schedcli: nothing was deleted");
            return Err(CliError::Said(REFUSED));
        }
    }
    let ended = args.state.map(|state| match state {
        EndedWord::Finished => Ended::Finished,
        EndedWord::Failed => Ended::Failed,
    });
    let reply = cluster
        .client
        .delete_history(&cluster.task(&args.task), before, ended)
        .await?;
    let deleted = Deleted {
        runs: reply.runs,
        ledger_lines: reply.ledger_lines,
    };
    output::data(cluster.global.output, &deleted, |deleted| {
        format!(
            "{} runs and {} ledger lines deleted\n",
            deleted.runs, deleted.ledger_lines
        )
    })
}
