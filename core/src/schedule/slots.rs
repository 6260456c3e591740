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
const STRETCH_STEPS: u32 = 40;

/// Most slots of a week that are looked at when a rule is compiled.
const WEEK_LOOKS_MAX: i64 = 20_000;

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
    /// Returns the length in seconds.
    pub(super) const fn seconds(self) -> i64 {
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
    /// Which slots the interval hits.
    grid: Grid,
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
        Self {
            unit,
            grid: Grid::new(interval, unit, filter),
            days,
            filter,
            expand,
            positions,
            origin,
            start,
        }
    }

    /// Returns the days on which slots count.
    pub(super) fn days(&self) -> &Days {
        &self.days
    }

    /// Returns the first occurrence at or after instant `from` and not after instant `end`.
    pub(super) fn next(&self, from: i64, end: i64, zone: &Zone, steps: &mut Steps) -> Seek {
        self.nth_from(from, 1, end, zone, steps)
    }

    /// Returns the occurrence with this number, counted from 1 at instant `from`, not after instant `end`.
    fn nth_from(&self, from: i64, number: u64, end: i64, zone: &Zone, steps: &mut Steps) -> Seek {
        let mut from = from.max(self.start);
        let mut left = number;
        loop {
            if from > end {
                return Err(Miss::End);
            }
            let offset = zone.offset_at(from);
            let change = zone.next_change(from);
            let to = change
                .unwrap_or(i64::MAX)
                .min(end.saturating_add(1))
                .saturating_add(offset);
            let mut stretch = Stretch {
                from: from + offset,
                to,
                offset,
            };
            let missed = loop {
                match self.next_in(stretch, steps) {
                    Ok(found) if left == 1 => return Ok(found - offset),
                    Ok(found) => {
                        left -= 1;
                        stretch.from = found + 1;
                        steps.take(2, found - offset)?;
                    }
                    Err(missed) => break missed,
                }
            };
            match (missed, change) {
                (Miss::Budget { until }, _) => return Err(Miss::Budget { until: until - offset }),
                (Miss::End, Some(change)) => from = change,
                (Miss::End, None) => return Err(Miss::End),
            }
            steps.take(STRETCH_STEPS, from)?;
        }
    }

    /// Returns the first occurrence in a stretch, as a local second.
    fn next_in(&self, stretch: Stretch, steps: &mut Steps) -> Seek {
        let size = self.unit.seconds();
        let phase = (self.origin + stretch.offset)
            .div_euclid(size)
            .rem_euclid(self.grid.interval);
        if !self.grid.hits(phase) || self.keeps_none() {
            return Err(Miss::End);
        }
        let mut from = stretch.from;
        loop {
            let slot = self.next_slot(from.div_euclid(size), stretch.to, phase, steps)? * size;
            match self.next_within(slot, from) {
                Some(found) if found < stretch.to => return Ok(found),
                Some(_) => return Err(Miss::End),
                None => from = slot + size,
            }
            steps.take(1, from)?;
        }
    }

    /// Whether BYSETPOS keeps nothing of a slot, so that there is nothing to search for.
    pub(super) fn keeps_none(&self) -> bool {
        self.positions.next(self.expand.len(), 0).is_none()
    }

    /// Whether in UTC the interval never meets the filter on the weekdays that count, so that there is nothing to search for.
    ///
    /// Weeks are a circle to an interval, as days are. Where looking around it would take long this says no, and a search decides.
    pub(super) fn misses_weekdays(&self) -> bool {
        let per_day = self.grid.slots;
        let divisor = gcd(self.grid.interval, 7 * per_day);
        let weekdays = self.days.weekdays();
        if divisor == 1 || weekdays == 0b111_1111 || 7 * per_day / divisor > WEEK_LOOKS_MAX {
            return false;
        }
        let size = self.unit.seconds();
        let mut slot = self.origin.div_euclid(size).rem_euclid(divisor);
        while slot < 7 * per_day {
            let second = slot % per_day * size;
            if weekdays & (1 << civil::weekday_of(slot / per_day)) != 0 && self.filter.next(second) == Some(second) {
                return false;
            }
            slot += divisor;
        }
        true
    }

    /// Returns the first occurrence at or after `from` in the slot that begins at `slot`.
    fn next_within(&self, slot: i64, from: i64) -> Option<i64> {
        let rank = if from <= slot { 0 } else { self.expand.rank(from - slot) };
        let index = self.positions.next(self.expand.len(), rank)?;
        Some(slot + self.expand.select(index))
    }

    /// Returns the first slot of the rule from `slot` on that begins before local second `to`.
    fn next_slot(&self, slot: i64, to: i64, phase: i64, steps: &mut Steps) -> Seek {
        let size = self.unit.seconds();
        let per_day = DAY_S / size;
        let last = (to - 1).div_euclid(DAY_S).min(civil::LAST_DAY);
        let mut slot = slot;
        let mut year = self.days.year_at(slot.div_euclid(per_day));
        loop {
            let day = slot.div_euclid(per_day);
            let selected = self.days.next_from(&mut year, day, last, steps)?;
            slot = slot.max(selected * per_day);
            let (candidate, is_slot) = self.next_candidate(slot, phase);
            if candidate * size >= to {
                return Err(Miss::End);
            }
            if is_slot && candidate.div_euclid(per_day) == selected {
                return Ok(candidate);
            }
            slot = candidate;
            steps.take(self.grid.cost(), slot * size)?;
        }
    }

    /// Returns a slot from `slot` on before which, whatever the day, none passes the filter and hits the interval, and whether it does.
    fn next_candidate(&self, slot: i64, phase: i64) -> (i64, bool) {
        let size = self.unit.seconds();
        let per_day = DAY_S / size;
        let on_interval = |slot: i64| slot + (phase - slot).rem_euclid(self.grid.interval);
        if !self.grid.members.is_empty() {
            let first = on_interval(slot);
            return (first + self.grid.distance(first.rem_euclid(per_day)), true);
        }
        let day = slot.div_euclid(per_day);
        match self.filter.next(slot.rem_euclid(per_day) * size) {
            Some(second) => {
                let passes = day * per_day + second / size;
                let hits = on_interval(passes);
                (hits, hits == passes)
            }
            None => ((day + 1) * per_day, false),
        }
    }

    /// Returns the occurrence with this number, counted from 1, not after instant `end`.
    pub(super) fn nth(&self, number: u64, end: i64, zone: &Zone, steps: &mut Steps) -> Seek {
        if let Some(found) = self.nth_unfiltered(number) {
            return if found <= end { Ok(found) } else { Err(Miss::End) };
        }
        let (from, counted) = zone
            .is_utc()
            .then(|| self.skip_days(number, steps))
            .flatten()
            .unwrap_or((self.start, 0));
        self.nth_from(from, number - counted, end, zone, steps)
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
            .saturating_mul(self.grid.interval);
        plain.then_some(self.start.saturating_add(distance))
    }

    /// Skips whole days in UTC when all have the same occurrences: returns an instant, and how many occurrences are before it, fewer
    /// than `number`.
    fn skip_days(&self, number: u64, steps: &mut Steps) -> Option<(i64, u64)> {
        let slots = DAY_S / self.unit.seconds();
        let interval = self.grid.interval;
        if slots % interval != 0 {
            return None;
        }
        let phase = self.origin.div_euclid(self.unit.seconds()).rem_euclid(interval);
        let passing = |from: i64| {
            let seconds = (phase..slots)
                .step_by(interval.unsigned_abs() as usize)
                .map(|slot| slot * self.unit.seconds());
            seconds
                .filter(|s| *s >= from && self.filter.next(*s) == Some(*s))
                .count() as u64
        };
        let per_slot = self.positions.count(self.expand.len());
        let per_day = passing(0) * per_slot;
        // Of the first day only what is left; a slot that has begun is counted by looking, all later ones are whole.
        let mut day = self.start.div_euclid(DAY_S);
        let mut counted = 0;
        if self.days.contains(day) {
            let begun = self.start.div_euclid(self.unit.seconds()) * self.unit.seconds();
            let next = begun + self.unit.seconds();
            counted = passing(next - day * DAY_S) * per_slot;
            let mut at = self.start;
            while let Ok(found) = self.next(at, next - 1, &Zone::Utc, steps) {
                counted += 1;
                at = found + 1;
            }
        }
        if counted >= number || per_day == 0 {
            return None;
        }
        day += 1;
        loop {
            let next_year = self.days.year_at(day).end;
            let in_year = self.days.count(day, next_year);
            let wanted = (number - counted - 1) / per_day;
            if wanted < in_year {
                let day = self.days.select(day, next_year, wanted)?;
                return Some((day * DAY_S, counted + wanted * per_day));
            }
            counted += in_year * per_day;
            day = next_year;
            if day > civil::LAST_DAY || steps.take(1, day * DAY_S).is_err() {
                return None;
            }
        }
    }
}

