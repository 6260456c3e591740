//! Missed runs × overlap × how long there was no leader × how long runs take: what the leader's plan and `apply` make of it, cell by
//! cell, against a small model that knows nothing of them. Every occurrence ends as exactly one thing: a run, a line that it was
//! skipped, or a place in a range that was missed.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "what is banned from the state machine is not from its tests"
)]

mod machine;
mod model;

use machine::Machine;
use model::Model;
use sched_core::task::{Missed, Overlap};
use std::collections::BTreeMap;

/// An occurrence every ten seconds; times here are in milliseconds.
pub(crate) const INTERVAL: i64 = 10_000;
/// How late an occurrence may start.
pub(crate) const GRACE: i64 = 3_600_000;
/// The clock ticks so often.
const STEP: i64 = 500;
/// There is a leader until here.
const LOST: i64 = 35_000;
/// So long after there is one again.
const AFTER: i64 = 65_000;

/// What became of a task's occurrences.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Outcome {
    /// When each occurrence that got a run was started; nothing when it never was.
    pub(crate) runs: BTreeMap<i64, Option<i64>>,
    /// Occurrences that were skipped.
    pub(crate) skipped: Vec<i64>,
    /// First, last and number of each range that was missed.
    pub(crate) missed: Vec<(i64, i64, u64)>,
}

/// The life of one task: with a leader, without, with one again.
trait World {
    fn step(&mut self, now: i64, leader_since: i64);
    fn outcome(self) -> Outcome;
}

fn live(mut world: impl World, outage: i64) -> Outcome {
    let back = LOST + outage;
    let mut now = 0;
    while now <= back + AFTER {
        if now < LOST {
            world.step(now, 0);
        } else if now >= back {
            world.step(now, back);
        }
        now += STEP;
    }
    world.outcome()
}

#[test]
fn every_combination_is_as_the_model_says() {
    let missed = [
        Missed::Skip,
        Missed::Latest,
        Missed::All { max: 1 },
        Missed::All { max: 3 },
    ];
    let overlaps = [
        Overlap::Allow,
        Overlap::Skip,
        Overlap::QueueOne,
        Overlap::QueueAll,
        Overlap::Replace,
    ];
    // None, an election, just late, just missed, a while, longer than the grace.
    let outages = [0, 1_500, 14_500, 26_000, 300_000, GRACE + 100_000];
    // Over before the next, as long as the interval, over the next two, never over.
    let lengths = [100, INTERVAL, 25_000, 10 * GRACE];
    let mut cells = 0;
    for missed in missed {
        for overlap in overlaps {
            for outage in outages {
                for length in lengths {
                    let cell = format!("{missed:?}, {overlap:?}, {outage} ms without a leader, runs of {length} ms");
                    let found = live(Machine::new(missed, overlap, length), outage);
                    let expected = live(Model::new(missed, overlap, length), outage);
                    assert_eq!(found, expected, "{cell}");
                    each_occurrence_once(&found, LOST + outage + AFTER, &cell);
                    cells += 1;
                }
            }
        }
    }
    assert_eq!(cells, 480);
}

fn each_occurrence_once(outcome: &Outcome, end: i64, cell: &str) {
    let mut seen: BTreeMap<i64, u32> = BTreeMap::new();
    let ranges = outcome.missed.iter().flat_map(|(first, last, count)| {
        let all: Vec<i64> = (*first..=*last).step_by(INTERVAL as usize).collect();
        assert_eq!(all.len() as u64, *count, "{cell}: {first} to {last}");
        all
    });
    for at in outcome.runs.keys().chain(&outcome.skipped).copied().chain(ranges) {
        *seen.entry(at).or_default() += 1;
    }
    let expected: BTreeMap<i64, u32> = (INTERVAL..=end).step_by(INTERVAL as usize).map(|at| (at, 1)).collect();
    assert_eq!(seen, expected, "{cell}");
}
