//! What every part of the node has in common.

pub(crate) use crate::aside::aside;
use crate::channels::Channels;
use crate::clock::Clock;
use crate::config::Config;
use crate::counters::Counters;
use crate::disk::Disk;
use crate::leader::Terms;
use crate::state;
use crate::waits::Waits;
use crate::worker::executors::{MAIL_TIMEOUT_DEFAULT, MailOptions};
use crate::zones::SystemZones;
use sched_core::command::{Item, Reject, Reply};
use sched_core::limits::REQUEST_TTL_MS;
use sched_core::{Fault, NodeId, Timestamp};
use sched_proto::v1;
use sched_raft::{Formation, Origin, ProposeError, Replica, Role};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// For the clocks of a majority to be compared after an election; tried every 200 ms. Less than a client waits for an answer (1.5 s): its
/// user is told why.
const CONFIRM_PATIENCE: Duration = Duration::from_secs(1);

/// Handles and counters shared by the duties and the APIs.
pub(crate) struct Shared {
    pub(crate) config: Config,
    pub(crate) replica: Replica,
    pub(crate) clock: Arc<Clock>,
    pub(crate) zones: Arc<SystemZones>,
    pub(crate) counters: Counters,
    /// The data folder's disk.
    pub(crate) disk: Disk,
    /// Connections to the other nodes' client ports.
    pub(crate) channels: Channels,
    /// The term this node leads, if it does.
    pub(crate) terms: Terms,
    /// Who waits for a task or run.
    pub(crate) waits: Arc<Waits>,
    /// Cancelled when the node begins to stop: whoever waits here goes elsewhere.
    pub(crate) stopping: CancellationToken,
    /// What is wrong with this node's own worker.
    pub(crate) worker_fault: WorkerFault,
}

/// Why this node's own worker takes no runs, while it does not.
#[derive(Debug, Default)]
pub(crate) struct WorkerFault(Mutex<Option<String>>);

