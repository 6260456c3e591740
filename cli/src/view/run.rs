//! Runs.

use super::{instant, instant_or_none, lines, or_dash, run_id, run_state, word};
use crate::table::Table;
use sched_client::v1;
use serde::Serialize;
use std::collections::BTreeMap;

/// A run.
#[derive(Serialize, Debug, PartialEq)]
pub(crate) struct RunView {
    pub(crate) run: String,
    pub(crate) task: u64,
    pub(crate) name: Option<String>,
    pub(crate) state: String,
    /// Why a pending run does not run: `ready`, `delayed` or `held`.
    pub(crate) pending: Option<String>,
    pub(crate) delayed_until: Option<String>,
    pub(crate) manual: bool,
    pub(crate) scheduled_at: String,
    pub(crate) assigned_at: Option<String>,
    pub(crate) started_at: Option<String>,
    pub(crate) ended_at: Option<String>,
    pub(crate) late_ms: Option<i64>,
    pub(crate) worker: Option<String>,
    pub(crate) attempts: u32,
    pub(crate) exit_code: Option<i32>,
    pub(crate) reason: String,
    pub(crate) cancelling: bool,
    pub(crate) losses: u32,
    pub(crate) stale_reports: u32,
    pub(crate) priority: i32,
    pub(crate) params: BTreeMap<String, String>,
    /// The queue whose workers take it.
    pub(crate) queue: Option<String>,
    /// What its worker said last, while it runs.
    pub(crate) progress: Option<ProgressView>,
}

/// How far a run is.
#[derive(Serialize, Debug, PartialEq)]
pub(crate) struct ProgressView {
    pub(crate) percent: Option<u32>,
    pub(crate) message: String,
    pub(crate) reported_at: String,
}

impl ProgressView {
    fn new(progress: v1::Progress) -> Self {
        Self {
            percent: progress.percent,
            reported_at: instant(progress.reported_at_unix_ms),
            message: progress.message,
        }
    }

    /// In one line: `40 % resizing`.
    fn line(&self) -> String {
        match (self.percent, self.message.as_str()) {
            (Some(percent), "") => format!("{percent} %"),
            (Some(percent), message) => format!("{percent} % {message}"),
            (None, message) => message.to_owned(),
        }
    }
}

impl RunView {
    pub(crate) fn new(run: v1::Run) -> Self {
        let id = run.id.unwrap_or_default();
        let pending = match run.pending() {
            v1::Pending::Unspecified => None,
            pending => Some(word(pending.as_str_name(), "PENDING_").to_ascii_lowercase()),
        };
        Self {
            run: run_id(id),
            task: id.task,
            state: run_state(run.state()),
            pending,
            delayed_until: instant_or_none(run.delayed_until_unix_ms),
            manual: run.manual,
            scheduled_at: instant(run.scheduled_at_unix_ms),
            assigned_at: instant_or_none(run.assigned_at_unix_ms),
            started_at: instant_or_none(run.started_at_unix_ms),
            ended_at: instant_or_none(run.ended_at_unix_ms),
            late_ms: run.late_ms,
            attempts: run.attempts_count,
            exit_code: run.exit_code,
            cancelling: run.cancelling,
            losses: run.losses,
            stale_reports: run.stale_reports,
            priority: run.priority,
            params: run.params.into_iter().map(|param| (param.key, param.value)).collect(),
            name: run.task_name,
            worker: Some(run.worker).filter(|worker| !worker.is_empty()),
            reason: run.reason,
            queue: run.queue,
            progress: run.progress.map(ProgressView::new),
        }
    }

    fn shown_state(&self) -> String {
        match (&self.pending, self.cancelling) {
            (Some(pending), _) => format!("{} ({pending})", self.state),
            (None, true) => format!("{} (cancelling)", self.state),
            (None, false) => self.state.clone(),
        }
    }

    /// Why it is where it is; of one that runs, how far it is.
    fn shown_reason(&self) -> String {
        match &self.progress {
            Some(progress) => progress.line(),
            None => self.reason.clone(),
        }
    }
}

