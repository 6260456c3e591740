//! Simulated clients: they submit, trigger, pause, dequeue, shut down and start, and repeat every call under its key until it is answered.

use crate::faults::Temper;
use sched_core::ids::{RunId, TaskId};
use sched_proto::convert;
use sched_proto::v1::scheduler_client::SchedulerClient;
use sched_proto::v1::{
    Action, AtSchedule, ClearSpoolRequest, ClientKey, DequeueRequest, EverySchedule, Failure, FailureKind, InSchedule,
    ManualSchedule, Missed, MissedAll, NowSchedule, Overlap, PauseRequest, Policy, RequestKey, ResumeRequest,
    SampleAction, Schedule, ShutdownRequest, StartRequest, SubmitRequest, TaskRef, TaskSpec, TaskState, Tries,
    TriggerRequest, action::Kind, missed, request_key, schedule::Form, task_ref,
};
use sim_ground::{Chance, Channel, Port, World, world};
use sim_node::host::client_address;
use std::collections::BTreeMap;
use std::future::Future;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::{sleep, timeout};
use tonic::Status;

/// For one try of a call.
const PATIENCE: Duration = Duration::from_secs(4);
/// A key of the client library lives so long; calls are given up before.
const KEY_MS: i64 = 9 * 60 * 1000;
/// Periodic tasks of one client: each is a load for ever.
const PERIODIC_MAX: usize = 2;

/// What a client was told.
#[derive(Clone, Debug)]
pub(crate) struct Told {
    /// Stands in the task, so that it is found without its number.
    pub(crate) mark: String,
    /// Nothing when the answer had none.
    pub(crate) id: Option<TaskId>,
    pub(crate) spooled: bool,
    /// When it was first asked for, and when that was answered: true time, in milliseconds.
    pub(crate) asked_ms: i64,
    pub(crate) answered_ms: i64,
    /// In milliseconds; only for tasks that are due after a delay.
    pub(crate) in_ms: Option<u64>,
    /// In milliseconds; only for tasks that recur.
    pub(crate) every_ms: Option<u64>,
    /// It was never paused or moved: its occurrences are without a gap.
    pub(crate) untouched: bool,
    pub(crate) manual: bool,
    /// Acknowledged, and whether into the spool.
    pub(crate) dequeued: Option<bool>,
    /// Runs that were acknowledged.
    pub(crate) triggered: Vec<RunId>,
}

/// What all clients of a seed were told.
#[derive(Default)]
pub(crate) struct Answers {
    told: Mutex<BTreeMap<String, Told>>,
    /// The spool was, or may have been, cleared.
    pub(crate) cleared: AtomicBool,
    /// No new calls are begun.
    pub(crate) closing: AtomicBool,
    /// Clients that have not come to their end.
    pub(crate) busy: AtomicUsize,
    pub(crate) calls: AtomicUsize,
}

impl Answers {
    pub(crate) fn told(&self) -> MutexGuard<'_, BTreeMap<String, Told>> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One client.
pub(crate) struct Client {
    name: String,
    port: Port,
    nodes: u64,
    temper: Temper,
    chance: Chance,
    world: Arc<World>,
    answers: Arc<Answers>,
    /// Also shuts the scheduler down and starts it.
    operator: bool,
    submitted: u64,
    mine: Vec<String>,
}

fn action(duration_ms: u64, succeed: bool) -> Action {
    let sample = SampleAction {
        succeed,
        duration_ms,
        ..SampleAction::default()
    };
    Action {
        kind: Some(Kind::Sample(sample)),
    }
}

fn task_of(id: TaskId) -> Option<TaskRef> {
    Some(TaskRef {
        by: Some(task_ref::By::Id(id.0)),
    })
}

impl Client {
    pub(crate) fn start(number: u64, nodes: u64, temper: Temper, answers: &Arc<Answers>) {
        let world = world();
        let client = Self {
            name: format!("c{number}"),
            port: Port::new(&format!("c{number}")),
            nodes,
            temper,
            chance: world.split(),
            world,
            answers: answers.clone(),
            operator: number == 1,
            submitted: 0,
            mine: Vec::new(),
        };
        answers.busy.fetch_add(1, Ordering::SeqCst);
        tokio::spawn(client.run());
    }

