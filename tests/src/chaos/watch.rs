//! How long nobody leads.

use crate::Node;
use anyhow::{Context, Result};
use futures::FutureExt;
use futures::future::select_all;
use sched_proto::v1::StatusRequest;
use sched_proto::{metadata, v1};
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};
use tonic::Request;

/// Between two looks at one node: what the figure is uncertain by.
const LOOK_AGAIN: Duration = Duration::from_millis(5);
/// For one answer: a node that cannot be reached must not hold up the look at it.
const ANSWER_LIMIT: Duration = Duration::from_millis(400);
/// A cluster that has no leader by then will not get one.
const LEADER_LIMIT: Duration = Duration::from_secs(30);

/// Waits until one of these nodes leads, confirmed by a quorum, and returns its place in the list and the time since `since`.
///
/// # Errors
/// None of them does within 30 s.
pub(super) async fn next_leader(nodes: &[&Node], since: Instant) -> Result<(usize, Duration)> {
    let looks = nodes
        .iter()
        .enumerate()
        .map(|(place, node)| until_it_leads(node).map(move |()| place).boxed());
    let found = timeout(LEADER_LIMIT, select_all(looks)).await;
    let (place, ..) =
        found.with_context(|| format!("no leader among {} nodes within {LEADER_LIMIT:?}", nodes.len()))?;
    Ok((place, since.elapsed()))
}

async fn until_it_leads(node: &Node) {
    loop {
        if let Ok(status) = own_status(node).await
            && status.confirmed
            && status.leader == Some(status.node)
        {
            return;
        }
        sleep(LOOK_AGAIN).await;
    }
}

/// What a node itself knows: it asks no other, but when it leads, a quorum has confirmed it.
///
/// # Errors
/// It does not answer at once.
pub(super) async fn own_status(node: &Node) -> Result<v1::StatusReply> {
    let mut request = Request::new(StatusRequest {});
    metadata::set_forwarded_for(request.metadata_mut(), 0, 0);
    let answer = timeout(ANSWER_LIMIT, node.api().status(request)).await;
    Ok(answer
        .with_context(|| format!("{} does not answer", node.name))??
        .into_inner())
}
