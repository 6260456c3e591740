//! A line of a task's ledger.

use super::{LedgerView, instant, instant_or_none, run_id, v1};

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
