//! Every parser of `core` and `proto`, fed with the saved corpus and with what chance makes of it.
//!
//! Task documents are fed in `cli`, snapshot manifests in `storage`, beside their parsers.

mod commands;

use prost::Message;
use sched_core::apply::{Position, apply_entry};
use sched_core::calendar::Calendar;
use sched_core::codec::{self, Kind};
use sched_core::command::{Remembered, SpoolOp};
use sched_core::run::{LedgerLine, Run};
use sched_core::schedule::{DstPolicy, Next, Recurrence, Schedule, Zones, explain, format_duration, parse_duration};
use sched_core::session::Session;
use sched_core::tables::{GroupRoom, Meta, Staged};
use sched_core::task::{Task, TaskStatus};
use sched_core::{Entry, RunId, Timestamp, validate};
use sched_proto::convert::from_wire;
use sched_proto::{v1, worker};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt::Debug;
use std::path::Path;

const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);

struct Bundled(jiff::tz::TimeZoneDatabase);

impl Zones for Bundled {
    fn zone(&self, name: &str) -> Option<jiff::tz::TimeZone> {
        self.0.get(name).ok()
    }
}

fn zones() -> Bundled {
    Bundled(jiff::tz::TimeZoneDatabase::bundled())
}

/// Compiles a schedule and asks it everything that a node asks.
fn ask(schedule: &Schedule, zones: &Bundled) -> String {
    let recurrence = match Recurrence::compile(schedule, "task", zones) {
        Ok(recurrence) => recurrence,
        Err(error) => return error.to_string(),
    };
    let mut words = explain(schedule, "task", zones).map_or_else(|error| error.to_string(), |_| "explained".to_owned());
    for from in [Timestamp::MIN, NOW, Timestamp::MAX] {
        let mut at = from;
        for _ in 0..3 {
            match recurrence.next_after(at) {
                Next::At(next) => {
                    assert!(next > at, "{schedule}: {next} is not after {at}");
                    at = next;
                }
                Next::GaveUp { searched_until } => {
                    assert!(
                        searched_until >= at,
                        "{schedule}: searched until {searched_until} from {at}"
                    );
                    words.push_str(", gave up");
                    break;
                }
                Next::Exhausted => {
                    words.push_str(", exhausted");
                    break;
                }
            }
        }
    }
    // As a leader counts what was missed, with its bound.
    recurrence.count_in(NOW, NOW.plus_millis(86_400_000), 1_000);
    recurrence.latest_in(NOW.plus_millis(-86_400_000), NOW);
    words
}

/// Lines: a zone after `ZONE`, milliseconds after `START`, `RDATE` and `EXDATE`, `SKIP`; every other one is a rule.
fn rules(text: &str) -> Schedule {
    let (mut rules, mut rdates, mut exdates) = (Vec::new(), Vec::new(), Vec::new());
    let (mut zone, mut dst, mut dtstart) = ("UTC".to_owned(), DstPolicy::Shift, NOW);
    for line in text.lines() {
        let at = |text: &str| Timestamp::from_millis(text.trim().parse().unwrap_or_default());
        match line.split_once(' ') {
            Some(("ZONE", name)) => name.clone_into(&mut zone),
            Some(("START", text)) => dtstart = at(text),
            Some(("RDATE", text)) => rdates.push(at(text)),
            Some(("EXDATE", text)) => exdates.push(at(text)),
            _ if line == "SKIP" => dst = DstPolicy::Skip,
            _ => rules.push(line.to_owned()),
        }
    }
    Schedule::Rrule {
        rules,
        dtstart,
        rdates,
        exdates,
        zone,
        dst,
    }
}

#[test]
fn fuzz_rule() {
    let zones = zones();
    let words = [
        "FREQ=",
        "YEARLY",
        "MONTHLY",
        "WEEKLY",
        "DAILY",
        "HOURLY",
        "MINUTELY",
        "SECONDLY",
        ";BYDAY=",
        ";BYMONTH=",
        ";BYMONTHDAY=",
        ";BYYEARDAY=",
        ";BYWEEKNO=",
        ";BYHOUR=",
        ";BYMINUTE=",
        ";BYSECOND=",
        ";BYSETPOS=",
        ";BYEASTER=",
        ";INTERVAL=",
        ";COUNT=",
        ";UNTIL=",
        ";WKST=",
        "MO",
        "-1SU",
        "+53FR",
        ",",
        "20270101T000000Z",
        "\nZONE ",
        "\nSKIP",
        "\nSTART ",
        "\nRDATE ",
        "\nEXDATE ",
        "Europe/Berlin",
        "Australia/Lord_Howe",
        "RRULE:",
    ];
    sched_fuzz::run("rule", &[], &words, |input| {
        ask(&rules(&String::from_utf8_lossy(input)), &zones)
    });
}

