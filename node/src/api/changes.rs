//! Changes of tasks, runs and the scheduler, on the leader: checked, computed, proposed under the caller's request key.

use super::{errors, origin};
use crate::calendars::Compiled;
use crate::leader::room;
use crate::recurrences::compile;
use crate::shared::{OrStop, Shared, aside};
use crate::state;
use crate::zones::SystemZones;
use sched_core::apply::read_record;
use sched_core::calendar::Calendars;
use sched_core::codec::Kind;
use sched_core::command::{Call, Command, Item, Reject, Remembered, Reply};
use sched_core::ids::{RequestKey, TaskId};
use sched_core::plan::{first_run, paused_range, plan_backfill, run_time_anew};
use sched_core::schedule::{Occurrences, Schedule};
use sched_core::tables::Key;
use sched_core::task::{NextRun, Task, TaskRef, TaskStatus};
use sched_core::{Timestamp, validate};
use sched_proto::convert::{from_wire, to_wire};
use sched_proto::v1::{
    BackfillReply, BackfillRequest, CancelRequest, ClearSpoolReply, ClearSpoolRequest, DequeueRequest,
    DrainWorkerRequest, MoveRequest, PauseRequest, ResetClockReply, ResetClockRequest, ResolveRequest, ResumeRequest,
    RetryRequest, RunReply, ShutdownRequest, StartRequest, TaskReply, TriggerRequest, UndrainWorkerRequest,
    move_request,
};
use sched_raft::ProposeError;
use tonic::Status;

/// How often a change is computed anew because the task changed meanwhile.
const CONFLICTS_MAX: usize = 5;

pub(super) async fn propose(
    shared: &Shared,
    request: Option<RequestKey>,
    command: Command,
) -> Result<Reply, ProposeError> {
    let item = Item {
        request,
        principal: String::new(),
        command,
    };
    shared
        .propose(origin::current(), vec![item])
        .await
        .pop()
        .unwrap_or(Err(ProposeError::Stopped))
}

pub(super) async fn change(shared: &Shared, request: RequestKey, command: Command) -> Result<Reply, Status> {
    propose(shared, Some(request), command)
        .await
        .map_err(|e| errors::refuse(&e))
}

pub(super) fn task_reply(reply: &Reply) -> Result<TaskReply, Status> {
    to_wire::task_reply(reply).ok_or_else(other_call)
}

fn run_reply(reply: &Reply) -> Result<RunReply, Status> {
    to_wire::run_reply(reply).ok_or_else(other_call)
}

/// The answer remembered under the key belongs to a call of another kind.
pub(super) fn other_call() -> Status {
    errors::invalid("request", "this request key was used for another call; use a new one")
}

pub(super) fn wire<T>(result: Result<T, Reject>) -> Result<T, Status> {
    result.map_err(|e| errors::rejected(&e))
}

pub(super) async fn dequeue(shared: &Shared, call: DequeueRequest) -> Result<TaskReply, Status> {
    let key = wire(from_wire::request_key(call.request))?;
    let task = wire(from_wire::task_ref(call.task))?;
    task_reply(&change(shared, key, Command::Dequeue { task, kill: call.kill }).await?)
}

pub(super) async fn trigger(shared: &Shared, call: TriggerRequest) -> Result<RunReply, Status> {
    wire(room::check(shared))?;
    let key = wire(from_wire::request_key(call.request))?;
    let task = wire(from_wire::task_ref(call.task))?;
    let params = from_wire::params(call.params);
    wire(validate::params(&params))?;
    run_reply(&change(shared, key, Command::Trigger { task, params }).await?)
}

pub(super) async fn retry(shared: &Shared, call: RetryRequest) -> Result<RunReply, Status> {
    wire(room::check(shared))?;
    let key = wire(from_wire::request_key(call.request))?;
    let run = wire(from_wire::run_id(call.run))?;
    run_reply(&change(shared, key, Command::Retry { run }).await?)
}

