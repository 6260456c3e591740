//! The bytes on disk and in the log: one golden file per kind of record. A difference here breaks every existing data folder:
//! a released struct is superseded, never edited. `make golden` rewrites the files while nothing is released.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "what is banned from the state machine is not from its tests"
)]

use sched_core::calendar::{Calendar, CalendarSpec, Interval};
mod commands;

use commands::commands;
use sched_core::codec::{EncodedItem, Kind, decode, encode, encode_entry};
use sched_core::command::{
    AssignItem, Call, ClosedRange, DrainItem, FireItem, MissedRange, Remembered, Reply, Resolution, SpoolAction,
    SpoolOp,
};
use sched_core::config::{Config, Setting};
use sched_core::run::{Attempt, AttemptEnd, LedgerFact, LedgerLine, Occurrence, Run, RunResult, RunState, Verdict};
use sched_core::schedule::{DstPolicy, Schedule};
use sched_core::session::{Disposition, Drained, JournalPosition, Session};
use sched_core::tables::{ClockReset, GroupRoom, Meta};
use sched_core::task::{
    Action, Bounds, Delivery, Ending, Group, Jitter, Missed, NextRun, Notify, NotifyOn, NotifyTo, OnDisconnect,
    Overlap, Pause, Placement, Policy, PolicyField, ProcessLimits, ScheduleKind, Task, TaskRef, TaskSpec, TaskState,
    TaskStatus,
};
use sched_core::{Command, Entry, Item, NodeId, RequestKey, RunId, SessionId, TaskId, Timestamp, Token};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::path::PathBuf;

fn t(ms: i64) -> Timestamp {
    Timestamp::from_millis(ms)
}

const RUN: RunId = RunId {
    task: TaskId(42),
    number: 3,
};
const TOKEN: Token = Token {
    index: 1000,
    position: 7,
};
const SESSION: SessionId = SessionId(Token {
    index: 900,
    position: 1,
});

const POSITION: JournalPosition = JournalPosition {
    length: 12,
    head: [0xab; 16],
};

fn policy() -> Policy {
    Policy {
        missed: Missed::All { max: 5 },
        overlap: Overlap::QueueAll,
        delivery: Some(Delivery::AtMostOnce),
        time_limit_ms: Some(60_000),
        priority: -7,
        group: Some(Group {
            name: "g".into(),
            limit: 2,
        }),
        placement: Placement {
            require: BTreeMap::from([("gpu".into(), "yes".into())]),
            prefer: BTreeMap::from([("zone".into(), "x".into())]),
        },
        notify: vec![
            Notify {
                on: NotifyOn::Failure,
                to: NotifyTo::Webhook { url: "http://x".into() },
            },
            Notify {
                on: NotifyOn::End,
                to: NotifyTo::Mail { to: "a@b".into() },
            },
        ],
        on_disconnect: Some(OnDisconnect::Continue),
        ..Policy::default()
    }
}

fn spec() -> TaskSpec {
    TaskSpec {
        namespace: "default".into(),
        name: Some("backup".into()),
        labels: BTreeMap::from([("app".into(), "db".into())]),
        owner: "ops".into(),
        description: "nightly".into(),
        schedule: Schedule::Cron {
            expr: "0 3 * * *".into(),
            zone: "Europe/Zurich".into(),
            dst: DstPolicy::Skip,
        },
        action: Action::Command {
            argv: vec!["/bin/true".into(), "-v".into()],
            env: BTreeMap::from([("A".into(), "b".into())]),
            dir: Some("/tmp".into()),
            stdin: b"in".to_vec(),
            success_codes: vec![0, 3],
            user: Some("u".into()),
            limits: ProcessLimits {
                cpu_s: Some(1),
                memory_bytes: Some(2),
                files: Some(3),
            },
        },
        policy: policy(),
        bounds: bounds(),
    }
}

fn bounds() -> Bounds {
    Bounds {
        not_before: Some(t(1)),
        until: Some(t(2)),
        expires: Some(t(3)),
        count: Some(4),
        jitter: Some(Jitter { ms: 5, seed: 6 }),
        calendars: vec!["holidays".into()],
    }
}

