//! From `sched-core` to the wire. Cannot fail.

mod ledger;
mod replies;

pub use ledger::ledger_line;
pub use replies::*;

use crate::v1;
use sched_core::Timestamp;
use sched_core::calendar::{Calendar, CalendarSpec, Interval};
use sched_core::command::{Resolution, SpoolOp};
use sched_core::ids::{RequestKey, RunId, TaskId};
use sched_core::run::{Attempt, AttemptEnd, Occurrence, Run, RunState};
use sched_core::schedule::{DstPolicy, Schedule};
use sched_core::task::{
    Action, Bounds, Delivery, Ending, Missed, NextRun, Notify, NotifyOn, NotifyTo, OnDisconnect, Overlap, Policy,
    PolicyField, ScheduleKind, Task, TaskRef, TaskSpec, TaskState, TaskStatus,
};

/// A task as a client asks for it: what it leaves to the cluster is left out.
pub fn asked_task(spec: &TaskSpec) -> v1::TaskSpec {
    v1::TaskSpec {
        policy: Some(asked_policy(&spec.policy)),
        ..task_spec(spec)
    }
}

/// A task as it is. Every optional field is written out, so that the reader needs to know no default.
pub fn task_spec(spec: &TaskSpec) -> v1::TaskSpec {
    v1::TaskSpec {
        namespace: spec.namespace.clone(),
        name: spec.name.clone(),
        labels: spec.labels.clone(),
        owner: spec.owner.clone(),
        description: spec.description.clone(),
        schedule: Some(schedule(&spec.schedule)),
        action: Some(action(&spec.action)),
        policy: Some(policy(&spec.policy)),
        bounds: (spec.bounds != Bounds::default()).then(|| bounds(&spec.bounds)),
    }
}

/// The bounds of a task.
pub fn bounds(bounds: &Bounds) -> v1::Bounds {
    v1::Bounds {
        not_before_unix_ms: bounds.not_before.map(Timestamp::as_millis),
        until_unix_ms: bounds.until.map(Timestamp::as_millis),
        expires_unix_ms: bounds.expires.map(Timestamp::as_millis),
        count: bounds.count,
        jitter_ms: bounds.jitter.map(|jitter| jitter.ms),
        calendars: bounds.calendars.clone(),
    }
}

/// A calendar.
pub fn calendar(spec: &CalendarSpec) -> v1::Calendar {
    let interval = |interval: &Interval| v1::ClosedInterval {
        from_unix_ms: interval.from.as_millis(),
        to_unix_ms: interval.to.as_millis(),
    };
    v1::Calendar {
        description: spec.description.clone(),
        zone: spec.zone.clone(),
        days: spec.days.clone(),
        intervals: spec.intervals.iter().map(interval).collect(),
    }
}

/// A calendar in a list.
pub fn calendar_summary(name: &str, calendar: &Calendar) -> v1::CalendarSummary {
    let count = |list: usize| u32::try_from(list).unwrap_or(u32::MAX);
    v1::CalendarSummary {
        name: name.to_owned(),
        description: calendar.spec.description.clone(),
        zone: calendar.spec.zone.clone(),
        generation: calendar.generation,
        changed_at_unix_ms: calendar.changed_at.as_millis(),
        days: count(calendar.spec.days.len()),
        intervals: count(calendar.spec.intervals.len()),
    }
}

/// A schedule.
pub fn schedule(schedule: &Schedule) -> v1::Schedule {
    use v1::schedule::Form;
    let form = match schedule {
        Schedule::Now => Form::Now(v1::NowSchedule {}),
        Schedule::At(at) => Form::At(v1::AtSchedule {
            at_unix_ms: at.as_millis(),
        }),
        Schedule::In { delay_ms } => Form::In(v1::InSchedule { delay_ms: *delay_ms }),
        Schedule::Every { every_ms, anchor } => Form::Every(v1::EverySchedule {
            every_ms: *every_ms,
            anchor_unix_ms: Some(anchor.as_millis()),
        }),
        Schedule::Cron { expr, zone, dst } => Form::Cron(v1::CronSchedule {
            expr: expr.clone(),
            zone: zone.clone(),
            dst: dst_policy(*dst).into(),
        }),
        Schedule::Rrule {
            rules,
            dtstart,
            rdates,
            exdates,
            zone,
            dst,
        } => Form::Rrule(v1::RruleSchedule {
            rules: rules.clone(),
            dtstart_unix_ms: Some(dtstart.as_millis()),
            rdates_unix_ms: rdates.iter().map(|at| at.as_millis()).collect(),
            exdates_unix_ms: exdates.iter().map(|at| at.as_millis()).collect(),
            zone: zone.clone(),
            dst: dst_policy(*dst).into(),
        }),
        Schedule::Manual => Form::Manual(v1::ManualSchedule {}),
        Schedule::After { parents, on } => Form::After(v1::AfterSchedule {
            tasks: parents.iter().map(task_ref).collect(),
            on: match on {
                Ending::Success => v1::Ending::Success,
                Ending::Failure => v1::Ending::Failure,
                Ending::Any => v1::Ending::Any,
            }
            .into(),
        }),
        Schedule::Before { event, before_ms } => Form::Before(v1::BeforeSchedule {
            event_unix_ms: event.as_millis(),
            before_ms: *before_ms,
        }),
    };
    v1::Schedule { form: Some(form) }
}

