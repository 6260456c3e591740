//! What another client might send: past every check of ours on the caller's side.

use crate::{LIMIT, failure, holds_and_serves};
use anyhow::{Context, Result, bail, ensure};
use sched_proto::v1;
use sched_proto::v1::action::Kind;
use sched_proto::v1::request_key::Key;
use sched_proto::v1::schedule::Form;
use sched_tests::{Plan, scenario, tasks};
use tonic::Code;

/// Turns a good request into a bad one.
type Spoil = fn(&mut v1::SubmitRequest);

/// What is spoiled, and the field that the refusal names.
const SPOILED: &[(&str, Spoil)] = &[
    ("schedule", |r| r.task = None),
    ("schedule", |r| task(r).schedule = None),
    ("schedule", |r| task(r).schedule = Some(v1::Schedule { form: None })),
    ("schedule", |r| {
        form(
            r,
            Form::Cron(v1::CronSchedule {
                expr: "x".into(),
                ..Default::default()
            }),
        )
    }),
    ("schedule", |r| {
        form(
            r,
            Form::Cron(v1::CronSchedule {
                expr: "@daily".into(),
                zone: "Mars".into(),
                dst: 0,
            }),
        )
    }),
    ("schedule", |r| {
        form(
            r,
            Form::Cron(v1::CronSchedule {
                expr: "@daily".into(),
                zone: String::new(),
                dst: 77,
            }),
        )
    }),
    ("schedule", |r| {
        form(
            r,
            Form::Cron(v1::CronSchedule {
                expr: "* ".repeat(100_000),
                ..Default::default()
            }),
        )
    }),
    ("schedule", |r| {
        form(
            r,
            Form::Every(v1::EverySchedule {
                every_ms: 0,
                anchor_unix_ms: None,
            }),
        )
    }),
    ("schedule", |r| {
        form(
            r,
            Form::Every(v1::EverySchedule {
                every_ms: u64::MAX,
                anchor_unix_ms: Some(i64::MIN),
            }),
        )
    }),
    ("schedule", |r| form(r, Form::In(v1::InSchedule { delay_ms: u64::MAX }))),
    ("schedule", |r| {
        form(r, Form::At(v1::AtSchedule { at_unix_ms: i64::MAX }))
    }),
    ("schedule", |r| {
        form(r, Form::At(v1::AtSchedule { at_unix_ms: i64::MIN }))
    }),
    ("schedule", |r| form(r, Form::At(v1::AtSchedule { at_unix_ms: 0 }))),
    ("schedule", |r| rules(r, &[])),
    ("schedule", |r| rules(r, &["FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=30"])),
    ("schedule", |r| rules(r, &["FREQ=SECONDLY;BYHOUR=1;BYMINUTE=99"])),
    ("schedule", |r| rules(r, &["FREQ=DAILY"; 1000])),
    ("action", |r| task(r).action = None),
    ("action", |r| task(r).action = Some(v1::Action { kind: None })),
    ("action", |r| kind(r, tasks::command(Vec::new()))),
    ("action", |r| kind(r, tasks::command(vec![String::new()]))),
    ("action", |r| {
        kind(r, tasks::command(vec!["/bin/echo".into(), "a\0b".into()]))
    }),
    ("action", |r| kind(r, tasks::command(vec!["x".into(); 70_000]))),
    ("action", |r| kind(r, tasks::sample(0, 64 * 1024 + 1))),
    ("action", |r| {
        kind(
            r,
            Kind::Http(v1::HttpAction {
                url: "gopher://x/".into(),
                ..Default::default()
            }),
        )
    }),
    ("action", |r| {
        kind(
            r,
            Kind::Http(v1::HttpAction {
                url: "http://x/".into(),
                method: "G ET".into(),
                ..Default::default()
            }),
        )
    }),
    ("action", |r| {
        kind(
            r,
            Kind::Http(v1::HttpAction {
                url: "http://x/".into(),
                success_statuses: vec![99],
                ..Default::default()
            }),
        )
    }),
    ("action", |r| {
        kind(
            r,
            Kind::Worker(v1::WorkerAction {
                queue: "q".into(),
                progress_timeout_ms: Some(u64::MAX),
                ..Default::default()
            }),
        )
    }),
    ("name", |r| task(r).name = Some(String::new())),
    ("name", |r| task(r).name = Some("n".repeat(257))),
    ("name", |r| task(r).name = Some("a\u{0}b".into())),
    ("namespace", |r| task(r).namespace = "n".repeat(257)),
    ("owner", |r| task(r).owner = "n".repeat(257)),
    ("description", |r| task(r).description = "n".repeat(4097)),
    ("labels", |r| {
        task(r).labels.extend((0..33).map(|n| (n.to_string(), String::new())))
    }),
    ("labels", |r| task(r).labels.extend([(String::new(), "x".to_owned())])),
    ("policy", |r| policy(r).priority = Some(i32::MAX)),
    ("policy", |r| policy(r).overlap = 77),
    ("policy", |r| policy(r).delivery = -1),
    ("policy", |r| policy(r).grace_ms = Some(u64::MAX)),
    ("policy", |r| policy(r).time_limit_ms = Some(u64::MAX)),
    ("policy", |r| {
        policy(r).missed = Some(v1::Missed {
            rule: Some(v1::missed::Rule::All(v1::MissedAll { max: 0 })),
        })
    }),
    ("policy", |r| {
        policy(r).tries = Some(v1::Tries {
            max: Some(0),
            ..Default::default()
        })
    }),
    ("policy", |r| {
        policy(r).tries = Some(v1::Tries {
            factor_percent: Some(u32::MAX),
            ..Default::default()
        })
    }),
    ("request", |r| r.request = None),
    ("request", |r| r.request = Some(v1::RequestKey { key: None })),
    ("request", |r| {
        key(
            r,
            Key::Caller(v1::CallerKey {
                namespace: String::new(),
                key: String::new(),
            }),
        )
    }),
    ("request", |r| {
        key(
            r,
            Key::Caller(v1::CallerKey {
                namespace: String::new(),
                key: "k".repeat(257),
            }),
        )
    }),
    ("request", |r| {
        key(
            r,
            Key::Client(v1::ClientKey {
                expires_at_unix_ms: i64::MAX,
                nonce_high: 1,
                nonce_low: 1,
            }),
        )
    }),
];

