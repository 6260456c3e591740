//! Whether a request is acceptable at all: checked before it is proposed, so that nonsense never reaches the log.

use crate::command::Reject;
use crate::limits;
use crate::schedule::Schedule;
use crate::task::{Action, Bounds, Delivery, Missed, Policy, ProcessLimits, ScheduleKind, TaskSpec};
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
                format!("{text:?} would be taken for a task id; add a letter"),
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
    action(&spec.action)?;
    policy(&spec.policy)?;
    bounds(&spec.bounds, ScheduleKind::of(&spec.schedule))
}

fn bounds(bounds: &Bounds, kind: ScheduleKind) -> Result<(), Reject> {
    let Bounds {
        not_before,
        until,
        expires,
        count,
        jitter,
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
        return Err(invalid("bounds.count", "is 0; expected at least 1"));
    }
    if let Some(jitter) = jitter {
        if jitter.ms == 0 {
            return Err(invalid("bounds.jitter", "is 0; leave it out for none"));
        }
        duration("bounds.jitter", jitter.ms)?;
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
        return Err(invalid(field, format!("{text:?} contains a control character")));
    }
    if text.trim() != text {
        return Err(invalid(field, format!("{text:?} begins or ends with a space")));
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

fn action(action: &Action) -> Result<(), Reject> {
    let size = match action {
        Action::Command {
            argv,
            env,
            dir,
            stdin,
            success_codes,
            user,
            limits,
        } => {
            command(argv, env.iter(), dir.as_deref())?;
            process_user(user.as_deref())?;
            process_limits(limits)?;
            argv.iter().map(String::len).sum::<usize>()
                + env.iter().map(|(k, v)| k.len() + v.len()).sum::<usize>()
                + stdin.len()
                + dir.as_ref().map_or(0, String::len)
                + success_codes.len() * size_of::<i32>()
        }
        Action::Http {
            method,
            url,
            headers,
            body,
            success_statuses,
            timeout_ms,
            expect,
        } => {
            http(method, url, headers, success_statuses, *timeout_ms)?;
            expected_body(expect.as_deref())?;
            url.len()
                + expect.as_ref().map_or(0, String::len)
                + headers.iter().map(|(k, v)| k.len() + v.len()).sum::<usize>()
                + body.len()
                + success_statuses.len() * size_of::<u16>()
        }
        Action::Sample {
            duration_ms, payload, ..
        } => {
            duration("action.sample.duration_ms", *duration_ms)?;
            payload.len()
        }
        Action::Mail {
            from,
            to,
            cc,
            subject,
            text,
        } => {
            mail(from.as_deref(), to, cc, subject)?;
            to.iter().chain(cc).map(String::len).sum::<usize>() + subject.len() + text.len()
        }
    };
    if size > limits::PAYLOAD_BYTES_MAX {
        let most = limits::PAYLOAD_BYTES_MAX;
        return Err(invalid(
            "action",
            format!("has {size} bytes of payload, at most {most}; pass a reference instead"),
        ));
    }
    Ok(())
}

fn command<'a>(
    argv: &[String],
    env: impl Iterator<Item = (&'a String, &'a String)>,
    dir: Option<&str>,
) -> Result<(), Reject> {
    if argv.first().is_none_or(String::is_empty) {
        return Err(invalid(
            "action.command.argv",
            "is empty; expected a program and its arguments",
        ));
    }
    if argv.iter().any(|arg| arg.contains('\0')) {
        return Err(invalid("action.command.argv", "contains a zero byte"));
    }
    for (key, value) in env {
        if key.is_empty() || key.contains(['=', '\0']) || value.contains('\0') {
            return Err(invalid(
                "action.command.env",
                format!("{key:?} is not a name, or its value has a zero byte"),
            ));
        }
        if key.starts_with("SCHED_") {
            return Err(invalid(
                "action.command.env",
                format!("{key:?}: names with SCHED_ are set by the scheduler"),
            ));
        }
    }
    if let Some(dir) = dir
        && (!dir.starts_with('/') || dir.contains('\0'))
    {
        return Err(invalid(
            "action.command.dir",
            format!("{dir:?} is not an absolute path"),
        ));
    }
    Ok(())
}

fn process_user(user: Option<&str>) -> Result<(), Reject> {
    let fine = |user: &str| {
        (1..=limits::USER_BYTES_MAX).contains(&user.len())
            && !user.starts_with('-')
            && user.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
    };
    match user {
        Some(user) if !fine(user) => Err(invalid(
            "action.command.user",
            format!(
                "{:?} is not the name of a user; expected for example backup",
                shortened(user)
            ),
        )),
        _ => Ok(()),
    }
}

fn process_limits(given: &ProcessLimits) -> Result<(), Reject> {
    if given.cpu_s == Some(0) {
        return Err(invalid(
            "action.command.limits.cpu_s",
            "is 0; expected at least 1, or leave it out for no limit",
        ));
    }
    duration(
        "action.command.limits.cpu_s",
        given.cpu_s.unwrap_or(0).saturating_mul(1000),
    )?;
    let least = limits::PROCESS_MEMORY_BYTES_MIN;
    if let Some(bytes) = given.memory_bytes.filter(|bytes| *bytes < least) {
        return Err(invalid(
            "action.command.limits.memory_bytes",
            format!("{bytes}; expected at least {least}, for example 67108864 for 64 MiB"),
        ));
    }
    let fewest = limits::PROCESS_FILES_MIN;
    if let Some(files) = given.files.filter(|files| *files < fewest) {
        return Err(invalid(
            "action.command.limits.files",
            format!("{files}; expected at least {fewest}, for example 256"),
        ));
    }
    Ok(())
}

fn http(
    method: &str,
    url: &str,
    headers: &[(String, String)],
    success_statuses: &[u16],
    timeout_ms: u64,
) -> Result<(), Reject> {
    const METHODS: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];
    if !METHODS.contains(&method) {
        let known = METHODS.join(", ");
        return Err(invalid(
            "action.http.method",
            format!("{method:?} is not one of {known}"),
        ));
    }
    let rest = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"));
    let has_host = rest.is_some_and(|rest| !rest.is_empty() && !rest.starts_with(['/', '?', '#']));
    if !has_host || url.chars().any(|c| c.is_control() || c == ' ') {
        return Err(invalid(
            "action.http.url",
            format!("{url:?} is not an absolute http or https address"),
        ));
    }
    for (name, value) in headers {
        let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
        if name.is_empty() || !name.bytes().all(token) || value.bytes().any(|b| b < 32 && b != b'\t' || b == 127) {
            return Err(invalid(
                "action.http.headers",
                format!("{name:?} is not a header name, or its value is not text"),
            ));
        }
    }
    if let Some(bad) = success_statuses.iter().find(|status| !(100..=599).contains(*status)) {
        return Err(invalid(
            "action.http.success_statuses",
            format!("{bad} is not an HTTP status"),
        ));
    }
    if timeout_ms == 0 {
        return Err(invalid("action.http.timeout_ms", "is 0; expected at least 1"));
    }
    duration("action.http.timeout_ms", timeout_ms)
}

