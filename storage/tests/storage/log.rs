//! The log: order, visibility, and what is there after closing and opening.

use crate::support::*;
use bytes::Bytes;
use sched_storage::{DataDir, StorageOptions};
use std::sync::mpsc::channel;
use std::sync::{Arc, Barrier};

#[test]
fn entries_can_be_read_before_they_are_durable_and_after_reopening() {
    let tmp = folder();
    {
        let (_dir, group) = open(tmp.path()).unwrap();
        assert_eq!(group.log.first_index().unwrap(), None);
        assert_eq!(group.log.last_entry().unwrap(), None);
        let told = append(&group.log, entries(0..100));
        assert_eq!(group.log.read(0, 100, usize::MAX).unwrap(), entries(0..100));
        told.recv().unwrap().unwrap();
        wait(group.log.save_vote(Bytes::from_static(b"vote 1"))).unwrap();
        wait(group.log.save_vote(Bytes::from_static(b"vote 2"))).unwrap();
        group.log.save_committed(Some(position(42))).unwrap();
    }
    let (_dir, group) = open(tmp.path()).unwrap();
    let log = &group.log;
    assert_eq!(
        (log.first_index().unwrap(), log.last_entry().unwrap()),
        (Some(0), Some((99, entry(99))))
    );
    assert_eq!(log.read(0, 200, usize::MAX).unwrap(), entries(0..100));
    assert_eq!(log.read_vote().unwrap(), Some(Bytes::from_static(b"vote 2")));
    assert_eq!(log.read_committed().unwrap(), Some(position(42)));
    assert_eq!(log.read_purged().unwrap(), None);
}

#[test]
fn reads_cap_bytes_but_give_at_least_one_entry() {
    let tmp = folder();
    let (_dir, group) = open(tmp.path()).unwrap();
    let big = |i| (i, Bytes::from(vec![i as u8; 1000]));
    append_now(&group.log, (0..50).map(big).collect());
    // The first ones are on disk only, the last ones in memory.
    for from in [0, 10, 44, 45, 46, 47, 48] {
        assert_eq!(group.log.read(from, 50, 0).unwrap(), [big(from)], "from {from}");
        assert_eq!(group.log.read(from, 50, 1999).unwrap(), [big(from)], "from {from}");
        assert_eq!(
            group.log.read(from, 50, 2000).unwrap(),
            [big(from), big(from + 1)],
            "from {from}"
        );
    }
    assert_eq!(
        group.log.read(40, 50, usize::MAX).unwrap(),
        (40..50).map(big).collect::<Vec<_>>()
    );
    assert_eq!(group.log.read(50, 60, usize::MAX).unwrap(), []);
    assert_eq!(group.log.read(7, 7, usize::MAX).unwrap(), []);
    assert_eq!(group.log.read(9, 3, usize::MAX).unwrap(), []);
}

#[test]
fn truncated_entries_are_gone_and_their_places_taken_anew() {
    let tmp = folder();
    let newer = |i: u64| (i, Bytes::from(format!("newer {i}")));
    let check = |log: &sched_storage::LogStore| {
        assert_eq!(log.read(0, 31, usize::MAX).unwrap(), entries(0..31));
        assert_eq!(
            log.read(31, 99, usize::MAX).unwrap(),
            (31..40).map(newer).collect::<Vec<_>>()
        );
        assert_eq!(log.last_entry().unwrap(), Some(newer(39)));
    };
    {
        let (_dir, group) = open(tmp.path()).unwrap();
        append_now(&group.log, entries(0..1000));
        let durable = group.log.truncate_after(Some(30));
        assert_eq!(group.log.last_entry().unwrap(), Some((30, entry(30))), "at once");
        let told = append(&group.log, (31..40).map(newer).collect());
        check(&group.log);
        wait(durable).unwrap();
        told.recv().unwrap().unwrap();
        check(&group.log);
        wait(group.log.truncate_after(Some(500))).unwrap();
        check(&group.log);
    }
    {
        let (_dir, group) = open(tmp.path()).unwrap();
        check(&group.log);
        wait(group.log.truncate_after(None)).unwrap();
        assert_eq!(group.log.last_entry().unwrap(), None);
        append_now(&group.log, entries(0..3));
    }
    let (_dir, group) = open(tmp.path()).unwrap();
    assert_eq!(group.log.read(0, 99, usize::MAX).unwrap(), entries(0..3));
}