/// Lists runs.
pub(crate) fn runs(runs: &[RunView]) -> String {
    let header = [
        "RUN",
        "STATE",
        "SCHEDULED",
        "STARTED",
        "ENDED",
        "LATE MS",
        "WORKER",
        "ATTEMPTS",
        "EXIT",
        "REASON",
    ];
    let mut table = Table::new(&header);
    let number = |number: Option<i64>| number.map_or_else(|| "-".to_owned(), |number| number.to_string());
    for run in runs {
        table.row([
            run.run.clone(),
            run.shown_state(),
            run.scheduled_at.clone(),
            or_dash(run.started_at.as_deref()),
            or_dash(run.ended_at.as_deref()),
            number(run.late_ms),
            or_dash(run.worker.as_deref()),
            run.attempts.to_string(),
            number(run.exit_code.map(i64::from)),
            run.shown_reason(),
        ]);
    }
    table.render()
}

/// A run with all there is to know.
#[derive(Serialize, Debug)]
pub(crate) struct RunDetails {
    #[serde(flatten)]
    pub(crate) run: RunView,
    /// The newest, oldest first.
    pub(crate) attempt_list: Vec<AttemptView>,
    /// The end of the output; bytes that are no text are replaced.
    pub(crate) output_tail: String,
    /// What a remote worker answered: the value when it is JSON, else as text.
    pub(crate) result: Option<serde_json::Value>,
}

/// One try of a run.
#[derive(Serialize, Debug)]
pub(crate) struct AttemptView {
    pub(crate) token: String,
    pub(crate) worker: String,
    pub(crate) assigned_at: String,
    /// Nothing while it is under way.
    pub(crate) ended: Option<String>,
}

impl RunDetails {
    pub(crate) fn new(reply: v1::GetRunReply) -> Self {
        let run = reply.run.unwrap_or_default();
        let attempt = |attempt: &v1::Attempt| AttemptView {
            token: format!("{}.{}", attempt.token_index, attempt.token_position),
            worker: attempt.worker.clone(),
            assigned_at: instant(attempt.assigned_at_unix_ms),
            ended: match attempt.ended() {
                v1::AttemptEnd::Unspecified => None,
                ended => Some(word(ended.as_str_name(), "ATTEMPT_END_").to_ascii_lowercase()),
            },
        };
        Self {
            attempt_list: run.attempts.iter().map(attempt).collect(),
            run: RunView::new(run),
            output_tail: String::from_utf8_lossy(&reply.output_tail).into_owned(),
            result: result(&reply.result),
        }
    }
}

fn result(bytes: &[u8]) -> Option<serde_json::Value> {
    let text = || serde_json::Value::from(String::from_utf8_lossy(bytes));
    (!bytes.is_empty()).then(|| serde_json::from_slice(bytes).unwrap_or_else(|_| text()))
}

/// Shows one run.
pub(crate) fn run_details(details: &RunDetails) -> String {
    let run = &details.run;
    let params: Vec<_> = run.params.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let mut text = lines(&[
        ("run", Some(run.run.clone())),
        ("name", run.name.clone()),
        ("state", Some(run.shown_state())),
        ("delayed until", run.delayed_until.clone()),
        ("scheduled", Some(run.scheduled_at.clone())),
        ("assigned", run.assigned_at.clone()),
        ("started", run.started_at.clone()),
        ("ended", run.ended_at.clone()),
        ("late", run.late_ms.map(|ms| format!("{ms} ms"))),
        ("queue", run.queue.clone()),
        ("worker", run.worker.clone()),
        (
            "progress",
            run.progress
                .as_ref()
                .map(|progress| format!("{} (at {})", progress.line(), progress.reported_at)),
        ),
        ("result", details.result.as_ref().map(serde_json::Value::to_string)),
        ("exit code", run.exit_code.map(|code| code.to_string())),
        ("reason", Some(run.reason.clone())),
        ("parameters", Some(params.join(", "))),
        ("workers lost", (run.losses > 0).then(|| run.losses.to_string())),
        (
            "stale reports",
            (run.stale_reports > 0).then(|| run.stale_reports.to_string()),
        ),
    ]);
    if !details.attempt_list.is_empty() {
        let mut table = Table::new(&["ATTEMPT", "WORKER", "ASSIGNED", "ENDED"]);
        for attempt in &details.attempt_list {
            let ended = or_dash(attempt.ended.as_deref());
            table.row([
                attempt.token.clone(),
                attempt.worker.clone(),
                attempt.assigned_at.clone(),
                ended,
            ]);
        }
        text.push('\n');
        text.push_str(&table.render());
    }
    if !details.output_tail.is_empty() {
        text.push_str("\noutput:\n");
        text.push_str(&crate::output::visible(&details.output_tail));
        if !text.ends_with('\n') {
            text.push('\n');
        }
    }
    text
}
