//! Checks of actions.

use super::{duration, invalid};
use crate::command::Reject;
use crate::limits;
use crate::task::{Action, ProcessLimits};

pub(super) fn action(action: &Action) -> Result<(), Reject> {
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
            expect_headers,
        } => {
            http(method, url, headers, success_statuses, *timeout_ms)?;
            expected_body(expect.as_deref())?;
            expected_headers(expect_headers)?;
            url.len()
                + expect.as_ref().map_or(0, String::len)
                + headers
                    .iter()
                    .chain(expect_headers)
                    .map(|(k, v)| k.len() + v.len())
                    .sum::<usize>()
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
        Action::Worker {
            queue,
            payload,
            progress_timeout_ms,
        } => {
            super::name("action.queue", queue)?;
            if *progress_timeout_ms == Some(0) {
                return Err(invalid(
                    "action.progress_timeout_ms",
                    "is 0; leave it out for a handler that promises no progress, or expect it for example every 30s",
                ));
            }
            duration("action.progress_timeout_ms", progress_timeout_ms.unwrap_or(0))?;
            payload.len()
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

fn expected_headers(headers: &[(String, String)]) -> Result<(), Reject> {
    let field = "action.http.expect_headers";
    let most = limits::EXPECT_HEADERS_MAX;
    if headers.len() > most {
        return Err(invalid(field, format!("{} given, at most {most}", headers.len())));
    }
    for (name, pattern) in headers {
        if !is_header_name(name) {
            let problem = format!("{name:?} is not the name of a header; expected for example Content-Type");
            return Err(invalid(field, problem));
        }
        if pattern.len() > limits::EXPECT_BYTES_MAX {
            let problem = format!(
                "{name} has {} bytes, at most {}",
                pattern.len(),
                limits::EXPECT_BYTES_MAX
            );
            return Err(invalid(field, problem));
        }
    }
    Ok(())
}

/// Whether a text is a token as HTTP has it.
fn is_header_name(name: &str) -> bool {
    let is_token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    !name.is_empty() && name.len() <= limits::NAME_BYTES_MAX && name.bytes().all(is_token)
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
    super::notify::http_url("action.http.url", url)?;
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
pub(super) fn shortened(text: &str) -> String {
    const SHOWN_CHARS: usize = 80;
    let mut chars = text.chars();
    let mut shown: String = chars.by_ref().take(SHOWN_CHARS).collect();
    if chars.next().is_some() {
        shown.push('…');
    }
    shown
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
}
