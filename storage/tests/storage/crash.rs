//! Kill -9 at any moment: nothing acknowledged is missing, and what is there is a whole earlier moment.
//!
//! The test starts itself again as a child. The child carries out a fixed sequence of operations from a seed, keeps
//! many of them in flight, and writes a line for each that was acknowledged. The parent kills it after some lines, opens
//! the folder, and looks for the one point in the sequence, at or after the last acknowledged operation, at which the
//! log was exactly what is on disk. The next child goes on from there.

use crate::support::*;
use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use sched_storage::{Group, LogPosition, Manifest};
use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

/// Names the folder, the seed and the first operation to a child.
const CHILD: &str = "SCHED_STORAGE_CRASH_CHILD";
/// Operations after which the longest-lived child ends.
const OPS_MAX: u64 = 100_000;

#[derive(Clone, Debug)]
enum Op {
    Append(Vec<(u64, Bytes)>),
    Vote(Bytes),
    Truncate(u64),
    /// Apply up to here, take a snapshot, purge up to here.
    Purge(LogPosition),
    /// Apply up to here.
    Apply(u64),
    /// Replace the tables by the newest snapshot, as if a peer had sent it.
    Install,
}

/// The log as it should be after some operations, and how far it may be applied.
#[derive(Clone, Debug, Default, PartialEq)]
struct Model {
    ops: u64,
    entries: VecDeque<(u64, Bytes)>,
    next: u64,
    vote: Option<Bytes>,
    purged: Option<LogPosition>,
    applied: u64,
}

impl Model {
    /// Returns the operation at this point: the same for the same seed and point.
    fn op(&self, seed: u64) -> Op {
        let mut dice = StdRng::seed_from_u64(seed.wrapping_mul(1_000_003) ^ self.ops);
        let next = self.next.max(1);
        match dice.random_range(0..100) {
            0..60 => {
                let count = if dice.random_bool(0.1) {
                    200
                } else {
                    dice.random_range(1..8)
                };
                let text =
                    |i: u64| Bytes::from(format!("{i} by {}: {}", self.ops, "y".repeat(self.ops as usize % 300)));
                Op::Append((next..next + count).map(|i| (i, text(i))).collect())
            }
            60..70 => Op::Vote(Bytes::from(format!("vote {}", self.ops))),
            // Never what is applied, as consensus never does.
            70..80 => Op::Truncate((next - 1).saturating_sub(dice.random_range(0..20)).max(self.applied)),
            80..95 => Op::Apply((next - 1).min(self.applied + dice.random_range(0..200))),
            95..97 => Op::Install,
            _ => Op::Purge(position(self.applied)),
        }
    }

    fn apply(&mut self, op: Op) {
        self.ops += 1;
        match op {
            Op::Append(entries) => {
                self.next = entries.last().map_or(self.next, |(i, _)| i + 1);
                self.entries.extend(entries);
            }
            Op::Vote(vote) => self.vote = Some(vote),
            Op::Truncate(last) => {
                self.entries.retain(|(i, _)| *i <= last);
                self.next = self.next.min(last + 1);
            }
            Op::Apply(last) => self.applied = last.max(self.applied),
            Op::Purge(upto) if self.purged < Some(upto) && upto.index > 0 => {
                self.entries.retain(|(i, _)| *i > upto.index);
                self.purged = Some(upto);
                self.next = self.next.max(upto.index + 1);
            }
            Op::Purge(_) | Op::Install => {}
        }
    }

    fn is(&self, found: &Model) -> bool {
        self.entries == found.entries && self.vote == found.vote && self.purged == found.purged
    }
}

/// Reads what is on disk.
fn found(group: &Group) -> Model {
    let entries: VecDeque<_> = group.log.read(0, u64::MAX, usize::MAX).unwrap().into();
    let (vote, purged) = (group.log.read_vote().unwrap(), group.log.read_purged().unwrap());
    Model {
        entries,
        vote,
        purged,
        ..Model::default()
    }
}

/// Brings the tables up to entry `last`, as the state machine would.
fn catch_up(group: &Group, last: u64) {
    let from = group.state.applied().unwrap().index().unwrap_or(0);
    if from < last {
        apply(&group.state, from + 1..=last);
    }
}

/// Receives the newest snapshot under another name and installs it.
fn install(group: &Group, name: String) {
    let Some(newest) = group.snapshots.newest() else { return };
    let reader = group.snapshots.open(&newest.id).unwrap();
    let manifest = Manifest {
        id: name,
        ..reader.manifest().clone()
    };
    let mut writer = group.snapshots.begin_receive(manifest.clone()).unwrap();
    for file in &manifest.files {
        writer
            .write_chunk(&file.name, 0, &reader.read(&file.name, 0, usize::MAX).unwrap())
            .unwrap();
    }
    group.snapshots.install(writer.finish().unwrap()).unwrap();
}

