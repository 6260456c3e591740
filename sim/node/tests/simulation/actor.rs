//! A simulated worker: an agent that may crash and freeze, a journal and processes that outlive it.
//!
//! It speaks the product's protocol with the product's messages; what it does on its own machine is after the protocol: nothing starts that
//! is in the journal, no start without contact, processes end with their deadline whatever becomes of the agent.

use crate::recorder::{Recorder, Start};
use sched_core::ids::{RunId, Token};
use sched_core::session::Disposition;
use sched_core::task::{Action, Delivery};
use sched_proto::worker::worker_gateway_client::WorkerGatewayClient;
use sched_proto::worker::{
    Completed, FromWorker, GrantRequest, Heartbeat, Held as HeldMessage, HeldState, Hello, JournalPosition, Nack,
    NackCode, Result as ResultMessage, ToWorker, Verdict,
};
use sim_ground::{Chance, Channel, Mutant, Port, World, world};
use sim_node::worker::wire::{
    Job, OnDisconnect, PROTOCOL_VERSION, attempt_from_wire, attempt_to_wire, disposition_from_wire, job_from_wire,
};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;

/// Without contact for so long nothing starts any more, …
const NO_STARTS: Duration = Duration::from_secs(4);
/// … processes are killed, …
const KILL: Duration = Duration::from_secs(8);
/// … and the session is given up.
const GIVE_UP: Duration = Duration::from_secs(10);
const HEARTBEAT: Duration = Duration::from_secs(2);

type Key = (RunId, Token);

/// What the journal says of an attempt.
#[derive(Clone, Copy)]
enum Written {
    Started,
    Ended(bool),
    Refused,
    /// Reported, and acknowledged.
    Settled,
}

/// What outlives the agent: the journal, and the processes under their supervisors.
struct Machine {
    journal: Mutex<BTreeMap<Key, Written>>,
    processes: Mutex<BTreeMap<Key, CancellationToken>>,
    contact: watch::Sender<Instant>,
}

/// A worker.
pub(crate) struct Actor {
    name: String,
    nodes: Vec<String>,
    slots: u32,
    journal_id: u64,
    machine: Machine,
    recorder: Arc<Recorder>,
    frozen: watch::Sender<bool>,
}

/// What the agent knows of an attempt.
enum Held {
    Waiting(Box<Job>),
    Running,
    Ended(bool),
    Refused,
}

