//! Accepting tasks: one, many, or a stream of them.

use super::{errors, origin};
use crate::calendars::Compiled;
use crate::leader::room;
use crate::recurrences::compile;
use crate::shared::{OrStop, Shared, aside};
use crate::zones::SystemZones;
use futures::{Stream, StreamExt, stream};
use sched_core::calendar::Calendars;
use sched_core::command::{Command, Item, Reject, Reply};
use sched_core::config::Config;
use sched_core::ids::RequestKey;
use sched_core::plan::first_run;
use sched_core::schedule::{Occurrences, Schedule};
use sched_core::tables::View;
use sched_core::task::{Policy, TaskSpec};
use sched_core::{Timestamp, validate};
use sched_proto::convert::{self, from_wire, to_wire};
use sched_proto::limits::SUBMIT_MANY_ITEMS_MAX;
use sched_proto::v1::{
    self, Failure, FailureKind, SubmitManyReply, SubmitManyRequest, SubmitReply, SubmitRequest, SubmitResult,
    SubmitStreamReply, SubmitStreamRequest, schedule::Form, submit_result,
};
use std::sync::Arc;
use tokio::sync::OwnedSemaphorePermit;
use tonic::{Status, Streaming};

/// Items of a stream that are proposed together when they have come together.
const STREAM_BATCH_MAX: usize = 256;
/// Such batches in progress on one stream; beyond it, flow control holds the client back.
const STREAM_BATCHES_MAX: usize = 8;

/// Accepts one task.
pub(super) async fn one(shared: &Shared, request: SubmitRequest) -> Result<SubmitReply, Status> {
    match batch(shared, vec![request]).await.pop() {
        Some(Ok(reply)) => Ok(reply),
        Some(Err(failure)) => Err(convert::status(&failure)),
        None => Err(errors::internal("a submit without an answer")),
    }
}

/// Accepts several tasks, each on its own.
pub(super) async fn many(shared: &Shared, request: SubmitManyRequest) -> Result<SubmitManyReply, Status> {
    if request.items.len() > SUBMIT_MANY_ITEMS_MAX {
        let problem = format!("{} given, at most {SUBMIT_MANY_ITEMS_MAX}", request.items.len());
        return Err(errors::invalid("items", problem));
    }
    let results = batch(shared, request.items).await.into_iter().map(result).collect();
    Ok(SubmitManyReply { results })
}

/// Accepts tasks as they come, and answers as they are decided. `permit` is held until the stream ends.
pub(super) fn streamed(
    shared: Arc<Shared>,
    requests: Streaming<SubmitStreamRequest>,
    permit: OwnedSemaphorePermit,
) -> impl Stream<Item = Result<SubmitStreamReply, Status>> {
    let origin = origin::current();
    requests
        .ready_chunks(STREAM_BATCH_MAX)
        .map(move |chunk| {
            let shared = shared.clone();
            let chunk = async move { stream::iter(chunk_of(&shared, chunk).await) };
            origin::answering(origin, chunk)
        })
        .buffer_unordered(STREAM_BATCHES_MAX)
        .flatten()
        .map(move |reply| {
            let _held = &permit;
            reply
        })
}

async fn chunk_of(
    shared: &Shared,
    chunk: Vec<Result<SubmitStreamRequest, Status>>,
) -> Vec<Result<SubmitStreamReply, Status>> {
    let (mut numbers, mut items, mut broken) = (Vec::new(), Vec::new(), None);
    for request in chunk {
        match request {
            Ok(request) => {
                numbers.push(request.seq);
                items.push(request.item.unwrap_or_default());
            }
            Err(status) => broken = Some(status),
        }
    }
    let results = batch(shared, items).await;
    let replies = numbers.into_iter().zip(results).map(|(seq, item)| {
        Ok(SubmitStreamReply {
            seq,
            result: Some(result(item)),
        })
    });
    replies.chain(broken.map(Err)).collect()
}

fn result(item: Result<SubmitReply, Failure>) -> SubmitResult {
    let result = match item {
        Ok(reply) => submit_result::Result::Accepted(reply),
        Err(failure) => submit_result::Result::Refused(failure),
    };
    SubmitResult { result: Some(result) }
}

