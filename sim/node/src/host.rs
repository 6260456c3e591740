//! A simulated node: a disk that stays, and lives that come and go on it.

use crate::api;
use crate::channels::Channels;
use crate::clock::Clock;
use crate::config::{Config, Settings};
use crate::counters::Counters;
use crate::leader::{self, Terms};
use crate::shared::{Shared, WorkerFault};
use crate::waits::Waits;
use crate::zones::SystemZones;
use http::{Request, Response};
use http_body_util::BodyExt;
use sched_core::NodeId;
use sched_raft::{Formation, Options, Replica};
use sim_ground::{DataDir, Disk, Mutant, Port, World, register, world};
use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use tonic::service::Routes;
use tower::Service;

/// The zone data of this machine: no seed depends on it.
static ZONES: OnceLock<Arc<SystemZones>> = OnceLock::new();
/// What a disk that fails says.
const DISK_FAULT: &str = "input/output error";

/// How consensus is set up in one seed.
#[derive(Clone, Copy, Debug)]
pub struct Setup {
    /// How many nodes there are.
    pub nodes: u64,
    /// A snapshot is built after so many entries.
    pub snapshot_entries: u64,
    /// Entries kept behind a snapshot.
    pub log_keep_entries: u64,
}

/// Something under way. The type hides what is behind it: consensus is compiled in this crate, and not again with every test.
pub type Work<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// A node.
pub struct Host {
    /// Its number.
    pub id: u64,
    /// Its name on the network.
    pub name: String,
    /// Its disk, which outlives its processes.
    pub disk: Arc<Disk>,
    setup: Setup,
    live: Mutex<Option<Live>>,
}

/// One life of it.
struct Live {
    port: Port,
    shared: Arc<Shared>,
    duties_stop: CancellationToken,
}

/// Returns where peers reach a node.
pub fn peer_address(node: u64) -> String {
    format!("n{node}:7500")
}

/// Returns where clients and workers reach a node.
pub fn client_address(node: u64) -> String {
    format!("n{node}:7400")
}

impl Host {
    /// Returns a node with an empty disk, which is not running.
    pub fn new(id: u64, setup: Setup) -> Arc<Self> {
        Arc::new(Self {
            id,
            name: format!("n{id}"),
            disk: Disk::new(id),
            setup,
            live: Mutex::new(None),
        })
    }

    fn live(&self) -> MutexGuard<'_, Option<Live>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the replica of this life, if there is one.
    pub fn replica(&self) -> Option<Replica> {
        self.live().as_ref().map(|live| live.shared.replica.clone())
    }

    /// Whether it runs.
    pub fn is_up(&self) -> bool {
        self.live().is_some()
    }

    /// Whether it leads, as far as it knows.
    pub fn leads(&self) -> bool {
        self.replica().is_some_and(|replica| replica.roles().borrow().leading)
    }

    /// Begins a life, as `Node::start` does.
    pub fn start(self: &Arc<Self>) -> Work<()> {
        let this = self.clone();
        Box::pin(async move { this.begin().await })
    }

    /// Hands leadership over.
    pub fn hand_over(&self, wait: Duration) -> Option<Work<()>> {
        let replica = self.replica()?;
        // Whoever leads then.
        Some(Box::pin(async move { drop(replica.hand_over(wait).await) }))
    }

    /// Takes a snapshot.
    pub fn snapshot(&self) -> Option<Work<()>> {
        let replica = self.replica()?;
        Some(Box::pin(async move { drop(replica.snapshot_now().await) }))
    }

    /// Makes these nodes the voters; true when that was confirmed.
    pub fn change_voters(&self, voters: Vec<NodeId>) -> Option<Work<bool>> {
        let replica = self.replica()?;
        Some(Box::pin(async move { replica.change_voters(voters).await.is_ok() }))
    }

    async fn begin(self: &Arc<Self>) {
        if self.is_up() {
            return;
        }
        let world = world();
        world.note(format!("{}: starts", self.name));
        let port = Port::new(&self.name);
        let clock = Arc::new(Clock::of(&self.name));
        let options = self.options(&port, clock.clone());
        let replica = match Replica::start(DataDir::open(&self.disk), options).await {
            Ok(replica) => replica,
            Err(e) if e.to_string().contains(DISK_FAULT) => {
                world.note(format!("{}: does not start: {e}", self.name));
                port.life.cancel();
                return self.disk.crash();
            }
            Err(e) => return world.finding(format!("{}: does not start: {e}", self.name)),
        };
        let shared = Arc::new(Shared {
            replica,
            clock,
            zones: ZONES.get_or_init(|| Arc::new(SystemZones::open())).clone(),
            counters: Counters::default(),
            disk: crate::disk::Disk::new(0),
            channels: Channels(port.clone()),
            terms: Terms::default(),
            waits: Arc::new(Waits::default()),
            stopping: CancellationToken::new(),
            config: config(self.id),
            worker_fault: WorkerFault::default(),
        });
        let duties_stop = CancellationToken::new();
        {
            let (waits, effects) = (shared.waits.clone(), shared.replica.effects());
            tokio::spawn(async move { waits.run(effects).await });
        }
        tokio::spawn(leader::watch(shared.clone(), duties_stop.clone()));
        tokio::spawn(follow(
            world.clone(),
            self.id,
            shared.replica.clone(),
            port.life.clone(),
        ));
        let routes = api::grpc(&shared);
        register(&port, &client_address(self.id), Front { routes });
        *self.live() = Some(Live {
            port,
            shared,
            duties_stop,
        });
    }

