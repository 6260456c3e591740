//! Missed, early, orphan, and late after a heal: did every occurrence begin once, in its time, and nothing else?

use super::case::{Case, Seen};
use super::history::{Delivery, RunFound};
use super::report::{Class, Report};
use super::sweep::{Fit, Swept, sweep};
use super::targets::{self, Target};
use super::timeline::Deadline;
use std::collections::BTreeSet;

pub(super) fn judge(case: &Case<'_>, report: &mut Report) {
    let ledger = case.found.map_or(&[][..], |found| &found.ledger);
    let targets = targets::of(case.task, case.history, case.timeline, ledger);
    let musts = targets.iter().filter(|target| target.must).count() as u64;
    report.figures.occurrences += musts;
    if case.task.delivery == Delivery::AtMostOnce {
        report.figures.at_most_once += musts;
    }
    if !case.task.may_skip {
        for (first, last) in ledger {
            if targets
                .iter()
                .any(|target| !target.manual && target.must && (*first..=*last).contains(&target.due_ms))
            {
                let detail = format!("the ledger says that {first} to {last} did not run, and nothing allows it");
                report.accuse(Class::Missed, &case.task.key, detail);
            }
        }
    }
    if case.task.watched {
        watched(case, targets, report);
    } else {
        unwatched(case, targets, report);
    }
}

fn watched(case: &Case<'_>, targets: Vec<Target>, report: &mut Report) {
    let early = case.history.bounds.early_ms_max;
    let mut twice = BTreeSet::new();
    let mut occurrences = BTreeSet::new();
    let mut runs: Vec<&Seen<'_>> = Vec::new();
    for seen in &case.seen {
        let first = seen.processes[0];
        if first.started_at_ms < first.scheduled_at_ms.saturating_sub(early) {
            let detail = format!("started at {} for {}", first.started_at_ms, first.scheduled_at_ms);
            report.accuse(Class::Early, seen.run, detail);
        }
        let manual = seen.found.is_some_and(|found| found.manual);
        // Two runs of one occurrence: the recorder cannot have mixed them up, each was told its own name.
        if !manual && !occurrences.insert(first.scheduled_at_ms) && twice.insert(seen.run) {
            let class = match case.task.delivery {
                Delivery::AtMostOnce => Class::Doubled,
                Delivery::AtLeastOnce => Class::Orphan,
            };
            report.accuse(
                class,
                seen.run,
                format!("a second run for the occurrence of {}", first.scheduled_at_ms),
            );
            continue;
        }
        runs.push(seen);
    }
    let starts: Vec<i64> = runs.iter().map(|seen| seen.started_at_ms()).collect();
    let Swept { fits, unserved } = sweep(targets, &starts, early);
    for (seen, fit) in runs.iter().zip(fits) {
        fits_in(case, seen, fit, report);
    }
    let started: BTreeSet<&str> = case.seen.iter().map(|seen| seen.run).collect();
    let mut uncovered: Vec<&RunFound> = case
        .runs()
        .iter()
        .filter(|found| !started.contains(found.run.as_str()))
        .collect();
    for target in unserved.iter().filter(|target| target.must) {
        never_started(case, target, &mut uncovered, report);
    }
}

fn fits_in(case: &Case<'_>, seen: &Seen<'_>, fit: Fit, report: &mut Report) {
    let start = seen.started_at_ms();
    match fit {
        Fit::InTime(target) => {
            let figures = &mut report.figures;
            match target.deadline.healed_at_ms {
                None if target.must => figures.late_ms_max = figures.late_ms_max.max(start - target.release_ms),
                Some(healed) if target.must => {
                    figures.after_heal_ms_max = figures.after_heal_ms_max.max(start.saturating_sub(healed));
                }
                _ => {}
            }
        }
        Fit::Late(target) => {
            let Deadline { at_ms, healed_at_ms } = target.deadline;
            let detail = format!(
                "due at {}, to start by {at_ms}, started at {start}{}",
                target.due_ms,
                after(healed_at_ms)
            );
            report.accuse(late(target.deadline), seen.run, detail);
        }
        Fit::Early(target) => {
            let told = seen.processes[0].scheduled_at_ms;
            // Said already when it contradicts what the process itself was told.
            if start >= told.saturating_sub(case.history.bounds.early_ms_max) {
                report.accuse(
                    Class::Early,
                    seen.run,
                    format!("started at {start}, the next occurrence is due at {}", target.due_ms),
                );
            }
        }
        Fit::Orphan => {
            let detail = format!(
                "started at {start}; no occurrence of {:?} is left for it",
                case.task.key
            );
            report.accuse(Class::Orphan, seen.run, detail);
        }
    }
}

