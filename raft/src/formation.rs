//! How a cluster comes into being: once, and the same one for all its initial members.
//!
//! Every initial member was given the same list of addresses. Each asks all of them who they are until all have answered,
//! and makes the list of numbers and addresses durable: its *agreement*, which it never changes. The cluster's name is a
//! hash of it. When all have reported the same agreement, each makes the name its own, and the member with the lowest number,
//! it alone, writes the first membership into its log; the others hear of it as followers.
//!
//! A crash at any point is harmless: what was agreed is read again, and the first membership is written only by a node
//! that has never written one. A member that lost its folder comes back under another number, with which nobody has agreed:
//! it is refused, and must join instead. So no two clusters can grow out of one list.

use crate::core::Core;
use crate::error::RaftError;
use crate::join;
use crate::role::Formation;
use crate::types::Place;
use sched_core::codec::{self, Kind};
use sched_proto::peer::{HelloReply, HelloRequest};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

/// Pause between two rounds of asking.
const ROUND_PAUSE: Duration = Duration::from_millis(100);
/// Rounds after which the reason for waiting is told again.
const ROUNDS_PER_WORD: u32 = 50;
/// Rounds the first member waits for the others to belong to the cluster, at a quarter of the pause each.
const ROUNDS_TO_MEET: u32 = 40;
/// How long one member may take to answer.
const HELLO_TIMEOUT: Duration = Duration::from_secs(2);

/// What is said of a member whose agreement names others.
const OTHER_MEMBERS: &str = "has agreed on other members: a data folder was replaced meanwhile. If the cluster was never \
     formed, empty the data folders of all members and start again";

/// Version 1 of what the initial members agree on.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Agreement {
    /// The members by number: address for peers, address for clients. None on a node that joined later.
    members: Vec<(u64, String, String)>,
    /// This node has had a membership in its log. From then on an empty log is a lost one.
    pub(crate) begun: bool,
}

impl Agreement {
    pub(crate) fn new(members: &BTreeMap<u64, Place>) -> Self {
        let members = members
            .iter()
            .map(|(n, p)| (*n, p.peer_address.clone(), p.client_address.clone()))
            .collect();
        Self { members, begun: false }
    }

    /// Returns the name of the cluster these members form. Addresses for clients may change and do not count.
    pub(crate) fn cluster(&self) -> [u8; 16] {
        let mut hash = Sha256::new();
        hash.update(b"sched cluster 1\n");
        for (node, peer_address, _) in &self.members {
            hash.update(format!("{node} {peer_address}\n"));
        }
        let mut name = [0; 16];
        name.copy_from_slice(&hash.finalize()[..16]);
        name
    }

    fn places(&self) -> BTreeMap<u64, Place> {
        let place = |peer: &String, client: &String| Place {
            peer_address: peer.clone(),
            client_address: client.clone(),
        };
        self.members
            .iter()
            .map(|(node, peer, client)| (*node, place(peer, client)))
            .collect()
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        codec::encode(Kind::Identity, self)
    }

    fn decode(bytes: &[u8]) -> Result<Self, codec::DecodeError> {
        codec::decode(Kind::Identity, bytes)
    }
}

