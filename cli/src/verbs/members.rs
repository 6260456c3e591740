//! Changes of the membership.

use super::Cluster;
use crate::args::{ClusterVerb, Replace};
use crate::error::CliError;
use crate::output;
use crate::view::{self, NodeView};
use sched_client::ClientError;
use sched_proto::v1::change_members_request::Change;
use sched_proto::v1::{FailureKind, HandOver, Node, NodeRole, NodesReply, ReplaceMember};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// Between two looks at a node that is catching up: far below what it takes to copy anything worth waiting for.
const LOOK_AGAIN: Duration = Duration::from_millis(300);

pub(super) async fn change(cluster: &Cluster, verb: &ClusterVerb, patience: Duration) -> Result<(), CliError> {
    let reply = match verb {
        ClusterVerb::Promote(of) => caught_up(cluster, Change::Promote(of.node), of.node, patience).await?,
        ClusterVerb::Demote(of) => cluster.client.change_members(Change::Demote(of.node)).await?,
        ClusterVerb::Remove(of) => cluster.client.change_members(Change::Remove(of.node)).await?,
        ClusterVerb::Replace(Replace { old, new }) => {
            let change = Change::Replace(ReplaceMember { old: *old, new: *new });
            caught_up(cluster, change, *new, patience).await?
        }
        ClusterVerb::HandOver => hand_over(cluster).await?,
    };
    let nodes: Vec<_> = reply.nodes.into_iter().map(NodeView::new).collect();
    output::data(cluster.global.output, &nodes, |nodes| view::nodes(nodes))
}

/// Names the node that leads now: a call repeated after a lost answer finds that it does not, and moves nothing.
async fn hand_over(cluster: &Cluster) -> Result<NodesReply, ClientError> {
    let nodes = cluster.client.nodes().await?;
    let leads = |node: &&Node| node.role() == NodeRole::Leader;
    let from = nodes.nodes.iter().find(leads).map_or(0, |node| node.id);
    cluster.client.change_members(Change::HandOver(HandOver { from })).await
}

/// Asks again while the member is behind or not heard yet, as long as a call may take.
async fn caught_up(
    cluster: &Cluster,
    change: Change,
    node: u64,
    patience: Duration,
) -> Result<NodesReply, ClientError> {
    let end = Instant::now() + patience;
    let mut said = false;
    loop {
        match cluster.client.change_members(change).await {
            Err(error) if error.refusal() == Some(FailureKind::WrongState) && Instant::now() < end => {
                if !said {
                    output::talk(&format!("schedcli: waits for node {node} to catch up: {error}"));
                    said = true;
                }
                sleep(LOOK_AGAIN).await;
            }
            done => return done,
        }
    }
}
