//! Many workers in one process: they speak the protocol of agents, each on a connection of its own, and pretend to run samples.

use anyhow::{Context, Result, bail, ensure};
use rand::Rng;
use sched_proto::worker as pb;
use sched_proto::worker::worker_gateway_client::WorkerGatewayClient;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, interval, sleep, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Endpoint;

/// Until a connection is there, and until it is welcomed.
const PATIENCE: Duration = Duration::from_secs(5);
/// Before the next node is tried, at most.
const PAUSE: Duration = Duration::from_millis(500);
/// The version of the protocol these workers speak.
const PROTOCOL_VERSION: u32 = 1;

/// What the workers have seen.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// Runs each worker was given, by name; also those it knew.
    pub runs: BTreeMap<String, u32>,
    /// From the sending of a sign of life to its acknowledgement.
    pub round_trips: Vec<Duration>,
    /// The oldest that the last acknowledged sign of life of any worker has been when the next was acknowledged.
    pub oldest_contact: Duration,
    /// Results that the cluster has recorded.
    pub recorded: usize,
}

/// The workers. Dropping it cuts them off.
#[derive(Debug)]
pub struct Fleet {
    seen: Arc<Mutex<Seen>>,
    connected: watch::Receiver<usize>,
    workers: Vec<JoinHandle<()>>,
}

impl Fleet {
    /// Starts so many workers with so many slots each; `nodes` are client addresses. Must be called within a runtime.
    pub fn start(nodes: &[String], workers: usize, slots: u32) -> Self {
        let seen = Arc::new(Mutex::new(Seen::default()));
        let (count, connected) = watch::channel(0);
        let count = Arc::new(count);
        let workers = (0..workers)
            .map(|number| {
                let worker = Worker {
                    name: format!("fleet-{number:03}"),
                    journal: rand::rng().random(),
                    slots,
                    nodes: nodes.to_vec(),
                    turn: number,
                    hint: None,
                    held: BTreeMap::new(),
                    seen: seen.clone(),
                    connected: count.clone(),
                };
                tokio::spawn(worker.run())
            })
            .collect();
        Self {
            seen,
            connected,
            workers,
        }
    }

    /// Waits until all workers are connected at once.
    ///
    /// # Errors
    /// They are not within the limit.
    pub async fn all_connected(&mut self, limit: Duration) -> Result<()> {
        let all = self.workers.len();
        let wait = timeout(limit, self.connected.wait_for(|count| *count == all))
            .await
            .map(|found| found.map(drop));
        match wait {
            Ok(found) => Ok(found?),
            Err(_) => bail!(
                "{} of {all} workers connected within {limit:?}",
                *self.connected.borrow()
            ),
        }
    }

    /// What they have seen since they were asked last.
    pub fn take(&self) -> Seen {
        std::mem::take(&mut *lock(&self.seen))
    }

