//! What contact with the leader is worth, as a worker counts it.

use std::time::Duration;

/// A lease as the worker counts it: from the sending of the last sign of life that was acknowledged.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Lease {
    /// Since boot.
    pub since: Duration,
    /// As the leader counts it.
    pub length: Duration,
}

impl Lease {
    /// No start from then on.
    pub fn no_starts_from(self) -> Duration {
        self.after_tenths(4)
    }

    /// What runs is asked to end.
    pub fn terminate_at(self) -> Duration {
        self.after_tenths(6)
    }

    /// What runs is killed.
    pub fn kill_at(self) -> Duration {
        self.after_tenths(8)
    }

    fn after_tenths(self, tenths: u32) -> Duration {
        self.since + self.length * tenths / 10
    }
}