/// Writes a cluster's name for people.
pub(crate) fn hex(cluster: &[u8]) -> String {
    cluster.iter().fold(String::new(), |mut text, byte| {
        // Writing into a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Reads what this node has agreed on before.
pub(crate) fn load(core: &Core) -> Result<(), RaftError> {
    let Some(bytes) = core.data.read_formation()? else {
        return Ok(());
    };
    let agreement = Agreement::decode(&bytes).map_err(|e| RaftError::Data {
        path: "FORMATION in the data folder".to_owned(),
        problem: format!("damaged: {e}"),
        advice: "start this node with an empty data folder and add it to the cluster as a new member".to_owned(),
    })?;
    *core.agreed.lock().unwrap_or_else(PoisonError::into_inner) = Some(agreement);
    Ok(())
}

/// Returns what this node has agreed on.
pub(crate) fn agreed(core: &Core) -> Option<Agreement> {
    core.agreed.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

fn save(core: &Core, agreement: Agreement) -> Result<(), RaftError> {
    core.data.save_formation(&agreement.encode())?;
    *core.agreed.lock().unwrap_or_else(PoisonError::into_inner) = Some(agreement);
    Ok(())
}

/// Brings this node into a cluster: its own, the one its list names, or the one it shall join.
pub(crate) async fn run(core: Arc<Core>) {
    let brought = tokio::select! {
        brought = bring(&core) => brought,
        () = core.stop.cancelled() => return,
    };
    match brought {
        Ok(cluster) => {
            tracing::info!(node = core.node, cluster = %hex(&cluster), "belongs to a cluster");
            core.formation.send_replace(Formation::Formed { cluster });
            join::keep_place(&core).await;
        }
        Err(error) => {
            tracing::error!(node = core.node, %error, "does not become part of a cluster");
            core.formation.send_replace(Formation::Refused {
                reason: error.to_string(),
            });
        }
    }
}

async fn bring(core: &Core) -> Result<[u8; 16], RaftError> {
    if let Some(cluster) = core.peers.cluster() {
        if !initialized(core).await? {
            match agreed(core) {
                Some(agreement) if agreement.begun => return Err(lost()),
                Some(agreement) if agreement.cluster() == cluster => begin(core, agreement).await?,
                _ => join::ask(core).await?,
            }
        }
        wait_begun(core).await?;
        return Ok(cluster);
    }
    if let Some(agreement) = agreed(core) {
        return form(core, agreement).await;
    }
    if !core.options.join.is_empty() {
        let cluster = join::find(core).await?;
        core.data.set_cluster(cluster)?;
        core.peers.set_cluster(cluster);
        join::ask(core).await?;
        wait_begun(core).await?;
        return Ok(cluster);
    }
    if core.options.initial_cluster.is_empty() {
        return Err(RaftError::Formation(
            "the data folder belongs to no cluster, and neither initial members nor members to join were given"
                .to_owned(),
        ));
    }
    let agreement = agree(core).await?;
    form(core, agreement).await
}

/// Asks all initial members who they are until all have answered, and makes the answer durable.
async fn agree(core: &Core) -> Result<Agreement, RaftError> {
    let list: BTreeSet<String> = core.options.initial_cluster.iter().cloned().collect();
    let mut round = 0;
    loop {
        let asked = list.iter().map(|address| hello(core, address, 0));
        let answers = futures::future::join_all(asked).await;
        let mut replies = Vec::new();
        let mut waiting = Vec::new();
        for (address, answer) in list.iter().zip(answers) {
            match answer.and_then(|reply| check_pristine(core, &list, reply)) {
                Ok(reply) => replies.push((address, reply)),
                Err(Wait::For(why)) => waiting.push(format!("{address}: {why}")),
                Err(Wait::Never(why)) => return Err(RaftError::Formation(format!("{address} {why}"))),
            }
        }
        if waiting.is_empty() {
            let agreement = conclude(core.node, &replies)?;
            save(core, agreement.clone())?;
            return Ok(agreement);
        }
        tell(core, round, waiting);
        round += 1;
        tokio::time::sleep(ROUND_PAUSE).await;
    }
}

/// Returns what the members that have all answered agree on.
fn conclude(node: u64, replies: &[(&String, HelloReply)]) -> Result<Agreement, RaftError> {
    let mut members = BTreeMap::new();
    for (address, reply) in replies {
        let place = Place {
            peer_address: (*address).clone(),
            client_address: reply.client_address.clone(),
        };
        if let Some(other) = members.insert(reply.node, place) {
            let other = other.peer_address;
            let why = format!("{address} and {other} are the same node; give each member once");
            return Err(RaftError::Formation(why));
        }
    }
    if !members.contains_key(&node) {
        let why = "none of the initial members is this node; its own peer address must be in the list";
        return Err(RaftError::Formation(why.to_owned()));
    }
    let agreement = Agreement::new(&members);
    let cluster = agreement.cluster();
    let differs = |reply: &HelloReply| !reply.agreed.is_empty() && reply.agreed != cluster[..];
    match replies.iter().find(|(_, reply)| differs(reply)) {
        Some((address, _)) => Err(RaftError::Formation(format!("{address} {OTHER_MEMBERS}"))),
        None => Ok(agreement),
    }
}

/// Why the forming cannot go on: for now, or for ever.
enum Wait {
    For(String),
    Never(String),
}

async fn hello(core: &Core, address: &str, to: u64) -> Result<HelloReply, Wait> {
    greet(core, address, to).await.map_err(Wait::For)
}

/// Asks who is at an address.
pub(crate) async fn greet(core: &Core, address: &str, to: u64) -> Result<HelloReply, String> {
    let mut client = core.peers.dial(address).map_err(|e| e.to_string())?;
    let cluster = core.peers.cluster().map(|c| c.to_vec()).unwrap_or_default();
    let request = HelloRequest {
        from: core.node,
        cluster: cluster.into(),
        to,
    };
    match tokio::time::timeout(HELLO_TIMEOUT, client.hello(request)).await {
        Ok(Ok(reply)) => Ok(reply.into_inner()),
        Ok(Err(status)) => Err(format!("{}: {}", status.code(), status.message())),
        Err(_) => Err(format!("no answer within {} ms", HELLO_TIMEOUT.as_millis())),
    }
}

fn check_pristine(core: &Core, list: &BTreeSet<String>, reply: HelloReply) -> Result<HelloReply, Wait> {
    if reply.node == core.node {
        return Ok(reply);
    }
    // A member belongs to a cluster once all have agreed, and this node has not.
    if !reply.cluster.is_empty() {
        return Err(Wait::Never(format!(
            "already belongs to cluster {}; start this node with an empty list and join that cluster instead",
            hex(&reply.cluster)
        )));
    }
    let theirs: BTreeSet<String> = reply.initial_cluster.iter().cloned().collect();
    if reply.agreed.is_empty() && theirs != *list {
        return Err(Wait::For(format!(
            "was given other initial members: {}",
            reply.initial_cluster.join(",")
        )));
    }
    Ok(reply)
}

/// Waits until all members have agreed on the same, then belongs to the cluster.
async fn form(core: &Core, agreement: Agreement) -> Result<[u8; 16], RaftError> {
    let cluster = agreement.cluster();
    let mut round = 0;
    loop {
        let members = agreement.places();
        let others = members.iter().filter(|(node, _)| **node != core.node);
        let answers =
            others.map(|(node, place)| async move { (*node, place, hello(core, &place.peer_address, 0).await) });
        let mut waiting = Vec::new();
        let mut formed = false;
        for (node, place, answer) in futures::future::join_all(answers).await {
            match answer.and_then(|reply| check_agreed(node, &cluster, &reply)) {
                // One that belongs to the cluster has seen all members agree.
                Ok(belongs) => formed |= belongs,
                Err(Wait::For(why)) => waiting.push(format!("{}: {why}", place.peer_address)),
                Err(Wait::Never(why)) => return Err(RaftError::Formation(format!("{} {why}", place.peer_address))),
            }
        }
        if waiting.is_empty() || formed {
            break;
        }
        tell(core, round, waiting);
        round += 1;
        tokio::time::sleep(ROUND_PAUSE).await;
    }
    core.data.set_cluster(cluster)?;
    core.peers.set_cluster(cluster);
    if first(core, &agreement) {
        meet(core, &agreement).await;
    }
    begin(core, agreement).await?;
    wait_begun(core).await?;
    Ok(cluster)
}

/// Whether this node is the one that writes the first membership.
fn first(core: &Core, agreement: &Agreement) -> bool {
    agreement.members.iter().map(|(node, ..)| *node).min() == Some(core.node)
}

/// Gives the others a moment to belong to the cluster too: an election before that fails and costs its whole timeout.
async fn meet(core: &Core, agreement: &Agreement) {
    let cluster = agreement.cluster();
    for _ in 0..ROUNDS_TO_MEET {
        let members = agreement.places();
        let others = members.iter().filter(|(node, _)| **node != core.node);
        let asked = others.map(|(_, place)| hello(core, &place.peer_address, 0));
        let answers = futures::future::join_all(asked).await;
        let belongs = |answer: &Result<HelloReply, Wait>| answer.as_ref().is_ok_and(|r| r.cluster == cluster[..]);
        if answers.iter().all(belongs) {
            return;
        }
        tokio::time::sleep(ROUND_PAUSE / 4).await;
    }
}

/// Checks that a member has agreed on the same; returns whether it belongs to the cluster already.
fn check_agreed(node: u64, cluster: &[u8; 16], reply: &HelloReply) -> Result<bool, Wait> {
    if reply.node != node {
        return Err(Wait::Never(format!(
            "is node {} now, but node {node} was there when the members agreed: its data folder was replaced. If the \
             cluster was never formed, empty the data folders of all members and start again; otherwise let the new node join",
            reply.node
        )));
    }
    if reply.agreed == cluster[..] || reply.cluster == cluster[..] {
        return Ok(reply.cluster == cluster[..]);
    }
    if reply.agreed.is_empty() && reply.cluster.is_empty() {
        return Err(Wait::For("has not agreed yet".to_owned()));
    }
    Err(Wait::Never(OTHER_MEMBERS.to_owned()))
}

fn lost() -> RaftError {
    RaftError::Data {
        path: "groups/0/log in the data folder".to_owned(),
        problem: "the log is empty, although this node had become part of the cluster".to_owned(),
        advice: "start this node with an empty data folder and add it to the cluster as a new member".to_owned(),
    }
}

/// Writes the first membership, when that is this node's to do and was never done.
async fn begin(core: &Core, agreement: Agreement) -> Result<(), RaftError> {
    if initialized(core).await? {
        return Ok(());
    }
    if !first(core, &agreement) {
        return Ok(());
    }
    let members = agreement.places();
    tracing::info!(node = core.node, members = members.len(), "writes the first membership");
    core.raft
        .initialize(members)
        .await
        .map_err(|e| RaftError::Formation(e.to_string()))
}

async fn initialized(core: &Core) -> Result<bool, RaftError> {
    core.raft
        .is_initialized()
        .await
        .map_err(|e| RaftError::Stopped(e.to_string()))
}

/// Waits until the log holds a membership, and remembers it.
async fn wait_begun(core: &Core) -> Result<(), RaftError> {
    let wait = core.raft.wait(None);
    let reached = wait.metrics(|m| m.membership_config.nodes().next().is_some(), "the first membership");
    reached.await.map_err(|e| RaftError::Stopped(e.to_string()))?;
    let agreement = agreed(core).unwrap_or_else(|| Agreement::new(&BTreeMap::new()));
    if agreement.begun {
        return Ok(());
    }
    save(
        core,
        Agreement {
            begun: true,
            ..agreement
        },
    )
}

fn tell(core: &Core, round: u32, waiting: Vec<String>) {
    if round.is_multiple_of(ROUNDS_PER_WORD) {
        tracing::info!(node = core.node, waiting = %waiting.join("; "), "waits for the initial members");
    }
    core.formation.send_if_modified(|formation| {
        let now = Formation::Forming { waiting };
        let changed = *formation != now;
        *formation = now;
        changed
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(nodes: &[(u64, &str)]) -> BTreeMap<u64, Place> {
        let place = |address: &str| Place {
            peer_address: address.to_owned(),
            client_address: String::new(),
        };
        nodes.iter().map(|(node, address)| (*node, place(address))).collect()
    }

    #[test]
    fn the_name_depends_on_numbers_and_peer_addresses_alone() {
        let one = Agreement::new(&places(&[(2, "b:1"), (1, "a:1")]));
        let mut other = Agreement::new(&places(&[(1, "a:1"), (2, "b:1")]));
        other.members[0].2 = "elsewhere:1".to_owned();
        other.begun = true;
        assert_eq!(one.cluster(), other.cluster());
        for different in [&[(1, "a:1"), (3, "b:1")][..], &[(1, "a:1"), (2, "c:1")], &[(1, "a:1")]] {
            assert_ne!(one.cluster(), Agreement::new(&places(different)).cluster());
        }
    }

    #[test]
    fn lists_that_cannot_be_agreed_on_are_refused() {
        let reply = |node, agreed: &[u8]| HelloReply {
            node,
            agreed: agreed.to_vec().into(),
            ..HelloReply::default()
        };
        let (a, b) = ("a:1".to_owned(), "b:1".to_owned());
        let good = conclude(1, &[(&a, reply(1, &[])), (&b, reply(2, &[]))]).unwrap();
        let again = conclude(2, &[(&a, reply(1, &good.cluster())), (&b, reply(2, &[]))]).unwrap();
        assert_eq!(good, again);
        assert!(
            conclude(1, &[(&a, reply(1, &[])), (&b, reply(1, &[]))]).is_err(),
            "one node twice"
        );
        assert!(
            conclude(3, &[(&a, reply(1, &[])), (&b, reply(2, &[]))]).is_err(),
            "not this node"
        );
        assert!(
            conclude(1, &[(&a, reply(1, &[])), (&b, reply(2, &[7; 16]))]).is_err(),
            "others agreed on"
        );
    }

    #[test]
    fn agreements_read_back() {
        let agreement = Agreement::new(&places(&[(7, "a:1")]));
        assert_eq!(Agreement::decode(&agreement.encode()), Ok(agreement.clone()));
        assert!(Agreement::decode(&agreement.encode()[1..]).is_err());
    }

    #[test]
    fn another_node_at_an_agreed_address_ends_the_forming() {
        let cluster = [7; 16];
        let reply = |node, agreed: &[u8], of: &[u8]| HelloReply {
            node,
            agreed: agreed.to_vec().into(),
            cluster: of.to_vec().into(),
            ..HelloReply::default()
        };
        assert!(matches!(check_agreed(1, &cluster, &reply(1, &cluster, &[])), Ok(false)));
        assert!(matches!(check_agreed(1, &cluster, &reply(1, &[], &cluster)), Ok(true)));
        assert!(matches!(
            check_agreed(1, &cluster, &reply(1, &[], &[])),
            Err(Wait::For(_))
        ));
        assert!(matches!(
            check_agreed(1, &cluster, &reply(2, &cluster, &[])),
            Err(Wait::Never(_))
        ));
        assert!(matches!(
            check_agreed(1, &cluster, &reply(1, &[8; 16], &[])),
            Err(Wait::Never(_))
        ));
    }
}
