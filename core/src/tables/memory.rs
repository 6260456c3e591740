//! Tables in memory: the simulation's store, and the model RocksDB is compared with.

use super::{Change, Changes, Pair, Table, View};
use crate::command::Fault;
use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

/// All tables in memory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemTables {
    /// Shared with older copies until it is written: a copy costs what changes after it.
    tables: BTreeMap<Table, Arc<Pairs>>,
}

type Pairs = BTreeMap<Vec<u8>, Vec<u8>>;

impl MemTables {
    /// Returns empty tables.
    pub fn new() -> Self {
        Self::default()
    }

    /// Applies staged changes in order.
    pub fn write(&mut self, changes: Changes) {
        for change in changes {
            match change {
                Change::Put { table, key, value } => {
                    self.pairs(table).insert(key, value);
                }
                Change::Delete { table, key } => {
                    self.pairs(table).remove(&key);
                }
                Change::DeleteRange { table, from, to } => {
                    self.pairs(table).retain(|key, _| *key < from || *key >= to);
                }
            }
        }
    }

    fn pairs(&mut self, table: Table) -> &mut Pairs {
        Arc::make_mut(self.tables.entry(table).or_default())
    }

    /// Returns every pair of a table, in order.
    pub fn dump(&self, table: Table) -> Vec<Pair> {
        self.tables
            .get(&table)
            .map(|t| t.iter().map(|(k, v)| (k.clone(), v.clone())).collect())
            .unwrap_or_default()
    }

    fn range<'a>(
        &'a self,
        table: Table,
        from: &'a [u8],
        to: &'a [u8],
    ) -> Option<std::collections::btree_map::Range<'a, Vec<u8>, Vec<u8>>> {
        if from >= to {
            return None;
        }
        let bounds = (Bound::Included(from), Bound::Excluded(to));
        self.tables.get(&table).map(|t| t.range::<[u8], _>(bounds))
    }
}

fn owned((key, value): (&Vec<u8>, &Vec<u8>)) -> Pair {
    (key.clone(), value.clone())
}

impl View for MemTables {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, Fault> {
        Ok(self.tables.get(&table).and_then(|t| t.get(key)).cloned())
    }

    fn scan(&self, table: Table, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<Pair>, Fault> {
        Ok(self
            .range(table, from, to)
            .map(|r| r.take(limit).map(owned).collect())
            .unwrap_or_default())
    }

    fn scan_back(&self, table: Table, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<Pair>, Fault> {
        Ok(self
            .range(table, from, to)
            .map(|r| r.rev().take(limit).map(owned).collect())
            .unwrap_or_default())
    }
}
