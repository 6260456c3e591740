//! An action in one line.

use sched_core::task::{Action, TaskSpec};

/// Writes an action in one line.
pub(super) fn action_line(spec: &TaskSpec) -> String {
    match &spec.action {
        Action::Command { argv, .. } => argv.iter().map(|arg| quoted(arg)).collect::<Vec<_>>().join(" "),
        Action::Http { method, url, .. } => format!("{method} {url}"),
        Action::Sample {
            succeed, duration_ms, ..
        } => {
            format!("sample {},{duration_ms}", if *succeed { "ok" } else { "fail" })
        }
        Action::Mail { to, subject, .. } => {
            let others = match to.len() {
                0 | 1 => String::new(),
                n => format!(" and {} more", n - 1),
            };
            let first = to.first().map_or("", String::as_str);
            format!("mail {first}{others}: {subject}")
        }
        Action::Worker { queue, payload, .. } if payload.is_empty() => format!("queue {queue}"),
        Action::Worker { queue, payload, .. } => {
            format!("queue {queue}: {}", shortened(&String::from_utf8_lossy(payload)))
        }
    }
}

/// Returns as much of a text as fits a line.
fn shortened(text: &str) -> String {
    const SHOWN_CHARS: usize = 60;
    match text.char_indices().nth(SHOWN_CHARS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// Quotes an argument as a shell would need it.
fn quoted(arg: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "-_./:=@%+,".contains(c);
    if !arg.is_empty() && arg.chars().all(plain) {
        arg.to_owned()
    } else {
        format!("'{}'", arg.replace('\'', "'\\''"))
    }
}
