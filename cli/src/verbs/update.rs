//! `update`: reads a task, changes what is given, and writes it back, unless it has changed in between.

use super::{Cluster, builder};
use crate::args::Update;
use crate::error::CliError;
use crate::view::{self, Handle};
use crate::{change, output, when};
use sched_client::{ClientError, v1};
use sched_core::ids::TaskId;
use sched_core::task::TaskRef;

/// How often it is read again because it changed in between.
const CONFLICTS_MAX: usize = 5;

pub(super) async fn update(cluster: &Cluster, args: &Update) -> Result<(), CliError> {
    let zones = when::SystemZones::open();
    let folder = std::env::current_dir().map_err(|error| CliError::Usage(format!("the current folder: {error}")))?;
    let named = cluster.task(&args.id);
    for attempt in 1.. {
        let task = cluster.client.task(&named).await?.task.unwrap_or_default();
        let Some(stored) = view::spec_of(&task) else {
            return Err(CliError::Usage(format!(
                "task {} has a form that this release does not know; it cannot change it",
                task.id
            )));
        };
        let builder = builder(&zones, &folder, &stored.namespace);
        let changed =
            change::changed(&stored, args, &builder).map_err(|problem| CliError::Usage(problem.to_string()))?;
        let update = sched_client::Update {
            task: TaskRef::Id(TaskId(task.id)),
            generation: args.generation.unwrap_or(task.generation),
            spec: changed.spec,
            late_ok: args.task.late_ok,
            starts_when_accepted: changed.starts_when_accepted,
        };
        match cluster.client.update(update, args.task.request_id.as_deref()).await {
            Err(error) if args.generation.is_none() && attempt < CONFLICTS_MAX && is_conflict(&error) => {}
            reply => {
                let handle = Handle::from(reply?);
                return output::data(cluster.global.output, &handle, |handle| {
                    view::handles(std::slice::from_ref(handle))
                });
            }
        }
    }
    Ok(())
}

/// Whether the task has changed since it was read.
pub(super) fn is_conflict(error: &ClientError) -> bool {
    matches!(error, ClientError::Refused(failure) if failure.kind() == v1::FailureKind::Conflict)
}