    async fn run(mut self) {
        let pace = self.chance.range(100, 900);
        while !self.answers.closing.load(Ordering::SeqCst) {
            let pause = self.chance.below(pace);
            sleep(Duration::from_millis(pause)).await;
            match self.chance.below(100) {
                0..55 => self.submit(None).await,
                55..70 => self.trigger().await,
                70..80 => self.pause().await,
                80..90 => self.dequeue().await,
                _ if self.operator => self.shut_down().await,
                _ => {}
            }
        }
        if self.operator {
            self.start_again().await;
        }
        self.answers.busy.fetch_sub(1, Ordering::SeqCst);
    }

    fn key(&mut self) -> Option<RequestKey> {
        let client = ClientKey {
            expires_at_unix_ms: self.world.now_ms() + KEY_MS,
            nonce_high: self.chance.number(),
            nonce_low: self.chance.number(),
        };
        Some(RequestKey {
            key: Some(request_key::Key::Client(client)),
        })
    }

    /// Calls until there is an answer. An answered call is sometimes repeated: it must be answered the same.
    async fn call<T, F>(&mut self, what: &str, make: impl Fn(SchedulerClient<Channel>) -> F) -> Result<T, Failure>
    where
        F: Future<Output = Result<T, Status>>,
        T: PartialEq + std::fmt::Debug,
    {
        let mut first: Option<T> = None;
        self.answers.calls.fetch_add(1, Ordering::SeqCst);
        loop {
            let node = 1 + self.chance.below(self.nodes);
            let channel = Channel::new(&self.port, &client_address(node));
            let answer = timeout(PATIENCE, make(SchedulerClient::new(channel))).await;
            let status = match answer {
                Ok(Ok(reply)) => {
                    if let Some(first) = &first
                        && *first != reply
                    {
                        self.world.finding(format!(
                            "{}: {what} repeated under its key: {first:?}, then {reply:?}",
                            self.name
                        ));
                    }
                    let again = first.is_none() && self.chance.permille(150);
                    if !again {
                        return Ok(first.unwrap_or(reply));
                    }
                    first = Some(reply);
                    continue;
                }
                Ok(Err(status)) => Some(status),
                Err(_) => None,
            };
            if let Some(status) = status
                && let Some(failure) = convert::failure_of(&status)
                && !convert::is_worth_another_try(failure.kind())
            {
                if let Some(first) = first {
                    let refusal = failure.message;
                    self.world.finding(format!(
                        "{}: {what} repeated under its key: {first:?}, then {refusal}",
                        self.name
                    ));
                    return Ok(first);
                }
                return Err(failure);
            }
            let pause = self.chance.range(50, 600);
            sleep(Duration::from_millis(pause)).await;
        }
    }

    fn policy(&mut self) -> Policy {
        let mut policy = Policy::default();
        if self.chance.permille(300) {
            policy.tries = Some(Tries {
                max: Some(3),
                delay_ms: Some(300),
                ..Tries::default()
            });
        }
        policy
    }

    /// Returns how many tasks of this client recur.
    fn periodic(&self) -> usize {
        let told = self.answers.told();
        let mine = self.mine.iter().filter_map(|mark| told.get(mark));
        mine.filter(|told| told.every_ms.is_some() && told.dequeued.is_none())
            .count()
    }

