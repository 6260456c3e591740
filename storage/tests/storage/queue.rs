//! Tables used as queues: a look at the head stays cheap, and true at every moment.

use crate::support::*;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use sched_core::tables::{Change, Changes, MemTables, Table, View};
use sched_storage::{Applied, StateStore, StateView};
use std::collections::VecDeque;
use std::time::{Duration, Instant};

const TABLE: Table = Table::Ready;

fn key(i: u64) -> Vec<u8> {
    i.to_be_bytes().to_vec()
}

fn put(i: u64) -> Change {
    Change::Put {
        table: TABLE,
        key: key(i),
        value: i.to_le_bytes().to_vec(),
    }
}

fn delete(i: u64) -> Change {
    Change::Delete {
        table: TABLE,
        key: key(i),
    }
}

/// Compares scans of every shape with the model's.
fn assert_same(view: &impl View, model: &MemTables, dice: &mut StdRng, keys: u64) {
    let edge = |dice: &mut StdRng| match dice.random_range(0..4) {
        0 => Vec::new(),
        1 => END.to_vec(),
        _ => key(dice.random_range(0..keys)),
    };
    for _ in 0..4 {
        let (from, to, limit) = (edge(dice), edge(dice), dice.random_range(0..40));
        let (up, down) = (
            view.scan(TABLE, &from, &to, limit),
            view.scan_back(TABLE, &from, &to, limit),
        );
        assert!(up == model.scan(TABLE, &from, &to, limit), "{from:?}..{to:?}, {limit}");
        assert!(
            down == model.scan_back(TABLE, &from, &to, limit),
            "back {from:?}..{to:?}, {limit}"
        );
    }
    assert!(
        view.scan(TABLE, &[], END, 5) == model.scan(TABLE, &[], END, 5),
        "the head"
    );
}

/// Writes a batch that clears a stretch, fills one, or does a little of both.
fn batch(dice: &mut StdRng, keys: u64) -> Changes {
    let from = dice.random_range(0..keys);
    let to = (from + dice.random_range(0..200)).min(keys);
    match dice.random_range(0..8) {
        0..3 => (from..to).map(delete).collect(),
        3 => (from..to).map(put).collect(),
        4 => vec![Change::DeleteRange {
            table: TABLE,
            from: key(from),
            to: key(to),
        }],
        // The same key twice in a batch, in both orders.
        5 => vec![put(from), delete(from), delete(to), put(to)],
        _ => (0..5)
            .map(|_| if dice.random_bool(0.4) { put } else { delete }(dice.random_range(0..keys)))
            .collect(),
    }
}

#[test]
fn views_of_every_age_see_their_own_moment() {
    const KEYS: u64 = 1500;
    let seed = std::env::var("SEED")
        .ok()
        .and_then(|s| s.parse().ok())
        .unwrap_or_else(rand::random);
    println!("SEED={seed}");
    let mut dice = StdRng::seed_from_u64(seed);
    let tmp = folder();
    let (_dir, group) = open(tmp.path()).unwrap();
    let (state, mut model) = (&group.state, MemTables::new());
    let mut older: VecDeque<(StateView, MemTables)> = VecDeque::new();
    for _ in 0..1500 {
        let batch = batch(&mut dice, KEYS);
        model.write(batch.clone());
        state.write(batch, &Applied::default()).unwrap();
        assert_same(&state.latest(), &model, &mut dice, KEYS);
        if dice.random_bool(0.2) {
            older.push_back((state.view(), model.clone()));
        }
        if older.len() > 12 {
            older.pop_front();
        }
        if let Some((view, model)) = older.get(dice.random_range(0..12)) {
            assert_same(view, model, &mut dice, KEYS);
        }
    }
}

/// Takes items from the head of a queue and puts others at its end; returns the time of all looks at the head.
fn churn(state: &StateStore, rounds: u64, urgent: bool) -> Duration {
    const DEPTH: u64 = 200;
    const ROUND: u64 = 50;
    let base = 1 << 32;
    let mut looking = Duration::ZERO;
    for round in 0..rounds {
        let from = base + round * ROUND;
        let mut changes: Changes = (from..from + ROUND)
            .map(|i| put(i + DEPTH))
            .chain((from..from + ROUND).map(delete))
            .collect();
        if urgent {
            // Something that sorts before everything comes and goes.
            changes.push(put(round));
            changes.extend(round.checked_sub(1).map(delete));
        }
        state.write(changes, &Applied::default()).unwrap();
        let view = state.view();
        let looked = Instant::now();
        let head = view.scan(TABLE, &[], END, 10).unwrap();
        looking += looked.elapsed();
        let first = if urgent { round } else { from + ROUND };
        // The first rounds take what was never put.
        if round * ROUND > DEPTH {
            assert_eq!(head.first().map(|(k, _)| k.clone()), Some(key(first)));
            assert_eq!(head.len(), 10);
        }
    }
    looking
}

#[test]
fn a_look_at_the_head_does_not_grow_with_what_was_taken() {
    for urgent in [false, true] {
        let tmp = folder();
        let dir = sched_storage::DataDir::open(tmp.path()).unwrap();
        let group = dir.group(0).unwrap();
        churn(&group.state, 20, urgent);
        let early = churn(&group.state, 200, urgent);
        let late = churn(&group.state, 2000, urgent) / 10;
        // Without care the later looks walk over a hundred thousand removed keys and take a hundred times as long.
        assert!(
            late < early * 8 + Duration::from_millis(20),
            "urgent {urgent}: {early:?}, then {late:?}"
        );
    }
}