/// Checks the size alone: what the expression says is checked where expressions are compiled.
fn expected_body(expect: Option<&str>) -> Result<(), Reject> {
    let most = limits::EXPECT_BYTES_MAX;
    match expect.map(str::len) {
        Some(size) if size == 0 || size > most => Err(invalid(
            "action.http.expect",
            format!("has {size} bytes; expected a regular expression of 1 to {most}, for example \"status\": *\"ok\""),
        )),
        _ => Ok(()),
    }
}

fn mail(from: Option<&str>, to: &[String], cc: &[String], subject: &str) -> Result<(), Reject> {
    if let Some(from) = from {
        mail_address("action.mail.from", from)?;
    }
    if to.is_empty() {
        return Err(invalid(
            "action.mail.to",
            "is empty; expected at least one address, for example ann@example.org",
        ));
    }
    let most = limits::MAIL_RECIPIENTS_MAX;
    if to.len() + cc.len() > most {
        let given = to.len() + cc.len();
        return Err(invalid(
            "action.mail.to",
            format!("{given} recipients with those of cc, at most {most}; use the address of a list"),
        ));
    }
    for address in to {
        mail_address("action.mail.to", address)?;
    }
    for address in cc {
        mail_address("action.mail.cc", address)?;
    }
    let most = limits::MAIL_SUBJECT_BYTES_MAX;
    if subject.trim().is_empty() || subject.len() > most || subject.chars().any(char::is_control) {
        return Err(invalid(
            "action.mail.subject",
            format!(
                "{:?} is not a subject; expected one line of 1 to {most} bytes, for example \"Backup is due\"",
                shortened(subject)
            ),
        ));
    }
    Ok(())
}