#[test]
fn purged_entries_are_gone_and_the_log_goes_on_behind_them() {
    let tmp = folder();
    {
        let (_dir, group) = open(tmp.path()).unwrap();
        append_now(&group.log, entries(0..300));
        apply(&group.state, 1..=100);
        let durable = group.log.purge(position(100));
        assert_eq!(group.log.first_index().unwrap(), Some(101), "at once");
        wait(durable).unwrap();
        wait(group.log.purge(position(50))).unwrap();
        assert_eq!(group.log.read_purged().unwrap(), Some(position(100)), "never backwards");
        assert!(wait(group.log.truncate_after(Some(20))).is_err());
        assert_eq!(group.log.read(0, 400, usize::MAX).unwrap(), entries(101..300));
    }
    {
        let (_dir, group) = open(tmp.path()).unwrap();
        let log = &group.log;
        assert_eq!(
            (log.first_index().unwrap(), log.read_purged().unwrap()),
            (Some(101), Some(position(100)))
        );
        assert_eq!(log.read(0, 400, usize::MAX).unwrap(), entries(101..300));
        // A snapshot from a peer may reach beyond the end.
        apply(&group.state, 101..=1000);
        wait(log.purge(position(1000))).unwrap();
        assert_eq!((log.first_index().unwrap(), log.last_entry().unwrap()), (None, None));
        assert!(
            append(log, entries(300..301)).recv().unwrap().is_err(),
            "the next one is 1001"
        );
        append_now(log, entries(1001..1005));
    }
    let (_dir, group) = open(tmp.path()).unwrap();
    assert_eq!(group.log.read(0, 4000, usize::MAX).unwrap(), entries(1001..1005));
}

#[test]
fn space_of_purged_entries_comes_back() {
    let tmp = folder();
    let (_dir, group) = open(tmp.path()).unwrap();
    let on_disk = || {
        let files = std::fs::read_dir(tmp.path().join("groups/0/log"))
            .unwrap()
            .map(|f| f.unwrap());
        let tables = files.filter(|f| f.file_name().to_string_lossy().ends_with(".sst"));
        tables.filter_map(|f| f.metadata().ok()).map(|m| m.len()).sum::<u64>()
    };
    let mut from = 0;
    let mut more = || {
        let entries = (from..from + 200).map(|i| (i, Bytes::from(vec![i as u8; 1000])));
        append_now(&group.log, entries.collect());
        wait(group.log.purge(position(from + 150))).unwrap();
        from += 200;
    };
    (0..100).for_each(|_| more());
    // 20 MB went through; what lies around are a few write buffers of 256 KiB, and what compactions have yet to do.
    for _ in 0..2000 {
        if on_disk() < 2 << 20 {
            return;
        }
        more();
    }
    panic!("{} bytes of tables", on_disk());
}

#[test]
fn holes_and_overlaps_are_refused() {
    let tmp = folder();
    let (_dir, group) = open(tmp.path()).unwrap();
    append_now(&group.log, entries(5..8));
    for bad in [entries(9..10), entries(7..8), [entries(8..9), entries(10..11)].concat()] {
        let e = append(&group.log, bad).recv().unwrap().unwrap_err();
        assert!(e.to_string().contains("append"), "{e}");
    }
    append_now(&group.log, entries(8..9));
    append_now(&group.log, Vec::new());
    assert_eq!(group.log.read(0, 99, usize::MAX).unwrap(), entries(5..9));
    assert!(group.log.failure().is_none(), "a refused call is not a failed disk");
}

