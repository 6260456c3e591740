//! Which days of a year a rule selects.
//!
//! Apart from Easter, a rule selects the same days in all years that begin on the same weekday and have the same length (and, for
//! week numbers, follow a year of the same length). So all years are worked out when the rule is compiled, and a search only reads bits.

use super::civil::{self, DAY_S};
use super::search::{Miss, Seek, Steps};

/// A set of days of one year, day 0 being 1 January.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct DaySet([u64; 6]);

impl DaySet {
    /// Every day, also of a leap year.
    pub(super) const ALL: Self = Self([u64::MAX, u64::MAX, u64::MAX, u64::MAX, u64::MAX, (1 << 46) - 1]);

    /// Adds a day; days outside of any year are ignored.
    pub(super) fn insert(&mut self, day: i64) {
        if (0..366).contains(&day) {
            self.0[day as usize / 64] |= 1 << (day % 64);
        }
    }

    /// Returns the days that are in both.
    pub(super) fn and(self, other: Self) -> Self {
        Self(std::array::from_fn(|i| self.0[i] & other.0[i]))
    }

    /// Returns the days that are in either.
    pub(super) fn or(self, other: Self) -> Self {
        Self(std::array::from_fn(|i| self.0[i] | other.0[i]))
    }

    /// Whether the day, of 0 to 365, is in the set.
    pub(super) fn contains(&self, day: i64) -> bool {
        self.0[day as usize / 64] & (1 << (day % 64)) != 0
    }

    /// Returns the day with this number from `from` on, counted from 0.
    fn select(&self, from: i64, number: u64) -> Option<i64> {
        let mut left = number;
        for (word, bits) in self.0.iter().enumerate() {
            let start = word as i64 * 64;
            let mut bits = match from - start {
                skipped if skipped >= 64 => continue,
                skipped => bits & (u64::MAX << skipped.max(0)),
            };
            let count = u64::from(bits.count_ones());
            if left < count {
                (0..left).for_each(|_| bits &= bits - 1);
                return Some(start + i64::from(bits.trailing_zeros()));
            }
            left -= count;
        }
        None
    }

    /// Whether no day is in the set.
    pub(super) fn is_empty(&self) -> bool {
        self.0 == [0; 6]
    }

    /// Returns the first day from `day` on, which may be beyond the year.
    fn next(&self, day: i64) -> Option<i64> {
        if day >= 366 {
            return None;
        }
        let mut word = day as usize / 64;
        let mut bits = self.0[word] & (u64::MAX << (day % 64));
        while bits == 0 {
            word += 1;
            bits = *self.0.get(word)?;
        }
        Some(word as i64 * 64 + i64::from(bits.trailing_zeros()))
    }

    /// Counts the days from `from` on, before `to`; both of 0 to 366.
    fn count(&self, from: i64, to: i64) -> u32 {
        let below = |limit: i64, word: i64| match limit - word * 64 {
            n if n <= 0 => 0,
            n if n >= 64 => u64::MAX,
            n => (1 << n) - 1,
        };
        (0..6)
            .map(|i| (self.0[i as usize] & below(to, i) & !below(from, i)).count_ones())
            .sum()
    }
}

/// What decides which days a rule selects in a year.
#[derive(Clone, Copy, Debug)]
pub(super) struct YearKind {
    /// Weekday of 1 January, Monday being 0.
    pub(super) jan1: u8,
    /// Whether the year has 366 days.
    pub(super) leap: bool,
    /// Whether the year before has.
    pub(super) after_leap: bool,
}

impl YearKind {
    /// How many kinds there are: a leap year never follows a leap year.
    const COUNT: usize = 21;

    fn from_index(index: usize) -> Self {
        // Below 7.
        Self {
            jan1: (index / 3) as u8,
            leap: index % 3 == 2,
            after_leap: index % 3 == 1,
        }
    }

    fn index_of(year: i64, start: i64) -> usize {
        let shape = match (civil::is_leap(year), civil::is_leap(year - 1)) {
            (true, _) => 2,
            (false, true) => 1,
            (false, false) => 0,
        };
        usize::from(civil::weekday_of(start)) * 3 + shape
    }

