//! The agent: one task that owns everything the worker knows, and the loop that feeds it.

mod inbound;
mod timers;

use super::attempt::{Finished, Runner};
use super::contact::{Contact, Phase};
use super::held::{Held, Step};
use super::journal::{self, Journal, Recovered};
use super::link::Dial;
use super::outbox::Outbox;
use super::stream::{Stream, StreamEvent};
use super::supervisor::{Lease, Supervision};
use super::{WorkerClock, WorkerStatus};
use sched_core::{NodeId, SessionId, Token};
use sched_proto::worker as pb;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use timers::Timers;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};

/// Ends of attempts taken in one go, so that they share a batch.
const GATHER_MAX: usize = 1024;
/// For the last words on a stream when the worker leaves.
const FAREWELL: Duration = Duration::from_secs(1);

/// Who the worker is.
#[derive(Clone)]
pub(super) struct Identity {
    pub(super) name: String,
    pub(super) slots: u32,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) node: Option<NodeId>,
    /// Names the cluster it belongs to; empty as long as that is not known.
    pub(super) cluster: Arc<dyn Fn() -> String + Send + Sync>,
}

/// See the module.
pub(super) struct Agent {
    identity: Identity,
    runner: Arc<Runner>,
    dial: Arc<dyn Dial>,
    leader: watch::Receiver<Option<String>>,
    /// Whose sender is gone: nobody will name another leader.
    leader_closed: bool,
    leave: mpsc::Receiver<Duration>,
    status: watch::Sender<WorkerStatus>,
    stream: Stream,
    /// Where a follower said the leader is; tried before what this node believes.
    hint: Option<String>,
    held: Held,
    journal: Journal,
    /// The journal is another worker's: what runs is killed, then a new one is begun.
    renewing: Option<Renewing>,
    contact: Contact,
    /// The phase that was acted upon.
    phase: Phase,
    outbox: Outbox,
    runs: JoinSet<(Token, Finished)>,
    reads: JoinSet<pb::OutputChunk>,
    timers: Timers,
    session: Option<SessionId>,
    started: u64,
    supervision: Option<Supervision>,
}

/// How far the beginning of a new journal is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Renewing {
    /// Something still runs.
    Ending,
    /// The journal is being written.
    Asked,
}

/// What wakes the agent.
enum Event {
    Journal(journal::Event),
    Stream(StreamEvent),
    Finished(Token, Finished),
    Read(pb::OutputChunk),
    LeaderChanged,
    Leave(Duration),
    /// A timer, room in the queue to the leader, or a task without a result.
    Again,
    /// The handle is gone.
    Abandoned,
}

impl Agent {
    pub(super) fn new(
        identity: Identity,
        (journal, recovered): (Journal, Recovered),
        runner: Arc<Runner>,
        dial: Arc<dyn Dial>,
        leader: watch::Receiver<Option<String>>,
        (leave, status): (mpsc::Receiver<Duration>, watch::Sender<WorkerStatus>),
        supervision: Option<Supervision>,
    ) -> Self {
        Self {
            held: Held::recover(identity.slots, recovered, runner.clock.wall()),
            journal,
            renewing: None,
            identity,
            runner,
            dial,
            leader,
            leader_closed: false,
            leave,
            status,
            stream: Stream::Idle {
                retry_at: Some(Instant::now()),
            },
            hint: None,
            contact: Contact::new(),
            phase: Phase::GivenUp,
            outbox: Outbox::default(),
            runs: JoinSet::new(),
            reads: JoinSet::new(),
            timers: Timers::default(),
            session: None,
            started: 0,
            supervision,
        }
    }

    /// Runs until the worker has left or its handle is dropped.
    pub(super) async fn run(mut self) {
        loop {
            self.on_time();
            self.extend_lease();
            self.start_waiting();
            self.write_journal();
            self.flush();
            self.publish(false);
            if self.has_left() {
                break;
            }
            match self.next().await {
                Event::Stream(event) => self.on_stream(event),
                Event::Journal(event) => self.on_journal(event),
                Event::Finished(token, finished) => self.on_finished(token, finished),
                Event::Read(chunk) => self.outbox.output(chunk),
                Event::LeaderChanged => self.on_leader_changed(),
                Event::Leave(patience) => self.on_leave(patience),
                Event::Again => {}
                Event::Abandoned => break,
            }
        }
        self.say_goodbye().await;
        // Kills what is left, were there anything.
        self.runs.shutdown().await;
        // Whoever starts a worker on this folder next shall not find it in use.
        self.journal.close();
        self.publish(true);
    }