#[test]
fn completions_come_in_the_order_of_the_calls() {
    let tmp = folder();
    let (_dir, group) = open(tmp.path()).unwrap();
    let (tell, told) = channel();
    for i in 0..2000u64 {
        let tell = tell.clone();
        let log = group.log.clone();
        group.log.append(
            entries(i..i + 1),
            Box::new(move |result| {
                result.unwrap();
                // Durable means also readable, and the handle is usable from here.
                assert_eq!(log.read(i, i + 1, 0).unwrap(), entries(i..i + 1));
                tell.send(i).unwrap();
            }),
        );
        if i % 100 == 0 {
            wait(group.log.save_vote(Bytes::from(i.to_string()))).unwrap();
            // In order with the vote: everything before it is durable too.
            assert_eq!(told.try_iter().last(), Some(i));
        }
    }
    drop(tell);
    assert_eq!(told.iter().last(), Some(1999));
    let stats = group.log.stats();
    assert!(
        stats.entries == 2000 && stats.syncs < 2000,
        "writers share syncs: {stats:?}"
    );
}

#[test]
fn readers_never_see_a_mixture_while_the_log_is_cut() {
    let tmp = folder();
    let options = StorageOptions {
        log_cache_bytes: 0,
        ..small()
    };
    let dir = DataDir::open_with(tmp.path(), options).unwrap();
    let log = dir.group(0).unwrap().log;
    let text = |round: u64, i: u64| (i, Bytes::from(format!("{round:06} {i}")));
    append_now(&log, (0..100).map(|i| text(0, i)).collect());
    let (rounds, readers) = (150, 3);
    let start = Arc::new(Barrier::new(readers + 1));
    let read = |log: sched_storage::LogStore, start: Arc<Barrier>| {
        move || {
            start.wait();
            let mut last = 0;
            while last < rounds {
                let found = log.read(40, 100, usize::MAX).unwrap();
                let of = |b: &Bytes| String::from_utf8_lossy(&b[..6]).parse::<u64>().unwrap();
                assert!(found.windows(2).all(|w| w[0].0 + 1 == w[1].0), "no hole");
                let Some((first, bytes)) = found.first() else { continue };
                assert_eq!(*first, 40);
                assert!(
                    found.iter().all(|(_, b)| of(b) == of(bytes)),
                    "one round, whole or its beginning"
                );
                assert!(of(bytes) >= last, "never backwards");
                last = of(bytes);
            }
        }
    };
    let threads: Vec<_> = (0..readers)
        .map(|_| std::thread::spawn(read(log.clone(), Arc::clone(&start))))
        .collect();
    start.wait();
    for round in 1..=rounds {
        let cut = log.truncate_after(Some(39));
        append_now(&log, (40..100).map(|i| text(round, i)).collect());
        wait(cut).unwrap();
    }
    threads.into_iter().for_each(|t| t.join().unwrap());
}

#[test]
fn a_panicking_callback_closes_the_log_and_leaves_nobody_waiting() {
    let tmp = folder();
    let (_dir, group) = open(tmp.path()).unwrap();
    group.log.append(entries(0..1), Box::new(|_| panic!("on purpose")));
    // Whether it comes in time for the same batch or not, it is answered.
    let _ = wait(group.log.save_vote(Bytes::from_static(b"v")));
    let refused = loop {
        if let Err(e) = wait(group.log.save_vote(Bytes::from_static(b"v"))) {
            break e;
        }
    };
    assert!(!refused.to_string().is_empty());
    assert!(append(&group.log, entries(1..2)).recv().is_ok_and(|r| r.is_err()));
    assert!(group.log.failure().is_some());
}

#[test]
fn the_last_handle_may_go_inside_a_callback() {
    let tmp = folder();
    let (tell, told) = channel();
    {
        let (_dir, group) = open(tmp.path()).unwrap();
        let log = group.log.clone();
        group.log.append(
            entries(0..1),
            Box::new(move |_| {
                drop(log);
                tell.send(()).unwrap();
            }),
        );
        // Dropping the group here leaves the callback's handle as the last one, or not: both must end well.
    }
    told.recv().unwrap();
}
