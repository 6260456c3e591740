//! Rules on absolute time: HOURLY, MINUTELY, SECONDLY, and cron with a wildcard or a step for the hour.
//!
//! Time is cut into slots of an hour, a minute or a second. Every so many slots, counted in absolute time from the start, belong to the
//! rule; its BY-parts filter them, and expand them where they are finer, by what the local clock shows. Between two changes of a zone's
//! offset the local clock is absolute time plus a constant, so that the search happens there as in UTC, one such *stretch* at a time.

use super::civil::{self, DAY_S};
use super::days::Days;
use super::positions::Positions;
use super::search::{Miss, Seek, Steps};
use super::times::Times;
use super::zone::Zone;

/// How many steps a stretch counts: looking up its end costs that much more than a look at a day.
const STRETCH_STEPS: u32 = 16;

/// The length of a slot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Unit {
    /// 3600 seconds.
    Hour,
    /// 60 seconds.
    Minute,
    /// A second.
    Second,
}

impl Unit {
    const fn seconds(self) -> i64 {
        match self {
            Unit::Hour => 3600,
            Unit::Minute => 60,
            Unit::Second => 1,
        }
    }
}

/// A rule on absolute time.
#[derive(Clone, Debug)]
pub(super) struct Slots {
    unit: Unit,
    /// Every so many slots, at least 1.
    interval: i64,
    /// The days on which slots count.
    days: Days,
    /// The first seconds of the slots of a day that count.
    filter: Times,
    /// The seconds within a slot, as seconds of its day's first hour, minute or second.
    expand: Times,
    positions: Positions,
    /// The first slot's first second, in absolute time.
    origin: i64,
    /// Where the rule begins, in absolute time.
    start: i64,
    /// Which slots of a day the interval can hit at all.
    reach: Reach,
}

/// A stretch of the local clock without a change of the offset: local seconds from `from` on, before `to`.
#[derive(Clone, Copy)]
struct Stretch {
    from: i64,
    to: i64,
    offset: i64,
}

impl Slots {
    /// Puts a rule together. `start` is where it begins in absolute time, `local_start` what the local clock shows then.
    pub(super) fn new(
        unit: Unit,
        interval: i64,
        days: Days,
        times: Times,
        positions: Positions,
        (start, local_start): (i64, i64),
    ) -> Self {
        let (filter, expand) = match unit {
            Unit::Hour => (
                Times {
                    minutes: 1,
                    seconds: 1,
                    ..times
                },
                Times { hours: 1, ..times },
            ),
            Unit::Minute => (
                Times { seconds: 1, ..times },
                Times {
                    hours: 1,
                    minutes: 1,
                    ..times
                },
            ),
            Unit::Second => (
                times,
                Times {
                    hours: 1,
                    minutes: 1,
                    seconds: 1,
                },
            ),
        };
        let origin = start - local_start.rem_euclid(unit.seconds());
        let reach = Reach::new(interval, DAY_S / unit.seconds(), unit, filter);
        Self {
            unit,
            interval,
            days,
            filter,
            expand,
            positions,
            origin,
            start,
            reach,
        }
    }

    /// Returns the days on which slots count.
    pub(super) fn days(&self) -> &Days {
        &self.days
    }

    /// Returns the first occurrence at or after instant `from` and not after instant `end`.
    pub(super) fn next(&self, from: i64, end: i64, zone: &Zone, steps: &mut Steps) -> Seek {
        let mut from = from.max(self.start);
        loop {
            if from > end {
                return Err(Miss::End);
            }
            let offset = zone.offset_at(from);
            // The end is looked for only after the search in the stretch: mostly the occurrence is near.
            let change = zone.next_change(from);
            let to = change.unwrap_or(i64::MAX).min(end.saturating_add(1));
            match self.next_in(
                Stretch {
                    from: from + offset,
                    to: to + offset,
                    offset,
                },
                steps,
            ) {
                Ok(local) => return Ok(local - offset),
                Err(Miss::Budget { until }) => return Err(Miss::Budget { until: until - offset }),
                Err(Miss::End) => match change {
                    Some(change) => from = change,
                    None => return Err(Miss::End),
                },
            }
            steps.take(STRETCH_STEPS, from)?;
        }
    }

    /// Returns the first occurrence in a stretch, as a local second.
    fn next_in(&self, stretch: Stretch, steps: &mut Steps) -> Seek {
        let size = self.unit.seconds();
        let phase = (self.origin + stretch.offset)
            .div_euclid(size)
            .rem_euclid(self.interval);
        if !self.reach.hits(phase) || self.per_slot() == 0 {
            return Err(Miss::End);
        }
        let mut from = stretch.from;
        loop {
            let slot = self.next_slot(from, stretch.to, phase, steps)?;
            let found = self.next_within(slot, from);
            match found {
                Some(found) if found < stretch.to => return Ok(found),
                Some(_) => return Err(Miss::End),
                None => from = slot + size,
            }
            steps.take(1, from)?;
        }
    }

    /// Returns how many occurrences a whole slot has.
    fn per_slot(&self) -> u64 {
        self.positions.count(self.expand.len())
    }

    /// Returns the first occurrence at or after `from` in the slot that begins at `slot`.
    fn next_within(&self, slot: i64, from: i64) -> Option<i64> {
        let rank = if from <= slot { 0 } else { self.expand.rank(from - slot) };
        let index = self.positions.next(self.expand.len(), rank)?;
        Some(slot + self.expand.select(index))
    }

