//! From the wire to `sched-core`: anything may come, what makes no sense is refused by the name of its field.

use crate::limits::HTTP_TIMEOUT_MS_DEFAULT;
use crate::pattern::pattern;
use crate::v1;
use sched_core::Timestamp;
use sched_core::calendar::{CalendarSpec, Interval};
use sched_core::command::{Reject, Resolution};
use sched_core::config::{Config, Setting};
use sched_core::ids::{RequestKey, RunId, TaskId};
use sched_core::limits::NAME_BYTES_MAX;
use sched_core::schedule::{DstPolicy, Schedule};
use sched_core::task::{
    Action, Bounds, Delivery, Ending, Group, Jitter, Missed, NextRun, Notify, NotifyOn, NotifyTo, OnDisconnect,
    Overlap, Placement, Policy, PolicyField, ProcessLimits, Retention, Stated, TaskRef, TaskSpec, TaskState, Tries,
};

/// The namespace and the zone that an empty text stands for.
const NAMESPACE_DEFAULT: &str = "default";
const ZONE_DEFAULT: &str = "UTC";

fn invalid(field: &str, problem: impl Into<String>) -> Reject {
    Reject::Invalid {
        field: field.to_owned(),
        problem: problem.into(),
    }
}

fn missing(field: &str, expected: &str) -> Reject {
    invalid(field, format!("is missing; expected {expected}"))
}

/// Returns the value of an enumeration, refusing numbers this release does not know.
fn enumeration<E: TryFrom<i32>>(field: &str, number: i32) -> Result<E, Reject> {
    E::try_from(number).map_err(|_| {
        invalid(
            field,
            format!("{number} is not a value this release knows; it may be too old"),
        )
    })
}

/// Returns an instant, refusing what lies outside the years 1 to 9999.
pub fn instant(field: &str, unix_ms: i64) -> Result<Timestamp, Reject> {
    let at = Timestamp::from_millis(unix_ms);
    if at.as_millis() == unix_ms {
        Ok(at)
    } else {
        Err(invalid(field, format!("{unix_ms} ms is outside the years 1 to 9999")))
    }
}

fn or_default(text: String, default: &str) -> String {
    if text.is_empty() { default.to_owned() } else { text }
}

/// A task as a client asks for it. `accepted_at` stands for an absent dtstart.
///
/// # Errors
///
/// Names the field that is missing or not understood.
pub fn task_spec(wire: v1::TaskSpec, accepted_at: Timestamp) -> Result<TaskSpec, Reject> {
    Ok(TaskSpec {
        namespace: or_default(wire.namespace, NAMESPACE_DEFAULT),
        name: wire.name,
        labels: wire.labels,
        owner: wire.owner,
        description: wire.description,
        schedule: schedule(wire.schedule.unwrap_or_default(), accepted_at)?,
        action: action(wire.action.unwrap_or_default())?,
        policy: policy(wire.policy.unwrap_or_default())?,
        bounds: bounds(wire.bounds.unwrap_or_default())?,
    })
}

/// The bounds of a task. Whoever accepts the task sets the seed of the jitter.
///
/// # Errors
///
/// When an instant is out of range.
pub fn bounds(wire: v1::Bounds) -> Result<Bounds, Reject> {
    let instant = |field: &str, at: Option<i64>| at.map(|at| instant(field, at)).transpose();
    Ok(Bounds {
        not_before: instant("bounds.not_before", wire.not_before_unix_ms)?,
        until: instant("bounds.until", wire.until_unix_ms)?,
        expires: instant("bounds.expires", wire.expires_unix_ms)?,
        count: wire.count,
        jitter: wire.jitter_ms.map(|ms| Jitter { ms, seed: 0 }),
        calendars: wire.calendars,
    })
}