fn reminder() -> TaskSpec {
    TaskSpec {
        schedule: Schedule::Before {
            event: t(10),
            before_ms: 5,
        },
        action: Action::Mail {
            from: Some("ops@example.org".into()),
            to: vec!["ann@example.org".into()],
            cc: vec!["bob@example.org".into()],
            subject: "s".into(),
            text: "t".into(),
        },
        ..spec()
    }
}

fn worker_spec() -> TaskSpec {
    TaskSpec {
        action: Action::Worker {
            queue: "images".into(),
            payload: b"{}".to_vec(),
            progress_timeout_ms: Some(30_000),
        },
        ..spec()
    }
}

fn status() -> TaskStatus {
    TaskStatus {
        state: TaskState::Running,
        generation: 9,
        kind: ScheduleKind::Periodic,
        policy: policy(),
        bounds: bounds(),
        namespace: "default".into(),
        occurrences: 5,
        waits_for: vec![TaskId(3)],
        waits_on: Ending::Any,
        doomed: Some("d".into()),
        dependents: 2,
        next: NextRun::At(t(2000)),
        pause: Some(Pause {
            note: "n".into(),
            until: Some(t(9000)),
            since: t(8000),
        }),
        last_scheduled: Some(t(1000)),
        runs_created: 3,
        live: vec![2, 3],
        held: vec![4],
        lost: vec![1, 2],
        finished: 1,
        failed: 2,
        failing: true,
        finished_kept: 1,
        failed_kept: 1,
        ledger_lines: 6,
        ended_at: None,
        turn: Some(2),
        caught_up_at: Some(t(7)),
        queue: Some("images".into()),
    }
}

fn run() -> Run {
    Run {
        id: RUN,
        generation: 9,
        occurrence: Occurrence::Manual(Some(RequestKey::Caller {
            namespace: "default".into(),
            key: "k".into(),
        })),
        scheduled_at: t(1000),
        priority: -7,
        namespace: "default".into(),
        group: policy().group,
        placement: policy().placement,
        params: vec![("K".into(), "v".into())],
        state: RunState::Running {
            token: TOKEN,
            session: SESSION,
        },
        cancelling: true,
        tries: 2,
        tries_before: 1,
        losses: 1,
        attempts_count: 4,
        attempts: vec![Attempt {
            token: TOKEN,
            worker: "w".into(),
            assigned_at: t(1001),
            ended: Some(AttemptEnd::WorkerLost),
            at_most_once: true,
            journal: 5,
            journal_length: 12,
        }],
        assigned_at: Some(t(1001)),
        started_at: Some(t(1002)),
        ended_at: None,
        exit_code: Some(-1),
        reason: "r".into(),
        output_tail: b"out".to_vec(),
        stale_reports: 1,
        delays: 2,
        put_off_since: Some(t(6)),
        queue: Some("images".into()),
        result: b"done".to_vec(),
    }
}

fn calendar() -> CalendarSpec {
    CalendarSpec {
        description: "d".into(),
        zone: "Europe/Zurich".into(),
        days: vec![-1, 20_000],
        intervals: vec![Interval { from: t(1), to: t(2) }],
    }
}

fn config() -> Config {
    let mut config = Config::default();
    for (key, value) in [("tries", "3"), ("time_limit", "1h"), ("keep_ended_tasks", "10")] {
        let setting = Setting::of(key).expect("known");
        config.set(setting, value).expect("acceptable");
    }
    config
}

fn golden<T: Serialize + DeserializeOwned + PartialEq + Debug>(kind: Kind, value: &T) {
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("testdata/encoding/{kind:?}.1.hex"));
    let hex: String = encode(kind, value).iter().map(|b| format!("{b:02x}")).collect();
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&file, format!("{hex}\n")).expect("writable");
    }
    let stored = std::fs::read_to_string(&file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
    assert_eq!(hex, stored.trim_end(), "{kind:?}: the encoding has changed");
    let bytes: Vec<u8> = (0..hex.len() / 2)
        .map(|i| u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).expect("hex"))
        .collect();
    assert_eq!(&decode::<T>(kind, &bytes).expect("golden bytes decode"), value);
}

