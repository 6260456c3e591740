//! What had to run, and what was allowed to.

use super::accepted;
use super::history::{Answer, History, Plan, TaskAsked};
use super::timeline::{Deadline, Timeline};

/// One occurrence of a task.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Target {
    /// What its runs are told.
    pub(super) due_ms: i64,
    /// It may not begin before.
    pub(super) release_ms: i64,
    /// It must have begun by then. What may go without a run has no deadline, so that it takes no start from what may not.
    pub(super) deadline: Deadline,
    /// Its absence is a miss.
    pub(super) must: bool,
    /// Somebody triggered it.
    pub(super) manual: bool,
}

const NEVER: Deadline = Deadline {
    at_ms: i64::MAX,
    healed_at_ms: None,
};

/// Occurrences a history may have of one task: more are a mistake in its plan, and would fill the memory.
const PER_TASK_MAX: usize = 1_000_000;

/// Returns the targets of a task, in no particular order.
pub(super) fn of(task: &TaskAsked, history: &History, timeline: &Timeline, ledger: &[(i64, i64)]) -> Vec<Target> {
    if matches!(task.answer, Answer::Refused { .. }) {
        return Vec::new();
    }
    let mut targets: Vec<Target> = due(&task.plan, history.ended_at_ms)
        .into_iter()
        .filter_map(|due| scheduled(task, due, history, timeline, ledger))
        .collect();
    targets.extend(task.triggers.iter().filter_map(|trigger| {
        let (deadline, must) = match trigger.answer {
            Answer::Refused { .. } => return None,
            Answer::Unknown => (NEVER, false),
            Answer::Accepted { at_ms, .. } => {
                let deadline = timeline.deadline(at_ms);
                if required(task, deadline, history) {
                    (deadline, true)
                } else {
                    (NEVER, false)
                }
            }
        };
        Some(Target {
            due_ms: trigger.at_ms,
            release_ms: trigger.at_ms,
            deadline,
            must,
            manual: true,
        })
    }));
    targets
}

fn due(plan: &Plan, ended: i64) -> Vec<i64> {
    match plan {
        Plan::Times(times) => times.iter().copied().filter(|at| *at <= ended).collect(),
        Plan::Manual => Vec::new(),
        Plan::Every {
            first_ms,
            every_ms,
            last_ms,
        } => {
            let last = last_ms.unwrap_or(ended).min(ended);
            let mut times = Vec::new();
            let mut at = *first_ms;
            while at <= last && times.len() < PER_TASK_MAX {
                times.push(at);
                at = at.saturating_add((*every_ms).max(1));
            }
            times
        }
    }
}

fn scheduled(
    task: &TaskAsked,
    due: i64,
    history: &History,
    timeline: &Timeline,
    ledger: &[(i64, i64)],
) -> Option<Target> {
    let release_ms = due.max(task.asked_at_ms);
    let (deadline, must) = match accepted(&task.answer) {
        None => (NEVER, false),
        Some((_, at)) => {
            let deadline = timeline.deadline(due.max(at));
            (deadline, required(task, deadline, history))
        }
    };
    // What comes due after an acknowledged dequeue is nobody's.
    let gone = task.dequeued.as_ref().and_then(|asked| accepted(&asked.answer));
    if gone.is_some_and(|(_, at)| due > at.saturating_add(history.bounds.early_ms_max)) {
        return None;
    }
    // What was due when it was asked for gets its instant from the leader, between then and the answer.
    let latest = accepted(&task.answer).map_or(due, |(_, at)| due.max(if due <= task.asked_at_ms { at } else { due }));
    if task.may_skip && ledger.iter().any(|(first, last)| *first <= latest && *last >= due) {
        return None;
    }
    Some(Target {
        due_ms: due,
        release_ms,
        deadline: if must { deadline } else { NEVER },
        must,
        manual: false,
    })
}

/// Whether it must have begun: its deadline lies within the history, and before anybody asked to take the task out.
fn required(task: &TaskAsked, deadline: Deadline, history: &History) -> bool {
    let dequeued = task
        .dequeued
        .as_ref()
        .is_some_and(|asked| !matches!(asked.answer, Answer::Refused { .. }) && asked.at_ms <= deadline.at_ms);
    deadline.at_ms <= history.ended_at_ms && !dequeued
}