/// A calendar, in its one form.
///
/// # Errors
///
/// When it is absent or an instant is out of range.
pub fn calendar(wire: Option<v1::Calendar>) -> Result<CalendarSpec, Reject> {
    let wire = wire.ok_or_else(|| missing("calendar", "days and intervals"))?;
    let interval = |wire: v1::ClosedInterval| {
        Ok(Interval {
            from: instant("calendar.intervals.from", wire.from_unix_ms)?,
            to: instant("calendar.intervals.to", wire.to_unix_ms)?,
        })
    };
    Ok(CalendarSpec::new(
        wire.description,
        or_default(wire.zone, ZONE_DEFAULT),
        wire.days,
        wire.intervals
            .into_iter()
            .map(interval)
            .collect::<Result<_, Reject>>()?,
    ))
}

/// The namespace and the name of a calendar.
///
/// # Errors
///
/// When one of them cannot be one.
pub fn calendar_name(namespace: String, name: String) -> Result<(String, String), Reject> {
    let namespace = or_default(namespace, NAMESPACE_DEFAULT);
    sched_core::validate::name("namespace", &namespace)?;
    sched_core::validate::name("name", &name)?;
    Ok((namespace, name))
}

/// A schedule. An absent dtstart is the first whole second from `accepted_at` on: rules know nothing finer, and an earlier one
/// would be a missed occurrence.
///
/// # Errors
///
/// When no form is given, or an instant or a policy is not understood. The rules themselves are checked when they are compiled.
pub fn schedule(wire: v1::Schedule, accepted_at: Timestamp) -> Result<Schedule, Reject> {
    use v1::schedule::Form;
    let form = wire.form.ok_or_else(|| {
        missing(
            "schedule",
            "one of now, at, in, every, cron, rrule, after, manual, before",
        )
    })?;
    Ok(match form {
        Form::Now(_) => Schedule::Now,
        Form::At(at) => Schedule::At(instant("schedule.at", at.at_unix_ms)?),
        Form::In(delay) => Schedule::In {
            delay_ms: delay.delay_ms,
        },
        Form::Every(every) => Schedule::Every {
            every_ms: every.every_ms,
            anchor: instant("schedule.every.anchor", every.anchor_unix_ms.unwrap_or(0))?,
        },
        Form::Cron(cron) => Schedule::Cron {
            expr: cron.expr,
            zone: or_default(cron.zone, ZONE_DEFAULT),
            dst: dst_policy("schedule.cron.dst", cron.dst)?,
        },
        Form::Rrule(rule) => rrule(rule, accepted_at)?,
        Form::Manual(_) => Schedule::Manual,
        Form::After(after) => Schedule::After {
            parents: after
                .tasks
                .into_iter()
                .map(|task| task_ref(Some(task)))
                .collect::<Result<_, _>>()?,
            on: match enumeration("schedule.after.on", after.on)? {
                v1::Ending::Unspecified | v1::Ending::Success => Ending::Success,
                v1::Ending::Failure => Ending::Failure,
                v1::Ending::Any => Ending::Any,
            },
        },
        Form::Before(before) => Schedule::Before {
            event: instant("schedule.at", before.event_unix_ms)?,
            before_ms: before.before_ms,
        },
    })
}

fn rrule(wire: v1::RruleSchedule, accepted_at: Timestamp) -> Result<Schedule, Reject> {
    let instants = |field: &str, list: Vec<i64>| -> Result<Vec<Timestamp>, Reject> {
        list.into_iter().map(|unix_ms| instant(field, unix_ms)).collect()
    };
    if wire.rules.is_empty() {
        return Err(missing(
            "schedule.rrule.rules",
            "at least one rule, for example FREQ=DAILY;BYHOUR=9",
        ));
    }
    let dtstart = match wire.dtstart_unix_ms {
        Some(unix_ms) => instant("schedule.rrule.dtstart", unix_ms)?,
        None => next_whole_second(accepted_at),
    };
    Ok(Schedule::Rrule {
        rules: wire.rules,
        dtstart,
        rdates: instants("schedule.rrule.rdates", wire.rdates_unix_ms)?,
        exdates: instants("schedule.rrule.exdates", wire.exdates_unix_ms)?,
        zone: or_default(wire.zone, ZONE_DEFAULT),
        dst: dst_policy("schedule.rrule.dst", wire.dst)?,
    })
}

