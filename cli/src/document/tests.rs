use super::*;
use crate::when::SystemZones;
use sched_core::task::{Missed, Notify, NotifyOn, NotifyTo, Retention, Tries};

const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);

fn build(document: &TaskDocument) -> Result<Submission, Problem> {
    let zones = SystemZones::open();
    let context = Context {
        zones: &zones,
        now: NOW,
        namespace: "default",
        folder: Path::new("/srv/tasks"),
    };
    document.build(&context)
}

fn one(text: &str) -> Submission {
    let documents = read("x.yaml", text).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(documents.len(), 1);
    build(&documents[0]).unwrap_or_else(|problem| panic!("{problem}"))
}

const FULL: &str = r#"
name: report
namespace: billing
labels: {team: a, tier: "1"}
owner: ann
description: the daily report
schedule:
  rrule: [FREQ=DAILY;BYHOUR=9, "RRULE:FREQ=WEEKLY;BYDAY=MO"]
  dtstart: 2027-03-01T00:00
  rdate: 2027-03-05T00:00:00Z
  exdate: [2027-03-06T09:00:00Z]
  tz: Europe/Zurich
  dst: skip
  calendars: [holidays, freeze]
action:
  command: [/usr/bin/report, --daily]
  dir: out/./today
  env: {LANG: C}
  stdin: hello
  success_code: [0, 3]
  user: backup
  limit_cpu: 90s
  limit_memory: 64M
  limit_files: 100