#[test]
fn fuzz_cron() {
    let zones = zones();
    let words = [
        "*",
        "*/",
        "L",
        "W",
        "#",
        "H",
        "?",
        "MON",
        "-",
        ",",
        "@daily",
        "@hourly",
        "@every",
        "JAN",
        " ",
        "0 0 ",
        "\nZONE ",
        "Europe/Berlin",
        "America/New_York",
        "H(0-29)",
        "LW",
        "1#5",
    ];
    sched_fuzz::run("cron", &[], &words, |input| {
        let text = String::from_utf8_lossy(input);
        let (expr, zone) = text.split_once("\nZONE ").unwrap_or((&text, "UTC"));
        let schedule = Schedule::Cron {
            expr: expr.to_owned(),
            zone: zone.to_owned(),
            dst: DstPolicy::Shift,
        };
        ask(&schedule, &zones)
    });
}

#[test]
fn fuzz_duration() {
    let words = [
        "ms", "s", "m", "h", "d", "w", " ", ".", "-", "+", "P", "T", "PT", "S", "∞", "sec",
    ];
    sched_fuzz::run("duration", &[], &words, |input| {
        let text = String::from_utf8_lossy(input);
        match parse_duration(&text) {
            Ok(ms) => {
                let written = format_duration(ms);
                assert_eq!(
                    parse_duration(&written),
                    Ok(ms),
                    "{text:?} is {ms} ms, written {written:?}"
                );
                "read".to_owned()
            }
            Err(error) => error.to_string(),
        }
    });
}

#[test]
fn fuzz_instant() {
    let words = [
        "T",
        "Z",
        "+",
        "-",
        ":",
        ".",
        "2027-01-01",
        "T00:00:00",
        "+23:59",
        "24:00",
        "60",
        " ",
    ];
    sched_fuzz::run("instant", &[], &words, |input| {
        let text = String::from_utf8_lossy(input);
        let run = text
            .parse::<RunId>()
            .map(|run| assert_eq!(run.to_string().parse(), Ok(run)));
        match text.parse::<Timestamp>() {
            Ok(at) => {
                assert_eq!(at.to_string().parse::<Timestamp>(), Ok(at), "{text:?}");
                "instant".to_owned()
            }
            Err(error) => format!("{error} {run:?}"),
        }
    });
}

/// An envelope around a body, which chance would hardly ever give the right checksum.
fn envelope(kind: Kind, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![kind as u8, 1];
    bytes.extend_from_slice(body);
    let crc = crc32c::crc32c(&bytes);
    bytes.extend_from_slice(&crc.to_le_bytes());
    bytes
}

/// The body of the golden file of a kind.
fn golden(kind: &str) -> Vec<u8> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../core/testdata/encoding/{kind}.1.hex"));
    let text = std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).expect("digits"), 16).expect("hexadecimal");
    let bytes: Vec<u8> = digits.chunks(2).map(byte).collect();
    bytes[2..bytes.len() - 4].to_vec()
}

/// Reads a record; what is read is written and read again as the same.
fn decoded<T: Serialize + DeserializeOwned + PartialEq + Debug>(kind: Kind, body: &[u8]) -> String {
    match codec::decode::<T>(kind, &envelope(kind, body)) {
        Ok(record) => {
            let again = codec::decode::<T>(kind, &codec::encode(kind, &record));
            assert_eq!(again.as_ref(), Ok(&record));
            "read".to_owned()
        }
        Err(error) => error.to_string(),
    }
}

#[test]
fn fuzz_record() {
    let kinds = [
        "Task",
        "TaskStatus",
        "Run",
        "SpoolOp",
        "Session",
        "Reply",
        "Meta",
        "LedgerLine",
        "GroupRoom",
        "Calendar",
    ];
    let numbered = kinds.iter().enumerate();
    let seeds: Vec<Vec<u8>> = numbered
        .map(|(number, kind)| [&[number as u8][..], &golden(kind)].concat())
        .collect();
    sched_fuzz::run("record", &seeds, &[], |input| {
        let Some((number, body)) = input.split_first() else {
            return String::new();
        };
        let word = match number % 10 {
            0 => decoded::<Task>(Kind::Task, body),
            1 => decoded::<TaskStatus>(Kind::TaskStatus, body),
            2 => decoded::<Run>(Kind::Run, body),
            3 => decoded::<SpoolOp>(Kind::SpoolOp, body),
            4 => decoded::<Session>(Kind::Session, body),
            5 => decoded::<Remembered>(Kind::Reply, body),
            6 => decoded::<Meta>(Kind::Meta, body),
            7 => decoded::<LedgerLine>(Kind::LedgerLine, body),
            8 => decoded::<GroupRoom>(Kind::GroupRoom, body),
            _ => decoded::<Calendar>(Kind::Calendar, body),
        };
        // Most have no right checksum, and must be refused for that.
        let _ = codec::decode::<Task>(Kind::Task, input);
        format!("{} {word}", number % 10)
    });
}

