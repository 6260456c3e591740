//! Members that come later, move and leave.

use super::support::*;
use crate::RaftError;
use sched_core::NodeId;
use sched_proto::peer::{Route, VoteRequest};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_joins_votes_and_replaces_another() {
    let mut cluster = Cluster::formed(3, |_| {}).await;
    let leader = cluster.leader().await;
    let replica = cluster.nodes[leader].replica().clone();
    let task = submit_one(&replica).await.unwrap();

    // Any member will do: it names the leader.
    let asked = cluster.nodes[cluster.follower(leader)].address.to_string();
    let mut new = Node::new();
    let joined = new.start(|options| options.join = vec![asked]).await;
    joined.wait_formed(LONG).await.unwrap();
    assert!(is_member(&replica, joined.node()));
    assert!(!replica.members().iter().any(|m| m.node == joined.node() && m.voter));
    within("the newcomer to have everything", async {
        while joined.read_barrier().await.is_err() || !holds(&joined, task) {
            tokio::task::yield_now().await;
        }
    })
    .await;

    let leaves = cluster.follower(leader);
    let old = cluster.nodes[leaves].replica().node();
    let voters: Vec<NodeId> = replica
        .members()
        .iter()
        .map(|m| m.node)
        .filter(|node| *node != old)
        .collect();
    replica.change_voters(voters).await.unwrap();
    replica.remove(old).await.unwrap();
    assert!(!is_member(&replica, old));
    cluster.stop(leaves).await;
    submit_one(&replica).await.unwrap();
    assert!(
        matches!(replica.remove(old).await, Err(RaftError::Membership(_))),
        "it is gone already"
    );
    let stranger = replica.change_voters(vec![NodeId(77)]).await;
    assert!(matches!(stranger, Err(RaftError::Membership(_))), "{stranger:?}");
    drop((joined, replica));
    new.stop().await;
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_must_prove_to_be_the_node() {
    let mut cluster = Cluster::formed(1, |_| {}).await;
    let replica = cluster.nodes[0].replica().clone();
    let own = cluster.nodes[0].address.to_string();
    let wrong = replica.add_learner(NodeId(4711), own).await;
    assert!(matches!(wrong, Err(RaftError::Membership(_))), "{wrong:?}");
    let (silent, address) = bind();
    let nobody = replica.add_learner(NodeId(4711), address.to_string()).await;
    assert!(matches!(nobody, Err(RaftError::Membership(_))), "{nobody:?}");
    assert!(matches!(
        replica.add_learner(NodeId(1), "no address".to_owned()).await,
        Err(RaftError::Option { .. })
    ));
    drop((silent, replica));
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_comes_back_under_another_address_is_found_there() {
    let mut cluster = Cluster::formed(3, |_| {}).await;
    let leader = cluster.leader().await;
    let moves = cluster.follower(leader);
    cluster.stop(moves).await;
    let (listener, address) = bind();
    let node = &mut cluster.nodes[moves];
    node.address = address;
    node.listener = Some(listener);
    let moved = node.start(|_| {}).await;
    let replica = cluster.nodes[leader].replica().clone();
    within("the new address in the membership", async {
        let mut metrics = replica.core().raft.server_metrics();
        use openraft::async_runtime::watch::WatchReceiver;
        while !replica
            .members()
            .iter()
            .any(|m| m.node == moved.node() && m.peer_address == address.to_string())
        {
            metrics.changed().await.unwrap();
        }
    })
    .await;
    let task = submit_one(&replica).await.unwrap();
    within("the entry at the new address", async {
        while moved.read_barrier().await.is_err() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert!(holds(&moved, task));
    drop((moved, replica));
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_of_another_cluster_is_refused_in_few_words() {
    let mut cluster = Cluster::formed(1, |_| {}).await;
    let replica = cluster.nodes[0].replica().clone();
    let own = replica.core().peers.cluster().unwrap().to_vec();
    let mut client = replica
        .core()
        .peers
        .dial(&cluster.nodes[0].address.to_string())
        .unwrap();
    let to = replica.node().0;
    for (cluster, to, problem) in [
        (vec![7; 16], to, "07070707070707070707070707070707"),
        (vec![], to, "of cluster ;"),
        // A name of any length is not repeated whole.
        (vec![7; 1 << 20], to, "07070707070707070707070707070707;"),
        (own, to + 1, "this is node"),
    ] {
        let route = Route {
            cluster: cluster.into(),
            from: 4711,
            to,
            group: 0,
        };
        let request = VoteRequest {
            route: Some(route),
            ..VoteRequest::default()
        };
        let refused = client.vote(request).await.unwrap_err();
        assert_eq!(refused.code(), tonic::Code::FailedPrecondition);
        let why = refused.message();
        assert!(
            why.contains(problem) && why.contains("--join") && why.len() < 500,
            "{why}"
        );
    }
    assert_eq!(replica.metrics().peer_refused, 4);
    drop((client, replica));
    cluster.stop_all().await;
}
