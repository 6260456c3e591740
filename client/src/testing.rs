//! A cluster in memory for tests: it takes tasks, answers repeats as the real one does, and makes the trouble it is told to.

mod gateway;
mod service;
mod work;

pub use gateway::{FakeLeader, WorkerStream};

use sched_proto::v1;
use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio_stream::wrappers::TcpListenerStream;

/// What a node does with its next call instead of answering it.
#[derive(Clone, PartialEq, Debug)]
pub enum Fault {
    /// It is carried out, and the answer never comes.
    AnswerLost,
    /// It is carried out, and the connection's stream breaks.
    AnswerBroken,
    /// Nothing is carried out, and no answer comes.
    Hang,
    /// This refusal is answered.
    Refuse(v1::Failure),
    /// An error that no node makes.
    Foreign(tonic::Code),
}

/// What all nodes of the cluster know.
#[derive(Debug, Default)]
pub struct State {
    /// By id; whatever a test puts here is read by the calls.
    pub tasks: BTreeMap<u64, v1::Task>,
    /// By task and number.
    pub runs: BTreeMap<(u64, u64), v1::Run>,
    /// Output of every run.
    pub output: Vec<u8>,
    /// The stream of an output breaks here, once.
    pub output_breaks_at: Option<usize>,
    /// Every worker.
    pub workers: Vec<v1::Worker>,
    /// Lines of every ledger.
    pub ledger: Vec<v1::LedgerLine>,
    /// Operations in the spool.
    pub spool: Vec<v1::SpoolOp>,
    /// Findings of a check.
    pub findings: Vec<v1::Finding>,
    /// The settings.
    pub config: sched_core::config::Config,
    /// Calendars by name, each with its generation.
    pub calendars: BTreeMap<String, (v1::Calendar, u64)>,
    /// What `Status` answers.
    pub status: v1::StatusReply,
    /// Calls that changed something, by name, in order; a repeat under a known key is not among them.
    pub carried_out: Vec<String>,
    /// Calls received, by name, in order, repeats and all.
    pub received: Vec<String>,
    /// Index of the leader.
    pub leader: Option<usize>,
    /// The next batches are answered so: every item of a batch is refused with the next of these.
    pub item_refusals: VecDeque<v1::Failure>,
    answers: BTreeMap<Vec<u8>, v1::SubmitReply>,
    next_id: u64,
    addresses: Vec<SocketAddr>,
    faults: Vec<VecDeque<Fault>>,
    faults_of_calls: Vec<(String, Fault)>,
}

/// Nodes on the loopback device. Dropping it stops them.
#[derive(Debug)]
pub struct FakeCluster {
    state: Arc<Mutex<State>>,
    /// A runtime per node: with it end its connections, as those of a killed process do.
    servers: Vec<Option<Runtime>>,
}

impl FakeCluster {
    /// Starts `nodes` nodes; the first leads.
    ///
    /// # Panics
    ///
    /// When the loopback device takes no listener.
    pub async fn start(nodes: usize) -> Self {
        let state = Arc::new(Mutex::new(State {
            leader: Some(0),
            next_id: 1,
            faults: vec![VecDeque::new(); nodes],
            ..State::default()
        }));
        let mut servers = Vec::new();
        for node in 0..nodes {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port on the loopback device");
            listener.set_nonblocking(true).expect("a listener that does not block");
            lock(&state)
                .addresses
                .push(listener.local_addr().expect("the address just bound"));
            let service = service::Node {
                node,
                state: state.clone(),
            };
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(1)
                .enable_all()
                .build()
                .expect("a runtime for a node");
            runtime.spawn(async move {
                let listener = TcpListener::from_std(listener).expect("a listener of this runtime");
                tonic::transport::Server::builder()
                    .add_service(v1::scheduler_server::SchedulerServer::new(service))
                    .serve_with_incoming(TcpListenerStream::new(listener))
                    .await
                    .expect("the server ends only with its runtime");
            });
            servers.push(Some(runtime));
        }
        Self { state, servers }
    }

    /// Returns what the cluster knows, to look at or to change. Must not be held over an `.await`.
    pub fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// Returns the address of each node, as a client takes it.
    pub fn endpoints(&self) -> Vec<String> {
        self.state()
            .addresses
            .iter()
            .map(|address| format!("http://{address}"))
            .collect()
    }

    /// Makes trouble: the next calls to this node end so, one after the other.
    pub fn fault(&self, node: usize, faults: impl IntoIterator<Item = Fault>) {
        self.state().faults[node].extend(faults);
    }

    /// Makes trouble of the next call of this name, at whatever node.
    pub fn fault_at(&self, call: &str, fault: Fault) {
        self.state().faults_of_calls.push((call.to_owned(), fault));
    }

    /// Lets another node lead.
    pub fn elect(&self, leader: Option<usize>) {
        self.state().leader = leader;
    }

    /// Stops a node: its connections break, and new ones are refused.
    pub async fn stop(&mut self, node: usize) {
        let Some(runtime) = self.servers[node].take() else {
            return;
        };
        runtime.shutdown_background();
        let address = self.state().addresses[node];
        // The listener is closed by a thread of the runtime that ends.
        while tokio::net::TcpStream::connect(address).await.is_ok() {
            tokio::task::yield_now().await;
        }
    }
}

impl Drop for FakeCluster {
    fn drop(&mut self) {
        for server in self.servers.drain(..).flatten() {
            server.shutdown_background();
        }
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}