fn task(request: &mut v1::SubmitRequest) -> &mut v1::TaskSpec {
    request.task.get_or_insert_default()
}

fn form(request: &mut v1::SubmitRequest, form: Form) {
    task(request).schedule = Some(v1::Schedule { form: Some(form) });
}

fn rules(request: &mut v1::SubmitRequest, rules: &[&str]) {
    let rules = rules.iter().map(|rule| (*rule).to_owned()).collect();
    form(
        request,
        Form::Rrule(v1::RruleSchedule {
            rules,
            ..Default::default()
        }),
    );
}

fn kind(request: &mut v1::SubmitRequest, kind: Kind) {
    task(request).action = Some(v1::Action { kind: Some(kind) });
}

fn policy(request: &mut v1::SubmitRequest) -> &mut v1::Policy {
    task(request).policy.get_or_insert_default()
}

fn key(request: &mut v1::SubmitRequest, key: Key) {
    request.request = Some(v1::RequestKey { key: Some(key) });
}

fn good() -> v1::SubmitRequest {
    tasks::submit(tasks::task(
        tasks::at(tasks::now_ms() + 3_600_000),
        tasks::sample(0, 16),
    ))
}

#[test]
fn every_field_is_checked_by_the_node_itself() {
    scenario(Plan::nodes(1), LIMIT, async |cluster| {
        let mut api = cluster.nodes[0].api();
        let mut wrong = Vec::new();
        for (index, (field, spoil)) in SPOILED.iter().enumerate() {
            let mut request = good();
            spoil(&mut request);
            let said = match api.submit(request).await {
                Ok(reply) => Err(anyhow::anyhow!("accepted as {:?}", reply.into_inner())),
                Err(status) => invalid(&status, field),
            };
            wrong.extend(said.err().map(|error| format!("row {index} ({field}): {error:#}")));
        }
        ensure!(
            wrong.is_empty(),
            "{} of {}:\n{}",
            wrong.len(),
            SPOILED.len(),
            wrong.join("\n")
        );
        holds_and_serves(cluster, 0).await
    });
}

fn invalid(status: &tonic::Status, field: &str) -> Result<()> {
    ensure!(
        status.code() == Code::InvalidArgument,
        "expected INVALID_ARGUMENT: {status:?}"
    );
    let failure = failure(status)?;
    ensure!(failure.kind() == v1::FailureKind::Invalid, "{failure:?}");
    ensure!(
        failure.field.starts_with(field),
        "expected the field {field}: {failure:?}"
    );
    ensure!(
        !failure.message.is_empty() && failure.message.len() < 4096,
        "{failure:?}"
    );
    Ok(())
}

