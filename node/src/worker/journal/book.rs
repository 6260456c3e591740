//! What the records of a journal amount to.

use super::record::Record;
use sched_core::Token;
use sched_core::limits::OPENINGS_MAX;
use std::collections::{BTreeMap, BTreeSet};

/// Recorded attempts that are remembered one by one across files; what lies below the others cannot be told from new any more.
const SETTLED_MAX: usize = 4096;

/// The attempts that are not recorded, each with its last record, and what is known of the others.
#[derive(Default)]
pub(super) struct Book {
    pub(super) open: BTreeMap<Token, Record>,
    pub(super) settled: BTreeSet<Token>,
    /// The highest attempt that was recorded and is no longer among them.
    pub(super) forgotten: Option<Token>,
    /// Numbers of openings: the last that was answered, and those after it.
    pub(super) openings: Vec<u64>,
    /// About how many bytes `open` takes.
    pub(super) bytes: usize,
}

impl Book {
    /// Takes a record.
    pub(super) fn note(&mut self, record: &Record) {
        match record {
            Record::Started { token, .. } | Record::Ended { token, .. } | Record::Refused { token, .. } => {
                self.bytes += record.size();
                let old = self.open.insert(*token, record.clone());
                self.bytes -= old.as_ref().map_or(0, Record::size);
            }
            Record::Recorded { token } => {
                let old = self.open.remove(token);
                self.bytes -= old.as_ref().map_or(0, Record::size);
                self.settled.insert(*token);
                if self.settled.len() > SETTLED_MAX {
                    self.forgotten = self.forgotten.max(self.settled.pop_first());
                }
            }
            Record::Opening { number } => {
                self.openings.push(*number);
                if self.openings.len() > OPENINGS_MAX {
                    self.openings.remove(0);
                }
            }
            Record::Opened { number } => {
                if let Some(at) = self.openings.iter().position(|known| known == number) {
                    self.openings.drain(..at);
                }
            }
        }
    }

    /// Returns what the next file takes over.
    pub(super) fn carried(&self) -> impl Iterator<Item = Record> + '_ {
        let settled = self.settled.iter().map(|token| Record::Recorded { token: *token });
        let openings = self.openings.iter().map(|number| Record::Opening { number: *number });
        self.open.values().cloned().chain(settled).chain(openings)
    }
}
