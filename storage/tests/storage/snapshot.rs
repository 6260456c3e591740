//! Snapshots: built, sent, received, installed, pruned, and used to rebuild the tables.

use crate::support::*;
use sched_core::tables::View;
use sched_storage::{Group, Manifest, ManifestFile, ReceivedSnapshot, SnapshotInfo, StorageError};
use std::fs;
use std::path::Path;

/// Sends a snapshot in chunks, out of order, some of them twice.
fn send(from: &Group, to: &Group, info: &SnapshotInfo) -> Result<ReceivedSnapshot, StorageError> {
    const CHUNK: u64 = 7001;
    let reader = from.snapshots.open(&info.id)?;
    let manifest = Manifest::decode(&reader.manifest().encode())?;
    let mut writer = to.snapshots.begin_receive(manifest.clone())?;
    for file in &manifest.files {
        let mut offsets: Vec<u64> = (0..file.size).step_by(CHUNK as usize).collect();
        offsets.reverse();
        offsets.extend(offsets.first().copied());
        for offset in offsets {
            let chunk = reader.read(&file.name, offset, CHUNK as usize)?;
            writer.write_chunk(&file.name, offset, &chunk)?;
        }
    }
    writer.finish()
}

/// Returns the first file of table data.
fn table_file(manifest: &Manifest) -> &ManifestFile {
    manifest.files.iter().find(|f| f.name.ends_with(".sst")).unwrap()
}

