//! Histories of a cluster that does everything right, in many ways: what the checker must not accuse.
//!
//! Nothing here uses the checker's own idea of a deadline: a start comes soon after it is due or, when a fault is in the way, soon
//! after its heal.

use crate::calls;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use sched_tests::checker::{
    Answer, Asked, Bounds, Delivery, Evidence, FORMAT, Fault, FaultKind, History, Plan, Process, Replica, RunFound,
    TaskAsked, TaskFound,
};

const KINDS: [FaultKind; 14] = [
    FaultKind::Kill,
    FaultKind::Stop,
    FaultKind::KillWorker,
    FaultKind::StopWorker,
    FaultKind::Partition,
    FaultKind::Loss,
    FaultKind::Delay,
    FaultKind::ClockJump,
    FaultKind::DiskFull,
    FaultKind::SyncError,
    FaultKind::PowerCut,
    FaultKind::Damage,
    FaultKind::Membership,
    FaultKind::Restart,
];
/// A run under faults ends so long after the last heal, so that everything can be judged.
const QUIET_MS: i64 = 60_000;

/// A run of a made history, for those who spoil it.
#[derive(Clone, Debug)]
pub(crate) struct Fact {
    pub(crate) task: usize,
    pub(crate) run: String,
    /// It had to run, and its deadline was long over at the end.
    pub(crate) must: bool,
    /// No fault is anywhere near.
    pub(crate) calm: bool,
    pub(crate) due_ms: i64,
    /// The heal it waited for.
    pub(crate) healed_ms: Option<i64>,
}

pub(crate) struct Made {
    pub(crate) history: History,
    pub(crate) facts: Vec<Fact>,
    pub(crate) rng: StdRng,
    token: u64,
}

/// Makes the history of a seed.
pub(crate) fn history(seed: u64) -> Made {
    let mut rng = StdRng::seed_from_u64(seed);
    let started = 1_700_000_000_000 + rng.random_range(0..1_000_000);
    let faults = faults(&mut rng, started);
    let last = faults
        .iter()
        .filter_map(|fault| fault.healed_at_ms)
        .max()
        .unwrap_or(started);
    let ended = last + QUIET_MS + rng.random_range(0..30_000);
    let nodes: Vec<String> = (1..=if rng.random_bool(0.3) { 5 } else { 3 })
        .map(|n| format!("n{n}"))
        .collect();
    let history = History {
        format: FORMAT,
        label: "generated".to_owned(),
        seed,
        bounds: Bounds {
            start_ms_max: 2_000,
            ..Bounds::default()
        },
        started_at_ms: started,
        ended_at_ms: ended,
        nodes: nodes.clone(),
        tasks: Vec::new(),
        processes: Vec::new(),
        intended: faults.iter().map(|fault| fault.kind).collect(),
        faults,
        replicas: Vec::new(),
        operations: calls::history(&mut rng, started * 1000),
    };
    let mut made = Made {
        history,
        facts: Vec::new(),
        rng,
        token: 10,
    };
    let mut found = Vec::new();
    for number in 0..made.rng.random_range(8..20) {
        found.extend(made.add_task(number));
    }
    made.replicas(&found);
    made
}

fn faults(rng: &mut StdRng, started: i64) -> Vec<Fault> {
    let mut at = started + rng.random_range(1_000..40_000);
    let mut faults = Vec::new();
    for _ in 0..rng.random_range(0..4) {
        let kind = KINDS[rng.random_range(0..KINDS.len())];
        let applied_at_ms = at;
        let healed = at + rng.random_range(100..30_000);
        let proof = kind.proofs()[rng.random_range(0..kind.proofs().len())];
        faults.push(Fault {
            kind,
            target: format!("n{}", rng.random_range(1..4)),
            applied_at_ms,
            healed_at_ms: Some(healed),
            evidence: vec![Evidence {
                at_ms: rng.random_range(applied_at_ms..=healed),
                kind: proof,
                detail: "made up".to_owned(),
            }],
        });
        // The next one may begin before this one is over, or long after.
        at += rng.random_range(5_000..90_000);
    }
    faults
}

