//! Leases: a sign of life counts once a quorum has confirmed that this node still leads; a session without one ends.

use super::hub::LEASE;
use super::{RETRY, Term, propose_one};
use crate::clock;
use crate::shared::{OrStop, Shared};
use crate::state;
use sched_core::command::{Command, Reject, Reply};
use sched_core::ids::{SessionId, Token};
use sched_raft::ProposeError;
use std::sync::Arc;

/// Confirms signs of life. The round to a quorum begins after their receipt and serves all workers, so that a deposed leader extends no
/// lease.
pub(super) async fn confirm_heartbeats(shared: Arc<Shared>, term: Arc<Term>) {
    loop {
        term.hub.beat.notified().await;
        let beats = term.hub.take_beats();
        if beats.is_empty() {
            continue;
        }
        // Only whether it leads is asked: tables that lag behind say nothing against a worker.
        match shared.replica.confirm_leadership().await {
            Ok(()) => term.hub.confirm(beats),
            // Not confirmed, not acknowledged: the workers' next ones are tried again.
            Err(e) => {
                tracing::warn!(error = %e, term = term.number, "heartbeats not confirmed");
                tokio::time::sleep(RETRY).await;
            }
        }
    }
}

/// Ends the sessions whose lease is over.
pub(super) async fn expire_sessions(shared: Arc<Shared>, term: Arc<Term>) {
    loop {
        // Leases are only ever extended, and a new session's is the longest: nothing ends earlier than the first deadline seen here.
        let wait = term
            .hub
            .first_deadline()
            .map(|deadline| deadline.saturating_sub(clock::boot()))
            .unwrap_or(LEASE);
        tokio::time::sleep(wait).await;
        for (session, bound, worker) in term.hub.expired(clock::boot()) {
            tracing::warn!(%session, worker, term = term.number, "lease of a worker is over");
            if !expire(&shared, session, bound).await {
                // It was opened again in between. The connection that did so gives it its lease, or broke before it could.
                if let Some(opened) = state::session(&shared.replica.view(), session).or_stop() {
                    term.hub.opened_again(session, opened.bound);
                }
                continue;
            }
            shared.counters.sessions_expired.add(1);
            term.hub
                .remove(session, "the lease was over: no heartbeat was confirmed in time");
            term.dispatch.notify_one();
        }
    }
}

/// Returns whether the session is over.
async fn expire(shared: &Shared, session: SessionId, bound: Token) -> bool {
    loop {
        match propose_one(shared, Command::SessionExpire { session, bound }).await {
            Ok(Reply::Count { more: true, .. }) => {}
            Ok(_) | Err(ProposeError::Reject(Reject::NoSession { .. })) => return true,
            Err(ProposeError::Reject(_)) => return false,
            Err(e) => {
                tracing::warn!(error = %e, %session, "session not expired, trying again");
                tokio::time::sleep(RETRY).await;
            }
        }
    }
}
