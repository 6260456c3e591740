//! Ways to do wrong: each takes a good history and spoils it so that one class of accusation must follow.

use crate::calls;
use crate::generate::{Fact, Made};
use rand::Rng;
use rand::seq::IndexedRandom;
use sched_tests::checker::{
    Answer, Asked, Class, Delivery, EvidenceKind, Plan, Process, RunFound, TaskAsked, TaskFound,
};

/// Spoils a history; says how, or nothing when this history gives no occasion.
pub(crate) type Mutation = fn(&mut Made) -> Option<&'static str>;

/// Every class with the ways to deserve it.
pub(crate) const WRONGS: &[(Class, &[Mutation])] = &[
    (
        Class::Missed,
        &[never_ran, began_late, failed_unstarted, dropped_by_the_ledger],
    ),
    (Class::Early, &[began_early]),
    (
        Class::Orphan,
        &[
            nobodys_process,
            one_run_more,
            ran_though_refused,
            one_task_more,
            submitted_twice,
        ],
    ),
    (Class::Doubled, &[started_again, one_token_twice]),
    (Class::UnflaggedOverlap, &[overlapped, flag_lost]),
    (Class::FalseSuccess, &[finished_without_success, finished_by_another]),
    (Class::LostAcknowledgement, &[task_lost, dequeue_lost, trigger_lost]),
    (Class::Stuck, &[pending_for_ever, late_after_heal, restarted_late]),
    (Class::ReplicasDiffer, &[another_end, another_hash, run_on_one_only]),
    (Class::NotLinearizable, &[contradiction]),
];

/// Ways to prove nothing.
pub(crate) const EMPTY: &[Mutation] = &[
    no_evidence,
    evidence_of_another_kind,
    evidence_too_late,
    not_injected,
    never_healed,
    replica_not_read,
    read_too_soon,
];

impl Made {
    fn pick(&mut self, which: impl Fn(&Made, &Fact) -> bool) -> Option<Fact> {
        let facts: Vec<Fact> = self.facts.iter().filter(|fact| which(self, fact)).cloned().collect();
        facts.choose(&mut self.rng).cloned()
    }

    fn task(&self, fact: &Fact) -> &TaskAsked {
        &self.history.tasks[fact.task]
    }

    fn started(&self, fact: &Fact) -> Vec<usize> {
        let processes = self.history.processes.iter().enumerate();
        processes
            .filter(|(_, process)| process.run == fact.run)
            .map(|(index, _)| index)
            .collect()
    }

    /// The run in the replica that is judged.
    fn found(&self, fact: &Fact) -> Option<&RunFound> {
        let runs = self.history.replicas[0].tasks.iter().flat_map(|task| &task.runs);
        runs.into_iter().find(|run| run.run == fact.run)
    }

    fn state(&self, fact: &Fact) -> &str {
        self.found(fact).map_or("", |run| &run.state)
    }

    fn every_run(&mut self, fact: &Fact, change: impl Fn(&mut RunFound)) {
        let tasks = self.history.replicas.iter_mut().flat_map(|replica| &mut replica.tasks);
        tasks
            .flat_map(|task| &mut task.runs)
            .filter(|run| run.run == fact.run)
            .for_each(change);
    }

    fn every_task(&mut self, key: &str, mut change: impl FnMut(&mut TaskFound)) {
        let tasks = self.history.replicas.iter_mut().flat_map(|replica| &mut replica.tasks);
        tasks.filter(|task| task.key == key).for_each(&mut change);
    }

    fn remove_run(&mut self, fact: &Fact) {
        self.history.processes.retain(|process| process.run != fact.run);
        for task in self.history.replicas.iter_mut().flat_map(|replica| &mut replica.tasks) {
            task.runs.retain(|run| run.run != fact.run);
        }
    }
}

/// A run that was told an occurrence of its task's plan, and so cannot be taken for another one.
fn named(made: &Made, fact: &Fact) -> bool {
    let due = made.found(fact).map(|run| run.scheduled_at_ms);
    !made.found(fact).is_some_and(|run| run.manual) && due.is_some_and(|due| due > made.task(fact).asked_at_ms)
}

fn never_ran(made: &mut Made) -> Option<&'static str> {
    let fact = made.pick(|made, fact| fact.must && made.found(fact).is_some())?;
    made.remove_run(&fact);
    Some("never ran")
}

fn began_late(made: &mut Made) -> Option<&'static str> {
    let fact = made.pick(|made, fact| fact.must && fact.calm && named(made, fact) && made.started(fact).len() == 1)?;
    let index = made.started(&fact)[0];
    let late = made.rng.random_range(2_310..20_000);
    let process = &mut made.history.processes[index];
    process.ended_at_ms = process.ended_at_ms.map(|ended| ended + late);
    process.started_at_ms += late;
    Some("began late")
}

