//! The state as one node has it, read from that node alone.

use super::recorder::Clock;
use super::workload::CALLS_PREFIX;
use crate::checker::{Replica, RunFound, TaskFound};
use crate::{Node, http};
use anyhow::{Context, Result};
use sched_proto::v1::ledger_line::Fact;
use sched_proto::{metadata, v1};
use std::collections::BTreeMap;

/// Entries of one page.
const PAGE: u32 = 1000;

/// Reads all tasks and runs of a node.
///
/// # Errors
/// It does not answer, or says something that makes no sense.
pub(super) async fn replica(node: &Node, clock: &Clock) -> Result<Replica> {
    let read_at_ms = clock.now_ms();
    let applied = http::metric(&node.client, "sched_log_applied_index").await?;
    let mut tasks = tasks(node).await.with_context(|| format!("tasks of {}", node.name))?;
    runs(node, &mut tasks)
        .await
        .with_context(|| format!("runs of {}", node.name))?;
    let after = http::metric(&node.client, "sched_log_applied_index").await?;
    Ok(Replica {
        node: node.name.clone(),
        read_at_ms,
        // Pages that were read while something changed are of no one index.
        applied: (applied == after).then_some(applied as u64),
        state_hash: None,
        tasks: tasks.into_values().collect(),
    })
}

async fn tasks(node: &Node) -> Result<BTreeMap<u64, TaskFound>> {
    let mut found = BTreeMap::new();
    let mut cursor = String::new();
    loop {
        let request = v1::ListTasksRequest {
            limit: PAGE,
            cursor,
            ..v1::ListTasksRequest::default()
        };
        let reply = node.api().list_tasks(request).await?.into_inner();
        for task in reply.tasks {
            let state = word(task.state().as_str_name(), "TASK_STATE_");
            let spec = task.spec.unwrap_or_default();
            let key = spec.name.unwrap_or_default();
            if key.starts_with(CALLS_PREFIX) {
                continue;
            }
            // The ledger is read only where it says something: an occurrence was decided about and is no run.
            let ledger = if task.occurrences > task.runs_created || state == "FAILED" {
                ledger(node, task.id).await?
            } else {
                Vec::new()
            };
            let task = TaskFound {
                key,
                id: task.id,
                state,
                runs: Vec::new(),
                ledger,
            };
            found.insert(task.id, task);
        }
        cursor = reply.cursor;
        if cursor.is_empty() {
            return Ok(found);
        }
    }
}

async fn ledger(node: &Node, id: u64) -> Result<Vec<(i64, i64)>> {
    let by = Some(v1::task_ref::By::Id(id));
    let request = v1::GetTaskRequest {
        task: Some(v1::TaskRef { by }),
    };
    let reply = node.api().get_task(request).await?.into_inner();
    let range = |line: v1::LedgerLine| match line.fact? {
        Fact::Missed(missed) => Some((missed.first_unix_ms, missed.last_unix_ms)),
        Fact::Skipped(skipped) => Some((skipped.scheduled_at_unix_ms, skipped.scheduled_at_unix_ms)),
        Fact::Closed(closed) => Some((closed.first_unix_ms, closed.last_unix_ms)),
        Fact::DrainFailed(_) | Fact::StaleReport(_) | Fact::Resolved(_) => None,
    };
    Ok(reply.ledger.into_iter().filter_map(range).collect())
}

async fn runs(node: &Node, tasks: &mut BTreeMap<u64, TaskFound>) -> Result<()> {
    let mut cursor = String::new();
    loop {
        let request = v1::ListRunsRequest {
            limit: PAGE,
            cursor,
            ..v1::ListRunsRequest::default()
        };
        // What the leader holds of runs says nothing about the others.
        let mut request = tonic::Request::new(request);
        metadata::set_here(request.metadata_mut());
        let reply = node.api().list_runs(request).await?.into_inner();
        for run in reply.runs {
            let id = run.id.context("a run without an id")?;
            // A task that came after the tasks were read is read with the next node, or not judged.
            if let Some(task) = tasks.get_mut(&id.task) {
                task.runs.push(found(&run, id));
            }
        }
        cursor = reply.cursor;
        if cursor.is_empty() {
            return Ok(());
        }
    }
}

fn found(run: &v1::Run, id: v1::RunId) -> RunFound {
    let token = |attempt: &v1::Attempt| format!("{}.{}", attempt.token_index, attempt.token_position);
    let succeeded = |attempt: &&v1::Attempt| attempt.ended() == v1::AttemptEnd::Success;
    RunFound {
        run: format!("{}:{}", id.task, id.number),
        state: word(run.state().as_str_name(), "RUN_STATE_"),
        scheduled_at_ms: run.scheduled_at_unix_ms,
        manual: run.manual,
        waits: matches!(
            run.pending(),
            v1::Pending::Delayed | v1::Pending::Held | v1::Pending::Blocked
        ),
        attempts: run.attempts_count,
        success_token: run.attempts.iter().find(succeeded).map(token),
        stale_reports: run.stale_reports,
        losses: run.losses,
    }
}

fn word(name: &str, prefix: &str) -> String {
    name.strip_prefix(prefix).unwrap_or(name).to_owned()
}