    async fn next(&mut self) -> Event {
        let wake_at = self.next_deadline();
        let tx = self.stream.tx().filter(|_| !self.outbox.is_empty()).cloned();
        let room = async {
            match &tx {
                Some(tx) => drop(tx.reserve().await),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            event = self.stream.next() => Event::Stream(event),
            event = self.journal.next() => Event::Journal(event),
            Some(done) = self.runs.join_next() => match done {
                Ok((token, finished)) => Event::Finished(token, finished),
                // Only when it was aborted, as the agent itself ends.
                Err(_) => Event::Again,
            },
            Some(read) = self.reads.join_next() => read.map_or(Event::Again, Event::Read),
            changed = self.leader.changed(), if !self.leader_closed => {
                self.leader_closed = changed.is_err();
                Event::LeaderChanged
            }
            patience = self.leave.recv() => patience.map_or(Event::Abandoned, Event::Leave),
            () = room => Event::Again,
            () = sleep_until(wake_at) => Event::Again,
        }
    }

    /// Tells the supervisors what the last acknowledged sign of life is worth. They act by themselves when nothing newer comes.
    fn extend_lease(&self) {
        if let (Some(supervision), Some((since, length))) = (&self.supervision, self.contact.lease()) {
            supervision.extend(Lease { since, length });
        }
    }

    fn clock(&self) -> &WorkerClock {
        &self.runner.clock
    }

    /// Lets begin what waits, as far as there are slots; only with good contact.
    fn start_waiting(&mut self) {
        if self.held.parked() > 0 && self.contact.phase(self.clock().boot()) == Phase::Good {
            self.held.begin_waiting();
        }
    }

    /// Hands on what is to be written, and begins a new journal once nothing of the old one runs.
    fn write_journal(&mut self) {
        for record in self.held.take_records() {
            self.journal.write(record);
        }
        if self.renewing == Some(Renewing::Ending) && self.runs.is_empty() {
            self.renewing = Some(Renewing::Asked);
            self.journal.renew();
        }
    }

    fn on_journal(&mut self, event: journal::Event) {
        match event {
            journal::Event::Durable { marks, .. } => {
                let (phase, now) = (self.contact.phase(self.clock().boot()), self.clock().wall());
                for mark in marks {
                    if let Some(step) = self.held.journalled(mark, phase, now) {
                        self.take_step(step);
                    }
                }
            }
            journal::Event::Renewed { journal, .. } => {
                tracing::warn!(worker = self.identity.name, %journal, "joins as a new worker");
                self.renewing = None;
                self.held.own_again();
                self.dial_now();
            }
            journal::Event::Failed(reason) => {
                for token in self.held.journal_failed(&reason) {
                    self.take_step(Step::Report(token));
                }
            }
        }
    }

    /// The leader says that the journal was restored or copied: nothing it holds is this worker's.
    fn disown(&mut self, reason: &str) {
        tracing::error!(
            worker = self.identity.name,
            reason,
            "the journal is another worker's: what runs is killed, and this worker joins as a new one"
        );
        self.held.disown();
        self.contact.give_up();
        self.session = None;
        self.renewing.get_or_insert(Renewing::Ending);
        self.disconnect(reason, None);
        self.stream = Stream::Idle { retry_at: None };
    }

    fn take_step(&mut self, step: Step) {
        match step {
            Step::AskForGrant(token) if self.stream.is_welcomed() => self.outbox.ask_for_grant(token),
            Step::Report(token) if self.stream.is_welcomed() => self.outbox.report(token),
            // After the next Welcome.
            Step::AskForGrant(_) | Step::Report(_) => {}
            Step::Start { job, stopper } => {
                self.started += 1;
                let runner = self.runner.clone();
                self.runs
                    .spawn(async move { (job.token, runner.run(&job, &stopper).await) });
            }
        }
    }

    fn on_finished(&mut self, token: Token, finished: Finished) {
        self.ended(token, finished);
        for _ in 0..GATHER_MAX {
            match self.runs.try_join_next() {
                Some(Ok((token, finished))) => self.ended(token, finished),
                Some(Err(_)) => {}
                None => break,
            }
        }
    }

    fn ended(&mut self, token: Token, finished: Finished) {
        tracing::debug!(attempt = %token, verdict = ?finished.result.verdict, reason = finished.reason, "attempt ended");
        self.held.ended(token, finished);
    }

    /// Sends what waits, as far as the queue has room.
    fn flush(&mut self) {
        let now = self.clock().boot();
        let position = self.journal.failure().is_none().then(|| self.journal.position());
        let Some(tx) = self.stream.tx() else { return };
        while !self.outbox.is_empty() {
            // A closed queue shows on the other side of the stream.
            let Ok(permit) = tx.try_reserve() else { return };
            if let Some(batch) = self.outbox.batch(&mut self.held, &mut self.contact, position, now) {
                permit.send(batch);
            }
        }
    }

    /// Says that nothing is held any more, and lets the leader end the stream: a stream that is dropped may lose its last batch.
    async fn say_goodbye(&mut self) {
        let leaving = self.timers.is_leaving() && self.held.is_empty();
        if !leaving || !self.stream.is_welcomed() {
            return;
        }
        let goodbye = pb::Goodbye {
            empty: true,
            reason: String::new(),
        };
        let batch = pb::FromWorker {
            goodbye: Some(goodbye),
            ..Default::default()
        };
        let idle = Stream::Idle { retry_at: None };
        let Stream::Open { link, .. } = std::mem::replace(&mut self.stream, idle) else {
            return;
        };
        let (tx, mut rx) = (link.tx, link.rx);
        let farewell = async move {
            if tx.send(batch).await.is_ok() {
                drop(tx);
                while let Some(Ok(_)) = futures::StreamExt::next(&mut rx).await {}
            }
        };
        let _ = timeout(FAREWELL, farewell).await;
    }

    /// Shows what the worker is doing.
    fn publish(&self, gone: bool) {
        let welcomed = self.stream.is_welcomed() && !gone;
        let new = WorkerStatus {
            leader: self.stream.address().filter(|_| welcomed).map(str::to_owned),
            session: self.session,
            slots: self.identity.slots,
            running: self.runs.len(),
            waiting: self.held.parked(),
            unrecorded: self.held.unrecorded(),
            started: self.started,
            draining: self.held.is_draining(),
            journal_failure: self.journal.failure().map(str::to_owned),
            gone,
        };
        self.status.send_if_modified(|old| {
            let changed = *old != new;
            *old = new;
            changed
        });
    }
}

impl Drop for Agent {
    /// Also when the task is aborted, so that nobody waits for a worker that is gone.
    fn drop(&mut self) {
        self.status
            .send_if_modified(|status| !std::mem::replace(&mut status.gone, true));
    }
}