    /// Submits a task; a schedule may be wanted.
    async fn submit(&mut self, wanted: Option<Form>) {
        self.submitted += 1;
        let mark = format!("{}-{}", self.name, self.submitted);
        let mut duration_ms = self.chance.range(50, 1_500);
        if self.chance.permille(self.temper.long_permille()) {
            duration_ms = self.chance.range(3_000, 14_000);
        }
        let mut policy = self.policy();
        let mark = if policy.tries.is_none() && self.chance.permille(600) {
            format!("{mark}!")
        } else {
            mark
        };
        let periodic = self.periodic();
        let form = wanted.unwrap_or_else(|| match self.chance.below(10) {
            0..4 => Form::Now(NowSchedule {}),
            4 => Form::At(AtSchedule {
                at_unix_ms: self.world.now_ms() + i64::try_from(self.chance.range(1_000, 9_000)).unwrap_or(0),
            }),
            5 => Form::In(InSchedule {
                delay_ms: self.chance.range(1_000, 9_000),
            }),
            6..8 => Form::Manual(ManualSchedule {}),
            _ if periodic < PERIODIC_MAX => Form::Every(EverySchedule {
                every_ms: self.chance.range(1, 4) * 1000,
                ..EverySchedule::default()
            }),
            _ => Form::Now(NowSchedule {}),
        });
        let (in_ms, every_ms) = match &form {
            Form::In(form) => (Some(form.delay_ms), None),
            Form::Every(every) => (None, Some(every.every_ms)),
            _ => (None, None),
        };
        if every_ms.is_some() {
            duration_ms = duration_ms.min(1_500);
            policy.overlap = Overlap::Allow.into();
            policy.missed = Some(Missed {
                rule: Some(missed::Rule::All(MissedAll { max: 1000 })),
            });
        }
        let manual = matches!(form, Form::Manual(_));
        let request = SubmitRequest {
            request: self.key(),
            task: Some(TaskSpec {
                name: self.chance.permille(500).then(|| mark.clone()),
                description: mark.clone(),
                schedule: Some(Schedule { form: Some(form) }),
                action: Some(action(duration_ms, self.chance.permille(850))),
                policy: Some(policy),
                ..TaskSpec::default()
            }),
            late_ok: true,
        };
        let (sent, asked_ms) = (request.clone(), self.world.now_ms());
        let answer = self
            .call("submit", move |mut client| {
                let request = sent.clone();
                async move { Ok(client.submit(request).await?.into_inner()) }
            })
            .await;
        match answer {
            Ok(reply) => {
                self.world.note(format!("{mark}: accepted as {}", reply.id));
                self.accepted(Told {
                    id: (reply.id > 0).then_some(TaskId(reply.id)),
                    spooled: reply.state() == TaskState::Spooled,
                    mark,
                    asked_ms,
                    answered_ms: self.world.now_ms(),
                    in_ms,
                    every_ms,
                    untouched: true,
                    manual,
                    dequeued: None,
                    triggered: Vec::new(),
                });
            }
            Err(failure) if failure.kind() == FailureKind::NameTaken => {
                self.world
                    .finding(format!("{mark}: its own name is taken: {}", failure.message));
            }
            Err(failure) => self.world.finding(format!("{mark}: refused: {}", failure.message)),
        }
    }

    fn accepted(&mut self, told: Told) {
        self.mine.push(told.mark.clone());
        self.answers.told().insert(told.mark.clone(), told);
    }

    /// Picks one of this client's tasks.
    fn pick(&mut self, wanted: impl Fn(&Told) -> bool) -> Option<(String, TaskId)> {
        let told = self.answers.told();
        let fitting: Vec<(String, TaskId)> = self
            .mine
            .iter()
            .filter_map(|mark| told.get(mark))
            .filter(|told| wanted(told))
            .filter_map(|told| Some((told.mark.clone(), told.id?)))
            .collect();
        drop(told);
        self.chance.pick(&fitting).cloned()
    }

    async fn trigger(&mut self) {
        let Some((mark, id)) = self.pick(|told| told.manual && told.dequeued.is_none()) else {
            return;
        };
        self.trigger_task(mark, id).await;
    }

    async fn trigger_task(&mut self, mark: String, id: TaskId) {
        let request = TriggerRequest {
            request: self.key(),
            task: task_of(id),
            params: Vec::new(),
        };
        let answer = self
            .call("trigger", move |mut client| {
                let request = request.clone();
                async move { Ok(client.trigger(request).await?.into_inner()) }
            })
            .await;
        if let Ok(reply) = answer
            && let Some(run) = reply.run
            && let Some(told) = self.answers.told().get_mut(&mark)
        {
            told.triggered.push(RunId {
                task: TaskId(run.task),
                number: run.number,
            });
        }
    }