/// Above this, members of the filter are not looked at one by one: the interval hits one of them soon enough.
const MEMBERS_MAX: u64 = 32;

/// How an interval walks over the slots of a day, which are a circle to it.
///
/// Both `divisor` and `members` answer questions that stepping could only answer by going around that circle, up to a day's seconds
/// times: whether the interval hits a slot that passes the filter at all (every second second, on odd seconds only, from an even one,
/// does not), and when it does next.
#[derive(Clone, Debug)]
struct Grid {
    /// Every so many slots, at least 1.
    interval: i64,
    /// Slots of a day.
    slots: i64,
    /// The greatest common divisor of both.
    divisor: i64,
    /// Bit r tells whether the filter lets a slot with remainder r by the divisor pass; empty when all remainders pass.
    remainders: Vec<u64>,
    /// The slots of a day that pass the filter, if they are few and the interval is not 1.
    members: Vec<i64>,
    /// What undoes a multiplication by interval / divisor, modulo slots / divisor.
    inverse: i64,
}

impl Grid {
    fn new(interval: i64, unit: Unit, filter: Times) -> Self {
        let slots = DAY_S / unit.seconds();
        let divisor = gcd(interval, slots);
        let mut remainders = Vec::new();
        let mut members = Vec::new();
        if interval > 1 && filter.len() < slots.unsigned_abs() {
            // The divisor divides the slots of a day, so that this is at most 11 KB.
            remainders = vec![0u64; divisor as usize / 64 + 1];
            let mut second = filter.next(0);
            while let Some(found) = second {
                let slot = found / unit.seconds();
                let remainder = (slot % divisor) as usize;
                remainders[remainder / 64] |= 1 << (remainder % 64);
                if filter.len() <= MEMBERS_MAX {
                    members.push(slot);
                }
                second = filter.next(found + 1);
            }
        }
        let inverse = inverse(interval / divisor, slots / divisor);
        Self {
            interval,
            slots,
            divisor,
            remainders,
            members,
            inverse,
        }
    }

