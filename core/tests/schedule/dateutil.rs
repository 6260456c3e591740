//! The recurrence engine against python-dateutil itself, on rules that are new each time.
//!
//! `SEED=n cargo test -p sched-core --test schedule fresh_rules` replays those of one seed.

use crate::oracle::{assert_none, compare};
use crate::support::{Bundled, fresh_seed};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Rules with an answer, over all processes.
const RULES: usize = 500;
/// dateutil walks, on one processor: two of it take half the time.
const PROCESSES: usize = 2;
/// Seconds that dateutil may take for a rule before another one is taken: nine in ten need less.
const LIMIT_S: &str = "0.25";

const TOP: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// Returns a Python that has dateutil: the one that `scripts/setup.sh test` made, or one of the machine's own.
fn python() -> Option<PathBuf> {
    let own = Path::new(TOP).join(".tools/dateutil/bin/python");
    [own, "python3".into(), "/usr/bin/python3".into()]
        .into_iter()
        .find(|python| {
            let probe = Command::new(python).args(["-c", "import dateutil.rrule"]).output();
            probe.is_ok_and(|output| output.status.success())
        })
}

/// Says why the test does nothing on this machine; with `CI=true` it fails instead.
fn cannot_run(reason: &str) {
    assert!(
        !std::env::var("CI").is_ok_and(|value| value == "true" || value == "1"),
        "cannot run here, and CI is set: {reason}"
    );
    eprintln!("NOT RUN: {reason}");
}

/// Returns random rules with dateutil's answers, one per line.
fn cases(python: &Path, seed: u64) -> String {
    let output = Command::new(python)
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/rrule_oracle.py"))
        .args(["--answered", "--limit-s", LIMIT_S])
        .args(["--seed", &seed.to_string()])
        .args(["--count", &RULES.div_ceil(PROCESSES).to_string()])
        .output()
        .unwrap_or_else(|error| panic!("{}: {error}", python.display()));
    assert!(
        output.status.success(),
        "{}: {}\n{}",
        python.display(),
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).expect("JSON is UTF-8")
}

#[test]
fn equals_python_dateutil_on_fresh_rules() {
    let Some(python) = python() else {
        return cannot_run("no Python with dateutil (scripts/setup.sh test installs it into .tools/)");
    };
    let seed = fresh_seed("equals_python_dateutil_on_fresh_rules");
    let parts: Vec<String> = std::thread::scope(|scope| {
        let processes: Vec<_> = (0..PROCESSES as u64)
            .map(|n| {
                let python = &python;
                scope.spawn(move || cases(python, seed.wrapping_add(n)))
            })
            .collect();
        processes
            .into_iter()
            .map(|process| process.join().expect("its process ended well"))
            .collect()
    });
    let compared = compare(&parts.concat(), &Bundled::new());
    assert!(compared.answered >= RULES, "only {} rules answered", compared.answered);
    assert_none(&compared.differences, compared.answered, &format!("SEED={seed}"));
}
