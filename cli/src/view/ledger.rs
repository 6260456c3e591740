//! A task's ledger: a line of it, and all that became of its occurrences.

use super::{LedgerView, RunView, Table, instant, instant_or_none, or_dash, run_id, v1};
use serde::Serialize;

/// Shows a line.
pub(super) fn ledger_line(line: v1::LedgerLine) -> LedgerView {
    use v1::ledger_line::Fact;
    let (fact, first, last, count, reason) = match line.fact {
        Some(Fact::Missed(missed)) => (
            "missed",
            Some(missed.first_unix_ms),
            Some(missed.last_unix_ms),
            missed.count,
            missed.reason,
        ),
        Some(Fact::Skipped(skipped)) => {
            let at = Some(skipped.scheduled_at_unix_ms);
            ("skipped", at, at, 1, skipped.reason)
        }
        Some(Fact::StaleReport(report)) => {
            let run = run_id(report.run.unwrap_or_default());
            let reason = format!(
                "worker {} reported {} of run {run}, which it was to have given up",
                report.worker, report.verdict
            );
            ("stale_report", None, None, 1, reason)
        }
        Some(Fact::Resolved(resolved)) => {
            let run = run_id(resolved.run.unwrap_or_default());
            let by = match resolved.principal.as_str() {
                "" => "by hand".to_owned(),
                principal => format!("by {principal}"),
            };
            let reason = format!("lost run {run} resolved as {}, {by}", resolved.resolution);
            ("resolved", None, None, 1, reason)
        }
        Some(Fact::Closed(closed)) => (
            "skipped",
            Some(closed.first_unix_ms),
            Some(closed.last_unix_ms),
            closed.count,
            format!("calendar {}", closed.calendar),
        ),
        Some(Fact::DrainFailed(failed)) => ("drain_failed", None, None, 0, failed.reason),
        None => ("unknown", None, None, 0, String::new()),
    };
    LedgerView {
        at: instant(line.at_unix_ms),
        fact,
        first: instant_or_none(first),
        last: instant_or_none(last),
        count,
        reason,
    }
}

/// What became of an occurrence, or of several one after the other.
#[derive(Serialize, Debug)]
pub(crate) struct OccurrenceView {
    /// When it was due; the first of several. Of a line about something else, when that was noted.
    scheduled_at: String,
    /// When the last of several was due.
    last: Option<String>,
    count: u64,
    /// `ran`, `running`, `waiting`, `lost`, `expired`, `not_run`: of those that have a run; `missed`, `skipped`, `expired`: of
    /// those that got none. `stale_report`, `resolved` and `drain_failed` are about no occurrence of their own.
    fact: &'static str,
    late_ms: Option<i64>,
    run: Option<String>,
    state: Option<String>,
    reason: String,
}

/// Tells all of them, the newest first.
pub(crate) fn occurrences(runs: Vec<v1::Run>, lines: Vec<v1::LedgerLine>) -> Vec<OccurrenceView> {
    let mut list: Vec<_> = runs.into_iter().map(|run| of_run(RunView::new(run))).collect();
    list.extend(lines.into_iter().map(|line| of_line(ledger_line(line))));
    list.sort_by(|a, b| b.newest().cmp(a.newest()));
    list
}

impl OccurrenceView {
    /// When the last of it was due. All instants are written alike, so that their order is that of the words.
    fn newest(&self) -> &str {
        self.last.as_deref().unwrap_or(&self.scheduled_at)
    }
}

fn of_run(run: RunView) -> OccurrenceView {
    let fact = match run.state.as_str() {
        "PENDING" => "waiting",
        "ASSIGNED" | "RUNNING" => "running",
        "LOST" => "lost",
        _ if run.attempts > 0 => "ran",
        _ => expired_or("not_run", &run.reason),
    };
    OccurrenceView {
        scheduled_at: run.scheduled_at,
        last: None,
        count: 1,
        fact,
        late_ms: run.late_ms,
        run: Some(run.run),
        state: Some(run.state),
        reason: run.reason,
    }
}

fn of_line(line: LedgerView) -> OccurrenceView {
    OccurrenceView {
        scheduled_at: line.first.unwrap_or(line.at),
        last: line.last.filter(|_| line.count > 1),
        count: line.count,
        fact: match line.fact {
            "missed" => expired_or("missed", &line.reason),
            fact => fact,
        },
        late_ms: None,
        run: None,
        state: None,
        reason: line.reason,
    }
}

/// What was to start by an instant and did not says so in its reason.
fn expired_or(fact: &'static str, reason: &str) -> &'static str {
    if reason.starts_with("expired") { "expired" } else { fact }
}

/// Lists what became of occurrences.
pub(crate) fn occurrence_table(list: &[OccurrenceView]) -> String {
    let mut table = Table::new(&[
        "SCHEDULED",
        "LAST",
        "COUNT",
        "FACT",
        "LATE MS",
        "RUN",
        "STATE",
        "REASON",
    ]);
    for one in list {
        table.row([
            one.scheduled_at.clone(),
            or_dash(one.last.as_deref()),
            one.count.to_string(),
            one.fact.to_owned(),
            or_dash(one.late_ms.map(|ms| ms.to_string()).as_deref()),
            or_dash(one.run.as_deref()),
            or_dash(one.state.as_deref()),
            one.reason.clone(),
        ]);
    }
    table.render()
}
