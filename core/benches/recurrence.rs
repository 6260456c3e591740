//! How long one search for the next occurrence takes, and how long compiling does: `cargo bench -p sched-core`.
//!
//! A small harness of its own: it prints the median of rounds in nanoseconds, and needs no further dependency. Each row has a promise;
//! the program fails when one is broken, which makes it a check as well.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "what is banned from the state machine is not from its tests"
)]

use sched_core::Timestamp;
use sched_core::schedule::{DstPolicy, Next, Recurrence, Schedule, Zones};
use std::hint::black_box;
use std::time::Instant;

struct Bundled(jiff::tz::TimeZoneDatabase);

impl Zones for Bundled {
    fn zone(&self, name: &str) -> Option<jiff::tz::TimeZone> {
        self.0.get(name).ok()
    }
}

/// Rule, zone, and what one search may take at most, in nanoseconds.
const RULES: [(&str, &str, u128); 24] = [
    ("FREQ=MINUTELY;BYSECOND=40", "UTC", 1_000),
    ("FREQ=DAILY;BYHOUR=9;BYMINUTE=0;BYSECOND=0", "UTC", 1_000),
    ("FREQ=YEARLY;BYEASTER=0", "UTC", 10_000),
    ("FREQ=SECONDLY", "UTC", 1_000),
    (
        "FREQ=SECONDLY;INTERVAL=7;BYHOUR=3;BYMINUTE=5;BYSECOND=43",
        "UTC",
        10_000,
    ),
    ("FREQ=MINUTELY;BYDAY=MO;BYHOUR=9", "UTC", 1_000),
    ("FREQ=WEEKLY;INTERVAL=2;BYDAY=MO,WE,FR", "UTC", 1_000),
    ("FREQ=MONTHLY;BYDAY=MO,TU,WE,TH,FR;BYSETPOS=-1", "UTC", 1_000),
    ("FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=29;BYDAY=MO", "UTC", 10_000),
    ("FREQ=DAILY;COUNT=1000000", "UTC", 1_000),
    ("FREQ=DAILY;BYHOUR=9;BYMINUTE=0;BYSECOND=0", "Europe/Zurich", 10_000),
    ("FREQ=HOURLY;INTERVAL=5;BYMINUTE=0,30", "Europe/Zurich", 10_000),
    ("FREQ=MINUTELY;BYSECOND=40", "Europe/Zurich", 10_000),
    ("FREQ=YEARLY;BYEASTER=0", "Europe/Zurich", 10_000),
    ("cron */5 * * * *", "UTC", 1_000),
    ("cron 0 9 * * MON-FRI", "UTC", 1_000),
    ("cron 0 9 * * MON-FRI", "Europe/Zurich", 10_000),
    ("cron 0 0 29 2 MON#5", "UTC", 10_000),
    ("cron */10 * * * * *", "America/New_York", 10_000),
    // The unpleasant ones.
    (
        "FREQ=SECONDLY;INTERVAL=65535;BYSECOND=1;BYMINUTE=1;BYHOUR=1",
        "UTC",
        10_000_000,
    ),
    (
        "FREQ=SECONDLY;INTERVAL=86399;BYHOUR=1,2,3;BYDAY=MO;BYMONTHDAY=29;BYMONTH=2",
        "UTC",
        10_000_000,
    ),
    ("FREQ=DAILY;INTERVAL=65535;BYDAY=MO", "UTC", 10_000_000),
    (
        "FREQ=SECONDLY;INTERVAL=999983;BYSECOND=1;BYMINUTE=1;BYHOUR=1",
        "Europe/Zurich",
        10_000_000,
    ),
    (
        "FREQ=WEEKLY;INTERVAL=53;BYDAY=MO;BYMONTH=2;BYMONTHDAY=29",
        "UTC",
        10_000_000,
    ),
];

fn schedule(rule: &str, zone: &str, dtstart: &str) -> Schedule {
    match rule.strip_prefix("cron ") {
        Some(expr) => Schedule::Cron {
            expr: expr.to_owned(),
            zone: zone.to_owned(),
            dst: DstPolicy::Shift,
        },
        None => Schedule::Rrule {
            rules: vec![rule.to_owned()],
            dtstart: dtstart.parse().expect("an instant"),
            rdates: Vec::new(),
            exdates: Vec::new(),
            zone: zone.to_owned(),
            dst: DstPolicy::Shift,
        },
    }
}

/// Returns the median time of one call in nanoseconds.
fn median_ns(mut call: impl FnMut()) -> u128 {
    let start = Instant::now();
    call();
    let calls = (20_000_000 / start.elapsed().as_nanos().max(20)).clamp(1, 100_000);
    let mut rounds: Vec<u128> = (0..9)
        .map(|_| {
            let start = Instant::now();
            (0..calls).for_each(|_| call());
            start.elapsed().as_nanos() / calls
        })
        .collect();
    rounds.sort_unstable();
    rounds[rounds.len() / 2]
}

fn main() {
    let zones = Bundled(jiff::tz::TimeZoneDatabase::bundled());
    let mut broken = 0;
    println!("{:>10} {:>10} {:>10}  rule", "compile ns", "1970 ns", "2025 ns");
    for (rule, zone, most) in RULES {
        let compile = |dtstart: &str| Recurrence::compile(&schedule(rule, zone, dtstart), "task", &zones);
        let compiling = median_ns(|| drop(black_box(compile("1970-01-01T01:01:01Z"))));
        let searching = ["1970-01-01T01:01:01Z", "2025-06-01T01:01:01Z"].map(|dtstart| {
            let recurrence = compile(dtstart).unwrap_or_else(|error| panic!("{rule}: {error}"));
            let from: Timestamp = "2026-11-23T12:34:56.789Z".parse().expect("an instant");
            let mut at = from;
            median_ns(|| {
                at = match black_box(&recurrence).next_after(at) {
                    Next::At(next) => next,
                    Next::Exhausted | Next::GaveUp { .. } => from,
                };
            })
        });
        let verdict = if searching.iter().any(|ns| *ns > most) {
            "  BROKEN"
        } else {
            ""
        };
        broken += usize::from(!verdict.is_empty());
        println!(
            "{compiling:>10} {:>10} {:>10}  {rule} {zone}{verdict}",
            searching[0], searching[1]
        );
    }
    assert_eq!(broken, 0, "{broken} promises are broken");
}
