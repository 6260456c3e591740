//! The log as openraft wants it, over the log of `sched-storage`.
//!
//! Votes and entries share one ordered stream of synced writes; an append is readable when it returns and reported when it
//! is durable; the first failure is for ever. All of that is the store's work: this file translates.

use crate::fault::FaultCell;
use crate::record::{decode_entry, decode_vote, encode_vote, id_of, position_of};
use crate::runtime::blocking;
use crate::types::{LogEntry, LogId, TypeConfig, Vote};
use bytes::Bytes;
use futures::{Stream, stream};
use openraft::storage::{IOFlushed, LogState, RaftLogStorage};
use openraft::{OptionalSend, RaftLogReader};
use sched_storage::LogStore;
use std::collections::VecDeque;
use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::sync::{Arc, Mutex, PoisonError};

/// Bytes of entries in one message to a follower, and in one step of an apply: far below the peers' message limit, large
/// enough that the cost per message does not count.
pub(crate) const READ_BYTES_MAX: usize = 2 * 1024 * 1024;
/// Reads that begin this far behind the end of the log probably miss the cache and wait for the disk: off the async threads.
const RECENT_ENTRIES: u64 = 1024;

/// The log of one group. Clones share it; each also serves as a reader.
#[derive(Clone)]
pub(crate) struct Log {
    store: LogStore,
    faults: FaultCell,
    sizes: Sizes,
}

impl Log {
    pub(crate) fn new(store: LogStore, faults: FaultCell) -> Self {
        Self {
            store,
            faults,
            sizes: Sizes::default(),
        }
    }

    /// Returns the sizes of the entries appended since the start.
    pub(crate) fn sizes(&self) -> Sizes {
        self.sizes.clone()
    }

    async fn read_some(&self, from: u64, to: u64) -> Result<Vec<LogEntry>, io::Error> {
        let records = if from + RECENT_ENTRIES < self.sizes.last() {
            let store = self.store.clone();
            let read = blocking(move || store.read(from, to, READ_BYTES_MAX)).await;
            read.map_err(|e| self.faults.note(e))?
        } else {
            self.store.read(from, to, READ_BYTES_MAX)
        };
        let records = records.map_err(|e| self.faults.note(e))?;
        records
            .into_iter()
            .map(|(index, record)| self.decode(index, record))
            .collect()
    }

    fn decode(&self, index: u64, record: Bytes) -> Result<LogEntry, io::Error> {
        let entry = decode_entry(record).map_err(|e| self.damaged(index, &e))?;
        if entry.id().index() != index {
            return Err(self.damaged(index, &format!("holds entry {}", entry.id().index())));
        }
        Ok(entry)
    }

    fn damaged(&self, index: u64, problem: &dyn std::fmt::Display) -> io::Error {
        self.faults.note(self.store.damaged_entry(index, &problem.to_string()))
    }

    /// Returns the part of `range` the log may hold, half open.
    fn clamp(&self, range: &impl RangeBounds<u64>) -> Result<(u64, u64), io::Error> {
        let from = match range.start_bound() {
            Bound::Included(from) => *from,
            Bound::Excluded(before) => before.saturating_add(1),
            Bound::Unbounded => 0,
        };
        let to = match range.end_bound() {
            Bound::Included(last) => last.saturating_add(1),
            Bound::Excluded(to) => *to,
            Bound::Unbounded => u64::MAX,
        };
        let first = self.store.first_index().map_err(|e| self.faults.note(e))?;
        Ok((from.max(first.unwrap_or(to)), to))
    }
}

impl RaftLogReader<TypeConfig> for Log {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<LogEntry>, io::Error> {
        let (mut from, to) = self.clamp(&range)?;
        let mut entries: Vec<LogEntry> = Vec::new();
        while from < to {
            let some = self.read_some(from, to).await?;
            let Some(last) = some.last() else { break };
            from = last.id().index() + 1;
            entries.extend(some);
        }
        Ok(entries)
    }

