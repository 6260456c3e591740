//! What is asked of the cluster while faults go on, and what it answered.

use super::recorder::{Clock, Recorder};
use super::shim::Tools;
use crate::checker::{Answer, Call, Delivery, Operation, Plan, TaskAsked, Told};
use crate::tasks;
use anyhow::{Context, Result};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use sched_client::{Client, ClientError, MoveTo, Options, Start};
use sched_core::Timestamp;
use sched_core::task::TaskRef;
use sched_proto::v1;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep};
use tokio_util::sync::CancellationToken;

/// A key for tasks that are only there for the calls on them; what comes back of them is judged as calls, not as tasks.
pub(super) const CALLS_PREFIX: &str = "call-";
/// Kept of each task: everything.
const KEPT: u32 = 100_000;
/// A day: later than any run of these tests ends.
const FAR_MS: i64 = 24 * 3600 * 1000;
/// How long a caller tries: longer than any election, shorter than some faults, so that both kinds of answers come.
const DEADLINE: Duration = Duration::from_secs(8);
/// Calls on one task by each caller; then they go on with another, so that a search for an order stays short.
const CALLS_PER_TASK: u32 = 8;

/// How much there is to do.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rates {
    /// Periodic tasks, every 250 ms to 1 s.
    pub(super) periodic: u32,
    /// One-shots a second.
    pub(super) one_shots: f64,
    /// Submits a second of tasks that are not due before the end.
    pub(super) submits: f64,
    /// Runs that last for seconds, a second: some are under way whenever a node dies.
    pub(super) long: f64,
    /// Callers that change and read the same tasks.
    pub(super) callers: u32,
}

impl Rates {
    /// For three nodes on two cores.
    pub(super) const USUAL: Self = Self {
        periodic: 20,
        one_shots: 12.0,
        submits: 250.0,
        long: 1.0,
        callers: 3,
    };
}

/// What was asked and answered so far.
#[derive(Debug, Default)]
struct Asked {
    tasks: Vec<TaskAsked>,
    operations: Vec<Operation>,
}

/// What all callers share.
#[derive(Debug)]
struct Shared {
    clock: Clock,
    recorder: Arc<Recorder>,
    witness: PathBuf,
    client: Client,
    at_most_once: bool,
    asked: Mutex<Asked>,
    stop: CancellationToken,
    accepted: AtomicU64,
}

/// Callers at work.
#[derive(Debug)]
pub(super) struct Workload {
    shared: Arc<Shared>,
    callers: JoinSet<Result<()>>,
}

impl Workload {
    /// Submits the periodic tasks, whose last occurrence is before `until_ms`, and lets the callers begin.
    ///
    /// # Errors
    /// A periodic task was not accepted: there is no fault yet.
    pub(super) async fn start(
        endpoints: Vec<String>,
        (clock, recorder, tools): (Clock, Arc<Recorder>, &Tools),
        rates: Rates,
        until_ms: i64,
        seed: u64,
    ) -> Result<Self> {
        let options = Options {
            deadline: DEADLINE,
            ..Options::default()
        };
        let client = Client::with_options(endpoints, options)?;
        let shared = Arc::new(Shared {
            clock,
            recorder,
            witness: tools.witness.clone(),
            at_most_once: offers_at_most_once(&client).await?,
            client,
            asked: Mutex::default(),
            stop: CancellationToken::new(),
            accepted: AtomicU64::new(0),
        });
        for number in 0..rates.periodic {
            shared.periodic(number, until_ms).await?;
        }
        let mut callers = JoinSet::new();
        callers.spawn(one_shots(shared.clone(), rates.one_shots, until_ms, seed));
        callers.spawn(long(shared.clone(), rates.long, until_ms));
        callers.spawn(submits(shared.clone(), rates.submits));
        for caller in 0..rates.callers {
            callers.spawn(calls(shared.clone(), caller, seed));
        }
        Ok(Self { shared, callers })
    }

    /// Submits acknowledged so far.
    pub(super) fn accepted(&self) -> u64 {
        self.shared.accepted.load(Ordering::Relaxed)
    }

    /// Ends it and returns everything that was asked.
    ///
    /// # Errors
    /// A caller has failed by itself.
    pub(super) async fn stop(mut self) -> Result<(Vec<TaskAsked>, Vec<Operation>)> {
        self.shared.stop.cancel();
        while let Some(ended) = self.callers.join_next().await {
            ended??;
        }
        let mut asked = self.shared.asked.lock().unwrap_or_else(PoisonError::into_inner);
        Ok((std::mem::take(&mut asked.tasks), std::mem::take(&mut asked.operations)))
    }
}

