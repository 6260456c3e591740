//! Deadlines: by when something must have happened, given what was done to the cluster meanwhile.

use super::history::{Bounds, Fault};

/// The faults of a history in the order in which they began.
#[derive(Debug)]
pub(super) struct Timeline {
    bounds: Bounds,
    // (applied, healed); one that was never healed lasts for ever.
    faults: Vec<(i64, i64)>,
}

/// By when, and whether a fault put it off.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Deadline {
    pub(super) at_ms: i64,
    /// The last heal it counts from.
    pub(super) healed_at_ms: Option<i64>,
}

impl Timeline {
    pub(super) fn new(bounds: Bounds, faults: &[Fault]) -> Self {
        let mut faults: Vec<_> = faults
            .iter()
            .map(|fault| (fault.applied_at_ms, fault.healed_at_ms.unwrap_or(i64::MAX)))
            .collect();
        faults.sort_unstable();
        Self { bounds, faults }
    }

    /// By when something must have begun that could begin from `since` on.
    ///
    /// A fault that is not yet recovered from at `since`, or that begins before the deadline, moves it to the bound after its heal;
    /// so does the next one that begins before that.
    pub(super) fn deadline(&self, since_ms: i64) -> Deadline {
        self.deadline_within(since_ms, self.bounds.start_ms_max)
    }

    /// As [`Timeline::deadline`], with another bound for when nothing is wrong.
    pub(super) fn deadline_within(&self, since_ms: i64, bound_ms: i64) -> Deadline {
        let mut deadline = Deadline {
            at_ms: since_ms.saturating_add(bound_ms),
            healed_at_ms: None,
        };
        for (applied, healed) in &self.faults {
            if *applied > deadline.at_ms {
                break;
            }
            let recovered = healed.saturating_add(self.bounds.heal_ms_max);
            if recovered >= since_ms && recovered > deadline.at_ms {
                deadline = Deadline {
                    at_ms: recovered,
                    healed_at_ms: Some(*healed),
                };
            }
        }
        deadline
    }

    /// When the last fault was healed; nothing when there was none.
    pub(super) fn last_heal(&self) -> Option<i64> {
        self.faults.iter().map(|(_, healed)| *healed).max()
    }
}

#[cfg(test)]
mod tests {
    use super::super::history::FaultKind;
    use super::*;

    fn timeline(faults: &[(i64, i64)]) -> Timeline {
        let faults: Vec<_> = faults
            .iter()
            .map(|(applied, healed)| Fault {
                kind: FaultKind::Kill,
                target: "n1".to_owned(),
                applied_at_ms: *applied,
                healed_at_ms: Some(*healed),
                evidence: Vec::new(),
            })
            .collect();
        let bounds = Bounds {
            start_ms_max: 1_000,
            heal_ms_max: 15_000,
            ..Bounds::default()
        };
        Timeline::new(bounds, &faults)
    }

    #[test]
    fn deadlines_count_from_the_heal_of_what_was_in_the_way() {
        // Faults, since, deadline.
        #[allow(clippy::type_complexity, reason = "a table, read once")]
        let cases: &[(&[(i64, i64)], i64, i64)] = &[
            (&[], 100_000, 101_000),
            // Over and recovered from before.
            (&[(10_000, 20_000)], 100_000, 101_000),
            // Healed before, not yet recovered from.
            (&[(10_000, 90_000)], 100_000, 105_000),
            // Under way.
            (&[(90_000, 110_000)], 100_000, 125_000),
            // Begins before the deadline.
            (&[(100_900, 110_000)], 100_000, 125_000),
            // Begins after it.
            (&[(101_100, 110_000)], 100_000, 101_000),
            // The second begins before the bound after the first.
            (&[(100_500, 101_000), (110_000, 120_000)], 100_000, 135_000),
            // The order in which they are told does not matter.
            (&[(110_000, 120_000), (100_500, 101_000)], 100_000, 135_000),
        ];
        for (faults, since, expected) in cases {
            assert_eq!(timeline(faults).deadline(*since).at_ms, *expected, "{faults:?} {since}");
        }
    }
}
