//! The data folder: identity, lock, layout.

use crate::support::*;
use sched_storage::{DataDir, StorageError};
use std::fs;

#[test]
fn a_node_keeps_its_id_and_learns_its_cluster_once() {
    let tmp = folder();
    let path = tmp.path().join("a/b/data");
    let first = DataDir::open(&path).unwrap();
    let identity = first.identity();
    assert!(identity.node.0 > 0 && identity.node.0 < 1 << 63 && identity.cluster.is_none());
    assert!(first.worker_dir().is_dir() && first.tmp_dir().is_dir());
    first.set_cluster([7; 16]).unwrap();
    first.set_cluster([7; 16]).unwrap();
    let other = first.set_cluster([8; 16]).unwrap_err();
    assert!(matches!(other, StorageError::OtherCluster { .. }), "{other}");
    assert!(other.to_string().contains(&"07".repeat(16)), "{other}");
    drop(first);
    let again = DataDir::open(&path).unwrap().identity();
    assert_eq!((again.node, again.cluster), (identity.node, Some([7; 16])));
    let elsewhere = DataDir::open(&tmp.path().join("other")).unwrap().identity();
    assert_ne!(elsewhere.node, identity.node);
}

#[test]
fn a_second_process_is_kept_out_as_long_as_anything_is_open() {
    let tmp = folder();
    let (dir, group) = open(tmp.path()).unwrap();
    assert!(matches!(DataDir::open(tmp.path()), Err(StorageError::InUse { .. })));
    assert!(
        matches!(dir.group(0), Err(StorageError::Misuse { .. })),
        "a group is opened once"
    );
    drop(dir);
    assert!(matches!(DataDir::open(tmp.path()), Err(StorageError::InUse { .. })));
    let view = group.state.view();
    drop(group);
    assert!(
        matches!(DataDir::open(tmp.path()), Err(StorageError::InUse { .. })),
        "a view holds on to the folder"
    );
    drop(view);
    open(tmp.path()).unwrap();
}

#[test]
fn the_formation_is_kept_until_it_is_cleared() {
    let tmp = folder();
    let dir = DataDir::open(tmp.path()).unwrap();
    assert_eq!(dir.read_formation().unwrap(), None);
    dir.save_formation(b"one").unwrap();
    dir.save_formation(b"two").unwrap();
    drop(dir);
    let dir = DataDir::open(tmp.path()).unwrap();
    assert_eq!(dir.read_formation().unwrap(), Some(b"two".to_vec()));
    dir.clear_formation().unwrap();
    dir.clear_formation().unwrap();
    assert_eq!(dir.read_formation().unwrap(), None);
}

#[test]
fn work_in_progress_is_wiped_and_the_workers_files_stay() {
    let tmp = folder();
    let dir = DataDir::open(tmp.path()).unwrap();
    fs::create_dir(dir.tmp_dir().join("half")).unwrap();
    fs::write(dir.tmp_dir().join("half/file"), b"x").unwrap();
    fs::write(dir.worker_dir().join("journal"), b"x").unwrap();
    drop(dir);
    let dir = DataDir::open(tmp.path()).unwrap();
    assert_eq!(fs::read_dir(dir.tmp_dir()).unwrap().count(), 0);
    assert!(dir.worker_dir().join("journal").is_file());
}

#[test]
fn a_folder_with_something_else_in_it_is_refused() {
    let tmp = folder();
    fs::write(tmp.path().join("thesis.tex"), b"x").unwrap();
    let e = DataDir::open(tmp.path()).err().unwrap();
    assert!(e.to_string().contains("thesis.tex"), "{e}");
    let fresh_file_system = folder();
    fs::create_dir(fresh_file_system.path().join("lost+found")).unwrap();
    DataDir::open(fresh_file_system.path()).unwrap();
}

#[test]
fn another_format_and_a_damaged_or_missing_identity_stop_the_node() {
    let tmp = folder();
    drop(open(tmp.path()).unwrap());
    let path = tmp.path().join("IDENTITY");
    let whole = fs::read(&path).unwrap();
    // The second byte is the version of the record; the checksum is made to fit.
    let mut newer = whole[..whole.len() - 4].to_vec();
    newer[1] = 9;
    let crc = crc32c::crc32c(&newer);
    newer.extend_from_slice(&crc.to_le_bytes());
    fs::write(&path, &newer).unwrap();
    let e = DataDir::open(tmp.path()).err().unwrap();
    assert!(matches!(e, StorageError::Format { found: 9, .. }), "{e}");
    for i in 0..whole.len() {
        let mut bad = whole.clone();
        bad[i] ^= 0x20;
        fs::write(&path, &bad).unwrap();
        let e = DataDir::open(tmp.path()).err().unwrap();
        assert!(e.is_damage() && e.to_string().contains("IDENTITY"), "byte {i}: {e}");
        fs::write(&path, &whole[..i]).unwrap();
        assert!(DataDir::open(tmp.path()).err().unwrap().is_damage(), "length {i}");
    }
    fs::remove_file(&path).unwrap();
    let e = DataDir::open(tmp.path()).err().unwrap();
    assert!(e.is_damage() && e.to_string().contains("missing"), "{e}");
}