/// Returns the second an instant lies in.
pub fn whole_second(at: Timestamp) -> Timestamp {
    at.plus_millis(-at.as_millis().rem_euclid(1000))
}

/// Returns the first whole second at or after an instant.
pub fn next_whole_second(at: Timestamp) -> Timestamp {
    at.plus_millis((-at.as_millis()).rem_euclid(1000))
}

fn dst_policy(field: &str, number: i32) -> Result<DstPolicy, Reject> {
    Ok(match enumeration(field, number)? {
        v1::DstPolicy::Unspecified | v1::DstPolicy::Shift => DstPolicy::Shift,
        v1::DstPolicy::Skip => DstPolicy::Skip,
    })
}

/// An action.
///
/// # Errors
///
/// When no kind is given, or a status cannot be one.
pub fn action(wire: v1::Action) -> Result<Action, Reject> {
    use v1::action::Kind;
    Ok(
        match wire
            .kind
            .ok_or_else(|| missing("action", "one of command, http, sample, mail, worker"))?
        {
            Kind::Command(command) => Action::Command {
                argv: command.argv,
                env: command.env,
                dir: command.dir,
                stdin: command.stdin.into(),
                success_codes: command.success_codes,
                user: command.user,
                limits: process_limits(command.limits.unwrap_or_default()),
            },
            Kind::Http(http) => Action::Http {
                method: or_default(http.method, "GET"),
                url: http.url,
                headers: http
                    .headers
                    .into_iter()
                    .map(|header| (header.name, header.value))
                    .collect(),
                body: http.body.into(),
                success_statuses: http
                    .success_statuses
                    .into_iter()
                    .map(http_status)
                    .collect::<Result<_, _>>()?,
                timeout_ms: http.timeout_ms.unwrap_or(HTTP_TIMEOUT_MS_DEFAULT),
                expect: http
                    .expect
                    .map(|text| checked_pattern("action.http.expect", text))
                    .transpose()?,
                expect_headers: http
                    .expect_headers
                    .into_iter()
                    .map(|header| {
                        let pattern = checked_pattern("action.http.expect_headers", header.value)?;
                        Ok((header.name, pattern))
                    })
                    .collect::<Result<_, Reject>>()?,
            },
            Kind::Sample(sample) => Action::Sample {
                succeed: sample.succeed,
                duration_ms: sample.duration_ms,
                payload: sample.payload.into(),
            },
            Kind::Mail(mail) => Action::Mail {
                from: mail.from,
                to: mail.to,
                cc: mail.cc,
                subject: mail.subject,
                text: mail.text,
            },
            Kind::Worker(worker) => Action::Worker {
                queue: worker.queue,
                payload: worker.payload.into(),
                progress_timeout_ms: worker.progress_timeout_ms,
            },
        },
    )
}

fn process_limits(wire: v1::ProcessLimits) -> ProcessLimits {
    ProcessLimits {
        cpu_s: wire.cpu_s,
        memory_bytes: wire.memory_bytes,
        files: wire.files,
    }
}

fn checked_pattern(field: &str, text: String) -> Result<String, Reject> {
    match pattern(&text) {
        Ok(_) => Ok(text),
        Err(problem) => Err(invalid(field, problem)),
    }
}

fn http_status(number: u32) -> Result<u16, Reject> {
    u16::try_from(number).map_err(|_| {
        invalid(
            "action.http.success_statuses",
            format!("{number} is not an HTTP status"),
        )
    })
}