#[test]
fn the_bytes_of_every_record_are_golden() {
    let items: Vec<Item> = commands()
        .into_iter()
        .map(|command| Item {
            request: Some(RequestKey::Client {
                expires_at: t(600_000),
                nonce: 0xfeed,
            }),
            principal: "alice".into(),
            command,
        })
        .collect();
    let entry = Entry {
        term: 3,
        now: t(1_700_000_000_000),
        items,
    };
    golden(Kind::Entry, &entry);
    let items: Vec<EncodedItem> = entry.items.iter().map(EncodedItem::new).collect();
    assert_eq!(
        encode_entry(entry.term, entry.now, &items),
        encode(Kind::Entry, &entry),
        "commands encoded one by one make the same entry"
    );
    golden(
        Kind::Task,
        &Task {
            spec: spec(),
            created_at: t(1),
        },
    );
    golden(Kind::TaskStatus, &status());
    golden(Kind::Run, &run());
    let action = SpoolAction::Trigger {
        task: TaskId(1),
        params: vec![],
        request: None,
    };
    golden(
        Kind::SpoolOp,
        &SpoolOp {
            accepted_at: t(1),
            principal: "alice".into(),
            action,
        },
    );
    golden(
        Kind::Session,
        &Session {
            worker: "w".into(),
            journal: 5,
            node: Some(NodeId(7)),
            slots: 8,
            labels: BTreeMap::new(),
            bound: TOKEN,
            opened_at: t(1),
            closing: true,
            queues: BTreeSet::from(["images".into()]),
            position: Some(POSITION),
            opening: 8,
        },
    );
    golden(
        Kind::Reply,
        &Remembered {
            call: Call::Move,
            reply: Reply::Session {
                id: SESSION,
                bound: TOKEN,
                dispositions: vec![(RUN, TOKEN, Disposition::Kill)],
            },
        },
    );
    golden(
        Kind::Meta,
        &Meta {
            now: t(1),
            last_task: 2,
            shutdown: Some("m".into()),
            lost: 3,
            clock_reset: Some(ClockReset {
                from: t(9),
                to: t(1),
                principal: "alice".into(),
            }),
            ..Meta::default()
        },
    );
    let fact = LedgerFact::Missed {
        first: t(1),
        last: t(2),
        count: 2,
        reason: "old".into(),
    };
    golden(Kind::LedgerLine, &LedgerLine { at: t(1), fact });
    golden(Kind::Config, &config());
    let calendar = Calendar {
        spec: calendar(),
        generation: 8,
        changed_at: t(9),
    };
    golden(Kind::Calendar, &calendar);
    golden(Kind::CalendarCount, &3u64);
    golden(Kind::GroupRoom, &GroupRoom { taken: 2, blocked: 3 });
    golden(Kind::NameEntry, &TaskId(7));
    golden(Kind::WorkerEntry, &SESSION);
    golden(Kind::JournalEntry, &SESSION);
    let drained = Drained {
        worker: "w".into(),
        since: t(1),
        by: "ops".into(),
        note: "disk".into(),
    };
    golden(Kind::Drained, &drained);
}

/// Bytes from a damaged log or a hostile peer end in an error, never in a panic or a large allocation.
#[test]
fn damaged_entries_are_refused() {
    let items = commands().into_iter().map(Item::internal).collect();
    let bytes = encode(
        Kind::Entry,
        &Entry {
            term: 3,
            now: t(1),
            items,
        },
    );
    for i in 0..bytes.len() {
        let mut bad = bytes.clone();
        bad[i] ^= 0xff;
        assert!(decode::<Entry>(Kind::Entry, &bad).is_err(), "byte {i}");
        // With a checksum that fits, the body may decode to something else, but must not panic.
        let body = bad.len() - 4;
        let crc = crc32c::crc32c(&bad[..body]).to_le_bytes();
        bad[body..].copy_from_slice(&crc);
        let _ = decode::<Entry>(Kind::Entry, &bad);
    }
}
