//! The state tables.

use crate::error::Result;
use crate::record::Applied;
use sched_core::command::Fault;
use sched_core::tables::{Changes, Pair, Table, View};

/// A handle of the tables. One thread writes; any number read.
#[derive(Clone)]
pub struct StateStore {}

/// The tables at one moment: owned, consistent, cheap to take; keeps replaced tables alive while it lives.
pub struct StateView {}

/// The tables as they are, for the thread that writes them.
#[derive(Clone)]
pub struct LatestView {}

impl StateStore {
    /// Writes changes and how far they go, in one batch.
    pub fn write(&self, _changes: Changes, _applied: &Applied) -> Result<()> {
        unimplemented!()
    }
    /// Returns how far the tables go.
    pub fn applied(&self) -> Result<Applied> {
        unimplemented!()
    }
    /// Returns the tables at this moment.
    pub fn view(&self) -> StateView {
        unimplemented!()
    }
    /// Returns the tables as they are.
    pub fn latest(&self) -> LatestView {
        unimplemented!()
    }
    /// Writes the tables' buffers to disk, so that less of the log is applied again after a restart.
    pub fn flush(&self) -> Result<()> {
        unimplemented!()
    }
}

impl StateView {
    /// Returns how far this view goes.
    pub fn applied(&self) -> Result<Applied> {
        unimplemented!()
    }
}

macro_rules! view {
    ($t:ty) => {
        impl View for $t {
            fn get(&self, _table: Table, _key: &[u8]) -> std::result::Result<Option<Vec<u8>>, Fault> {
                unimplemented!()
            }
            fn scan(&self, _table: Table, _from: &[u8], _to: &[u8], _limit: usize) -> std::result::Result<Vec<Pair>, Fault> {
                unimplemented!()
            }
            fn scan_back(&self, _t: Table, _from: &[u8], _to: &[u8], _limit: usize) -> std::result::Result<Vec<Pair>, Fault> {
                unimplemented!()
            }
        }
    };
}
view!(StateView);
view!(LatestView);