impl Shared {
    /// Every other task is at-most-once, if nodes offer that.
    fn delivery(&self, number: u64) -> Delivery {
        if number.is_multiple_of(2) || !self.at_most_once {
            Delivery::AtLeastOnce
        } else {
            Delivery::AtMostOnce
        }
    }

    fn asked(&self, task: TaskAsked) {
        if matches!(task.answer, Answer::Accepted { .. }) {
            self.accepted.fetch_add(1, Ordering::Relaxed);
        }
        self.asked
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .tasks
            .push(task);
    }

    /// A named task whose process is witnessed.
    fn witnessed(&self, key: &str, form: v1::schedule::Form, hold: Duration, delivery: Delivery) -> v1::TaskSpec {
        let mut task = tasks::task(form, tasks::command(self.recorder.argv(&self.witness, key, hold, 0)));
        task.name = Some(key.to_owned());
        let on_wire = match delivery {
            Delivery::AtLeastOnce => v1::Delivery::AtLeastOnce,
            Delivery::AtMostOnce => v1::Delivery::AtMostOnce,
        };
        task.policy = Some(v1::Policy {
            delivery: on_wire.into(),
            overlap: v1::Overlap::Allow.into(),
            missed: Some(v1::Missed {
                rule: Some(v1::missed::Rule::All(v1::MissedAll { max: 1000 })),
            }),
            retention: Some(v1::Retention {
                finished_max: Some(KEPT),
                failed_max: Some(KEPT),
                ..v1::Retention::default()
            }),
            ..v1::Policy::default()
        });
        task
    }

    async fn periodic(&self, number: u32, until_ms: i64) -> Result<()> {
        let key = format!("every-{number}");
        let every_ms = 250 * (1 + i64::from(number % 4));
        let asked_at_ms = self.clock.now_ms();
        // Soon, and each at a time of its own.
        let first_ms = asked_at_ms + 2000 + 37 * i64::from(number);
        let delivery = self.delivery((number / 4).into());
        let form = v1::schedule::Form::Every(v1::EverySchedule {
            every_ms: every_ms.unsigned_abs(),
            anchor_unix_ms: Some(first_ms),
        });
        let mut task = self.witnessed(&key, form, Duration::from_millis(u64::from(number % 3) * 20), delivery);
        task.bounds = Some(v1::Bounds {
            not_before_unix_ms: Some(first_ms),
            until_unix_ms: Some(until_ms),
            ..v1::Bounds::default()
        });
        let reply = self.client.submit(tasks::submission(task)?).await;
        let reply = reply.with_context(|| format!("{key}, before any fault"))?;
        let answer = Answer::Accepted {
            task: reply.id,
            at_ms: self.clock.now_ms(),
        };
        let plan = Plan::Every {
            first_ms,
            every_ms,
            last_ms: Some(until_ms),
        };
        self.asked(asked(key, asked_at_ms, answer, delivery, plan));
        Ok(())
    }

    /// Submits a one-shot; whoever calls does not wait for it.
    async fn one_shot(self: Arc<Self>, key: String, due_ms: i64, hold: Duration, delivery: Delivery) -> Result<()> {
        let asked_at_ms = self.clock.now_ms();
        let mut task = self.witnessed(&key, tasks::at(due_ms), hold, delivery);
        // Accepted late, it is still due.
        task.policy.get_or_insert_default().grace_ms = Some(3_600_000);
        let answer = self.answer(&self.client.submit(tasks::submission(task)?).await);
        self.asked(asked(key, asked_at_ms, answer, delivery, Plan::Times(vec![due_ms])));
        Ok(())
    }

    fn answer(&self, reply: &Result<v1::SubmitReply, ClientError>) -> Answer {
        match reply {
            Ok(reply) => Answer::Accepted {
                task: reply.id,
                at_ms: self.clock.now_ms(),
            },
            Err(error) if is_unknown(error) => Answer::Unknown,
            Err(error) => Answer::Refused {
                reason: error.to_string(),
            },
        }
    }
}

fn asked(key: String, asked_at_ms: i64, answer: Answer, delivery: Delivery, plan: Plan) -> TaskAsked {
    TaskAsked {
        key,
        asked_at_ms,
        answer,
        delivery,
        plan,
        watched: true,
        success_codes: vec![0],
        tries_max: 1,
        may_skip: false,
        retry_delay_ms_max: 0,
        dequeued: None,
        triggers: Vec::new(),
    }
}