fn dst_policy(dst: DstPolicy) -> v1::DstPolicy {
    match dst {
        DstPolicy::Shift => v1::DstPolicy::Shift,
        DstPolicy::Skip => v1::DstPolicy::Skip,
    }
}

/// An action.
pub fn action(action: &Action) -> v1::Action {
    use v1::action::Kind;
    let kind = match action {
        Action::Command {
            argv,
            env,
            dir,
            stdin,
            success_codes,
            user,
            limits,
        } => Kind::Command(v1::CommandAction {
            argv: argv.clone(),
            env: env.clone(),
            dir: dir.clone(),
            stdin: stdin.clone().into(),
            success_codes: success_codes.clone(),
            user: user.clone(),
            limits: Some(v1::ProcessLimits {
                cpu_s: limits.cpu_s,
                memory_bytes: limits.memory_bytes,
                files: limits.files,
            }),
        }),
        Action::Http {
            method,
            url,
            headers,
            body,
            success_statuses,
            timeout_ms,
            expect,
            expect_headers,
        } => Kind::Http(v1::HttpAction {
            method: method.clone(),
            url: url.clone(),
            headers: headers.iter().map(header).collect(),
            body: body.clone().into(),
            success_statuses: success_statuses.iter().map(|status| u32::from(*status)).collect(),
            timeout_ms: Some(*timeout_ms),
            expect: expect.clone(),
            expect_headers: expect_headers.iter().map(header).collect(),
        }),
        Action::Sample {
            succeed,
            duration_ms,
            payload,
        } => Kind::Sample(v1::SampleAction {
            succeed: *succeed,
            duration_ms: *duration_ms,
            payload: payload.clone().into(),
        }),
        Action::Mail {
            from,
            to,
            cc,
            subject,
            text,
        } => Kind::Mail(v1::MailAction {
            from: from.clone(),
            to: to.clone(),
            cc: cc.clone(),
            subject: subject.clone(),
            text: text.clone(),
        }),
        Action::Worker {
            queue,
            payload,
            progress_timeout_ms,
        } => Kind::Worker(v1::WorkerAction {
            queue: queue.clone(),
            payload: payload.clone().into(),
            progress_timeout_ms: *progress_timeout_ms,
        }),
    };
    v1::Action { kind: Some(kind) }
}

fn header((name, value): &(String, String)) -> v1::Header {
    v1::Header {
        name: name.clone(),
        value: value.clone(),
    }
}

/// The policies that a caller asks for: what he states, and what differs from what is built in. The rest is left to the cluster.
pub fn asked_policy(asked: &Policy) -> v1::Policy {
    use PolicyField as F;
    let built_in = Policy::default();
    let asks = |field: F| asked.stated.contains(field) || !asked.has_same(field, &built_in);
    let full = policy(asked);
    let (tries, kept) = (full.tries.unwrap_or_default(), full.retention.unwrap_or_default());
    v1::Policy {
        grace_ms: full.grace_ms.filter(|_| asks(F::Grace)),
        missed: full.missed.filter(|_| asks(F::Missed)),
        overlap: if asks(F::Overlap) { full.overlap } else { 0 },
        tries: Some(v1::Tries {
            max: tries.max.filter(|_| asks(F::Tries)),
            delay_ms: tries.delay_ms.filter(|_| asks(F::RetryDelay)),
            factor_percent: tries.factor_percent.filter(|_| asks(F::RetryFactor)),
            delay_ms_max: tries.delay_ms_max.filter(|_| asks(F::RetryDelayMax)),
            put_off_ms_max: tries.put_off_ms_max.filter(|_| asks(F::PutOffMax)),
        }),
        time_limit_ms: asks(F::TimeLimit).then(|| asked.time_limit_ms.unwrap_or(0)),
        priority: full.priority.filter(|_| asks(F::Priority)),
        retention: Some(v1::Retention {
            finished_max: kept.finished_max.filter(|_| asks(F::KeepFinished)),
            failed_max: kept.failed_max.filter(|_| asks(F::KeepFailed)),
            finished_age_ms_max: kept.finished_age_ms_max.filter(|_| asks(F::KeepFor)),
            failed_age_ms_max: kept.failed_age_ms_max.filter(|_| asks(F::KeepFailedFor)),
        }),
        catch_up_every_ms: full.catch_up_every_ms.filter(|_| asks(F::CatchUpEvery)),
        defaulted: Vec::new(),
        ..full
    }
}

