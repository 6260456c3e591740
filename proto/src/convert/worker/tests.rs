use super::*;
use prost::Message;
use sched_core::limits::{OUTPUT_TAIL_BYTES_MAX, RESULT_BYTES_MAX, TEXT_BYTES_MAX};

fn jobs() -> Vec<Job> {
    let actions = [
        Action::Command {
            argv: vec!["/bin/sh".into(), "-c".into(), "true".into()],
            env: [("A".to_owned(), "1".to_owned())].into(),
            dir: Some("/tmp".into()),
            stdin: vec![0, 255, 10],
            success_codes: vec![0, 3, -1],
            user: Some("backup".into()),
            limits: ProcessLimits {
                cpu_s: Some(1),
                memory_bytes: Some(2),
                files: Some(3),
            },
        },
        Action::Http {
            method: "POST".into(),
            url: "https://example.org/x".into(),
            headers: vec![("a".into(), "1".into()), ("a".into(), "2".into())],
            body: b"body".to_vec(),
            success_statuses: vec![200, 418],
            timeout_ms: 1234,
            expect: Some("ok".into()),
            expect_headers: vec![("content-type".into(), "json".into())],
        },
        Action::Sample {
            succeed: true,
            duration_ms: 5,
            payload: vec![1; 256],
        },
        Action::Mail {
            from: Some("a@b".into()),
            to: vec!["c@d".into(), "e@f".into()],
            cc: vec!["g@h".into()],
            subject: "s".into(),
            text: "t".into(),
        },
        Action::Worker {
            queue: "images".into(),
            payload: vec![0, 255],
            progress_timeout_ms: Some(30_000),
        },
    ];
    actions
        .into_iter()
        .enumerate()
        .map(|(i, action)| Job {
            run: RunId {
                task: TaskId(42),
                number: i as u64 + 1,
            },
            token: Token {
                index: 1 << 40,
                position: 7,
            },
            namespace: "default".into(),
            task_name: (i == 0).then(|| "nightly".into()),
            scheduled_at: Timestamp::from_millis(-5),
            attempt_number: 3,
            action,
            time_limit: (i != 1).then(|| Duration::from_millis(1500)),
            params: vec![("K".into(), "V".into())],
            delivery: if i == 0 {
                Delivery::AtMostOnce
            } else {
                Delivery::AtLeastOnce
            },
            on_disconnect: if i == 0 {
                OnDisconnect::Continue
            } else {
                OnDisconnect::Kill
            },
        })
        .collect()
}

#[test]
fn jobs_read_back_through_bytes() {
    for job in jobs() {
        let bytes = job_to_wire(&job).encode_to_vec();
        assert_eq!(job_from_wire(pb::Run::decode(bytes.as_slice()).unwrap()), Ok(job));
    }
}

#[test]
fn results_read_back_and_long_tails_keep_their_end() {
    let verdicts = [
        Verdict::Success,
        Verdict::Failure {
            reason: "exit code 3".into(),
        },
        Verdict::DelayMe {
            delay_ms: 9,
            reason: "busy".into(),
        },
        Verdict::Cancelled,
        Verdict::Abandoned {
            reason: "no contact".into(),
            stopping: false,
        },
        Verdict::Abandoned {
            reason: "stopping".into(),
            stopping: true,
        },
        Verdict::Lost { reason: "gone".into() },
    ];
    for verdict in verdicts {
        let mut result = RunResult {
            verdict,
            exit_code: Some(-3),
            started_at: Timestamp::from_millis(1),
            ended_at: Timestamp::from_millis(2),
            output_tail: b"hello".to_vec(),
            result: b"42".to_vec(),
        };
        assert_eq!(result_from_wire(result_to_wire(&result, "why")), Ok(result.clone()));
        result.output_tail = [vec![1], vec![2; OUTPUT_TAIL_BYTES_MAX]].concat();
        let read = result_from_wire(result_to_wire(&result, "why")).unwrap();
        assert_eq!(read.output_tail, vec![2; OUTPUT_TAIL_BYTES_MAX]);
    }
}

