use super::*;
use crate::v1;
use sched_core::Timestamp;
use sched_core::command::Resolution;
use sched_core::ids::{RequestKey, RunId, TaskId};
use sched_core::schedule::{DstPolicy, Schedule};
use sched_core::task::{
    Action, Bounds, Delivery, Ending, Group, Jitter, Missed, NextRun, Notify, NotifyOn, NotifyTo, OnDisconnect,
    Overlap, Placement, Policy, PolicyField, ProcessLimits, Retention, Stated, TaskRef, TaskSpec, Tries,
};
use std::collections::BTreeMap;

mod refusals;

const ACCEPTED: Timestamp = Timestamp::from_millis(1_700_000_000_123);

fn all_stated() -> Stated {
    let mut stated = Stated::default();
    for field in PolicyField::ALL {
        stated.set(field, true);
    }
    stated
}

/// A task in which no field has its default value.
fn full() -> TaskSpec {
    TaskSpec {
        namespace: "billing".into(),
        name: Some("nightly".into()),
        labels: BTreeMap::from([("team".into(), "a".into()), ("tier".into(), "1".into())]),
        owner: "ann".into(),
        description: "closes the books".into(),
        schedule: schedules().remove(5),
        action: actions().remove(0),
        policy: Policy {
            grace_ms: 1,
            missed: Missed::All { max: 7 },
            overlap: Overlap::QueueOne,
            tries: Tries {
                max: 3,
                delay_ms: 4,
                factor_percent: 150,
                delay_ms_max: 9,
                put_off_ms_max: 10,
            },
            on_disconnect: Some(OnDisconnect::Kill),
            lost_hold_ms: 9,
            delivery: Some(Delivery::AtLeastOnce),
            time_limit_ms: Some(5),
            priority: -100,
            retention: Retention {
                finished_max: 1,
                failed_max: 2,
                finished_age_ms_max: 3,
                failed_age_ms_max: 4,
            },
            group: Some(Group {
                name: "g".into(),
                limit: 4,
            }),
            placement: Placement {
                require: BTreeMap::from([("gpu".into(), "yes".into())]),
                prefer: BTreeMap::from([("zone".into(), "x".into())]),
            },
            notify: NotifyOn::ALL
                .into_iter()
                .map(|on| Notify {
                    on,
                    to: match on {
                        NotifyOn::Failure | NotifyOn::Miss => NotifyTo::Webhook { url: "http://x".into() },
                        NotifyOn::Recovery | NotifyOn::End => NotifyTo::Mail { to: "a@b".into() },
                    },
                })
                .collect(),
            stated: all_stated(),
            catch_up_every_ms: 11,
        },
        bounds: Bounds {
            not_before: Some(Timestamp::from_millis(1)),
            until: Some(Timestamp::from_millis(2)),
            expires: Some(Timestamp::from_millis(3)),
            count: Some(4),
            jitter: Some(Jitter { ms: 5, seed: 0 }),
            calendars: vec!["holidays".into(), "month ends".into()],
        },
    }
}

fn schedules() -> Vec<Schedule> {
    let at = Timestamp::from_millis;
    vec![
        Schedule::Now,
        Schedule::At(at(-5)),
        Schedule::In { delay_ms: 1_000 },
        Schedule::Every {
            every_ms: 300_000,
            anchor: at(77),
        },
        Schedule::Cron {
            expr: "0 9 * * 1-5".into(),
            zone: "Europe/Zurich".into(),
            dst: DstPolicy::Skip,
        },
        Schedule::Rrule {
            rules: vec!["FREQ=DAILY;COUNT=3".into(), "RRULE:FREQ=WEEKLY".into()],
            dtstart: at(1_000),
            rdates: vec![at(5), at(6)],
            exdates: vec![at(7)],
            zone: "America/New_York".into(),
            dst: DstPolicy::Skip,
        },
        Schedule::Manual,
        Schedule::After {
            parents: vec![
                TaskRef::Id(TaskId(3)),
                TaskRef::Name {
                    namespace: "n".into(),
                    name: "a".into(),
                },
            ],
            on: Ending::Any,
        },
        Schedule::Before {
            event: at(90),
            before_ms: 30,
        },
    ]
}

