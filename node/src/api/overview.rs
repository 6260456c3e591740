//! What the cluster is and how it is. Answered by the leader when one answers, else by this node alone, which then says so.

use crate::channels::Channel;
use crate::shared::{OrStop, Shared, cluster_of};
use crate::state;
use sched_core::tables::Meta;
use sched_proto::metadata::{is_forwarded, set_forwarded_for};
use sched_proto::v1::scheduler_client::SchedulerClient;
use sched_proto::v1::{
    LatenessBucket, Node, NodeRole, NodesReply, NodesRequest, SchedulerState, StatusReply, StatusRequest,
};
use sched_raft::{Member, Role};
use std::time::Duration;
use tokio::time::timeout;
use tonic::Request;
use tonic::metadata::MetadataMap;

/// For the leader's answer, and for a quorum's: without them this node still answers well within a caller's patience.
const ANSWER_TIMEOUT: Duration = Duration::from_millis(1500);

/// Returns a connection to the leader, when that is another node and the call was not passed on already.
pub(super) fn leader_elsewhere(shared: &Shared, metadata: &MetadataMap) -> Option<SchedulerClient<Channel>> {
    if is_forwarded(metadata) {
        return None;
    }
    let leader = shared.leader_elsewhere()?;
    Some(SchedulerClient::new(shared.channels.get(&leader)?))
}

/// Marks a call as passed on.
pub(super) fn passed_on<T>(shared: &Shared, message: T) -> Request<T> {
    let mut request = Request::new(message);
    let term = shared.replica.roles().borrow().term;
    set_forwarded_for(request.metadata_mut(), shared.replica.node().0, term);
    request
}

pub(super) async fn status(shared: &Shared, metadata: &MetadataMap) -> StatusReply {
    if let Some(mut leader) = leader_elsewhere(shared, metadata) {
        let asked = timeout(ANSWER_TIMEOUT, leader.status(passed_on(shared, StatusRequest {}))).await;
        if let Ok(Ok(reply)) = asked {
            return with_this_node(shared, reply.into_inner());
        }
    }
    // A call that was passed on asks what this node itself knows: it waits for nobody.
    let confirmed = !is_forwarded(metadata) || shared.replica.roles().borrow().leading;
    let confirmed = confirmed && is_confirmed(shared).await;
    local_status(shared, confirmed)
}

async fn is_confirmed(shared: &Shared) -> bool {
    matches!(timeout(ANSWER_TIMEOUT, shared.replica.read_barrier()).await, Ok(Ok(())))
}

/// The leader's figures, and who answered.
fn with_this_node(shared: &Shared, mut reply: StatusReply) -> StatusReply {
    let this = shared.replica.node().0;
    reply.node = this;
    reply.version = env!("CARGO_PKG_VERSION").to_owned();
    reply.zone_data = shared.zones.version().to_owned();
    for node in reply.nodes.iter_mut().filter(|node| node.id == this) {
        node.reachable = true;
        node.disk_low = shared.disk.is_low();
        node.worker_fault = shared.worker_fault();
    }
    reply
}

