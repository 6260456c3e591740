//! The agent: one task that owns everything the worker knows, and the loop that feeds it.

mod inbound;
mod timers;

use super::attempt::{self, Finished, Handler, Limits};
use super::contact::{Contact, Phase};
use super::held::{Held, Step};
use super::job::{Facts, Heard, Job, Said};
use super::link::Dial;
use super::outbox::Outbox;
use super::stop::Stopper;
use super::stream::{Stream, StreamEvent};
use crate::clock;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use sched_core::Token;
use sched_core::task::Action;
use sched_proto::convert::worker as wire;
use sched_proto::worker as pb;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use timers::Timers;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};

/// For the last words on a stream when the worker leaves.
const FAREWELL: Duration = Duration::from_secs(1);

/// Who the worker is, and how it works.
#[derive(Clone, Debug)]
pub(super) struct Identity {
    pub(super) name: String,
    /// Random: another process is another worker.
    pub(super) journal: u128,
    pub(super) queues: BTreeSet<String>,
    pub(super) slots: u32,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) grace: Duration,
    pub(super) patience: Duration,
}

/// See the module.
pub(super) struct Agent {
    identity: Identity,
    handler: Handler,
    dial: Arc<dyn Dial>,
    /// Nodes to ask, in turn, where the leader is not known.
    endpoints: Vec<String>,
    next_endpoint: usize,
    /// Where a node said the leader is, or where it was last.
    hint: Option<String>,
    /// Which node fell silent: another one is asked first.
    shunned: Option<String>,
    stream: Stream,
    held: Held,
    contact: Contact,
    /// The phase that was acted upon.
    phase: Phase,
    outbox: Outbox,
    runs: JoinSet<(Token, Finished)>,
    heard: Arc<Heard>,
    /// Readers that wait for more output.
    readers: Vec<(Instant, pb::OutputRequest)>,
    timers: Timers,
    /// Resolves when the worker shall leave.
    leave: BoxFuture<'static, ()>,
}

/// What wakes the agent.
enum Event {
    Stream(StreamEvent),
    Finished(Token, Finished),
    Heard,
    Leave,
    /// A timer, or room in the queue to the leader.
    Again,
}

impl Agent {
    pub(super) fn new(
        identity: Identity,
        handler: Handler,
        dial: Arc<dyn Dial>,
        endpoints: Vec<String>,
        leave: BoxFuture<'static, ()>,
    ) -> Self {
        Self {
            held: Held::new(identity.slots),
            identity,
            handler,
            dial,
            endpoints,
            next_endpoint: 0,
            hint: None,
            shunned: None,
            stream: Stream::Idle {
                retry_at: Some(Instant::now()),
            },
            contact: Contact::new(),
            phase: Phase::GivenUp,
            outbox: Outbox::default(),
            runs: JoinSet::new(),
            heard: Arc::default(),
            readers: Vec::new(),
            timers: Timers::default(),
            leave,
        }
    }

    /// Runs until the worker has left. Dropping the future drops every handler.
    pub(super) async fn run(mut self) {
        loop {
            self.on_time();
            self.begin_waiting();
            self.flush();
            if self.has_left() {
                break;
            }
            match self.next().await {
                Event::Stream(event) => self.on_stream(event),
                Event::Finished(token, finished) => self.on_finished(token, finished),
                Event::Heard => self.on_heard(),
                Event::Leave => self.on_leave(),
                Event::Again => {}
            }
        }
        self.say_goodbye().await;
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
        let leaving = self.timers.is_leaving();
        tokio::select! {
            event = self.stream.next() => Event::Stream(event),
            Some(done) = self.runs.join_next() => match done {
                Ok((token, finished)) => Event::Finished(token, finished),
                // Only when it was aborted, as the agent itself ends.
                Err(_) => Event::Again,
            },
            () = self.heard.any.notified() => Event::Heard,
            () = &mut self.leave, if !leaving => Event::Leave,
            () = room => Event::Again,
            () = sleep_until(wake_at) => Event::Again,
        }
    }

    /// Begins what waits, as far as there are slots; only with good contact.
    fn begin_waiting(&mut self) {
        if self.contact.phase(clock::boot()) != Phase::Good {
            return;
        }
        while let Some(step) = self.held.next_step() {
            self.take_step(step);
        }
    }

    fn take_step(&mut self, step: Step) {
        match step {
            Step::AskForGrant(token) => drop(self.outbox.grant_requests.insert(token)),
            Step::Begin(job) => self.begin(*job),
        }
    }

    fn begin(&mut self, job: wire::Job) {
        let stopper = Stopper::new();
        let said = Arc::new(Said::new(job.token, self.heard.clone()));
        self.held.begun(&job, stopper.clone(), said.clone());
        // Looked at when it came: there is no other action here.
        let (queue, payload, progress_timeout_ms) = match job.action {
            Action::Worker {
                queue,
                payload,
                progress_timeout_ms,
            } => (queue, payload, progress_timeout_ms),
            _ => (String::new(), Vec::new(), None),
        };
        let progress_timeout = progress_timeout_ms.map(Duration::from_millis);
        let facts = Facts {
            queue,
            payload: payload.into(),
            run: job.run,
            token: job.token,
            attempt: job.attempt_number,
            namespace: job.namespace,
            task_name: job.task_name,
            scheduled_at: job.scheduled_at,
            deadline: job.time_limit.and_then(|limit| Instant::now().checked_add(limit)),
            progress_timeout,
            params: job.params,
        };
        let handed = Job {
            facts: Arc::new(facts),
            stop: stopper.signal(),
            said,
        };
        let (handler, token, grace) = (self.handler.clone(), job.token, self.identity.grace);
        let limits = Limits {
            time: job.time_limit,
            progress: progress_timeout,
            grace,
        };
        let done = attempt::run(handler, handed, stopper, limits);
        self.runs.spawn(done.map(move |finished| (token, finished)));
    }

    fn on_finished(&mut self, token: Token, finished: Finished) {
        tracing::debug!(attempt = %token, verdict = ?finished.result.verdict, "attempt ended");
        if self.held.ended(token, finished) && self.stream.is_welcomed() {
            self.outbox.reports.insert(token);
        }
        self.answer_readers();
    }

    fn on_heard(&mut self) {
        self.outbox.progress.extend(self.heard.take());
        self.answer_readers();
    }

    /// Sends what waits, as far as the queue has room.
    fn flush(&mut self) {
        let now = clock::boot();
        let Some(tx) = self.stream.tx() else { return };
        while !self.outbox.is_empty() {
            // A closed queue shows on the other side of the stream.
            let Ok(permit) = tx.try_reserve() else { return };
            if let Some(batch) = self.outbox.batch(&mut self.held, &mut self.contact, now) {
                permit.send(batch);
            }
        }
    }

    /// Says that nothing is held any more, and lets the leader end the stream: a stream that is dropped may lose its last batch.
    async fn say_goodbye(&mut self) {
        if !self.held.is_empty() || !self.stream.is_welcomed() {
            return;
        }
        let batch = pb::FromWorker {
            goodbye: Some(pb::Goodbye {
                empty: true,
                reason: String::new(),
            }),
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
        // The lease ends the session otherwise.
        let _ = timeout(FAREWELL, farewell).await;
    }
}
