//! The judge judged: it accuses nobody who did right, and everybody who did wrong, of what he did.

mod calls;
mod generate;
mod mutate;

use mutate::Mutation;
use sched_tests::checker::{
    Answer, Class, Delivery, History, Plan, Process, RunFound, TaskAsked, TaskFound, Verdict, check,
};
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

#[test]
fn a_saved_history_is_judged_by_the_program_alike() {
    let mut made = generate::history(seed());
    let folder = tempfile::tempdir().expect("a folder");
    let judged = |name: &str, text: &[u8]| {
        let file = folder.path().join(name);
        std::fs::write(&file, text).expect("written");
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_sched-check"))
            .arg(&file)
            .output()
            .expect("it runs");
        (
            output.status.code(),
            String::from_utf8_lossy(&output.stdout).into_owned(),
        )
    };
    let json = |history: &History| serde_json::to_vec(history).expect("plain data");
    assert_eq!(judged("good", &json(&made.history)).0, Some(0));
    let nodes = made.history.nodes.clone();
    made.history.nodes.push("n9".to_owned());
    assert_eq!(judged("empty", &json(&made.history)).0, Some(3));
    made.history.nodes = nodes;
    let process = made.history.processes[0].clone();
    made.history.processes.push(process);
    let (status, text) = judged("wrong", &json(&made.history));
    assert!(status == Some(1) && text.contains("doubled"), "{status:?} {text}");
    assert_eq!(judged("nonsense", b"{}").0, Some(2));
}

/// As long as a night of chaos: a judge that takes the square of that would never be asked.
#[test]
fn a_long_history_is_judged_in_seconds() {
    const SUBMITS: u64 = 100_000;
    const OCCURRENCES: i64 = 40_000;
    let mut history = generate::history(seed()).history;
    let (started, id) = (history.started_at_ms, 1_000_000);
    history.ended_at_ms = started + OCCURRENCES * 100 + 60_000;
    let accepted = |task| Answer::Accepted { task, at_ms: started };
    let asked = |key: String, task, plan| TaskAsked {
        key,
        asked_at_ms: started,
        answer: accepted(task),
        delivery: Delivery::AtLeastOnce,
        plan,
        watched: true,
        success_codes: vec![0],
        tries_max: 1,
        may_skip: false,
        retry_delay_ms_max: 0,
        dequeued: None,
        triggers: Vec::new(),
    };
    let found = |key: String, id, runs| TaskFound {
        key,
        id,
        state: "QUEUED".to_owned(),
        runs,
        ledger: Vec::new(),
    };
    let every = Plan::Every {
        first_ms: started + 100,
        every_ms: 100,
        last_ms: Some(started + OCCURRENCES * 100),
    };
    history.tasks = vec![asked("often".to_owned(), id, every)];
    history
        .tasks
        .extend((1..=SUBMITS).map(|n| asked(format!("t{n}"), n, Plan::Manual)));
    let run = |n: i64| RunFound {
        run: format!("{id}:{n}"),
        state: "FINISHED".to_owned(),
        scheduled_at_ms: started + n * 100,
        manual: false,
        waits: false,
        attempts: 1,
        success_token: None,
        stale_reports: 0,
        losses: 0,
    };
    let mut tasks = vec![found("often".to_owned(), id, (1..=OCCURRENCES).map(run).collect())];
    tasks.extend((1..=SUBMITS).map(|n| found(format!("t{n}"), n, Vec::new())));
    let process = |n: i64| Process {
        key: "often".to_owned(),
        run: format!("{id}:{n}"),
        attempt: 1,
        token: format!("{n}.0"),
        scheduled_at_ms: started + n * 100,
        started_at_ms: started + n * 100 + 7,
        ended_at_ms: Some(started + n * 100 + 9),
        exit_code: Some(0),
        worker: String::new(),
    };
    history.processes = (1..=OCCURRENCES).map(process).collect();
    for replica in &mut history.replicas {
        replica.read_at_ms = history.ended_at_ms;
        replica.tasks.clone_from(&tasks);
    }
    let begun = cpu_time();
    let report = check(&history);
    let took = cpu_time() - begun;
    assert_eq!(report.verdict(), Verdict::Passed, "{report}");
    println!(
        "checker: {SUBMITS} tasks and {OCCURRENCES} occurrences on {} replicas: {took:?}",
        history.nodes.len()
    );
    // Some seconds without optimisation.
    assert!(took < std::time::Duration::from_secs(30), "{took:?}");
}

/// This thread's own: what else the machine does is not counted.
fn cpu_time() -> std::time::Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    std::time::Duration::new(now.tv_sec.unsigned_abs(), u32::try_from(now.tv_nsec).unwrap_or(0))
}
