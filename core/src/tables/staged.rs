//! Changes on top of a view: readable at once, written in one batch, undone to a mark when a command is refused.

use super::{Pair, Table, View};
use crate::command::Fault;
use std::collections::BTreeMap;
use std::ops::Bound;

/// One change of a table.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Change {
    /// Sets a key.
    Put {
        /// Where.
        table: Table,
        /// The key.
        key: Vec<u8>,
        /// The value.
        value: Vec<u8>,
    },
    /// Removes a key.
    Delete {
        /// Where.
        table: Table,
        /// The key.
        key: Vec<u8>,
    },
    /// Removes every key with `from <= key < to`.
    DeleteRange {
        /// Where.
        table: Table,
        /// First key.
        from: Vec<u8>,
        /// First key after the range.
        to: Vec<u8>,
    },
}

/// Changes to be written in this order, in one atomic batch.
pub type Changes = Vec<Change>;

type Overlay = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

/// A view with changes on top.
///
/// Ranges deleted here are removed from the overlay at once, so that all range deletions may be written before all other changes.
pub struct Staged<V> {
    base: V,
    overlay: BTreeMap<Table, Overlay>,
    ranges: Vec<(Table, Vec<u8>, Vec<u8>)>,
    undo: Vec<Undo>,
}

enum Undo {
    Key(Table, Vec<u8>, Option<Option<Vec<u8>>>),
    Range,
}

impl<V: View> Staged<V> {
    /// Returns `base` without changes.
    pub fn new(base: V) -> Self {
        Self {
            base,
            overlay: BTreeMap::new(),
            ranges: Vec::new(),
            undo: Vec::new(),
        }
    }

    /// Sets a key.
    pub fn put(&mut self, table: Table, key: Vec<u8>, value: Vec<u8>) {
        self.set(table, key, Some(value));
    }

    /// Removes a key.
    pub fn delete(&mut self, table: Table, key: Vec<u8>) {
        self.set(table, key, None);
    }

    fn set(&mut self, table: Table, key: Vec<u8>, value: Option<Vec<u8>>) {
        let before = self.overlay.entry(table).or_default().insert(key.clone(), value);
        self.undo.push(Undo::Key(table, key, before));
    }

    /// Removes every key with `from <= key < to`.
    pub fn delete_range(&mut self, table: Table, from: Vec<u8>, to: Vec<u8>) {
        if from >= to {
            return;
        }
        let overlay = self.overlay.entry(table).or_default();
        let bounds = (Bound::Included(from.as_slice()), Bound::Excluded(to.as_slice()));
        let inside: Vec<Vec<u8>> = overlay.range::<[u8], _>(bounds).map(|(key, _)| key.clone()).collect();
        for key in inside {
            let before = overlay.remove(&key);
            self.undo.push(Undo::Key(table, key, before));
        }
        self.ranges.push((table, from, to));
        self.undo.push(Undo::Range);
    }

    /// Forgets how to undo what was staged so far: the command was carried out.
    pub fn mark(&mut self) {
        self.undo.clear();
    }

    /// Takes back everything since the last [`mark`](Self::mark): the command was refused.
    pub fn rollback(&mut self) {
        while let Some(step) = self.undo.pop() {
            match step {
                Undo::Key(table, key, Some(before)) => {
                    self.overlay.entry(table).or_default().insert(key, before);
                }
                Undo::Key(table, key, None) => {
                    self.overlay.entry(table).or_default().remove(&key);
                }
                Undo::Range => {
                    self.ranges.pop();
                }
            }
        }
    }

    /// Whether nothing is staged.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty() && self.overlay.values().all(BTreeMap::is_empty)
    }

    /// Returns the staged changes, range deletions first.
    pub fn into_changes(self) -> Changes {
        let ranges = self
            .ranges
            .into_iter()
            .map(|(table, from, to)| Change::DeleteRange { table, from, to });
        let keys = self.overlay.into_iter().flat_map(|(table, overlay)| {
            overlay.into_iter().map(move |(key, value)| match value {
                Some(value) => Change::Put { table, key, value },
                None => Change::Delete { table, key },
            })
        });
        ranges.chain(keys).collect()
    }

    fn in_deleted_range(&self, table: Table, key: &[u8]) -> bool {
        self.ranges
            .iter()
            .any(|(t, from, to)| *t == table && key >= from.as_slice() && key < to.as_slice())
    }

    fn merged(&self, table: Table, from: &[u8], to: &[u8], limit: usize, back: bool) -> Result<Vec<Pair>, Fault> {
        if from >= to || limit == 0 {
            return Ok(Vec::new());
        }
        let bounds = (Bound::Included(from), Bound::Excluded(to));
        let over: Vec<(&Vec<u8>, &Option<Vec<u8>>)> = self
            .overlay
            .get(&table)
            .map(|o| o.range::<[u8], _>(bounds).collect())
            .unwrap_or_default();
        if over.is_empty() && self.ranges.iter().all(|(t, ..)| *t != table) {
            return if back {
                self.base.scan_back(table, from, to, limit)
            } else {
                self.base.scan(table, from, to, limit)
            };
        }
        // Pages of the base, thinned by what is deleted, merged with what is put; bounded by the overlay plus the limit.
        let mut merged: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
        let (mut low, mut high) = (from.to_vec(), to.to_vec());
        loop {
            let want = limit.saturating_add(over.len());
            let page = if back {
                self.base.scan_back(table, &low, &high, want)?
            } else {
                self.base.scan(table, &low, &high, want)?
            };
            let full = page.len() == want;
            if let (true, Some((last, _))) = (full, page.last()) {
                if back {
                    high = last.clone();
                } else {
                    low = last.clone();
                    low.push(0);
                }
            }
            for (key, value) in page {
                let hidden = self.in_deleted_range(table, &key)
                    || self.overlay.get(&table).is_some_and(|o| o.contains_key(&key));
                if !hidden {
                    merged.insert(key, value);
                }
            }
            if !full || merged.len() >= limit {
                break;
            }
        }
        // Overlay entries beyond the last page read may only be added when the base has no more: they sort after all of it or within it.
        for (key, value) in over {
            if let Some(value) = value {
                merged.insert(key.clone(), value.clone());
            }
        }
        Ok(if back {
            merged.into_iter().rev().take(limit).collect()
        } else {
            merged.into_iter().take(limit).collect()
        })
    }
}

impl<V: View> View for Staged<V> {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, Fault> {
        if let Some(staged) = self.overlay.get(&table).and_then(|o| o.get(key)) {
            return Ok(staged.clone());
        }
        if self.in_deleted_range(table, key) {
            return Ok(None);
        }
        self.base.get(table, key)
    }

    fn scan(&self, table: Table, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<Pair>, Fault> {
        self.merged(table, from, to, limit, false)
    }

    fn scan_back(&self, table: Table, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<Pair>, Fault> {
        self.merged(table, from, to, limit, true)
    }
}