fn local_status(shared: &Shared, confirmed: bool) -> StatusReply {
    let view = shared.replica.view();
    let role = shared.replica.roles().borrow().clone();
    let Meta {
        shutdown,
        waiting,
        ready,
        running,
        failed,
        finished,
        delayed,
        lost,
        missed,
        skipped,
        stale_reports,
        ..
    } = state::meta(&view).or_stop();
    let spooled = state::meta(&view).or_stop().spooled();
    let sessions = state::sessions(&view).or_stop();
    let state = if shutdown.is_some() {
        SchedulerState::Shutdown
    } else {
        SchedulerState::Running
    };
    StatusReply {
        state: state.into(),
        shutdown_message: shutdown.unwrap_or_default(),
        leader: role.leader.as_ref().map(|leader| leader.node.0),
        term: role.term,
        nodes: members(shared, &role),
        spooled,
        waiting,
        ready,
        running,
        failed,
        finished,
        confirmed,
        node: shared.replica.node().0,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        zone_data: shared.zones.version().to_owned(),
        cluster: cluster_of(&shared.replica.formation().borrow()),
        now_unix_ms: shared.clock.now().as_millis(),
        workers: u32::try_from(sessions.len()).unwrap_or(u32::MAX),
        slots: sessions
            .iter()
            .map(|(_, session)| session.slots)
            .fold(0, u32::saturating_add),
        delayed,
        lost,
        missed,
        skipped,
        stale_reports,
        lateness: shared
            .counters
            .lateness
            .buckets()
            .map(|(late_ms_max, runs)| LatenessBucket { late_ms_max, runs })
            .collect(),
        refuses_work: shared.terms.current().is_some_and(|term| term.refuses_work()),
        clocks_apart: shared.terms.current().is_some_and(|term| term.clocks_apart()),
    }
}

pub(super) async fn nodes(shared: &Shared, metadata: &MetadataMap) -> NodesReply {
    if let Some(mut leader) = leader_elsewhere(shared, metadata) {
        let asked = timeout(ANSWER_TIMEOUT, leader.nodes(passed_on(shared, NodesRequest {}))).await;
        if let Ok(Ok(reply)) = asked {
            return reply.into_inner();
        }
    }
    NodesReply {
        confirmed: is_confirmed(shared).await,
        ..members_now(shared)
    }
}

/// The members as this node knows them, right after a change that it has seen committed.
pub(super) fn members_now(shared: &Shared) -> NodesReply {
    let role = shared.replica.roles().borrow().clone();
    NodesReply {
        nodes: members(shared, &role),
        confirmed: true,
    }
}

/// The members as this node sees them; a node that belongs to no cluster yet names at least itself.
fn members(shared: &Shared, role: &Role) -> Vec<Node> {
    let members = shared.replica.members();
    if members.is_empty() {
        let itself = Member {
            node: shared.replica.node(),
            peer_address: shared.config.peer_advertise.clone(),
            client_address: shared.config.advertise.clone(),
            voter: false,
            reachable: Some(true),
            lag_entries: None,
            refuses: None,
        };
        return vec![node(shared, role, itself)];
    }
    members.into_iter().map(|member| node(shared, role, member)).collect()
}

fn node(shared: &Shared, role: &Role, member: Member) -> Node {
    let leads = role.leader.as_ref().is_some_and(|leader| leader.node == member.node);
    let is_this = member.node == shared.replica.node();
    let term = shared.terms.current();
    let part = match (leads, member.voter) {
        (true, _) => NodeRole::Leader,
        (false, false) => NodeRole::Learner,
        (false, true) if is_this && role.leader.is_none() => NodeRole::Candidate,
        (false, true) => NodeRole::Follower,
    };
    Node {
        id: member.node.0,
        role: part.into(),
        client_address: member.client_address,
        peer_address: member.peer_address,
        reachable: is_this || member.reachable.unwrap_or(false),
        lag_entries: member.lag_entries,
        disk_low: disk_low(shared, member.node.0),
        worker_fault: if is_this {
            shared.worker_fault()
        } else {
            term.as_ref()
                .and_then(|term| term.faulty_workers().get(&member.node.0).cloned())
        },
        clock_ahead_ms: term.and_then(|term| {
            let clocks = term.clocks();
            let clock = clocks.iter().find(|clock| clock.node == member.node.0)?;
            Some(clock.ahead_ms)
        }),
    }
}

/// Whether a node's disk is low: known of this one, and to the leader of all voters.
fn disk_low(shared: &Shared, node: u64) -> bool {
    if node == shared.replica.node().0 {
        return shared.disk.is_low();
    }
    shared
        .terms
        .current()
        .is_some_and(|term| term.low_disks().contains(&node))
}
