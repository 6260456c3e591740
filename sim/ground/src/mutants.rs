//! The faults of the product that the simulation must find, one at a time. Each is made where the ground meets the product.

/// One of ten ways to get it wrong.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Mutant {
    /// The log says that writes are durable which are not.
    FsyncSkipped,
    /// A client is told that its task is accepted before it is committed.
    AckBeforeCommit,
    /// A report counts for the attempt that is current, whichever it names.
    TokenIgnored,
    /// A worker that starts again does not read what it wrote down.
    JournalNotRead,
    /// An occurrence fires, and the task's cursor stays on it.
    CursorNotMoved,
    /// A vote is given and forgotten in a crash.
    VoteNotSaved,
    /// A snapshot holds more than the index it names.
    SnapshotNewer,
    /// A lease is over for the leader long before it is for the worker.
    LeaseNotAwaited,
    /// A repeated call is carried out again.
    DedupDropped,
    /// The spool is not worked off in its order.
    DrainOutOfOrder,
}

impl Mutant {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::FsyncSkipped,
        Self::AckBeforeCommit,
        Self::TokenIgnored,
        Self::JournalNotRead,
        Self::CursorNotMoved,
        Self::VoteNotSaved,
        Self::SnapshotNewer,
        Self::LeaseNotAwaited,
        Self::DedupDropped,
        Self::DrainOutOfOrder,
    ];
}