/// The policies of a task: all of them, and which of them it does not state itself.
pub fn policy(policy: &Policy) -> v1::Policy {
    v1::Policy {
        grace_ms: Some(policy.grace_ms),
        missed: Some(missed(policy.missed)),
        overlap: overlap(policy.overlap).into(),
        tries: Some(v1::Tries {
            max: Some(policy.tries.max),
            delay_ms: Some(policy.tries.delay_ms),
            factor_percent: Some(policy.tries.factor_percent),
            delay_ms_max: Some(policy.tries.delay_ms_max),
            put_off_ms_max: Some(policy.tries.put_off_ms_max),
        }),
        delivery: delivery(policy.delivery).into(),
        // None at all can be stated, too.
        time_limit_ms: policy
            .time_limit_ms
            .or(policy.stated.contains(PolicyField::TimeLimit).then_some(0)),
        priority: Some(i32::from(policy.priority)),
        retention: Some(v1::Retention {
            finished_max: Some(policy.retention.finished_max),
            failed_max: Some(policy.retention.failed_max),
            finished_age_ms_max: Some(policy.retention.finished_age_ms_max),
            failed_age_ms_max: Some(policy.retention.failed_age_ms_max),
        }),
        group: policy.group.as_ref().map(|group| v1::Group {
            name: group.name.clone(),
            limit: group.limit,
        }),
        placement: (!policy.placement.is_any()).then(|| v1::Placement {
            require: policy.placement.require.clone(),
            prefer: policy.placement.prefer.clone(),
        }),
        notify: policy.notify.iter().map(notify).collect(),
        catch_up_every_ms: Some(policy.catch_up_every_ms),
        on_disconnect: match policy.on_disconnect {
            None => v1::OnDisconnect::Unspecified,
            Some(OnDisconnect::Kill) => v1::OnDisconnect::Kill,
            Some(OnDisconnect::Continue) => v1::OnDisconnect::Continue,
        }
        .into(),
        lost_hold_ms: Some(policy.lost_hold_ms),
        defaulted: PolicyField::ALL
            .into_iter()
            .filter(|field| !policy.stated.contains(*field))
            .map(|field| field.as_str().to_owned())
            .collect(),
    }
}

fn notify(notify: &Notify) -> v1::Notify {
    use v1::notify::To;
    v1::Notify {
        on: match notify.on {
            NotifyOn::Failure => v1::NotifyOn::Failure,
            NotifyOn::Recovery => v1::NotifyOn::Recovery,
            NotifyOn::Miss => v1::NotifyOn::Miss,
            NotifyOn::End => v1::NotifyOn::End,
        }
        .into(),
        to: Some(match &notify.to {
            NotifyTo::Webhook { url } => To::WebhookUrl(url.clone()),
            NotifyTo::Mail { to } => To::MailTo(to.clone()),
        }),
    }
}

fn missed(missed: Missed) -> v1::Missed {
    use v1::missed::Rule;
    let rule = match missed {
        Missed::Skip => Rule::Skip(v1::MissedSkip {}),
        Missed::Latest => Rule::Latest(v1::MissedLatest {}),
        Missed::All { max } => Rule::All(v1::MissedAll { max }),
    };
    v1::Missed { rule: Some(rule) }
}

fn overlap(overlap: Overlap) -> v1::Overlap {
    match overlap {
        Overlap::Allow => v1::Overlap::Allow,
        Overlap::Skip => v1::Overlap::Skip,
        Overlap::QueueOne => v1::Overlap::QueueOne,
        Overlap::QueueAll => v1::Overlap::QueueAll,
        Overlap::Replace => v1::Overlap::Replace,
    }
}