/// The policies of a task; what is absent gets its default.
///
/// # Errors
///
/// When a policy is not understood, or the priority is outside its range.
pub fn policy(wire: v1::Policy) -> Result<Policy, Reject> {
    let default = Policy::default();
    let tries = wire.tries.unwrap_or_default();
    let retention = wire.retention.unwrap_or_default();
    let priority = wire.priority.unwrap_or(0);
    let stated = stated(&wire, &tries, &retention);
    Ok(Policy {
        grace_ms: wire.grace_ms.unwrap_or(default.grace_ms),
        missed: missed(wire.missed),
        overlap: overlap(wire.overlap)?,
        tries: Tries {
            max: tries.max.unwrap_or(default.tries.max),
            delay_ms: tries.delay_ms.unwrap_or(default.tries.delay_ms),
            factor_percent: tries.factor_percent.unwrap_or(default.tries.factor_percent),
            delay_ms_max: tries.delay_ms_max.unwrap_or(default.tries.delay_ms_max),
            put_off_ms_max: tries.put_off_ms_max.unwrap_or(default.tries.put_off_ms_max),
        },
        delivery: delivery(wire.delivery)?,
        time_limit_ms: wire.time_limit_ms.filter(|limit| *limit > 0),
        priority: i8::try_from(priority)
            .map_err(|_| invalid("policy.priority", format!("{priority}; expected -100 to 100")))?,
        retention: Retention {
            finished_max: retention.finished_max.unwrap_or(default.retention.finished_max),
            failed_max: retention.failed_max.unwrap_or(default.retention.failed_max),
            finished_age_ms_max: retention
                .finished_age_ms_max
                .unwrap_or(default.retention.finished_age_ms_max),
            failed_age_ms_max: retention
                .failed_age_ms_max
                .or(retention.finished_age_ms_max)
                .unwrap_or(default.retention.failed_age_ms_max),
        },
        group: wire.group.map(|group| Group {
            name: group.name,
            limit: group.limit,
        }),
        placement: wire.placement.map_or_else(Placement::default, |placement| Placement {
            require: placement.require,
            prefer: placement.prefer,
        }),
        notify: wire.notify.into_iter().map(notify).collect::<Result<_, _>>()?,
        on_disconnect: match enumeration("policy.on_disconnect", wire.on_disconnect)? {
            v1::OnDisconnect::Unspecified => None,
            v1::OnDisconnect::Kill => Some(OnDisconnect::Kill),
            v1::OnDisconnect::Continue => Some(OnDisconnect::Continue),
        },
        lost_hold_ms: wire.lost_hold_ms.unwrap_or(default.lost_hold_ms),
        stated,
        catch_up_every_ms: wire.catch_up_every_ms.unwrap_or(default.catch_up_every_ms),
    })
}

/// What is there, but for what is there only because the task has it from the cluster.
fn stated(wire: &v1::Policy, tries: &v1::Tries, retention: &v1::Retention) -> Stated {
    let is_there = |field: PolicyField| match field {
        PolicyField::Grace => wire.grace_ms.is_some(),
        PolicyField::Missed => wire.missed.as_ref().is_some_and(|missed| missed.rule.is_some()),
        PolicyField::Overlap => wire.overlap() != v1::Overlap::Unspecified,
        PolicyField::Tries => tries.max.is_some(),
        PolicyField::RetryDelay => tries.delay_ms.is_some(),
        PolicyField::RetryFactor => tries.factor_percent.is_some(),
        PolicyField::RetryDelayMax => tries.delay_ms_max.is_some(),
        PolicyField::TimeLimit => wire.time_limit_ms.is_some(),
        PolicyField::Priority => wire.priority.is_some(),
        PolicyField::KeepFinished => retention.finished_max.is_some(),
        PolicyField::KeepFailed => retention.failed_max.is_some(),
        PolicyField::KeepFor => retention.finished_age_ms_max.is_some(),
        PolicyField::KeepFailedFor => retention.failed_age_ms_max.is_some(),
        PolicyField::PutOffMax => tries.put_off_ms_max.is_some(),
        PolicyField::CatchUpEvery => wire.catch_up_every_ms.is_some(),
    };
    let mut stated = Stated::default();
    for field in PolicyField::ALL {
        let defaulted = wire.defaulted.iter().any(|name| name == field.as_str());
        stated.set(field, is_there(field) && !defaulted);
    }
    stated
}