fn actions() -> Vec<Action> {
    vec![
        Action::Command {
            argv: vec!["/bin/sh".into(), "-c".into(), "date".into()],
            env: BTreeMap::from([("A".into(), "b".into())]),
            dir: Some("/srv".into()),
            stdin: vec![0, 255],
            success_codes: vec![0, 3],
            user: Some("backup".into()),
            limits: ProcessLimits {
                cpu_s: Some(1),
                memory_bytes: Some(2),
                files: Some(3),
            },
        },
        Action::Http {
            method: "POST".into(),
            url: "http://localhost/x".into(),
            headers: vec![("a".into(), "1".into()), ("a".into(), "2".into())],
            body: vec![1, 2],
            success_statuses: vec![200, 404],
            timeout_ms: 17,
            expect: Some("ok|done".into()),
            expect_headers: vec![("content-type".into(), "json".into())],
        },
        Action::Sample {
            succeed: true,
            duration_ms: 9,
            payload: vec![3],
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
    ]
}

#[test]
fn a_task_comes_back_with_every_field() {
    let spec = full();
    assert_eq!(from_wire::task_spec(to_wire::task_spec(&spec), ACCEPTED), Ok(spec));
}

#[test]
fn a_task_of_defaults_comes_back() {
    let spec = TaskSpec {
        namespace: "default".into(),
        name: None,
        labels: BTreeMap::new(),
        owner: String::new(),
        description: String::new(),
        schedule: Schedule::Now,
        action: actions().remove(2),
        bounds: Bounds::default(),
        policy: Policy::default(),
    };
    assert_eq!(
        from_wire::task_spec(to_wire::task_spec(&spec), ACCEPTED),
        Ok(spec.clone())
    );
    let sparse = v1::TaskSpec {
        schedule: Some(to_wire::schedule(&spec.schedule)),
        action: Some(to_wire::action(&spec.action)),
        ..v1::TaskSpec::default()
    };
    assert_eq!(from_wire::task_spec(sparse, ACCEPTED), Ok(spec.clone()));
    assert_eq!(from_wire::task_spec(to_wire::asked_task(&spec), ACCEPTED), Ok(spec));
}

#[test]
fn what_is_stated_travels_and_what_is_left_to_the_cluster_does_not() {
    for field in PolicyField::ALL {
        // Stated, and by chance what is built in.
        let mut policy = Policy::default();
        policy.stated.set(field, true);
        assert_eq!(
            from_wire::policy(to_wire::policy(&policy)).as_ref(),
            Ok(&policy),
            "{field:?}"
        );
        let asked = from_wire::policy(to_wire::asked_policy(&policy)).expect("readable");
        assert!(asked.stated.iter().eq([field]), "{field:?}: {asked:?}");
    }
    // A value that is not built in is asked for, whoever wrote it there.
    let policy = Policy {
        priority: 5,
        ..Policy::default()
    };
    let asked = from_wire::policy(to_wire::asked_policy(&policy)).expect("readable");
    assert!(asked.stated.iter().eq([PolicyField::Priority]));
    let (mut task, mut limited) = (full(), Policy::default());
    limited.time_limit_ms = Some(5);
    task.policy.fill(None, &limited);
    assert_eq!(from_wire::policy(to_wire::policy(&task.policy)), Ok(task.policy));
    assert_eq!(to_wire::asked_policy(&Policy::default()).time_limit_ms, None);
}

#[test]
fn every_schedule_action_and_policy_comes_back() {
    for schedule in schedules() {
        assert_eq!(
            from_wire::schedule(to_wire::schedule(&schedule), ACCEPTED),
            Ok(schedule)
        );
    }
    for action in actions() {
        assert_eq!(from_wire::action(to_wire::action(&action)), Ok(action));
    }
    let overlaps = [
        Overlap::Allow,
        Overlap::Skip,
        Overlap::QueueOne,
        Overlap::QueueAll,
        Overlap::Replace,
    ];
    for resolution in [Resolution::Failed, Resolution::Finished, Resolution::Retry] {
        let wire = to_wire::resolution(resolution).into();
        assert_eq!(from_wire::resolution(wire), Ok(resolution));
    }
    assert!(from_wire::resolution(0).is_err() && from_wire::resolution(9).is_err());
    for on_disconnect in [None, Some(OnDisconnect::Kill), Some(OnDisconnect::Continue)] {
        let policy = Policy {
            on_disconnect,
            lost_hold_ms: 5,
            ..Policy::default()
        };
        assert_eq!(from_wire::policy(to_wire::policy(&policy)), Ok(policy));
    }
    let missed = [Missed::Skip, Missed::Latest, Missed::All { max: 2 }];
    let deliveries = [None, Some(Delivery::AtLeastOnce), Some(Delivery::AtMostOnce)];
    for overlap in overlaps {
        for missed in missed {
            for delivery in deliveries {
                let policy = Policy {
                    overlap,
                    missed,
                    delivery,
                    ..Policy::default()
                };
                assert_eq!(from_wire::policy(to_wire::policy(&policy)), Ok(policy));
            }
        }
    }
}

#[test]
fn names_keys_and_states_come_back() {
    let named = TaskRef::Name {
        namespace: "n".into(),
        name: "x".into(),
    };
    for task in [TaskRef::Id(TaskId(u64::MAX)), named] {
        assert_eq!(from_wire::task_ref(Some(to_wire::task_ref(&task))), Ok(task));
    }
    let run = RunId {
        task: TaskId(42),
        number: 3,
    };
    assert_eq!(from_wire::run_id(Some(to_wire::run_id(run))), Ok(run));
    let keys = [
        RequestKey::Client {
            expires_at: ACCEPTED,
            nonce: u128::MAX - 7,
        },
        RequestKey::Client {
            expires_at: ACCEPTED,
            nonce: 1 << 64,
        },
        RequestKey::Caller {
            namespace: "n".into(),
            key: "k".into(),
        },
    ];
    for key in keys {
        assert_eq!(from_wire::request_key(Some(to_wire::request_key(&key))), Ok(key));
    }
    for next in [
        NextRun::At(ACCEPTED),
        NextRun::Never,
        NextRun::GaveUp {
            retry_at: ACCEPTED,
            searched_until: Timestamp::EPOCH,
        },
    ] {
        assert_eq!(from_wire::next_run(Some(to_wire::next_run(next))), Ok(next));
    }
    use sched_core::task::TaskState::*;
    for state in [Spooled, Queued, Running, Failed, Finished, Terminated] {
        assert_eq!(from_wire::task_state(to_wire::task_state(state).into()), Ok(state));
    }
}

#[test]
fn an_absent_dtstart_is_the_first_second_from_acceptance_on() {
    let wire = v1::Schedule {
        form: Some(v1::schedule::Form::Rrule(v1::RruleSchedule {
            rules: vec!["FREQ=DAILY".into()],
            ..v1::RruleSchedule::default()
        })),
    };
    let Ok(Schedule::Rrule { dtstart, zone, .. }) = from_wire::schedule(wire, ACCEPTED) else {
        panic!("not a rule");
    };
    assert_eq!((dtstart.as_millis(), zone.as_str()), (1_700_000_001_000, "UTC"));
    for (ms, expected) in [(-1, 0), (-1_000, -1_000), (0, 0), (1, 1_000)] {
        assert_eq!(
            from_wire::next_whole_second(Timestamp::from_millis(ms)).as_millis(),
            expected
        );
    }
}

/// Changes one field of a good task, and names the field the refusal must name.
type Spoil = (&'static str, fn(&mut v1::TaskSpec));

#[test]
fn nonsense_is_refused_by_the_name_of_its_field() {
    fn cron(spec: &mut v1::TaskSpec, dst: i32) {
        let cron = v1::CronSchedule {
            dst,
            ..v1::CronSchedule::default()
        };
        spec.schedule = Some(v1::Schedule {
            form: Some(v1::schedule::Form::Cron(cron)),
        });
    }
    fn policy(spec: &mut v1::TaskSpec) -> &mut v1::Policy {
        spec.policy.get_or_insert_default()
    }
    let table: [Spoil; 9] = [
        ("schedule", |spec| spec.schedule = None),
        ("schedule", |spec| spec.schedule = Some(v1::Schedule::default())),
        ("schedule.at", |spec| {
            let at = v1::AtSchedule { at_unix_ms: i64::MAX };
            spec.schedule = Some(v1::Schedule {
                form: Some(v1::schedule::Form::At(at)),
            });
        }),
        ("schedule.cron.dst", |spec| cron(spec, 9)),
        ("action", |spec| spec.action = None),
        ("action.http.success_statuses", |spec| {
            let http = v1::HttpAction {
                success_statuses: vec![70_000],
                ..v1::HttpAction::default()
            };
            spec.action = Some(v1::Action {
                kind: Some(v1::action::Kind::Http(http)),
            });
        }),
        ("policy.overlap", |spec| policy(spec).overlap = -1),
        ("policy.delivery", |spec| policy(spec).delivery = 3),
        ("policy.priority", |spec| policy(spec).priority = Some(1_000)),
    ];
    for (expected, spoil) in table {
        let mut wire = to_wire::task_spec(&full());
        spoil(&mut wire);
        match from_wire::task_spec(wire, ACCEPTED) {
            Err(Reject::Invalid { field, problem }) => {
                assert_eq!(field, expected);
                assert!(!problem.is_empty());
            }
            other => panic!("{expected}: {other:?}"),
        }
    }
    assert!(from_wire::task_ref(None).is_err());
    assert!(from_wire::run_id(None).is_err());
    assert!(from_wire::request_key(None).is_err());
    let long = v1::CallerKey {
        namespace: String::new(),
        key: "k".repeat(257),
    };
    let long = v1::RequestKey {
        key: Some(v1::request_key::Key::Caller(long)),
    };
    assert!(from_wire::request_key(Some(long)).is_err());
}

/// Numbers that look random and are the same in every run.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, bound: usize) -> usize {
        // Xorshift: plenty for choosing bytes to damage.
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound as u64) as usize
    }
}

