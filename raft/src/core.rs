//! What the tasks of one replica share.

use crate::fault::FaultCell;
use crate::formation::Agreement;
use crate::log::Log;
use crate::machine::Machine;
use crate::net::peers::Peers;
use crate::net::refusals::Hush;
use crate::options::Options;
use crate::proposer::Queue;
use crate::reads::Reads;
use crate::role::{Formation, Leader, Role};
use crate::shared::Board;
use crate::types::{Place, StoredMembership, TypeConfig};
use openraft::async_runtime::watch::WatchReceiver;
use sched_core::NodeId;
use sched_storage::{DataDir, LogStore, Snapshots, StateStore};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub(crate) type Raft = openraft::Raft<TypeConfig, Machine>;

/// The one group of a running replica.
pub(crate) struct Core {
    pub(crate) node: u64,
    pub(crate) options: Options,
    pub(crate) data: DataDir,
    pub(crate) raft: Raft,
    pub(crate) log: Log,
    pub(crate) log_store: LogStore,
    pub(crate) state: StateStore,
    pub(crate) snapshots: Snapshots,
    pub(crate) peers: Arc<Peers>,
    pub(crate) board: Board,
    pub(crate) queue: Queue,
    pub(crate) reads: Reads,
    pub(crate) roles: watch::Sender<Role>,
    pub(crate) formation: watch::Sender<Formation>,
    /// What the initial members have agreed on here, durably, while the cluster forms.
    pub(crate) agreed: Mutex<Option<Agreement>>,
    pub(crate) faults: FaultCell,
    /// Whose messages were refused, and when that was said.
    pub(crate) refused: Hush,
    pub(crate) stop: CancellationToken,
    pub(crate) tasks: TaskTracker,
}

impl Core {
    /// Returns the membership in effect here, committed or not.
    pub(crate) fn membership(&self) -> Arc<StoredMembership> {
        self.raft.server_metrics().borrow_watched().membership_config.clone()
    }

    /// Returns the places of all members.
    pub(crate) fn places(&self) -> BTreeMap<u64, Place> {
        self.membership()
            .nodes()
            .map(|(node, place)| (*node, place.clone()))
            .collect()
    }

    /// Returns where this node wants to be reached.
    pub(crate) fn own_place(&self) -> Place {
        Place {
            peer_address: self.options.peer_advertise.clone(),
            client_address: self.options.client_advertise.clone(),
        }
    }

    /// Returns who leads, as far as this node knows.
    pub(crate) fn leader(&self) -> Option<Leader> {
        self.roles.borrow().leader.clone()
    }

    /// Whether this node is the leader, ready for duties or not.
    pub(crate) fn is_leader(&self) -> bool {
        self.leader().is_some_and(|leader| leader.node == NodeId(self.node))
    }
}
