//! Proposals, reads, elections, snapshots.

use super::support::*;
use crate::{Origin, ProposeError};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

fn quick(_: &mut crate::Options) {}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_node_alone_leads_and_keeps_what_it_acknowledged() {
    let mut cluster = Cluster::formed(1, quick).await;
    let mut tasks = Vec::new();
    for _ in 0..10 {
        tasks.push(submit_one(cluster.nodes[0].replica()).await.unwrap());
    }
    cluster.stop(0).await;
    cluster.start(0).await;
    cluster.leader().await;
    cluster.nodes[0].replica().read_barrier().await.unwrap();
    assert!(tasks.iter().all(|task| holds(cluster.nodes[0].replica(), *task)));
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_callers_share_entries_and_all_replicas_hold_the_same() {
    let mut cluster = Cluster::formed(3, quick).await;
    let leader = cluster.leader().await;
    let replica = cluster.nodes[leader].replica().clone();
    let before = replica.metrics();
    let callers = (0..64).map(|_| {
        let replica = replica.clone();
        tokio::spawn(async move {
            for _ in 0..10 {
                submit_one(&replica).await.unwrap();
            }
        })
    });
    for caller in futures::future::join_all(callers).await {
        caller.unwrap();
    }
    let after = replica.metrics();
    assert_eq!(after.proposed_items - before.proposed_items, 640);
    assert!(
        after.proposed_entries - before.proposed_entries < 320,
        "groups form under load: {after:?}"
    );
    for node in &cluster.nodes {
        node.replica().read_barrier().await.unwrap();
        assert_eq!(meta(node.replica()), meta(&replica));
        assert_eq!(meta(node.replica()).tasks, 640);
    }
    drop(replica);
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_of_many_commands_is_answered_in_order() {
    let mut cluster = Cluster::formed(1, quick).await;
    let replica = cluster.nodes[0].replica().clone();
    let again = request();
    let mut items: Vec<_> = (0..3000).map(|_| submit(request(), 10)).collect();
    items[0] = submit(again.clone(), 10);
    items[2999] = submit(again, 10);
    let tasks: Vec<_> = replica
        .propose(Origin::default(), items)
        .await
        .into_iter()
        .map(|a| task_of(a).unwrap().0)
        .collect();
    assert_eq!(tasks[0], tasks[2999], "the same request is carried out once");
    assert!(tasks[..2999].is_sorted());
    assert_eq!(meta(&replica).tasks, 2999);
    drop(replica);
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_when_the_leader_dies_and_nothing_is_done_twice() {
    let mut cluster = Cluster::formed(3, quick).await;
    let mut acknowledged = Vec::new();
    for _ in 0..3 {
        let leader = cluster.leader().await;
        let replica = cluster.nodes[leader].replica().clone();
        let key = request();
        let first = task_of(
            replica
                .propose(Origin::default(), vec![submit(key.clone(), 10)])
                .await
                .remove(0),
        )
        .unwrap();
        acknowledged.push(first);
        for _ in 0..20 {
            acknowledged.push(submit_one(&replica).await.unwrap());
        }
        drop(replica);
        cluster.stop(leader).await;
        assert_eq!(
            submit_until_done(&cluster, key).await,
            first,
            "the answer is remembered by the next leader"
        );
        cluster.start(leader).await;
    }
    cluster.wait_formed().await;
    for node in &cluster.nodes {
        within("the others", async {
            while node.replica().read_barrier().await.is_err() {
                tokio::task::yield_now().await;
            }
        })
        .await;
        assert!(acknowledged.iter().all(|task| holds(node.replica(), *task)));
        assert_eq!(meta(node.replica()).tasks, acknowledged.len() as u64);
    }
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_reads_what_was_acknowledged_before() {
    let mut cluster = Cluster::formed(3, quick).await;
    let leader = cluster.leader().await;
    let follower = cluster.nodes[cluster.follower(leader)].replica().clone();
    for _ in 0..50 {
        let task = submit_one(cluster.nodes[leader].replica()).await.unwrap();
        follower.read_barrier().await.unwrap();
        assert!(holds(&follower, task));
    }
    let answer = follower
        .propose(Origin::default(), vec![submit(request(), 10)])
        .await
        .remove(0);
    let expected = cluster.nodes[leader].replica().node();
    assert!(matches!(answer, Err(ProposeError::NotLeader { leader: Some(l) }) if l.node == expected));
    drop(follower);
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_quorum_nothing_is_answered_as_done() {
    let mut cluster = Cluster::formed(3, |options| {
        options.propose_timeout_ms = 1_500;
        options.read_timeout_ms = 1_500;
    })
    .await;
    let leader = cluster.leader().await;
    for node in 0..3 {
        if node != leader {
            cluster.stop(node).await;
        }
    }
    let replica = cluster.nodes[leader].replica().clone();
    let answer = replica
        .propose(Origin::default(), vec![submit(request(), 10)])
        .await
        .remove(0);
    assert!(
        matches!(
            answer,
            Err(ProposeError::Unknown { .. } | ProposeError::NotLeader { .. })
        ),
        "{answer:?}"
    );
    assert!(replica.read_barrier().await.is_err());
    drop(replica);
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_leadership_is_handed_over_without_a_gap_worth_the_name() {
    let mut cluster = Cluster::formed(3, quick).await;
    for _ in 0..3 {
        let leader = cluster.leader().await;
        submit_one(cluster.nodes[leader].replica()).await.unwrap();
        let begun = Instant::now();
        cluster.nodes[leader]
            .replica()
            .hand_over(Duration::from_secs(5))
            .await
            .unwrap();
        let next = cluster.leader().await;
        let gap = begun.elapsed();
        assert_ne!(next, leader);
        println!("hand-over took {gap:?}");
        // The lease alone would take 800 ms; what is asked for is one second.
        assert!(gap < Duration::from_secs(1), "{gap:?}");
    }
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_missed_a_purged_log_catches_up_by_snapshot_under_load() {
    let mut cluster = Cluster::formed(3, |options| {
        options.snapshot_entries = 100;
        options.log_keep_entries = 10;
    })
    .await;
    let leader = cluster.leader().await;
    let away = cluster.follower(leader);
    cluster.stop(away).await;
    let replica = cluster.nodes[leader].replica().clone();
    for _ in 0..400 {
        submit_one(&replica).await.unwrap();
    }
    replica.snapshot_now().await.unwrap().unwrap();
    within("the purge", async {
        let mut applied = replica.core().board.applied.subscribe();
        while replica.metrics().purged_index < 300 {
            submit_one(&replica).await.unwrap();
            let _ = applied.borrow_and_update();
        }
    })
    .await;
    let done = Arc::new(AtomicUsize::new(0));
    let load: Vec<_> = (0..8)
        .map(|_| {
            let (replica, done) = (replica.clone(), done.clone());
            tokio::spawn(async move {
                for _ in 0..100 {
                    submit_one(&replica).await.unwrap();
                    done.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    let back = cluster.start(away).await;
    for task in load {
        task.await.unwrap();
    }
    wait_applied(&back, replica.metrics().applied_index).await;
    assert!(back.metrics().snapshots_installed >= 1, "{:?}", back.metrics());
    assert_eq!(meta(&back), meta(&replica));
    // What was installed survives a restart.
    drop(back);
    cluster.stop(away).await;
    let back = cluster.start(away).await;
    wait_applied(&back, replica.metrics().applied_index).await;
    assert_eq!(meta(&back), meta(&replica));
    drop((back, replica));
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn effects_reach_every_node() {
    let mut cluster = Cluster::formed(3, quick).await;
    let leader = cluster.leader().await;
    let mut effects: Vec<_> = cluster.nodes.iter().map(|node| node.replica().effects()).collect();
    let task = submit_one(cluster.nodes[leader].replica()).await.unwrap();
    for effects in &mut effects {
        within("the hint", async {
            let changed = sched_core::Effect::TaskChanged { task };
            while !effects.recv().await.unwrap().contains(&changed) {}
        })
        .await;
    }
    cluster.stop_all().await;
}