#[test]
fn damaged_messages_are_refused_or_read_but_never_panic() {
    let request = v1::SubmitRequest {
        request: Some(to_wire::request_key(&RequestKey::Client {
            expires_at: ACCEPTED,
            nonce: 7,
        })),
        task: Some(to_wire::task_spec(&full())),
        late_ok: true,
    };
    let good = request.encode_to_vec();
    let mut numbers = Numbers(0x5eed);
    let mut understood = 0;
    for _ in 0..50_000 {
        let mut bytes = good.clone();
        for _ in 0..=numbers.below(4) {
            let at = numbers.below(bytes.len());
            match numbers.below(3) {
                0 => bytes[at] = numbers.below(256) as u8,
                1 => bytes[at] ^= 1 << numbers.below(8),
                _ => bytes.truncate(at.max(1)),
            }
        }
        let Ok(request) = v1::SubmitRequest::decode(bytes.as_slice()) else {
            continue;
        };
        let key = from_wire::request_key(request.request);
        let task = from_wire::task_spec(request.task.unwrap_or_default(), ACCEPTED);
        if let (Ok(_), Ok(task)) = (key, task) {
            understood += 1;
            // What is understood is also checked and written again without a panic.
            let _ = sched_core::validate::task_spec(&task);
            assert_eq!(from_wire::task_spec(to_wire::task_spec(&task), ACCEPTED), Ok(task));
        }
    }
    assert!(
        understood > 1_000,
        "{understood}: the damage is too great to test anything"
    );
}
