//! `enqueue`: one task from flags, or the tasks of a file.

use super::{Cluster, apply, builder, runs};
use crate::args::{Enqueue, Format};
use crate::build::Origin;
use crate::document;
use crate::error::CliError;
use crate::view::Handle;
use crate::{output, when};
use sched_client::Submission;
use sched_core::ids::TaskId;
use sched_core::task::{Action, TaskRef, TaskSpec};
use std::collections::BTreeMap;

pub(super) async fn enqueue(cluster: &Cluster, args: Enqueue) -> Result<(), CliError> {
    match &args.file {
        Some(file) => apply::apply(cluster, file, args.wait).await,
        None => one(cluster, &args).await,
    }
}

async fn one(cluster: &Cluster, args: &Enqueue) -> Result<(), CliError> {
    let submission = submission(cluster, args)?;
    let in_work_folder = matches!(&submission.spec.action, Action::Command { dir: None, .. });
    let handle = Handle::from(cluster.client.submit(submission).await?);
    let id = handle.id;
    output::data(cluster.global.output, &handle, |handle| format!("{}\n", handle.id))?;
    if cluster.global.output == Format::Table {
        let next = handle
            .next_run
            .as_deref()
            .map(|next| format!(", due {next}"))
            .unwrap_or_default();
        output::hint(&format!("task {id} is {}{next}", handle.state));
        if in_work_folder {
            output::hint("it runs in the work folder of its worker; --dir PATH names another");
        }
    }
    if args.wait {
        return runs::wait_for_task(cluster, &TaskRef::Id(TaskId(id)), None).await;
    }
    Ok(())
}

/// Turns the flags into a task, checking all of them before anything is sent.
fn submission(cluster: &Cluster, args: &Enqueue) -> Result<Submission, CliError> {
    let zones = when::SystemZones::open();
    let folder = std::env::current_dir().map_err(|error| CliError::Usage(format!("the current folder: {error}")))?;
    let builder = builder(&zones, &folder, cluster.global.namespace());
    let usage = |problem: crate::build::Problem| CliError::Usage(problem.to_string());
    let schedule = builder
        .schedule(&args.schedule, args.task.name.as_deref().unwrap_or_default())
        .map_err(usage)?;
    let mut labels = BTreeMap::new();
    for (key, value) in &args.task.label {
        if labels.insert(key.clone(), value.clone()).is_some() {
            return Err(CliError::Usage(format!("--label: {key:?} is given twice")));
        }
    }
    let spec = TaskSpec {
        namespace: cluster.global.namespace().to_owned(),
        name: args.task.name.clone(),
        labels,
        owner: args.task.owner.clone().unwrap_or_default(),
        description: args.task.description.clone().unwrap_or_default(),
        schedule: schedule.schedule,
        action: builder.action(&args.action).map_err(usage)?,
        policy: builder.policy(&args.policy).map_err(usage)?,
        bounds: builder.bounds(&args.schedule).map_err(usage)?,
    };
    document::check(&spec, Origin::Flags).map_err(usage)?;
    Ok(Submission {
        spec,
        late_ok: args.task.late_ok,
        key: args.task.request_id.clone(),
        starts_when_accepted: schedule.starts_when_accepted,
    })
}
