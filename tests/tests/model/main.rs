//! The protocol of one run, explored completely: every order of every step of two workers, their leader and its successors.
//!
//! What is explored, what it shows and what it does not: `docs/proof.md`.

mod properties;
mod protocol;
mod state;

use properties::{COUNTS_ONCE, NO_OVERLAP, ONE_START};
use protocol::{Delivery, Mutant, Protocol, Step};
use stateright::{Checker, HasDiscoveries, Model};
use std::time::Instant;

/// Explores everything and returns how many states there are.
fn explore(name: &str, protocol: Protocol) -> usize {
    let begun = Instant::now();
    let checker = protocol.checker().threads(threads()).spawn_bfs().join();
    let states = checker.unique_state_count();
    println!(
        "model: {name}: {states} states, {} steps, depth {}, {:.1} s",
        checker.state_count(),
        checker.max_depth(),
        begun.elapsed().as_secs_f64()
    );
    checker.assert_properties();
    states
}

/// Explores until a promise is broken and returns the steps to it, which are as few as can be.
fn broken(name: &str, protocol: Protocol, promise: &'static str) -> Vec<Step> {
    let checker = protocol
        .checker()
        .threads(threads())
        .finish_when(HasDiscoveries::AnyOf([promise].into()))
        .spawn_bfs()
        .join();
    let path = checker.discovery(promise).unwrap_or_else(|| {
        panic!(
            "{name}: nothing breaks {promise:?} in {} states",
            checker.unique_state_count()
        )
    });
    let steps = path.into_actions();
    println!(
        "model: {name}: {promise:?} is broken in {} steps: {steps:?}",
        steps.len()
    );
    steps
}

fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, |n| n.get().min(2))
}

/// So many states there are; another number says that another protocol is explored than the one that was described.
fn about(states: usize, expected: usize) {
    let plausible = expected - expected / 5..=expected + expected / 5;
    assert!(
        plausible.contains(&states),
        "{states} states instead of about {expected}: say why, here and in docs/proof.md"
    );
}

#[test]
fn at_most_once_never_starts_twice() {
    about(
        explore("at-most-once", Protocol::new(Delivery::AtMostOnce, Mutant::None)),
        505_000,
    );
}

#[test]
fn at_least_once_never_overlaps_under_the_lease_rule() {
    about(
        explore("at-least-once", Protocol::new(Delivery::AtLeastOnce, Mutant::None)),
        553_000,
    );
}

#[test]
fn each_rule_is_needed() {
    use Delivery::{AtLeastOnce, AtMostOnce};
    let mutants = [
        (
            "at-most-once without a journal",
            AtMostOnce,
            Mutant::NoJournal,
            ONE_START,
        ),
        (
            "at-least-once without a journal",
            AtLeastOnce,
            Mutant::NoJournal,
            NO_OVERLAP,
        ),
        (
            "expiry that ignores the lease rule",
            AtLeastOnce,
            Mutant::NoLease,
            NO_OVERLAP,
        ),
        (
            "completion that ignores the token",
            AtLeastOnce,
            Mutant::NoToken,
            COUNTS_ONCE,
        ),
        (
            "a worker that does not kill without contact",
            AtLeastOnce,
            Mutant::NoKill,
            NO_OVERLAP,
        ),
        (
            "contact counted from the arrival of the answer",
            AtLeastOnce,
            Mutant::NoSendTime,
            NO_OVERLAP,
        ),
    ];
    for (name, delivery, mutant, promise) in mutants {
        let steps = broken(name, Protocol::new(delivery, mutant), promise);
        assert!((6..=20).contains(&steps.len()), "{name}: {} steps", steps.len());
    }
}
