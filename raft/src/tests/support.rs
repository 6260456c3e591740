//! Clusters for tests.

use crate::role::Role;
use crate::{Fatal, Options, Origin, ProposeError, Replica};
use sched_core::apply::read_record;
use sched_core::codec::Kind;
use sched_core::command::{Command, Item, Reply};
use sched_core::schedule::Schedule;
use sched_core::tables::{Key, Meta, View};
use sched_core::task::{Action, NextRun, Policy, TaskSpec};
use sched_core::{NodeId, RequestKey, TaskId, Timestamp};
use sched_storage::{DataDir, Group};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tempfile::TempDir;
use tokio::sync::watch;

/// Longest wait for anything; only a test that fails waits so long.
pub(super) const LONG: Duration = Duration::from_secs(60);

pub(super) fn open_group(path: &Path) -> (DataDir, Group) {
    let data = DataDir::open(path).unwrap();
    let group = data.group(0).unwrap();
    (data, group)
}

pub(super) fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    Timestamp::from_millis(since.as_millis() as i64)
}

/// A listener on an address of its own, and this address. A node that is down must find its port free when it comes back: on 127.0.0.1 any
/// connection that somebody makes meanwhile may have got it.
pub(super) fn bind() -> (TcpListener, SocketAddr) {
    let host = Ipv4Addr::new(
        127,
        rand::random_range(1..255),
        rand::random(),
        rand::random_range(1..255),
    );
    let listener = TcpListener::bind((host, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// One member of a test's cluster, running or not.
pub(super) struct Node {
    pub(super) dir: TempDir,
    pub(super) address: SocketAddr,
    pub(super) listener: Option<TcpListener>,
    replica: Option<Replica>,
    pub(super) fatal: Arc<watch::Sender<Vec<Fatal>>>,
}

impl Node {
    pub(super) fn new() -> Self {
        let (listener, address) = bind();
        let dir = tempfile::tempdir().unwrap();
        Self {
            dir,
            address,
            listener: Some(listener),
            replica: None,
            fatal: Arc::new(watch::Sender::default()),
        }
    }

    /// Starts it with `change`d options.
    pub(super) async fn start(&mut self, change: impl FnOnce(&mut Options)) -> Replica {
        // The port stays this node's over a restart.
        let listener = self
            .listener
            .take()
            .unwrap_or_else(|| TcpListener::bind(self.address).unwrap());
        let client = format!("client-of-{}:7400", self.address.port());
        let mut options = Options::new(listener, self.address.to_string(), client, Arc::new(now));
        let fatal = self.fatal.clone();
        options.on_fatal = Arc::new(move |f| fatal.send_modify(|told| told.push(f.clone())));
        change(&mut options);
        let data = DataDir::open(self.dir.path()).unwrap();
        let replica = Replica::start(data, options).await.unwrap();
        self.replica = Some(replica.clone());
        replica
    }

    pub(super) fn replica(&self) -> &Replica {
        self.replica.as_ref().expect("the node runs")
    }

    pub(super) fn runs(&self) -> bool {
        self.replica.is_some()
    }

    /// Stops it without handing anything over, and waits until its folder is free.
    pub(super) async fn stop(&mut self) {
        let Some(replica) = self.replica.take() else { return };
        replica.shutdown().await;
        drop(replica);
        let path = self.dir.path().to_owned();
        within("the folder to be free", async {
            while DataDir::open(&path).is_err() {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }
}

/// Nodes that form one cluster.
pub(super) struct Cluster {
    pub(super) nodes: Vec<Node>,
    list: Vec<String>,
    change: Arc<dyn Fn(&mut Options) + Send + Sync>,
}

impl Cluster {
    pub(super) fn new(nodes: usize, change: impl Fn(&mut Options) + Send + Sync + 'static) -> Self {
        let nodes: Vec<Node> = (0..nodes).map(|_| Node::new()).collect();
        let list = nodes.iter().map(|node| node.address.to_string()).collect();
        Self {
            nodes,
            list,
            change: Arc::new(change),
        }
    }

    /// Starts all nodes and waits until the cluster is formed and led.
    pub(super) async fn formed(nodes: usize, change: impl Fn(&mut Options) + Send + Sync + 'static) -> Self {
        let mut cluster = Self::new(nodes, change);
        for node in 0..nodes {
            cluster.start(node).await;
        }
        cluster.wait_formed().await;
        cluster
    }

    pub(super) async fn start(&mut self, node: usize) -> Replica {
        let (list, change) = (self.list.clone(), self.change.clone());
        let start = |options: &mut Options| {
            options.initial_cluster = list;
            change(options);
        };
        self.nodes[node].start(start).await
    }

    pub(super) async fn stop(&mut self, node: usize) {
        self.nodes[node].stop().await;
    }

    pub(super) async fn wait_formed(&self) {
        for node in self.nodes.iter().filter(|node| node.runs()) {
            node.replica().wait_formed(LONG).await.unwrap();
        }
        self.leader().await;
    }

    /// Waits until one running node is ready to lead and all others know it; returns its place in the list.
    pub(super) async fn leader(&self) -> usize {
        within("a leader", async {
            loop {
                let running = (0..self.nodes.len()).filter(|n| self.nodes[*n].runs());
                let mut roles: Vec<_> = running.map(|n| (n, self.nodes[n].replica().roles())).collect();
                let seen: Vec<Role> = roles
                    .iter_mut()
                    .map(|(_, role)| role.borrow_and_update().clone())
                    .collect();
                if let Some(leader) = seen.iter().position(|role| role.leading).map(|at| roles[at].0) {
                    let node = self.nodes[leader].replica().node();
                    if seen
                        .iter()
                        .all(|role| role.leader.as_ref().is_some_and(|l| l.node == node))
                    {
                        return leader;
                    }
                }
                let changes = roles.iter_mut().map(|(_, role)| Box::pin(role.changed()));
                futures::future::select_all(changes).await.0.unwrap();
            }
        })
        .await
    }

    /// Returns a running node that is not `leader`.
    pub(super) fn follower(&self, leader: usize) -> usize {
        (0..self.nodes.len())
            .find(|n| *n != leader && self.nodes[*n].runs())
            .expect("another node runs")
    }

    pub(super) async fn stop_all(&mut self) {
        for node in &mut self.nodes {
            node.stop().await;
        }
    }
}

/// Waits, but not for ever.
pub(super) async fn within<T>(what: &str, wait: impl Future<Output = T>) -> T {
    tokio::time::timeout(LONG, wait)
        .await
        .unwrap_or_else(|_| panic!("waited {LONG:?} for {what}"))
}

static NONCE: AtomicU64 = AtomicU64::new(1);

/// A request key that no other command has.
pub(super) fn request() -> RequestKey {
    let nonce = u128::from(NONCE.fetch_add(1, Ordering::Relaxed));
    RequestKey::Client {
        expires_at: now().plus_millis(600_000),
        nonce,
    }
}

/// A command that submits a task with so many bytes of payload.
pub(super) fn submit(request: RequestKey, payload: usize) -> Item {
    let spec = TaskSpec {
        namespace: "default".to_owned(),
        name: None,
        labels: Default::default(),
        owner: "tester".to_owned(),
        description: String::new(),
        schedule: Schedule::Manual,
        action: Action::Sample {
            succeed: true,
            duration_ms: 0,
            payload: vec![7; payload],
        },
        policy: Policy::default(),
        bounds: Default::default(),
    };
    let command = Command::Submit {
        spec: Box::new(spec),
        first: NextRun::Never,
    };
    Item {
        request: Some(request),
        principal: "tester".to_owned(),
        command,
    }
}

/// Submits one task; returns its number.
pub(super) async fn submit_one(replica: &Replica) -> Result<TaskId, ProposeError> {
    task_of(
        replica
            .propose(Origin::default(), vec![submit(request(), 100)])
            .await
            .remove(0),
    )
}

pub(super) fn task_of(answer: Result<Reply, ProposeError>) -> Result<TaskId, ProposeError> {
    match answer? {
        Reply::Task { id, .. } => Ok(id),
        other => panic!("a submit was answered by {other:?}"),
    }
}

/// Submits under `key` to whoever leads until it is answered: what a client does.
pub(super) async fn submit_until_done(cluster: &Cluster, key: RequestKey) -> TaskId {
    within("a submit to be carried out", async {
        loop {
            let leader = cluster.leader().await;
            let answer = cluster.nodes[leader]
                .replica()
                .propose(Origin::default(), vec![submit(key.clone(), 100)])
                .await
                .remove(0);
            match task_of(answer) {
                Ok(id) => return id,
                Err(ProposeError::Reject(reject)) => panic!("refused: {reject}"),
                Err(_) => tokio::task::yield_now().await,
            }
        }
    })
    .await
}

/// Returns the counters of a node's tables.
pub(super) fn meta(replica: &Replica) -> Meta {
    read_record(&replica.view(), &Key::Meta, Kind::Meta)
        .unwrap()
        .unwrap_or_default()
}

/// Whether a node's tables hold a task.
pub(super) fn holds(replica: &Replica, task: TaskId) -> bool {
    let key = Key::Task(task);
    replica.view().get(key.table(), &key.encode()).unwrap().is_some()
}

/// Waits until a node has applied an index.
pub(super) async fn wait_applied(replica: &Replica, index: u64) {
    within("an index to be applied", async {
        let mut applied = replica.core().board.applied.subscribe();
        applied.wait_for(|applied| applied.index >= index).await.unwrap();
    })
    .await;
}

pub(super) fn is_member(replica: &Replica, node: NodeId) -> bool {
    replica.members().iter().any(|member| member.node == node)
}
