//! Lost acknowledgements, tasks that nobody asked for, and replicas that differ.

use super::accepted;
use super::history::{Answer, History, Replica, RunFound, TaskFound};
use super::report::{Class, Report};
use std::collections::{BTreeMap, BTreeSet};

/// Differences told of one replica: a wrong one differs in everything.
const DIFFERENCES_MAX: usize = 20;

pub(super) fn judge(history: &History, report: &mut Report) {
    for replica in &history.replicas {
        acknowledged(history, replica, report);
    }
    for other in history.replicas.iter().skip(1) {
        compare(history, &history.replicas[0], other, report);
    }
}

/// Every acknowledged call has left its mark, and no task is there that nobody asked for.
fn acknowledged(history: &History, replica: &Replica, report: &mut Report) {
    let mut by_key: BTreeMap<&str, Vec<&TaskFound>> = BTreeMap::new();
    for task in &replica.tasks {
        by_key.entry(&task.key).or_default().push(task);
    }
    let place = |key: &str| format!("{key} on {}", replica.node);
    for asked in &history.tasks {
        let found = by_key.remove(asked.key.as_str()).unwrap_or_default();
        let allowed = match asked.answer {
            Answer::Refused { .. } => 0,
            Answer::Accepted { .. } | Answer::Unknown => 1,
        };
        if found.len() > allowed {
            let ids: Vec<u64> = found.iter().map(|task| task.id).collect();
            let detail = format!(
                "tasks {ids:?} are there; it was asked for once and answered {:?}",
                asked.answer
            );
            report.accuse(Class::Orphan, place(&asked.key), detail);
        }
        let Some((id, _)) = accepted(&asked.answer) else {
            continue;
        };
        let Some(task) = found.iter().find(|task| task.id == id) else {
            let ids: Vec<u64> = found.iter().map(|task| task.id).collect();
            let detail = format!("accepted as task {id}; under its key there are {ids:?}");
            report.accuse(Class::LostAcknowledgement, place(&asked.key), detail);
            continue;
        };
        let dequeued = asked.dequeued.as_ref().and_then(|asked| accepted(&asked.answer));
        if dequeued.is_some() && task.state != "TERMINATED" {
            let detail = format!("its dequeue was acknowledged, it is {}", task.state);
            report.accuse(Class::LostAcknowledgement, place(&asked.key), detail);
        }
        let triggered = asked
            .triggers
            .iter()
            .filter(|asked| accepted(&asked.answer).is_some())
            .count();
        let manual = task.runs.iter().filter(|run| run.manual).count();
        if manual < triggered {
            let detail = format!("{triggered} triggers were acknowledged, {manual} runs are there");
            report.accuse(Class::LostAcknowledgement, place(&asked.key), detail);
        }
    }
    for task in by_key.into_values().flatten() {
        report.accuse(
            Class::Orphan,
            place(&task.key),
            format!("task {}: nobody asked for it", task.id),
        );
    }
}