/// Asks with a task that is no part of the history.
async fn offers_at_most_once(client: &Client) -> Result<bool> {
    let mut task = tasks::task(tasks::at(tasks::now_ms() + FAR_MS), tasks::sample(0, 0));
    task.name = Some(format!("{CALLS_PREFIX}at-most-once"));
    task.policy.get_or_insert_default().delivery = v1::Delivery::AtMostOnce.into();
    match client.submit(tasks::submission(task)?).await {
        Ok(_) => Ok(true),
        Err(error) if error.refusal() == Some(v1::FailureKind::Invalid) || matches!(error, ClientError::Invalid(_)) => {
            Ok(false)
        }
        Err(error) => Err(error.into()),
    }
}

/// Whether a call that failed may have been carried out.
fn is_unknown(error: &ClientError) -> bool {
    match error {
        ClientError::Unreachable { outcome_unknown, .. } => *outcome_unknown,
        ClientError::Protocol { .. } => true,
        ClientError::Endpoint { .. } | ClientError::Invalid(_) | ClientError::Refused(_) => false,
    }
}

fn between(rate: f64) -> tokio::time::Interval {
    let mut ticks = interval(Duration::from_secs_f64(1.0 / rate.max(0.01)));
    // After a time without answers the load goes on as before, not all at once.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    ticks
}

async fn one_shots(shared: Arc<Shared>, rate: f64, until_ms: i64, seed: u64) -> Result<()> {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut ticks = between(rate);
    let mut under_way = JoinSet::new();
    for number in 0_u64.. {
        tokio::select! {
            () = shared.stop.cancelled() => break,
            _ = ticks.tick() => {}
        }
        let due_ms = shared.clock.now_ms() + rng.random_range(1500..5000);
        if due_ms >= until_ms {
            break;
        }
        let hold = Duration::from_millis(rng.random_range(0..150));
        under_way.spawn(
            shared
                .clone()
                .one_shot(format!("once-{number}"), due_ms, hold, shared.delivery(number)),
        );
    }
    while let Some(done) = under_way.join_next().await {
        done??;
    }
    Ok(())
}

/// At least once only: what an at-most-once run does that its worker lost, the others show often enough.
async fn long(shared: Arc<Shared>, rate: f64, until_ms: i64) -> Result<()> {
    let mut ticks = between(rate);
    let mut under_way = JoinSet::new();
    for number in 0_u64.. {
        tokio::select! {
            () = shared.stop.cancelled() => break,
            _ = ticks.tick() => {}
        }
        let (due_ms, hold) = (shared.clock.now_ms() + 1500, Duration::from_secs(4));
        if due_ms >= until_ms {
            break;
        }
        under_way.spawn(
            shared
                .clone()
                .one_shot(format!("long-{number}"), due_ms, hold, Delivery::AtLeastOnce),
        );
    }
    while let Some(done) = under_way.join_next().await {
        done??;
    }
    Ok(())
}

/// Tasks that must be there at the end, in batches: each item is acknowledged on its own.
async fn submits(shared: Arc<Shared>, rate: f64) -> Result<()> {
    const BATCH: u64 = 25;
    let mut ticks = between(rate / BATCH as f64);
    let mut under_way = JoinSet::new();
    for batch in 0_u64.. {
        tokio::select! {
            () = shared.stop.cancelled() => break,
            _ = ticks.tick() => {}
        }
        while under_way.len() >= 8 {
            if let Some(done) = under_way.join_next().await {
                done??;
            }
        }
        under_way.spawn(submit_batch(shared.clone(), batch * BATCH..(batch + 1) * BATCH));
    }
    while let Some(done) = under_way.join_next().await {
        done??;
    }
    Ok(())
}

async fn submit_batch(shared: Arc<Shared>, numbers: std::ops::Range<u64>) -> Result<()> {
    let asked_at_ms = shared.clock.now_ms();
    let due_ms = asked_at_ms + FAR_MS;
    let mut keys = Vec::new();
    let mut submissions = Vec::new();
    for number in numbers {
        let key = format!("kept-{number}");
        let mut task = tasks::task(tasks::at(due_ms), tasks::sample(0, 16));
        task.name = Some(key.clone());
        submissions.push(tasks::submission(task)?);
        keys.push(key);
    }
    let results = match shared.client.submit_many(&submissions).await {
        Ok(results) => results,
        Err(error) => keys.iter().map(|_| Err(error.clone())).collect(),
    };
    for (key, result) in keys.into_iter().zip(results) {
        let answer = shared.answer(&result);
        let task = asked(
            key,
            asked_at_ms,
            answer,
            Delivery::AtLeastOnce,
            Plan::Times(vec![due_ms]),
        );
        shared.asked(TaskAsked { watched: false, ..task });
    }
    Ok(())
}

