//! Missed, early, orphan, and late after a heal: did every occurrence begin once, in its time, and nothing else?

use super::case::{Case, Seen};
use super::history::{Answer, Delivery, RunFound};
use super::report::{Class, Report};
use super::sweep::{Fit, Swept, sweep};
use super::targets::{self, Target};
use super::timeline::Deadline;
use std::collections::{BTreeMap, BTreeSet};

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
    if case.task.watched || matches!(case.task.answer, Answer::Refused { .. }) {
        watched(case, targets, report);
    } else {
        unwatched(case, targets, report);
    }
}

fn watched(case: &Case<'_>, targets: Vec<Target>, report: &mut Report) {
    let early = case.history.bounds.early_ms_max;
    let mut twice = BTreeSet::new();
    let mut told = BTreeSet::new();
    let mut runs: Vec<&Seen<'_>> = Vec::new();
    for seen in &case.seen {
        let first = seen.processes[0];
        if first.started_at_ms < first.scheduled_at_ms.saturating_sub(early) {
            let detail = format!("started at {} for {}", first.started_at_ms, first.scheduled_at_ms);
            report.accuse(Class::Early, seen.run, detail);
        }
        let manual = seen.found.is_some_and(|found| found.manual);
        // Two runs of one occurrence: the recorder cannot have mixed them up, each was told its own name.
        if !manual && !told.insert(first.scheduled_at_ms) && twice.insert(seen.run) {
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
    let mut occurrences = Occurrences::new(targets);
    runs.retain(|seen| {
        let manual = seen.found.is_some_and(|found| found.manual);
        let named = occurrences.take(seen.processes[0].scheduled_at_ms, manual);
        if let Some(target) = named {
            fits_in(case, seen, fit(target, seen.started_at_ms(), early), report);
        }
        named.is_none()
    });
    let mut targets = occurrences.left();
    unstarted(case, &mut targets, report);
    // What a trigger gave and what the schedule gave do not stand in for each other.
    let (by_hand, by_time): (Vec<Target>, Vec<Target>) = targets.into_iter().partition(|target| target.manual);
    let (manual, scheduled): (Vec<_>, Vec<_>) = runs
        .into_iter()
        .partition(|seen| seen.found.is_some_and(|found| found.manual));
    let mut unserved = served(case, &manual, by_hand, &mut Vec::new(), report);
    unserved.extend(served(case, &scheduled, by_time, &mut unserved.clone(), report));
    for target in unserved.iter().filter(|target| target.must) {
        let detail = format!("{}: no process, and no run", due(target));
        report.accuse(Class::Missed, &case.task.key, detail);
    }
}

/// Matches runs with targets by time and returns what is left. A run that no replica knows may be one that was triggered.
fn served(
    case: &Case<'_>,
    runs: &[&Seen<'_>],
    targets: Vec<Target>,
    spare: &mut Vec<Target>,
    report: &mut Report,
) -> Vec<Target> {
    let early = case.history.bounds.early_ms_max;
    let starts: Vec<i64> = runs.iter().map(|seen| seen.started_at_ms()).collect();
    let Swept { fits, unserved } = sweep(targets, &starts, early);
    for (seen, found) in runs.iter().zip(fits) {
        let start = seen.started_at_ms();
        let place = spare
            .iter()
            .position(|target| fit(*target, start, early) == Fit::InTime(*target));
        match (found, place) {
            (Fit::Orphan, Some(place)) if seen.found.is_none() => {
                spare.remove(place);
            }
            _ => fits_in(case, seen, found, report),
        }
    }
    unserved
}

fn due(target: &Target) -> String {
    format!(
        "due at {}, to start by {}{}",
        target.due_ms,
        target.deadline.at_ms,
        after(target.deadline.healed_at_ms)
    )
}

/// What has to run, by name.
///
/// By time alone each run could serve its neighbour where occurrences are closer than their deadlines, and the one that is missing
/// would be the last, whose deadline is not over yet. A wrong name is found out: two runs have it, and another occurrence has none.
struct Occurrences {
    targets: Vec<Option<Target>>,
    by_due: BTreeMap<i64, usize>,
}

impl Occurrences {
    fn new(targets: Vec<Target>) -> Self {
        let named = |target: &Target| !target.manual && target.due_ms == target.release_ms;
        let numbered = targets.iter().enumerate().filter(|(_, target)| named(target));
        Self {
            by_due: numbered.map(|(number, target)| (target.due_ms, number)).collect(),
            targets: targets.into_iter().map(Some).collect(),
        }
    }

    /// Takes the occurrence that a run was told to be, if the task has it.
    fn take(&mut self, scheduled_at_ms: i64, manual: bool) -> Option<Target> {
        let number = (!manual).then(|| self.by_due.remove(&scheduled_at_ms)).flatten()?;
        self.targets[number].take()
    }

    fn left(self) -> Vec<Target> {
        self.targets.into_iter().flatten().collect()
    }
}

fn fit(target: Target, start: i64, early_ms_max: i64) -> Fit {
    if start < target.release_ms.saturating_sub(early_ms_max) {
        Fit::Early(target)
    } else if start > target.deadline.at_ms {
        Fit::Late(target)
    } else {
        Fit::InTime(target)
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

/// Runs without a process: the cluster itself says of which occurrence, and that it has not begun. Their targets are judged here
/// and do not take part in the sweep, where another start would serve them.
fn unstarted(case: &Case<'_>, targets: &mut Vec<Target>, report: &mut Report) {
    let started: BTreeSet<&str> = case.seen.iter().map(|seen| seen.run).collect();
    for found in case.runs().iter().filter(|found| !started.contains(found.run.as_str())) {
        let of_found = |target: &Target| target.manual == found.manual && target.due_ms == found.scheduled_at_ms;
        // What was due when it was asked for gets its instant from the leader, as does what was triggered.
        let at_once = |target: &Target| {
            target.manual == found.manual
                && (target.manual || target.due_ms <= case.task.asked_at_ms)
                && target.release_ms <= found.scheduled_at_ms.saturating_add(case.history.bounds.early_ms_max)
        };
        let fits = |target: &Target| of_found(target) || at_once(target);
        // Of several the last that must run: one that may go without is not what it is about.
        let candidates = targets.iter().enumerate().filter(|(_, target)| fits(target));
        let place = candidates.max_by_key(|(_, target)| (of_found(target), target.must, target.release_ms));
        let Some((place, _)) = place else { continue };
        let target = targets.swap_remove(place);
        if target.must {
            never_started(case, &target, found, report);
        }
    }
}

fn never_started(case: &Case<'_>, target: &Target, found: &RunFound, report: &mut Report) {
    let due = due(target);
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
    let mut occurrences = Occurrences::new(targets);
    runs.retain(|found| {
        let named = occurrences.take(found.scheduled_at_ms, found.manual);
        if let Some(target) = named {
            still_open(case, found, &target, report);
        }
        named.is_none()
    });
    let starts: Vec<i64> = runs.iter().map(|found| found.scheduled_at_ms).collect();
    let Swept { fits, unserved } = sweep(occurrences.left(), &starts, case.history.bounds.early_ms_max);
    for (found, fit) in runs.iter().zip(fits) {
        match fit {
            Fit::InTime(target) => still_open(case, found, &target, report),
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

fn still_open(case: &Case<'_>, found: &RunFound, target: &Target, report: &mut Report) {
    let open = matches!(found.state.as_str(), "PENDING" | "ASSIGNED") && !found.waits;
    if open && target.must && target.deadline.at_ms < case.read_at_ms {
        let detail = format!("due at {}, it is {}", target.due_ms, found.state);
        report.accuse(Class::Stuck, &found.run, detail);
    }
}
