//! Where and beside how many others a run may start.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Tasks that share a bound on how many of their runs are under way at once.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Group {
    /// Its name in the task's namespace.
    pub name: String,
    /// A run of this task starts only while fewer runs of the group than this are ready or under way.
    pub limit: u32,
}

/// Which workers a run may or should go to.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Placement {
    /// Labels a worker must have.
    pub require: BTreeMap<String, String>,
    /// Labels a worker had better have: the one with most of them is taken, then the least loaded.
    pub prefer: BTreeMap<String, String>,
}

impl Placement {
    /// Whether any worker will do.
    pub fn is_any(&self) -> bool {
        self.require.is_empty() && self.prefer.is_empty()
    }

    /// Whether a worker with these labels may take the run.
    pub fn allows(&self, labels: &BTreeMap<String, String>) -> bool {
        self.require
            .iter()
            .all(|(label, value)| labels.get(label) == Some(value))
    }

    /// Returns how many of the preferred labels are missing.
    pub fn misses(&self, labels: &BTreeMap<String, String>) -> usize {
        self.prefer
            .iter()
            .filter(|(label, value)| labels.get(*label) != Some(*value))
            .count()
    }
}