/// Compares two replicas: in everything when both are at the same index, else in what has come to its end.
fn compare(history: &History, one: &Replica, other: &Replica, report: &mut Report) {
    let same = one.applied.is_some() && one.applied == other.applied;
    let mut differences = Vec::new();
    if same && one.state_hash != other.state_hash {
        differences.push(format!(
            "hash at index {:?}: {:?} and {:?}",
            one.applied, one.state_hash, other.state_hash
        ));
    }
    let left: BTreeMap<u64, &TaskFound> = one.tasks.iter().map(|task| (task.id, task)).collect();
    let right: BTreeMap<u64, &TaskFound> = other.tasks.iter().map(|task| (task.id, task)).collect();
    // One that was read by so much later knows everything that the other one does.
    let apart = one.read_at_ms - other.read_at_ms;
    let slack = if same { i64::MIN } else { history.bounds.heal_ms_max };
    let pair = Pair {
        exact: same,
        left_later: apart >= slack,
        right_later: -apart >= slack,
    };
    let both_know = one
        .read_at_ms
        .min(other.read_at_ms)
        .saturating_sub(history.bounds.heal_ms_max);
    // What was answered for before both were read.
    let known: BTreeSet<u64> = history
        .tasks
        .iter()
        .filter_map(|task| accepted(&task.answer))
        .filter(|(_, at)| *at <= both_know)
        .map(|(id, _)| id)
        .collect();
    for id in left.keys().chain(right.keys().filter(|id| !left.contains_key(id))) {
        match (left.get(id), right.get(id)) {
            (Some(a), Some(b)) => pair.task(a, b, both_know, &mut differences),
            (Some(_), None) if same || known.contains(id) => {
                differences.push(format!("task {id} is only on {}", one.node));
            }
            (None, Some(_)) if same || known.contains(id) => {
                differences.push(format!("task {id} is only on {}", other.node));
            }
            _ => {}
        }
    }
    let subject = format!("{} and {}", one.node, other.node);
    let more = differences.len().saturating_sub(DIFFERENCES_MAX);
    for difference in differences.into_iter().take(DIFFERENCES_MAX) {
        report.accuse(Class::ReplicasDiffer, &subject, difference);
    }
    if more > 0 {
        report.accuse(Class::ReplicasDiffer, &subject, format!("and {more} differences more"));
    }
}

/// How two replicas are to be compared.
struct Pair {
    /// Both are at the same index of the log.
    exact: bool,
    left_later: bool,
    right_later: bool,
}

impl Pair {
    fn task(&self, a: &TaskFound, b: &TaskFound, both_know: i64, differences: &mut Vec<String>) {
        let id = a.id;
        if a.key != b.key {
            differences.push(format!("task {id} is {:?} and {:?}", a.key, b.key));
        }
        if self.states(&a.state, &b.state, &["FINISHED", "FAILED", "TERMINATED"]) {
            differences.push(format!("task {id} is {} and {}", a.state, b.state));
        }
        if self.exact && a.ledger != b.ledger {
            differences.push(format!("ledger of task {id}: {:?} and {:?}", a.ledger, b.ledger));
        }
        let left: BTreeMap<&str, &RunFound> = a.runs.iter().map(|run| (run.run.as_str(), run)).collect();
        let right: BTreeMap<&str, &RunFound> = b.runs.iter().map(|run| (run.run.as_str(), run)).collect();
        for name in left.keys().chain(right.keys().filter(|name| !left.contains_key(*name))) {
            match (left.get(name), right.get(name)) {
                (Some(a), Some(b)) => self.run(a, b, differences),
                (Some(only), None) | (None, Some(only)) if self.exact || only.scheduled_at_ms <= both_know => {
                    differences.push(format!("run {name} is {} on one of them only", only.state));
                }
                _ => {}
            }
        }
    }

    fn run(&self, a: &RunFound, b: &RunFound, differences: &mut Vec<String>) {
        let name = &a.run;
        let terminal = ["FINISHED", "FAILED", "TERMINATED"];
        if self.states(&a.state, &b.state, &terminal) {
            differences.push(format!("run {name} is {} and {}", a.state, b.state));
        }
        if a.scheduled_at_ms != b.scheduled_at_ms || a.manual != b.manual {
            differences.push(format!(
                "run {name} is for {} and for {}",
                a.scheduled_at_ms, b.scheduled_at_ms
            ));
        }
        let ended = a.state == b.state && terminal.contains(&a.state.as_str());
        let same = a.attempts == b.attempts && a.success_token == b.success_token && a.losses == b.losses;
        if (self.exact && a != b && a.state == b.state) || (ended && !same) {
            differences.push(format!("run {name}: {a:?} and {b:?}"));
        }
    }

    /// Whether two states contradict each other. What is read later may have come to its end; what has ended stays so.
    fn states(&self, a: &str, b: &str, terminal: &[&str]) -> bool {
        if a == b {
            return false;
        }
        match (terminal.contains(&a), terminal.contains(&b)) {
            (true, true) => true,
            (true, false) => self.right_later,
            (false, true) => self.left_later,
            (false, false) => self.exact,
        }
    }
}
