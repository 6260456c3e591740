//! One task with all that is known of it.

use super::history::{History, Process, RunFound, TaskAsked, TaskFound};
use super::timeline::Timeline;
use std::collections::BTreeMap;

/// A run as the recorder saw it.
#[derive(Debug)]
pub(super) struct Seen<'a> {
    /// `task:number`.
    pub(super) run: &'a str,
    /// By start; never empty.
    pub(super) processes: Vec<&'a Process>,
    /// As the replica that is judged has it.
    pub(super) found: Option<&'a RunFound>,
}

impl Seen<'_> {
    /// When its first process began.
    pub(super) fn started_at_ms(&self) -> i64 {
        self.processes.first().map_or(i64::MAX, |process| process.started_at_ms)
    }
}

/// A task, what ran of it, and what a replica says of it.
pub(super) struct Case<'a> {
    pub(super) task: &'a TaskAsked,
    pub(super) history: &'a History,
    pub(super) timeline: &'a Timeline,
    /// By first start.
    pub(super) seen: Vec<Seen<'a>>,
    /// As the replica that is judged has it: the first with this key.
    pub(super) found: Option<&'a TaskFound>,
    /// When that replica was read.
    pub(super) read_at_ms: i64,
}

impl<'a> Case<'a> {
    /// The run of this name in the replica.
    pub(super) fn runs(&self) -> &'a [RunFound] {
        self.found.map_or(&[], |found| &found.runs)
    }
}

/// Returns every task with what belongs to it, and the processes that belong to none.
///
/// The state is judged by the first replica; the others are compared with it.
pub(super) fn cases<'a>(history: &'a History, timeline: &'a Timeline) -> (Vec<Case<'a>>, Vec<&'a Process>) {
    let mut by_key: BTreeMap<&str, BTreeMap<&str, Vec<&Process>>> = BTreeMap::new();
    for process in &history.processes {
        by_key
            .entry(&process.key)
            .or_default()
            .entry(&process.run)
            .or_default()
            .push(process);
    }
    let replica = history.replicas.first();
    let accepted: BTreeMap<&str, u64> = history
        .tasks
        .iter()
        .filter_map(|task| Some((task.key.as_str(), super::accepted(&task.answer)?.0)))
        .collect();
    let mut found: BTreeMap<&str, &TaskFound> = BTreeMap::new();
    for task in replica.iter().flat_map(|replica| &replica.tasks) {
        // Of two with one key, which is wrong, the one that was accepted is judged here.
        if !found.contains_key(task.key.as_str()) || accepted.get(task.key.as_str()) == Some(&task.id) {
            found.insert(&task.key, task);
        }
    }
    let cases = history
        .tasks
        .iter()
        .map(|task| {
            let found = found.get(task.key.as_str()).copied();
            let runs: BTreeMap<&str, &RunFound> = found
                .iter()
                .flat_map(|task| &task.runs)
                .map(|run| (run.run.as_str(), run))
                .collect();
            let mut seen: Vec<Seen<'_>> = by_key
                .remove(task.key.as_str())
                .unwrap_or_default()
                .into_iter()
                .map(|(run, processes)| together(run, processes, &runs))
                .collect();
            seen.sort_by_key(Seen::started_at_ms);
            Case {
                task,
                history,
                timeline,
                seen,
                found,
                read_at_ms: replica.map_or(history.ended_at_ms, |replica| replica.read_at_ms),
            }
        })
        .collect();
    let nobodys = by_key.into_values().flat_map(BTreeMap::into_values).flatten().collect();
    (cases, nobodys)
}

fn together<'a>(run: &'a str, mut processes: Vec<&'a Process>, found: &BTreeMap<&'a str, &'a RunFound>) -> Seen<'a> {
    processes.sort_by_key(|process| (process.started_at_ms, process.attempt));
    let found = found.get(run).copied();
    Seen { run, processes, found }
}
