//! Nonsense, contradictions and extremes: refused or answered, quickly, without a panic.

use crate::support::{Rng, compile, cron, cron_in, rrule, rrule_in, second, seeds, t};
use sched_core::Timestamp;
use sched_core::schedule::{DstPolicy, Next, Schedule, ScheduleError, parse_duration};
use std::time::Duration;

/// What is promised for any rule. Measured is the thread's own time on a processor, the best of some attempts, so that other work on
/// the machine does not count.
const PROMISED: Duration = Duration::from_millis(10);

fn cpu_time() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}

/// Returns how long compiling and some searches took at best.
fn cost(schedule: &Schedule) -> Duration {
    let attempt = || {
        let start = cpu_time();
        let compiled = compile(schedule);
        let compiling = cpu_time() - start;
        let Ok(recurrence) = compiled else { return compiling };
        let mut longest = compiling;
        for from in [
            "1970-01-01T00:00:00Z",
            "2026-06-01T12:34:56Z",
            "2500-01-01T00:00:00Z",
            "9990-01-01T00:00:00Z",
        ] {
            let start = cpu_time();
            let mut at = t(from);
            for _ in 0..2 {
                match recurrence.next_after(at) {
                    Next::At(next) => {
                        assert!(next > at, "{schedule}: {next} is not after {at}");
                        at = next;
                    }
                    Next::GaveUp { searched_until } => assert!(searched_until >= at, "{schedule}"),
                    Next::Exhausted => {}
                }
            }
            longest = longest.max((cpu_time() - start) / 2);
        }
        longest
    };
    (0..5).map(|_| attempt()).min().unwrap_or_default()
}

/// Rules that never occur; each is refused as impossible.
const IMPOSSIBLE: [&str; 34] = [
    "FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=30",
    "FREQ=MONTHLY;BYMONTH=2;BYMONTHDAY=30",
    "FREQ=DAILY;BYMONTH=2;BYMONTHDAY=30,31",
    "FREQ=HOURLY;BYMONTH=2;BYMONTHDAY=30",
    "FREQ=MINUTELY;BYMONTH=4;BYMONTHDAY=31",
    "FREQ=SECONDLY;BYMONTH=2;BYMONTHDAY=-30",
    "FREQ=YEARLY;BYMONTH=1;BYYEARDAY=100",
    "FREQ=YEARLY;BYWEEKNO=20;BYMONTH=1",
    "FREQ=YEARLY;BYEASTER=0;BYDAY=MO",
    "FREQ=YEARLY;BYEASTER=0;BYMONTH=12",
    "FREQ=SECONDLY;BYEASTER=0;BYMONTH=12",
    "FREQ=YEARLY;BYMONTH=1;BYDAY=6MO",
    "FREQ=MONTHLY;BYDAY=1MO;BYMONTHDAY=8",
    "FREQ=MONTHLY;BYDAY=MO;BYSETPOS=6",
    "FREQ=DAILY;BYSETPOS=2",
    "FREQ=HOURLY;BYSETPOS=366",
    "FREQ=MINUTELY;BYSETPOS=-61",
    "FREQ=SECONDLY;BYSETPOS=2",
    "FREQ=SECONDLY;BYSETPOS=-366",
    "FREQ=HOURLY;INTERVAL=2;BYHOUR=1",
    "FREQ=HOURLY;INTERVAL=24;BYHOUR=1,2,3,4,5",
    "FREQ=MINUTELY;INTERVAL=2;BYMINUTE=1,3,5",
    "FREQ=MINUTELY;INTERVAL=1440;BYHOUR=5",
    "FREQ=SECONDLY;INTERVAL=2;BYSECOND=1",
    "FREQ=SECONDLY;INTERVAL=60;BYSECOND=59",
    "FREQ=SECONDLY;INTERVAL=86400;BYHOUR=1",
    "FREQ=SECONDLY;INTERVAL=2;BYSECOND=1,3,5,7,9;BYMINUTE=0;BYDAY=MO",
    "FREQ=DAILY;INTERVAL=7;BYDAY=FR",
    "FREQ=YEARLY;INTERVAL=2;BYMONTH=2;BYMONTHDAY=29;BYYEARDAY=61",
    "FREQ=DAILY;UNTIL=20251231T235959Z",
    "FREQ=HOURLY;INTERVAL=168;BYDAY=FR",
    "FREQ=HOURLY;INTERVAL=84;BYDAY=FR",
    "FREQ=WEEKLY;BYDAY=SA,MO,TH;BYSETPOS=-4",
    "FREQ=WEEKLY;INTERVAL=3;BYMONTH=6,7,8;BYSETPOS=3",
];

