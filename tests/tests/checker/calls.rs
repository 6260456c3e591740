//! Histories of API calls that one copy of a task would have given, with overlapping calls and lost answers.

use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use sched_tests::checker::{Call, Operation, Told};
use std::collections::BTreeMap;

/// The task as the API promises it, kept as plainly as can be.
#[derive(Clone, Debug)]
struct Task {
    id: u64,
    generation: u64,
    paused: Option<String>,
    at_ms: Option<i64>,
}

#[derive(Default)]
struct Register {
    task: Option<Task>,
    next_id: u64,
    remembered: BTreeMap<String, Told>,
}

impl Register {
    fn answer(&mut self, call: &Call) -> Told {
        let request = match call {
            Call::Get => None,
            Call::Submit { request, .. }
            | Call::Pause { request, .. }
            | Call::Resume { request }
            | Call::Dequeue { request }
            | Call::Move { request, .. } => Some(request.clone()),
        };
        if let Some(told) = request.as_ref().and_then(|request| self.remembered.get(request)) {
            return told.clone();
        }
        let told = self.carry_out(call);
        if let (Some(request), Told::Done { .. }) = (request, &told) {
            self.remembered.insert(request, told.clone());
        }
        told
    }

    fn carry_out(&mut self, call: &Call) -> Told {
        let Some(task) = &mut self.task else {
            if let Call::Submit { at_ms, .. } = call {
                self.next_id += 3;
                self.task = Some(Task {
                    id: self.next_id,
                    generation: 1,
                    paused: None,
                    at_ms: *at_ms,
                });
                return Told::Done { id: self.next_id };
            }
            return Told::NotFound;
        };
        let done = Told::Done { id: task.id };
        match call {
            Call::Submit { .. } => return Told::NameTaken { by: task.id },
            Call::Get => {
                return Told::Found {
                    id: task.id,
                    generation: task.generation,
                    paused: task.paused.clone(),
                    at_ms: task.at_ms,
                };
            }
            Call::Pause { note, .. } => task.paused = Some(note.clone()),
            Call::Resume { .. } => {
                if task.paused.take().is_none() {
                    return Told::WrongState;
                }
            }
            Call::Move { at_ms, generation, .. } => {
                if task.at_ms.is_none() {
                    return Told::WrongState;
                }
                if generation.is_some_and(|wanted| wanted != task.generation) {
                    return Told::Conflict {
                        actual: task.generation,
                    };
                }
                task.at_ms = Some(*at_ms);
            }
            Call::Dequeue { .. } => {
                self.task = None;
                return done;
            }
        }
        task.generation += 1;
        done
    }
}

fn call(rng: &mut StdRng, request: String) -> Call {
    match rng.random_range(0..12) {
        0..3 => Call::Submit {
            request,
            at_ms: rng.random_bool(0.7).then(|| rng.random_range(1..1_000)),
        },
        3..6 => Call::Get,
        6 | 7 => Call::Pause {
            request,
            note: format!("note {}", rng.random_range(0..9)),
        },
        8 => Call::Resume { request },
        9 => Call::Dequeue { request },
        _ => Call::Move {
            request,
            at_ms: rng.random_range(1..1_000),
            generation: rng.random_bool(0.4).then(|| rng.random_range(1..4)),
        },
    }
}

/// Calls of some clients on some tasks, answered in the order of an instant within each call.
pub(crate) fn history(rng: &mut StdRng, started_us: i64) -> Vec<Operation> {
    let mut operations = Vec::new();
    for task in 0..rng.random_range(0..3) {
        operations.extend(of_task(rng, started_us, &format!("named-{task}")));
    }
    operations.shuffle(rng);
    operations
}

