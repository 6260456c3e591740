//! Rules on the wall clock: YEARLY, MONTHLY, WEEKLY, DAILY, and cron with fixed hours.
//!
//! Everything here happens on the local clock of some zone, as if that clock had neither gaps nor folds; mapping its readings to
//! instants comes later. A period (year, month, week, day) belongs to the rule when its distance to the first one is a multiple of
//! the interval. The search goes from selected day to selected day and from period to period by arithmetic, so that neither the
//! distance to the start nor long stretches without an occurrence cost anything but a look per year.

use super::civil::{self, DAY_S};
use super::days::Days;
use super::positions::Positions;
use super::search::{Miss, Seek, Steps};
use super::times::Times;

/// How many steps counting a period's days counts.
const COUNT_STEPS: u32 = 4;

/// What the interval counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Period {
    /// Calendar years.
    Year,
    /// Calendar months.
    Month,
    /// Weeks that begin on this weekday, Monday being 0.
    Week {
        /// WKST.
        start: u8,
    },
    /// Days.
    Day,
}

impl Period {
    /// Returns the number of the period a day is in.
    fn of(self, day: i64) -> i64 {
        match self {
            Period::Year => civil::year_of(day),
            Period::Month => civil::month_of(day),
            // Day -3, a Monday, begins week 0 of weeks that start on Monday.
            Period::Week { start } => (day + 3 - i64::from(start)).div_euclid(7),
            Period::Day => day,
        }
    }

    /// Returns the first day of the period with this number.
    fn start(self, number: i64) -> i64 {
        match self {
            Period::Year => civil::year_start(number),
            Period::Month => civil::month_start(number),
            Period::Week { start } => number * 7 - 3 + i64::from(start),
            Period::Day => number,
        }
    }
}

/// A rule on the wall clock.
#[derive(Clone, Debug)]
pub(super) struct Calendar {
    /// What the interval counts.
    pub(super) period: Period,
    /// Every so many periods, at least 1.
    pub(super) interval: i64,
    /// The selected days.
    pub(super) days: Days,
    /// The selected times of each selected day.
    pub(super) times: Times,
    /// Which members of a period's set are kept.
    pub(super) positions: Positions,
    /// Where the rule begins, as a local second: the first occurrence is there or later.
    pub(super) start: i64,
    /// The last local second an occurrence may have.
    pub(super) end: i64,
}

impl Calendar {
    /// Returns the first occurrence at or after local second `from`.
    pub(super) fn next(&self, from: i64, steps: &mut Steps) -> Seek {
        let from = from.max(self.start);
        let found = if self.positions.keeps_all() {
            self.next_of_all(from, steps)
        } else {
            self.next_of_positions(from, steps)
        }?;
        if found <= self.end { Ok(found) } else { Err(Miss::End) }
    }

    fn next_of_all(&self, from: i64, steps: &mut Steps) -> Seek {
        let first = from.div_euclid(DAY_S);
        let mut day = self.next_day(first, steps)?;
        if day == first {
            if let Some(second) = self.times.next(from.rem_euclid(DAY_S)) {
                return Ok(day * DAY_S + second);
            }
            day = self.next_day(first + 1, steps)?;
        }
        Ok(day * DAY_S + self.times.first())
    }

    fn next_of_positions(&self, from: i64, steps: &mut Steps) -> Seek {
        let mut day = from.div_euclid(DAY_S);
        loop {
            // The occurrence is on a selected day: look at the period of the next one as a whole.
            day = self.next_day(day, steps)?;
            steps.take(self.positions.cost(), day * DAY_S)?;
            let (first, end) = self.bounds(day);
            let per_day = self.times.len();
            let set_len = self.days.count(first, end) * per_day;
            if let Some(index) = self.positions.next(set_len, self.rank(first, from))
                && let Some(found) = self.days.select(first, end, index / per_day)
            {
                return Ok(found * DAY_S + self.times.select(index % per_day));
            }
            day = end;
        }
    }

    /// Returns how many members the set of a period starting on day `first` has before local second `from`.
    fn rank(&self, first: i64, from: i64) -> u64 {
        let day = from.div_euclid(DAY_S);
        if day < first {
            return 0;
        }
        // At most a period ahead: the search never looks at periods that are over.
        let whole = self.days.count(first, day) * self.times.len();
        if self.days.contains(day) {
            whole + self.times.rank(from.rem_euclid(DAY_S))
        } else {
            whole
        }
    }