fn notify(wire: v1::Notify) -> Result<Notify, Reject> {
    use v1::notify::To;
    Ok(Notify {
        on: match enumeration("policy.notify.on", wire.on)? {
            v1::NotifyOn::Unspecified => {
                return Err(missing("policy.notify.on", "one of failure, recovery, miss, end"));
            }
            v1::NotifyOn::Failure => NotifyOn::Failure,
            v1::NotifyOn::Recovery => NotifyOn::Recovery,
            v1::NotifyOn::Miss => NotifyOn::Miss,
            v1::NotifyOn::End => NotifyOn::End,
        },
        to: match wire.to {
            Some(To::WebhookUrl(url)) => NotifyTo::Webhook { url },
            Some(To::MailTo(to)) => NotifyTo::Mail { to },
            None => {
                return Err(missing(
                    "policy.notify.to",
                    "an address, for example https://example.org/hook",
                ));
            }
        },
    })
}

fn missed(wire: Option<v1::Missed>) -> Missed {
    use v1::missed::Rule;
    match wire.and_then(|missed| missed.rule) {
        None => Missed::default(),
        Some(Rule::Skip(_)) => Missed::Skip,
        Some(Rule::Latest(_)) => Missed::Latest,
        Some(Rule::All(all)) => Missed::All { max: all.max },
    }
}

fn overlap(number: i32) -> Result<Overlap, Reject> {
    Ok(match enumeration("policy.overlap", number)? {
        v1::Overlap::Unspecified => Overlap::default(),
        v1::Overlap::Allow => Overlap::Allow,
        v1::Overlap::Skip => Overlap::Skip,
        v1::Overlap::QueueOne => Overlap::QueueOne,
        v1::Overlap::QueueAll => Overlap::QueueAll,
        v1::Overlap::Replace => Overlap::Replace,
    })
}

/// What an operator says became of a lost run.
///
/// # Errors
///
/// When it is absent or not known.
pub fn resolution(number: i32) -> Result<Resolution, Reject> {
    Ok(match enumeration("resolution", number)? {
        v1::Resolution::Unspecified => {
            return Err(invalid("resolution", "is missing; expected failed, finished or retry"));
        }
        v1::Resolution::Failed => Resolution::Failed,
        v1::Resolution::Finished => Resolution::Finished,
        v1::Resolution::Retry => Resolution::Retry,
    })
}

fn delivery(number: i32) -> Result<Option<Delivery>, Reject> {
    Ok(match enumeration("policy.delivery", number)? {
        v1::Delivery::Unspecified => None,
        v1::Delivery::AtLeastOnce => Some(Delivery::AtLeastOnce),
        v1::Delivery::AtMostOnce => Some(Delivery::AtMostOnce),
    })
}

/// How a caller names a task.
///
/// # Errors
///
/// When the task is not named at all, or the name cannot be one.
pub fn task_ref(wire: Option<v1::TaskRef>) -> Result<TaskRef, Reject> {
    use v1::task_ref::By;
    match wire.and_then(|task| task.by) {
        Some(By::Id(id)) => Ok(TaskRef::Id(TaskId(id))),
        Some(By::Named(named)) => {
            let namespace = or_default(named.namespace, NAMESPACE_DEFAULT);
            sched_core::validate::name("namespace", &namespace)?;
            sched_core::validate::name("task", &named.name)?;
            Ok(TaskRef::Name {
                namespace,
                name: named.name,
            })
        }
        None => Err(missing("task", "an id or a name")),
    }
}

/// The name of a run.
///
/// # Errors
///
/// When it is absent.
pub fn run_id(wire: Option<v1::RunId>) -> Result<RunId, Reject> {
    let id = wire.ok_or_else(|| missing("run", "a task id and a number"))?;
    Ok(RunId {
        task: TaskId(id.task),
        number: id.number,
    })
}