    fn options(self: &Arc<Self>, port: &Port, clock: Arc<Clock>) -> Options {
        let now = Arc::new(move || clock.stamp());
        let mut options = Options::new(port.clone(), peer_address(self.id), client_address(self.id), now);
        options.initial_cluster = (1..=self.setup.nodes).map(peer_address).collect();
        options.snapshot_entries = self.setup.snapshot_entries;
        options.log_keep_entries = self.setup.log_keep_entries;
        let (host, life) = (Arc::downgrade(self), port.life.clone());
        options.on_fatal = Arc::new(move |fatal| {
            // A life that was ended finds its disk gone: nothing is said of that.
            if life.is_cancelled() {
                return;
            }
            let Some(host) = host.upgrade() else { return };
            let world = world();
            world.note(format!("{}: stops itself: {}", host.name, fatal.problem));
            if !fatal.problem.contains(DISK_FAULT) {
                world.finding(format!(
                    "{}: a fatal state without a fault: {}",
                    host.name, fatal.problem
                ));
            }
            host.crash();
        });
        options
    }

    /// Ends a life at once. What was not synced is lost.
    pub fn crash(&self) {
        let Some(live) = self.live().take() else { return };
        world().note(format!("{}: crashes", self.name));
        live.port.life.cancel();
        self.disk.crash();
        // What is left of it reaches neither disk nor network; it is only cleared away.
        tokio::spawn(async move {
            live.duties_stop.cancel();
            drop(timeout(Duration::from_secs(20), live.shared.replica.shutdown()).await);
        });
    }
}

/// Watches who leads, and that forming is not refused.
async fn follow(world: Arc<World>, node: u64, replica: Replica, life: CancellationToken) {
    let (mut roles, mut formation) = (replica.roles(), replica.formation());
    loop {
        {
            let role = roles.borrow_and_update().clone();
            if role.leading && !life.is_cancelled() {
                world.note(format!("n{node}: leads term {}", role.term));
                world.leads(node, role.term);
            }
        }
        if let Formation::Refused { reason } = &*formation.borrow_and_update()
            && !life.is_cancelled()
        {
            world.finding(format!("n{node}: is refused: {reason}"));
        }
        tokio::select! {
            biased;
            () = life.cancelled() => return,
            changed = roles.changed() => if changed.is_err() { return },
            changed = formation.changed() => if changed.is_err() { return },
        }
    }
}

/// The configuration of a node; what is of sockets and files is never used.
#[allow(clippy::expect_used, reason = "these settings are complete")]
fn config(id: u64) -> Config {
    let settings = Settings {
        data_dir: Some("/sim".into()),
        advertise: Some(client_address(id)),
        peer_advertise: Some(peer_address(id)),
        insecure: Some(true),
        ..Settings::default()
    };
    Config::resolve(settings).expect("settings of the simulation")
}

/// The client port. One mutant sits here: it answers before anything is committed.
#[derive(Clone)]
struct Front {
    routes: Routes,
}

impl Service<Request<Body>> for Front {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        // Not kept: the world keeps this service, and neither would ever be freed.
        let premature = world().is(Mutant::AckBeforeCommit) && request.uri().path().ends_with("/Submit");
        let answer = self.routes.call(request);
        Box::pin(async move {
            if !premature {
                return answer.await;
            }
            tokio::spawn(answer);
            // One empty message: accepted.
            let message = http_body_util::Full::new(bytes::Bytes::from_static(&[0; 5]));
            let mut trailers = http::HeaderMap::new();
            trailers.insert("grpc-status", http::HeaderValue::from_static("0"));
            let body = message.with_trailers(std::future::ready(Some(Ok(trailers))));
            let mut response = Response::new(Body::new(body));
            let kind = http::HeaderValue::from_static("application/grpc");
            response.headers_mut().insert(http::header::CONTENT_TYPE, kind);
            Ok(response)
        })
    }
}
