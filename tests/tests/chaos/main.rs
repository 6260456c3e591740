//! All mixes of faults, for less than a minute each: real processes, judged by what was seen of them from outside. `make chaos MINUTES=N`
//! does more of the same.
//!
//! Each test is a run of the program `chaos`, which makes itself name spaces of its own: what goes wrong in one leaves nothing behind.

use sched_tests::chaos::sandbox;
use std::process::Command;
use std::sync::{Mutex, PoisonError};

/// One at a time: five nodes are more than two cores carry with honest timing.
static ALONE: Mutex<()> = Mutex::new(());

/// Runs one scenario with a load of so many seconds.
fn mix(name: &str, seconds: u32) {
    if let Err(reason) = sandbox::possible() {
        let ci = std::env::var("CI").is_ok_and(|value| value == "true" || value == "1");
        assert!(!ci, "cannot run here, and CI is set: {reason:#}");
        eprintln!("NOT RUN: {reason:#}");
        return;
    }
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let mut chaos = Command::new(env!("CARGO_BIN_EXE_chaos"));
    chaos.args(["--mixes", name, "--seconds", &seconds.to_string()]);
    let output = chaos.output().unwrap_or_else(|error| panic!("{chaos:?}: {error}"));
    let (said, table) = (
        String::from_utf8_lossy(&output.stderr),
        String::from_utf8_lossy(&output.stdout),
    );
    println!("{said}\n{table}");
    assert!(output.status.success(), "{chaos:?}: {}\n{said}\n{table}", output.status);
}

#[test]
fn nodes_are_killed() {
    mix("kill", 45);
}

#[test]
fn nodes_stand_still() {
    mix("stop", 45);
}

#[test]
fn the_network_falls_apart() {
    mix("partition", 45);
}

#[test]
fn the_network_loses_and_delays() {
    mix("network", 35);
}

#[test]
fn clocks_jump() {
    mix("clock", 35);
}

#[test]
fn members_come_and_go() {
    mix("members", 40);
}

#[test]
fn the_power_is_cut() {
    mix("power", 30);
}

#[test]
fn disks_are_full_and_fail() {
    mix("disk", 40);
}

#[test]
fn a_folder_is_damaged() {
    mix("damage", 40);
}
