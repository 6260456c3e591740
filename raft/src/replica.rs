//! The facade: one replica of the log and of the tables.

use crate::core::{Core, Raft};
use crate::error::{ProposeError, RaftError};
use crate::fault::FaultCell;
use crate::log::Log;
use crate::machine::Machine;
use crate::net::client::Factory;
use crate::net::peers::Peers;
use crate::net::refusals::Hush;
use crate::net::service::Service;
use crate::options::Options;
use crate::proposer::{self, Lane, Origin, Queue};
use crate::reads::{self, Reads, Rounds};
use crate::role::{Formation, Member, Metrics, Role};
use crate::runtime::blocking;
use crate::shared::Board;
use crate::transport::{self, Dialer};
use crate::{formation, join, transfer, watch as watching};
use openraft::async_runtime::watch::WatchReceiver;
use openraft::{Config, Instant as _, SnapshotPolicy, StepDownPolicy};
use sched_core::NodeId;
use sched_core::command::{Effect, Item, Reply};
use sched_storage::{DataDir, Group, SnapshotInfo, StateView, StorageError};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::{broadcast, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// The one group there is today.
const GROUP: u32 = 0;
/// How long the tasks of a replica may take to end when it is shut down.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(10);

/// One replica of the log and of the tables. Clones share it.
#[derive(Clone)]
pub struct Replica {
    core: Arc<Core>,
}

impl Replica {
    /// Opens the log and the tables of group 0 and serves peers; then, in the background, forms the cluster, joins one or rejoins.
    ///
    /// Returns before the cluster is formed, so that a node can already tell how it is: see [`formation`](Self::formation)
    /// and [`roles`](Self::roles).
    ///
    /// # Errors
    /// An option is not acceptable, the data folder cannot be used, or peers cannot be served.
    pub async fn start(data: DataDir, options: Options) -> Result<Self, RaftError> {
        options.validate()?;
        let listener = transport::open(&options.peer_listener).map_err(|source| RaftError::Listen {
            address: options.peer_advertise.clone(),
            source,
        })?;
        let opened = data.clone();
        let group = blocking(move || {
            let group = opened.group(GROUP)?;
            cover(&group)?;
            Ok::<_, StorageError>(group)
        })
        .await;
        let group = group.map_err(|e| RaftError::Stopped(e.to_string()))??;
        let (core, rounds) = build(data, group, options).await?;
        formation::load(&core)?;
        let service = Service::new(&core);
        core.tasks.spawn(transport::serve(listener, service, core.stop.clone()));
        core.tasks.spawn(watching::fatal(core.clone()));
        core.tasks.spawn(watching::roles(core.clone()));
        core.tasks.spawn(watching::keep_log_short(core.clone()));
        core.tasks.spawn(proposer::run(core.clone()));
        rounds.start(&core);
        core.tasks.spawn(formation::run(core.clone()));
        Ok(Self { core })
    }

    /// Returns the number of this node, made with its data folder.
    pub fn node(&self) -> NodeId {
        NodeId(self.core.node)
    }

    /// Proposes commands of clients and waits until they are applied here. One result per item, in order.
    ///
    /// All waiting commands of all callers share entries of the log. Each item is carried out or refused on its own.
    /// Dropping the future gives up waiting, nothing more: commands that were proposed are carried out.
    /// Origins take turns: see [`Origin`].
    pub async fn propose(&self, origin: Origin, items: Vec<Item>) -> Vec<Result<Reply, ProposeError>> {
        proposer::propose(&self.core, Lane::Client(origin), items).await
    }

    /// Proposes the leader's own commands (fire, assign, complete, sessions): ahead of all waiting clients, so that these
    /// cannot starve them.
    pub async fn propose_internal(&self, items: Vec<Item>) -> Vec<Result<Reply, ProposeError>> {
        proposer::propose(&self.core, Lane::Internal, items).await
    }

    /// Returns once this node's tables hold everything that was acknowledged, by any node, before the call.
    ///
    /// On the leader this costs a round to a quorum, shared by all that wait; on a follower the leader is asked. That round
    /// begins after the call, so its end also proves that the leader was not deposed before the call.
    ///
    /// # Errors
    /// There is no leader, or it could not make sure in time that it still is one.
    pub async fn read_barrier(&self) -> Result<(), ProposeError> {
        reads::barrier(&self.core).await
    }

    /// Returns once a quorum has confirmed, in a round that began after the call, that this node leads. The tables may lag behind.
    ///
    /// # Errors
    /// It does not lead, or could not make sure in time that it still does.
    pub async fn confirm_leadership(&self) -> Result<(), ProposeError> {
        reads::confirm_leadership(&self.core).await
    }

    /// Returns the tables of this node at this moment; what they lack is what was not yet applied here.
    pub fn view(&self) -> StateView {
        self.core.state.view()
    }

    /// Returns who leads, now and at each change.
    pub fn roles(&self) -> watch::Receiver<Role> {
        self.core.roles.subscribe()
    }

    /// Returns how far the forming of the cluster has come, now and at each change.
    pub fn formation(&self) -> watch::Receiver<Formation> {
        self.core.formation.subscribe()
    }

    /// Waits until the node belongs to a cluster.
    ///
    /// # Errors
    /// The forming was refused, the replica stopped, or the time is over.
    pub async fn wait_formed(&self, timeout: Duration) -> Result<(), RaftError> {
        let mut formation = self.core.formation.subscribe();
        let ended = formation.wait_for(|formation| !matches!(formation, Formation::Forming { .. }));
        tokio::select! {
            ended = ended => match ended.as_deref() {
                Ok(Formation::Refused { reason }) => Err(RaftError::Formation(reason.clone())),
                Ok(_) => Ok(()),
                Err(_) => Err(stopped()),
            },
            () = self.core.stop.cancelled() => Err(stopped()),
            () = tokio::time::sleep(timeout) => {
                Err(RaftError::Timeout { what: "forming the cluster", after_ms: timeout.as_millis() as u64 })
            }
        }
    }

    /// Returns the members of the cluster, as this node knows them.
    pub fn members(&self) -> Vec<Member> {
        members(&self.core)
    }

    /// Returns counters for the metrics page.
    pub fn metrics(&self) -> Metrics {
        metrics(&self.core)
    }

    /// Returns the hints of every batch applied on this node from now on. A receiver that is too slow misses some: they are
    /// only hints.
    pub fn effects(&self) -> broadcast::Receiver<Arc<[Effect]>> {
        self.core.board.effects.subscribe()
    }

    /// Makes another voter the leader, when this node leads; for a stop that nobody notices.
    ///
    /// # Errors
    /// No voter took over within `timeout`.
    pub async fn hand_over(&self, timeout: Duration) -> Result<(), RaftError> {
        transfer::hand_over(&self.core, timeout).await
    }

    /// Adds a node that receives the log but does not vote, or tells where a member is now.
    ///
    /// The address is dialled first and must prove to be that node's.
    ///
    /// # Errors
    /// This node does not lead, the address is another node's, or the change was not committed.
    pub async fn add_learner(&self, node: NodeId, peer_address: String) -> Result<(), RaftError> {
        join::add_learner(&self.core, node, &peer_address).await
    }

    /// Makes exactly these members the voters; each must be a member already. Former voters stay as learners.
    ///
    /// # Errors
    /// This node does not lead, a node is no member, or the change was not committed.
    pub async fn change_voters(&self, voters: Vec<NodeId>) -> Result<(), RaftError> {
        join::change_voters(&self.core, &voters).await
    }

    /// Takes a node out of the cluster, for ever: its number is not used again.
    ///
    /// # Errors
    /// This node does not lead, the node is no member or the only voter, or the change was not committed.
    pub async fn remove(&self, node: NodeId) -> Result<(), RaftError> {
        join::remove(&self.core, node).await
    }

    /// Builds a snapshot of everything applied by now and returns it; the log behind it may then be purged.
    ///
    /// Returns nothing when nothing was applied yet.
    ///
    /// # Errors
    /// The replica stopped.
    pub async fn snapshot_now(&self) -> Result<Option<SnapshotInfo>, RaftError> {
        let applied = self.core.board.applied().index;
        if applied == 0 {
            return Ok(None);
        }
        let mut metrics = self.core.raft.data_metrics();
        loop {
            if metrics
                .borrow_and_update()
                .snapshot
                .is_some_and(|id| id.index() >= applied)
            {
                return Ok(self.core.snapshots.newest());
            }
            // Asked again when one that was under way turns out to be older.
            self.core
                .raft
                .trigger()
                .snapshot()
                .await
                .map_err(|e| RaftError::Stopped(e.to_string()))?;
            let before = metrics.borrow_watched().snapshot;
            while metrics.borrow_and_update().snapshot == before {
                metrics.changed().await.map_err(|_| stopped())?;
            }
        }
    }

    /// Stops taking proposals, answers those that wait, stops serving peers and closes log and tables.
    ///
    /// The data folder is free again when all clones of this replica and all views are dropped.
    pub async fn shutdown(&self) {
        self.core.queue.close();
        self.core.stop.cancel();
        if let Err(error) = self.core.raft.shutdown().await {
            tracing::error!(node = self.core.node, %error, "consensus did not end by itself");
        }
        self.core.tasks.close();
        if tokio::time::timeout(SHUTDOWN_TIMEOUT, self.core.tasks.wait())
            .await
            .is_err()
        {
            tracing::error!(
                node = self.core.node,
                tasks = self.core.tasks.len(),
                "tasks did not end in time"
            );
        }
    }
}

#[cfg(test)]
impl Replica {
    /// Lets tests look inside.
    pub(crate) fn core(&self) -> &Arc<Core> {
        &self.core
    }
}

impl std::fmt::Debug for Replica {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Replica")
            .field("node", &self.core.node)
            .finish_non_exhaustive()
    }
}

