//! The facade: one replica of the log and of the tables.

use crate::error::{ProposeError, RaftError};
use crate::options::Options;
use crate::role::{Formation, Member, Metrics, Role};
use sched_core::command::{Effect, Item, Reply};
use sched_core::NodeId;
use sched_storage::{DataDir, SnapshotInfo, StateView};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{broadcast, watch};

/// One replica of the log and of the tables. Clones share it.
#[derive(Clone)]
pub struct Replica {
    inner: Arc<Inner>,
}

struct Inner {
    roles: watch::Receiver<Role>,
    formation: watch::Receiver<Formation>,
    effects: broadcast::Sender<Arc<[Effect]>>,
    view: Box<dyn Fn() -> StateView + Send + Sync>,
}

impl Replica {
    /// Opens the log and the tables of group 0 and serves peers; then, in the background, forms the cluster, joins one or rejoins.
    ///
    /// Returns before the cluster is formed, so that a node can already tell how it is: see [`formation`](Self::formation) and [`roles`](Self::roles).
    ///
    /// # Errors
    /// An option is not acceptable, the data folder cannot be used, or peers cannot be served.
    pub async fn start(_data: DataDir, _options: Options) -> Result<Self, RaftError> {
        Err(RaftError::Stopped("not started".to_owned()))
    }

    /// Returns the number of this node, made with its data folder.
    pub fn node(&self) -> NodeId {
        NodeId(0)
    }

    /// Proposes commands of clients and waits until they are applied here. One result per item, in order.
    ///
    /// All waiting commands of all callers share entries of the log. Each item is carried out or refused on its own.
    pub async fn propose(&self, items: Vec<Item>) -> Vec<Result<Reply, ProposeError>> {
        items.into_iter().map(|_| Err(ProposeError::Stopped)).collect()
    }

    /// Proposes the leader's own commands (fire, assign, complete, sessions): ahead of all waiting clients, so that these cannot starve them.
    pub async fn propose_internal(&self, items: Vec<Item>) -> Vec<Result<Reply, ProposeError>> {
        items.into_iter().map(|_| Err(ProposeError::Stopped)).collect()
    }

    /// Returns once this node's tables hold everything that was acknowledged, by any node, before the call.
    ///
    /// On the leader this costs a round to a quorum, shared by all that wait; on a follower the leader is asked.
    ///
    /// # Errors
    /// There is no leader, or it could not make sure in time that it still is one.
    pub async fn read_barrier(&self) -> Result<(), ProposeError> {
        Err(ProposeError::Stopped)
    }

    /// Returns the tables of this node at this moment; what they lack is what was not yet applied here.
    pub fn view(&self) -> StateView {
        (self.inner.view)()
    }

    /// Returns who leads, now and at each change.
    pub fn roles(&self) -> watch::Receiver<Role> {
        self.inner.roles.clone()
    }

    /// Returns how far the forming of the cluster has come, now and at each change.
    pub fn formation(&self) -> watch::Receiver<Formation> {
        self.inner.formation.clone()
    }

    /// Waits until the node belongs to a cluster.
    ///
    /// # Errors
    /// The forming was refused, the replica stopped, or the time is over.
    pub async fn wait_formed(&self, timeout: Duration) -> Result<(), RaftError> {
        Err(RaftError::Timeout { what: "forming the cluster", after_ms: timeout.as_millis() as u64 })
    }

    /// Returns the members of the cluster, as far as this node has applied the log.
    pub fn members(&self) -> Vec<Member> {
        Vec::new()
    }

    /// Returns counters for the metrics page.
    pub fn metrics(&self) -> Metrics {
        Metrics::default()
    }

    /// Returns the hints of every batch applied on this node from now on. A receiver that is too slow misses some: they are only hints.
    pub fn effects(&self) -> broadcast::Receiver<Arc<[Effect]>> {
        self.inner.effects.subscribe()
    }

    /// Makes another voter the leader, when this node leads; for a stop that nobody notices.
    ///
    /// # Errors
    /// No voter took over within `timeout`.
    pub async fn hand_over(&self, timeout: Duration) -> Result<(), RaftError> {
        Err(RaftError::Timeout { what: "handing over the leadership", after_ms: timeout.as_millis() as u64 })
    }

    /// Adds a node that receives the log but does not vote.
    ///
    /// The address is dialled first and must prove to be that node.
    ///
    /// # Errors
    /// This node does not lead, the address is another node's, or the change was not committed.
    pub async fn add_learner(&self, _node: NodeId, _peer_address: String) -> Result<(), RaftError> {
        Err(RaftError::Stopped("not started".to_owned()))
    }

    /// Makes exactly these members the voters; each must be a member already. Former voters stay as learners.
    ///
    /// # Errors
    /// This node does not lead, a node is no member or too far behind, or the change was not committed.
    pub async fn change_voters(&self, _voters: Vec<NodeId>) -> Result<(), RaftError> {
        Err(RaftError::Stopped("not started".to_owned()))
    }

    /// Takes a node out of the cluster, for ever: its number is not used again.
    ///
    /// # Errors
    /// This node does not lead, the node is no member or the last voter, or the change was not committed.
    pub async fn remove(&self, _node: NodeId) -> Result<(), RaftError> {
        Err(RaftError::Stopped("not started".to_owned()))
    }

    /// Builds a snapshot now and returns it; the log behind it may then be purged.
    ///
    /// # Errors
    /// The replica stopped.
    pub async fn snapshot_now(&self) -> Result<Option<SnapshotInfo>, RaftError> {
        Err(RaftError::Stopped("not started".to_owned()))
    }

    /// Stops taking proposals, answers those in flight, stops serving peers and closes the log.
    pub async fn shutdown(&self) {}
}
