//! What the tests of recurrence share.

use sched_core::Timestamp;
use sched_core::schedule::{DstPolicy, Next, Recurrence, Schedule, ScheduleError, Zones};
use std::io::Write as _;

/// Zone data that does not depend on the machine.
pub(crate) struct Bundled(jiff::tz::TimeZoneDatabase);

impl Bundled {
    pub(crate) fn new() -> Self {
        Self(jiff::tz::TimeZoneDatabase::bundled())
    }

    /// Returns the names of all zones.
    pub(crate) fn names(&self) -> Vec<String> {
        self.0.available().map(|name| name.to_string()).collect()
    }
}

impl Zones for Bundled {
    fn zone(&self, name: &str) -> Option<jiff::tz::TimeZone> {
        self.0.get(name).ok()
    }
}

/// SplitMix64 (Steele, Lea, Flood 2014): small, and the same on every machine.
pub(crate) struct Rng(pub(crate) u64);

impl Rng {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From `least` to `most`, both included.
    pub(crate) fn within(&mut self, least: i64, most: i64) -> i64 {
        least + (self.next() % (most - least + 1) as u64) as i64
    }

    pub(crate) fn percent(&mut self, chance: u64) -> bool {
        self.next() % 100 < chance
    }

    pub(crate) fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[(self.next() % from.len() as u64) as usize]
    }

    /// One to `most` different numbers, ascending.
    pub(crate) fn some(&mut self, least: i64, most: i64, how_many: i64) -> Vec<i64> {
        let mut numbers: Vec<i64> = (0..self.within(1, how_many))
            .map(|_| self.within(least, most))
            .collect();
        numbers.sort_unstable();
        numbers.dedup();
        numbers
    }
}

/// Returns `SEED`, or a fixed seed and a fresh one, which are printed.
pub(crate) fn seeds(test: &str) -> Vec<u64> {
    let seeds = given_seed().map_or_else(|| vec![1, fresh(test)], |seed| vec![seed]);
    println!("{test}: seeds {seeds:?}");
    seeds
}

/// Returns `SEED`, or else a fresh seed; it is printed, whatever becomes of the test.
pub(crate) fn fresh_seed(test: &str) -> u64 {
    let seed = given_seed().unwrap_or_else(|| fresh(test));
    // Past the harness, which keeps the output of what passes to itself.
    let _ = writeln!(std::io::stderr(), "{test}: SEED={seed}");
    seed
}

fn given_seed() -> Option<u64> {
    let seed = std::env::var("SEED").ok()?;
    Some(seed.parse().expect("SEED is a number"))
}

fn fresh(test: &str) -> u64 {
    // The hasher's keys are the one source of randomness in std.
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(test) >> 16
}

pub(crate) fn t(text: &str) -> Timestamp {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

pub(crate) fn second(at: Timestamp) -> i64 {
    assert_eq!(at.as_millis() % 1000, 0, "{at} is not a whole second");
    at.as_millis() / 1000
}

pub(crate) fn at_second(second: i64) -> Timestamp {
    Timestamp::from_millis(second * 1000)
}

pub(crate) fn rrule_in(rule: &str, dtstart: &str, zone: &str, dst: DstPolicy) -> Schedule {
    Schedule::Rrule {
        rules: vec![rule.to_owned()],
        dtstart: t(dtstart),
        rdates: Vec::new(),
        exdates: Vec::new(),
        zone: zone.to_owned(),
        dst,
    }
}

pub(crate) fn rrule(rule: &str, dtstart: &str) -> Schedule {
    rrule_in(rule, dtstart, "UTC", DstPolicy::Shift)
}

pub(crate) fn cron_in(expr: &str, zone: &str, dst: DstPolicy) -> Schedule {
    Schedule::Cron {
        expr: expr.to_owned(),
        zone: zone.to_owned(),
        dst,
    }
}

pub(crate) fn cron(expr: &str) -> Schedule {
    cron_in(expr, "UTC", DstPolicy::Shift)
}

pub(crate) fn compile(schedule: &Schedule) -> Result<Recurrence, ScheduleError> {
    Recurrence::compile(schedule, "backup", &Bundled::new())
}

/// Compiles what must compile.
pub(crate) fn compiled(schedule: &Schedule) -> Recurrence {
    compile(schedule).unwrap_or_else(|error| panic!("{schedule}: {error}"))
}

/// Returns the first occurrences after an instant.
pub(crate) fn after(recurrence: &Recurrence, after: Timestamp, most: usize) -> Vec<Timestamp> {
    let mut found = Vec::new();
    let mut at = after;
    while found.len() < most {
        match recurrence.next_after(at) {
            Next::At(next) => {
                assert!(next > at, "{next} is not after {at}");
                found.push(next);
                at = next;
            }
            Next::Exhausted => break,
            Next::GaveUp { searched_until } => panic!("gave up at {searched_until}"),
        }
    }
    found
}

/// Writes instants without the zeros that all have.
pub(crate) fn shown(instants: &[Timestamp]) -> Vec<String> {
    instants.iter().map(|at| at.to_string().replace(".000Z", "Z")).collect()
}