/// Rules that are possible and as unpleasant as can be.
const EXTREME: [&str; 40] = [
    "FREQ=SECONDLY;INTERVAL=604800;BYDAY=MO",
    "FREQ=SECONDLY;INTERVAL=65535",
    "FREQ=SECONDLY;INTERVAL=65535;BYSECOND=1;BYMINUTE=1;BYHOUR=1",
    "FREQ=SECONDLY;INTERVAL=65535;BYSECOND=1;BYMINUTE=1;BYHOUR=1;BYMONTHDAY=31",
    "FREQ=SECONDLY;INTERVAL=65537;BYSECOND=1;BYMINUTE=1;BYHOUR=1;BYYEARDAY=366",
    "FREQ=SECONDLY;INTERVAL=86399;BYSECOND=1;BYMINUTE=1;BYHOUR=1",
    "FREQ=SECONDLY;INTERVAL=86401;BYSECOND=1;BYMINUTE=1;BYHOUR=1",
    "FREQ=SECONDLY;INTERVAL=999983;BYSECOND=1;BYMINUTE=1;BYHOUR=1",
    "FREQ=SECONDLY;INTERVAL=2147483647",
    "FREQ=SECONDLY;INTERVAL=2147483647;BYHOUR=3",
    "FREQ=MINUTELY;INTERVAL=2147483647;BYSECOND=0,1",
    "FREQ=HOURLY;INTERVAL=2147483647;BYMINUTE=0,1",
    "FREQ=DAILY;INTERVAL=2147483647",
    "FREQ=WEEKLY;INTERVAL=2147483647",
    "FREQ=MONTHLY;INTERVAL=2147483647",
    "FREQ=YEARLY;INTERVAL=2147483647",
    "FREQ=SECONDLY;INTERVAL=7;BYHOUR=3;BYMINUTE=5;BYSECOND=43",
    "FREQ=SECONDLY;INTERVAL=2;BYMONTH=2;BYMONTHDAY=29;BYDAY=MO;BYHOUR=0;BYMINUTE=0;BYSECOND=0",
    "FREQ=MINUTELY;INTERVAL=1439;BYHOUR=0;BYMINUTE=0",
    "FREQ=MINUTELY;INTERVAL=1441;BYHOUR=0;BYMINUTE=0;BYDAY=MO",
    "FREQ=MINUTELY;INTERVAL=65535;BYHOUR=23;BYMINUTE=59;BYMONTH=12;BYMONTHDAY=31",
    "FREQ=HOURLY;INTERVAL=65535;BYHOUR=0;BYMONTHDAY=29;BYMONTH=2",
    "FREQ=DAILY;INTERVAL=365;BYMONTH=2;BYMONTHDAY=29",
    "FREQ=DAILY;INTERVAL=65535;BYDAY=MO",
    "FREQ=DAILY;INTERVAL=6;BYDAY=MO;BYMONTH=2;BYMONTHDAY=29",
    "FREQ=WEEKLY;INTERVAL=53;BYDAY=MO;BYMONTH=2;BYMONTHDAY=29",
    "FREQ=MONTHLY;INTERVAL=11;BYMONTH=2;BYMONTHDAY=29;BYDAY=MO",
    "FREQ=YEARLY;INTERVAL=100;BYMONTH=2;BYMONTHDAY=29",
    "FREQ=YEARLY;INTERVAL=999",
    "FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=29;BYDAY=MO;BYSETPOS=1",
    "FREQ=YEARLY;BYEASTER=-366,-365,0,365,366",
    "FREQ=YEARLY;BYEASTER=-14;BYMONTHDAY=8;BYMONTH=3",
    "FREQ=DAILY;COUNT=4294967295",
    "FREQ=SECONDLY;COUNT=4294967295",
    "FREQ=SECONDLY;INTERVAL=7;BYHOUR=1;COUNT=4294967295",
    "FREQ=MONTHLY;BYDAY=MO,TU;BYSETPOS=1,-1;COUNT=4294967295",
    "FREQ=WEEKLY;INTERVAL=3;COUNT=4294967295",
    "FREQ=MINUTELY;BYSECOND=1,2;BYDAY=MO;COUNT=4294967295",
    "FREQ=HOURLY;BYMINUTE=0,1,2;BYSETPOS=4,-4,1;INTERVAL=5;COUNT=4294967295",
    "FREQ=DAILY;UNTIL=99991231T235959Z",
];