/// Prepares tasks, proposes those that are acceptable together, and returns one answer for each, in order.
async fn batch(shared: &Shared, requests: Vec<SubmitRequest>) -> Vec<Result<SubmitReply, Failure>> {
    let count = requests.len();
    if let Err(full) = room::check(shared) {
        return vec![Err(convert::reject(&full)); count];
    }
    let now = if requests.iter().any(depends_on_time) {
        match shared.leader_time().await {
            Ok(now) => now,
            Err(reject) => return vec![Err(convert::reject(&reject)); count],
        }
    } else {
        shared.clock.now()
    };
    let defaults = policy_defaults(shared);
    let prepared = if requests.iter().any(is_expensive) {
        let (zones, view) = (shared.zones.clone(), shared.replica.view());
        let work = move || {
            let mut calendars = Compiled::default();
            requests
                .into_iter()
                .map(|request| {
                    prepare(&zones, now, &defaults, request, |spec| {
                        calendars_of(spec, &view, &zones, &mut calendars)
                    })
                })
                .collect()
        };
        match aside(work).await {
            Ok(prepared) => prepared,
            Err(_) => {
                let failure = convert::failure(FailureKind::Internal, "a task could not be prepared");
                return vec![Err(failure); count];
            }
        }
    } else {
        requests
            .into_iter()
            // Those with calendars are among the expensive.
            .map(|request| prepare(&shared.zones, now, &defaults, request, |_| Calendars::default()))
            .collect::<Vec<_>>()
    };
    let (mut items, mut answers) = (Vec::with_capacity(count), Vec::with_capacity(count));
    for item in prepared {
        answers.push(match item {
            Ok(item) => {
                items.push(item);
                None
            }
            Err(reject) => Some(convert::reject(&reject)),
        });
    }
    let mut results = if items.is_empty() {
        Vec::new()
    } else {
        shared.propose(origin::current(), items).await
    }
    .into_iter();
    answers
        .into_iter()
        .map(|refused| refused.map_or_else(|| accepted(shared, results.next()), Err))
        .collect()
}

fn accepted(shared: &Shared, result: Option<Result<Reply, sched_raft::ProposeError>>) -> Result<SubmitReply, Failure> {
    match result {
        Some(Ok(reply)) => {
            shared.counters.submitted.add(1);
            to_wire::submit_reply(&reply)
                .ok_or_else(|| convert::failure(FailureKind::Invalid, "the request key was used for another call"))
        }
        Some(Err(e)) => Err(errors::failure(&e)),
        None => Err(convert::failure(
            FailureKind::OutcomeUnknown,
            "the proposal was not answered",
        )),
    }
}

fn calendars_of(spec: &TaskSpec, view: &impl View, zones: &SystemZones, compiled: &mut Compiled) -> Calendars {
    compiled
        .of(view, zones, &spec.namespace, &spec.bounds.calendars)
        .or_stop()
}

/// Whether a clock that is wrong would give the task another first run time, or refuse it.
fn depends_on_time(request: &SubmitRequest) -> bool {
    let schedule = request.task.as_ref().and_then(|task| task.schedule.as_ref());
    !matches!(
        schedule.and_then(|schedule| schedule.form.as_ref()),
        None | Some(Form::Now(_) | Form::Manual(_))
    )
}

/// Rules and calendars are compiled and searched off the threads that serve; the other forms are arithmetic.
fn is_expensive(request: &SubmitRequest) -> bool {
    let bounds = request.task.as_ref().and_then(|task| task.bounds.as_ref());
    if bounds.is_some_and(|bounds| !bounds.calendars.is_empty()) {
        return true;
    }
    let schedule = request.task.as_ref().and_then(|task| task.schedule.as_ref());
    matches!(
        schedule.and_then(|schedule| schedule.form.as_ref()),
        Some(Form::Cron(_) | Form::Rrule(_))
    )
}

/// Turns a request into a command: checked, relative times resolved, the first run time computed.
fn prepare(
    zones: &SystemZones,
    now: Timestamp,
    defaults: &Policy,
    request: SubmitRequest,
    calendars_of: impl FnOnce(&TaskSpec) -> Calendars,
) -> Result<Item, Reject> {
    let key = from_wire::request_key(request.request)?;
    let mut spec = task_spec(request.task.unwrap_or_default(), now)?;
    spec.policy.fill(None, defaults);
    validate::task_spec(&spec)?;
    if let Some(jitter) = &mut spec.bounds.jitter {
        jitter.seed = seed(spec.name.as_deref(), &key);
    }
    let recurrence = compile(&spec, zones)?;
    // `now` stays as it is: such a task becomes ready in the step that accepts it.
    if matches!(spec.schedule, Schedule::In { .. }) {
        spec.schedule = spec.schedule.resolved(now);
    }
    let calendars = calendars_of(&spec);
    let occurrences = Occurrences::new(&recurrence, &calendars);
    let first = first_run(&spec.schedule, &occurrences, &spec.policy, request.late_ok, now)?;
    let command = Command::Submit {
        spec: Box::new(spec),
        first,
    };
    Ok(Item {
        request: Some(key),
        principal: String::new(),
        command,
    })
}