fn of_task(rng: &mut StdRng, started_us: i64, key: &str) -> Vec<Operation> {
    // The instant at which it takes effect, and the call.
    let mut calls: Vec<(i64, Operation)> = Vec::new();
    let mut unknown = 0;
    for client in 0..rng.random_range(1..5) {
        let mut now = started_us + rng.random_range(0..1_000);
        for number in 0..rng.random_range(2..14) {
            let called_at_us = now;
            let answered = called_at_us + rng.random_range(100..5_000);
            // Sometimes the request of an earlier call, again: with the same call.
            let request = format!("{key}-{client}-{number}");
            let repeated: Vec<Call> = calls
                .iter()
                .map(|(_, op)| op.call.clone())
                .filter(|c| *c != Call::Get)
                .collect();
            let call = if rng.random_bool(0.1) && !repeated.is_empty() {
                repeated[rng.random_range(0..repeated.len())].clone()
            } else {
                call(rng, request)
            };
            let lost = unknown < 3 && rng.random_bool(0.1);
            unknown += u32::from(lost);
            // What is lost takes effect at any time, much later even, or never.
            let effect = match lost {
                true if rng.random_bool(0.5) => i64::MAX,
                true => called_at_us + rng.random_range(0..20_000),
                false => rng.random_range(called_at_us..=answered),
            };
            let told = if !lost && rng.random_bool(0.05) {
                Told::NotDone
            } else {
                Told::Unknown
            };
            calls.push((
                effect,
                Operation {
                    key: key.to_owned(),
                    client,
                    called_at_us,
                    answered_at_us: (!lost).then_some(answered),
                    call,
                    told,
                },
            ));
            now = answered + rng.random_range(1..2_000);
        }
    }
    calls.sort_by_key(|(effect, _)| *effect);
    let mut register = Register::default();
    for (effect, operation) in &mut calls {
        if *effect == i64::MAX || operation.told == Told::NotDone {
            continue;
        }
        let told = register.answer(&operation.call);
        if operation.answered_at_us.is_some() {
            operation.told = told;
        }
    }
    calls.into_iter().map(|(_, operation)| operation).collect()
}

/// Makes the calls on one task contradict each other; says how, or nothing when there is no place for it.
pub(crate) fn spoil(rng: &mut StdRng, operations: &mut Vec<Operation>) -> Option<&'static str> {
    let last = operations.iter().filter_map(|op| op.answered_at_us).max()?;
    let fresh = |at: i64, call: Call, told: Told| Operation {
        key: "spoiled".to_owned(),
        client: 1,
        called_at_us: last + at,
        answered_at_us: Some(last + at + 50),
        call,
        told,
    };
    let request = |n: u32| format!("spoiled-{n}");
    let submit = |n: u32| Call::Submit {
        request: request(n),
        at_ms: Some(7),
    };
    let shift = |n: u32| Call::Move {
        request: request(n),
        at_ms: 8,
        generation: Some(1),
    };
    let found = |generation: u64, at: i64| Told::Found {
        id: 5,
        generation,
        paused: None,
        at_ms: Some(at),
    };
    let done = Told::Done { id: 5 };
    let (more, what) = match rng.random_range(0..7) {
        0 => (
            vec![fresh(100, submit(1), done), fresh(200, Call::Get, Told::NotFound)],
            "an acknowledged submit is not found",
        ),
        1 => (
            vec![
                fresh(100, submit(1), done.clone()),
                fresh(200, shift(2), done),
                fresh(300, Call::Get, found(1, 7)),
            ],
            "a read of what was",
        ),
        2 => (
            vec![
                fresh(100, submit(1), done.clone()),
                fresh(200, shift(2), done.clone()),
                fresh(300, shift(3), done),
            ],
            "two updates of one generation",
        ),
        3 => (
            vec![fresh(100, submit(1), done), fresh(200, submit(1), Told::Done { id: 8 })],
            "a repeat is carried out again",
        ),
        4 => (
            vec![fresh(100, submit(1), done), fresh(200, submit(2), Told::Done { id: 8 })],
            "one name for two tasks",
        ),
        5 => {
            let dequeue = Call::Dequeue { request: request(2) };
            let more = vec![
                fresh(100, submit(1), done.clone()),
                fresh(200, dequeue, done),
                fresh(300, Call::Get, found(2, 7)),
            ];
            (more, "found after its dequeue")
        }
        _ => {
            let reads: Vec<usize> = (0..operations.len())
                .filter(|index| matches!(operations[*index].told, Told::Found { .. }))
                .collect();
            let index = *reads.get(rng.random_range(0..reads.len().max(1)))?;
            if let Told::Found { generation, .. } = &mut operations[index].told {
                *generation += 1_000;
            }
            (Vec::new(), "a generation that never was")
        }
    };
    operations.extend(more);
    Some(what)
}
