//! Verbs on the scheduler as a whole.

use super::{Cluster, ask, is_somebody_there, pages};
use crate::args::{ClearSpool, Show, ShowWhat, Shutdown};
use crate::error::{CliError, REFUSED};
use crate::output;
use crate::view::{self, CheckView, NodeView, SpoolView, StatusView};
use serde::Serialize;

pub(super) async fn status(cluster: &Cluster) -> Result<(), CliError> {
    let status = StatusView::new(cluster.client.status().await?);
    output::data(cluster.global.output, &status, view::status)?;
    unconfirmed(status.confirmed);
    Ok(())
}

pub(super) async fn nodes(cluster: &Cluster) -> Result<(), CliError> {
    let reply = cluster.client.nodes().await?;
    let nodes: Vec<_> = reply.nodes.into_iter().map(NodeView::new).collect();
    output::data(cluster.global.output, &nodes, |nodes| view::nodes(nodes))?;
    unconfirmed(reply.confirmed);
    Ok(())
}

fn unconfirmed(confirmed: bool) {
    if !confirmed {
        output::talk("schedcli: no quorum confirmed this; it is what one node knows, and may be old");
    }
}

pub(super) async fn show(cluster: &Cluster, args: &Show) -> Result<(), CliError> {
    let ShowWhat::Spool(paging) = &args.what;
    let client = &cluster.client;
    let read = |page| async move {
        let reply = client.spool(&page).await?;
        Ok((reply.ops, reply.cursor))
    };
    let ops: Vec<_> = pages(paging, read).await?.into_iter().map(SpoolView::new).collect();
    output::data(cluster.global.output, &ops, |ops| view::spool(ops))
}

/// What clearing the spool did.
#[derive(Serialize)]
struct Cleared {
    removed: u64,
}

pub(super) async fn clear_spool(cluster: &Cluster, args: &ClearSpool) -> Result<(), CliError> {
    if !args.yes && !confirmed(cluster).await? {
        output::talk("schedcli: nothing was removed");
        return Err(CliError::Said(REFUSED));
    }
    let cleared = Cleared {
        removed: cluster.client.clear_spool().await?,
    };
    output::data(cluster.global.output, &cleared, |cleared| {
        format!("{} operations removed\n", cleared.removed)
    })
}

async fn confirmed(cluster: &Cluster) -> Result<bool, CliError> {
    if !is_somebody_there() {
        let what = "clear-spool removes accepted operations for good; without a terminal to ask at, it needs --yes";
        return Err(CliError::Usage(what.to_owned()));
    }
    let spooled = cluster.client.status().await?.spooled;
    ask(&format!("Remove all {spooled} operations from the spool for good?"))
}

/// What the scheduler as a whole does now.
#[derive(Serialize)]
struct State {
    state: &'static str,
}

pub(super) async fn shutdown(cluster: &Cluster, args: &Shutdown) -> Result<(), CliError> {
    cluster.client.shutdown(&args.message).await?;
    output::data(cluster.global.output, &State { state: "SHUTDOWN" }, |now| {
        format!("{}\n", now.state)
    })
}

pub(super) async fn start(cluster: &Cluster) -> Result<(), CliError> {
    cluster.client.start().await?;
    output::data(cluster.global.output, &State { state: "RUNNING" }, |now| {
        format!("{}\n", now.state)
    })
}

#[derive(Serialize)]
struct Reset {
    now: String,
}

pub(super) async fn reset_clock(cluster: &Cluster) -> Result<(), CliError> {
    let now = cluster.client.reset_clock().await?.to_string();
    output::data(cluster.global.output, &Reset { now }, |reset| {
        format!("{}\n", reset.now)
    })
}

pub(super) async fn check(cluster: &Cluster) -> Result<(), CliError> {
    let check = CheckView::new(cluster.client.check().await?);
    output::data(cluster.global.output, &check, view::check)?;
    if check.ok { Ok(()) } else { Err(CliError::Said(REFUSED)) }
}
