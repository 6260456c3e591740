//! How fast the log takes synced batches, the tables take changes, and a folder opens again.
//!
//! ```text
//! cargo run -p sched-storage --example log_throughput -- [FOLDER]
//! ```
//!
//! The folder must be empty or absent, and on the disk to be measured; the default is a temporary one.

use bytes::Bytes;
use sched_core::tables::{Change, Table, View};
use sched_storage::{Applied, DataDir, Group, LogPosition, LogStore, StorageError};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

const ENTRY_BYTES: usize = 256;
const EACH: Duration = Duration::from_secs(2);

type Outcome = Result<(), StorageError>;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let temporary = tempfile::tempdir()?;
    let folder = std::env::args()
        .nth(1)
        .map_or_else(|| temporary.path().join("data"), PathBuf::from);
    let mut next = 0;
    {
        let dir = DataDir::open(&folder)?;
        let group = dir.group(0)?;
        println!("log, entries of {ENTRY_BYTES} bytes; each row two seconds");
        for (batch, in_flight) in [(1, 1), (64, 1), (512, 1), (1, 64), (1, 512)] {
            log(&group.log, batch, in_flight, &mut next)?;
        }
        println!("\ntables");
        tables(&group)?;
        queue(&group)?;
        let started = Instant::now();
        let info = group.snapshots.build()?;
        println!(
            "snapshot of {} MiB: {:.0?}; memory {} MiB",
            info.total_bytes >> 20,
            started.elapsed(),
            memory_mib()
        );
    }
    reopen(&folder)
}

/// Appends batches, some of them in flight at once, each answered when durable.
fn log(log: &LogStore, batch: u64, in_flight: usize, next: &mut u64) -> Outcome {
    let bytes = Bytes::from(vec![7; ENTRY_BYTES]);
    let (tell, told): (SyncSender<Outcome>, Receiver<Outcome>) = sync_channel(in_flight);
    let (before, started) = (log.stats(), Instant::now());
    let mut waiting = 0;
    while started.elapsed() < EACH || waiting > 0 {
        while waiting < in_flight && started.elapsed() < EACH {
            let entries = (*next..*next + batch).map(|i| (i, bytes.clone())).collect();
            let tell = tell.clone();
            // The channel has room for every call in flight.
            log.append(entries, Box::new(move |outcome| drop(tell.try_send(outcome))));
            *next += batch;
            waiting += 1;
        }
        match told.recv() {
            Ok(outcome) => outcome?,
            Err(_) => unreachable!("a sender is held here"),
        }
        waiting -= 1;
    }
    let (after, seconds) = (log.stats(), started.elapsed().as_secs_f64());
    let (syncs, entries) = (
        (after.syncs - before.syncs) as f64,
        (after.entries - before.entries) as f64,
    );
    println!(
        "  {batch:>3} a batch, {in_flight:>3} in flight: {:>9.0} entries/s, {:>6.0} syncs/s, {:>5.0} µs each",
        entries / seconds,
        syncs / seconds,
        (after.write_ns - before.write_ns) as f64 / syncs / 1e3
    );
    Ok(())
}

fn applied(index: u64) -> Applied {
    Applied {
        last: Some(LogPosition {
            term: 1,
            node: 1,
            index,
        }),
        membership: Vec::new(),
    }
}

/// Writes what an enqueue writes, about: a definition, its state, a due time, a name, an answer; 64 to a batch.
fn tables(group: &Group) -> Outcome {
    const TASKS: u64 = 200_000;
    const BATCH: u64 = 64;
    let started = Instant::now();
    for from in (0..TASKS).step_by(BATCH as usize) {
        let mut changes = Vec::new();
        for id in from..from + BATCH {
            let key = id.to_be_bytes().to_vec();
            let random = id.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes().to_vec();
            changes.push(Change::Put {
                table: Table::Tasks,
                key: key.clone(),
                value: vec![1; 320],
            });
            changes.push(Change::Put {
                table: Table::Status,
                key: key.clone(),
                value: vec![2; 60],
            });
            changes.push(Change::Put {
                table: Table::Waiting,
                key: [random.clone(), key.clone()].concat(),
                value: vec![],
            });
            changes.push(Change::Put {
                table: Table::Names,
                key: random.clone(),
                value: key,
            });
            changes.push(Change::Put {
                table: Table::Requests,
                key: random,
                value: vec![3; 24],
            });
        }
        group.state.write(changes, &applied(from))?;
    }
    let seconds = started.elapsed().as_secs_f64();
    println!(
        "  enqueues: {:.0}/s in batches of {BATCH}; memory {} MiB",
        TASKS as f64 / seconds,
        memory_mib()
    );
    let view = group.state.view();
    let started = Instant::now();
    for id in 0..20_000u64 {
        let key = id.wrapping_mul(7919) % TASKS;
        view.get(Table::Tasks, &key.to_be_bytes()).map_err(fault)?;
    }
    println!(
        "  reads of a definition: {:.1} µs each",
        started.elapsed().as_secs_f64() * 1e6 / 20_000.0
    );
    Ok(())
}

/// Puts and takes from the head, as a queue does, and looks at the head each time.
fn queue(group: &Group) -> Outcome {
    const ITEMS: u64 = 300_000;
    const DEPTH: u64 = 1000;
    const ROUND: u64 = 100;
    let key = |i: u64| i.to_be_bytes().to_vec();
    let started = Instant::now();
    let mut looking = Duration::ZERO;
    for from in (0..ITEMS).step_by(ROUND as usize) {
        let put = |i| Change::Put {
            table: Table::Ready,
            key: key(i + DEPTH),
            value: vec![0; 8],
        };
        let take = |i| Change::Delete {
            table: Table::Ready,
            key: key(i),
        };
        group.state.write(
            (from..from + ROUND)
                .map(put)
                .chain((from..from + ROUND).map(take))
                .collect(),
            &applied(from),
        )?;
        let looked = Instant::now();
        group
            .state
            .latest()
            .scan(Table::Ready, &[], &[0xff; 9], 10)
            .map_err(fault)?;
        looking += looked.elapsed();
    }
    let rounds = (ITEMS / ROUND) as f64;
    println!(
        "  queue: {:.0} items/s, a look at its head {:.0} µs",
        ITEMS as f64 / started.elapsed().as_secs_f64(),
        looking.as_secs_f64() * 1e6 / rounds
    );
    Ok(())
}

fn reopen(folder: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let started = Instant::now();
    let dir = DataDir::open(folder)?;
    let group = dir.group(0)?;
    let (first, last) = (
        group.log.first_index()?,
        group.log.last_entry()?.map(|(index, _)| index),
    );
    println!(
        "\nopened again in {:.0?}: entries {first:?} to {last:?} read and added up",
        started.elapsed()
    );
    Ok(())
}

fn fault(e: sched_core::Fault) -> StorageError {
    StorageError::Database {
        path: PathBuf::new(),
        action: "read the tables",
        problem: e.to_string(),
    }
}

fn memory_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let resident = status.lines().find_map(|l| l.strip_prefix("VmRSS:"));
    let kib = resident.and_then(|l| l.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kib.unwrap_or(0) >> 10
}