/// A list of everything that a part accepts, so that the rule is nearly as long as a rule may be.
fn long_rules() -> Vec<String> {
    let list = |least: i64, most: i64| {
        (least..=most)
            .filter(|n| *n != 0)
            .map(|n| n.to_string())
            .collect::<Vec<_>>()
            .join(",")
    };
    let from_zero = |most: i64| format!("0,{}", list(1, most));
    let days: Vec<String> = (1..=53)
        .flat_map(|n| ["MO", "TU", "WE", "TH", "FR", "SA", "SU"].map(|day| format!("{n}{day}")))
        .collect();
    vec![
        format!("FREQ=YEARLY;BYSETPOS={}", list(-366, 366)),
        format!(
            "FREQ=YEARLY;BYMONTHDAY=29;BYMONTH=2;BYDAY=MO;BYSETPOS={}",
            list(-366, -2)
        ),
        format!(
            "FREQ=WEEKLY;BYDAY=MO,TU;BYHOUR={};BYSETPOS={}",
            from_zero(23),
            list(-366, 366)
        ),
        format!(
            "FREQ=DAILY;BYHOUR={0};BYMINUTE={1};BYSECOND={1};BYSETPOS={2}",
            from_zero(23),
            from_zero(59),
            list(-300, 300)
        ),
        format!(
            "FREQ=DAILY;BYHOUR={0};BYMINUTE={1};BYSECOND={1};BYDAY=MO;COUNT=400000000",
            from_zero(23),
            from_zero(59)
        ),
        format!("FREQ=YEARLY;BYYEARDAY={}", list(-366, 366)),
        format!("FREQ=YEARLY;BYEASTER=0,{}", list(-366, 366)),
        format!("FREQ=YEARLY;BYWEEKNO={}", list(-53, 53)),
        format!("FREQ=YEARLY;BYDAY={}", days.join(",")),
        format!("FREQ=SECONDLY;INTERVAL=2;BYSECOND=1,3;BYMINUTE={}", from_zero(59)),
        format!(
            "FREQ=HOURLY;INTERVAL=7;BYMINUTE={0};BYSECOND={0};BYSETPOS={1}",
            from_zero(59),
            list(-300, 300)
        ),
        format!("FREQ=DAILY;BYHOUR={}", "1,".repeat(2030) + "1"),
        "FREQ=DAILY;".to_owned() + &"BYHOUR=1;".repeat(400),
        ";".repeat(4096),
        "=".repeat(4096),
        ",".repeat(4096),
        "FREQ=DAILY;BYDAY=".to_owned() + &"9".repeat(4000),
    ]
}

/// Cron expressions that hardly ever occur, or as often as they can, or are as long as they may be.
fn cron_expressions() -> Vec<String> {
    let long = |least: i64, most: i64| (least..=most).map(|n| n.to_string()).collect::<Vec<_>>().join(",");
    let mut expressions: Vec<String> = [
        "0 0 30 2 *",
        "0 0 31 2,4,6,9,11 *",
        "59 59 23 29 2 7#5",
        "0 0 29 2 MON#5",
        "0 0 31W 2 *",
        "0 0 L-30 2 *",
        "* * * * * *",
        "59 59 23 31 12 ?",
        "0 0 * 2 1#5",
        "@yearly",
        "@every 10ms",
        "@every 36500d",
    ]
    .map(str::to_owned)
    .to_vec();
    expressions.push(format!("{0} {0} {1} {2} * *", long(0, 59), long(0, 23), long(1, 31)));
    expressions.push("0,".repeat(2000) + "0 0 0 1 1 *");
    expressions.push("* ".repeat(2048));
    expressions
}