    /// Returns the first second of the first slot of the rule that ends after `from` and begins before `to`.
    fn next_slot(&self, from: i64, to: i64, phase: i64, steps: &mut Steps) -> Seek {
        let size = self.unit.seconds();
        let mut slot = from.div_euclid(size);
        loop {
            let day = slot.div_euclid(DAY_S / size);
            let selected = self
                .days
                .next(day, (to - 1).div_euclid(DAY_S).min(civil::LAST_DAY), steps)?;
            if selected > day {
                slot = selected * (DAY_S / size);
            }
            let second = slot * size;
            match self.filter.next(second - selected * DAY_S) {
                Some(second) => slot = (selected * DAY_S + second) / size,
                None => {
                    slot = (selected + 1) * (DAY_S / size);
                    continue;
                }
            }
            match (phase - slot).rem_euclid(self.interval) {
                0 if slot * size < to => return Ok(slot * size),
                0 => return Err(Miss::End),
                ahead => slot += ahead,
            }
            if slot * size >= to {
                return Err(Miss::End);
            }
            steps.take(1, slot * size)?;
        }
    }

    /// Returns the occurrence with this number, counted from 1, not after instant `end`.
    pub(super) fn nth(&self, number: u64, end: i64, zone: &Zone, steps: &mut Steps) -> Seek {
        if let Some(found) = self.nth_unfiltered(number) {
            return if found <= end { Ok(found) } else { Err(Miss::End) };
        }
        let (mut found, mut counted) = match zone.is_utc().then(|| self.skip_days(number, steps)).flatten() {
            Some((day, counted)) => (day * DAY_S - 1, counted),
            None => (self.start - 1, 0),
        };
        while counted < number {
            steps.take(1, found)?;
            found = self.next(found + 1, end, zone, steps)?;
            counted += 1;
        }
        Ok(found)
    }

    /// Returns the occurrence with this number of a rule without any BY-part: pure arithmetic, in every zone.
    fn nth_unfiltered(&self, number: u64) -> Option<i64> {
        let plain = self.unit == Unit::Second
            && self.filter == Times::ALL
            && self.days.is_always()
            && self.positions.count(1) == 1;
        // Beyond 64 bits it is beyond every bound of the search too.
        let distance = i64::try_from(number - 1)
            .unwrap_or(i64::MAX)
            .saturating_mul(self.interval);
        plain.then_some(self.start.saturating_add(distance))
    }

    /// Skips whole days in UTC when all have the same occurrences: returns a day and how many occurrences are before it, fewer than `number`.
    fn skip_days(&self, number: u64, steps: &mut Steps) -> Option<(i64, u64)> {
        let slots = DAY_S / self.unit.seconds();
        if slots % self.interval != 0 {
            return None;
        }
        let phase = self.origin.div_euclid(self.unit.seconds()).rem_euclid(self.interval);
        let on_grid = (0..slots / self.interval).map(|i| (phase + i * self.interval) * self.unit.seconds());
                let per_day = on_grid.filter(|s| self.filter.next(*s) == Some(*s)).count() as u64 * self.per_slot();
        let mut day = self.start.div_euclid(DAY_S) + 1;
        // The first day is only partly the rule's; what it has is counted one by one, and it has no more than a whole day.
        let mut counted = 0;
        let mut at = self.start - 1;
        while let Ok(found) = self.next(at + 1, day * DAY_S - 1, &Zone::Utc, steps) {
            counted += 1;
            at = found;
        }
        if counted >= number || per_day == 0 {
            return None;
        }
        loop {
            let next_year = civil::year_start(civil::year_of(day) + 1);
            let in_year = self.days.count(day, next_year);
            let wanted = (number - counted - 1) / per_day;
            if wanted < in_year {
                return self
                    .days
                    .select(day, next_year, wanted)
                    .map(|day| (day, counted + wanted * per_day));
            }
            counted += in_year * per_day;
            day = next_year;
            if day > civil::LAST_DAY || steps.take(1, day * DAY_S).is_err() {
                return None;
            }
        }
    }
}

/// Which slots of a day an interval can hit, modulo the greatest common divisor of the interval and the slots of a day.
///
/// A rule such as every second second, on odd seconds only, from an even one, has no occurrence; without this it would be looked for
/// second by second until the end of time.
#[derive(Clone, Debug)]
struct Reach {
    divisor: i64,
    /// Bit r tells whether the filter lets a slot with remainder r pass; empty when all remainders pass.
    remainders: Vec<u64>,
}

impl Reach {
    fn new(interval: i64, slots: i64, unit: Unit, filter: Times) -> Self {
        let divisor = gcd(interval, slots);
        let mut remainders = Vec::new();
        if divisor > 1 && filter.len() < slots.unsigned_abs() {
            // The divisor divides the slots of a day, so that this is at most 11 KB.
            remainders = vec![0u64; divisor as usize / 64 + 1];
            let mut second = filter.next(0);
            while let Some(found) = second {
                let remainder = (found / unit.seconds() % divisor) as usize;
                remainders[remainder / 64] |= 1 << (remainder % 64);
                second = filter.next(found + 1);
            }
        }
        Self { divisor, remainders }
    }

    /// Whether the filter lets any slot with this phase, modulo the interval, pass.
    fn hits(&self, phase: i64) -> bool {
        if self.remainders.is_empty() {
            return true;
        }
        let remainder = (phase % self.divisor) as usize;
        self.remainders[remainder / 64] & (1 << (remainder % 64)) != 0
    }
}

/// Returns the greatest common divisor of two positive numbers.
fn gcd(a: i64, b: i64) -> i64 {
    if b == 0 { a } else { gcd(b, a % b) }
}