impl WorkerFault {
    /// Notes what is wrong and what to do. It stays so until the node is started again.
    pub(crate) fn set(&self, reason: String) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(reason);
    }

    /// Returns what is wrong.
    pub(crate) fn get(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn unconfirmed() -> Reject {
    Reject::Overloaded {
        what: "the clocks of a majority of nodes do not confirm the leader's".to_owned(),
        retry_after_ms: 500,
    }
}

impl Shared {
    /// Proposes commands of clients.
    ///
    /// Until the clocks of a majority confirm leader time, the state's time stands still. While that is recent it does no harm; after a
    /// long standstill request keys would seem to come from the future, so that calls wait, and then are refused for the moment.
    pub(crate) async fn propose(&self, origin: Origin, items: Vec<Item>) -> Vec<Result<Reply, ProposeError>> {
        let mut confirmed = self.clock.confirmed();
        // Whether this node leads is not asked: a leader takes proposals a moment before its duties begin.
        let held = !*confirmed.borrow_and_update() && self.stands_still();
        if held && timeout(CONFIRM_PATIENCE, confirmed.wait_for(|yes| *yes)).await.is_err() {
            return vec![Err(ProposeError::Reject(unconfirmed())); items.len()];
        }
        self.replica.propose(origin, items).await
    }

    /// Returns leader time for what is computed from it and stays, as a first run time: a majority's clocks confirm it.
    ///
    /// # Errors
    /// They do not, within the patience of a call; or another node leads by now, and nobody will ask them.
    pub(crate) async fn leader_time(&self) -> Result<Timestamp, Reject> {
        let (mut confirmed, mut roles) = (self.clock.confirmed(), self.replica.roles());
        let this = self.replica.node();
        let deposed = |role: &Role| role.leader.as_ref().is_some_and(|leader| leader.node != this);
        tokio::select! {
            biased;
            yes = timeout(CONFIRM_PATIENCE, confirmed.wait_for(|yes| *yes)) => match yes {
                Ok(_) => Ok(self.clock.now()),
                Err(_) => Err(unconfirmed()),
            },
            _ = roles.wait_for(deposed) => Err(Reject::Overloaded {
                what: "another node leads by now".to_owned(),
                retry_after_ms: 1,
            }),
        }
    }

    fn stands_still(&self) -> bool {
        far_apart(self.clock.now(), state::meta(&self.replica.view()).or_stop().now)
    }

    /// Returns what is wrong with this node's own worker.
    pub(crate) fn worker_fault(&self) -> Option<v1::WorkerFault> {
        let worker = self.config.name.clone();
        let reason = self.worker_fault.get()?;
        Some(v1::WorkerFault { worker, reason })
    }

    /// Returns where clients reach the leader. This node names itself as it is configured now: the membership may still have an older
    /// address.
    pub(crate) fn leader_address(&self) -> Option<String> {
        let leader = self.replica.roles().borrow().leader.clone()?;
        Some(if leader.node == self.replica.node() {
            self.config.advertise.clone()
        } else {
            leader.client_address
        })
    }

    /// Returns what mails are sent with, by this node's worker and by the leader.
    pub(crate) fn mail_options(&self) -> MailOptions {
        let formation = self.replica.formation();
        MailOptions {
            relay: self.config.mail_relay(),
            from: self.config.mail_from(),
            timeout: MAIL_TIMEOUT_DEFAULT,
            cluster: Arc::new(move || cluster_of(&formation.borrow())),
        }
    }

    /// Returns where clients reach the leader, when that is another node, and one that knows this node.
    pub(crate) fn leader_elsewhere(&self) -> Option<String> {
        let leader = self.replica.roles().borrow().leader.clone()?;
        let elsewhere = leader.node != self.replica.node() && !self.is_refused_by(leader.node);
        elsewhere.then_some(leader.client_address)
    }

    /// Whether a member refuses this node's messages. At the address of a leader that is only remembered, another cluster may be.
    pub(crate) fn is_refused_by(&self, node: NodeId) -> bool {
        let members = self.replica.members();
        members
            .iter()
            .any(|member| member.node == node && member.refuses.is_some())
    }
}

/// Whether leader time and the state's are too far apart for a call, either way: a leader whose clock is years behind would resolve
/// "in 2 s" to a time that has long passed.
fn far_apart(leader: Timestamp, state: Timestamp) -> bool {
    let ahead_ms = leader.as_millis().saturating_sub(state.as_millis());
    ahead_ms.saturating_abs() > REQUEST_TTL_MS
}

/// Returns the cluster's id in hexadecimal digits; nothing before it has formed.
pub(crate) fn cluster_of(formation: &Formation) -> String {
    match formation {
        Formation::Formed { cluster } => cluster.iter().map(|byte| format!("{byte:02x}")).collect(),
        Formation::Forming { .. } | Formation::Refused { .. } => String::new(),
    }
}

/// Ends the process: the tables of this node are damaged or cannot be read, so that it can answer nothing any more. Its peers have
/// everything it has acknowledged.
pub(crate) fn stop_on_fault(fault: &Fault) -> ! {
    tracing::error!(error = %fault, "the state tables cannot be used");
    eprintln!(
        "schednode: {fault}; this node stops. Keep its data folder for analysis, start it with an empty one and add it to the \
         cluster as a new member; the other members hold all acknowledged data"
    );
    std::process::exit(sched_raft::FATAL_EXIT_CODE)
}

/// Returns the value; a fault ends the process.
pub(crate) trait OrStop<T> {
    /// See [`stop_on_fault`].
    fn or_stop(self) -> T;
}

impl<T> OrStop<T> for Result<T, Fault> {
    fn or_stop(self) -> T {
        match self {
            Ok(value) => value,
            Err(fault) => stop_on_fault(&fault),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leader_whose_clock_is_far_off_either_way_answers_no_call_before_others_confirm_it() {
        let state = Timestamp::from_millis(1_800_000_000_000);
        for (ahead_ms, expected) in [
            (0, false),
            (REQUEST_TTL_MS, false),
            (-REQUEST_TTL_MS, false),
            (REQUEST_TTL_MS + 1, true),
            (-REQUEST_TTL_MS - 1, true),
            (-94_608_000_000, true),
        ] {
            assert_eq!(far_apart(state.plus_millis(ahead_ms), state), expected, "{ahead_ms}");
        }
        assert!(far_apart(Timestamp::MIN, Timestamp::MAX));
    }
}