policy:
  overlap: queue-one
  missed: all:3
  grace: 10m
  tries: 3
  retry_delay: 1s
  retry_factor: 1.5
  retry_delay_max: 1m
  put_off_max: 4h
  catch_up_every: 30s
  delivery: at-least-once
  time_limit: 1h30m
  priority: -7
  keep_finished: 5
  keep_failed: 6
  keep_for: 2d
  keep_failed_for: 3d
  notify: [failure=https://example.org/hook, end=mailto:ann@example.org]
late_ok: true
request_id: r-1
"#;

#[test]
fn every_field_of_a_document_reaches_the_task() {
    let submission = one(FULL);
    let spec = &submission.spec;
    assert!(submission.late_ok);
    assert!(!submission.starts_when_accepted);
    assert_eq!(submission.key.as_deref(), Some("r-1"));
    assert_eq!(
        (spec.namespace.as_str(), spec.name.as_deref()),
        ("billing", Some("report"))
    );
    assert_eq!(
        (spec.owner.as_str(), spec.description.as_str(), spec.labels.len()),
        ("ann", "the daily report", 2)
    );
    let Schedule::Rrule {
        rules,
        dtstart,
        rdates,
        exdates,
        zone,
        dst,
    } = &spec.schedule
    else {
        panic!("{:?}", spec.schedule);
    };
    assert_eq!((rules.len(), rdates.len(), exdates.len()), (2, 1, 1));
    assert_eq!(dtstart.to_string(), "2027-02-28T23:00:00.000Z");
    assert_eq!((zone.as_str(), *dst), ("Europe/Zurich", DstPolicy::Skip));
    let Action::Command {
        argv,
        env,
        dir,
        stdin,
        success_codes,
        user,
        limits,
    } = &spec.action
    else {
        panic!("{:?}", spec.action);
    };
    assert_eq!(
        (argv.len(), env.len(), stdin.as_slice(), success_codes.as_slice()),
        (2, 1, &b"hello"[..], &[0, 3][..])
    );
    assert_eq!(dir.as_deref(), Some("/srv/tasks/out/today"));
    assert_eq!(user.as_deref(), Some("backup"));
    assert_eq!(
        (limits.cpu_s, limits.memory_bytes, limits.files),
        (Some(90), Some(64 << 20), Some(100))
    );
    let policy = Policy {
        grace_ms: 600_000,
        missed: Missed::All { max: 3 },
        overlap: Overlap::QueueOne,
        catch_up_every_ms: 30_000,
        tries: Tries {
            max: 3,
            delay_ms: 1_000,
            factor_percent: 150,
            delay_ms_max: 60_000,
            put_off_ms_max: 14_400_000,
        },
        delivery: Some(Delivery::AtLeastOnce),
        time_limit_ms: Some(5_400_000),
        priority: -7,
        retention: Retention {
            finished_max: 5,
            failed_max: 6,
            finished_age_ms_max: 172_800_000,
            failed_age_ms_max: 259_200_000,
        },
        notify: vec![
            Notify {
                on: NotifyOn::Failure,
                to: NotifyTo::Webhook {
                    url: "https://example.org/hook".into(),
                },
            },
            Notify {
                on: NotifyOn::End,
                to: NotifyTo::Mail {
                    to: "ann@example.org".into(),
                },
            },
        ],
        stated: spec.policy.stated,
        ..Policy::default()
    };
    assert_eq!(spec.policy, policy);
    assert!(spec.policy.stated.iter().eq(PolicyField::ALL));
    assert_eq!(spec.bounds.calendars, ["holidays", "freeze"]);
}

#[test]
fn a_task_written_as_a_document_is_read_as_the_same_task() {
    for text in [
        FULL,
        "action: {sample: 'fail,20'}",
        "schedule: {at: 2027-03-01T00:00:00Z}\naction: {sample: ok}",
        "schedule: {in: 90s}\naction: {http: 'post http://localhost/x', header: 'A: b', body: x, http_status: [200, 404], http_timeout: 5s, expect: 'ok|done', expect_header: ['A: ^b$', 'C-D: e']}",
        "schedule: {every: 5m, anchor: 2027-03-01T00:00:00Z}\naction: {sample: ok}",
        "schedule: {cron: 0 9 * * 1-5, tz: Europe/Zurich}\naction: {sample: ok}\npolicy: {missed: skip}",
        "schedule: {at: 2027-03-01T00:00:00Z, before: 15m}\naction: {mail: {to: a@x.org, cc: [b@x.org], from: c@x.org, subject: s, text: t}}",
        "action: {mail: {to: [a@x.org, b@x.org], subject: s}}",
        "schedule: {manual: true}\naction: {command: ls}",
        "schedule: {after: [42, fetch], on: failure, expires: 2027-03-01T00:00:00Z}\naction: {sample: ok}",
        "schedule: {every: 5m, not_before: 2027-01-01T00:00:00Z, until: 2027-03-01T00:00:00Z, count: 9, jitter: 30s}\naction: {sample: ok}",
        "action: {sample: ok}\npolicy: {delivery: at-most-once, on_disconnect: continue, lost_hold: 10m}",
        "action: {sample: ok}\npolicy: {tries: 1, time_limit: none, keep_for: 7d, priority: 0}",
        "action: {queue: images, payload: {b: [1, 2.5, null, true, '@x'], a: {z: 'ä'}}}",
        "action: {queue: images, payload: text, progress_timeout: 30s}",
        "action: {queue: images}",
        "action: {sample: ok}\npolicy: {group: 'reports:2', require: {gpu: 'yes'}, prefer: {zone: x, disk: ssd}}",
    ] {
        let text = text.replace("{command: ls}", "{command: [ls]}");
        let spec = one(&text).spec;
        let written = serde_norway::to_string(&document_of(&spec)).expect("writes");
        assert_eq!(one(&written).spec, spec, "{written}");
        let written = serde_json::to_string(&document_of(&spec)).expect("writes");
        let read = read("x.json", &written).expect("reads");
        assert_eq!(build(&read[0]).expect("builds").spec, spec, "{written}");
    }
}

#[test]
fn files_hold_one_task_or_many() {
    let task = "action: {sample: ok}";
    for (name, text, count) in [
        ("a.yaml", task.to_owned(), 1),
        ("a.yaml", format!("- {task}\n- {task}"), 2),
        ("a.yml", format!("---\n{task}\n---\n{task}\n---\n- {task}"), 3),
        ("a.yaml", format!("---\n---\n{task}\n"), 1),
        ("a.json", r#"{"action":{"sample":"ok"}}"#.to_owned(), 1),
        (
            "a.json",
            r#"[{"action":{"sample":"ok"}},{"action":{"sample":"\ud83d\ude00"}}]"#.to_owned(),
            2,
        ),
        (
            "standard input",
            r#"{"action":{"sample":"ok"}} {"action":{"sample":"ok"}}"#.to_owned(),
            2,
        ),
        ("standard input", "{action: {sample: ok}}".to_owned(), 1),
        ("standard input", task.to_owned(), 1),
    ] {
        assert_eq!(
            read(name, &text).unwrap_or_else(|error| panic!("{error}")).len(),
            count,
            "{text}"
        );
    }
}

#[test]
fn a_rule_without_dtstart_begins_when_it_is_accepted() {
    let submission = one("schedule: {rrule: FREQ=DAILY}\naction: {sample: ok}");
    assert!(submission.starts_when_accepted);
}

#[test]
fn what_a_file_says_wrong_is_named_by_place_and_field() {
    for (text, parts) in [
        ("", &["x.yaml", "holds no task"][..]),
        ("[]", &["holds no task"]),
        ("just text", &["x.yaml", "a task or a list of tasks"]),
        ("acton: {sample: ok}", &["x.yaml", "unknown field `acton`", "`action`"]),
        (
            "action: {sample: ok}\n---\naction: {sampel: ok}",
            &["after task 1", "action", "unknown field `sampel`"],
        ),
        (
            "- action: {sample: ok}\n- action: {http_status: [x]}",
            &["[1].action.http_status", "line 2"],
        ),
        ("action: {sample: ok, env: {A: b, A: c}}", &["\"A\" stands here twice"]),
        ("action: {sample: ok}\naction: {sample: ok}", &["duplicate"]),
        ("policy: {overlap: maybe}", &["policy.overlap", "`maybe`", "queue-one"]),
        ("action: [", &["x.yaml", "line"]),
    ] {
        let error = read("x.yaml", text).expect_err(text);
        for part in parts {
            assert!(error.contains(part), "{text}: {error} lacks {part:?}");
        }
    }
    let error = read("x.json", r#"[{"action":{"sampel":"ok"}}]"#).expect_err("unknown field");
    assert!(
        error.contains("x.json") && error.contains("sampel") && error.contains("line 1"),
        "{error}"
    );
}

#[test]
fn what_a_task_says_wrong_is_named_by_its_field() {
    let long = format!("action: {{sample: ok}}\nname: {}", "x".repeat(257));
    let big = format!("action: {{command: [cat], stdin: {}}}", "x".repeat(65_537));
    for (text, field, part) in [
        ("name: x", "action", "one of command, http, mail, queue, sample"),
        ("action: {mail: {subject: s}}", "action.mail.to", "ann@example.org"),
        ("action: {mail: {to: ann, subject: s}}", "action.mail.to", "\"ann\""),
        (
            "action: {mail: {to: a@x.org, cc: bob, subject: s}}",
            "action.mail.cc",
            "\"bob\"",
        ),
        (
            "action: {mail: {to: a@x.org, from: me, subject: s}}",
            "action.mail.from",
            "\"me\"",
        ),
        ("action: {mail: {to: a@x.org}}", "action.mail.subject", "Backup is due"),
        (
            "action: {mail: {to: a@x.org, subject: ''}}",
            "action.mail.subject",
            "one line",
        ),
        (
            "action: {sample: ok, mail: {to: a@x.org, subject: s}}",
            "action.sample",
            "action.mail.to is given too",
        ),
        (
            "action: {sample: ok}\nschedule: {at: 2027-03-01T00:00:00Z, before: early}",
            "schedule.before",
            "90m",
        ),
        (
            "action: {sample: ok}\nschedule: {in: 1h, before: 1m}",
            "schedule.before",
            "schedule.at",
        ),
        (
            "action: {sample: ok, http: x}",
            "action.sample",
            "action.http is given too",
        ),
        (
            "action: {sample: ok, dir: x}",
            "action.dir",
            "together with action.command",
        ),
        (
            "action: {sample: ok, payload: 1}",
            "action.payload",
            "together with action.queue",
        ),
        ("action: {queue: '', payload: 1}", "action.queue", "expected 1 to 256"),
        (
            "action: {queue: q, progress_timeout: 0s}",
            "action.progress_timeout",
            "every 30s",
        ),
        (
            "action: {sample: ok, progress_timeout: 30s}",
            "action.progress_timeout",
            "together with action.queue",
        ),
        ("action: {sample: maybe}", "action.sample", "ok,500"),
        ("action: {http: 'GET nowhere'}", "action.http", "http"),
        (
            "action: {sample: ok}\npolicy: {notify: always=https://x}",
            "policy.notify",
            "failure=https://example.org/hook",
        ),
        (
            "action: {sample: ok}\npolicy: {notify: 'end=mailto:ann'}",
            "policy.notify",
            "ann@example.org",
        ),
        ("action: {command: [ls], user: 'a b'}", "action.user", "backup"),
        ("action: {command: [ls], limit_cpu: 0s}", "action.limit_cpu", "90s"),
        (
            "action: {command: [ls], limit_memory: much}",
            "action.limit_memory",
            "512M",
        ),
        (
            "action: {command: [ls], limit_files: 1}",
            "action.limit_files",
            "at least 4",
        ),
        (
            "action: {http: 'http://x', expect: '('}",
            "action.expect",
            "unclosed group",
        ),
        ("action: {http: 'http://x', expect: ''}", "action.expect", "1 to 1024"),
        (
            "action: {http: 'http://x', header: nonsense}",
            "action.header",
            "Name: value",
        ),
        (
            "action: {sample: ok}\nschedule: {at: noon}",
            "schedule.at",
            "2027-03-01T09:00:00Z",
        ),
        (
            "action: {sample: ok}\nschedule: {at: x, in: y}",
            "schedule.in",
            "schedule.at is given too",
        ),
        ("action: {sample: ok}\nschedule: {in: soon}", "schedule.in", "90m"),
        (
            "action: {sample: ok}\nschedule: {in: 1s, dtstart: x}",
            "schedule.dtstart",
            "schedule.rrule",
        ),
        (
            "action: {sample: ok}\nschedule: {cron: '0 9 * *'}",
            "schedule.cron",
            "fields",
        ),
        (
            "action: {sample: ok}\nschedule: {cron: '@daily', tz: Mars}",
            "schedule.tz",
            "Europe/Zurich",
        ),
        (
            "action: {sample: ok}\nschedule: {rrule: FREQ=OFTEN}",
            "schedule.rrule",
            "OFTEN",
        ),
        (
            "action: {sample: ok}\nschedule: {rrule: 'FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=30'}",
            "schedule.rrule",
            "never occurs",
        ),
        (
            "action: {sample: ok}\npolicy: {missed: 'all:x'}",
            "policy.missed",
            "all:N",
        ),
        (
            "action: {sample: ok}\npolicy: {retry_factor: 0.5}",
            "policy.retry_factor",
            "1 to 100",
        ),
        ("action: {sample: ok}\npolicy: {tries: 0}", "policy.tries", "1 to"),
        (long.as_str(), "name", "256"),
        (big.as_str(), "action", "65536"),
    ] {
        let documents = read("x.yaml", text).unwrap_or_else(|error| panic!("{text}: {error}"));
        let problem = build(&documents[0]).expect_err(text);
        assert!(problem.field.starts_with(field), "{text}: {problem}");
        assert!(problem.what.contains(part), "{text}: {problem}");
    }
}

#[test]
fn damaged_files_are_refused_or_read_but_never_panic() {
    // Xorshift: the same damage in every run.
    let mut state = 0x5eed_u64;
    let mut below = |bound: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % bound as u64) as usize
    };
    let zones = SystemZones::open();
    let context = Context {
        zones: &zones,
        now: NOW,
        namespace: "default",
        folder: Path::new("/"),
    };
    let pieces = [
        "{",
        "}",
        "[",
        "]",
        "- ",
        ": ",
        "&a ",
        "*a",
        "!x ",
        "\n---\n",
        "\"",
        "9999999999",
        "\u{202e}",
        "|\n",
        ",",
    ];
    for _ in 0..3_000 {
        let mut text = FULL.to_owned();
        for _ in 0..=below(3) {
            let mut at = below(text.len());
            while !text.is_char_boundary(at) {
                at -= 1;
            }
            if below(4) == 0 {
                text.truncate(at);
                text.push('x');
            } else {
                text.insert_str(at, pieces[below(pieces.len())]);
            }
        }
        for document in read("x.yaml", &text).unwrap_or_default() {
            // Either way is fine.
            let _ = document.build(&context);
        }
    }
}

#[test]
fn a_file_that_unfolds_into_a_giant_is_refused() {
    let mut text = "a: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..9 {
        let previous = format!("*a{}, ", level - 1).repeat(10);
        text.push_str(&format!("b{level}: &a{level} [{previous}]\n"));
    }
    assert!(read("x.yaml", &text).is_err());
}

