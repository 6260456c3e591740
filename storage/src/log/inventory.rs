//! What the log consists of, kept so that it can be compared with what is found at the next start.
//!
//! Checksums of RocksDB find altered bytes. They do not find bytes that are whole but old: a database whose list of
//! files was cut short opens without a word, some of its entries missing and others back that had been replaced. So
//! each write of the log stores, in one record, where the log stands after it and the sum of the fingerprints of all
//! entries; at the start every entry is read and added up. The sum takes eight bytes of memory for each entry.

use crate::record::LogPosition;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

/// Where the log stands after a write.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub(super) struct Standing {
    /// The number of the write: they are counted over the life of the log.
    pub(super) number: u64,
    /// Index of the first entry; `next` when there is none.
    pub(super) first: u64,
    /// The index after the last entry.
    pub(super) next: u64,
    /// The fingerprints of all entries, added up.
    pub(super) sum: u64,
    /// The vote, as consensus encoded it.
    pub(super) vote: Option<Vec<u8>>,
    /// How far the log was purged.
    pub(super) purged: Option<LogPosition>,
}

/// The standing of the log and what it takes to bring it forward.
#[derive(Default)]
pub(super) struct Inventory {
    standing: Standing,
    /// The fingerprints of the entries from the first one on.
    prints: VecDeque<u64>,
}

/// Returns a number that another entry, or this one at another place, does not have.
pub(super) fn fingerprint(index: u64, bytes: &[u8]) -> u64 {
    let content = (u64::from(crc32c::crc32c(bytes)) << 32) ^ bytes.len() as u64;
    // Every bit of place and content decides on every bit of the result (the finalizer of splitmix64).
    let mut x = content ^ index.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

impl Inventory {
    /// Returns the inventory of a log without entries that stands as `standing` says, to be filled from disk.
    pub(super) fn empty_at(standing: &Standing) -> Self {
        let standing = Standing {
            next: standing.first,
            sum: 0,
            ..standing.clone()
        };
        Self {
            standing,
            prints: VecDeque::new(),
        }
    }

    pub(super) fn standing(&self) -> &Standing {
        &self.standing
    }

    pub(super) fn is_empty(&self) -> bool {
        self.prints.is_empty()
    }

    /// Counts the next write and returns where the log stands after it.
    pub(super) fn stamp(&mut self) -> Standing {
        self.standing.number += 1;
        self.standing.clone()
    }

    /// Adds the next entry.
    pub(super) fn append(&mut self, print: u64) {
        self.prints.push_back(print);
        self.standing.sum = self.standing.sum.wrapping_add(print);
        self.standing.next += 1;
    }

    /// Lets a log without entries begin at `first`.
    pub(super) fn begin_at(&mut self, first: u64) {
        debug_assert!(self.is_empty(), "only a log without entries may begin elsewhere");
        (self.standing.first, self.standing.next) = (first, first);
    }

    /// Removes every entry from `next` on.
    pub(super) fn truncate(&mut self, next: u64) {
        while self.standing.next > next
            && let Some(print) = self.prints.pop_back()
        {
            self.standing.sum = self.standing.sum.wrapping_sub(print);
            self.standing.next -= 1;
        }
        if self.is_empty() {
            self.begin_at(self.standing.next.min(next));
        }
    }

    /// Removes every entry up to and including `upto`; the log may then begin after its old end.
    pub(super) fn purge(&mut self, upto: LogPosition) {
        let first = upto.index + 1;
        while self.standing.first < first
            && let Some(print) = self.prints.pop_front()
        {
            self.standing.sum = self.standing.sum.wrapping_sub(print);
            self.standing.first += 1;
        }
        if self.is_empty() {
            self.begin_at(self.standing.next.max(first));
        }
        self.standing.purged = Some(upto);
    }

    pub(super) fn vote(&mut self, vote: Vec<u8>) {
        self.standing.vote = Some(vote);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(range: std::ops::Range<u64>) -> Inventory {
        let mut inventory = Inventory::default();
        inventory.begin_at(range.start);
        range.for_each(|i| inventory.append(fingerprint(i, b"same")));
        inventory
    }

    fn upto(index: u64) -> LogPosition {
        LogPosition {
            term: 1,
            node: 1,
            index,
        }
    }

    #[test]
    fn the_sum_is_that_of_the_entries_that_are_left() {
        let mut inventory = filled(5..100);
        inventory.truncate(50);
        inventory.purge(upto(19));
        let standing = inventory.standing();
        assert_eq!(
            (standing.first, standing.next, standing.sum),
            (20, 50, filled(20..50).standing().sum)
        );
        inventory.truncate(7);
        assert_eq!(
            (
                inventory.standing().first,
                inventory.standing().next,
                inventory.standing().sum
            ),
            (7, 7, 0)
        );
        let mut inventory = filled(5..9);
        inventory.purge(upto(500));
        assert_eq!(
            (
                inventory.standing().first,
                inventory.standing().next,
                inventory.standing().sum
            ),
            (501, 501, 0)
        );
    }

    #[test]
    fn exchanged_altered_and_missing_entries_change_the_sum() {
        let sum = |entries: &[(u64, &[u8])]| {
            entries
                .iter()
                .fold(0u64, |sum, (i, bytes)| sum.wrapping_add(fingerprint(*i, bytes)))
        };
        let whole = sum(&[(1, b"a"), (2, b"b"), (3, b"c")]);
        assert_ne!(whole, sum(&[(1, b"b"), (2, b"a"), (3, b"c")]));
        assert_ne!(whole, sum(&[(1, b"a"), (2, b"b"), (3, b"d")]));
        assert_ne!(whole, sum(&[(1, b"a"), (2, b"b")]));
        assert_ne!(whole, sum(&[(1, b"a"), (2, b"b"), (4, b"c")]));
    }
}
