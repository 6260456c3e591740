//! The tree of a run's processes, as its supervisor sees it: all descendants, and whoever is in the cgroup.

use crate::leaf::Leaf;
use crate::procs::{Stat, processes};
use rustix::process::{Pid, Signal, getpid};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;

/// See the module.
#[derive(Debug)]
pub(crate) struct Tree {
    supervisor: Pid,
    leaf: Option<Leaf>,
}

impl Tree {
    /// The tree below this process, which must be a subreaper.
    pub(crate) fn below_this_process(leaf: Option<Leaf>) -> Self {
        Self {
            supervisor: getpid(),
            leaf,
        }
    }

    pub(crate) fn leaf(&self) -> Option<&Leaf> {
        self.leaf.as_ref()
    }

    /// Asks every process to end.
    pub(crate) fn terminate(&self) -> io::Result<()> {
        self.signal(Signal::TERM)
    }

    /// Kills what is there. Something may be forking at this moment: to be repeated until the supervisor has no children.
    pub(crate) fn kill(&self) -> io::Result<()> {
        let held = self.leaf.as_ref().map_or(Ok(()), Leaf::kill);
        self.signal(Signal::KILL).and(held)
    }

    /// Signals each descendant once. What has lost its parent is a child of the supervisor, and is signalled as soon as it is seen: it may
    /// be one of a chain that fork and end, each faster than the table is read.
    fn signal(&self, signal: Signal) -> io::Result<()> {
        let root = self.supervisor.as_raw_pid();
        let mut others: BTreeMap<i32, Vec<Stat>> = BTreeMap::new();
        let mut reached: Vec<i32> = Vec::new();
        let mut outcome = Ok(());
        for stat in processes(Path::new("/proc"))? {
            if stat.parent == root {
                outcome = outcome.and(stat.signal(signal));
                reached.push(stat.pid);
            } else {
                others.entry(stat.parent).or_default().push(stat);
            }
        }
        let mut seen = BTreeSet::from([root]);
        while let Some(parent) = reached.pop() {
            // Numbers that were given anew while the table was read could make a circle.
            if !seen.insert(parent) {
                continue;
            }
            for stat in others.remove(&parent).unwrap_or_default() {
                if !stat.ended {
                    outcome = outcome.and(stat.signal(signal));
                }
                reached.push(stat.pid);
            }
        }
        outcome
    }
}