#[test]
fn hello_becomes_the_command_that_opens_the_session() {
    let journal = 0x0123_4567_89ab_cdef_0011_2233_4455_6677_u128;
    let (journal_high, journal_low) = journal_to_wire(journal);
    let run = RunId {
        task: TaskId(1),
        number: 2,
    };
    let token = Token { index: 3, position: 4 };
    let position = JournalPosition {
        length: 12,
        head: [7; 16],
    };
    let hello = pb::Hello {
        protocol_version: PROTOCOL_VERSION,
        worker: "w".into(),
        journal_high,
        journal_low,
        node: Some(9),
        slots: 8,
        labels: [("zone".to_owned(), "a".to_owned())].into(),
        held: vec![pb::Held {
            attempt: Some(attempt_to_wire(run, token)),
            state: 2,
        }],
        queues: vec!["b".into(), "a".into(), "b".into()],
        journal_position: Some(position_to_wire(position)),
        openings: vec![5, 6],
        ..Default::default()
    };
    let expected = Command::SessionOpen {
        worker: "w".into(),
        journal,
        node: Some(NodeId(9)),
        slots: 8,
        labels: [("zone".to_owned(), "a".to_owned())].into(),
        held: vec![(run, token)],
        queues: ["a".to_owned(), "b".to_owned()].into(),
        position: Some(position),
        openings: vec![5, 6],
    };
    assert_eq!(session_open_from_wire(hello.clone()), Ok(expected));

    type Edit = fn(&mut pb::Hello);
    let bad: [(Edit, &str); 6] = [
        (
            |h| h.queues = vec!["q".into(); 33],
            "queues is 33, expected at most 32 queues",
        ),
        (|h| h.protocol_version = 2, "protocol_version is 2, expected 1"),
        (|h| h.slots = 0, "slots is 0, expected 1 to 10000"),
        (|h| h.slots = 10_001, "slots is 10001, expected 1 to 10000"),
        (
            |h| h.held = vec![h.held[0]; 10_001],
            "held is 10001, expected at most 10000 attempts",
        ),
        (|h| h.held[0].attempt = None, "attempt is missing"),
    ];
    for (edit, message) in bad {
        let mut hello = hello.clone();
        edit(&mut hello);
        assert_eq!(session_open_from_wire(hello).unwrap_err().to_string(), message);
    }
}

#[test]
fn dispositions_read_back() {
    let run = RunId {
        task: TaskId(1),
        number: 2,
    };
    let token = Token { index: 3, position: 4 };
    for kind in [
        Disposition::Continue,
        Disposition::Kill,
        Disposition::Recorded,
        Disposition::Stale,
    ] {
        assert_eq!(
            disposition_from_wire(&disposition_to_wire(run, token, kind)),
            Ok((token, kind))
        );
    }
    let nothing = pb::Disposition {
        attempt: Some(attempt_to_wire(run, token)),
        kind: 0,
    };
    assert_eq!(
        disposition_from_wire(&nothing),
        Err(WireError::Missing("disposition.kind"))
    );
}

#[test]
fn what_a_newer_leader_might_send_is_refused_by_name() {
    type Edit = fn(&mut pb::Run);
    let bad: [(Edit, &str); 6] = [
        (|r| r.attempt = None, "attempt is missing"),
        (|r| r.attempt.as_mut().unwrap().token = None, "attempt.token is missing"),
        (|r| r.attempt.as_mut().unwrap().run = None, "run is missing"),
        (|r| r.action = None, "action is missing"),
        (|r| r.action.as_mut().unwrap().kind = None, "action.kind is missing"),
        (
            |r| r.delivery = 77,
            "delivery has the value 77, which this version does not know",
        ),
    ];
    for (edit, message) in bad {
        let mut run = job_to_wire(&jobs()[0]);
        edit(&mut run);
        assert_eq!(job_from_wire(run).unwrap_err().to_string(), message);
    }
}

#[test]
fn a_reason_of_any_length_makes_a_report_that_can_be_recorded() {
    // Two bytes a character: the bound lies in the middle of one.
    let reason = format!("x{}", "é".repeat(4 << 20));
    for verdict in [
        Verdict::Failure { reason: reason.clone() },
        Verdict::DelayMe { delay_ms: 1, reason },
    ] {
        let result = RunResult {
            verdict,
            exit_code: None,
            started_at: Timestamp::EPOCH,
            ended_at: Timestamp::EPOCH,
            output_tail: vec![7; 1 << 20],
            result: vec![7; 1 << 20],
        };
        let read = result_from_wire(result_to_wire(&result, "")).unwrap();
        let (Verdict::Failure { reason } | Verdict::DelayMe { reason, .. }) = &read.verdict else {
            panic!("{:?}", read.verdict);
        };
        assert_eq!(reason.len(), TEXT_BYTES_MAX - 1);
        assert_eq!(read.output_tail.len(), OUTPUT_TAIL_BYTES_MAX);
        assert_eq!(read.result.len(), RESULT_BYTES_MAX);
    }
}