/// What makes a repeated call recognisable. Every call that changes something must have it: without it, a repeat could not be
/// told from a second request.
///
/// # Errors
///
/// When it is absent, or the caller's text is empty or too long.
pub fn request_key(wire: Option<v1::RequestKey>) -> Result<RequestKey, Reject> {
    use v1::request_key::Key;
    match wire.and_then(|request| request.key) {
        Some(Key::Client(client)) => Ok(RequestKey::Client {
            expires_at: instant("request.client.expires_at", client.expires_at_unix_ms)?,
            nonce: (u128::from(client.nonce_high) << 64) | u128::from(client.nonce_low),
        }),
        Some(Key::Caller(caller)) => {
            let namespace = or_default(caller.namespace, NAMESPACE_DEFAULT);
            sched_core::validate::name("request.caller.namespace", &namespace)?;
            if caller.key.is_empty() || caller.key.len() > NAME_BYTES_MAX {
                let size = caller.key.len();
                let problem = format!("has {size} bytes, expected 1 to {NAME_BYTES_MAX}");
                return Err(invalid("request.caller.key", problem));
            }
            Ok(RequestKey::Caller {
                namespace,
                key: caller.key,
            })
        }
        None => Err(missing("request", "a request key, so that a repeat is recognised")),
    }
}

/// The parameters of a trigger; their sizes are checked by [`sched_core::validate::params`].
pub fn params(wire: Vec<v1::Param>) -> Vec<(String, String)> {
    wire.into_iter().map(|param| (param.key, param.value)).collect()
}

/// A change of the cluster's settings: what is set, and what gets the value that is built in.
///
/// # Errors
///
/// When nothing is changed, a key is not known or comes twice, or a value is not acceptable.
pub fn config_change(set: &[v1::Param], unset: &[String]) -> Result<(Config, Vec<Setting>), Reject> {
    if set.is_empty() && unset.is_empty() {
        return Err(invalid("config", "names no setting; expected for example tries=3"));
    }
    let mut config = Config::default();
    let mut cleared = Vec::new();
    for key in unset {
        let setting = Setting::of(key)?;
        if cleared.contains(&setting) {
            return Err(invalid(&format!("config.{key}"), "stands here twice"));
        }
        cleared.push(setting);
    }
    for v1::Param { key, value } in set {
        let setting = Setting::of(key)?;
        if config.is_set(setting) || cleared.contains(&setting) {
            return Err(invalid(&format!("config.{key}"), "stands here twice"));
        }
        config.set(setting, value)?;
    }
    Ok((config, cleared))
}

/// A task's state.
///
/// # Errors
///
/// When the number is none of the states.
pub fn task_state(number: i32) -> Result<TaskState, Reject> {
    Ok(match enumeration("state", number)? {
        v1::TaskState::Unspecified => return Err(missing("state", "a task state")),
        v1::TaskState::Spooled => TaskState::Spooled,
        v1::TaskState::Queued => TaskState::Queued,
        v1::TaskState::Running => TaskState::Running,
        v1::TaskState::Failed => TaskState::Failed,
        v1::TaskState::Finished => TaskState::Finished,
        v1::TaskState::Terminated => TaskState::Terminated,
    })
}

/// A next run time.
///
/// # Errors
///
/// When it is absent or an instant is out of range.
pub fn next_run(wire: Option<v1::NextRun>) -> Result<NextRun, Reject> {
    use v1::next_run::Next;
    Ok(match wire.and_then(|next| next.next) {
        Some(Next::AtUnixMs(at)) => NextRun::At(instant("next_run.at", at)?),
        Some(Next::Never(_)) => NextRun::Never,
        Some(Next::GaveUp(gave_up)) => NextRun::GaveUp {
            retry_at: instant("next_run.retry_at", gave_up.retry_at_unix_ms)?,
            searched_until: instant("next_run.searched_until", gave_up.searched_until_unix_ms)?,
        },
        None => return Err(missing("next_run", "an instant, never, or gave up")),
    })
}