fn failed_unstarted(made: &mut Made) -> Option<&'static str> {
    let fact = made.pick(|made, fact| fact.must && !made.started(fact).is_empty())?;
    made.history.processes.retain(|process| process.run != fact.run);
    made.every_run(&fact, |run| {
        run.state = "FAILED".to_owned();
        run.success_token = None;
    });
    Some("failed without a process")
}

fn dropped_by_the_ledger(made: &mut Made) -> Option<&'static str> {
    let fact = made.pick(|made, fact| {
        let task = made.task(fact);
        fact.must
            && !task.may_skip
            && matches!(task.plan, Plan::Every { .. })
            && !made.found(fact).is_some_and(|run| run.manual)
    })?;
    let key = made.task(&fact).key.clone();
    made.remove_run(&fact);
    made.every_task(&key, |task| task.ledger.push((fact.due_ms, fact.due_ms)));
    Some("dropped, and the ledger says so")
}

fn began_early(made: &mut Made) -> Option<&'static str> {
    let started_at_ms = made.history.started_at_ms;
    let fact = made.pick(|made, fact| {
        let asked = made.task(fact).asked_at_ms;
        let manual = made.found(fact).is_some_and(|run| run.manual);
        fact.due_ms - 2_000 > asked.max(started_at_ms) && !manual && made.started(fact).len() == 1
    })?;
    let index = made.started(&fact)[0];
    let early = made.rng.random_range(501..2_000);
    made.history.processes[index].started_at_ms = fact.due_ms - early;
    Some("began early")
}

fn process(made: &mut Made, key: &str, run: &str) -> Process {
    let (from, to) = (made.history.started_at_ms, made.history.ended_at_ms);
    let started_at_ms = made.rng.random_range(from..to - 1_000);
    Process {
        key: key.to_owned(),
        run: run.to_owned(),
        attempt: 1,
        token: format!("9{}.0", made.rng.random_range(1_000_000..2_000_000)),
        scheduled_at_ms: started_at_ms,
        started_at_ms,
        ended_at_ms: Some(started_at_ms + 100),
        exit_code: Some(0),
        worker: String::new(),
    }
}

fn nobodys_process(made: &mut Made) -> Option<&'static str> {
    let process = process(made, "nobody", "900:1");
    made.history.processes.push(process);
    Some("a process of a task that nobody asked for")
}

fn one_run_more(made: &mut Made) -> Option<&'static str> {
    let at_least_once = |task: &TaskAsked| task.delivery == Delivery::AtLeastOnce && task.watched;
    let fact = made.pick(|made, fact| fact.must && at_least_once(made.task(fact)) && !made.started(fact).is_empty())?;
    let index = made.started(&fact)[0];
    let mut process = made.history.processes[index].clone();
    process.run = format!("{}:999", fact.run.split(':').next().unwrap_or_default());
    process.token = "999999.0".to_owned();
    // The same occurrence again.
    made.history.processes.push(process);
    made.found(&fact)
        .is_some_and(|run| !run.manual)
        .then_some("two runs of one occurrence")
}

fn ran_though_refused(made: &mut Made) -> Option<&'static str> {
    let task = made
        .history
        .tasks
        .iter()
        .find(|task| matches!(task.answer, Answer::Refused { .. }))?;
    let key = task.key.clone();
    let process = process(made, &key, "901:1");
    made.history.processes.push(process);
    Some("a refused task ran")
}

fn task_found(key: &str, id: u64) -> TaskFound {
    TaskFound {
        key: key.to_owned(),
        id,
        state: "QUEUED".to_owned(),
        runs: Vec::new(),
        ledger: Vec::new(),
    }
}

fn one_task_more(made: &mut Made) -> Option<&'static str> {
    for replica in &mut made.history.replicas {
        replica.tasks.push(task_found("nobody's", 902));
    }
    Some("a task that nobody asked for")
}

fn submitted_twice(made: &mut Made) -> Option<&'static str> {
    let key = made.history.replicas[0].tasks.first()?.key.clone();
    for replica in &mut made.history.replicas {
        replica.tasks.push(task_found(&key, 903));
    }
    Some("one submit made two tasks")
}

fn started_again(made: &mut Made) -> Option<&'static str> {
    let fact = made.pick(|made, fact| {
        made.task(fact).delivery == Delivery::AtMostOnce
            && made.task(fact).tries_max == 1
            && !made.started(fact).is_empty()
    })?;
    let index = made.started(&fact)[0];
    let mut again = made.history.processes[index].clone();
    let later = made.rng.random_range(0..20_000);
    again.started_at_ms = (again.started_at_ms + later).min(made.history.ended_at_ms);
    again.ended_at_ms = None;
    again.exit_code = None;
    again.attempt += 1;
    again.token = "999998.0".to_owned();
    made.history.processes.push(again);
    Some("an at-most-once run started again")
}

