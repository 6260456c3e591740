//! The built daemon as the guard of what a worker runs.
#![allow(clippy::unwrap_used, reason = "a test that fails should say where")]

use std::io::Write;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, Stdio};

/// As in `schednode::worker::guard`; the library is not linked for one constant.
const GUARD_ARG: &str = "guard-process-groups";

fn sleeper() -> Child {
    Command::new("sleep").arg("1000").process_group(0).spawn().unwrap()
}

#[test]
fn when_the_worker_is_gone_its_guard_ends_what_it_still_ran_and_nothing_else() {
    let mut guard = Command::new(env!("CARGO_BIN_EXE_schednode"))
        .arg(GUARD_ARG)
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let (mut left, mut ended, mut never) = (sleeper(), sleeper(), sleeper());
    let mut pipe = guard.stdin.take().unwrap();
    writeln!(pipe, "+{}\n+{}\n-{}", left.id(), ended.id(), ended.id()).unwrap();
    drop(pipe);
    assert!(guard.wait().unwrap().success());
    assert_eq!(left.wait().unwrap().signal(), Some(15));
    for other in [&mut ended, &mut never] {
        assert_eq!(other.try_wait().unwrap(), None, "not the guard's business");
        other.kill().unwrap();
        other.wait().unwrap();
    }
}