#[test]
fn fuzz_command() {
    let mut seeds: Vec<Vec<u8>> = commands::each()
        .into_iter()
        .map(|command| codec::encode(Kind::Entry, &commands::entry(command)))
        .map(|bytes| bytes[2..bytes.len() - 4].to_vec())
        .collect();
    seeds.push(golden("Entry"));
    let before = commands::state();
    sched_fuzz::run("command", &seeds, &["default", "backup"], |input| {
        let entry: Entry = match codec::decode(Kind::Entry, &envelope(Kind::Entry, input)) {
            Ok(entry) => entry,
            Err(error) => return error.to_string(),
        };
        // Whatever a log may hold is applied or refused: a fault would stop every node.
        let position = Position {
            index: 700,
            term: entry.term,
        };
        let mut staged = Staged::new(&before);
        let outcomes = apply_entry(&mut staged, position, &entry).unwrap_or_else(|fault| panic!("{entry:?}: {fault}"));
        let words: Vec<String> = outcomes
            .iter()
            .map(|outcome| {
                outcome
                    .reply
                    .as_ref()
                    .map_or_else(ToString::to_string, |_| "done".to_owned())
            })
            .collect();
        words.join(", ")
    });
}

#[test]
fn fuzz_wire() {
    sched_fuzz::run(
        "wire",
        &wire_seeds(),
        &["UTC", "default", "Europe/Berlin", "http://x", "\u{8}\u{1}"],
        |input| {
            let Some((kind, body)) = input.split_first() else {
                return String::new();
            };
            match kind % 6 {
                0 => submitted(body),
                1 => v1::MoveRequest::decode(body).map_or_else(
                    |error| error.to_string(),
                    |wire| {
                        let key = from_wire::request_key(wire.request)
                            .map(|_| "key")
                            .map_err(|reject| reject.to_string());
                        let task = from_wire::task_ref(wire.task)
                            .map(|_| "task")
                            .map_err(|reject| reject.to_string());
                        format!("{key:?} {task:?}")
                    },
                ),
                2 => v1::TriggerRequest::decode(body).map_or_else(
                    |error| error.to_string(),
                    |wire| {
                        validate::params(&from_wire::params(wire.params))
                            .map_or_else(|r| r.to_string(), |()| "params".into())
                    },
                ),
                3 => v1::CancelRequest::decode(body).map_or_else(
                    |error| error.to_string(),
                    |wire| from_wire::run_id(wire.run).map_or_else(|reject| reject.to_string(), |_| "run".to_owned()),
                ),
                4 => worker::FromWorker::decode(body).map_or_else(|error| error.to_string(), |_| "worker".to_owned()),
                _ => v1::SubmitReply::decode(body).map_or_else(
                    |error| error.to_string(),
                    |wire| {
                        from_wire::next_run(wire.next_run)
                            .map_or_else(|reject| reject.to_string(), |_| "next".to_owned())
                    },
                ),
            }
        },
    );
}

fn submitted(body: &[u8]) -> String {
    let wire = match v1::SubmitRequest::decode(body) {
        Ok(wire) => wire,
        Err(error) => return error.to_string(),
    };
    let spec = match from_wire::task_spec(wire.task.unwrap_or_default(), NOW) {
        Ok(spec) => spec,
        Err(reject) => return reject.to_string(),
    };
    if let Err(reject) = validate::task_spec(&spec) {
        return reject.to_string();
    }
    // What is accepted is told as it was asked for.
    let again = from_wire::task_spec(sched_proto::convert::to_wire::task_spec(&spec), NOW);
    assert_eq!(again.as_ref(), Ok(&spec));
    ask(&spec.schedule, &zones())
}

fn wire_seeds() -> Vec<Vec<u8>> {
    let command = v1::Action {
        kind: Some(v1::action::Kind::Command(v1::CommandAction {
            argv: vec!["/bin/true".into()],
            ..Default::default()
        })),
    };
    let schedules = [
        v1::schedule::Form::Now(v1::NowSchedule {}),
        v1::schedule::Form::Every(v1::EverySchedule {
            every_ms: 1_000,
            anchor_unix_ms: Some(5),
        }),
        v1::schedule::Form::Cron(v1::CronSchedule {
            expr: "0 3 * * *".into(),
            zone: "Europe/Berlin".into(),
            dst: 2,
        }),
        v1::schedule::Form::Rrule(v1::RruleSchedule {
            rules: vec!["FREQ=DAILY".into()],
            dtstart_unix_ms: Some(1_800_000_000_000),
            ..Default::default()
        }),
    ];
    schedules
        .into_iter()
        .map(|form| {
            let request = v1::SubmitRequest {
                request: None,
                task: Some(v1::TaskSpec {
                    name: Some("n".into()),
                    schedule: Some(v1::Schedule { form: Some(form) }),
                    action: Some(command.clone()),
                    policy: Some(v1::Policy::default()),
                    bounds: Some(v1::Bounds::default()),
                    ..Default::default()
                }),
                late_ok: true,
            };
            [&[0][..], &request.encode_to_vec()].concat()
        })
        .collect()
}
