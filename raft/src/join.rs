//! Members that come later, move, or leave.

use crate::core::Core;
use crate::error::RaftError;
use crate::formation::{greet, hex};
use crate::role::Formation;
use crate::types::{Place, TypeConfig};
use openraft::ChangeMembers;
use openraft::errors::{ClientWriteError, RaftError as CoreError};
use openraft::raft::ClientWriteResponse;
use sched_core::NodeId;
use sched_proto::peer::join_reply::Outcome;
use sched_proto::peer::{JoinReply, JoinRequest, LeaderHint, Route};
use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::time::Duration;

/// Pause between two attempts to be taken in.
const ATTEMPT_PAUSE: Duration = Duration::from_millis(500);
/// How long a change of the membership may take: two rounds to a quorum, and the wait for a learner to catch up before it votes.
const CHANGE_TIMEOUT: Duration = Duration::from_secs(30);
/// How long the leader may take to answer a node that wants to be taken in.
const JOIN_TIMEOUT: Duration = Duration::from_secs(10);

/// Finds the cluster to join: asks the given members in turn until one belongs to one.
pub(crate) async fn find(core: &Core) -> Result<[u8; 16], RaftError> {
    loop {
        let mut waiting = Vec::new();
        for address in &core.options.join {
            match greet(core, address, 0).await {
                Ok(reply) => match <[u8; 16]>::try_from(&reply.cluster[..]) {
                    Ok(cluster) => return Ok(cluster),
                    Err(_) => waiting.push(format!("{address}: belongs to no cluster yet")),
                },
                Err(why) => waiting.push(format!("{address}: {why}")),
            }
        }
        core.formation.send_replace(Formation::Forming { waiting });
        tokio::time::sleep(ATTEMPT_PAUSE).await;
    }
}

/// Asks the given members, and whoever they name as leader, until this node is a member.
pub(crate) async fn ask(core: &Core) -> Result<(), RaftError> {
    loop {
        let mut waiting = Vec::new();
        for address in &core.options.join {
            match ask_at(core, address).await {
                Ok(()) => return Ok(()),
                Err(why) => waiting.push(format!("{address}: {why}")),
            }
        }
        tracing::info!(node = core.node, waiting = %waiting.join("; "), "waits to be taken in");
        core.formation.send_replace(Formation::Forming { waiting });
        tokio::time::sleep(ATTEMPT_PAUSE).await;
    }
}

/// Asks the member at `address`, and the leader it names.
async fn ask_at(core: &Core, address: &str) -> Result<(), String> {
    let reply = greet(core, address, 0).await?;
    if core.peers.cluster().is_none_or(|cluster| reply.cluster != cluster[..]) {
        return Err(format!("belongs to another cluster ({})", hex(&reply.cluster)));
    }
    match ask_node(core, address, reply.node).await? {
        None => Ok(()),
        Some(LeaderHint { node, peer_address, .. }) => match ask_node(core, &peer_address, node).await? {
            None => Ok(()),
            Some(_) => Err("the leader is changing".to_owned()),
        },
    }
}

/// Asks one node to take this one in; returns the leader when it is another.
async fn ask_node(core: &Core, address: &str, node: u64) -> Result<Option<LeaderHint>, String> {
    let mut client = core.peers.dial(address).map_err(|e| e.to_string())?;
    let request = JoinRequest {
        route: core.peers.route(node),
        peer_address: core.options.peer_advertise.clone(),
    };
    let reply = tokio::time::timeout(JOIN_TIMEOUT, client.join(request)).await;
    let reply = reply.map_err(|_| format!("no answer within {} ms", JOIN_TIMEOUT.as_millis()))?;
    match reply
        .map_err(|e| format!("{}: {}", e.code(), e.message()))?
        .into_inner()
        .outcome
    {
        Some(Outcome::Joined(_)) => Ok(None),
        Some(Outcome::NotLeader(not)) => match not.leader {
            Some(leader) => Ok(Some(leader)),
            None => Err("no leader is known there".to_owned()),
        },
        Some(Outcome::Refused(why)) => Err(why),
        None => Err("an empty answer".to_owned()),
    }
}

/// Takes in a node that asks for it, or its new address. Only a leader can.
pub(crate) async fn take_in(core: &Core, route: &Route, request: &JoinRequest) -> JoinReply {
    let outcome = match place_node(core, route.from, &request.peer_address).await {
        Ok(()) => Outcome::Joined(Default::default()),
        Err(RaftError::NotLeader { leader }) => Outcome::NotLeader(crate::net::service::not_leader(core, leader)),
        Err(error) => Outcome::Refused(error.to_string()),
    };
    JoinReply { outcome: Some(outcome) }
}

/// Makes sure that the node is a member at this address, where it must answer under its own number.
async fn place_node(core: &Core, node: u64, peer_address: &str) -> Result<(), RaftError> {
    if !core.is_leader() {
        return Err(RaftError::NotLeader { leader: core.leader() });
    }
    let place = prove(core, node, peer_address).await?;
    let members = core.places();
    let change = match members.get(&node) {
        Some(known) if *known == place => return Ok(()),
        Some(_) => ChangeMembers::SetNodes(BTreeMap::from([(node, place)])),
        None if members.len() >= crate::record::MEMBERS_MAX => {
            let max = crate::record::MEMBERS_MAX;
            return Err(RaftError::Membership(format!(
                "the cluster has {max} members, the most there can be"
            )));
        }
        None => ChangeMembers::AddNodes(BTreeMap::from([(node, place)])),
    };
    changed(core, core.raft.change_membership(change, true)).await
}