/// Sets of as many rules and dates as are accepted, and more.
fn sets() -> Vec<Schedule> {
    let set = |rules: usize, rdates: i64, exdates: i64| Schedule::Rrule {
        rules: vec!["FREQ=SECONDLY;INTERVAL=65537;BYSECOND=1;BYMINUTE=1;BYHOUR=1;BYYEARDAY=366".to_owned(); rules],
        dtstart: t(START),
        rdates: (0..rdates).map(|n| t(START).plus_millis(n * 1000)).collect(),
        exdates: (0..exdates).map(|n| t(START).plus_millis(n * 1000)).collect(),
        zone: "Europe/Zurich".to_owned(),
        dst: DstPolicy::Skip,
    };
    vec![
        set(1, 4096, 4096),
        set(2, 4096, 4095),
        set(1, 4097, 0),
        set(1, 0, 4097),
        set(17, 0, 0),
        set(0, 0, 0),
    ]
}

const START: &str = "2026-01-01T00:00:00Z";

#[test]
fn what_never_occurs_is_refused() {
    for rule in IMPOSSIBLE {
        match compile(&rrule(rule, START)) {
            Err(ScheduleError::Impossible { .. }) => {}
            other => panic!("{rule}: {other:?}"),
        }
    }
}

#[test]
fn nothing_takes_longer_than_promised() {
    let zones = ["UTC", "Europe/Zurich", "Australia/Lord_Howe"];
    let mut costs = Vec::new();
    let rules = IMPOSSIBLE
        .iter()
        .chain(&EXTREME)
        .map(|rule| (*rule).to_owned())
        .chain(long_rules());
    for rule in rules {
        for zone in zones {
            for start in [
                START,
                "1970-01-01T00:00:01Z",
                "0001-01-01T00:00:00Z",
                "9999-12-31T23:59:59Z",
            ] {
                let schedule = rrule_in(&rule, start, zone, DstPolicy::Skip);
                costs.push((cost(&schedule), format!("{rule:.80} from {start} {zone}")));
            }
        }
    }
    let crons = cron_expressions();
    let crons = crons
        .iter()
        .flat_map(|expr| zones.map(|zone| cron_in(expr, zone, DstPolicy::Skip)));
    for schedule in crons.chain(sets()) {
        costs.push((cost(&schedule), format!("{:.80}", schedule.to_string())));
    }
    costs.sort();
    let slowest: Vec<String> = costs
        .iter()
        .rev()
        .take(5)
        .map(|(took, what)| format!("{took:?}: {what}"))
        .collect();
    println!("the slowest of {}:\n{}", costs.len(), slowest.join("\n"));
    assert!(
        costs.iter().all(|(took, _)| *took <= PROMISED),
        "{}",
        slowest.join("\n")
    );
}

#[test]
fn the_ends_of_time_are_ordinary() {
    for zone in ["UTC", "Pacific/Kiritimati", "Etc/GMT+12"] {
        for rule in ["FREQ=DAILY", "FREQ=HOURLY", "FREQ=SECONDLY", "FREQ=YEARLY"] {
            let Ok(recurrence) = compile(&rrule_in(rule, "9999-12-20T00:00:00Z", zone, DstPolicy::Shift)) else {
                panic!("{rule} {zone}");
            };
            assert_eq!(recurrence.next_after(Timestamp::MAX), Next::Exhausted, "{rule} {zone}");
            assert_eq!(
                recurrence.next_after(Timestamp::MIN),
                Next::At(t("9999-12-20T00:00:00Z")),
                "{rule} {zone}"
            );
            let early = compile(&rrule_in(rule, "0001-01-03T00:00:00Z", zone, DstPolicy::Shift)).expect("compiles");
            assert_eq!(
                early.next_after(Timestamp::MIN),
                Next::At(t("0001-01-03T00:00:00Z")),
                "{rule} {zone}"
            );
        }
        let cron = compile(&crate::support::cron_in("@hourly", zone, DstPolicy::Shift)).expect("compiles");
        assert!(cron.next_after(Timestamp::MIN).at().is_some());
        assert_eq!(cron.next_after(Timestamp::MAX), Next::Exhausted);
    }
}