fn acknowledge(op: u64) {
    let mut out = std::io::stdout().lock();
    // The parent may be gone: then nobody counts any more.
    let _ = writeln!(out, "ack {op}").and_then(|()| out.flush());
}

/// The child's half: does nothing unless started by [`run_child`].
#[test]
fn child() {
    let Ok(args) = std::env::var(CHILD) else { return };
    let mut args = args.split('|');
    let path = args.next().unwrap().to_owned();
    let [seed, ops] = [(); 2].map(|()| args.next().unwrap().parse::<u64>().unwrap());
    let mut model = Model::default();
    while model.ops < ops {
        model.apply(model.op(seed));
    }
    let (_dir, group) = open(Path::new(&path)).unwrap();
    // What was applied before the crash and is not in the tables is applied again, from the log.
    catch_up(&group, model.applied);
    while model.ops < OPS_MAX {
        let (number, op) = (model.ops, model.op(seed));
        match op.clone() {
            Op::Append(entries) => {
                let done = move |result: Result<(), _>| {
                    result.unwrap();
                    acknowledge(number);
                };
                group.log.append(entries, Box::new(done));
            }
            Op::Vote(vote) => {
                wait(group.log.save_vote(vote)).unwrap();
                acknowledge(number);
            }
            Op::Truncate(last) => drop(group.log.truncate_after(Some(last))),
            Op::Apply(last) => {
                // What is applied is durable in the log first.
                wait(group.log.truncate_after(Some(u64::MAX))).unwrap();
                catch_up(&group, last);
            }
            Op::Install => {
                install(&group, format!("installed-{number}-{}", std::process::id()));
                catch_up(&group, model.applied);
            }
            Op::Purge(upto) => {
                catch_up(&group, upto.index);
                if upto.index > 0 {
                    assert!(group.snapshots.build().unwrap().applied.index() >= Some(upto.index));
                    wait(group.log.purge(upto)).unwrap();
                }
                acknowledge(number);
            }
        }
        model.apply(op);
    }
}

/// Runs a child until it has acknowledged some operations, kills it, and returns the last one it acknowledged.
fn run_child(path: &Path, seed: u64, ops: u64, acknowledgements: usize) -> Option<u64> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "crash::child", "--nocapture", "--test-threads=1"])
        .env(CHILD, format!("{}|{seed}|{ops}", path.display()))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let number =
        |line: std::io::Result<String>| line.unwrap().split_once("ack ").map(|(_, n)| n.parse::<u64>().unwrap());
    let mut last = lines.by_ref().filter_map(number).take(acknowledgements).last();
    // SIGKILL.
    child.kill().unwrap();
    last = last.max(lines.filter_map(number).last());
    let ended = child.wait().unwrap();
    // A child that ended by itself, ended by a failure: see what it printed.
    assert_eq!(ended.code(), None, "the child was not killed: {ended}");
    last
}

#[test]
fn nothing_acknowledged_is_missing_after_kill_9() {
    let seed = std::env::var("SEED")
        .ok()
        .and_then(|s| s.parse().ok())
        .unwrap_or_else(rand::random);
    println!("SEED={seed}");
    let mut dice = StdRng::seed_from_u64(seed);
    let tmp = folder();
    let mut model = Model::default();
    for round in 0..30 {
        let acknowledgements = dice.random_range(1..400);
        let last = run_child(tmp.path(), seed, model.ops, acknowledgements);
        let (_dir, group) = open(tmp.path()).unwrap();
        let on_disk = found(&group);
        // At or after the last acknowledged operation, and nowhere else.
        while last.is_some_and(|last| model.ops <= last) {
            model.apply(model.op(seed));
        }
        let acknowledged = model.clone();
        while !model.is(&on_disk) {
            assert!(
                model.ops < acknowledged.ops + 5000,
                "round {round}: operation {last:?} was acknowledged, but the log was never what is on disk: {:?}, {:?}",
                on_disk.entries.front().zip(on_disk.entries.back()),
                acknowledged.entries.front().zip(acknowledged.entries.back())
            );
            model.apply(model.op(seed));
        }
        let applied = group.state.applied().unwrap().index().unwrap_or(0);
        assert_eq!(
            dump(&group.state.view()),
            crate::support::model(applied),
            "round {round}: tables and their record"
        );
        assert!(
            applied >= model.purged.map_or(0, |p| p.index),
            "round {round}: the log begins behind the tables"
        );
        // Operations without an effect on the log may have been ahead of what is on disk.
        catch_up(&group, model.applied.min(model.next.saturating_sub(1)));
    }
    assert!(model.ops > 1000, "only {} operations", model.ops);
}