fn delivery(delivery: Option<Delivery>) -> v1::Delivery {
    match delivery {
        None => v1::Delivery::Unspecified,
        Some(Delivery::AtLeastOnce) => v1::Delivery::AtLeastOnce,
        Some(Delivery::AtMostOnce) => v1::Delivery::AtMostOnce,
    }
}

/// A task's state.
pub fn task_state(state: TaskState) -> v1::TaskState {
    match state {
        TaskState::Spooled => v1::TaskState::Spooled,
        TaskState::Queued => v1::TaskState::Queued,
        TaskState::Running => v1::TaskState::Running,
        TaskState::Failed => v1::TaskState::Failed,
        TaskState::Finished => v1::TaskState::Finished,
        TaskState::Terminated => v1::TaskState::Terminated,
    }
}

/// A next run time.
pub fn next_run(next: NextRun) -> v1::NextRun {
    use v1::next_run::Next;
    let next = match next {
        NextRun::At(at) => Next::AtUnixMs(at.as_millis()),
        NextRun::Never => Next::Never(v1::NextRunNever {}),
        NextRun::GaveUp {
            retry_at,
            searched_until,
        } => Next::GaveUp(v1::NextRunGaveUp {
            retry_at_unix_ms: retry_at.as_millis(),
            searched_until_unix_ms: searched_until.as_millis(),
        }),
    };
    v1::NextRun { next: Some(next) }
}

/// A task with its run-time state.
pub fn task(id: TaskId, task: &Task, status: &TaskStatus) -> v1::Task {
    v1::Task {
        id: id.0,
        spec: Some(task_spec(&task.spec)),
        created_at_unix_ms: task.created_at.as_millis(),
        state: task_state(status.state).into(),
        generation: status.generation,
        periodic: status.kind == ScheduleKind::Periodic,
        next_run: Some(next_run(status.next)),
        pause: status.pause.as_ref().map(|pause| v1::Pause {
            note: pause.note.clone(),
            until_unix_ms: pause.until.map(Timestamp::as_millis),
            since_unix_ms: pause.since.as_millis(),
        }),
        last_scheduled_at_unix_ms: status.last_scheduled.map(Timestamp::as_millis),
        runs_created: status.runs_created,
        live: status.live.clone(),
        held: status.held.clone(),
        finished: status.finished,
        failed: status.failed,
        ended_at_unix_ms: status.ended_at.map(Timestamp::as_millis),
        occurrences: status.occurrences,
        waits_for: status.waits_for.iter().map(|id| id.0).collect(),
    }
}

/// The name of a run.
pub fn run_id(id: RunId) -> v1::RunId {
    v1::RunId {
        task: id.task.0,
        number: id.number,
    }
}

/// What an operator says became of a lost run.
pub fn resolution(resolution: Resolution) -> v1::Resolution {
    match resolution {
        Resolution::Failed => v1::Resolution::Failed,
        Resolution::Finished => v1::Resolution::Finished,
        Resolution::Retry => v1::Resolution::Retry,
    }
}

/// A run's state; what it is pending for is [`run`]'s to say.
pub fn run_state(state: RunState) -> v1::RunState {
    match state {
        RunState::Ready | RunState::Delayed { .. } | RunState::Held | RunState::Blocked => v1::RunState::Pending,
        RunState::Assigned { .. } => v1::RunState::Assigned,
        RunState::Running { .. } => v1::RunState::Running,
        RunState::Lost { .. } => v1::RunState::Lost,
        RunState::Finished => v1::RunState::Finished,
        RunState::Failed => v1::RunState::Failed,
        RunState::Terminated => v1::RunState::Terminated,
    }
}

