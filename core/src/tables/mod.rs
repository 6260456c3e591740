//! The state as ordered tables of bytes: their names, their keys, and reading and staging changes.
//!
//! `core` says what is in the tables; where the bytes lie (memory in tests, RocksDB in a node) is behind [`View`].

#[cfg(any(test, feature = "testing"))]
pub mod conformance;
mod key;
mod memory;
mod staged;

pub use key::{
    Key, TaskOutcome, Waiting, decode_calendar, decode_ended, decode_label_task, decode_ready, decode_run, decode_task,
    decode_u64,
};
pub use key::{decode_session, decode_waiting};
pub use memory::MemTables;
pub use staged::{Change, Changes, Staged};

use crate::command::Fault;
use crate::time::Timestamp;
use serde::{Deserialize, Serialize};

/// One ordered table. In RocksDB each is a column family.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Table {
    /// Definitions of tasks, by id.
    Tasks,
    /// Run-time state of tasks, by id.
    Status,
    /// Runs, by task and number.
    Runs,
    /// Accepted operations not yet in the queue, in order.
    Spool,
    /// Tasks and delayed runs, by due time.
    Waiting,
    /// Due runs, by priority and due time.
    Ready,
    /// Assigned and running runs, by session; lost ones under no session.
    Running,
    /// Ended runs and tasks, by outcome and end time.
    Ended,
    /// Ledger lines, by task.
    Ledger,
    /// Tasks by namespace and name.
    Names,
    /// Tasks by label.
    Labels,
    /// Sessions by id, and the current session of each worker.
    Sessions,
    /// Room taken in groups, runs that wait for it, and tasks that wait for other tasks.
    Groups,
    /// Remembered answers, by time.
    Requests,
    /// Counters, switches and settings.
    Meta,
    /// Calendars by namespace and name, how many each namespace has, and the tasks that use them.
    Calendars,
}

impl Table {
    /// Every table, in the order of their numbers.
    pub const ALL: [Table; 16] = [
        Table::Tasks,
        Table::Status,
        Table::Runs,
        Table::Spool,
        Table::Waiting,
        Table::Ready,
        Table::Running,
        Table::Ended,
        Table::Ledger,
        Table::Names,
        Table::Labels,
        Table::Sessions,
        Table::Groups,
        Table::Requests,
        Table::Meta,
        Table::Calendars,
    ];

    /// Returns its name on disk.
    pub const fn name(self) -> &'static str {
        match self {
            Table::Tasks => "tasks",
            Table::Status => "status",
            Table::Runs => "runs",
            Table::Spool => "spool",
            Table::Waiting => "waiting",
            Table::Ready => "ready",
            Table::Running => "running",
            Table::Ended => "ended",
            Table::Ledger => "ledger",
            Table::Names => "names",
            Table::Labels => "labels",
            Table::Sessions => "sessions",
            Table::Groups => "groups",
            Table::Requests => "requests",
            Table::Meta => "meta",
            Table::Calendars => "calendars",
        }
    }
}

/// A pair of key and value, as stored.
pub type Pair = (Vec<u8>, Vec<u8>);

/// Read access to one consistent state of the tables.
pub trait View {
    /// Returns the value of a key.
    ///
    /// # Errors
    /// A fault stops the node.
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, Fault>;

    /// Returns up to `limit` pairs with `from <= key < to`, ascending.
    ///
    /// # Errors
    /// A fault stops the node.
    fn scan(&self, table: Table, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<Pair>, Fault>;

    /// Returns up to `limit` pairs with `from <= key < to`, descending.
    ///
    /// # Errors
    /// A fault stops the node.
    fn scan_back(&self, table: Table, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<Pair>, Fault>;
}

impl<V: View + ?Sized> View for &V {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, Fault> {
        (**self).get(table, key)
    }
    fn scan(&self, table: Table, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<Pair>, Fault> {
        (**self).scan(table, from, to, limit)
    }
    fn scan_back(&self, table: Table, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<Pair>, Fault> {
        (**self).scan_back(table, from, to, limit)
    }
}

/// How much room of a group is taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct GroupRoom {
    /// Runs that are ready or under way.
    pub taken: u64,
    /// Runs that wait for room.
    pub blocked: u64,
}

/// Counters and switches of the whole scheduler: one record, at most one write per batch.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Meta {
    /// Leader time of the newest entry; never runs backwards, an operator's reset aside.
    pub now: Timestamp,
    /// The number the next task gets, less one.
    pub last_task: u64,
    /// Set while the scheduler is shut down, with its message.
    pub shutdown: Option<String>,
    /// Number of the oldest operation in the spool.
    pub spool_head: u64,
    /// Number the next operation in the spool gets.
    pub spool_tail: u64,
    /// Tasks waiting for a due time (or a trigger).
    pub waiting: u64,
    /// Runs that are due and free to start.
    pub ready: u64,
    /// Runs assigned or running.
    pub running: u64,
    /// Runs waiting for a delay or for an earlier run.
    pub delayed: u64,
    /// Runs whose outcome is unknown.
    pub lost: u64,
    /// Runs in the finished index.
    pub finished: u64,
    /// Runs in the failed index: failed and terminated.
    pub failed: u64,
    /// Occurrences that were missed, ever.
    pub missed: u64,
    /// Occurrences that were skipped, ever.
    pub skipped: u64,
    /// Reports under a token that was no longer current, ever.
    pub stale_reports: u64,
    /// Tasks in the tables.
    pub tasks: u64,
    /// Answers remembered for requests of the client library.
    pub requests: u64,
    /// Answers remembered under callers' keys.
    pub caller_keys: u64,
    /// Tasks that have ended.
    pub ended_tasks: u64,
    /// Calendars in the tables.
    pub calendars: u64,
    /// The generation of the newest change of any calendar.
    pub calendar_generation: u64,
    /// The newest operator's reset of `now`.
    pub clock_reset: Option<ClockReset>,
}

/// An operator's reset of the state's time.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct ClockReset {
    /// The time before.
    pub from: Timestamp,
    /// The time after.
    pub to: Timestamp,
    /// Who asked.
    pub principal: String,
}

impl Meta {
    /// Returns how many operations are in the spool.
    pub fn spooled(&self) -> u64 {
        self.spool_tail - self.spool_head
    }
}
