//! Lines of a task's ledger.

use super::run_id;
use crate::v1;
use sched_core::run::{LedgerFact, LedgerLine};

/// A line of a task's ledger.
pub fn ledger_line(line: &LedgerLine) -> v1::LedgerLine {
    use v1::ledger_line::Fact;
    let fact = match &line.fact {
        LedgerFact::Missed {
            first,
            last,
            count,
            reason,
        } => Fact::Missed(v1::LedgerMissed {
            first_unix_ms: first.as_millis(),
            last_unix_ms: last.as_millis(),
            count: *count,
            reason: reason.clone(),
        }),
        LedgerFact::Skipped { scheduled_at, reason } => Fact::Skipped(v1::LedgerSkipped {
            scheduled_at_unix_ms: scheduled_at.as_millis(),
            reason: reason.clone(),
        }),
        LedgerFact::Closed {
            first,
            last,
            count,
            calendar,
        } => Fact::Closed(v1::LedgerClosed {
            first_unix_ms: first.as_millis(),
            last_unix_ms: last.as_millis(),
            count: *count,
            calendar: calendar.clone(),
        }),
        LedgerFact::StaleReport {
            run,
            token,
            worker,
            verdict,
        } => Fact::StaleReport(v1::LedgerStaleReport {
            run: Some(run_id(*run)),
            token_index: token.index,
            token_position: token.position,
            worker: worker.clone(),
            verdict: verdict.clone(),
        }),
        LedgerFact::Resolved {
            run,
            resolution,
            principal,
        } => Fact::Resolved(v1::LedgerResolved {
            run: Some(run_id(*run)),
            resolution: resolution.clone(),
            principal: principal.clone(),
        }),
        LedgerFact::DrainFailed { reason } => Fact::DrainFailed(v1::LedgerDrainFailed { reason: reason.clone() }),
    };
    v1::LedgerLine {
        at_unix_ms: line.at.as_millis(),
        fact: Some(fact),
    }
}
