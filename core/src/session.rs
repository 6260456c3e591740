//! A worker's session, as every replica knows it.

use crate::ids::{NodeId, Token};
use crate::time::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// The end of a worker's journal: how many records it has, and the hash over all of them. The session keeps the highest it was told.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct JournalPosition {
    /// Records written, ever.
    pub length: u64,
    /// Hash over all of them.
    pub head: [u8; 16],
}

/// The record of a live session.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Session {
    /// The worker's name.
    pub worker: String,
    /// The worker's journal: another journal is another session.
    pub journal: u128,
    /// The node it runs in, when it runs in one.
    pub node: Option<NodeId>,
    /// Runs it takes at once.
    pub slots: u32,
    /// To be selected by.
    pub labels: BTreeMap<String, String>,
    /// When it was opened, by leader time.
    pub opened_at: Timestamp,
    /// The log position of its newest `SessionOpen`: an expiry decided before it does not end it.
    pub bound: Token,
    /// Takes no new runs: it is being drained or is expiring.
    pub closing: bool,
    /// The queues it serves. One that serves any takes their runs and no others; one that serves none takes all other runs.
    pub queues: BTreeSet<String>,
    /// The highest position of the journal that was told; absent for a worker without a journal on disk.
    pub position: Option<JournalPosition>,
    /// The random number that the worker wrote to its journal before its newest `SessionOpen`; 0 without a journal on disk.
    pub opening: u64,
}

/// Whether a worker that serves these queues takes runs of this one; nothing stands for runs that belong to no queue.
pub fn serves(queues: &BTreeSet<String>, queue: Option<&str>) -> bool {
    match queue {
        Some(queue) => queues.contains(queue),
        None => queues.is_empty(),
    }
}

/// That a worker gets no new runs: an operator said so. It outlasts the worker's sessions.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Drained {
    /// Which.
    pub worker: String,
    /// Since when, by leader time.
    pub since: Timestamp,
    /// Who asked.
    pub by: String,
    /// Why, for people.
    pub note: String,
}

/// What a worker shall do with an attempt it holds, answered when its session is opened again.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Disposition {
    /// It is current: go on.
    Continue,
    /// It is current, but to be cancelled.
    Kill,
    /// Its result was recorded: forget it.
    Recorded,
    /// It is no longer current: kill it and forget it.
    Stale,
}
