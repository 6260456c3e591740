//! BYSETPOS: which members of a period's set are kept.

/// Positions in the ordered set of a period; 1 is the first, -1 the last. Empty means that all are kept.
#[derive(Clone, Debug, Default)]
pub(super) struct Positions(Vec<i16>);

impl Positions {
    /// Keeps these positions, none of which is 0.
    pub(super) fn new(positions: Vec<i16>) -> Self {
        Self(positions)
    }

    /// Whether all members are kept.
    pub(super) fn keeps_all(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the cost of looking at a period, in steps.
    pub(super) fn cost(&self) -> u32 {
        // Counting and choosing in a period costs several looks at a day; there are at most 732 positions.
        4 + self.0.len() as u32 / 8
    }

    /// Returns the first kept index from `from` on, in a set of `len` members; indexes count from 0.
    pub(super) fn next(&self, len: u64, from: u64) -> Option<u64> {
        if self.keeps_all() {
            return (from < len).then_some(from);
        }
        let index = |position: &i16| match u64::from(position.unsigned_abs()) {
            distance if *position > 0 => Some(distance - 1),
            distance => len.checked_sub(distance),
        };
        self.0
            .iter()
            .filter_map(index)
            .filter(|i| (from..len).contains(i))
            .min()
    }

    /// Whether no set of `per_day` members for each of one to `days` days keeps any.
    pub(super) fn keep_none(&self, days: u64, per_day: u64) -> bool {
        // The largest set has all positions that any of them has.
        self.next(days * per_day, 0).is_none()
    }

    /// Counts the kept members of a set of `len`.
    pub(super) fn count(&self, len: u64) -> u64 {
        if self.keeps_all() {
            return len;
        }
        let mut kept = 0;
        let mut from = 0;
        while let Some(index) = self.next(len, from) {
            kept += 1;
            from = index + 1;
        }
        kept
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_what_is_there() {
        let all = Positions::default();
        assert_eq!(
            (all.next(3, 0), all.next(3, 2), all.next(3, 3), all.count(7)),
            (Some(0), Some(2), None, 7)
        );
        let some = Positions::new(vec![-1, 2, -4, 9]);
        assert_eq!(
            (some.next(4, 0), some.next(4, 1), some.next(4, 2), some.next(4, 4)),
            (Some(0), Some(1), Some(3), None)
        );
        assert_eq!(
            (
                some.count(4),
                some.count(1),
                some.count(2),
                some.count(0),
                some.count(10)
            ),
            (3, 1, 1, 0, 4)
        );
    }
}