/// Checks a mail address: `local@domain`, plain, as every relay takes it. A display name, quotes or comments are not taken, so that
/// what is checked is what is sent.
///
/// # Errors
/// Says what the address is and how one looks.
pub fn mail_address(field: &str, address: &str) -> Result<(), Reject> {
    let fine = address.len() <= limits::MAIL_ADDRESS_BYTES_MAX
        && address
            .rsplit_once('@')
            .is_some_and(|(local, domain)| is_local_part(local) && is_domain(domain));
    if fine {
        return Ok(());
    }
    let text = shortened(address);
    Err(invalid(
        field,
        format!("{text:?} is not a mail address; expected a plain one, for example ann@example.org"),
    ))
}

fn is_local_part(local: &str) -> bool {
    let atom = |atom: &str| {
        !atom.is_empty()
            && atom
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-/=?^_`{|}~".contains(&b))
    };
    local.len() <= 64 && local.split('.').all(atom)
}

fn is_domain(domain: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    domain.split('.').all(label)
}

/// Returns as much of a text as a message should repeat.
fn shortened(text: &str) -> String {
    const SHOWN_CHARS: usize = 80;
    let mut chars = text.chars();
    let mut shown: String = chars.by_ref().take(SHOWN_CHARS).collect();
    if chars.next().is_some() {
        shown.push('…');
    }
    shown
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
    if !(100..=10_000).contains(&tries.factor_percent) {
        return Err(invalid(
            "policy.tries.factor_percent",
            format!("{}; expected 100 to 10000", tries.factor_percent),
        ));
    }
    if policy.delivery == Some(Delivery::AtMostOnce) {
        return Err(invalid(
            "policy.delivery",
            "at-most-once is not offered by this release; every task is at-least-once",
        ));
    }
    if policy.time_limit_ms == Some(0) {
        return Err(invalid("policy.time_limit_ms", "is 0; leave it out for no limit"));
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
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mail_addresses_are_plain() {
        for good in ["a@b", "ann.lee+x@mail.example.org", "o'neil@example.org", "x@1.example"] {
            assert_eq!(mail_address("to", good), Ok(()), "{good}");
        }
        let long = format!("{}@example.org", "a".repeat(65));
        let bad = [
            "",
            "ann",
            "@example.org",
            "ann@",
            "ann@-x.org",
            "ann@x..org",
            ".ann@x.org",
            "a b@x.org",
            "Ann <ann@x.org>",
            "ann@x.org\r\nBcc: eve@x.org",
            "ann@x.org,bob@x.org",
            "änn@x.org",
            &long,
        ];
        for bad in bad {
            let e = mail_address("to", bad).expect_err(bad).to_string();
            assert!(e.starts_with("to") && e.contains("ann@example.org"), "{e}");
        }
    }

    #[test]
    fn a_mail_has_recipients_and_a_subject() {
        let to = vec!["a@b".to_owned()];
        let many = vec!["a@b".to_owned(); 101];
        assert_eq!(mail(None, &to, &[], "s"), Ok(()));
        for (result, field) in [
            (mail(None, &[], &to, "s"), "action.mail.to"),
            (mail(None, &many, &[], "s"), "action.mail.to"),
            (mail(Some("x"), &to, &[], "s"), "action.mail.from"),
            (mail(None, &to, &["x".to_owned()], "s"), "action.mail.cc"),
            (mail(None, &to, &[], " "), "action.mail.subject"),
            (mail(None, &to, &[], "a\nBcc: x@y"), "action.mail.subject"),
            (mail(None, &to, &[], &"s".repeat(999)), "action.mail.subject"),
        ] {
            assert!(
                matches!(&result, Err(Reject::Invalid { field: named, .. }) if named == field),
                "{result:?}"
            );
        }
    }

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
