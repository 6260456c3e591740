//! Damage to any file: found and named, or made good without loss; never a panic, never silence.

use crate::support::*;
use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use sched_storage::StorageError;
use std::collections::BTreeMap;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

const LAST: u64 = 1500;
const SNAPSHOT: u64 = 600;
const PURGED: u64 = 400;

/// Makes a folder that has every kind of file: log files, tables of log and state, a snapshot.
fn prepare(path: &Path) {
    let (dir, group) = open(path).unwrap();
    dir.set_cluster([3; 16]).unwrap();
    dir.save_formation(b"members").unwrap();
    wait(group.log.save_vote(Bytes::from_static(b"vote"))).unwrap();
    for from in (0..LAST).step_by(50) {
        append_now(&group.log, long(from..from + 50));
        apply(&group.state, from.max(1)..=from + 49);
        if from + 49 == SNAPSHOT - 1 {
            apply(&group.state, SNAPSHOT..=SNAPSHOT);
            group.snapshots.build().unwrap();
            wait(group.log.purge(position(PURGED))).unwrap();
        }
    }
    group.log.save_committed(Some(position(LAST - 1))).unwrap();
    wait(group.log.save_vote(Bytes::from_static(b"last vote"))).unwrap();
}

fn long(range: std::ops::Range<u64>) -> Vec<(u64, Bytes)> {
    range.map(|i| (i, Bytes::from(format!("{i:06}").repeat(60)))).collect()
}

/// Opens a folder and uses everything in it.
fn use_everything(path: &Path) -> Result<(), StorageError> {
    let (dir, group) = open(path)?;
    assert_eq!(dir.identity().cluster, Some([3; 16]));
    if let Some(formation) = dir.read_formation()? {
        assert_eq!(formation, b"members");
    }
    assert_eq!(group.log.read_vote()?, Some(Bytes::from_static(b"last vote")));
    assert_eq!(group.log.read_purged()?, Some(position(PURGED)));
    let found = group.log.read(0, u64::MAX, usize::MAX)?;
    assert!(found == long(PURGED + 1..LAST), "{} entries", found.len());
    let view = group.state.view();
    let applied = view.applied()?.index().unwrap_or(0);
    assert!(
        (PURGED..LAST).contains(&applied),
        "the log still has what the tables lack: {applied}"
    );
    let tables = catch_unwind(AssertUnwindSafe(|| dump(&view)));
    match tables {
        Ok(tables) => assert!(tables == model(applied), "tables up to {applied}"),
        // A fault that the view reports, as `dump` unwraps it: the state machine passes it on.
        Err(panic) => {
            let said = panic.downcast_ref::<String>().cloned().unwrap_or_default();
            assert!(said.contains("damaged"), "{said}");
            return group
                .state
                .write(Vec::new(), &crate::support::applied(applied))
                .and(Err(fault(said)));
        }
    }
    let newest = group.snapshots.newest();
    if let Some(info) = newest {
        let reader = group.snapshots.open(&info.id)?;
        for file in reader.manifest().files.clone() {
            reader.read(&file.name, 0, usize::MAX)?;
        }
    }
    // It is not enough to have looked: the node goes on.
    append_now(&group.log, long(LAST..LAST + 1));
    group.state.write(Vec::new(), &crate::support::applied(applied))?;
    Ok(())
}

fn fault(said: String) -> StorageError {
    StorageError::Database {
        path: PathBuf::from("view"),
        action: "read the tables",
        problem: said,
    }
}

fn all_files(path: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(path).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            files.extend(all_files(&entry.path()));
        } else {
            files.push(entry.path());
        }
    }
    files.sort();
    files
}

