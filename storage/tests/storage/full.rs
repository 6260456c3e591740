//! A disk that takes no more: the log says so once, stays closed, and keeps what it acknowledged.
//!
//! A limit on the size of files stands in for a full disk: the write fails in the same place.

use crate::support::*;
use bytes::Bytes;
use sched_storage::{DataDir, StorageError, StorageOptions};
use std::path::Path;
use std::process::Command;

const CHILD: &str = "SCHED_STORAGE_FULL_CHILD";

fn big(i: u64) -> Vec<(u64, Bytes)> {
    vec![(i, Bytes::from(vec![i as u8; 10_000]))]
}

/// The child's half: does nothing unless started by the test below.
#[test]
fn child() {
    let Ok(path) = std::env::var(CHILD) else { return };
    // One long log file, which meets the limit before a write buffer is full.
    let options = StorageOptions {
        log_buffer_bytes: 64 << 20,
        ..small()
    };
    let dir = DataDir::open_with(Path::new(&path), options).unwrap();
    let log = dir.group(0).unwrap().log;
    for i in 0..1000 {
        let Err(first) = append(&log, big(i)).recv().unwrap() else {
            println!("ack {i}");
            continue;
        };
        println!("refused {first}");
        assert!(matches!(first, StorageError::Database { .. }), "{first}");
        assert!(log.failure().is_some());
        for again in [
            append(&log, big(i)).recv().unwrap(),
            wait(log.save_vote(Bytes::from_static(b"v"))),
        ] {
            let closed = again.unwrap_err();
            assert!(matches!(closed, StorageError::Closed(_)), "{closed}");
        }
        assert!(log.save_committed(Some(position(1))).is_err());
        return;
    }
    panic!("the limit was never met");
}

#[test]
fn a_full_disk_closes_the_log_and_loses_nothing() {
    let tmp = folder();
    let exe = std::env::current_exe().unwrap();
    let script = "trap '' XFSZ; ulimit -f 4000; exec \"$0\" --exact full::child --nocapture --test-threads=1";
    let out = Command::new("sh")
        .arg("-c")
        .arg(script)
        .arg(exe)
        .env(CHILD, tmp.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&out.stdout);
    assert!(out.status.success(), "{said}\n{}", String::from_utf8_lossy(&out.stderr));
    let acknowledged: Vec<u64> = said
        .lines()
        .filter_map(|l| l.split_once("ack ")?.1.parse().ok())
        .collect();
    assert!(acknowledged.len() > 20 && said.contains("refused"), "{said}");
    let (_dir, group) = open(tmp.path()).unwrap();
    let found = group.log.read(0, u64::MAX, usize::MAX).unwrap();
    let wanted: Vec<_> = acknowledged.iter().flat_map(|i| big(*i)).collect();
    // Not `assert_eq`: the entries are long.
    assert!(
        found.starts_with(&wanted),
        "{} entries of {}",
        found.len(),
        wanted.len()
    );
    // With room again the node goes on.
    let next = found.len() as u64;
    append_now(&group.log, big(next));
}