impl Made {
    fn chance(&mut self, share: f64) -> bool {
        self.rng.random_bool(share)
    }

    fn between(&mut self, from: i64, to: i64) -> i64 {
        self.rng.random_range(from..to.max(from + 1))
    }

    fn token(&mut self) -> String {
        self.token += self.rng.random_range(1..5);
        format!("{}.{}", self.token, self.rng.random_range(0..4))
    }

    /// The heal an instant must wait for: of every fault under way or just healed, and of those that begin before it is over.
    fn heal(&self, at: i64) -> Option<i64> {
        let mut healed = None;
        for fault in &self.history.faults {
            let (applied, heal) = (fault.applied_at_ms, fault.healed_at_ms?);
            let until = healed.unwrap_or(at + 300);
            if applied <= until && heal >= at {
                healed = Some(heal.max(until));
            }
        }
        healed
    }

    fn calm(&self, at: i64) -> bool {
        self.history.faults.iter().all(|fault| {
            fault.applied_at_ms > at + 40_000 || fault.healed_at_ms.is_some_and(|healed| healed < at - 40_000)
        })
    }

    /// When something begins that may begin from `at` on.
    fn begins(&mut self, at: i64) -> (i64, Option<i64>) {
        match self.heal(at) {
            Some(healed) if self.chance(0.7) => (healed + self.between(0, 10_000), Some(healed)),
            Some(healed) => (at + self.between(0, 200), Some(healed)),
            None => (at + self.between(0, 300), None),
        }
    }

    fn add_task(&mut self, number: usize) -> Option<TaskFound> {
        let (from, to) = (self.history.started_at_ms, self.history.ended_at_ms);
        // One task runs from beginning to end, so that no fault meets an idle cluster.
        let steady = number == 0;
        let asked = if steady {
            from
        } else {
            self.between(from, to - QUIET_MS)
        };
        let key = format!("task-{number}");
        let id = number as u64 * 3 + 1;
        let answer = match self.rng.random_range(0..10) {
            0 if !steady => Answer::Refused {
                reason: "made up".to_owned(),
            },
            1 if !steady => Answer::Unknown,
            _ => Answer::Accepted {
                task: id,
                at_ms: self.begins(asked).0 + 5,
            },
        };
        let since = match &answer {
            Answer::Accepted { at_ms, .. } => *at_ms,
            _ => asked,
        };
        let delivery = if self.chance(0.5) {
            Delivery::AtMostOnce
        } else {
            Delivery::AtLeastOnce
        };
        let plan = self.plan(asked, since, steady);
        let task = TaskAsked {
            key: key.clone(),
            asked_at_ms: asked,
            answer: answer.clone(),
            delivery,
            plan,
            watched: steady || self.chance(0.85),
            success_codes: vec![0],
            tries_max: if self.chance(0.2) { 3 } else { 1 },
            may_skip: self.chance(0.2),
            retry_delay_ms_max: if self.chance(0.3) { 4_000 } else { 0 },
            dequeued: None,
            triggers: Vec::new(),
        };
        self.history.tasks.push(task);
        let carried_out = match answer {
            Answer::Accepted { .. } => true,
            Answer::Refused { .. } => false,
            Answer::Unknown => self.chance(0.5),
        };
        carried_out.then(|| self.carried_out(number, id, since))
    }

    fn plan(&mut self, asked: i64, since: i64, steady: bool) -> Plan {
        let ended = self.history.ended_at_ms;
        match if steady { 3 } else { self.rng.random_range(0..4) } {
            0 => Plan::Times(vec![asked]),
            1 => Plan::Times(vec![self.between(since, ended - 20_000)]),
            2 => Plan::Manual,
            _ => Plan::Every {
                first_ms: since + self.between(0, 5_000),
                every_ms: self.between(1_000, if steady { 9_000 } else { 20_000 }),
                last_ms: (!steady && self.chance(0.5)).then_some(ended - 50_000),
            },
        }
    }

