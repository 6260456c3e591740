//! The tasks that follow consensus: who leads, whether it still runs, when a snapshot or a purge is due.

use crate::core::Core;
use crate::role::{Leader, Role};
use crate::types::{StoredMembership, TypeConfig};
use openraft::Instant as _;
use openraft::ServerState;
use openraft::async_runtime::watch::WatchReceiver;
use openraft::metrics::RaftServerMetrics;
use sched_core::NodeId;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// Follows who leads and where the members are.
pub(crate) async fn roles(core: Arc<Core>) {
    let mut server = core.raft.server_metrics();
    let mut applied = core.board.applied.subscribe();
    let election = Duration::from_millis(core.options.election_timeout_ms_max);
    loop {
        let metrics = server.borrow_and_update().clone();
        follow_members(&core, &metrics.membership_config);
        let role = role(&core, &metrics);
        let won = role.leading && !core.roles.borrow().leading;
        let changed = core.roles.send_if_modified(|current| {
            let changed = *current != role;
            if changed {
                current.clone_from(&role);
            }
            changed
        });
        if won {
            core.board.counters.elections_won.add(1);
        }
        if changed {
            tracing::info!(term = role.term, leader = ?role.leader.map(|l| l.node.0), leading = role.leading, "role");
        }
        tokio::select! {
            changed = server.changed() => if changed.is_err() { return },
            changed = applied.changed(), if waits_for_apply(&metrics, &core) => if changed.is_err() { return },
            // Silence is no event: a leader looks by itself whether a quorum still answers.
            () = tokio::time::sleep(election), if metrics.state == ServerState::Leader => {}
            () = core.stop.cancelled() => return,
        }
    }
}

/// Whether a quorum answered this leader lately. Consensus lets a leader that hears nothing stay one, silent, until it hears of another;
/// for everybody else it is none.
fn hears_quorum(core: &Core, metrics: &RaftServerMetrics<TypeConfig>) -> bool {
    if metrics.membership_config.voter_ids().count() < 2 {
        return true;
    }
    let patience = 3 * Duration::from_millis(core.options.election_timeout_ms_max);
    let acked = core.raft.data_metrics().borrow_watched().last_quorum_acked;
    acked.is_none_or(|at| at.into_inner().elapsed() < patience)
}

/// Only a leader that has not yet applied an entry of its own term depends on the apply.
fn waits_for_apply(metrics: &RaftServerMetrics<TypeConfig>, core: &Core) -> bool {
    metrics.state == ServerState::Leader && !core.roles.borrow().leading
}

fn role(core: &Core, metrics: &RaftServerMetrics<TypeConfig>) -> Role {
    let term = metrics.vote.leader_id().term;
    let leader = metrics.current_leader.map(|node| {
        let place = metrics.membership_config.get_node(&node).cloned().unwrap_or_default();
        Leader {
            node: NodeId(node),
            client_address: place.client_address,
            peer_address: place.peer_address,
        }
    });
    let leads = metrics.state == ServerState::Leader && metrics.current_leader == Some(core.node);
    if leads && !hears_quorum(core, metrics) {
        return Role {
            term,
            leader: None,
            leading: false,
        };
    }
    // The blank entry is the first of a term: whoever applied anything of this term has applied it.
    Role {
        term,
        leader,
        leading: leads && core.board.applied().term == term,
    }
}

fn follow_members(core: &Core, membership: &StoredMembership) {
    let members: BTreeMap<u64, _> = membership.nodes().map(|(node, place)| (*node, place.clone())).collect();
    for (node, place) in members.iter().filter(|(node, _)| **node != core.node) {
        if let Err(error) = core.peers.place(*node, place) {
            tracing::error!(node, address = %place.peer_address, %error, "a member's address is none");
        }
    }
    core.peers.keep(&members);
}

/// Tells the owner when consensus has stopped by itself: the node can serve nothing any more.
pub(crate) async fn fatal(core: Arc<Core>) {
    let mut metrics = core.raft.metrics();
    loop {
        let state = metrics.borrow_and_update().running_state.clone();
        let reported = match state {
            Ok(()) => None,
            Err(error) => Some(error.to_string()),
        };
        if let Some(reported) = reported {
            return report(&core, &reported);
        }
        tokio::select! {
            changed = metrics.changed() => if changed.is_err() {
                return report(&core, "its task has ended");
            },
            () = core.stop.cancelled() => return,
        }
    }
}

fn report(core: &Core, reported: &str) {
    if core.stop.is_cancelled() {
        return;
    }
    let fatal = core.faults.fatal(&reported);
    tracing::error!(node = fatal.node, group = fatal.group, folder = %fatal.folder, problem = %fatal.problem, "the replica failed");
    core.queue.close();
    (core.options.on_fatal)(&fatal);
}

/// Asks for snapshots by entries and bytes, and for purges that leave a bounded tail of the log.
///
/// The tail is what lets a node that was away shortly catch up without a snapshot.
pub(crate) async fn keep_log_short(core: Arc<Core>) {
    let (mut applied, mut metrics) = (core.board.applied.subscribe(), core.raft.data_metrics());
    let sizes = core.log.sizes();
    // A snapshot was asked for at this index; none is asked for again before as much has come on top.
    let (mut asked, mut purged_for) = (0, 0);
    loop {
        let at = applied.borrow_and_update().index;
        let (snapshot, purged) = {
            let metrics = metrics.borrow_and_update();
            (
                metrics.snapshot.map_or(0, |id| id.index()),
                metrics.purged.map_or(0, |id| id.index()),
            )
        };
        let since = snapshot.max(asked);
        if at >= since + core.options.snapshot_entries || sizes.bytes_after(since) >= core.options.snapshot_bytes {
            asked = at;
            if core.raft.trigger().snapshot().await.is_err() {
                return;
            }
        }
        let upto = snapshot.saturating_sub(core.options.log_keep_entries).max(
            sizes
                .first_within(snapshot, core.options.log_keep_bytes)
                .saturating_sub(1),
        );
        // Once per snapshot: each purge is a write in the way of the log.
        let due = upto > purged && std::mem::replace(&mut purged_for, snapshot) != snapshot;
        if due && core.raft.trigger().purge_log(upto.min(snapshot)).await.is_err() {
            return;
        }
        tokio::select! {
            changed = applied.changed() => if changed.is_err() { return },
            changed = metrics.changed() => if changed.is_err() { return },
            () = core.stop.cancelled() => return,
        }
    }
}