/// Dials an address and makes sure that it is the node it is said to be: a wrong one could make two nodes vote as one.
async fn prove(core: &Core, node: u64, peer_address: &str) -> Result<Place, RaftError> {
    crate::options::check_address("peer_address", peer_address)?;
    let no = |why: String| RaftError::Membership(format!("{peer_address}: {why}"));
    let reply = greet(core, peer_address, node).await.map_err(no)?;
    if reply.node != node {
        return Err(no(format!("is node {}, not {node}", reply.node)));
    }
    if !reply.cluster.is_empty() && core.peers.cluster().is_none_or(|cluster| reply.cluster != cluster[..]) {
        return Err(no(format!("belongs to another cluster ({})", hex(&reply.cluster))));
    }
    crate::options::check_address("client_address", &reply.client_address)?;
    Ok(Place {
        peer_address: peer_address.to_owned(),
        client_address: reply.client_address,
    })
}

/// Keeps the membership right about where this node is: it may have been started with another address.
pub(crate) async fn keep_place(core: &Core) {
    let mut roles = core.roles.subscribe();
    loop {
        let known = core.places().get(&core.node).cloned();
        let own = core.own_place();
        if known.is_none_or(|known| known == own) {
            return;
        }
        let leader = roles.borrow_and_update().leader.clone();
        let told = match leader {
            Some(leader) if leader.node.0 == core.node => place_node(core, core.node, &own.peer_address)
                .await
                .map_err(|e| e.to_string()),
            Some(leader) => ask_node(core, &leader.peer_address, leader.node.0).await.map(drop),
            None => Err("no leader is known".to_owned()),
        };
        if let Err(why) = told {
            tracing::warn!(node = core.node, %why, "the membership still has another address of this node");
        }
        tokio::select! {
            () = tokio::time::sleep(ATTEMPT_PAUSE) => {}
            () = core.stop.cancelled() => return,
        }
    }
}

/// See [`crate::Replica::add_learner`].
pub(crate) async fn add_learner(core: &Core, node: NodeId, peer_address: &str) -> Result<(), RaftError> {
    place_node(core, node.0, peer_address).await
}

/// See [`crate::Replica::change_voters`].
pub(crate) async fn change_voters(core: &Core, voters: &[NodeId]) -> Result<(), RaftError> {
    let voters: BTreeSet<u64> = voters.iter().map(|node| node.0).collect();
    let members = core.places();
    if let Some(stranger) = voters.iter().find(|node| !members.contains_key(node)) {
        return Err(RaftError::Membership(format!(
            "node {stranger} is no member; add it as a learner first"
        )));
    }
    changed(
        core,
        core.raft
            .change_membership(ChangeMembers::ReplaceAllVoters(voters), true),
    )
    .await
}

/// See [`crate::Replica::remove`].
pub(crate) async fn remove(core: &Core, node: NodeId) -> Result<(), RaftError> {
    let membership = core.membership();
    if membership.get_node(&node.0).is_none() {
        return Err(RaftError::Membership(format!("node {node} is no member")));
    }
    let nodes = BTreeSet::from([node.0]);
    let voters: BTreeSet<u64> = membership.voter_ids().collect();
    if voters == nodes {
        return Err(RaftError::Membership(format!(
            "node {node} is the only voter; make another one a voter first"
        )));
    }
    let voter = voters.contains(&node.0);
    let change = if voter {
        ChangeMembers::RemoveVoters(nodes)
    } else {
        ChangeMembers::RemoveNodes(nodes)
    };
    changed(core, core.raft.change_membership(change, false)).await
}

type Changed = Result<ClientWriteResponse<TypeConfig>, CoreError<TypeConfig, ClientWriteError<TypeConfig>>>;

/// Waits for a change of the membership to be committed.
async fn changed(core: &Core, change: impl Future<Output = Changed>) -> Result<(), RaftError> {
    let after_ms = CHANGE_TIMEOUT.as_millis() as u64;
    let done = tokio::select! {
        done = tokio::time::timeout(CHANGE_TIMEOUT, change) => done,
        () = core.stop.cancelled() => return Err(RaftError::Stopped("it was told to".to_owned())),
    };
    match done.map_err(|_| RaftError::Timeout {
        what: "the change of the membership",
        after_ms,
    })? {
        Ok(_) => Ok(()),
        Err(CoreError::APIError(ClientWriteError::ForwardToLeader(_))) => Err(RaftError::NotLeader {
            leader: core.leader().filter(|leader| leader.node.0 != core.node),
        }),
        Err(CoreError::APIError(error)) => Err(RaftError::Membership(error.to_string())),
        Err(CoreError::Fatal(error)) => Err(RaftError::Stopped(error.to_string())),
    }
}