fn folders(path: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(path)
        .unwrap()
        .map(|e| e.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

#[test]
fn a_snapshot_travels_and_replaces_the_tables_under_running_readers() {
    let (a, b) = (folder(), folder());
    let (_dir_a, from) = open(a.path()).unwrap();
    apply(&from.state, 1..=2000);
    let info = from.snapshots.build().unwrap();
    assert_eq!(
        (info.applied.clone(), from.snapshots.newest()),
        (applied(2000), Some(info.clone()))
    );
    apply(&from.state, 2001..=2100);
    let state = b.path().join("groups/0/state");
    {
        let (_dir_b, to) = open(b.path()).unwrap();
        apply(&to.state, 1..=30);
        let before = to.state.view();
        let received = send(&from, &to, &info).unwrap();
        assert_eq!(received.info(), info);
        assert_eq!(dump(&to.state.view()), model(30), "received is not installed");
        assert_eq!(to.snapshots.install(received).unwrap(), info);
        assert_eq!(
            (to.state.applied().unwrap(), to.snapshots.newest()),
            (applied(2000), Some(info.clone()))
        );
        assert_eq!(dump(&to.state.view()), model(2000));
        assert_eq!(dump(&before), model(30), "a reader goes on with what it began");
        assert_eq!(folders(&state), ["1", "2", "CURRENT"]);
        drop(before);
        assert_eq!(folders(&state), ["2", "CURRENT"], "the last reader closes the door");
        apply(&to.state, 2001..=2050);
        // What was received can be sent on.
        let c = folder();
        let (_dir_c, third) = open(c.path()).unwrap();
        third.snapshots.install(send(&to, &third, &info).unwrap()).unwrap();
        assert_eq!(dump(&third.state.view()), model(2000));
        // The same one again is no harm.
        to.snapshots.install(send(&from, &to, &info).unwrap()).unwrap();
        assert_eq!(to.state.applied().unwrap(), applied(2000));
    }
    let (dir, again) = open(b.path()).unwrap();
    assert_eq!(
        (again.state.applied().unwrap(), again.snapshots.newest()),
        (applied(2000), Some(info))
    );
    assert_eq!(dump(&again.state.view()), model(2000));
    assert_eq!(folders(&dir.tmp_dir()), [""; 0], "nothing is left lying about");
}

#[test]
fn a_snapshot_of_empty_tables_can_be_installed() {
    let (a, b) = (folder(), folder());
    let ((_da, from), (_db, to)) = (open(a.path()).unwrap(), open(b.path()).unwrap());
    let info = from.snapshots.build().unwrap();
    apply(&to.state, 1..=5);
    to.snapshots.install(send(&from, &to, &info).unwrap()).unwrap();
    assert_eq!(
        (to.state.applied().unwrap().index(), dump(&to.state.view())),
        (None, model(0))
    );
}

#[test]
fn a_snapshot_taken_while_tables_change_holds_what_it_says() {
    let (a, b) = (folder(), folder());
    let ((_da, from), (_db, to)) = (open(a.path()).unwrap(), open(b.path()).unwrap());
    let infos = std::thread::scope(|scope| {
        let builder = scope.spawn(|| (0..5).map(|_| from.snapshots.build().unwrap()).collect::<Vec<_>>());
        let mut last = 0;
        while !builder.is_finished() {
            apply(&from.state, last + 1..=last + 20);
            last += 20;
        }
        builder.join().unwrap()
    });
    assert!(infos.windows(2).all(|w| w[0].applied.index() <= w[1].applied.index()));
    let info = infos.last().unwrap();
    to.snapshots.install(send(&from, &to, info).unwrap()).unwrap();
    assert_eq!(to.state.applied().unwrap(), info.applied);
    assert_eq!(dump(&to.state.view()), model(info.applied.index().unwrap_or(0)));
}

#[test]
fn old_snapshots_go_when_nobody_reads_them() {
    let tmp = folder();
    let (_dir, group) = open(tmp.path()).unwrap();
    let snap = tmp.path().join("groups/0/snap");
    apply(&group.state, 1..=10);
    let first = group.snapshots.build().unwrap();
    let reader = group.snapshots.open(&first.id).unwrap();
    for last in [20, 30, 40] {
        apply(&group.state, last - 9..=last);
        group.snapshots.build().unwrap();
    }
    assert_eq!(folders(&snap).len(), 3, "two, and the one that is read");
    assert!(group.snapshots.open(&first.id).is_err(), "no longer on offer");
    let file = table_file(reader.manifest());
    assert_eq!(reader.read(&file.name, 0, usize::MAX).unwrap().len() as u64, file.size);
    drop(reader);
    assert_eq!(folders(&snap).len(), 2);
    assert_eq!(group.snapshots.newest().unwrap().applied, applied(40));
}

#[test]
fn a_dropped_checkpoint_or_transfer_leaves_nothing() {
    let tmp = folder();
    let (dir, group) = open(tmp.path()).unwrap();
    apply(&group.state, 1..=10);
    let checkpoint = group.snapshots.checkpoint().unwrap();
    assert_eq!(checkpoint.applied(), &applied(10));
    drop(checkpoint);
    let info = group.snapshots.build().unwrap();
    let manifest = group.snapshots.open(&info.id).unwrap().manifest().clone();
    let mut writer = group.snapshots.begin_receive(manifest.clone()).unwrap();
    writer.write_chunk(&table_file(&manifest).name, 0, b"x").unwrap();
    assert_eq!(folders(&dir.tmp_dir()).len(), 1);
    drop(writer);
    assert_eq!(folders(&dir.tmp_dir()), [""; 0]);
}

#[test]
fn what_a_peer_sends_wrongly_is_refused() {
    let (a, b) = (folder(), folder());
    let ((_da, from), (_db, to)) = (open(a.path()).unwrap(), open(b.path()).unwrap());
    apply(&from.state, 1..=100);
    let info = from.snapshots.build().unwrap();
    let reader = from.snapshots.open(&info.id).unwrap();
    let manifest = reader.manifest().clone();
    let whole = |name: &str| reader.read(name, 0, usize::MAX).unwrap();

    let mut outside = manifest.clone();
    outside.files[0].name = "../../IDENTITY".to_owned();
    assert!(to.snapshots.begin_receive(outside).is_err());
    let mut outside = manifest.clone();
    outside.id = "../x".to_owned();
    assert!(to.snapshots.begin_receive(outside).is_err());

    let mut writer = to.snapshots.begin_receive(manifest.clone()).unwrap();
    let file = table_file(&manifest);
    for (name, offset) in [
        ("../IDENTITY", 0),
        ("no-such-file", 0),
        (&file.name, file.size),
        (&file.name, u64::MAX),
    ] {
        assert!(writer.write_chunk(name, offset, b"x").is_err(), "{name} at {offset}");
    }
    for file in &manifest.files {
        writer.write_chunk(&file.name, 0, &whole(&file.name)).unwrap();
    }
    let last = manifest.files.iter().rfind(|f| f.size > 0).unwrap();
    let mut altered = whole(&last.name).to_vec();
    altered[0] ^= 1;
    writer.write_chunk(&last.name, 0, &altered).unwrap();
    let e = writer.finish().err().unwrap();
    assert!(e.is_damage() && e.to_string().contains(&last.name), "{e}");

    let mut writer = to.snapshots.begin_receive(manifest.clone()).unwrap();
    for file in manifest.files.iter().filter(|f| f.name != file.name) {
        writer.write_chunk(&file.name, 0, &whole(&file.name)).unwrap();
    }
    let e = writer.finish().err().unwrap();
    assert!(e.to_string().contains("bytes instead of"), "{e}");
    assert_eq!(
        to.state.applied().unwrap().index(),
        None,
        "the tables stay as they were"
    );

    // Whole files under a manifest that claims more than they hold.
    let mut boastful = manifest.clone();
    boastful.applied = applied(5000);
    let mut writer = to.snapshots.begin_receive(boastful).unwrap();
    for file in &manifest.files {
        writer.write_chunk(&file.name, 0, &whole(&file.name)).unwrap();
    }
    let e = to.snapshots.install(writer.finish().unwrap()).err().unwrap();
    assert!(e.is_damage() && e.to_string().contains("manifest says"), "{e}");
    assert_eq!(
        to.state.applied().unwrap().index(),
        None,
        "the tables stay as they were"
    );
    apply(&to.state, 1..=3);
    assert_eq!(dump(&to.state.view()), model(3));
}

#[test]
fn a_damaged_snapshot_is_not_handed_out() {
    let tmp = folder();
    let (_dir, group) = open(tmp.path()).unwrap();
    apply(&group.state, 1..=100);
    let info = group.snapshots.build().unwrap();
    let name = table_file(group.snapshots.open(&info.id).unwrap().manifest())
        .name
        .clone();
    drop(group);
    drop(_dir);
    let path = tmp.path().join("groups/0/snap").join(&info.id).join(&name);
    let mut bytes = fs::read(&path).unwrap();
    bytes[0] ^= 1;
    // A new file, so that the tables' own link to the old one is not altered with it.
    fs::remove_file(&path).unwrap();
    fs::write(&path, bytes).unwrap();
    let (_dir, group) = open(tmp.path()).unwrap();
    let e = group.snapshots.open(&info.id).unwrap().read(&name, 0, 10).unwrap_err();
    assert!(e.is_damage() && e.to_string().contains(&name), "{e}");
}

#[test]
fn lost_tables_are_rebuilt_from_the_snapshot_behind_which_the_log_begins() {
    let tmp = folder();
    let state = tmp.path().join("groups/0/state");
    {
        let (_dir, group) = open(tmp.path()).unwrap();
        append_now(&group.log, entries(0..200));
        apply(&group.state, 1..=120);
        group.snapshots.build().unwrap();
        apply(&group.state, 121..=199);
        wait(group.log.purge(position(120))).unwrap();
    }
    fs::remove_dir_all(&state).unwrap();
    {
        let (_dir, group) = open(tmp.path()).unwrap();
        assert_eq!(group.state.applied().unwrap(), applied(120));
        apply(&group.state, 121..=199);
        assert_eq!(dump(&group.state.view()), model(199));
    }
    fs::remove_dir_all(&state).unwrap();
    fs::remove_dir_all(tmp.path().join("groups/0/snap")).unwrap();
    let e = open(tmp.path()).err().unwrap();
    let said = e.to_string();
    assert!(
        e.is_damage() && said.contains("purged up to entry 120") && said.contains("add it to the cluster"),
        "{said}"
    );
}

#[test]
fn an_interrupted_install_leaves_either_tables() {
    let (a, b) = (folder(), folder());
    let snap = b.path().join("groups/0/snap");
    let state = b.path().join("groups/0/state");
    let info = {
        let ((_da, from), (_db, to)) = (open(a.path()).unwrap(), open(b.path()).unwrap());
        apply(&from.state, 1..=300);
        apply(&to.state, 1..=10);
        from.snapshots.build().unwrap()
    };
    let holds = |last: u64| {
        let (_dir, to) = open(b.path()).unwrap();
        assert_eq!(to.state.applied().unwrap(), applied(last));
        assert_eq!(dump(&to.state.view()), model(last));
        to.snapshots.newest().map(|s| s.id)
    };
    // 1: in the middle of the transfer.
    fs::create_dir_all(b.path().join("tmp/receive-x")).unwrap();
    fs::write(b.path().join("tmp/receive-x/CURRENT"), b"half").unwrap();
    assert_eq!(holds(10), None);
    // 2: the snapshot is stored, the tables are not replaced yet.
    copy_tree(&a.path().join("groups/0/snap"), &snap);
    assert_eq!(holds(10), Some(info.id.clone()));
    // 3: its tables are half made.
    fs::create_dir(state.join("2")).unwrap();
    fs::copy(snap.join(&info.id).join("CURRENT"), state.join("2/CURRENT")).unwrap();
    assert_eq!(holds(10), Some(info.id.clone()));
    assert!(!state.join("2").exists());
    // 4: CURRENT was written aside, not yet renamed.
    fs::write(state.join("CURRENT.new"), b"2 ").unwrap();
    assert_eq!(holds(10), Some(info.id.clone()));
    // 5: the switch is made, the old tables are still there.
    let old = state.join("1");
    let kept = folder();
    copy_tree(&old, &kept.path().join("1"));
    {
        let ((_da, from), (_db, to)) = (open(a.path()).unwrap(), open(b.path()).unwrap());
        to.snapshots.install(send(&from, &to, &info).unwrap()).unwrap();
    }
    copy_tree(&kept.path().join("1"), &old);
    assert_eq!(holds(300), Some(info.id));
    assert!(!old.exists());
}

#[test]
fn views_are_dropped_without_the_store() {
    let tmp = folder();
    let (dir, group) = open(tmp.path()).unwrap();
    apply(&group.state, 1..=10);
    let (view, latest) = (group.state.view(), group.state.latest());
    drop((dir, group));
    assert_eq!(dump(&view), model(10));
    let key = 9u64.to_be_bytes();
    assert!(latest.get(sched_core::tables::Table::Tasks, &key).unwrap().is_some());
}