    async fn pause(&mut self) {
        let Some((mark, id)) = self.pick(|told| told.every_ms.is_some() && told.dequeued.is_none()) else {
            return;
        };
        if let Some(told) = self.answers.told().get_mut(&mark) {
            told.untouched = false;
        }
        let request = PauseRequest {
            request: self.key(),
            task: task_of(id),
            ..PauseRequest::default()
        };
        let paused = self
            .call("pause", move |mut client| {
                let request = request.clone();
                async move { Ok(client.pause(request).await?.into_inner()) }
            })
            .await;
        let pause = self.chance.below(3_000);
        sleep(Duration::from_millis(pause)).await;
        if paused.is_ok() {
            let request = ResumeRequest {
                request: self.key(),
                task: task_of(id),
            };
            // Refused when it was dequeued or cleared meanwhile.
            let _ = self
                .call("resume", move |mut client| {
                    let request = request.clone();
                    async move { Ok(client.resume(request).await?.into_inner()) }
                })
                .await;
        }
    }

    async fn dequeue(&mut self) {
        let Some((mark, id)) = self.pick(|told| told.dequeued.is_none()) else {
            return;
        };
        self.dequeue_task(mark, id).await;
    }

    async fn dequeue_task(&mut self, mark: String, id: TaskId) {
        let request = DequeueRequest {
            request: self.key(),
            task: task_of(id),
            kill: self.chance.permille(500),
        };
        if let Some(told) = self.answers.told().get_mut(&mark) {
            told.untouched = false;
        }
        let answer = self
            .call("dequeue", move |mut client| {
                let request = request.clone();
                async move { Ok(client.dequeue(request).await?.into_inner()) }
            })
            .await;
        if let Ok(reply) = answer {
            // A task that was queued before the spool had anything is answered as it is, and may yet stay.
            let spooled = reply.state() != TaskState::Terminated;
            self.world.note(format!(
                "{mark}: dequeued, {}",
                if spooled { "spooled" } else { "at once" }
            ));
            if let Some(told) = self.answers.told().get_mut(&mark) {
                told.dequeued = Some(spooled);
            }
        }
    }

    /// Shuts the scheduler down, fills the spool, and starts it again.
    async fn shut_down(&mut self) {
        if !self.chance.permille(400) {
            return;
        }
        let request = ShutdownRequest {
            request: self.key(),
            message: "for a while".into(),
        };
        let down = self
            .call("shutdown", move |mut client| {
                let request = request.clone();
                async move { Ok(client.shutdown(request).await?.into_inner()) }
            })
            .await;
        if down.is_ok() {
            self.world.note("the scheduler is shut down");
            for _ in 0..self.chance.range(1, 4) {
                self.pair().await;
            }
            if self.chance.permille(150) {
                self.clear().await;
            }
        }
        self.start_again().await;
    }

    /// Two operations whose order in the spool matters.
    async fn pair(&mut self) {
        let every = Form::Every(EverySchedule {
            every_ms: 2_000,
            ..EverySchedule::default()
        });
        self.submit(Some(every)).await;
        let newest = self.mine.last().cloned();
        let Some(mark) = newest else { return };
        let id = self.answers.told().get(&mark).and_then(|told| told.id);
        if let Some(id) = id {
            self.dequeue_task(mark, id).await;
        }
    }

    async fn clear(&mut self) {
        self.answers.cleared.store(true, Ordering::SeqCst);
        let request = ClearSpoolRequest { request: self.key() };
        // However many it removes: what was spooled is no longer counted on.
        let _ = self
            .call("clear-spool", move |mut client| {
                let request = request.clone();
                async move { Ok(client.clear_spool(request).await?.into_inner()) }
            })
            .await;
        self.world.note("the spool is cleared");
    }

    async fn start_again(&mut self) {
        let request = StartRequest { request: self.key() };
        // Refused when it is not shut down.
        let _ = self
            .call("start", move |mut client| {
                let request = request.clone();
                async move { Ok(client.start(request).await?.into_inner()) }
            })
            .await;
    }
}