    /// Returns the cost of a step.
    fn cost(&self) -> u32 {
        // At most 32 members; looking at four costs about as much as the rest of a step.
        1 + self.members.len() as u32 / 4
    }

    /// Whether the filter lets any slot with this phase, modulo the interval, pass.
    fn hits(&self, phase: i64) -> bool {
        if self.remainders.is_empty() {
            return true;
        }
        let remainder = (phase % self.divisor) as usize;
        self.remainders[remainder / 64] & (1 << (remainder % 64)) != 0
    }

    /// Returns how far the next member is from a slot of a day that is on the interval, in slots of any number of days.
    fn distance(&self, slot: i64) -> i64 {
        let circle = self.slots / self.divisor;
        let rounds = |member: &i64| {
            let distance = (member - slot).rem_euclid(self.slots);
            (distance % self.divisor == 0).then(|| distance / self.divisor * self.inverse % circle)
        };
        // Nothing is hit only when `hits` has said so before.
        self.members.iter().filter_map(rounds).min().unwrap_or(circle) * self.interval
    }
}

/// Returns the number whose product with `number` is 1, modulo `modulus`, to which `number` has no common divisor.
fn inverse(number: i64, modulus: i64) -> i64 {
    let (mut old, mut rest) = (number % modulus, modulus);
    let (mut factor, mut next) = (1, 0);
    while rest != 0 {
        let quotient = old / rest;
        (old, rest) = (rest, old - quotient * rest);
        (factor, next) = (next, factor - quotient * next);
    }
    factor.rem_euclid(modulus)
}

/// Returns the greatest common divisor of two positive numbers.
fn gcd(a: i64, b: i64) -> i64 {
    if b == 0 { a } else { gcd(b, a % b) }
}