    /// Returns the first day of the period that `day` is in, and the first day after it.
    fn bounds(&self, day: i64) -> (i64, i64) {
        let number = self.period.of(day);
        let (first, end) = (self.period.start(number), self.period.start(number + 1));
        match self.period {
            // As python-dateutil has it, the first week is what is left of it on the day the rule begins.
            Period::Week { .. } => (first.max(self.start.div_euclid(DAY_S)), end),
            _ => (first, end),
        }
    }

    /// Returns the first selected day from `day` on that is in a period of the rule.
    fn next_day(&self, day: i64, steps: &mut Steps) -> Seek {
        let last = self.end.div_euclid(DAY_S).min(civil::LAST_DAY);
        let mut day = day;
        loop {
            day = self.days.next(day, last, steps)?;
            if self.interval == 1 {
                return Ok(day);
            }
            let number = self.period.of(day);
            let first = self.period.of(self.start.div_euclid(DAY_S));
            match (number - first).rem_euclid(self.interval) {
                0 => return Ok(day),
                over => day = self.period.start(number + self.interval - over),
            }
            if day > last {
                return Err(Miss::End);
            }
            steps.take(1, day * DAY_S)?;
        }
    }

    /// Whether BYSETPOS keeps nothing of any period, so that there is nothing to search for.
    pub(super) fn keeps_none(&self) -> bool {
        if self.positions.keeps_all() {
            return false;
        }
        let days = match self.period {
            Period::Year => self.days.most_in(false),
            Period::Month => self.days.most_in(true),
            Period::Week { .. } => self.days.weekdays().count_ones().into(),
            Period::Day => 1,
        };
        self.positions.keep_none(days, self.times.len())
    }

    /// Returns the occurrence with this number, counted from 1.
    pub(super) fn nth(&self, number: u64, steps: &mut Steps) -> Seek {
        let found = if self.positions.keeps_all() {
            self.nth_of_all(number, steps)
        } else {
            self.nth_of_positions(number, steps)
        }?;
        if found <= self.end { Ok(found) } else { Err(Miss::End) }
    }

    /// Counts days, as each has the same times; of the first one, those before the start do not count.
    fn nth_of_all(&self, number: u64, steps: &mut Steps) -> Seek {
        let first = self.start.div_euclid(DAY_S);
        let on_first = self.next_day(first, steps)? == first;
        let skipped = if on_first {
            self.times.rank(self.start.rem_euclid(DAY_S))
        } else {
            0
        };
        let index = number - 1 + skipped;
        let day = self.nth_day(index / self.times.len(), steps)?;
        Ok(day * DAY_S + self.times.select(index % self.times.len()))
    }

    /// Counts what each period keeps.
    fn nth_of_positions(&self, number: u64, steps: &mut Steps) -> Seek {
        let mut left = number;
        let mut day = self.start.div_euclid(DAY_S);
        loop {
            day = self.next_day(day, steps)?;
            steps.take(self.positions.cost(), day * DAY_S)?;
            let (first, end) = self.bounds(day);
            let set_len = self.days.count(first, end) * self.times.len();
            let mut from = self.rank(first, self.start);
            while let Some(index) = self.positions.next(set_len, from) {
                steps.take(self.positions.cost(), day * DAY_S)?;
                left -= 1;
                if left == 0 {
                    let day = self
                        .days
                        .select(first, end, index / self.times.len())
                        .ok_or(Miss::End)?;
                    return Ok(day * DAY_S + self.times.select(index % self.times.len()));
                }
                from = index + 1;
            }
            day = end;
        }
    }

    /// Returns the selected day with this number, counted from 0 on the day the rule begins.
    fn nth_day(&self, number: u64, steps: &mut Steps) -> Seek {
        let mut left = number;
        let mut day = self.start.div_euclid(DAY_S);
        loop {
            day = self.next_day(day, steps)?;
            // Without gaps between the periods, years are the longest stretches to count at once.
            let end = match self.interval {
                1 => civil::year_start(civil::year_of(day) + 1),
                _ => self.bounds(day).1,
            };
            steps.take(COUNT_STEPS, day * DAY_S)?;
            match left.checked_sub(self.days.count(day, end)) {
                Some(rest) => (left, day) = (rest, end),
                None => return self.days.select(day, end, left).ok_or(Miss::End),
            }
        }
    }
}
