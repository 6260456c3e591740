//! The tables: the suite that the tables in memory pass too, and what closing and opening leaves.

use crate::support::*;
use sched_core::command::Fault;
use sched_core::tables::{Changes, Table, View, conformance};
use sched_storage::{Applied, DataDir, StateView};
use std::sync::atomic::{AtomicBool, Ordering};

struct OnDisk {
    state: sched_storage::StateStore,
    _tmp: tempfile::TempDir,
}

impl conformance::Store for OnDisk {
    type View = StateView;

    fn write(&mut self, changes: Changes) -> Result<(), Fault> {
        self.state
            .write(changes, &Applied::default())
            .map_err(|e| Fault::Storage(e.to_string()))
    }

    fn view(&self) -> Result<StateView, Fault> {
        // What the view of the writing thread says must not differ.
        let (view, latest) = (self.state.view(), self.state.latest());
        assert_eq!(dump(&view), dump(&latest));
        Ok(view)
    }
}

#[test]
fn tables_on_disk_conform() {
    let make = || {
        let tmp = folder();
        let (_, group) = open(tmp.path()).unwrap();
        OnDisk {
            state: group.state,
            _tmp: tmp,
        }
    };
    conformance::run(make).unwrap();
}

#[test]
fn closing_keeps_everything_although_nothing_is_synced() {
    let tmp = folder();
    for last in [10, 500, 3000] {
        let (_dir, group) = open(tmp.path()).unwrap();
        let from = group.state.applied().unwrap().index().unwrap_or(0);
        assert_eq!(dump(&group.state.view()), model(from));
        apply(&group.state, from + 1..=last);
    }
    let (_dir, group) = open(tmp.path()).unwrap();
    assert_eq!(group.state.applied().unwrap(), applied(3000));
    assert_eq!(dump(&group.state.view()), model(3000));
}

#[test]
fn a_view_and_its_applied_record_are_of_one_moment() {
    let tmp = folder();
    let (_dir, group) = open(tmp.path()).unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut seen = 0;
            while !done.load(Ordering::Relaxed) {
                let view = group.state.view();
                let index = view.applied().unwrap().index().unwrap_or(0);
                let newest = view.scan_back(Table::Waiting, b"", END, 1).unwrap();
                let newest = newest
                    .first()
                    .map_or(0, |(k, _)| u64::from_be_bytes(k[..].try_into().unwrap()));
                assert_eq!(newest, index);
                seen += 1;
            }
            seen
        });
        apply(&group.state, 1..=3000);
        done.store(true, Ordering::Relaxed);
        assert!(reader.join().unwrap() > 0);
    });
}

#[test]
fn missing_tables_are_rebuilt_from_the_log_as_long_as_it_begins_at_its_beginning() {
    let tmp = folder();
    {
        let (_dir, group) = open(tmp.path()).unwrap();
        append_now(&group.log, entries(0..10));
        apply(&group.state, 1..=9);
    }
    std::fs::remove_dir_all(tmp.path().join("groups/0/state")).unwrap();
    let (_dir, group) = open(tmp.path()).unwrap();
    assert_eq!(
        group.state.applied().unwrap(),
        Applied::default(),
        "everything is to be applied again"
    );
    assert_eq!(group.log.read(0, 10, usize::MAX).unwrap(), entries(0..10));
}

#[test]
fn leftovers_of_other_tables_are_removed() {
    let tmp = folder();
    drop(open(tmp.path()).unwrap());
    let state = tmp.path().join("groups/0/state");
    std::fs::create_dir(state.join("99")).unwrap();
    std::fs::write(state.join("99/half"), b"x").unwrap();
    let dir = DataDir::open_with(tmp.path(), small()).unwrap();
    let _group = dir.group(0).unwrap();
    assert!(!state.join("99").exists());
}