fn stopped() -> RaftError {
    RaftError::Stopped("it was told to".to_owned())
}

/// Makes a snapshot of tables that are ahead of the log.
///
/// A leader applies what the others have synced, before its own disk is done: a power cut may take the end of its log and leave it in the
/// tables. Consensus then begins the log behind them, which it may only with a snapshot that reaches as far.
fn cover(group: &Group) -> Result<(), StorageError> {
    let last = group.log.last_entry()?.map(|(index, _)| index);
    let last = last.max(group.log.read_purged()?.map(|purged| purged.index));
    let applied = group.state.applied()?.index();
    if applied > last && group.snapshots.newest().and_then(|info| info.applied.index()) < applied {
        let info = group.snapshots.build()?;
        tracing::warn!(snapshot = %info.id, ?applied, ?last, "the log ends before the tables do: they are kept as a snapshot");
    }
    Ok(())
}

async fn build(data: DataDir, group: Group, options: Options) -> Result<(Arc<Core>, Rounds), RaftError> {
    let identity = data.identity();
    let node = identity.node.0;
    let faults = FaultCell::new(node, GROUP, data.path().display().to_string());
    let board = Board::new();
    let broken = |e: &dyn std::fmt::Display| {
        let fatal = faults.fatal(e);
        RaftError::Data {
            path: fatal.folder,
            problem: fatal.problem,
            advice: fatal.advice,
        }
    };
    let log = Log::new(group.log.clone(), faults.clone());
    let machine = Machine::open(
        group.state.clone(),
        group.snapshots.clone(),
        board.clone(),
        faults.clone(),
    );
    let machine = machine.map_err(|e| broken(&e))?;
    let peers = Peers::new(node, GROUP, identity.cluster, Dialer::of(&options.peer_listener));
    let factory = Factory {
        peers: peers.clone(),
        counters: board.counters.clone(),
    };
    let config = config(&options)?;
    let raft = Raft::new(node, Arc::new(config), factory, log.clone(), machine)
        .await
        .map_err(|e| broken(&e))?;
    let (reads, rounds) = Reads::new();
    let formation = match identity.cluster {
        Some(cluster) => Formation::Formed { cluster },
        None => Formation::Forming { waiting: Vec::new() },
    };
    let core = Core {
        node,
        queue: Queue::new(&options),
        options,
        data,
        raft,
        log,
        log_store: group.log,
        state: group.state,
        snapshots: group.snapshots,
        peers,
        board,
        reads,
        roles: watch::Sender::new(Role::default()),
        formation: watch::Sender::new(formation),
        agreed: Mutex::new(None),
        faults: faults.clone(),
        refused: Hush::default(),
        stop: CancellationToken::new(),
        tasks: TaskTracker::new(),
    };
    Ok((Arc::new(core), rounds))
}

