//! Which seconds of a day a rule selects: hours × minutes × seconds, in three words.

/// A set of seconds of the day: every selected hour has the same minutes, every selected minute the same seconds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Times {
    /// Bit h is hour h. Never empty, like the other two.
    pub(super) hours: u32,
    /// Bit m is minute m.
    pub(super) minutes: u64,
    /// Bit s is second s.
    pub(super) seconds: u64,
}

/// All hours.
pub(super) const HOURS: u32 = (1 << 24) - 1;
/// All minutes, or all seconds.
pub(super) const SIXTY: u64 = (1 << 60) - 1;

impl Times {
    /// Every second of the day.
    pub(super) const ALL: Self = Self {
        hours: HOURS,
        minutes: SIXTY,
        seconds: SIXTY,
    };

    /// Returns how many seconds of a day are in the set.
    pub(super) fn len(&self) -> u64 {
        u64::from(self.hours.count_ones() * self.minutes.count_ones() * self.seconds.count_ones())
    }

    /// Returns the first second of the day in the set.
    pub(super) fn first(&self) -> i64 {
        i64::from(
            self.hours.trailing_zeros() * 3600 + self.minutes.trailing_zeros() * 60 + self.seconds.trailing_zeros(),
        )
    }

    /// Returns the first second of the day in the set from `second` on, which may be beyond the day.
    pub(super) fn next(&self, second: i64) -> Option<i64> {
        if second >= 86_400 {
            return None;
        }
        let (hour, minute, second) = split(second);
        if self.hours & (1 << hour) != 0 {
            if self.minutes & (1 << minute) != 0
                && let Some(found) = from_bit(self.seconds, second)
            {
                return Some(join(hour, minute, found));
            }
            if let Some(found) = from_bit(self.minutes, minute + 1) {
                return Some(join(hour, found, self.seconds.trailing_zeros()));
            }
        }
        let found = from_bit(u64::from(self.hours), hour + 1)?;
        Some(join(
            found,
            self.minutes.trailing_zeros(),
            self.seconds.trailing_zeros(),
        ))
    }

    /// Returns how many seconds in the set come before `second`, which may be the end of the day.
    pub(super) fn rank(&self, second: i64) -> u64 {
        if second >= 86_400 {
            return self.len();
        }
        let (hour, minute, second) = split(second);
        let mut before = (self.hours & ((1 << hour) - 1)).count_ones() * self.minutes.count_ones();
        if self.hours & (1 << hour) == 0 {
            return u64::from(before * self.seconds.count_ones());
        }
        before = (before + below(self.minutes, minute)) * self.seconds.count_ones();
        if self.minutes & (1 << minute) != 0 {
            before += below(self.seconds, second);
        }
        u64::from(before)
    }

    /// Returns the second with this number, counted from 0 and below [`len`](Self::len).
    pub(super) fn select(&self, number: u64) -> i64 {
        let per_minute = u64::from(self.seconds.count_ones());
        let per_hour = u64::from(self.minutes.count_ones()) * per_minute;
        let hour = nth_bit(u64::from(self.hours), number / per_hour);
        let minute = nth_bit(self.minutes, number % per_hour / per_minute);
        join(hour, minute, nth_bit(self.seconds, number % per_minute))
    }
}

/// Splits a second of the day, which is below 86,400, into hour, minute and second.
fn split(second: i64) -> (u32, u32, u32) {
    let second = second as u32;
    (second / 3600, second / 60 % 60, second % 60)
}

fn join(hour: u32, minute: u32, second: u32) -> i64 {
    i64::from(hour * 3600 + minute * 60 + second)
}

/// Returns the lowest bit from `bit`, at most 60, on.
fn from_bit(bits: u64, bit: u32) -> Option<u32> {
    let rest = bits >> bit << bit;
    (rest != 0).then(|| rest.trailing_zeros())
}

/// Counts the bits below `bit`, at most 60.
fn below(bits: u64, bit: u32) -> u32 {
    (bits & ((1 << bit) - 1)).count_ones()
}

/// Returns the position of the bit with this number, counted from 0.
fn nth_bit(mut bits: u64, number: u64) -> u32 {
    for _ in 0..number {
        bits &= bits.wrapping_sub(1);
    }
    bits.trailing_zeros()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_looking_at_each_second() {
        for times in [
            Times::ALL,
            Times {
                hours: 1 << 23,
                minutes: 1 << 59,
                seconds: 1 << 59,
            },
            Times {
                hours: 0b1000_0001,
                minutes: 1 | 1 << 30,
                seconds: 0b11,
            },
            Times {
                hours: HOURS,
                minutes: 1 << 7,
                seconds: 1 << 40 | 1,
            },
        ] {
            let each: Vec<i64> = (0..86_400)
                .filter(|s| {
                    let (h, m, s) = split(*s);
                    times.hours >> h & 1 == 1 && times.minutes >> m & 1 == 1 && times.seconds >> s & 1 == 1
                })
                .collect();
            assert_eq!(times.len(), each.len() as u64);
            assert_eq!(times.first(), each[0]);
            let mut at = 0;
            for second in 0..=86_400 {
                assert_eq!(times.rank(second), at as u64, "{second}");
                assert_eq!(times.next(second), each.get(at).copied(), "{second}");
                if each.get(at) == Some(&second) {
                    assert_eq!(times.select(at as u64), second);
                    at += 1;
                }
            }
        }
    }
}