    /// Returns the length of the year.
    pub(super) fn days(self) -> i64 {
        365 + i64::from(self.leap)
    }

    /// Returns the weekday of a day of the year; the day may lie outside of it.
    pub(super) fn weekday(self, day: i64) -> u8 {
        // Below 7.
        (i64::from(self.jan1) + day).rem_euclid(7) as u8
    }
}

/// The days a rule selects, for every year.
#[derive(Clone, Debug)]
pub(super) struct Days {
    kinds: Box<[DaySet; YearKind::COUNT]>,
    /// Days relative to Easter; empty means that Easter plays no part.
    easter: Vec<i16>,
}

/// The selected days of one year, kept while a search stays in it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Year {
    number: i64,
    /// The first day.
    start: i64,
    /// The first day of the next year.
    pub(super) end: i64,
    days: DaySet,
}

impl Year {
    fn contains(&self, day: i64) -> bool {
        self.days.contains(day - self.start)
    }

    /// Counts the selected days of the year from `from` on, before `to`.
    fn count(&self, from: i64, to: i64) -> u64 {
        u64::from(
            self.days
                .count((from - self.start).clamp(0, 366), (to - self.start).clamp(0, 366)),
        )
    }
}

impl Days {
    /// Works out all years. `easter` are offsets to Easter Sunday of at most a year; the day must be one of them, unless there are none.
    pub(super) fn new(of_kind: impl Fn(YearKind) -> DaySet, easter: Vec<i16>) -> Self {
        let mut kinds = Box::new([DaySet::default(); YearKind::COUNT]);
        for (index, days) in kinds.iter_mut().enumerate() {
            let kind = YearKind::from_index(index);
            *days = of_kind(kind);
            if !kind.leap {
                let mut year = DaySet::ALL;
                year.0[5] &= !(1 << 45);
                *days = days.and(year);
            }
        }
        Self { kinds, easter }
    }

    /// Whether no year has a day, as far as that can be told without looking at Easter.
    pub(super) fn is_never(&self) -> bool {
        self.kinds.iter().all(DaySet::is_empty)
    }

    /// Whether every day is selected.
    pub(super) fn is_always(&self) -> bool {
        self.easter.is_empty()
            && self
                .kinds
                .iter()
                .enumerate()
                .all(|(i, days)| days.count(0, 366) == if i % 3 == 2 { 366 } else { 365 })
    }

    /// Returns how many days a month, or a year, may have selected at most.
    pub(super) fn most_in(&self, months: bool) -> u64 {
        let most_of = |(index, days): (usize, &DaySet)| {
            let starts = civil::month_starts(YearKind::from_index(index).leap);
            match months {
                true => starts
                    .windows(2)
                    .map(|w| days.count(i64::from(w[0]), i64::from(w[1])))
                    .max()
                    .unwrap_or(0),
                false => days.count(0, 366),
            }
        };
        self.kinds.iter().enumerate().map(most_of).max().unwrap_or(0).into()
    }

    /// Returns the weekdays that selected days may have, as bits, Monday being bit 0.
    pub(super) fn weekdays(&self) -> u8 {
        let mut weekdays = 0;
        for (index, days) in self.kinds.iter().enumerate() {
            let kind = YearKind::from_index(index);
            let mut from = 0;
            while let Some(day) = days.next(from) {
                weekdays |= 1 << kind.weekday(day);
                from = day + 1;
            }
        }
        weekdays
    }

    /// Returns the year a day is in.
    pub(super) fn year_at(&self, day: i64) -> Year {
        let number = civil::year_of(day);
        self.year(number, civil::year_start(number))
    }

    /// Returns the year with this number, which starts on day `start`.
    fn year(&self, number: i64, start: i64) -> Year {
        let mut days = self.kinds[YearKind::index_of(number, start)];
        if !self.easter.is_empty() && !days.is_empty() {
            let mut around = DaySet::default();
            for near in [number - 1, number, number + 1] {
                let sunday = civil::easter(near) - start;
                for offset in &self.easter {
                    around.insert(sunday + i64::from(*offset));
                }
            }
            days = days.and(around);
        }
        Year {
            number,
            start,
            end: start + 365 + i64::from(civil::is_leap(number)),
            days,
        }
    }