/// Changes and reads tasks that others change and read at the same time, one call after the other.
async fn calls(shared: Arc<Shared>, caller: u32, seed: u64) -> Result<()> {
    let mut rng = StdRng::seed_from_u64(seed ^ (u64::from(caller) << 32));
    let far = shared.clock.now_ms() + FAR_MS;
    for round in 0_u32.. {
        let key = format!("{CALLS_PREFIX}{round}");
        for number in 0..CALLS_PER_TASK {
            if shared.stop.is_cancelled() {
                return Ok(());
            }
            let request = format!("{caller}-{round}-{number}");
            let call = draw(&mut rng, request, far, number == 0);
            let called_at_us = shared.clock.now_us();
            let told = carry_out(&shared.client, &key, &call).await?;
            let answered_at_us = (told != Told::Unknown).then(|| shared.clock.now_us());
            let operation = Operation {
                key: key.clone(),
                client: caller,
                called_at_us,
                answered_at_us,
                call,
                told,
            };
            shared
                .asked
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .operations
                .push(operation);
            // Callers are to meet at the same task, and the load is not to be all theirs.
            sleep(Duration::from_millis(rng.random_range(0..120))).await;
        }
    }
    Ok(())
}

fn draw(rng: &mut StdRng, request: String, far: i64, first: bool) -> Call {
    let at_ms = far + rng.random_range(0..3_600_000);
    match rng.random_range(0..10) {
        _ if first => Call::Submit {
            request,
            at_ms: Some(at_ms),
        },
        0 => Call::Submit {
            request,
            at_ms: Some(at_ms),
        },
        1 | 2 => Call::Pause {
            note: request.clone(),
            request,
        },
        3 => Call::Resume { request },
        4 => Call::Dequeue { request },
        5 | 6 => Call::Move {
            request,
            at_ms,
            generation: None,
        },
        _ => Call::Get,
    }
}

async fn carry_out(client: &Client, key: &str, call: &Call) -> Result<Told> {
    let task = TaskRef::Name {
        namespace: "default".to_owned(),
        name: key.to_owned(),
    };
    let changed = match call {
        Call::Submit { at_ms, .. } => {
            let form = match at_ms {
                Some(at_ms) => tasks::at(*at_ms),
                None => v1::schedule::Form::Manual(v1::ManualSchedule {}),
            };
            let mut spec = tasks::task(form, tasks::sample(0, 0));
            spec.name = Some(key.to_owned());
            client.submit(tasks::submission(spec)?).await.map(|reply| reply.id)
        }
        Call::Get => return Ok(found(client.task(&task).await)),
        Call::Pause { note, .. } => client.pause(&task, None, note).await.map(|reply| reply.id),
        Call::Resume { .. } => client.resume(&task).await.map(|reply| reply.id),
        Call::Dequeue { .. } => client.dequeue(&task, false).await.map(|reply| reply.id),
        Call::Move { at_ms, generation, .. } => {
            let to = MoveTo {
                task,
                start: Start::At(Timestamp::from_millis(*at_ms)),
                late_ok: false,
                generation: *generation,
            };
            client.move_task(to).await.map(|reply| reply.id)
        }
    };
    Ok(match changed {
        Ok(id) => Told::Done { id },
        Err(error) => refused(&error),
    })
}

fn found(reply: Result<v1::GetTaskReply, ClientError>) -> Told {
    let task = match reply {
        Ok(reply) => reply.task.unwrap_or_default(),
        Err(error) => return refused(&error),
    };
    let at_ms = task
        .spec
        .and_then(|spec| spec.schedule)
        .and_then(|schedule| match schedule.form {
            Some(v1::schedule::Form::At(at)) => Some(at.at_unix_ms),
            _ => None,
        });
    Told::Found {
        id: task.id,
        generation: task.generation,
        paused: task.pause.map(|pause| pause.note),
        at_ms,
    }
}

fn refused(error: &ClientError) -> Told {
    let ClientError::Refused(failure) = error else {
        return if is_unknown(error) {
            Told::Unknown
        } else {
            Told::NotDone
        };
    };
    match failure.kind() {
        v1::FailureKind::NotFound => Told::NotFound,
        v1::FailureKind::NameTaken => Told::NameTaken {
            by: failure.existing_task.unwrap_or_default(),
        },
        v1::FailureKind::WrongState => Told::WrongState,
        _ => Told::NotDone,
    }
}