fn config(options: &Options) -> Result<Config, RaftError> {
    let config = Config {
        cluster_name: "sched".to_owned(),
        heartbeat_interval: options.heartbeat_ms,
        election_timeout_min: options.election_timeout_ms_min,
        election_timeout_max: options.election_timeout_ms_max,
        // Snapshots and purges go by bytes as well as by entries: see `watch::keep_log_short`.
        snapshot_policy: SnapshotPolicy::Never,
        max_in_snapshot_log_to_keep: u64::MAX,
        // A follower gets a snapshot when the log it needs is gone, not because it is behind.
        replication_lag_threshold: u64::MAX,
        max_payload_entries: 256,
        backoff: "50ms 100ms 200ms ...500ms".to_owned(),
        enable_pre_vote: Some(true),
        // A leader that hears of no quorum falls silent, so that those who hear it but are not heard can elect another.
        quorum_loss_probe_interval: Some(2 * options.election_timeout_ms_max),
        // A restarted node waits for the next election: it must not lead on under a lease it has forgotten.
        enable_leader_restore: Some(false),
        removed_leader_step_down: StepDownPolicy::After(options.heartbeat_ms * 2),
        ..Config::default()
    };
    config.validate().map_err(|e| RaftError::Option {
        option: "timing",
        problem: e.to_string(),
    })
}