/// One way to damage a file; `None` when it does not fit the file.
fn damages(bytes: &[u8], dice: &mut StdRng) -> Vec<(String, Option<Vec<u8>>)> {
    let mut all = vec![("deleted".to_owned(), None)];
    if bytes.is_empty() {
        return all;
    }
    let mut places = vec![0, bytes.len() / 2, bytes.len() - 1];
    places.extend((0..5).map(|_| dice.random_range(0..bytes.len())));
    for at in places {
        let mut flipped = bytes.to_vec();
        flipped[at] ^= 1 << dice.random_range(0..8);
        all.push((format!("bit flipped in byte {at}"), Some(flipped)));
    }
    for len in [0, bytes.len() / 3, bytes.len() - 1] {
        all.push((format!("cut to {len} bytes"), Some(bytes[..len].to_vec())));
    }
    let mut zeroed = bytes.to_vec();
    let from = dice.random_range(0..bytes.len());
    let to = (from + 4096).min(bytes.len());
    zeroed[from..to].fill(0);
    all.push((format!("bytes {from}..{to} zeroed"), Some(zeroed)));
    all
}

/// Files in the same place that end alike are of one kind.
fn kind_of(relative: &Path) -> String {
    let end = relative.extension().or(relative.file_name());
    relative.with_file_name(end.unwrap()).display().to_string()
}

fn a_few_of_each_kind(whole: &Path, dice: &mut StdRng) -> Vec<PathBuf> {
    let mut kinds = BTreeMap::<String, Vec<PathBuf>>::new();
    for file in all_files(whole) {
        let kind = kind_of(file.strip_prefix(whole).unwrap());
        kinds.entry(kind).or_default().push(file);
    }
    for files in kinds.values_mut() {
        while files.len() > 4 {
            files.remove(dice.random_range(0..files.len()));
        }
    }
    kinds.into_values().flatten().collect()
}

#[test]
fn damage_anywhere_is_named_or_made_good() {
    let seed = std::env::var("SEED")
        .ok()
        .and_then(|s| s.parse().ok())
        .unwrap_or_else(rand::random);
    println!("SEED={seed}");
    let mut dice = StdRng::seed_from_u64(seed);
    let tmp = folder();
    let (whole, copy) = (tmp.path().join("whole"), tmp.path().join("copy"));
    prepare(&whole);
    copy_tree(&whole, &copy);
    use_everything(&copy).unwrap();
    let mut kinds = BTreeMap::<String, (u32, u32)>::new();
    for file in a_few_of_each_kind(&whole, &mut dice) {
        let relative = file.strip_prefix(&whole).unwrap().to_owned();
        for (what, bytes) in damages(&fs::read(&file).unwrap(), &mut dice) {
            fs::remove_dir_all(&copy).unwrap();
            copy_tree(&whole, &copy);
            let target = copy.join(&relative);
            match bytes {
                Some(bytes) => fs::write(&target, bytes).unwrap(),
                None => fs::remove_file(&target).unwrap(),
            }
            let case = format!("{} {what}", relative.display());
            let outcome = catch_unwind(AssertUnwindSafe(|| use_everything(&copy)));
            let Ok(outcome) = outcome else {
                panic!("{case}: silent loss or a panic")
            };
            let kind = kind_of(&relative);
            let count = kinds.entry(kind).or_default();
            match outcome {
                Ok(()) => count.0 += 1,
                Err(e) => {
                    count.1 += 1;
                    let said = e.to_string();
                    assert!(e.is_damage() || said.contains("damaged"), "{case}: {said}");
                    assert!(said.contains(copy.to_str().unwrap()), "{case} names no file: {said}");
                }
            }
        }
    }
    for (kind, (good, named)) in kinds {
        println!("{kind}: {good} made good, {named} named");
    }
}

#[test]
fn a_log_that_is_gone_is_not_begun_anew() {
    let tmp = folder();
    prepare(tmp.path());
    fs::remove_dir_all(tmp.path().join("groups/0/log")).unwrap();
    let e = open(tmp.path()).err().unwrap();
    assert!(e.is_damage(), "{e}");
    fs::remove_file(tmp.path().join("groups/0/SYNCED")).unwrap();
    let e = open(tmp.path()).err().unwrap();
    assert!(e.is_damage() && e.to_string().contains("vote"), "{e}");
}
