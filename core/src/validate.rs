//! Whether a request is acceptable at all: checked before it is proposed, so that nonsense never reaches the log.

mod action;
mod notify;

pub use action::mail_address;

use crate::calendar::{CalendarSpec, DAYS, Interval};
use crate::command::Reject;
use crate::limits;
use crate::schedule::Schedule;
use crate::task::{Bounds, Delivery, Missed, OnDisconnect, Policy, ScheduleKind, TaskSpec};
use crate::time::Timestamp;

fn invalid(field: impl Into<String>, problem: impl Into<String>) -> Reject {
    Reject::Invalid {
        field: field.into(),
        problem: problem.into(),
    }
}

/// Checks a task as a client asks for it. The schedule's own grammar is checked when it is compiled.
///
/// # Errors
/// Names the field, what is wrong with it, and what would be accepted.
pub fn task_spec(spec: &TaskSpec) -> Result<(), Reject> {
    name("namespace", &spec.namespace)?;
    if let Some(text) = &spec.name {
        name("name", text)?;
        if text.bytes().all(|b| b.is_ascii_digit()) {
            return Err(invalid(
                "name",
                format!("{text:?} would be taken for a task id; add a letter, for example t{text}"),
            ));
        }
    }
    if spec.labels.len() > limits::LABELS_MAX {
        return Err(invalid(
            "labels",
            format!("{} given, at most {}", spec.labels.len(), limits::LABELS_MAX),
        ));
    }
    for (label, value) in &spec.labels {
        name("labels", label)?;
        if !value.is_empty() {
            name(&format!("labels.{label}"), value)?;
        }
    }
    if !spec.owner.is_empty() {
        name("owner", &spec.owner)?;
    }
    text("description", &spec.description)?;
    schedule(&spec.schedule)?;
    action::action(&spec.action)?;
    policy(&spec.policy)?;
    if spec.delivery() == Delivery::AtLeastOnce && spec.policy.on_disconnect == Some(OnDisconnect::Continue) {
        return Err(invalid(
            "policy.on_disconnect",
            "continue goes with at-most-once delivery: an at-least-once run is started elsewhere once its worker is out of contact",
        ));
    }
    bounds(&spec.bounds, &spec.schedule)
}

fn bounds(bounds: &Bounds, schedule: &Schedule) -> Result<(), Reject> {
    let kind = ScheduleKind::of(schedule);
    let has_its_own_times = !matches!(schedule, Schedule::Now | Schedule::After { .. } | Schedule::Manual);
    let Bounds {
        not_before,
        until,
        expires,
        count,
        jitter,
        calendars,
    } = bounds;
    let only_periodic = "goes with a schedule that recurs: every, cron or rrule";
    for (field, at) in [("not_before", not_before), ("until", until), ("expires", expires)] {
        if at.is_some_and(|at| at <= Timestamp::MIN || at >= Timestamp::MAX) {
            return Err(invalid(format!("bounds.{field}"), "is outside the years 1 to 9999"));
        }
    }
    if kind != ScheduleKind::Periodic {
        let given = [
            ("not_before", not_before.is_some()),
            ("until", until.is_some()),
            ("count", count.is_some()),
            ("jitter", jitter.is_some()),
        ];
        if let Some((field, _)) = given.iter().find(|(_, given)| *given) {
            return Err(invalid(format!("bounds.{field}"), only_periodic));
        }
    }
    if !calendars.is_empty() && !has_its_own_times {
        return Err(invalid(
            "bounds.calendars",
            "goes with a schedule that has times of its own: at, in, every, cron or rrule",
        ));
    }
    if kind != ScheduleKind::OneShot && expires.is_some() {
        return Err(invalid(
            "bounds.expires",
            "goes with a schedule that occurs once: now, at, in or after; `until` ends one that recurs",
        ));
    }
    if let (Some(from), Some(to)) = (not_before, until)
        && from > to
    {
        return Err(invalid("bounds.until", format!("{to} is before not_before, {from}")));
    }
    if *count == Some(0) {
        return Err(invalid("bounds.count", "is 0; expected at least 1, for example 10"));
    }
    if let Some(jitter) = jitter {
        if jitter.ms == 0 {
            return Err(invalid("bounds.jitter", "is 0; leave it out for none"));
        }
        duration("bounds.jitter", jitter.ms)?;
    }
    named_calendars(calendars)
}