/// Text made of pieces of rules, so that some of it gets far.
fn scrambled(rng: &mut Rng, pieces: &[&str], most: i64) -> String {
    let mut text = String::new();
    for _ in 0..rng.within(0, most) {
        if rng.percent(90) {
            text.push_str(rng.pick::<&str>(pieces));
        } else {
            text.push(char::from_u32((rng.next() % 0x500) as u32).unwrap_or('\u{fffd}'));
        }
    }
    text
}

const RRULE_PIECES: [&str; 60] = [
    "FREQ=",
    "FREQ=DAILY;",
    "FREQ=YEARLY;",
    "FREQ=SECONDLY;",
    "FREQ=HOURLY;",
    "FREQ=WEEKLY;",
    "FREQ=MONTHLY;",
    "DAILY",
    ";",
    "=",
    ",",
    "-",
    "+",
    "INTERVAL=",
    "COUNT=",
    "UNTIL=",
    "WKST=",
    "BYMONTH=",
    "BYMONTHDAY=",
    "BYYEARDAY=",
    "BYWEEKNO=",
    "BYDAY=",
    "BYHOUR=",
    "BYMINUTE=",
    "BYSECOND=",
    "BYSETPOS=",
    "BYEASTER=",
    "0",
    "1",
    "2",
    "3",
    "5",
    "7",
    "9",
    "10",
    "12",
    "28",
    "29",
    "30",
    "31",
    "53",
    "59",
    "60",
    "366",
    "-1",
    "65535",
    "99999999999999999999",
    "MO",
    "TU",
    "1MO",
    "-1FR",
    "SU",
    "20270101",
    "T000000",
    "Z",
    "RRULE:",
    " ",
    "\n",
    "é",
    "\0",
];

const CRON_PIECES: [&str; 40] = [
    "*",
    " ",
    " ",
    " ",
    "*/",
    "0",
    "1",
    "2",
    "5",
    "7",
    "9",
    "12",
    "15",
    "23",
    "29",
    "30",
    "31",
    "59",
    "60",
    "-",
    ",",
    "/",
    "L",
    "W",
    "LW",
    "#",
    "?",
    "H",
    "H(",
    ")",
    "MON",
    "FRI",
    "JAN",
    "DEC",
    "@",
    "@daily",
    "@every ",
    "1h",
    "0 0 * * *",
    "* * * * ",
];

#[test]
fn random_text_is_refused_or_works() {
    for seed in seeds("random_text_is_refused_or_works") {
        let mut rng = Rng(seed);
        let mut compiled = 0;
        for _ in 0..20_000 {
            let schedules = [
                rrule(
                    &format!(
                        "{}{}",
                        rng.pick(&RRULE_PIECES[..8]),
                        scrambled(&mut rng, &RRULE_PIECES, 12)
                    ),
                    START,
                ),
                cron(&scrambled(&mut rng, &CRON_PIECES, 14)),
            ];
            for schedule in schedules {
                let Ok(recurrence) = compile(&schedule) else { continue };
                compiled += 1;
                let at = Timestamp::from_millis(rng.within(0, 4_000_000_000_000));
                if let Next::At(next) = recurrence.next_after(at) {
                    assert!(next > at, "{schedule}");
                    assert!(
                        matches!(schedule, Schedule::Cron { .. }) || second(next) >= second(t(START)),
                        "{schedule}"
                    );
                }
            }
            let _ = parse_duration(&scrambled(&mut rng, &CRON_PIECES, 6));
        }
        assert!(
            compiled > 500,
            "only {compiled} of 40,000 compiled: the pieces no longer make rules"
        );
    }
}
