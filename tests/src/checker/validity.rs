//! Whether a history can prove anything: its faults took place, and what is needed to judge is there.

use super::history::{FORMAT, Fault, History, Told};
use super::report::Report;
use super::timeline::Timeline;
use std::collections::{BTreeMap, BTreeSet};

pub(super) fn judge(history: &History, timeline: &Timeline, report: &mut Report) {
    if history.format != FORMAT {
        report.reject(format!("format is {}, this checker reads {FORMAT}", history.format));
    }
    if !history.tasks.iter().any(|task| super::accepted(&task.answer).is_some()) {
        report.reject("no task was accepted: there is nothing to judge");
    }
    keys(history, report);
    for fault in &history.faults {
        took_place(history, fault, report);
    }
    for kind in &history.intended {
        if !history.faults.iter().any(|fault| fault.kind == *kind) {
            report.reject(format!("{kind:?} was intended and is not among the faults"));
        }
    }
    reads(history, timeline, report);
    recorder(history, report);
    calls(history, report);
}

fn keys(history: &History, report: &mut Report) {
    let mut seen = BTreeSet::new();
    for task in &history.tasks {
        if !seen.insert(&task.key) {
            report.reject(format!("two tasks have the key {:?}", task.key));
        }
    }
}

/// A fault is believed when something outside saw it while it lasted, and the cluster had something to do.
fn took_place(history: &History, fault: &Fault, report: &mut Report) {
    let Some(healed) = fault.healed_at_ms else {
        report.reject(format!("{fault} was never healed"));
        return;
    };
    if healed < fault.applied_at_ms || healed > history.ended_at_ms || fault.applied_at_ms < history.started_at_ms {
        report.reject(format!("{fault}, healed at {healed}, is not within the history"));
        return;
    }
    let seen = fault.evidence.iter().any(|evidence| {
        fault.kind.proofs().contains(&evidence.kind) && (fault.applied_at_ms..=healed).contains(&evidence.at_ms)
    });
    if !seen {
        report.reject(format!(
            "{fault} has no evidence of {:?} between its beginning and its heal: {:?}",
            fault.kind.proofs(),
            fault.evidence
        ));
    }
    let until = healed.saturating_add(history.bounds.heal_ms_max);
    let at_work = |at: i64| (fault.applied_at_ms..=until).contains(&at);
    let busy = history.processes.iter().any(|process| {
        at_work(process.started_at_ms)
            || process.started_at_ms < fault.applied_at_ms
                && process.ended_at_ms.is_none_or(|ended| ended >= fault.applied_at_ms)
    });
    if !busy && !history.tasks.iter().any(|task| at_work(task.asked_at_ms)) {
        report.reject(format!("nothing ran and nothing was asked for under {fault}"));
    }
}

fn reads(history: &History, timeline: &Timeline, report: &mut Report) {
    if history.nodes.is_empty() {
        report.reject("no node is named whose tables were to be read");
    }
    let mut read: BTreeMap<&str, u32> = BTreeMap::new();
    for replica in &history.replicas {
        *read.entry(&replica.node).or_default() += 1;
        if replica.read_at_ms > history.ended_at_ms {
            report.reject(format!("{} was read after the end of the history", replica.node));
        }
        let settled = timeline
            .last_heal()
            .map(|healed| healed.saturating_add(history.bounds.heal_ms_max));
        if settled.is_some_and(|settled| replica.read_at_ms < settled) {
            report.reject(format!(
                "{} was read at {}, before {} ms had passed since the last heal",
                replica.node, replica.read_at_ms, history.bounds.heal_ms_max
            ));
        }
    }
    for node in &history.nodes {
        match read.remove(node.as_str()) {
            Some(1) => {}
            Some(times) => report.reject(format!("{node} was read {times} times")),
            None => report.reject(format!("{node} was not read")),
        }
    }
    for node in read.keys() {
        report.reject(format!("{node} was read and is not among the nodes"));
    }
}

fn recorder(history: &History, report: &mut Report) {
    let within = history.started_at_ms..=history.ended_at_ms;
    for process in &history.processes {
        let ends = process.ended_at_ms;
        if !within.contains(&process.started_at_ms)
            || ends.is_some_and(|ended| ended < process.started_at_ms || ended > history.ended_at_ms)
        {
            report.reject(format!(
                "the recorder's instants of {} {} make no sense: {} to {ends:?}",
                process.run, process.token, process.started_at_ms
            ));
        }
    }
}

fn calls(history: &History, report: &mut Report) {
    let mut last: BTreeMap<(u32, &str), i64> = BTreeMap::new();
    let mut operations: Vec<_> = history.operations.iter().collect();
    operations.sort_by_key(|operation| operation.called_at_us);
    for operation in operations {
        let free_from = last.entry((operation.client, &operation.key)).or_insert(i64::MIN);
        if operation.called_at_us < *free_from {
            report.reject(format!("client {} made two calls at once", operation.client));
        }
        match operation.answered_at_us {
            Some(answered) if answered < operation.called_at_us => {
                report.reject(format!(
                    "a call of client {} was answered before it was made",
                    operation.client
                ));
            }
            Some(answered) => *free_from = answered,
            // It gave up waiting and went on; the call may still take effect.
            None if operation.told != Told::Unknown => {
                report.reject(format!(
                    "a call of client {} has an answer that never came",
                    operation.client
                ));
            }
            None => {}
        }
    }
}