    fn year_after(&self, year: &Year) -> Year {
        self.year(year.number + 1, year.end)
    }

    /// Whether a day is selected.
    pub(super) fn contains(&self, day: i64) -> bool {
        self.year_at(day).contains(day)
    }

    /// Returns the first selected day from `day` to `last`.
    pub(super) fn next(&self, day: i64, last: i64, steps: &mut Steps) -> Seek {
        if day > last {
            return Err(Miss::End);
        }
        let mut year = self.year_at(day);
        self.next_from(&mut year, day, last, steps)
    }

    /// Returns the first selected day from `day` to `last`; `year` is any year, and becomes the year of the day that is found.
    pub(super) fn next_from(&self, year: &mut Year, day: i64, last: i64, steps: &mut Steps) -> Seek {
        if day > last {
            return Err(Miss::End);
        }
        if !(year.start..year.end).contains(&day) {
            *year = self.year_at(day);
        }
        let mut from = day - year.start;
        loop {
            if let Some(found) = year.days.next(from) {
                let found = year.start + found;
                return if found <= last { Ok(found) } else { Err(Miss::End) };
            }
            *year = self.year_after(year);
            from = 0;
            if year.start > last {
                return Err(Miss::End);
            }
            steps.take(1, year.start * DAY_S)?;
        }
    }

    /// Counts the selected days from `from` on, before `to`, which are at most some years apart.
    pub(super) fn count(&self, from: i64, to: i64) -> u64 {
        let mut year = self.year_at(from);
        let mut total = year.count(from, to);
        while year.end < to {
            year = self.year_after(&year);
            total += year.count(from, to);
        }
        total
    }

    /// Returns the selected day with this number from `from` on, counted from 0, before `to`.
    pub(super) fn select(&self, from: i64, to: i64, number: u64) -> Option<i64> {
        let mut year = self.year_at(from);
        let mut left = number;
        while year.start < to {
            let first = (from - year.start).max(0);
            if let Some(found) = year.days.select(first, left) {
                return Some(year.start + found).filter(|day| *day < to);
            }
            left -= year.count(from, year.end);
            year = self.year_after(&year);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counting_and_selecting_agree_with_looking_at_each_day() {
        let days = Days::new(
            |kind| {
                let mut set = DaySet::default();
                (0..kind.days())
                    .filter(|d| kind.weekday(*d) == 2 || d % 61 == 60)
                    .for_each(|d| set.insert(d));
                set
            },
            Vec::new(),
        );
        let from = civil::year_start(2023) + 100;
        let to = civil::year_start(2026) + 3;
        let each: Vec<i64> = (from..to).filter(|d| days.contains(*d)).collect();
        assert_eq!(days.count(from, to), each.len() as u64);
        for (number, day) in each.iter().enumerate() {
            assert_eq!(days.select(from, to, number as u64), Some(*day));
            assert_eq!(days.next(*day, to, &mut Steps::new(1)), Ok(*day));
            let next = each.get(number + 1).copied().ok_or(Miss::End);
            assert_eq!(days.next(day + 1, to - 1, &mut Steps::new(9)), next);
        }
        assert_eq!(days.select(from, to, each.len() as u64), None);
        let leap_day = days.contains(civil::year_start(2024) + 365);
        assert_eq!(leap_day, each.contains(&(civil::year_start(2024) + 365)));
    }

    #[test]
    fn every_day_is_always_and_a_common_year_ends_on_its_last_day() {
        let all = Days::new(|_| DaySet::ALL, Vec::new());
        assert!(all.is_always());
        assert_eq!(
            all.count(civil::year_start(2023), civil::year_start(2027)),
            365 + 366 + 365 + 365
        );
        let easter = Days::new(|_| DaySet::ALL, vec![0, 1]);
        assert!(!easter.is_always() && !easter.is_never());
        assert_eq!(easter.count(civil::year_start(2023), civil::year_start(2027)), 8);
    }
}