/// Returns the policies of tasks that state none, as the leader's tables have them now: everything acknowledged is in them.
pub(super) fn policy_defaults(shared: &Shared) -> Policy {
    Config::read(&shared.replica.view()).or_stop().policy_defaults()
}

/// Reads a task. What a caller says is stated, wherever he has it from.
pub(super) fn task_spec(mut wire: v1::TaskSpec, now: Timestamp) -> Result<TaskSpec, Reject> {
    if let Some(policy) = &mut wire.policy {
        policy.defaulted.clear();
    }
    from_wire::task_spec(wire, now)
}

/// Tells the jitter of tasks apart: by their names, so that a task that is submitted anew keeps its times; else by the request.
pub(super) fn seed(name: Option<&str>, key: &RequestKey) -> u64 {
    let bytes = match (name, key) {
        (Some(name), _) => name.as_bytes().to_vec(),
        (None, RequestKey::Client { nonce, .. }) => nonce.to_be_bytes().to_vec(),
        (None, RequestKey::Caller { key, .. }) => key.as_bytes().to_vec(),
    };
    sched_core::hash::stable(&bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use sched_core::task::NextRun;
    use sched_proto::v1::{
        Action, AtSchedule, CallerKey, CronSchedule, InSchedule, NowSchedule, RequestKey, SampleAction, TaskSpec,
        action, request_key,
    };

    fn request(form: Form) -> SubmitRequest {
        let key = request_key::Key::Caller(CallerKey {
            namespace: String::new(),
            key: "k".into(),
        });
        let sample = action::Kind::Sample(SampleAction {
            succeed: true,
            duration_ms: 0,
            payload: Default::default(),
        });
        SubmitRequest {
            request: Some(RequestKey { key: Some(key) }),
            task: Some(TaskSpec {
                schedule: Some(sched_proto::v1::Schedule { form: Some(form) }),
                action: Some(Action { kind: Some(sample) }),
                ..TaskSpec::default()
            }),
            late_ok: false,
        }
    }

    fn first(form: Form, late_ok: bool) -> Result<NextRun, String> {
        let now = Timestamp::from_millis(1_000_000_000);
        let request = SubmitRequest {
            late_ok,
            ..request(form)
        };
        let defaults = Policy::default();
        match prepare(&SystemZones::open(), now, &defaults, request, |_| Calendars::default())
            .map_err(|e| e.to_string())?
            .command
        {
            Command::Submit { first, .. } => Ok(first),
            other => Err(format!("{other:?}")),
        }
    }

    #[test]
    fn relative_times_are_resolved_and_the_past_is_refused() {
        let at = |ms| NextRun::At(Timestamp::from_millis(ms));
        assert_eq!(
            first(Form::In(InSchedule { delay_ms: 5 }), false),
            Ok(at(1_000_000_005))
        );
        assert_eq!(first(Form::Now(NowSchedule {}), false), Ok(at(1_000_000_000)));
        assert_eq!(
            first(
                Form::At(AtSchedule {
                    at_unix_ms: 1_000_000_001
                }),
                false
            ),
            Ok(at(1_000_000_001))
        );
        let past = Form::At(AtSchedule { at_unix_ms: 1 });
        assert!(first(past.clone(), false).unwrap_err().contains("in the past"));
        assert_eq!(first(past, true), Ok(at(1_000_000_000)));
        let never = CronSchedule {
            expr: "0 0 30 2 *".into(),
            ..CronSchedule::default()
        };
        assert!(first(Form::Cron(never), false).is_err());
    }

    #[test]
    fn a_call_without_a_request_key_is_refused() {
        let request = SubmitRequest {
            request: None,
            ..request(Form::Now(NowSchedule {}))
        };
        let defaults = Policy::default();
        let e = prepare(&SystemZones::open(), Timestamp::EPOCH, &defaults, request, |_| {
            Calendars::default()
        });
        let e = e.unwrap_err();
        assert!(e.to_string().starts_with("request"), "{e}");
    }
}
