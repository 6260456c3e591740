//! The simulation: a whole cluster in one process, seeded, in virtual time.
//!
//! Nodes run the product's own sources: consensus and all of `sched-raft`, the leader's duties, the client port with its gate and
//! services, every message in its gRPC encoding. Replaced are only the disk, the sockets, the clock, the threads and chance. Workers are
//! the simulation's, after the protocol: what they promise is an assumption here, and is tested elsewhere.
//!
//! `make sim SEEDS=N SEED=S` runs more seeds; one that fails prints itself and its event log, and replays. `SIM_LOG=1` prints the log of
//! every seed, `SIM_MUTANT=NAME` switches a mutant on.
#![allow(clippy::print_stderr, reason = "a test that fails should say where")]

mod actor;
mod client;
mod faults;
mod recorder;
mod run;
mod verdict;

use run::{Outcome, derived};
use sim_ground::Mutant;
use std::time::Instant;

/// Seeds of every run of the tests.
const SEEDS: u64 = 500;
/// Seeds within which a mutant must be caught.
const MUTANT_SEEDS: usize = 40;

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text:?} is no number")))
}

fn mutant() -> Option<Mutant> {
    let name = std::env::var("SIM_MUTANT").ok()?;
    let found = Mutant::ALL.into_iter().find(|mutant| format!("{mutant:?}") == name);
    Some(found.unwrap_or_else(|| panic!("SIM_MUTANT={name:?}; there are {:?}", Mutant::ALL)))
}

/// Prints what was found; returns the seeds that failed.
fn failures(outcomes: &[Outcome]) -> Vec<u64> {
    let all = std::env::var_os("SIM_LOG").is_some();
    let mut failed = Vec::new();
    for outcome in outcomes {
        let bad = !outcome.findings.is_empty();
        if all || bad {
            eprintln!("seed {}\n{}", outcome.seed, outcome.log);
        }
        for finding in &outcome.findings {
            eprintln!("seed {}: {finding}", outcome.seed);
        }
        failed.extend(bad.then_some(outcome.seed));
    }
    failed
}

fn tell(outcomes: &[Outcome], began: Instant) {
    let sum = |of: fn(&Outcome) -> u64| outcomes.iter().map(of).sum::<u64>();
    let mut rest: Vec<u64> = outcomes.iter().filter_map(|outcome| outcome.rest_ms).collect();
    rest.sort_unstable();
    eprintln!(
        "{} seeds: {} events, {} states checked, {} processes started, {} calls; at rest after p50 {:?} ms, at most {:?} ms; {:.1} s",
        outcomes.len(),
        sum(|outcome| outcome.trace.1),
        sum(|outcome| outcome.states),
        sum(|outcome| outcome.starts),
        sum(|outcome| outcome.calls as u64),
        rest.get(rest.len() / 2),
        rest.last(),
        began.elapsed().as_secs_f64(),
    );
}

#[test]
fn seeds_hold() {
    let (first, count) = (number("SIM_SEED").unwrap_or(1), number("SIM_SEEDS").unwrap_or(SEEDS));
    let began = Instant::now();
    let outcomes = run::seeds(first..first.saturating_add(count), mutant(), 3);
    let failed = failures(&outcomes);
    tell(&outcomes, began);
    assert!(failed.is_empty(), "`make sim SEED=N` replays each of {failed:?}");
    assert_eq!(outcomes.len() as u64, count);
    let starts: u64 = outcomes.iter().map(|outcome| outcome.starts).sum();
    assert!(
        starts > 10 * count,
        "only {starts} processes were started: the seeds show nothing"
    );
}

#[test]
fn a_seed_replays_to_the_same_trace() {
    for seed in derived(1).take(3) {
        let (one, other) = (run::seed(seed, None), run::seed(seed, None));
        assert_eq!(one.trace, other.trace, "seed {seed}\n{}\n{}", one.log, other.log);
        assert!(one.trace.1 > 1_000, "seed {seed} has {} events", one.trace.1);
    }
}

/// A seed that has caught each mutant, and is tried first. When the simulation changes it is one like any other, and costs a second.
const CAUGHT_BY: [(Mutant, u64); 10] = [
    (Mutant::FsyncSkipped, 3_203_108_257),
    (Mutant::AckBeforeCommit, 2_433_363_436),
    (Mutant::TokenIgnored, 3_768_183_916),
    (Mutant::JournalNotRead, 3_203_108_257),
    (Mutant::CursorNotMoved, 2_433_363_436),
    (Mutant::VoteNotSaved, 4_170_425_070),
    (Mutant::SnapshotNewer, 1),
    (Mutant::LeaseNotAwaited, 3_203_108_257),
    (Mutant::DedupDropped, 2_433_363_436),
    (Mutant::DrainOutOfOrder, 1),
];

#[test]
fn mutants_are_caught() {
    for mutant in Mutant::ALL {
        let known = CAUGHT_BY
            .iter()
            .filter(|(caught, _)| *caught == mutant)
            .map(|(_, seed)| *seed);
        let outcomes = run::seeds(known.chain(derived(1)).take(MUTANT_SEEDS), Some(mutant), 1);
        let caught = outcomes.iter().find(|outcome| !outcome.findings.is_empty());
        let Some(caught) = caught else {
            panic!("{mutant:?} is not caught by {MUTANT_SEEDS} seeds");
        };
        eprintln!(
            "{mutant:?}: {} seeds, caught by {}: {}",
            outcomes.len(),
            caught.seed,
            caught.findings[0]
        );
        // It is the mutant that was caught, and not something else.
        let sound = run::seed(caught.seed, None);
        assert!(sound.findings.is_empty(), "seed {}: {:?}", caught.seed, sound.findings);
    }
}