pub(super) async fn resolve(shared: &Shared, call: ResolveRequest) -> Result<RunReply, Status> {
    let key = wire(from_wire::request_key(call.request))?;
    let run = wire(from_wire::run_id(call.run))?;
    let resolution = wire(from_wire::resolution(call.resolution))?;
    tracing::warn!(%run, resolution = resolution.as_str(), "an operator says what became of a lost run");
    run_reply(&change(shared, key, Command::Resolve { run, resolution }).await?)
}

/// Takes back the time of the state; only as far as leader time, which a majority's clocks confirm.
pub(super) async fn reset_clock(shared: &Shared, call: ResetClockRequest) -> Result<ResetClockReply, Status> {
    let key = wire(from_wire::request_key(call.request))?;
    let Some(to) = shared.terms.current().and_then(|term| term.state_ahead_of(shared)) else {
        return Err(errors::rejected(&Reject::WrongState {
            what: "the time of the state".into(),
            state: "not known to be ahead of the clocks of a majority".into(),
            expected: "nothing to take back; `schedcli check` says which clocks differ".into(),
        }));
    };
    tracing::warn!(%to, "an operator takes back the time of the state");
    change(shared, key, Command::ResetClock { to }).await?;
    Ok(ResetClockReply {
        now_unix_ms: to.as_millis(),
    })
}

pub(super) async fn cancel(shared: &Shared, call: CancelRequest) -> Result<RunReply, Status> {
    let key = wire(from_wire::request_key(call.request))?;
    let run = wire(from_wire::run_id(call.run))?;
    run_reply(&change(shared, key, Command::Cancel { run }).await?)
}

pub(super) async fn pause(shared: &Shared, call: PauseRequest) -> Result<TaskReply, Status> {
    let key = wire(from_wire::request_key(call.request))?;
    let task = wire(from_wire::task_ref(call.task))?;
    let until = wire(call.until_unix_ms.map(|ms| from_wire::instant("until", ms)).transpose())?;
    wire(validate::text("note", &call.note))?;
    task_reply(
        &change(
            shared,
            key,
            Command::Pause {
                task,
                until,
                note: call.note,
            },
        )
        .await?,
    )
}

pub(super) async fn shutdown(shared: &Shared, call: ShutdownRequest) -> Result<(), Status> {
    let key = wire(from_wire::request_key(call.request))?;
    wire(validate::text("message", &call.message))?;
    change(shared, key, Command::Shutdown { message: call.message })
        .await
        .map(|_| ())
}

pub(super) async fn start(shared: &Shared, call: StartRequest) -> Result<(), Status> {
    let key = wire(from_wire::request_key(call.request))?;
    change(shared, key, Command::Start).await.map(|_| ())
}

pub(super) async fn drain_worker(shared: &Shared, call: DrainWorkerRequest) -> Result<(), Status> {
    let key = wire(from_wire::request_key(call.request))?;
    wire(validate::name("worker", &call.worker))?;
    wire(validate::text("note", &call.note))?;
    let (worker, note) = (call.worker, call.note);
    change(shared, key, Command::DrainWorker { worker, note })
        .await
        .map(|_| ())
}

pub(super) async fn undrain_worker(shared: &Shared, call: UndrainWorkerRequest) -> Result<(), Status> {
    let key = wire(from_wire::request_key(call.request))?;
    wire(validate::name("worker", &call.worker))?;
    change(shared, key, Command::UndrainWorker { worker: call.worker })
        .await
        .map(|_| ())
}