    fn carried_out(&mut self, number: usize, id: u64, since: i64) -> TaskFound {
        let ended = self.history.ended_at_ms;
        self.asked_more(number, since);
        let task = self.history.tasks[number].clone();
        let gone = task.dequeued.as_ref().map(|asked| asked.at_ms);
        let mut due: Vec<(i64, bool)> = match &task.plan {
            Plan::Times(times) => times.iter().map(|at| ((*at).max(since), false)).collect(),
            Plan::Manual => Vec::new(),
            Plan::Every {
                first_ms,
                every_ms,
                last_ms,
            } => {
                let last = last_ms.unwrap_or(ended);
                (0..)
                    .map(|n| (first_ms + n * every_ms, false))
                    .take_while(|(at, _)| *at <= last)
                    .collect()
            }
        };
        due.retain(|(at, _)| gone.is_none_or(|gone| *at < gone));
        due.extend(task.triggers.iter().filter_map(|asked| match asked.answer {
            Answer::Accepted { at_ms, .. } => Some((at_ms, true)),
            Answer::Unknown | Answer::Refused { .. } => None,
        }));
        due.sort_unstable();
        let mut found = TaskFound {
            key: task.key.clone(),
            id,
            state: if gone.is_some() { "TERMINATED" } else { "QUEUED" }.to_owned(),
            runs: Vec::new(),
            ledger: Vec::new(),
        };
        for (at, manual) in due {
            if task.may_skip && !manual && self.chance(0.2) {
                found.ledger.push((at, at));
                continue;
            }
            let run = format!("{id}:{}", found.runs.len() + 1);
            if let Some(run) = self.run(number, &run, at, manual, gone.unwrap_or(i64::MAX)) {
                found.runs.push(run);
            }
        }
        found
    }

    /// Somebody triggers it, somebody takes it out.
    fn asked_more(&mut self, number: usize, since: i64) {
        let id = number as u64 * 3 + 1;
        let until = self.history.ended_at_ms - QUIET_MS;
        let ask = |made: &mut Self, at: i64| {
            let answered = made.begins(at).0 + 5;
            Asked {
                at_ms: at,
                answer: if made.chance(0.8) {
                    Answer::Accepted {
                        task: id,
                        at_ms: answered,
                    }
                } else {
                    Answer::Unknown
                },
            }
        };
        let accepted = matches!(self.history.tasks[number].answer, Answer::Accepted { .. });
        if accepted && number > 0 && since + 60_000 < until && self.chance(0.2) {
            let at = self.between(since + 50_000, until);
            let asked = ask(self, at);
            // Whether the task is gone after an unknown answer, nobody can say: here it always is.
            self.history.tasks[number].dequeued = Some(asked);
        }
        let latest = self.history.tasks[number]
            .dequeued
            .as_ref()
            .map_or(until, |asked| asked.at_ms - 45_000);
        if accepted && since < latest {
            for _ in 0..self.rng.random_range(0..3) {
                let at = self.between(since, latest);
                let asked = ask(self, at);
                self.history.tasks[number].triggers.push(asked);
            }
        }
    }

    fn run(&mut self, number: usize, run: &str, due: i64, manual: bool, gone: i64) -> Option<RunFound> {
        let task = self.history.tasks[number].clone();
        let (start, healed_ms) = self.begins(due);
        let ended = self.history.ended_at_ms;
        let calm = self.calm(due);
        // What had not begun when the task was taken out never does, unless a worker had it already.
        if start >= gone && self.chance(0.8) {
            return Some(RunFound {
                run: run.to_owned(),
                state: "TERMINATED".to_owned(),
                scheduled_at_ms: due,
                manual,
                waits: false,
                attempts: 0,
                success_token: None,
                stale_reports: 0,
                losses: 0,
            });
        }
        if start >= ended {
            return None;
        }
        // A fault may put its deadline off beyond that.
        let stops = gone < i64::MAX && !calm || due.saturating_add(45_000) > gone;
        let scheduled_at_ms = match &task.plan {
            Plan::Times(times) if !manual && times[0] > task.asked_at_ms => times[0],
            _ => due,
        };
        self.facts.push(Fact {
            task: number,
            run: run.to_owned(),
            must: !stops
                && due + 45_000 < ended
                && start + 30_000 < ended
                && matches!(task.answer, Answer::Accepted { .. }),
            calm,
            due_ms: due,
            healed_ms,
        });
        let mut found = RunFound {
            run: run.to_owned(),
            state: "FINISHED".to_owned(),
            scheduled_at_ms,
            manual,
            waits: false,
            attempts: 1,
            success_token: None,
            stale_reports: 0,
            losses: 0,
        };
        if !task.watched {
            return Some(found);
        }
        // The worker dies between the grant and the process: it is lost, and says so.
        if !calm && task.delivery == Delivery::AtMostOnce && self.chance(0.1) {
            found.state = "LOST".to_owned();
            self.facts.pop();
            return Some(found);
        }
        self.attempts(&task, &mut found, start);
        Some(found)
    }