/// A run, without its output.
pub fn run(run: &Run, task_name: Option<&str>) -> v1::Run {
    let (pending, delayed_until) = match run.state {
        RunState::Ready => (v1::Pending::Ready, None),
        RunState::Delayed { until } => (v1::Pending::Delayed, Some(until)),
        RunState::Held => (v1::Pending::Held, None),
        RunState::Blocked => (v1::Pending::Blocked, None),
        _ => (v1::Pending::Unspecified, None),
    };
    v1::Run {
        id: Some(run_id(run.id)),
        task_name: task_name.map(str::to_owned),
        state: run_state(run.state).into(),
        pending: pending.into(),
        delayed_until_unix_ms: delayed_until.map(Timestamp::as_millis),
        manual: matches!(run.occurrence, Occurrence::Manual(_)),
        scheduled_at_unix_ms: run.scheduled_at.as_millis(),
        assigned_at_unix_ms: run.assigned_at.map(Timestamp::as_millis),
        started_at_unix_ms: run.started_at.map(Timestamp::as_millis),
        ended_at_unix_ms: run.ended_at.map(Timestamp::as_millis),
        late_ms: run.assigned_at.map(|at| at.millis_since(run.scheduled_at)),
        worker: run.attempts.last().map(|last| last.worker.clone()).unwrap_or_default(),
        attempts_count: run.attempts_count,
        attempts: run.attempts.iter().map(attempt).collect(),
        exit_code: run.exit_code,
        reason: reason(run),
        priority: i32::from(run.priority),
        params: params(&run.params),
        cancelling: run.cancelling,
        losses: run.losses,
        stale_reports: run.stale_reports,
        generation: run.generation,
        backfill: matches!(run.occurrence, Occurrence::Backfill(_)),
        delays: run.delays,
        catch_up: run.occurrence == Occurrence::CatchUp,
        // The leader adds it.
        progress: None,
        queue: run.queue.clone(),
    }
}

/// Why a run is where it is. What a ready run waits for is said here, because nothing changes its record while it waits.
fn reason(run: &Run) -> String {
    let wanted = sched_core::explain::demands(run);
    if run.state == RunState::Ready && !wanted.is_empty() && run.reason.is_empty() {
        return format!("waiting for a worker{wanted}");
    }
    match &run.group {
        Some(group) if run.state == RunState::Blocked && run.reason.is_empty() => {
            format!("waiting for room in group {}", group.name)
        }
        _ => run.reason.clone(),
    }
}

fn attempt(attempt: &Attempt) -> v1::Attempt {
    let ended = match attempt.ended {
        None => v1::AttemptEnd::Unspecified,
        Some(AttemptEnd::Success) => v1::AttemptEnd::Success,
        Some(AttemptEnd::Failure) => v1::AttemptEnd::Failure,
        Some(AttemptEnd::WorkerLost) => v1::AttemptEnd::WorkerLost,
        Some(AttemptEnd::Refused) => v1::AttemptEnd::Refused,
        Some(AttemptEnd::Delayed) => v1::AttemptEnd::Delayed,
        Some(AttemptEnd::Cancelled) => v1::AttemptEnd::Cancelled,
        Some(AttemptEnd::ReportedLate) => v1::AttemptEnd::ReportedLate,
        Some(AttemptEnd::WorkerStopped) => v1::AttemptEnd::WorkerStopped,
        Some(AttemptEnd::Resolved) => v1::AttemptEnd::Resolved,
    };
    v1::Attempt {
        token_index: attempt.token.index,
        token_position: attempt.token.position,
        worker: attempt.worker.clone(),
        assigned_at_unix_ms: attempt.assigned_at.as_millis(),
        ended: ended.into(),
    }
}

/// The parameters of a trigger.
pub fn params(params: &[(String, String)]) -> Vec<v1::Param> {
    let param = |(key, value): &(String, String)| v1::Param {
        key: key.clone(),
        value: value.clone(),
    };
    params.iter().map(param).collect()
}

/// An operation in the spool.
pub fn spool_op(seq: u64, op: &SpoolOp, task_name: Option<&str>) -> v1::SpoolOp {
    v1::SpoolOp {
        seq,
        kind: op.action.kind().to_owned(),
        task: op.action.task().0,
        task_name: task_name.map(str::to_owned),
        accepted_at_unix_ms: op.accepted_at.as_millis(),
        principal: op.principal.clone(),
    }
}

/// How a caller names a task.
pub fn task_ref(task: &TaskRef) -> v1::TaskRef {
    use v1::task_ref::By;
    let by = match task {
        TaskRef::Id(id) => By::Id(id.0),
        TaskRef::Name { namespace, name } => By::Named(v1::NamedTask {
            namespace: namespace.clone(),
            name: name.clone(),
        }),
    };
    v1::TaskRef { by: Some(by) }
}

/// What makes a repeated call recognisable.
pub fn request_key(key: &RequestKey) -> v1::RequestKey {
    use v1::request_key::Key;
    let key = match key {
        RequestKey::Client { expires_at, nonce } => Key::Client(v1::ClientKey {
            expires_at_unix_ms: expires_at.as_millis(),
            nonce_high: (nonce >> 64) as u64,
            nonce_low: *nonce as u64,
        }),
        RequestKey::Caller { namespace, key } => Key::Caller(v1::CallerKey {
            namespace: namespace.clone(),
            key: key.clone(),
        }),
    };
    v1::RequestKey { key: Some(key) }
}