/// Clears the spool in bounded steps. Only the first is under the caller's key: a repeat gets its answer and goes on where it stopped.
pub(super) async fn clear_spool(shared: &Shared, call: ClearSpoolRequest) -> Result<ClearSpoolReply, Status> {
    let mut key = Some(wire(from_wire::request_key(call.request))?);
    let upto = state::meta(&shared.replica.view()).or_stop().spool_tail;
    let mut removed = 0;
    loop {
        let reply = propose(shared, key.take(), Command::ClearSpool { upto }).await;
        match reply.map_err(|e| errors::refuse(&e))? {
            Reply::Count { count, more } => {
                removed += count;
                if !more {
                    return Ok(ClearSpoolReply { removed });
                }
            }
            _ => return Err(other_call()),
        }
    }
}

/// A task as the leader sees it, to compute a change from.
pub(super) struct Seen {
    pub(super) id: TaskId,
    pub(super) task: Task,
    pub(super) status: TaskStatus,
    calendars: Calendars,
}

/// Returns the task, or the answer that is remembered under the key: then nothing is computed again.
fn look(shared: &Shared, key: &RequestKey, call: Call, task: &TaskRef) -> Result<Result<Seen, Reply>, Status> {
    let view = &shared.replica.view();
    if let Some(known) = read_record::<Remembered>(view, &Key::Request(key), Kind::Reply).or_stop() {
        return wire(known.for_call(call)).map(Err);
    }
    let what = || match task {
        TaskRef::Id(id) => format!("task {id}"),
        TaskRef::Name { namespace, name } => format!("task {name:?} in namespace {namespace:?}"),
    };
    let id = state::resolve(view, task)
        .or_stop()
        .ok_or_else(|| errors::not_found(what()))?;
    let task = state::task(view, id)
        .or_stop()
        .ok_or_else(|| errors::not_found(what()))?;
    let status = state::status(view, id)
        .or_stop()
        .ok_or_else(|| errors::not_found(what()))?;
    let calendars = Compiled::default()
        .of(view, &*shared.zones, &status.namespace, &status.bounds.calendars)
        .or_stop();
    Ok(Ok(Seen {
        id,
        task,
        status,
        calendars,
    }))
}

/// Computes and proposes a change, again when the task changed in between.
pub(super) async fn computed<T>(
    shared: &Shared,
    key: RequestKey,
    task: TaskRef,
    (call, pinned): (Call, bool),
    on_wire: fn(&Reply) -> Result<T, Status>,
    compute: impl Fn(&SystemZones, Seen, Timestamp) -> Result<Command, Reject> + Clone + Send + 'static,
) -> Result<T, Status> {
    for _ in 0..CONFLICTS_MAX {
        let seen = match look(shared, &key, call, &task)? {
            Ok(seen) => seen,
            Err(reply) => return on_wire(&reply),
        };
        let now = wire(shared.leader_time().await)?;
        let (compute, zones) = (compute.clone(), shared.zones.clone());
        let command = wire(aside(move || compute(&zones, seen, now)).await?)?;
        match propose(shared, Some(key.clone()), command).await {
            Err(ProposeError::Reject(Reject::Conflict { .. })) if !pinned => {}
            result => return on_wire(&result.map_err(|e| errors::refuse(&e))?),
        }
    }
    Err(errors::overloaded("the task changes too often", 100))
}

pub(super) async fn move_task(shared: &Shared, call: MoveRequest) -> Result<TaskReply, Status> {
    let key = wire(from_wire::request_key(call.request))?;
    let task = wire(from_wire::task_ref(call.task))?;
    let start = call
        .start
        .ok_or_else(|| errors::invalid("start", "is absent; expected an instant or a delay"))?;
    let (late_ok, pinned) = (call.late_ok, call.generation);
    computed(
        shared,
        key,
        task,
        (Call::Move, pinned.is_some()),
        task_reply,
        move |zones, seen, now| {
            let at = match start {
                move_request::Start::AtUnixMs(ms) => from_wire::instant("start.at", ms)?,
                move_request::Start::InMs(ms) => {
                    let delay = Schedule::In { delay_ms: ms };
                    match delay.resolved(now) {
                        Schedule::At(at) => at,
                        _ => now,
                    }
                }
            };
            moved(zones, seen, pinned, at, late_ok, now)
        },
    )
    .await
}