    fn attempts(&mut self, task: &TaskAsked, found: &mut RunFound, mut start: i64) {
        let ended = self.history.ended_at_ms;
        loop {
            let token = self.token();
            let length = self.between(10, 3_000);
            let mut process = Process {
                key: task.key.clone(),
                run: found.run.clone(),
                attempt: found.attempts,
                token: token.clone(),
                scheduled_at_ms: found.scheduled_at_ms,
                started_at_ms: start,
                ended_at_ms: Some(start + length),
                exit_code: Some(0),
                worker: String::new(),
            };
            found.state = "FINISHED".to_owned();
            found.success_token = self.chance(0.5).then(|| token.clone());
            if start + length >= ended - 20_000 {
                // It still runs when the state is read.
                (process.ended_at_ms, process.exit_code) = (None, None);
                (found.state, found.success_token) = ("RUNNING".to_owned(), None);
                self.history.processes.push(process);
                return;
            }
            let fate = self.rng.random_range(0..10);
            let again = match (fate, task.delivery) {
                // It fails; perhaps there are tries.
                (0, _) => {
                    process.exit_code = Some(3);
                    (found.state, found.success_token) = ("FAILED".to_owned(), None);
                    found.attempts < task.tries_max
                }
                // The worker dies with it.
                (1, Delivery::AtLeastOnce) => {
                    process.exit_code = None;
                    found.losses += 1;
                    true
                }
                (1, Delivery::AtMostOnce) => {
                    process.exit_code = None;
                    (found.state, found.success_token) = ("LOST".to_owned(), None);
                    false
                }
                _ => false,
            };
            let over = start + length;
            self.history.processes.push(process);
            if !again || over + 60_000 > ended {
                if again {
                    (found.state, found.success_token) = ("FAILED".to_owned(), None);
                }
                return;
            }
            found.attempts += 1;
            let lost = fate == 1;
            let flagged = lost && self.chance(0.2);
            start = self
                .begins(over + if lost { 11_000 } else { task.retry_delay_ms_max })
                .0;
            if flagged {
                // It had not died after all, and says so when it comes back.
                if let Some(process) = self.history.processes.last_mut() {
                    process.ended_at_ms = Some(start + 500);
                }
                found.stale_reports = 1;
            }
        }
    }

    fn replicas(&mut self, found: &[TaskFound]) {
        let applied = self.chance(0.5).then_some(4_711);
        for node in self.history.nodes.clone() {
            let mut tasks = found.to_vec();
            let read_at_ms = self.history.ended_at_ms - self.between(0, 1_000);
            if applied.is_none() {
                // Read a little earlier than the others: what ended meanwhile still ran.
                for run in tasks.iter_mut().flat_map(|task| &mut task.runs) {
                    if run.state == "RUNNING" && self.rng.random_bool(0.3) {
                        run.state = "FINISHED".to_owned();
                    }
                }
            }
            self.history.replicas.push(Replica {
                node,
                read_at_ms,
                applied,
                state_hash: applied.map(|_| "abcdef".to_owned()),
                tasks,
            });
        }
        // The first is the one that is judged: it was read first.
        self.history.replicas[0].tasks = found.to_vec();
    }
}
