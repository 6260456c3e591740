//! How clusters come into being, and how they must not.

use super::support::*;
use crate::formation::Agreement;
use crate::types::Place;
use crate::{Formation, RaftError};
use sched_storage::DataDir;
use std::collections::BTreeMap;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_initial_members_form_one_cluster_in_any_order_and_through_restarts() {
    for order in [[0, 1, 2], [2, 0, 1]] {
        let mut cluster = Cluster::new(3, |_| {});
        cluster.start(order[0]).await;
        cluster.start(order[1]).await;
        let waiting = |f: &Formation| matches!(f, Formation::Forming { waiting } if waiting.len() == 1);
        for node in &order[..2] {
            let mut formation = cluster.nodes[*node].replica().formation();
            within("two of three to wait for the third", formation.wait_for(waiting))
                .await
                .unwrap();
        }
        cluster.stop(order[0]).await;
        cluster.start(order[2]).await;
        cluster.start(order[0]).await;
        cluster.wait_formed().await;
        let formed: Vec<_> = cluster
            .nodes
            .iter()
            .map(|n| n.replica().formation().borrow().clone())
            .collect();
        assert!(
            formed
                .iter()
                .all(|f| matches!(f, Formation::Formed { .. }) && *f == formed[0]),
            "{formed:?}"
        );
        for node in 0..3 {
            assert_eq!(
                cluster.nodes[node]
                    .replica()
                    .members()
                    .iter()
                    .filter(|m| m.voter)
                    .count(),
                3
            );
            cluster.stop(node).await;
        }
        // With data present the list does not count, whatever it says.
        for node in 0..3 {
            cluster.nodes[node]
                .start(|options| options.initial_cluster = vec!["nowhere.invalid:1".to_owned()])
                .await;
        }
        cluster.wait_formed().await;
        cluster.stop_all().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_at_the_same_moment() {
    let mut cluster = Cluster::new(3, |_| {});
    let list: Vec<String> = cluster.nodes.iter().map(|node| node.address.to_string()).collect();
    let starts = cluster.nodes.iter_mut().map(|node| {
        let list = list.clone();
        node.start(move |options| options.initial_cluster = list)
    });
    drop(futures::future::join_all(starts).await);
    cluster.wait_formed().await;
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pristine_node_does_not_form_a_second_cluster_with_a_member_of_one() {
    let mut cluster = Cluster::formed(1, |_| {}).await;
    let mut late = Node::new();
    let list = vec![cluster.nodes[0].address.to_string(), late.address.to_string()];
    let replica = late.start(|options| options.initial_cluster = list).await;
    let refused = replica.wait_formed(LONG).await;
    assert!(
        matches!(&refused, Err(RaftError::Formation(why)) if why.contains("already belongs to cluster")),
        "{refused:?}"
    );
    drop(replica);
    late.stop().await;
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_lost_its_folder_is_not_taken_for_the_old_one() {
    let mut cluster = Cluster::formed(3, |_| {}).await;
    let leader = cluster.leader().await;
    let lost = cluster.follower(leader);
    cluster.stop(lost).await;
    cluster.nodes[lost].dir = tempfile::tempdir().unwrap();
    let replica = cluster.start(lost).await;
    let refused = replica.wait_formed(LONG).await;
    assert!(
        matches!(&refused, Err(RaftError::Formation(why)) if why.contains("join")),
        "{refused:?}"
    );
    submit_one(cluster.nodes[leader].replica()).await.unwrap();
    drop(replica);
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lists_that_cannot_be_are_refused() {
    let mut alone = Node::new();
    let (_other, address) = bind();
    // Nobody there is this node, but the one who is there says so at once.
    let mut other = Node::new();
    let others = other.address.to_string();
    let list = vec![others.clone()];
    let theirs = other
        .start(|options| options.initial_cluster = vec![others.clone(), address.to_string()])
        .await;
    let replica = alone.start(|options| options.initial_cluster = list).await;
    let mut formation = replica.formation();
    let waits = |f: &Formation| matches!(f, Formation::Forming { waiting } if waiting.iter().any(|w| w.contains("other initial members")));
    within("the other list to be seen", formation.wait_for(waits))
        .await
        .unwrap();
    drop((replica, theirs, formation));
    alone.stop().await;
    other.stop().await;

    let empty = alone.start(|_| {}).await;
    assert!(matches!(empty.wait_formed(LONG).await, Err(RaftError::Formation(_))));
    drop(empty);
    alone.stop().await;
}

/// Writes into the folders what the nodes had done when they all crashed: so many had agreed, so many belonged to the cluster.
fn crash_while_forming(cluster: &Cluster, agreed: usize, belong: usize, begun: bool) {
    let folders: Vec<DataDir> = cluster
        .nodes
        .iter()
        .map(|n| DataDir::open(n.dir.path()).unwrap())
        .collect();
    let place = |n: &Node| Place {
        peer_address: n.address.to_string(),
        client_address: "somewhere:7400".to_owned(),
    };
    let nodes = cluster.nodes.iter().zip(&folders);
    let places: BTreeMap<u64, Place> = nodes.map(|(n, folder)| (folder.identity().node.0, place(n))).collect();
    let mut agreement = Agreement::new(&places);
    agreement.begun = begun;
    for folder in &folders[..agreed] {
        folder.save_formation(&agreement.encode()).unwrap();
    }
    for folder in &folders[..belong] {
        folder.set_cluster(agreement.cluster()).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_at_any_step_of_the_forming_is_harmless() {
    for (agreed, belong) in [(1, 0), (3, 0), (3, 1), (3, 3)] {
        let mut cluster = Cluster::new(3, |_| {});
        crash_while_forming(&cluster, agreed, belong, false);
        for node in 0..3 {
            cluster.start(node).await;
        }
        cluster.wait_formed().await;
        let leader = cluster.leader().await;
        submit_one(cluster.nodes[leader].replica()).await.unwrap();
        cluster.stop_all().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_lost_its_log_does_not_start_over_under_its_old_number() {
    let mut cluster = Cluster::new(1, |_| {});
    crash_while_forming(&cluster, 1, 1, true);
    let replica = cluster.start(0).await;
    let mut formation = replica.formation();
    let refused = |f: &Formation| matches!(f, Formation::Refused { reason } if reason.contains("log is empty"));
    within("the refusal", formation.wait_for(refused)).await.unwrap();
    drop((replica, formation));
    cluster.stop_all().await;
}