    /// Reads as it is consumed, so that a long range to apply after a restart is never in memory at once.
    async fn entries_stream<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> impl Stream<Item = Result<LogEntry, io::Error>> + OptionalSend {
        let clamped = self.clamp(&range);
        let log = self.clone();
        let start = (log, clamped, VecDeque::new());
        stream::unfold(start, |(log, mut range, mut read)| async move {
            if let Some(entry) = read.pop_front() {
                return Some((Ok(entry), (log, range, read)));
            }
            let (from, to) = match &mut range {
                Ok((from, to)) => (from, *to),
                Err(_) => {
                    let error = std::mem::replace(&mut range, Ok((0, 0))).err()?;
                    return Some((Err(error), (log, range, read)));
                }
            };
            if *from >= to {
                return None;
            }
            match log.read_some(*from, to).await {
                Ok(entries) => {
                    read = entries.into();
                    *from = read.back()?.id().index() + 1;
                    let entry = read.pop_front()?;
                    Some((Ok(entry), (log, range, read)))
                }
                Err(error) => Some((Err(error), (log, Ok((0, 0)), read))),
            }
        })
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, io::Error> {
        let bytes = self.store.read_vote().map_err(|e| self.faults.note(e))?;
        let vote = bytes.map(|bytes| decode_vote(&bytes)).transpose();
        vote.map_err(|e| self.faults.note(format!("the stored vote is damaged: {e}")))
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> Result<Vec<LogEntry>, io::Error> {
        self.read_some(start, end).await
    }
}

impl RaftLogStorage<TypeConfig> for Log {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<TypeConfig>, io::Error> {
        let purged = self
            .store
            .read_purged()
            .map_err(|e| self.faults.note(e))?
            .map(|p| id_of(&p));
        let last = self.store.last_entry().map_err(|e| self.faults.note(e))?;
        let last = last
            .map(|(index, record)| self.decode(index, record))
            .transpose()?
            .map(|entry| entry.id());
        self.sizes.start(last.map_or(0, |last| last.index()));
        Ok(LogState {
            last_purged_log_id: purged,
            last_log_id: last.or(purged),
        })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), io::Error> {
        self.store
            .save_vote(encode_vote(vote))
            .await
            .map_err(|e| self.faults.note(e))
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), io::Error> {
        let committed = committed.map(|id| position_of(&id));
        self.store.save_committed(committed).map_err(|e| self.faults.note(e))
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, io::Error> {
        let committed = self.store.read_committed().map_err(|e| self.faults.note(e))?;
        Ok(committed.map(|position| id_of(&position)))
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<TypeConfig>) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = LogEntry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let records: Vec<(u64, Bytes)> = entries.into_iter().map(|e| (e.id().index(), e.record())).collect();
        self.sizes.appended(&records);
        let faults = self.faults.clone();
        let done = move |result: Result<(), sched_storage::StorageError>| {
            callback.io_completed(result.map_err(|e| faults.note(e)));
        };
        self.store.append(records, Box::new(done));
        Ok(())
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> Result<(), io::Error> {
        let last = last.map(|id| id.index());
        self.sizes.truncated(last);
        self.store.truncate_after(last).await.map_err(|e| self.faults.note(e))
    }

    async fn purge(&mut self, upto: LogId) -> Result<(), io::Error> {
        self.sizes.purged(upto.index());
        self.store
            .purge(position_of(&upto))
            .await
            .map_err(|e| self.faults.note(e))
    }
}

/// How large the entries are that were appended since the start: decides when a snapshot is due and how much is purged.
///
/// Bounded by the entries the log holds, which the purge bounds.
#[derive(Clone, Default)]
pub(crate) struct Sizes(Arc<Mutex<SizesInner>>);

#[derive(Default)]
struct SizesInner {
    last: u64,
    /// Index, and bytes of all entries up to it since the start of the process.
    sums: VecDeque<(u64, u64)>,
}

impl Sizes {
    fn lock(&self) -> std::sync::MutexGuard<'_, SizesInner> {
        // Nothing below panics between two changes, so a poisoned lock guards a whole value.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn start(&self, last: u64) {
        let mut inner = self.lock();
        inner.last = inner.last.max(last);
    }

    fn appended(&self, records: &[(u64, Bytes)]) {
        let mut inner = self.lock();
        for (index, record) in records {
            let before = inner.sums.back().map_or(0, |(_, sum)| *sum);
            inner.sums.push_back((*index, before + record.len() as u64));
            inner.last = *index;
        }
    }

    fn truncated(&self, last: Option<u64>) {
        let mut inner = self.lock();
        while inner
            .sums
            .back()
            .is_some_and(|(index, _)| last.is_none_or(|last| *index > last))
        {
            inner.sums.pop_back();
        }
        inner.last = last.unwrap_or(0);
    }

    fn purged(&self, upto: u64) {
        let mut inner = self.lock();
        // One sum is kept as the base of those behind it.
        while inner.sums.len() > 1 && inner.sums.front().is_some_and(|(index, _)| *index < upto) {
            inner.sums.pop_front();
        }
    }

    /// Returns the index of the last entry.
    pub(crate) fn last(&self) -> u64 {
        self.lock().last
    }

    /// Returns the bytes of the entries after `index`, as far as they were appended by this process.
    pub(crate) fn bytes_after(&self, index: u64) -> u64 {
        let inner = self.lock();
        let all = inner.sums.back().map_or(0, |(_, sum)| *sum);
        let at = inner.sums.partition_point(|(i, _)| *i <= index);
        let upto = match at {
            0 => 0,
            at => inner.sums.get(at - 1).map_or(0, |(_, sum)| *sum),
        };
        all.saturating_sub(upto)
    }

    /// Returns the lowest index from which on the entries up to `upto` take no more than `bytes`.
    pub(crate) fn first_within(&self, upto: u64, bytes: u64) -> u64 {
        let inner = self.lock();
        let end = inner.sums.partition_point(|(i, _)| *i <= upto);
        let Some((_, sum)) = end.checked_sub(1).and_then(|last| inner.sums.get(last)) else {
            // Written before this process began: how large they are is not known. The bound on entries holds.
            return 0;
        };
        let too_much = sum.saturating_sub(bytes);
        let start = inner.sums.partition_point(|(_, s)| *s < too_much);
        inner
            .sums
            .get(start)
            .map_or(upto, |(index, _)| if too_much == 0 { 0 } else { (*index).min(upto) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn append(sizes: &Sizes, entries: impl IntoIterator<Item = (u64, usize)>) {
        let records: Vec<(u64, Bytes)> = entries
            .into_iter()
            .map(|(i, len)| (i, Bytes::from(vec![0; len])))
            .collect();
        sizes.appended(&records);
    }

    #[test]
    fn sizes_follow_appends_truncations_and_purges() {
        let sizes = Sizes::default();
        append(&sizes, (1..=10).map(|i| (i, 100)));
        assert_eq!(sizes.bytes_after(0), 1000);
        assert_eq!(sizes.bytes_after(7), 300);
        assert_eq!(sizes.first_within(10, 250), 8);
        assert_eq!(sizes.first_within(10, 5000), 0, "nothing need go");
        sizes.truncated(Some(8));
        assert_eq!((sizes.last(), sizes.bytes_after(0)), (8, 800));
        append(&sizes, [(9, 50)]);
        assert_eq!(sizes.bytes_after(8), 50);
        sizes.purged(5);
        assert_eq!(sizes.bytes_after(5), 350);
        sizes.truncated(None);
        assert_eq!((sizes.last(), sizes.bytes_after(0)), (0, 0));
    }
}
