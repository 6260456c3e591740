//! The judge judged: it accuses nobody who did right, and everybody who did wrong, of what he did.

mod calls;
mod generate;
mod mutate;

use mutate::Mutation;
use sched_tests::checker::{Class, History, Verdict, check};
use std::collections::BTreeMap;

const VALID: u64 = 1_500;
/// Of each class.
const WRONG: usize = 150;

/// Another one by `SEED`; the default is fixed, so that a failure on one machine is one on all.
fn seed() -> u64 {
    let seed = std::env::var("SEED")
        .ok()
        .and_then(|seed| seed.parse().ok())
        .unwrap_or(1);
    println!("checker: seed {seed} (SEED=n for another)");
    seed
}

#[test]
fn who_does_right_is_not_accused() {
    let first = seed() * 1_000_000;
    let (mut occurrences, mut faults, mut calls, mut flagged, mut lost) = (0, 0, 0, 0, 0);
    for seed in first..first + VALID {
        let history = generate::history(seed).history;
        let report = check(&history);
        assert_eq!(
            report.verdict(),
            Verdict::Passed,
            "seed {seed}: {report}\n{}",
            saved(&history)
        );
        occurrences += report.figures.occurrences;
        faults += history.faults.len();
        calls += report.figures.operations;
        flagged += report.figures.flagged_overlaps;
        lost += report.figures.lost;
    }
    println!(
        "checker: {VALID} valid histories, {occurrences} occurrences, {faults} faults, {calls} calls: none accused"
    );
    // Otherwise there was nothing to be accused of.
    assert!(occurrences > 20 * VALID && faults as u64 > VALID && calls > 10 * VALID && flagged > 20 && lost > 100);
}

/// Keeps a history for `sched-check` and says where.
fn saved(history: &History) -> String {
    let file = std::env::temp_dir().join(format!("history-{}.json", history.seed));
    match std::fs::write(&file, serde_json::to_vec_pretty(history).expect("plain data")) {
        Ok(()) => format!("cargo run -p sched-tests --bin sched-check {}", file.display()),
        Err(error) => format!("{}: {error}", file.display()),
    }
}

/// Spoils histories in turn in every way given, and says how often each was done.
fn spoilt(
    first: u64,
    ways: &[Mutation],
    wanted: usize,
    mut judged: impl FnMut(u64, &str, &History),
) -> BTreeMap<&'static str, usize> {
    let mut done: BTreeMap<&str, usize> = BTreeMap::new();
    let mut count = 0;
    for seed in first.. {
        assert!(
            seed < first + 200 * wanted as u64,
            "hardly any history gives occasion: {done:?}"
        );
        let mut made = generate::history(seed);
        let Some(how) = ways[(seed - first) as usize % ways.len()](&mut made) else {
            continue;
        };
        judged(seed, how, &made.history);
        *done.entry(how).or_default() += 1;
        count += 1;
        if count >= wanted && done.len() >= ways.len() {
            break;
        }
    }
    done
}

#[test]
fn who_does_wrong_is_accused_of_it() {
    let first = seed() * 1_000_000 + 100_000;
    let mut all = 0;
    for (class, ways) in mutate::WRONGS {
        let done = spoilt(first, ways, WRONG, |seed, how, history| {
            let report = check(history);
            let accused = report.accusations.iter().any(|accusation| accusation.class == *class);
            assert!(
                accused,
                "seed {seed}, {how}: {class} is not among\n{report}\n{}",
                saved(history)
            );
        });
        let count: usize = done.values().sum();
        println!("checker: {class}: {count} histories, all accused: {done:?}");
        assert!(count >= 50);
        all += count;
    }
    assert!(
        mutate::WRONGS.len() == Class::ALL.len() && all >= 1_000,
        "{all} spoilt histories"
    );
}

#[test]
fn what_proves_nothing_is_rejected() {
    let first = seed() * 1_000_000 + 200_000;
    let done = spoilt(first, mutate::EMPTY, 300, |seed, how, history| {
        let report = check(history);
        assert!(!report.rejections.is_empty(), "seed {seed}, {how}:\n{report}");
        assert_ne!(report.verdict(), Verdict::Passed, "seed {seed}, {how}");
    });
    println!("checker: rejected: {done:?}");
}

#[test]
fn a_history_survives_being_saved() {
    let mut made = generate::history(seed());
    made.history.label = "a \"quoted\" label".to_owned();
    let text = serde_json::to_string(&made.history).expect("plain data");
    let again: History = serde_json::from_str(&text).expect("what was written is read");
    assert_eq!(again, made.history);
    let unknown = text.replacen("\"label\"", "\"lable\"", 1);
    let error = serde_json::from_str::<History>(&unknown).expect_err("an unknown field is refused");
    assert!(error.to_string().contains("lable"), "{error}");
}
