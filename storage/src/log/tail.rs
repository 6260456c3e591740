//! The end of the log in memory: what is not durable yet, always, and the newest durable entries, up to a bound.

use bytes::Bytes;
use std::collections::VecDeque;

/// What an entry costs besides its bytes.
const ENTRY_OVERHEAD: usize = 64;

struct Entry {
    bytes: Bytes,
    /// The number of the write that carries it; it may leave memory when this write is durable.
    write: u64,
}

/// A run of entries without a hole, up to the end of the log.
pub(super) struct Tail {
    /// The index after the last entry.
    next: u64,
    entries: VecDeque<Entry>,
    bytes: usize,
    bytes_max: usize,
}

fn cost(entry: &Entry) -> usize {
    entry.bytes.len() + ENTRY_OVERHEAD
}

impl Tail {
    /// Returns an empty tail of a log that ends before `next`.
    pub(super) fn new(next: u64, bytes_max: usize) -> Self {
        Self {
            next,
            entries: VecDeque::new(),
            bytes: 0,
            bytes_max,
        }
    }

    /// Returns the index after the last entry of the log.
    pub(super) fn next(&self) -> u64 {
        self.next
    }

    /// Returns the index of the first entry in memory; `next` when there is none.
    pub(super) fn first(&self) -> u64 {
        self.next - self.entries.len() as u64
    }

    /// Adds the next entry.
    pub(super) fn push(&mut self, bytes: Bytes, write: u64) {
        let entry = Entry { bytes, write };
        self.bytes += cost(&entry);
        self.entries.push_back(entry);
        self.next += 1;
    }

    /// Returns an entry that is in memory.
    pub(super) fn get(&self, index: u64) -> Option<&Bytes> {
        let at = index.checked_sub(self.first())?;
        self.entries.get(usize::try_from(at).ok()?).map(|e| &e.bytes)
    }

    /// Forgets every entry from `next` on.
    pub(super) fn truncate(&mut self, next: u64) {
        while self.next > next
            && let Some(entry) = self.entries.pop_back()
        {
            self.bytes -= cost(&entry);
            self.next -= 1;
        }
        self.next = self.next.min(next);
    }

    /// Forgets every entry before `first`; the log may then begin after its old end.
    pub(super) fn purge(&mut self, first: u64) {
        while self.first() < first
            && let Some(entry) = self.entries.pop_front()
        {
            self.bytes -= cost(&entry);
        }
        self.next = self.next.max(first);
    }

    /// Lets an empty log begin at `next`.
    pub(super) fn begin_at(&mut self, next: u64) {
        debug_assert!(self.entries.is_empty(), "only an empty log may begin elsewhere");
        self.next = next;
    }

    /// Lets the oldest durable entries go until the bound is kept.
    pub(super) fn evict(&mut self, durable_write: u64) {
        while self.bytes > self.bytes_max
            && self.entries.front().is_some_and(|e| e.write <= durable_write)
            && let Some(entry) = self.entries.pop_front()
        {
            self.bytes -= cost(&entry);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tail(bytes_max: usize, entries: &[(&'static str, u64)]) -> Tail {
        let mut tail = Tail::new(5, bytes_max);
        for (text, write) in entries {
            tail.push(Bytes::from_static(text.as_bytes()), *write);
        }
        tail
    }

    #[test]
    fn entries_leave_from_the_front_and_only_when_durable() {
        let mut t = tail(2 * (1 + ENTRY_OVERHEAD), &[("a", 1), ("b", 2), ("c", 2), ("d", 3)]);
        t.evict(0);
        assert_eq!(t.first(), 5);
        t.evict(1);
        assert_eq!(
            (t.first(), t.get(5), t.get(6)),
            (6, None, Some(&Bytes::from_static(b"b")))
        );
        t.evict(3);
        assert_eq!((t.first(), t.next()), (7, 9));
    }

    #[test]
    fn an_entry_written_again_waits_for_its_own_write() {
        let mut t = tail(0, &[("old", 1), ("old", 1)]);
        t.truncate(6);
        t.push(Bytes::from_static(b"new"), 3);
        t.evict(1);
        assert_eq!((t.first(), t.get(6)), (6, Some(&Bytes::from_static(b"new"))));
    }

    #[test]
    fn truncating_and_purging_past_what_is_in_memory() {
        let mut t = tail(1000, &[("a", 1), ("b", 1)]);
        t.truncate(3);
        assert_eq!((t.first(), t.next(), t.bytes), (3, 3, 0));
        let mut t = tail(1000, &[("a", 1), ("b", 1)]);
        t.purge(20);
        assert_eq!((t.first(), t.next(), t.bytes), (20, 20, 0));
        let mut t = tail(1000, &[("a", 1), ("b", 1)]);
        t.purge(6);
        assert_eq!((t.first(), t.next()), (6, 7));
        t.truncate(9);
        assert_eq!((t.first(), t.next()), (6, 7));
    }
}