    /// What they have seen.
    pub fn seen(&self) -> Seen {
        lock(&self.seen).clone()
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        self.workers.iter().for_each(JoinHandle::abort);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An attempt's place in the log, and whether it is over.
type Held = BTreeMap<(u64, u32), (pb::Attempt, bool)>;

struct Worker {
    name: String,
    journal: (u64, u64),
    slots: u32,
    nodes: Vec<String>,
    turn: usize,
    hint: Option<String>,
    held: Held,
    seen: Arc<Mutex<Seen>>,
    connected: Arc<watch::Sender<usize>>,
}

/// Counts a worker among the connected as long as it lives.
struct Counted(Arc<watch::Sender<usize>>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

impl Worker {
    async fn run(mut self) {
        // Attempts outlive a stream.
        let mut samples = JoinSet::new();
        loop {
            let address = self.hint.take().unwrap_or_else(|| {
                self.turn += 1;
                self.nodes[self.turn % self.nodes.len()].clone()
            });
            // What is wrong shows in the count of those that are connected.
            let _ = self.serve(&address, &mut samples).await;
            let pause = PAUSE.mul_f64(rand::rng().random_range(0.1..1.0));
            sleep(pause).await;
        }
    }

    async fn serve(&mut self, address: &str, samples: &mut JoinSet<(u64, u32)>) -> Result<()> {
        let endpoint = Endpoint::from_shared(format!("http://{address}"))?.tcp_nodelay(true);
        let channel = timeout(PATIENCE, endpoint.connect()).await??;
        let (tx, rx) = mpsc::channel(64);
        let sent = Instant::now();
        tx.send(self.hello()).await?;
        let mut client = WorkerGatewayClient::new(channel);
        let mut stream = timeout(PATIENCE, client.connect(ReceiverStream::new(rx)))
            .await??
            .into_inner();
        let first = timeout(PATIENCE, stream.message())
            .await??
            .context("the stream ended")?;
        if let Some(redirect) = first.redirect {
            self.hint = Some(redirect.leader).filter(|leader| !leader.is_empty());
            bail!("elsewhere");
        }
        let welcome = first
            .welcome
            .with_context(|| format!("no welcome: {:?}", first.refused))?;
        self.connected.send_modify(|count| *count += 1);
        let _counted = Counted(self.connected.clone());
        let mut contact = sent;
        let mut beats = interval(Duration::from_millis(welcome.heartbeat_ms.into()));
        let mut seq = 0;
        let mut outstanding: VecDeque<(u64, Instant)> = VecDeque::new();
        let over: Vec<_> = self
            .held
            .iter()
            .filter(|(_, (_, over))| *over)
            .map(|(token, _)| *token)
            .collect();
        for token in over {
            tx.send(self.completed(token)).await?;
        }
        loop {
            tokio::select! {
                _ = beats.tick() => {
                    seq += 1;
                    outstanding.push_back((seq, Instant::now()));
                    let heartbeat = Some(pb::Heartbeat { seq, free_slots: 0 });
                    tx.send(pb::FromWorker { heartbeat, ..Default::default() }).await?;
                }
                Some(Ok(token)) = samples.join_next() => {
                    if let Some((_, over)) = self.held.get_mut(&token) {
                        *over = true;
                        tx.send(self.completed(token)).await?;
                    }
                }
                message = stream.message() => {
                    let message = message?.context("the stream ended")?;
                    if let Some(redirect) = message.redirect {
                        self.hint = Some(redirect.leader).filter(|leader| !leader.is_empty());
                        bail!("elsewhere");
                    }
                    ensure!(message.refused.is_none(), "refused");
                    if let Some(ack) = message.heartbeat_ack {
                        contact = self.acknowledged(ack.seq, &mut outstanding, contact);
                    }
                    for attempt in &message.recorded {
                        lock(&self.seen).recorded += usize::from(self.held.remove(&token_of(attempt)).is_some());
                    }
                    for run in message.runs {
                        self.begin(run, samples);
                    }
                }
            }
        }
    }

    fn acknowledged(&self, seq: u64, outstanding: &mut VecDeque<(u64, Instant)>, contact: Instant) -> Instant {
        let mut seen = lock(&self.seen);
        let mut newest = contact;
        while outstanding.front().is_some_and(|(number, _)| *number <= seq) {
            let Some((_, sent)) = outstanding.pop_front() else {
                break;
            };
            seen.round_trips.push(sent.elapsed());
            newest = sent;
        }
        seen.oldest_contact = seen.oldest_contact.max(contact.elapsed());
        newest
    }

    fn begin(&mut self, run: pb::Run, samples: &mut JoinSet<(u64, u32)>) {
        let Some(attempt) = run.attempt else { return };
        let token = token_of(&attempt);
        if self.held.contains_key(&token) {
            return;
        }
        *lock(&self.seen).runs.entry(self.name.clone()).or_default() += 1;
        self.held.insert(token, (attempt, false));
        let ms = match run.action.and_then(|action| action.kind) {
            Some(pb::action::Kind::Sample(sample)) => sample.duration_ms,
            _ => 0,
        };
        samples.spawn(async move {
            sleep(Duration::from_millis(ms)).await;
            token
        });
    }

    fn hello(&self) -> pb::FromWorker {
        let held = self.held.values().map(|(attempt, over)| pb::Held {
            attempt: Some(*attempt),
            state: if *over {
                pb::HeldState::Ended
            } else {
                pb::HeldState::Running
            }
            .into(),
        });
        let hello = pb::Hello {
            protocol_version: PROTOCOL_VERSION,
            worker: self.name.clone(),
            journal_high: self.journal.0,
            journal_low: self.journal.1,
            slots: self.slots,
            held: held.collect(),
            ..Default::default()
        };
        pb::FromWorker {
            hello: Some(hello),
            ..Default::default()
        }
    }

    fn completed(&self, token: (u64, u32)) -> pb::FromWorker {
        let result = pb::Result {
            verdict: pb::Verdict::Success.into(),
            ..Default::default()
        };
        let completed = pb::Completed {
            attempt: self.held.get(&token).map(|(attempt, _)| *attempt),
            result: Some(result),
            ..Default::default()
        };
        pb::FromWorker {
            completed: vec![completed],
            ..Default::default()
        }
    }
}

fn token_of(attempt: &pb::Attempt) -> (u64, u32) {
    let token = attempt.token.unwrap_or_default();
    (token.index, token.position)
}