fn members(core: &Core) -> Vec<Member> {
    let metrics = core.raft.metrics();
    let metrics = metrics.borrow_watched();
    let membership = &metrics.membership_config;
    let voters: std::collections::BTreeSet<u64> = membership.voter_ids().collect();
    let alive = Duration::from_millis(core.options.election_timeout_ms_max);
    let member = |(node, place): (&u64, &crate::types::Place)| {
        let heard = metrics.heartbeat.as_ref().and_then(|heard| heard.get(node));
        let matched = metrics.replication.as_ref().and_then(|matched| matched.get(node));
        let own = *node == core.node;
        let reachable = heard.map(|at| at.as_ref().is_some_and(|at| at.elapsed() < alive));
        let last = metrics.last_log_index.map_or(0, |last| last + 1);
        Member {
            node: NodeId(*node),
            peer_address: place.peer_address.clone(),
            client_address: place.client_address.clone(),
            voter: voters.contains(node),
            reachable: if own { Some(true) } else { reachable },
            lag_entries: matched.map(|id| last.saturating_sub(id.map_or(0, |id| id.index() + 1))),
            refuses: core.peers.refusals.of(*node),
        }
    };
    membership.nodes().map(member).collect()
}

fn metrics(core: &Core) -> Metrics {
    let raft = core.raft.metrics();
    let raft = raft.borrow_watched();
    let index = |id: &Option<crate::types::LogId>| id.map_or(0, |id| id.index());
    let role = core.roles.borrow();
    let log = core.log_store.stats();
    let mut metrics = Metrics {
        term: raft.current_term,
        leading: role.leading,
        last_log_index: raft.last_log_index.unwrap_or(0),
        committed_index: index(&raft.cluster_committed),
        applied_index: core.board.applied().index,
        snapshot_index: index(&raft.snapshot),
        purged_index: index(&raft.purged),
        quorum_age_ms: raft
            .last_quorum_acked
            .as_ref()
            .map(|at| at.elapsed().as_millis() as u64),
        waiting_items: core.queue.waiting() as u64,
        log_syncs: log.syncs,
        log_sync_ns: log.write_ns,
        ..Metrics::default()
    };
    core.board.counters.fill(&mut metrics);
    metrics
}