/// What did not begin in time because of a fault is stuck; what had no such excuse is missed.
fn late(deadline: Deadline) -> Class {
    if deadline.healed_at_ms.is_some() {
        Class::Stuck
    } else {
        Class::Missed
    }
}

fn after(healed_at_ms: Option<i64>) -> String {
    healed_at_ms.map_or_else(String::new, |healed| format!(", after the heal at {healed}"))
}

/// No process began. What the cluster itself says of the occurrence decides: it may be shown as LOST, or still wait.
fn never_started(case: &Case<'_>, target: &Target, uncovered: &mut Vec<&RunFound>, report: &mut Report) {
    let place = uncovered.iter().position(|found| {
        if target.manual {
            found.manual
        } else {
            !found.manual && (found.scheduled_at_ms == target.due_ms || target.release_ms > target.due_ms)
        }
    });
    // A task that was due when it was asked for gets its instant from the leader.
    let place = place.or_else(|| {
        let at_once = |found: &&RunFound| !target.manual && !found.manual && target.release_ms == case.task.asked_at_ms;
        uncovered.iter().position(at_once)
    });
    let found = place.map(|place| uncovered.remove(place));
    let key = &case.task.key;
    let due = format!(
        "due at {}, to start by {}{}",
        target.due_ms,
        target.deadline.at_ms,
        after(target.deadline.healed_at_ms)
    );
    let Some(found) = found else {
        report.accuse(Class::Missed, key, format!("{due}: no process, and no run"));
        return;
    };
    match found.state.as_str() {
        // The worker died between the grant and the process, and the cluster says that it does not know.
        "LOST" if case.task.delivery == Delivery::AtMostOnce => {}
        "PENDING" if found.waits => {}
        "PENDING" | "ASSIGNED" | "RUNNING" => {
            report.accuse(
                Class::Stuck,
                &found.run,
                format!("{due}: no process, it is {}", found.state),
            );
        }
        // Said as a false success.
        "FINISHED" => {}
        state => report.accuse(Class::Missed, &found.run, format!("{due}: no process, it is {state}")),
    }
}

/// Nobody saw its processes: its runs are taken as they are told of.
fn unwatched(case: &Case<'_>, targets: Vec<Target>, report: &mut Report) {
    let mut runs: Vec<&RunFound> = case.runs().iter().collect();
    runs.sort_by_key(|found| found.scheduled_at_ms);
    let starts: Vec<i64> = runs.iter().map(|found| found.scheduled_at_ms).collect();
    let Swept { fits, unserved } = sweep(targets, &starts, case.history.bounds.early_ms_max);
    for (found, fit) in runs.iter().zip(fits) {
        match fit {
            Fit::InTime(target) => {
                let open = matches!(found.state.as_str(), "PENDING" | "ASSIGNED") && !found.waits;
                if open && target.must && target.deadline.at_ms < case.read_at_ms {
                    let detail = format!("due at {}, it is {}", target.due_ms, found.state);
                    report.accuse(Class::Stuck, &found.run, detail);
                }
            }
            Fit::Late(_) | Fit::Early(_) | Fit::Orphan => {
                let detail = format!(
                    "{} is no occurrence that is left of {:?}",
                    found.scheduled_at_ms, case.task.key
                );
                report.accuse(Class::Orphan, &found.run, detail);
            }
        }
    }
    for target in unserved.iter().filter(|target| target.must) {
        report.accuse(
            Class::Missed,
            &case.task.key,
            format!("due at {}: there is no run", target.due_ms),
        );
    }
}
