//! Handing the leadership over before a stop.

use crate::core::Core;
use crate::error::RaftError;
use openraft::async_runtime::watch::WatchReceiver;
use std::time::Duration;
use tokio::time::Instant;

/// How long one voter may take to win before the next one is asked.
const TRY_TIMEOUT: Duration = Duration::from_millis(700);

/// See [`crate::Replica::hand_over`].
pub(crate) async fn hand_over(core: &Core, timeout: Duration) -> Result<(), RaftError> {
    let deadline = Instant::now() + timeout;
    let mut roles = core.roles.subscribe();
    let mut turn = 0;
    while core.is_leader() {
        let Some(next) = successor(core, turn) else {
            return Err(RaftError::Membership(
                "there is no other voter to hand over to".to_owned(),
            ));
        };
        turn += 1;
        tracing::info!(node = core.node, next, "hands the leadership over");
        core.raft
            .trigger()
            .transfer_leader(next)
            .await
            .map_err(|e| RaftError::Stopped(e.to_string()))?;
        let own = core.node;
        let gone = roles.wait_for(|role| role.leader.as_ref().is_some_and(|leader| leader.node.0 != own));
        let until = deadline.min(Instant::now() + TRY_TIMEOUT);
        if let Ok(gone) = tokio::time::timeout_at(until, gone).await {
            return gone
                .map(drop)
                .map_err(|_| RaftError::Stopped("it was told to".to_owned()));
        }
        if Instant::now() >= deadline {
            return Err(RaftError::Timeout {
                what: "handing over the leadership",
                after_ms: timeout.as_millis() as u64,
            });
        }
    }
    Ok(())
}

/// Returns the voter whose log is the longest, at further turns the ones after it.
fn successor(core: &Core, turn: usize) -> Option<u64> {
    let metrics = core.raft.metrics();
    let metrics = metrics.borrow_watched();
    let matched = |node: &u64| {
        metrics
            .replication
            .as_ref()
            .and_then(|matched| matched.get(node).copied())
            .flatten()
    };
    let mut voters: Vec<u64> = metrics
        .membership_config
        .voter_ids()
        .filter(|node| *node != core.node)
        .collect();
    voters.sort_by_key(|node| std::cmp::Reverse(matched(node)));
    if voters.is_empty() {
        None
    } else {
        voters.get(turn % voters.len()).copied()
    }
}
