//! The whole node: opened, started, stopped.

use crate::api;
use crate::channels::Channels;
use crate::clock::Clock;
use crate::config::Config;
use crate::counters::Counters;
use crate::disk::{self, Disk};
use crate::embedded::Embedded;
use crate::leader::{self, Terms};
use crate::shared::{Shared, WorkerFault};
use crate::waits::Waits;
use crate::worker::journal::JournalError;
use crate::worker::{WorkerError, supervisor};
use crate::zones::SystemZones;
use sched_core::NodeId;
use sched_raft::{Options, RaftError, Replica};
use sched_storage::{DataDir, StorageError};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// For another node to take over the leadership.
const HAND_OVER_TIMEOUT: Duration = Duration::from_secs(2);
/// For runs of this node's worker to end by themselves.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);
/// For calls in progress to be answered.
const SERVE_TIMEOUT: Duration = Duration::from_secs(2);
/// For the log to be closed.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(10);

/// Why a node did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An address could not be bound.
    #[error("{setting} = {address}: {source}; is another node running there? Stop it, or choose another port")]
    Bind {
        /// Which setting.
        setting: &'static str,
        /// Which address.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The data folder could not be used.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The log could not be started.
    #[error(transparent)]
    Raft(#[from] RaftError),
    /// A new node does not know what to belong to.
    #[error(
        "{data_dir} belongs to no cluster yet, and neither initial_cluster nor join is set: give every initial member the same \
         --initial-cluster HOST:PORT,… (a single node: its own peer address), or --join HOST:PORT for an existing cluster"
    )]
    NoCluster {
        /// The data folder.
        data_dir: String,
    },
    /// The worker could not be started.
    #[error("worker: {0}")]
    Worker(#[from] WorkerError),
}

/// The bound ports of a node.
#[derive(Debug)]
pub struct Listeners {
    client: TcpListener,
    peers: TcpListener,
}

impl Listeners {
    /// Binds both ports, and notes in the configuration what the system chose for port 0.
    ///
    /// # Errors
    /// A port is taken, or an address is not this machine's.
    pub fn bind(config: &mut Config) -> Result<Self, StartError> {
        let bind = |setting, address| {
            TcpListener::bind(address).map_err(|source| StartError::Bind {
                setting,
                address,
                source,
            })
        };
        let client = bind("listen", config.listen)?;
        let peers = bind("peer_listen", config.peer_listen)?;
        Self::bound(config, client, peers)
    }

    /// Takes ports that the caller has bound already, for a node that must know its own address before it is configured. They replace
    /// `listen` and `peer_listen` in the configuration.
    ///
    /// # Errors
    /// A listener has no address.
    pub fn bound(config: &mut Config, client: TcpListener, peers: TcpListener) -> Result<Self, StartError> {
        let address = |setting, listener: &TcpListener, address| {
            listener.local_addr().map_err(|source| StartError::Bind {
                setting,
                address,
                source,
            })
        };
        let (bound, peers_bound) = (
            address("listen", &client, config.listen)?,
            address("peer_listen", &peers, config.peer_listen)?,
        );
        config.bound(bound, peers_bound);
        Ok(Self { client, peers })
    }
}

/// A running node.
pub struct Node {
    shared: Arc<Shared>,
    worker: Option<Embedded>,
    duties: JoinHandle<()>,
    duties_stop: CancellationToken,
    server: JoinHandle<()>,
    server_stop: CancellationToken,
    waits: JoinHandle<()>,
    disk: JoinHandle<()>,
    /// Ready when the data folder is free for another.
    released: oneshot::Receiver<()>,
}

impl Node {
    /// Opens the data folder, joins or forms the cluster in the background, and serves. Returns before there is a leader.
    ///
    /// # Errors
    /// Says what is wrong with the configuration, the data folder or an address, and what to do about it.
    pub async fn start(config: Config, listeners: Listeners) -> Result<Self, StartError> {
        Self::start_with(config, listeners, supervisor::program()).await
    }

