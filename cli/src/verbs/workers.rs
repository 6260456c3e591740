//! Verbs on workers.

use super::{Cluster, pages};
use crate::args::{Workers, WorkersWhat};
use crate::error::CliError;
use crate::output;
use crate::view::{self, WorkerView};
use serde::Serialize;

/// What a worker gets from now on.
#[derive(Serialize)]
struct Switched<'a> {
    worker: &'a str,
    drained: bool,
}

pub(super) async fn workers(cluster: &Cluster, args: &Workers) -> Result<(), CliError> {
    match &args.what {
        None => list(cluster, args).await,
        Some(WorkersWhat::Drain { worker, note }) => {
            cluster.client.drain_worker(worker, note).await?;
            switched(cluster, worker, true)
        }
        Some(WorkersWhat::Undrain { worker }) => {
            cluster.client.undrain_worker(worker).await?;
            switched(cluster, worker, false)
        }
    }
}

fn switched(cluster: &Cluster, worker: &str, drained: bool) -> Result<(), CliError> {
    output::data(cluster.global.output, &Switched { worker, drained }, |now| {
        let what = if now.drained { "drained" } else { "gets runs again" };
        format!("{} {what}\n", output::visible(now.worker))
    })
}

async fn list(cluster: &Cluster, args: &Workers) -> Result<(), CliError> {
    let client = &cluster.client;
    let read = |page| async move {
        let reply = client.workers(&page).await?;
        Ok((reply.workers, reply.cursor))
    };
    let workers: Vec<_> = pages(&args.paging, read)
        .await?
        .into_iter()
        .map(WorkerView::new)
        .collect();
    output::data(cluster.global.output, &workers, |workers| view::workers(workers))
}