#[test]
fn what_is_too_much_is_refused_whole() {
    scenario(Plan::nodes(1), LIMIT, async |cluster| {
        let mut api = cluster.nodes[0].api();
        let many = v1::SubmitManyRequest {
            items: (0..1001).map(|_| good()).collect(),
        };
        let status = api.submit_many(many).await.err().context("1001 items were accepted")?;
        ensure!(
            status.code() == Code::InvalidArgument && status.message().contains("1000"),
            "{status:?}"
        );

        // Larger than any message: the call fails, the connection and the node stay.
        let mut large = good();
        kind(&mut large, tasks::sample(0, 32 * 1024 * 1024));
        let status = api.submit(large).await.err().context("32 MiB were accepted")?;
        ensure!(
            [Code::OutOfRange, Code::ResourceExhausted, Code::InvalidArgument].contains(&status.code()),
            "{status:?}"
        );

        // One bad item does not spoil the others, and is refused alone.
        let mut bad = good();
        task(&mut bad).name = Some(String::new());
        let mixed = v1::SubmitManyRequest {
            items: vec![good(), bad, good()],
        };
        let results = api.submit_many(mixed).await?.into_inner().results;
        let accepted: Vec<bool> = results
            .iter()
            .map(|r| matches!(r.result, Some(v1::submit_result::Result::Accepted(_))))
            .collect();
        ensure!(accepted == [true, false, true], "{results:?}");
        holds_and_serves(cluster, 2).await
    });
}

#[test]
fn a_key_whose_time_has_passed_is_refused_and_not_carried_out() {
    scenario(Plan::nodes(1), LIMIT, async |cluster| {
        let mut api = cluster.nodes[0].api();
        let mut late = good();
        key(
            &mut late,
            Key::Client(v1::ClientKey {
                expires_at_unix_ms: tasks::now_ms() - 1000,
                nonce_high: 1,
                nonce_low: 1,
            }),
        );
        let status = api.submit(late).await.err().context("an expired key was accepted")?;
        ensure!(
            failure(&status)?.kind() == v1::FailureKind::RequestExpired,
            "{status:?}"
        );

        // The same key again: the same answer. The same key for something else: still the first answer.
        let request = good();
        let first = api.submit(request.clone()).await?.into_inner();
        let again = api.submit(request.clone()).await?.into_inner();
        ensure!(first == again, "{first:?} and {again:?}");
        let other = v1::SubmitRequest {
            request: request.request,
            ..good()
        };
        let third = api.submit(other).await?.into_inner();
        ensure!(third.id == first.id, "a used key made a new task: {third:?}");
        holds_and_serves(cluster, 1).await
    });
}

#[test]
fn reads_are_bounded() {
    scenario(Plan::nodes(1), LIMIT, async |cluster| {
        let mut api = cluster.nodes[0].api();
        for limit in [1001, u32::MAX] {
            match api
                .list_tasks(v1::ListTasksRequest {
                    limit,
                    ..Default::default()
                })
                .await
            {
                Err(status) => ensure!(status.code() == Code::InvalidArgument, "{status:?}"),
                Ok(reply) => ensure!(reply.into_inner().tasks.len() <= 1000, "more than the bound"),
            }
        }
        for cursor in ["?", "-1", "\u{0}", &"9".repeat(10_000)] {
            let request = v1::ListRunsRequest {
                cursor: cursor.to_owned(),
                ..Default::default()
            };
            let Err(status) = api.list_runs(request).await else {
                bail!("the cursor {cursor:.20?} was taken")
            };
            ensure!(status.code() == Code::InvalidArgument, "{status:?}");
        }
        for request in [
            v1::WaitRequest {
                subject: None,
                timeout_ms: 0,
            },
            v1::WaitRequest {
                subject: Some(v1::wait_request::Subject::Run(v1::RunId { task: 1, number: 1 })),
                timeout_ms: u64::MAX,
            },
        ] {
            let Err(status) = api.wait(request).await else {
                bail!("a wait for nothing, or for ever, was taken")
            };
            ensure!(
                [Code::InvalidArgument, Code::NotFound].contains(&status.code()),
                "{status:?}"
            );
        }
        let Err(status) = api.get_task(v1::GetTaskRequest { task: None }).await else {
            bail!("no task was asked for")
        };
        ensure!(status.code() == Code::InvalidArgument, "{status:?}");
        holds_and_serves(cluster, 0).await
    });
}