    /// As [`start`](Self::start) in a process that is not `schednode`: `supervisor` is the program that supervises the processes of runs.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub async fn start_with(config: Config, listeners: Listeners, supervisor: PathBuf) -> Result<Self, StartError> {
        let data = DataDir::open(&config.data_dir)?;
        if data.identity().cluster.is_none() && config.initial_cluster.is_empty() && config.join.is_empty() {
            return Err(StartError::NoCluster {
                data_dir: config.data_dir.display().to_string(),
            });
        }
        let (free, released) = oneshot::channel();
        data.on_release(move || {
            // Nobody waits for it when the process ends first.
            let _ = free.send(());
        });
        let clock = Arc::new(Clock::new());
        let replica = Replica::start(data.clone(), options(&config, listeners.peers, clock.clone())).await?;
        let listener = async_listener(&config, listeners.client)?;
        let shared = Arc::new(Shared {
            replica,
            clock,
            zones: Arc::new(SystemZones::open()),
            counters: Counters::default(),
            disk: Disk::new(config.disk_reserve_mib << 20),
            channels: Channels::default(),
            terms: Terms::default(),
            waits: Arc::new(Waits::default()),
            stopping: CancellationToken::new(),
            worker_fault: WorkerFault::default(),
            config,
        });
        let (duties_stop, server_stop) = (CancellationToken::new(), CancellationToken::new());
        let waits = {
            let (waits, effects) = (shared.waits.clone(), shared.replica.effects());
            tokio::spawn(async move { waits.run(effects).await })
        };
        let disk = tokio::spawn(disk::watch(shared.clone()));
        let duties = tokio::spawn(leader::watch(shared.clone(), duties_stop.clone()));
        let server = tokio::spawn({
            let (shared, stop) = (shared.clone(), server_stop.clone());
            async move {
                if let Err(e) = api::serve(shared, listener, stop.cancelled_owned()).await {
                    tracing::error!(error = %e, "the client port is no longer served");
                    std::process::exit(sched_raft::FATAL_EXIT_CODE);
                }
            }
        });
        let worker = match shared.config.slots {
            0 => None,
            _ => worker(&shared, &data, supervisor)?,
        };
        Ok(Self {
            shared,
            worker,
            duties,
            duties_stop,
            server,
            server_stop,
            waits,
            disk,
            released,
        })
    }

    /// Returns this node's number, made with its data folder.
    pub fn id(&self) -> NodeId {
        self.shared.replica.node()
    }

    /// Returns the configuration, with the ports the system chose.
    pub fn config(&self) -> &Config {
        &self.shared.config
    }

    /// Returns why this node's own worker takes no runs, when it does not.
    pub fn worker_fault(&self) -> Option<String> {
        self.shared.worker_fault.get()
    }

    /// Returns the version of the time-zone data in use.
    pub fn zone_data(&self) -> &str {
        self.shared.zones.version()
    }

    /// Waits until the node knows a leader.
    pub async fn ready(&self) {
        // The replica lives as long as this node does.
        let _ = self.shared.replica.roles().wait_for(|role| role.leader.is_some()).await;
    }

    /// Stops so that nobody notices: no new runs for the worker, the leadership to another node, the running runs to their end, then the
    /// servers and the log.
    pub async fn stop(self) {
        let shared = self.shared;
        shared.stopping.cancel();
        if let Some(worker) = &self.worker {
            worker.begin_drain(DRAIN_TIMEOUT);
        }
        let leading = shared.replica.roles().borrow().leading;
        let voters = shared.replica.members().iter().filter(|member| member.voter).count();
        if leading && voters > 1 {
            match shared.replica.hand_over(HAND_OVER_TIMEOUT).await {
                Ok(()) => tracing::info!("leadership handed over"),
                Err(e) => tracing::warn!(error = %e, "leadership not handed over, the others will elect"),
            }
        }
        if let Some(worker) = self.worker {
            worker.stop(DRAIN_TIMEOUT).await;
        }
        self.duties_stop.cancel();
        finish("the duties", CLOSE_TIMEOUT, self.duties).await;
        self.server_stop.cancel();
        finish("the client port", SERVE_TIMEOUT, self.server).await;
        if timeout(CLOSE_TIMEOUT, shared.replica.shutdown()).await.is_err() {
            tracing::warn!("the log was not closed in time");
        }
        self.waits.abort();
        self.disk.abort();
        let node = shared.replica.node();
        drop(shared);
        // Whoever starts a node on this folder next shall not find it in use.
        if timeout(CLOSE_TIMEOUT, self.released).await.is_err() {
            tracing::warn!("the data folder is not free: something still holds it");
        }
        tracing::info!(%node, "stopped");
    }
}

/// Starts the worker. One that cannot read its journal stays away, and no more than it: the node has a vote and a copy of everything, and
/// the others count on both.
fn worker(shared: &Arc<Shared>, data: &DataDir, supervisor: PathBuf) -> Result<Option<Embedded>, WorkerError> {
    match Embedded::start(shared, data, supervisor) {
        Ok(worker) => Ok(Some(worker)),
        Err(WorkerError::Journal(error @ (JournalError::Damaged { .. } | JournalError::Io { .. }))) => {
            tracing::error!(%error, "this node's worker stays away; the node goes on without it");
            shared.worker_fault.set(error.to_string());
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Waits for a task to end, but not for ever.
async fn finish(what: &str, within: Duration, mut task: JoinHandle<()>) {
    if timeout(within, &mut task).await.is_err() {
        tracing::info!("{what} did not end in time and is cut off");
        task.abort();
    }
}

fn options(config: &Config, peers: TcpListener, clock: Arc<Clock>) -> Options {
    let now = Arc::new(move || clock.stamp());
    let mut options = Options::new(peers, config.peer_advertise.clone(), config.advertise.clone(), now);
    options.initial_cluster.clone_from(&config.initial_cluster);
    options.join.clone_from(&config.join);
    options.heartbeat_ms = config.heartbeat_ms;
    options.election_timeout_ms_min = config.election_timeout_ms_min;
    options.election_timeout_ms_max = config.election_timeout_ms_max;
    options.snapshot_entries = config.snapshot_entries;
    options
}

fn async_listener(config: &Config, listener: TcpListener) -> Result<tokio::net::TcpListener, StartError> {
    let convert = || {
        listener.set_nonblocking(true)?;
        tokio::net::TcpListener::from_std(listener)
    };
    convert().map_err(|source| StartError::Bind {
        setting: "listen",
        address: config.listen,
        source,
    })
}