/// One life of the agent.
struct Agent {
    actor: Arc<Actor>,
    world: Arc<World>,
    port: Port,
    held: BTreeMap<Key, Held>,
    ends: mpsc::UnboundedReceiver<(Key, bool)>,
    tell: mpsc::UnboundedSender<(Key, bool)>,
    chance: Chance,
    leader: Option<String>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Actor {
    pub(crate) fn new(name: String, nodes: Vec<String>, slots: u32, recorder: Arc<Recorder>) -> Arc<Self> {
        Arc::new(Self {
            name,
            nodes,
            slots,
            journal_id: world().draw(Chance::number),
            machine: Machine {
                journal: Mutex::default(),
                processes: Mutex::default(),
                contact: watch::Sender::new(Instant::now()),
            },
            recorder,
            frozen: watch::Sender::new(false),
        })
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Stops or continues the agent, as a signal would. Supervisors go on.
    pub(crate) fn freeze(&self, frozen: bool) {
        self.frozen.send_replace(frozen);
    }

    /// The machine goes down: no process is left.
    pub(crate) fn kill_processes(&self) {
        locked(&self.machine.processes)
            .values()
            .for_each(CancellationToken::cancel);
    }

    /// Whether the journal knows an attempt.
    pub(crate) fn knows(&self, run: RunId, token: Token) -> bool {
        locked(&self.machine.journal).contains_key(&(run, token))
    }

    /// Lives until the port's life is over.
    pub(crate) fn live(self: &Arc<Self>, port: &Port) {
        let (tell, ends) = mpsc::unbounded_channel();
        let world = world();
        let agent = Agent {
            actor: self.clone(),
            chance: world.split(),
            world,
            port: port.clone(),
            held: BTreeMap::new(),
            ends,
            tell,
            leader: None,
        };
        let life = port.life.clone();
        tokio::spawn(async move {
            tokio::select! {
                biased;
                () = life.cancelled() => {}
                () = agent.run() => {}
            }
        });
    }

    fn write(&self, key: Key, written: Written) {
        locked(&self.machine.journal).insert(key, written);
    }
}

/// Runs a process under its supervisor.
async fn process(
    actor: Arc<Actor>,
    key: Key,
    job: Job,
    kill: CancellationToken,
    tell: mpsc::UnboundedSender<(Key, bool)>,
) {
    let world = world();
    let (duration, success) = match &job.action {
        Action::Sample {
            succeed, duration_ms, ..
        } => (Duration::from_millis(*duration_ms), *succeed),
        _ => (Duration::ZERO, true),
    };
    let well = tokio::select! {
        biased;
        () = kill.cancelled() => false,
        () = deadline(actor.machine.contact.subscribe()), if job.on_disconnect == OnDisconnect::Kill => false,
        () = sleep(duration) => success,
    };
    actor.recorder.ended(&world, key.0, key.1, well);
    locked(&actor.machine.processes).remove(&key);
    // An agent that has crashed finds it in its journal.
    let _ = tell.send((key, well));
}

async fn deadline(mut contact: watch::Receiver<Instant>) {
    loop {
        let at = *contact.borrow_and_update() + KILL;
        tokio::select! {
            () = sleep_until(at) => return,
            changed = contact.changed() => if changed.is_err() { return },
        }
    }
}

impl Agent {
    async fn run(mut self) {
        self.recover().await;
        loop {
            self.session().await;
            let pause = self.chance.range(50, 500);
            sleep(Duration::from_millis(pause)).await;
        }
    }

    /// Ends what an agent before left running, then reads the journal.
    async fn recover(&mut self) {
        self.actor.kill_processes();
        while !locked(&self.actor.machine.processes).is_empty() {
            sleep(Duration::from_millis(1)).await;
        }
        if self.world.is(Mutant::JournalNotRead) {
            locked(&self.actor.machine.journal).clear();
            return;
        }
        let mut journal = locked(&self.actor.machine.journal);
        for (key, written) in journal.iter_mut() {
            let held = match *written {
                Written::Started => {
                    self.actor.recorder.interrupted(key.1);
                    *written = Written::Ended(false);
                    Held::Ended(false)
                }
                Written::Ended(well) => Held::Ended(well),
                Written::Refused => Held::Refused,
                Written::Settled => continue,
            };
            self.held.insert(*key, held);
        }
    }

    fn contact_age(&self) -> Duration {
        self.actor.machine.contact.borrow().elapsed()
    }

    /// One connection, from its Hello to its end.
    async fn session(&mut self) {
        self.thaw().await;
        while let Ok((key, well)) = self.ends.try_recv() {
            self.ended(key, well).await;
        }
        let any = self.chance.pick(&self.actor.nodes).cloned().unwrap_or_default();
        let address = self.leader.take().unwrap_or(any);
        let (tx, rx) = mpsc::channel(256);
        let hello_sent = Instant::now();
        if tx.send(self.hello()).await.is_err() {
            return;
        }
        let mut client = WorkerGatewayClient::new(Channel::new(&self.port, &address));
        let connected = timeout(Duration::from_secs(3), client.connect(ReceiverStream::new(rx))).await;
        let Ok(Ok(response)) = connected else { return };
        let mut inbound = response.into_inner();
        let Ok(Ok(Some(first))) = timeout(Duration::from_secs(5), inbound.message()).await else {
            return;
        };
        let Some(welcome) = &first.welcome else {
            self.elsewhere(&first);
            return;
        };
        for disposition in &welcome.dispositions {
            let attempt = attempt_from_wire(disposition.attempt.as_ref());
            if let (Ok(key), Ok((_, what))) = (attempt, disposition_from_wire(disposition)) {
                self.dispose(key, what);
            }
        }
        self.actor.machine.contact.send_replace(hello_sent);
        self.world
            .note(format!("{}: has a session at {address}", self.actor.name));
        self.handle(first, &tx).await;
        let (mut seq, mut beats, mut next) = (0, BTreeMap::new(), Instant::now());
        loop {
            self.thaw().await;
            let given_up = *self.actor.machine.contact.borrow() + GIVE_UP;
            tokio::select! {
                message = inbound.message() => match message {
                    Ok(Some(message)) => {
                        if let Some(ack) = message.heartbeat_ack
                            && let Some(sent) = beats.get(&ack.seq)
                        {
                            self.actor.machine.contact.send_if_modified(|at| {
                                let later = *sent > *at;
                                *at = (*at).max(*sent);
                                later
                            });
                            beats.retain(|known, _| *known > ack.seq);
                        }
                        if message.redirect.is_some() || message.refused.is_some() {
                            return self.elsewhere(&message);
                        }
                        if !self.handle(message, &tx).await {
                            return;
                        }
                    }
                    Ok(None) | Err(_) => return,
                },
                ended = self.ends.recv() => {
                    if let Some((key, well)) = ended {
                        self.ended(key, well).await;
                        if tx.try_send(self.reports()).is_err() {
                            return;
                        }
                    }
                }
                () = sleep_until(next) => {
                    seq += 1;
                    beats.insert(seq, Instant::now());
                    next = Instant::now() + HEARTBEAT;
                    let heartbeat = Some(Heartbeat { seq, free_slots: 0 });
                    if tx.try_send(FromWorker { heartbeat, ..self.reports() }).is_err() {
                        return;
                    }
                }
                () = sleep_until(given_up) => {
                    self.world.note(format!("{}: gives its session up", self.actor.name));
                    return;
                }
            }
        }
    }

    async fn thaw(&self) {
        let mut frozen = self.actor.frozen.subscribe();
        // The actor lives as long as its agents.
        let _ = frozen.wait_for(|frozen| !frozen).await;
    }

    fn elsewhere(&mut self, message: &ToWorker) {
        if let Some(redirect) = &message.redirect
            && !redirect.leader.is_empty()
        {
            self.leader = Some(redirect.leader.clone());
        }
    }

    fn hello(&self) -> FromWorker {
        let held = self.held.iter().map(|((run, token), held)| HeldMessage {
            attempt: Some(attempt_to_wire(*run, *token)),
            state: match held {
                Held::Waiting(_) => HeldState::Waiting,
                Held::Running => HeldState::Running,
                Held::Ended(_) => HeldState::Ended,
                Held::Refused => HeldState::Refused,
            }
            .into(),
        });
        FromWorker {
            hello: Some(Hello {
                protocol_version: PROTOCOL_VERSION,
                worker: self.actor.name.clone(),
                journal_high: 1,
                journal_low: self.actor.journal_id,
                slots: self.actor.slots,
                held: held.collect(),
                ..Hello::default()
            }),
            ..FromWorker::default()
        }
    }

    /// Everything that waits for an answer.
    fn reports(&self) -> FromWorker {
        let mut message = FromWorker::default();
        for ((run, token), held) in &self.held {
            let attempt = Some(attempt_to_wire(*run, *token));
            match held {
                Held::Waiting(_) => message.grant_requests.push(GrantRequest {
                    attempt,
                    ..GrantRequest::default()
                }),
                Held::Running => {}
                Held::Ended(well) => {
                    let verdict = if *well { Verdict::Success } else { Verdict::Failure };
                    message.completed.push(Completed {
                        attempt,
                        result: Some(ResultMessage {
                            verdict: verdict.into(),
                            reason: if *well { String::new() } else { "exit code 1".to_owned() },
                            ..ResultMessage::default()
                        }),
                        ..Completed::default()
                    });
                }
                Held::Refused => message.nacks.push(Nack {
                    attempt,
                    code: NackCode::NoContact.into(),
                    journal_position: Some(JournalPosition {
                        length: 1,
                        head: vec![0; 16].into(),
                    }),
                    ..Nack::default()
                }),
            }
        }
        message
    }

    fn dispose(&mut self, key: Key, what: Disposition) {
        match what {
            Disposition::Continue => {}
            Disposition::Recorded => self.settle(key),
            Disposition::Kill | Disposition::Stale => self.kill(key),
        }
    }

    fn settle(&mut self, key: Key) {
        if matches!(self.held.get(&key), Some(Held::Ended(_) | Held::Refused)) {
            self.held.remove(&key);
            self.actor.write(key, Written::Settled);
        }
    }

    fn kill(&mut self, key: Key) {
        match self.held.get(&key) {
            Some(Held::Running) => {
                if let Some(kill) = locked(&self.actor.machine.processes).get(&key) {
                    kill.cancel();
                }
            }
            Some(Held::Waiting(_)) => {
                self.actor.write(key, Written::Refused);
                self.held.insert(key, Held::Refused);
            }
            _ => {}
        }
    }

    async fn sync(&mut self) {
        let micros = self.chance.range(100, 2_000);
        sleep(Duration::from_micros(micros)).await;
    }

    async fn ended(&mut self, key: Key, well: bool) {
        self.sync().await;
        self.actor.write(key, Written::Ended(well));
        self.held.insert(key, Held::Ended(well));
    }

    /// Takes a message; false ends the connection.
    async fn handle(&mut self, message: ToWorker, tx: &mpsc::Sender<FromWorker>) -> bool {
        let mut news = false;
        for attempt in &message.recorded {
            if let Ok(key) = attempt_from_wire(Some(attempt)) {
                self.settle(key);
            }
        }
        for run in message.runs {
            if let Ok(job) = job_from_wire(run) {
                news |= self.offer(job).await;
            }
        }
        for attempt in &message.granted {
            if let Ok(key) = attempt_from_wire(Some(attempt))
                && let Some(Held::Waiting(_)) = self.held.get(&key)
                && let Some(Held::Waiting(job)) = self.held.remove(&key)
            {
                self.begin(key, *job).await;
            }
        }
        for attempt in &message.kills {
            if let Ok(key) = attempt_from_wire(Some(attempt)) {
                self.kill(key);
                news = true;
            }
        }
        !news || tx.try_send(self.reports()).is_ok()
    }

    /// Takes a run; true: there is something to say about it.
    async fn offer(&mut self, job: Job) -> bool {
        let key = (job.run, job.token);
        if self.held.contains_key(&key) || locked(&self.actor.machine.journal).contains_key(&key) {
            return false;
        }
        if self.contact_age() > NO_STARTS {
            self.sync().await;
            self.actor.write(key, Written::Refused);
            self.held.insert(key, Held::Refused);
            return true;
        }
        if job.delivery == Delivery::AtMostOnce {
            self.held.insert(key, Held::Waiting(Box::new(job)));
            return true;
        }
        self.begin(key, job).await;
        false
    }

    /// Writes down that it starts, then starts.
    async fn begin(&mut self, key: Key, job: Job) {
        self.sync().await;
        self.actor.write(key, Written::Started);
        self.held.insert(key, Held::Running);
        // The agent may die between the two.
        self.sync().await;
        let start = Start {
            run: key.0,
            token: key.1,
            worker: self.actor.name.clone(),
            scheduled_at_ms: job.scheduled_at.as_millis(),
            at_most_once: job.delivery == Delivery::AtMostOnce,
        };
        self.actor.recorder.started(&self.world, &start);
        let kill = CancellationToken::new();
        locked(&self.actor.machine.processes).insert(key, kill.clone());
        tokio::spawn(process(self.actor.clone(), key, job, kill, self.tell.clone()));
    }
}
