//! How long one search for the next occurrence takes: `cargo bench -p sched-core --bench schedule --profile dev`.
//!
//! Each rule begins now, a year ago and fifty years ago: the search seeks, so that the three should not differ. `recurrence` measures
//! more rules in less time and fails when a promise is broken; here criterion says how far to trust a figure.
#![allow(missing_docs, reason = "criterion's macros make a public function without any")]

use criterion::measurement::{Measurement, ValueFormatter, WallTime};
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use rustix::time::{ClockId, clock_gettime};
use sched_core::Timestamp;
use sched_core::schedule::{DstPolicy, Next, Recurrence, Schedule, Zones};
use std::hint::black_box;
use std::time::Duration;

struct Bundled(jiff::tz::TimeZoneDatabase);

impl Zones for Bundled {
    fn zone(&self, name: &str) -> Option<jiff::tz::TimeZone> {
        self.0.get(name).ok()
    }
}

/// When a search is made.
const NOW: &str = "2026-11-23T12:34:56Z";
/// How long before a rule begins.
const STARTS: [(&str, &str); 3] = [
    ("now", "2026-11-23T12:34:56Z"),
    ("a year ago", "2025-11-23T12:34:56Z"),
    ("50 years ago", "1976-11-23T12:34:56Z"),
];

/// The last ones are as unpleasant as rules that are accepted get.
const RULES: [&str; 6] = [
    "FREQ=MINUTELY;BYSECOND=40",
    "FREQ=DAILY;BYHOUR=9,12,17;BYMINUTE=0,30;BYSECOND=0",
    "FREQ=YEARLY;BYEASTER=0",
    "FREQ=YEARLY;BYEASTER=-14;BYMONTHDAY=8;BYMONTH=3",
    "FREQ=DAILY;INTERVAL=365;BYMONTH=2;BYMONTHDAY=29",
    "FREQ=SECONDLY;INTERVAL=999983;BYSECOND=1;BYMINUTE=1;BYHOUR=1",
];
const CRONS: [(&str, &str); 3] = [
    ("*/5 * * * *", "UTC"),
    ("30 9 * * MON-FRI", "UTC"),
    ("30 9 * * MON-FRI", "Europe/Zurich"),
];

/// The thread's own time on a processor: other work on the machine does not count.
struct CpuTime;

fn cpu_time() -> Duration {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(now.tv_sec.unsigned_abs(), u32::try_from(now.tv_nsec).unwrap_or(0))
}

impl Measurement for CpuTime {
    type Intermediate = Duration;
    type Value = Duration;

    fn start(&self) -> Duration {
        cpu_time()
    }

    fn end(&self, start: Duration) -> Duration {
        cpu_time() - start
    }

    fn add(&self, a: &Duration, b: &Duration) -> Duration {
        *a + *b
    }

    fn zero(&self) -> Duration {
        Duration::ZERO
    }

    fn to_f64(&self, value: &Duration) -> f64 {
        WallTime.to_f64(value)
    }

    fn formatter(&self) -> &dyn ValueFormatter {
        WallTime.formatter()
    }
}

fn compiled(schedule: &Schedule) -> Recurrence {
    let zones = Bundled(jiff::tz::TimeZoneDatabase::bundled());
    Recurrence::compile(schedule, "task", &zones).unwrap_or_else(|error| panic!("{schedule}: {error}"))
}

fn rrule(rule: &str, dtstart: &str) -> Recurrence {
    compiled(&Schedule::Rrule {
        rules: vec![rule.to_owned()],
        dtstart: dtstart.parse().expect("an instant"),
        rdates: Vec::new(),
        exdates: Vec::new(),
        zone: "UTC".to_owned(),
        dst: DstPolicy::Shift,
    })
}

/// Measures going from one occurrence to the next, from now on.
fn measure(bench: &mut criterion::Bencher<'_, CpuTime>, recurrence: &Recurrence) {
    let now: Timestamp = NOW.parse().expect("an instant");
    let mut at = now;
    bench.iter(|| {
        at = match black_box(recurrence).next_after(at) {
            Next::At(next) => next,
            Next::Exhausted | Next::GaveUp { .. } => now,
        };
        at
    });
}

fn next_after(criterion: &mut Criterion<CpuTime>) {
    let mut group = criterion.benchmark_group("next_after");
    group
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
        .sample_size(20);
    for rule in RULES {
        for (start, dtstart) in STARTS {
            let recurrence = rrule(rule, dtstart);
            let id = BenchmarkId::new(rule, start);
            group.bench_with_input(id, &recurrence, measure);
        }
    }
    for (expr, zone) in CRONS {
        let recurrence = compiled(&Schedule::Cron {
            expr: expr.to_owned(),
            zone: zone.to_owned(),
            dst: DstPolicy::Shift,
        });
        group.bench_with_input(BenchmarkId::new(expr, zone), &recurrence, measure);
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().with_measurement(CpuTime);
    targets = next_after
}
criterion_main!(benches);
