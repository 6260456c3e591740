//! What the tests share: folders, entries, changes, and waiting for the log.

use bytes::Bytes;
use sched_core::tables::{Change, Changes, Pair, Table, View};
use sched_storage::{Applied, DataDir, Group, LogPosition, LogStore, StateStore, StorageError, StorageOptions};
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};

pub(crate) const END: &[u8] = &[0xff; 40];

/// Bounds so small that everything spills: memory, files, snapshots.
pub(crate) fn small() -> StorageOptions {
    StorageOptions {
        log_cache_bytes: 4 << 10,
        log_buffer_bytes: 256 << 10,
        // Each table takes a little of it at once: less would be flushed with every write.
        state_buffer_bytes: 4 << 20,
        block_cache_bytes: 1 << 20,
        snapshots_kept: 2,
    }
}

/// Makes a folder for a test: in memory where there is such a file system. A killed process loses nothing there either,
/// and a sync costs nothing; what a power cut does is not tested here.
pub(crate) fn folder() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm")
        .or_else(|_| tempfile::tempdir())
        .unwrap()
}

pub(crate) fn open(path: &Path) -> Result<(DataDir, Group), StorageError> {
    let dir = DataDir::open_with(path, small())?;
    let group = dir.group(0)?;
    Ok((dir, group))
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Runs a future on this thread, without a runtime.
pub(crate) fn wait<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(value) => return value,
            Poll::Pending => thread::park(),
        }
    }
}

pub(crate) fn entry(index: u64) -> Bytes {
    Bytes::from(format!("entry {index} {}", "x".repeat(index as usize % 50)))
}

pub(crate) fn entries(range: std::ops::Range<u64>) -> Vec<(u64, Bytes)> {
    range.map(|i| (i, entry(i))).collect()
}

/// Appends without waiting; the receiver gets the outcome.
pub(crate) fn append(log: &LogStore, entries: Vec<(u64, Bytes)>) -> Receiver<Result<(), StorageError>> {
    let (tell, told) = channel();
    log.append(entries, Box::new(move |result| drop(tell.send(result))));
    told
}

/// Appends and waits until it is durable.
pub(crate) fn append_now(log: &LogStore, entries: Vec<(u64, Bytes)>) {
    append(log, entries).recv().unwrap().unwrap();
}

pub(crate) fn position(index: u64) -> LogPosition {
    LogPosition {
        term: 1,
        node: 7,
        index,
    }
}

pub(crate) fn applied(index: u64) -> Applied {
    Applied {
        last: Some(position(index)),
        membership: b"members".to_vec(),
    }
}

/// What applying entry `index` changes: a function of the index, over several tables, with removals.
pub(crate) fn changes(index: u64) -> Changes {
    let key = |i: u64| i.to_be_bytes().to_vec();
    let put = |table, i: u64| Change::Put {
        table,
        key: key(i),
        value: format!("{index}").repeat(20).into_bytes(),
    };
    let mut changes = vec![
        put(Table::Tasks, index),
        put(Table::Waiting, index),
        put(Table::Meta, 0),
    ];
    if index >= 3 {
        changes.push(Change::Delete {
            table: Table::Waiting,
            key: key(index - 3),
        });
    }
    if index.is_multiple_of(50) {
        changes.push(Change::DeleteRange {
            table: Table::Tasks,
            from: key(index.saturating_sub(40)),
            to: key(index.saturating_sub(20)),
        });
    }
    changes
}

/// Applies entries to the tables, as the state machine does.
pub(crate) fn apply(state: &StateStore, range: std::ops::RangeInclusive<u64>) {
    for index in range {
        state.write(changes(index), &applied(index)).unwrap();
    }
}

/// Returns all tables of a view.
pub(crate) fn dump(view: &impl View) -> Vec<Vec<Pair>> {
    Table::ALL
        .iter()
        .map(|table| view.scan(*table, b"", END, 1_000_000).unwrap())
        .collect()
}

/// Returns all tables as they are after applying the entries up to `last`.
pub(crate) fn model(last: u64) -> Vec<Vec<Pair>> {
    let mut model = sched_core::tables::MemTables::new();
    (1..=last).for_each(|index| model.write(changes(index)));
    dump(&model)
}

/// Copies a folder with everything in it.
pub(crate) fn copy_tree(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_tree(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), &target).unwrap();
        }
    }
}
