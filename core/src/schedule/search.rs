//! What bounds a search.

/// Where a search ended: a day or a second, whichever was searched for.
pub(super) type Seek = Result<i64, Miss>;

/// Why a search found nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Miss {
    /// There is nothing to find.
    End,
    /// The search took more steps than it may; there is nothing before second `until`, local or not as the searcher counts.
    Budget {
        /// How far it came.
        until: i64,
    },
}

/// Steps that one search may still take.
///
/// A step is one look at a year, a day, a slot or a stretch between two changes of a zone's offset: some ten to fifty nanoseconds, a
/// stretch more, which is why it counts as several.
#[derive(Clone, Debug)]
pub(super) struct Steps(u32);

impl Steps {
    /// The bound for one search: keeps the worst rule well below ten milliseconds.
    pub(super) const MOST: u32 = 100_000;

    /// Grants this many steps.
    pub(super) fn new(steps: u32) -> Self {
        Self(steps)
    }

    /// Returns how many are left.
    pub(super) fn left(&self) -> u32 {
        self.0
    }

    /// Takes `count` steps, having searched until second `until`.
    ///
    /// # Errors
    ///
    /// When no steps are left.
    pub(super) fn take(&mut self, count: u32, until: i64) -> Result<(), Miss> {
        match self.0.checked_sub(count) {
            Some(left) => {
                self.0 = left;
                Ok(())
            }
            None => {
                self.0 = 0;
                Err(Miss::Budget { until })
            }
        }
    }
}