fn one_token_twice(made: &mut Made) -> Option<&'static str> {
    let fact = made.pick(|made, fact| !made.started(fact).is_empty())?;
    let index = made.started(&fact)[0];
    let again = made.history.processes[index].clone();
    made.history.processes.push(again);
    Some("a token started again")
}

fn overlapped(made: &mut Made) -> Option<&'static str> {
    let fact = made.pick(|made, fact| {
        let task = made.task(fact);
        let flagged = made.found(fact).is_some_and(|run| run.stale_reports > 0);
        let long = made.started(fact).iter().any(|index| {
            let process = &made.history.processes[*index];
            process
                .ended_at_ms
                .is_some_and(|ended| ended - process.started_at_ms > 200)
        });
        task.delivery == Delivery::AtLeastOnce && !flagged && long
    })?;
    let index = made.started(&fact).into_iter().find(|index| {
        let process = &made.history.processes[*index];
        process
            .ended_at_ms
            .is_some_and(|ended| ended - process.started_at_ms > 200)
    })?;
    let first = made.history.processes[index].clone();
    let mut again = first.clone();
    again.started_at_ms = made.rng.random_range(first.started_at_ms..first.ended_at_ms? - 60);
    again.token = "999997.0".to_owned();
    again.attempt += 1;
    made.history.processes.push(again);
    Some("two attempts at once")
}

fn flag_lost(made: &mut Made) -> Option<&'static str> {
    let fact = made.pick(|made, fact| made.found(fact).is_some_and(|run| run.stale_reports > 0))?;
    made.every_run(&fact, |run| run.stale_reports = 0);
    Some("the flag of an overlap is gone")
}

fn finished_without_success(made: &mut Made) -> Option<&'static str> {
    let fact = made.pick(|made, fact| made.state(fact) == "FINISHED" && !made.started(fact).is_empty())?;
    let code = [None, Some(1), Some(75)][made.rng.random_range(0..3)];
    for index in made.started(&fact) {
        made.history.processes[index].exit_code = code;
    }
    Some("finished, and no process ended well")
}

fn finished_by_another(made: &mut Made) -> Option<&'static str> {
    let fact = made.pick(|made, fact| made.state(fact) == "FINISHED" && !made.started(fact).is_empty())?;
    made.every_run(&fact, |run| run.success_token = Some("1.0".to_owned()));
    Some("finished by a token that never ran")
}

fn accepted(task: &TaskAsked) -> bool {
    matches!(task.answer, Answer::Accepted { .. })
}

fn task_lost(made: &mut Made) -> Option<&'static str> {
    let tasks: Vec<String> = made
        .history
        .tasks
        .iter()
        .filter(|task| accepted(task))
        .map(|task| task.key.clone())
        .collect();
    let key = tasks.choose(&mut made.rng)?.clone();
    let on_all = made.rng.random_bool(0.5);
    let count = made.history.replicas.len();
    let only = made.rng.random_range(0..count);
    for (index, replica) in made.history.replicas.iter_mut().enumerate() {
        if on_all || index == only {
            replica.tasks.retain(|task| task.key != key);
        }
    }
    Some("an accepted task is gone")
}

fn dequeue_lost(made: &mut Made) -> Option<&'static str> {
    let done = |task: &&TaskAsked| {
        matches!(
            task.dequeued,
            Some(Asked {
                answer: Answer::Accepted { .. },
                ..
            })
        )
    };
    let key = made.history.tasks.iter().find(done)?.key.clone();
    made.every_task(&key, |task| task.state = "QUEUED".to_owned());
    Some("an acknowledged dequeue had no effect")
}

fn trigger_lost(made: &mut Made) -> Option<&'static str> {
    let acknowledged = |asked: &Asked| matches!(asked.answer, Answer::Accepted { .. });
    let task = made
        .history
        .tasks
        .iter()
        .find(|task| task.triggers.iter().any(acknowledged))?;
    let key = task.key.clone();
    made.every_task(&key, |task| task.runs.retain(|run| !run.manual));
    Some("an acknowledged trigger left no run")
}

fn pending_for_ever(made: &mut Made) -> Option<&'static str> {
    let fact = made.pick(|made, fact| fact.must && made.found(fact).is_some())?;
    made.history.processes.retain(|process| process.run != fact.run);
    let state = ["PENDING", "ASSIGNED"][made.rng.random_range(0..2)];
    made.every_run(&fact, |run| {
        run.state = state.to_owned();
        run.success_token = None;
    });
    Some("pending for ever")
}

