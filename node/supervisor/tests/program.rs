//! The program by itself, as the daemon starts it.
#![allow(clippy::unwrap_used, reason = "a test that fails should say where")]

use sched_supervisor::{SUPERVISOR_ARG, Spec};
use std::io::{BufRead, BufReader};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::time::Duration;

const PROGRAM: &str = env!("CARGO_BIN_EXE_sched-supervise-1");

#[test]
fn its_name_is_the_one_that_the_daemon_looks_for() {
    let name = std::path::Path::new(PROGRAM).file_name();
    assert_eq!(name, Some(sched_supervisor::PROGRAM.as_ref()));
}

#[test]
fn started_by_hand_it_says_who_starts_it() {
    for args in [&[][..], &["--help"], &["run"]] {
        let output = Command::new(PROGRAM).args(args).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains("schednode starts this program"), "{said}");
    }
}

/// Starts it with these arguments, and returns what it tells the agent until it ends.
fn told(args: impl IntoIterator<Item = std::ffi::OsString>) -> Vec<String> {
    let (ours, theirs) = UnixStream::pair().unwrap();
    ours.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let mut command = Command::new(PROGRAM);
    command
        .arg(SUPERVISOR_ARG)
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::from(OwnedFd::from(theirs)));
    let mut child = command.spawn().unwrap();
    // It holds the other end of the socket until then.
    drop(command);
    let lines: Vec<String> = BufReader::new(&ours).lines().map(Result::unwrap).collect();
    assert!(child.wait().unwrap().success());
    lines
}

#[test]
fn it_tells_of_the_start_and_the_end_and_ends_when_nothing_is_left() {
    let dir = tempfile::tempdir().unwrap();
    let marker = dir.path().join("late");
    let spec = Spec {
        // The child leaves its parent behind; the supervisor ends with the last of them, not with the first.
        argv: ["/bin/sh", "-c", "(sleep 0.3; : > late) & exit 3"]
            .map(str::to_owned)
            .to_vec(),
        dir: dir.path().to_owned(),
        lock: dir.path().join("lock"),
        ..Spec::default()
    };
    let lines = told(spec.encode());
    assert!(lines[0].starts_with("started "), "{lines:?}");
    assert_eq!(lines[1], format!("ended {}", 3 << 8), "{lines:?}");
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(marker.exists(), "it ended before its tree");
}

#[test]
fn what_it_does_not_understand_is_refused_and_starts_nothing() {
    for args in [&["--"][..], &["what=1", "--", "/bin/true"], &[]] {
        let lines = told(args.iter().map(Into::into));
        assert_eq!(
            lines,
            [format!("failed {}", rustix::io::Errno::INVAL.raw_os_error())],
            "{args:?}"
        );
    }
}
