//! Verbs on tasks.

use super::{Cluster, Named, each, instant, page_of_runs, pages, pages_up_to};
use crate::args::{Dequeue, Explain, Get, Ledger, List, MoveTask, Pause, Tasks};
use crate::error::CliError;
use crate::output;
use crate::view::{self, Handle, RunDetails, TaskDetails, TaskView};
use sched_client::{MoveTo, RunFilter, Start, TaskFilter, v1};

/// A ledger that is written to again and again while it is read is shown as it was read last.
const LEDGER_READINGS_MAX: u32 = 10;

fn show(cluster: &Cluster, replies: Vec<v1::TaskReply>) -> Result<(), CliError> {
    let handles: Vec<Handle> = replies.into_iter().map(Handle::from).collect();
    if handles.is_empty() {
        return Ok(());
    }
    output::data(cluster.global.output, &handles, |handles| view::handles(handles))
}

pub(super) async fn dequeue(cluster: &Cluster, args: &Dequeue) -> Result<(), CliError> {
    let client = &cluster.client;
    let one = |task| async move { client.dequeue(&task, args.kill).await };
    let (replies, outcome) = each(cluster.tasks(&args.tasks.tasks), one).await;
    show(cluster, replies)?;
    outcome
}

pub(super) async fn move_task(cluster: &Cluster, args: &MoveTask) -> Result<(), CliError> {
    let start = match (&args.at, &args.in_) {
        (Some(at), _) => Start::At(instant("--at", at, args.tz.as_deref())?),
        (None, Some(delay)) => Start::In(super::duration("--in", delay)?.as_millis() as u64),
        (None, None) => return Err(CliError::Usage("one of --at and --in is needed".to_owned())),
    };
    let to = MoveTo {
        task: cluster.task(&args.task),
        start,
        late_ok: args.late_ok,
        generation: args.generation,
    };
    let handle = Handle::from(cluster.client.move_task(to).await?);
    output::data(cluster.global.output, &handle, |handle| {
        view::handles(std::slice::from_ref(handle))
    })
}

pub(super) async fn pause(cluster: &Cluster, args: &Pause) -> Result<(), CliError> {
    let until = match &args.until {
        Some(until) => Some(instant("--until", until, args.tz.as_deref())?),
        None => None,
    };
    let client = &cluster.client;
    let one = |task| async move { client.pause(&task, until, &args.note).await };
    let (replies, outcome) = each(cluster.tasks(&args.tasks.tasks), one).await;
    show(cluster, replies)?;
    outcome
}

pub(super) async fn resume(cluster: &Cluster, args: &Tasks) -> Result<(), CliError> {
    let client = &cluster.client;
    let one = |task| async move { client.resume(&task).await };
    let (replies, outcome) = each(cluster.tasks(&args.tasks.tasks), one).await;
    show(cluster, replies)?;
    outcome
}

pub(super) async fn get(cluster: &Cluster, args: &Get) -> Result<(), CliError> {
    match cluster.named(&args.what) {
        Named::Task(task) => {
            let details = TaskDetails::new(cluster.client.task(&task).await?);
            output::data(cluster.global.output, &details, view::task_details)
        }
        Named::Run(run) => {
            let details = RunDetails::new(cluster.client.run(run).await?);
            output::data(cluster.global.output, &details, view::run_details)
        }
    }
}

pub(super) async fn list(cluster: &Cluster, args: &List) -> Result<(), CliError> {
    let filter = TaskFilter {
        namespace: cluster.global.namespace.clone(),
        states: args.state.clone(),
        labels: args.label.iter().cloned().collect(),
    };
    let (client, filter) = (&cluster.client, &filter);
    let read = |page| async move {
        let reply = client.tasks(filter, &page).await?;
        Ok((reply.tasks, reply.cursor))
    };
    let tasks: Vec<_> = pages(&args.page, read).await?.into_iter().map(TaskView::new).collect();
    output::data(cluster.global.output, &tasks, |tasks| view::tasks(tasks))
}

pub(super) async fn explain(cluster: &Cluster, args: &Explain) -> Result<(), CliError> {
    let lines = match cluster.named(&args.what) {
        Named::Task(task) => cluster.client.explain_task(&task).await?,
        Named::Run(run) => cluster.client.explain_run(run).await?,
    };
    output::data(cluster.global.output, &lines, |lines| {
        lines.iter().map(|line| format!("{line}\n")).collect()
    })
}

/// What became of each occurrence: the runs that there are, and the lines about what got none, as one list.
pub(super) async fn ledger(cluster: &Cluster, args: &Ledger) -> Result<(), CliError> {
    let (client, task) = (&cluster.client, cluster.task(&args.task));
    let mut lines = client.task(&task).await?.ledger;
    let filter = RunFilter {
        task: Some(task.clone()),
        states: Vec::new(),
    };
    let mut readings = 1;
    // Lines and runs are two readings. A line that came between them would be the hole among occurrences that are all there.
    let runs = loop {
        let (runs, _) = pages_up_to(args.limit, String::new(), |page| page_of_runs(client, &filter, page)).await?;
        let now = client.task(&task).await?.ledger;
        let done = now == lines || readings == LEDGER_READINGS_MAX;
        lines = now;
        if done {
            break runs;
        }
        readings += 1;
    };
    let mut occurrences = view::occurrences(runs, lines);
    occurrences.truncate(usize::try_from(args.limit).unwrap_or(usize::MAX));
    output::data(cluster.global.output, &occurrences, |list| view::occurrence_table(list))
}