fn late_after_heal(made: &mut Made) -> Option<&'static str> {
    let last = made
        .history
        .faults
        .iter()
        .filter_map(|fault| fault.healed_at_ms)
        .max()?;
    let fact = made.pick(|made, fact| {
        let processes = made.started(fact);
        fact.must && fact.healed_ms == Some(last) && named(made, fact) && processes.len() == 1
    })?;
    let index = made.started(&fact)[0];
    let process = &mut made.history.processes[index];
    process.started_at_ms = last + 15_001 + made.rng.random_range(0..5_000);
    process.ended_at_ms = Some(process.started_at_ms + 10);
    Some("began too late after the heal")
}

fn restarted_late(made: &mut Made) -> Option<&'static str> {
    let fact = made.pick(|made, fact| {
        let calm = made.history.faults.is_empty();
        calm && made.task(fact).delivery == Delivery::AtLeastOnce && made.started(fact).len() == 1
    })?;
    let delay = made.task(&fact).retry_delay_ms_max;
    let index = made.started(&fact)[0];
    let mut again = made.history.processes[index].clone();
    let ended = made.history.processes[index].ended_at_ms?;
    made.history.processes[index].exit_code = None;
    again.started_at_ms = ended + delay + 15_001 + made.rng.random_range(0..1_000);
    again.ended_at_ms = Some(again.started_at_ms + 10);
    again.token = "999996.0".to_owned();
    made.every_run(&fact, |run| run.success_token = None);
    let within = again.started_at_ms + 10 < made.history.ended_at_ms;
    made.history.processes.push(again);
    within.then_some("ran again too late")
}

fn another_end(made: &mut Made) -> Option<&'static str> {
    let fact = made.pick(|made, fact| ["FINISHED", "FAILED"].contains(&made.state(fact)))?;
    let last = made.history.replicas.last_mut()?;
    let run = last
        .tasks
        .iter_mut()
        .flat_map(|task| &mut task.runs)
        .find(|run| run.run == fact.run)?;
    run.state = if run.state == "FAILED" { "FINISHED" } else { "FAILED" }.to_owned();
    Some("two ends of one run")
}

fn another_hash(made: &mut Made) -> Option<&'static str> {
    let last = made.history.replicas.last_mut()?;
    last.applied?;
    last.state_hash = Some("123456".to_owned());
    Some("another hash at the same index")
}

fn run_on_one_only(made: &mut Made) -> Option<&'static str> {
    let ended = made.history.ended_at_ms;
    let fact = made.pick(|made, fact| fact.due_ms < ended - 20_000 && made.found(fact).is_some())?;
    let last = made.history.replicas.last_mut()?;
    for task in &mut last.tasks {
        task.runs.retain(|run| run.run != fact.run);
    }
    Some("a run that one replica does not have")
}

fn contradiction(made: &mut Made) -> Option<&'static str> {
    calls::spoil(&mut made.rng, &mut made.history.operations)
}

fn no_evidence(made: &mut Made) -> Option<&'static str> {
    made.history.faults.first_mut()?.evidence.clear();
    Some("no evidence")
}

fn evidence_of_another_kind(made: &mut Made) -> Option<&'static str> {
    let fault = made.history.faults.last_mut()?;
    let other = if fault.kind.proofs().contains(&EvidenceKind::ClockOffset) {
        EvidenceKind::ProcessEnded
    } else {
        EvidenceKind::ClockOffset
    };
    fault.evidence[0].kind = other;
    Some("evidence of something else")
}

fn evidence_too_late(made: &mut Made) -> Option<&'static str> {
    let fault = made.history.faults.first_mut()?;
    fault.evidence[0].at_ms = fault.healed_at_ms? + 1;
    Some("evidence after the heal")
}

fn not_injected(made: &mut Made) -> Option<&'static str> {
    let kind = made.history.faults.first()?.kind;
    made.history.faults.retain(|fault| fault.kind != kind);
    Some("not injected")
}

fn never_healed(made: &mut Made) -> Option<&'static str> {
    made.history.faults.last_mut()?.healed_at_ms = None;
    Some("never healed")
}

fn replica_not_read(made: &mut Made) -> Option<&'static str> {
    made.history.replicas.pop()?;
    Some("a replica was not read")
}

fn read_too_soon(made: &mut Made) -> Option<&'static str> {
    let last = made
        .history
        .faults
        .iter()
        .filter_map(|fault| fault.healed_at_ms)
        .max()?;
    made.history.replicas.last_mut()?.read_at_ms = last + 14_999;
    Some("read too soon after the heal")
}
