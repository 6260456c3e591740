//! Doubled, unflagged overlap, false success, and restarts after a loss: the attempts of one run.

use super::case::{Case, Seen};
use super::history::{Delivery, Process, RunFound};
use super::report::{Class, Report};
use std::collections::BTreeMap;

pub(super) fn judge(case: &Case<'_>, report: &mut Report) {
    for seen in &case.seen {
        report.figures.further_attempts += seen.processes.len().saturating_sub(1) as u64;
        match case.task.delivery {
            Delivery::AtMostOnce => doubled(case, seen, report),
            Delivery::AtLeastOnce => overlap(case, seen, report),
        }
        restarts(case, seen, report);
    }
    let processes: BTreeMap<&str, &[&Process]> = case
        .seen
        .iter()
        .map(|seen| (seen.run, seen.processes.as_slice()))
        .collect();
    for found in case.runs() {
        report.figures.lost += u64::from(found.state == "LOST");
        if case.task.watched && found.state == "FINISHED" {
            let processes = processes.get(found.run.as_str()).copied().unwrap_or_default();
            success(case, found, processes, report);
        }
    }
}

fn succeeded(case: &Case<'_>, process: &Process) -> bool {
    process
        .exit_code
        .is_some_and(|code| case.task.success_codes.contains(&code))
}

/// A second start is allowed only after one that is known to have failed, and only if there are tries.
fn doubled(case: &Case<'_>, seen: &Seen<'_>, report: &mut Report) {
    for pair in seen.processes.windows(2) {
        let (first, second) = (pair[0], pair[1]);
        let failed = first.exit_code.is_some() && !succeeded(case, first);
        let over = first
            .ended_at_ms
            .is_some_and(|ended| ended <= second.started_at_ms.saturating_add(case.history.bounds.overlap_ms_max));
        if !(case.task.tries_max > 1 && failed && over) {
            let detail = format!(
                "started at {} under {} and again at {} under {}; the first ended {:?} with {:?}",
                first.started_at_ms,
                first.token,
                second.started_at_ms,
                second.token,
                first.ended_at_ms,
                first.exit_code
            );
            report.accuse(Class::Doubled, seen.run, detail);
        }
    }
}

/// Two attempts alive at once must be flagged.
fn overlap(case: &Case<'_>, seen: &Seen<'_>, report: &mut Report) {
    let flagged = seen.found.is_some_and(|found| found.stale_reports > 0);
    let mut longest: Option<&Process> = None;
    for process in &seen.processes {
        if let Some(before) = longest
            && ends(before).saturating_sub(case.history.bounds.overlap_ms_max) > process.started_at_ms
        {
            if flagged {
                report.figures.flagged_overlaps += 1;
            } else {
                let detail = format!(
                    "{} from {} to {:?} and {} from {}",
                    before.token, before.started_at_ms, before.ended_at_ms, process.token, process.started_at_ms
                );
                report.accuse(Class::UnflaggedOverlap, seen.run, detail);
            }
        }
        if longest.is_none_or(|before| ends(before) < ends(process)) {
            longest = Some(process);
        }
    }
}

fn ends(process: &Process) -> i64 {
    process.ended_at_ms.unwrap_or(i64::MAX)
}

/// FINISHED is true only if a process said so, the one of the token that is named for it.
fn success(case: &Case<'_>, found: &RunFound, processes: &[&Process], report: &mut Report) {
    let good = processes.iter().any(|process| {
        succeeded(case, process) && found.success_token.as_ref().is_none_or(|token| *token == process.token)
    });
    if !good {
        let ended: Vec<String> = processes
            .iter()
            .map(|process| format!("{} with {:?}", process.token, process.exit_code))
            .collect();
        let by = found.success_token.as_deref().unwrap_or("unknown");
        let detail = format!("it is FINISHED by {by}; its processes ended: [{}]", ended.join(", "));
        report.accuse(Class::FalseSuccess, &found.run, detail);
    }
}

/// A process that ended without settling its run is followed by another in time.
fn restarts(case: &Case<'_>, seen: &Seen<'_>, report: &mut Report) {
    // A worker that died is given up after its lease, which takes about as long as what follows a heal.
    let bound = case.history.bounds.heal_ms_max.max(case.history.bounds.start_ms_max);
    let by = |ended: i64| {
        let since = ended.saturating_add(case.task.retry_delay_ms_max);
        case.timeline.deadline_within(since, bound)
    };
    let mut over = i64::MIN;
    for pair in seen.processes.windows(2) {
        over = over.max(ends(pair[0]));
        let deadline = by(over);
        if pair[1].started_at_ms > deadline.at_ms {
            let detail = format!(
                "nothing of it ran from {over} on; it was to run again by {}, and did at {}",
                deadline.at_ms, pair[1].started_at_ms
            );
            report.accuse(Class::Stuck, seen.run, detail);
        }
    }
    over = seen.processes.iter().map(|process| ends(process)).max().unwrap_or(over);
    let Some(found) = seen.found else { return };
    let open = match found.state.as_str() {
        "PENDING" => !found.waits,
        "ASSIGNED" | "RUNNING" => true,
        _ => false,
    };
    let deadline = by(over);
    if open && deadline.at_ms < case.read_at_ms {
        let detail = format!(
            "nothing of it runs since {over}; it is {} at {}, to be running or terminal by {}",
            found.state, case.read_at_ms, deadline.at_ms
        );
        report.accuse(Class::Stuck, seen.run, detail);
    }
}

/// No token is started twice, whatever its run.
pub(super) fn tokens(case: &Case<'_>, report: &mut Report) {
    let mut processes: Vec<&Process> = case
        .seen
        .iter()
        .flat_map(|seen| seen.processes.iter().copied())
        .collect();
    processes.sort_by(|a, b| a.token.cmp(&b.token));
    for pair in processes.windows(2) {
        if pair[0].token == pair[1].token {
            let detail = format!(
                "token {} started at {} and at {}",
                pair[0].token, pair[0].started_at_ms, pair[1].started_at_ms
            );
            report.accuse(Class::Doubled, &pair[0].run, detail);
        }
    }
}