/// Returns the command that gives a task a new start.
fn moved(
    zones: &SystemZones,
    seen: Seen,
    pinned: Option<u64>,
    at: Timestamp,
    late_ok: bool,
    now: Timestamp,
) -> Result<Command, Reject> {
    let Seen {
        id,
        mut task,
        status,
        calendars,
    } = seen;
    let schedule = match task.spec.schedule {
        Schedule::Now | Schedule::At(_) | Schedule::In { .. } | Schedule::After { .. } => Schedule::At(at),
        Schedule::Before { before_ms, .. } => Schedule::Before { event: at, before_ms },
        Schedule::Every { every_ms, .. } => Schedule::Every { every_ms, anchor: at },
        Schedule::Rrule {
            rules,
            rdates,
            exdates,
            zone,
            dst,
            ..
        } => {
            let dtstart = from_wire::whole_second(at);
            Schedule::Rrule {
                rules,
                dtstart,
                rdates,
                exdates,
                zone,
                dst,
            }
        }
        Schedule::Cron { .. } | Schedule::Manual => {
            return Err(Reject::Invalid {
                field: "task".into(),
                problem: format!("task {id} is {}, which has no start to move", task.spec.schedule),
            });
        }
    };
    task.spec.schedule = schedule.clone();
    validate::task_spec(&task.spec)?;
    let recurrence = compile(&task.spec, zones)?;
    // What has ended or changed is refused by apply, under the state as it is then.
    let occurrences = Occurrences::new(&recurrence, &calendars);
    let next = first_run(&schedule, &occurrences, &task.spec.policy, late_ok, now)?;
    let generation = pinned.unwrap_or(status.generation);
    Ok(Command::Move {
        task: TaskRef::Id(id),
        generation,
        schedule,
        next,
    })
}

pub(super) async fn resume(shared: &Shared, call: ResumeRequest) -> Result<TaskReply, Status> {
    let key = wire(from_wire::request_key(call.request))?;
    let task = wire(from_wire::task_ref(call.task))?;
    computed(
        shared,
        key,
        task,
        (Call::Resume, false),
        task_reply,
        |zones, seen, now| {
            let (next, paused) = match compile(&seen.task.spec, zones) {
                Ok(recurrence) => (
                    run_time_anew(&seen.task.spec.schedule, &recurrence, now),
                    paused_range(&seen.status, &mut Occurrences::new(&recurrence, &seen.calendars), now),
                ),
                // Its zone is gone from this machine: the ticker goes on searching.
                Err(_) => {
                    let gave_up = NextRun::GaveUp {
                        retry_at: now,
                        searched_until: now,
                    };
                    (gave_up, None)
                }
            };
            Ok(Command::Resume {
                task: TaskRef::Id(seen.id),
                generation: seen.status.generation,
                next,
                paused,
            })
        },
    )
    .await
}

pub(super) async fn backfill(shared: &Shared, call: BackfillRequest) -> Result<BackfillReply, Status> {
    wire(room::check(shared))?;
    let key = wire(from_wire::request_key(call.request))?;
    let task = wire(from_wire::task_ref(call.task))?;
    let from = wire(from_wire::instant("from", call.from_unix_ms))?;
    let to = wire(from_wire::instant("to", call.to_unix_ms))?;
    let at_once = call.at_once;
    let on_wire = |reply: &Reply| to_wire::backfill_reply(reply).ok_or_else(other_call);
    computed(
        shared,
        key,
        task,
        (Call::Backfill, false),
        on_wire,
        move |zones, seen, now| {
            let recurrence = compile(&seen.task.spec, zones)?;
            Ok(Command::Backfill {
                task: TaskRef::Id(seen.id),
                generation: seen.status.generation,
                times: plan_backfill(&Occurrences::new(&recurrence, &seen.calendars), from, to, now)?,
                at_once,
            })
        },
    )
    .await
}