fn named_calendars(calendars: &[String]) -> Result<(), Reject> {
    if calendars.len() > limits::TASK_CALENDARS_MAX {
        let (given, most) = (calendars.len(), limits::TASK_CALENDARS_MAX);
        return Err(invalid("bounds.calendars", format!("{given} given, at most {most}")));
    }
    for (index, calendar) in calendars.iter().enumerate() {
        name("bounds.calendars", calendar)?;
        if calendars[..index].contains(calendar) {
            return Err(invalid("bounds.calendars", format!("{calendar:?} is given twice")));
        }
    }
    Ok(())
}

/// Checks a calendar. Whether its zone is known is seen when it is compiled.
///
/// # Errors
/// Names the field, what is wrong with it, and what would be accepted.
pub fn calendar(calendar: &CalendarSpec) -> Result<(), Reject> {
    text("description", &calendar.description)?;
    name("zone", &calendar.zone)?;
    let (given, most) = (calendar.entries(), limits::CALENDAR_ENTRIES_MAX);
    if given > most {
        return Err(invalid(
            "entries",
            format!("{given} days and intervals, at most {most} in one calendar; split it, a task may name several"),
        ));
    }
    if let Some(day) = calendar.days.iter().find(|day| !DAYS.contains(*day)) {
        return Err(invalid(
            "days",
            format!("{day} days from 1970-01-01 is outside the years 1 to 9999"),
        ));
    }
    for Interval { from, to } in &calendar.intervals {
        if from >= to {
            return Err(invalid(
                "intervals",
                format!("{from} to {to} has no length; expected FROM before TO"),
            ));
        }
        if *from <= Timestamp::MIN || *to >= Timestamp::MAX {
            return Err(invalid(
                "intervals",
                format!("{from} to {to} is outside the years 1 to 9999"),
            ));
        }
    }
    Ok(())
}

/// Checks a name: of a task, namespace, label, worker, owner.
///
/// # Errors
/// Empty, too long, or with control characters.
pub fn name(field: &str, text: &str) -> Result<(), Reject> {
    let most = limits::NAME_BYTES_MAX;
    if text.is_empty() || text.len() > most {
        return Err(invalid(
            field,
            format!("has {} bytes, expected 1 to {most}", text.len()),
        ));
    }
    if text.chars().any(char::is_control) {
        let problem = format!("{text:?} contains a control character; expected for example \"nightly\"");
        return Err(invalid(field, problem));
    }
    if text.trim() != text {
        let problem = format!("{text:?} begins or ends with a space; expected for example \"nightly\"");
        return Err(invalid(field, problem));
    }
    Ok(())
}

/// Checks a text for people: a description, a note, a message.
///
/// # Errors
/// Too long.
pub fn text(field: &str, text: &str) -> Result<(), Reject> {
    let most = limits::TEXT_BYTES_MAX;
    if text.len() > most {
        return Err(invalid(field, format!("has {} bytes, at most {most}", text.len())));
    }
    Ok(())
}

/// Checks the parameters of a trigger.
///
/// # Errors
/// Too many, too long, or names that cannot stand in an environment.
pub fn params(params: &[(String, String)]) -> Result<(), Reject> {
    if params.len() > limits::TRIGGER_PARAMS_MAX {
        return Err(invalid(
            "params",
            format!("{} given, at most {}", params.len(), limits::TRIGGER_PARAMS_MAX),
        ));
    }
    for (key, value) in params {
        if key.is_empty() || key.len() > 64 || !key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
            return Err(invalid(
                "params",
                format!("{key:?} is not a name of 1 to 64 letters, digits and underscores"),
            ));
        }
        if value.len() > limits::TEXT_BYTES_MAX || value.contains('\0') {
            return Err(invalid(
                format!("params.{key}"),
                format!("at most {} bytes, and no zero byte", limits::TEXT_BYTES_MAX),
            ));
        }
    }
    Ok(())
}

fn schedule(schedule: &Schedule) -> Result<(), Reject> {
    let instant = |field: &str, at: Timestamp| {
        if at <= Timestamp::MIN || at >= Timestamp::MAX {
            return Err(invalid(field, "is outside the years 1 to 9999"));
        }
        Ok(())
    };
    match schedule {
        Schedule::At(at) => instant("schedule.at", *at),
        Schedule::In { delay_ms } if *delay_ms > limits::DURATION_MS_MAX => Err(invalid(
            "schedule.in",
            format!("{delay_ms} ms is more than {} ms", limits::DURATION_MS_MAX),
        )),
        Schedule::Every { anchor, .. } => instant("schedule.anchor", *anchor),
        Schedule::Rrule { dtstart, .. } => instant("schedule.dtstart", *dtstart),
        Schedule::After { parents, .. } if parents.is_empty() || parents.len() > limits::PARENTS_MAX => Err(invalid(
            "schedule.after",
            format!("names {} tasks, expected 1 to {}", parents.len(), limits::PARENTS_MAX),
        )),
        Schedule::Before { event, before_ms } => {
            instant("schedule.at", *event)?;
            duration("schedule.before", *before_ms)?;
            instant("schedule.before", schedule.instant().unwrap_or(Timestamp::MIN))
        }
        _ => Ok(()),
    }
}