/// Whatever a file holds is read or refused; what is read and accepted is written as a document that means the same.
#[test]
fn fuzz_document() {
    let zones = SystemZones::open();
    let context = Context {
        zones: &zones,
        now: NOW,
        namespace: "default",
        folder: Path::new("/srv/tasks"),
    };
    let words = [
        "schedule:",
        "action:",
        "policy:",
        "name: ",
        "\n",
        "  ",
        "- ",
        "{",
        "}",
        "[",
        "]",
        ": ",
        "&a ",
        "*a",
        "<<: *a",
        "!!binary ",
        "|",
        ">",
        "---\n",
        "every: ",
        "cron: ",
        "rrule: ",
        "at: ",
        "command: ",
        "http: ",
        "mail_to: ",
        "null",
        "~",
        "'",
        "\"",
        "#",
        "tries: ",
        "group: ",
        "overlap: ",
        "queue-one",
        "notify: ",
        "labels: ",
        "\t",
        "\u{feff}",
    ];
    sched_fuzz::run("document", &[FULL.as_bytes().to_vec()], &words, |input| {
        let text = String::from_utf8_lossy(input);
        let outcome = |name: &str| match read(name, &text) {
            Ok(documents) => {
                let built = documents
                    .iter()
                    .take(20)
                    .map(|document| match document.build(&context) {
                        Ok(_) => "task".to_owned(),
                        Err(problem) => problem.to_string(),
                    });
                built.collect::<Vec<_>>().join(", ")
            }
            Err(error) => error,
        };
        format!("{} {}", outcome("-"), outcome("x.json"))
    });
}