fn duration(field: &str, ms: u64) -> Result<(), Reject> {
    if ms > limits::DURATION_MS_MAX {
        return Err(invalid(
            field,
            format!("{ms} ms is more than {} ms", limits::DURATION_MS_MAX),
        ));
    }
    Ok(())
}

/// Checks policies that are to be defaults. What is wrong is said without the field, which the caller knows by another name.
///
/// # Errors
/// Says what would be accepted.
pub fn policy_defaults(defaults: &Policy) -> Result<(), String> {
    policy(defaults).map_err(|reject| match reject {
        Reject::Invalid { problem, .. } => problem,
        other => other.to_string(),
    })
}

fn policy(policy: &Policy) -> Result<(), Reject> {
    duration("policy.grace_ms", policy.grace_ms)?;
    if let Missed::All { max } = policy.missed
        && !(1..=crate::plan::CATCH_UP_MAX).contains(&max)
    {
        return Err(invalid(
            "policy.missed",
            format!("all:{max}; expected 1 to {}", crate::plan::CATCH_UP_MAX),
        ));
    }
    let tries = &policy.tries;
    if !(1..=limits::TRIES_MAX).contains(&tries.max) {
        return Err(invalid(
            "policy.tries.max",
            format!("{}; expected 1 to {}", tries.max, limits::TRIES_MAX),
        ));
    }
    duration("policy.tries.delay_ms", tries.delay_ms)?;
    duration("policy.tries.delay_ms_max", tries.delay_ms_max)?;
    duration("policy.tries.put_off_ms_max", tries.put_off_ms_max)?;
    duration("policy.catch_up_every_ms", policy.catch_up_every_ms)?;
    if !(100..=10_000).contains(&tries.factor_percent) {
        return Err(invalid(
            "policy.tries.factor_percent",
            format!("{}; expected 100 to 10000", tries.factor_percent),
        ));
    }
    if policy.delivery == Some(Delivery::AtMostOnce) && policy.asks_for_tries() {
        return Err(invalid(
            "policy.tries.max",
            format!(
                "{} with at-most-once delivery, which starts once; expected 1",
                tries.max
            ),
        ));
    }
    duration("policy.lost_hold_ms", policy.lost_hold_ms)?;
    if policy.time_limit_ms == Some(0) {
        return Err(invalid(
            "policy.time_limit_ms",
            "is 0; leave it out for no limit, or say none",
        ));
    }
    duration("policy.time_limit_ms", policy.time_limit_ms.unwrap_or(0))?;
    if !(-100..=100).contains(&policy.priority) {
        return Err(invalid(
            "policy.priority",
            format!("{}; expected -100 to 100", policy.priority),
        ));
    }
    let retention = &policy.retention;
    if retention.finished_max > 100_000 || retention.failed_max > 100_000 {
        return Err(invalid("policy.retention", "at most 100000 runs can be kept"));
    }
    duration("policy.retention.finished_age_ms_max", retention.finished_age_ms_max)?;
    duration("policy.retention.failed_age_ms_max", retention.failed_age_ms_max)?;
    if let Some(group) = &policy.group {
        name("policy.group", &group.name)?;
        if !(1..=limits::GROUP_LIMIT_MAX).contains(&group.limit) {
            return Err(invalid(
                "policy.group",
                format!("limit {}; expected 1 to {}", group.limit, limits::GROUP_LIMIT_MAX),
            ));
        }
    }
    for (field, labels) in [
        ("require", &policy.placement.require),
        ("prefer", &policy.placement.prefer),
    ] {
        let field = format!("policy.placement.{field}");
        if labels.len() > limits::LABELS_MAX {
            return Err(invalid(
                field,
                format!("{} given, at most {}", labels.len(), limits::LABELS_MAX),
            ));
        }
        for (label, value) in labels {
            name(&field, label)?;
            if !value.is_empty() {
                name(&field, value)?;
            }
        }
    }
    notify::notify(&policy.notify)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alarm_is_due_within_the_calendar() {
        let alarm = |event: i64, before_ms: u64| {
            schedule(&Schedule::Before {
                event: Timestamp::from_millis(event),
                before_ms,
            })
        };
        assert_eq!(alarm(10, 20), Ok(()));
        assert!(alarm(10, u64::MAX).is_err());
        assert!(alarm(Timestamp::MIN.as_millis() + 5, 20).is_err());
    }
}
