//! What the verbs do.

use crate::support::{T, full_cluster, full_run, run, run_alone, run_at};
use sched_client::testing::FakeCluster;
use sched_client::v1;
use sched_core::Timestamp;
use sched_core::schedule::Schedule;
use sched_core::task::{Action, Missed, Overlap, TaskSpec};
use sched_proto::convert::from_wire;

/// Enqueues with these flags and returns the task as the cluster got it.
pub(crate) async fn enqueued(cluster: &FakeCluster, flags: &[&str]) -> TaskSpec {
    let id: u64 = run(cluster, &[&["enqueue"], flags].concat())
        .await
        .done()
        .trim()
        .parse()
        .expect("an id");
    let spec = cluster.state().tasks[&id].spec.clone().expect("a task");
    from_wire::task_spec(spec, Timestamp::from_millis(T)).expect("acceptable")
}

#[tokio::test]
async fn every_flag_of_enqueue_reaches_the_cluster() {
    let cluster = FakeCluster::start(1).await;
    let first = "--rrule FREQ=DAILY --rrule FREQ=WEEKLY --dtstart 2027-01-01 --rdate 2027-01-05T00:00:00Z --tz Europe/Zurich --dst skip \
                 --not-before 2027-01-02 --until 2027-06-01 --count 9 --jitter 30s";
    let policy = "--overlap replace --missed all:5 --grace 2h --tries 4 --retry-delay 1s --retry-factor 3 --retry-delay-max 9s \
                  --group g:2 --require gpu=yes --prefer zone=x --prefer disk=ssd \
                  --time-limit 1m --priority -7 --keep-finished 1 --keep-failed 2 --keep-for 3d";
    let rest = "--namespace n --name x --label a=b --label c=d=e --owner o --description text --dir . --env K=V --stdin in \
                --success-code 0 --success-code 7";
    let flags: Vec<&str> = [first, policy, rest]
        .iter()
        .flat_map(|part| part.split_whitespace())
        .chain(["--", "cat", "-n"])
        .collect();
    let spec = enqueued(&cluster, &flags).await;
    let Schedule::Rrule {
        rules,
        dtstart,
        rdates,
        zone,
        ..
    } = &spec.schedule
    else {
        panic!("{:?}", spec.schedule);
    };
    assert_eq!((rules.len(), rdates.len(), zone.as_str()), (2, 1, "Europe/Zurich"));
    assert_eq!(
        dtstart.to_string(),
        "2026-12-31T23:00:00.000Z",
        "a date is local in --tz"
    );
    let bounds = &spec.bounds;
    assert_eq!(
        [bounds.not_before, bounds.until].map(|at| at.expect("given").to_string()),
        ["2027-01-01T23:00:00.000Z", "2027-05-31T22:00:00.000Z"]
    );
    assert_eq!(
        (bounds.count, bounds.jitter.map(|jitter| jitter.ms)),
        (Some(9), Some(30_000))
    );
    let policy = &spec.policy;
    let group = policy.group.as_ref().expect("a group");
    assert_eq!((group.name.as_str(), group.limit), ("g", 2));
    assert_eq!(policy.placement.require["gpu"], "yes");
    assert_eq!(
        (policy.placement.prefer["zone"].as_str(), policy.placement.prefer.len()),
        ("x", 2)
    );
    assert_eq!(
        (policy.overlap, policy.missed, policy.priority),
        (Overlap::Replace, Missed::All { max: 5 }, -7)
    );
    assert_eq!((policy.grace_ms, policy.time_limit_ms), (7_200_000, Some(60_000)));
    let tries = &policy.tries;
    assert_eq!(
        (tries.max, tries.delay_ms, tries.factor_percent, tries.delay_ms_max),
        (4, 1_000, 300, 9_000)
    );
    let kept = &policy.retention;
    assert_eq!(
        (kept.finished_max, kept.failed_max, kept.finished_age_ms_max),
        (1, 2, 259_200_000)
    );
    assert_eq!(
        (spec.namespace.as_str(), spec.name.as_deref(), spec.owner.as_str()),
        ("n", Some("x"), "o")
    );
    assert_eq!(spec.labels["c"], "d=e");
    let Action::Command {
        argv,
        env,
        dir,
        stdin,
        success_codes,
        ..
    } = &spec.action
    else {
        panic!("{:?}", spec.action);
    };
    let here = std::env::current_dir().expect("a folder");
    assert_eq!(dir.as_deref(), here.to_str(), "--dir . is the folder of the caller");
    assert_eq!(
        (argv.join(" "), env["K"].as_str(), stdin.as_slice()),
        ("cat -n".to_owned(), "V", &b"in"[..])
    );
    assert_eq!(success_codes, &[0, 7]);
}

#[tokio::test]
async fn the_forms_of_schedules_and_actions_reach_the_cluster() {
    let cluster = FakeCluster::start(1).await;
    let sample = ["--sample", "ok"];
    let schedule = async |flags: &[&str]| enqueued(&cluster, &[flags, &sample[..]].concat()).await.schedule;
    assert_eq!(schedule(&[]).await, Schedule::Now);
    assert_eq!(schedule(&["--in", "1h30m"]).await, Schedule::In { delay_ms: 5_400_000 });
    assert_eq!(
        schedule(&["--at", "2027-01-15T08:00:00Z"]).await,
        Schedule::At(Timestamp::from_millis(T))
    );
    assert_eq!(schedule(&["--manual"]).await, Schedule::Manual);
    let alarm = Schedule::Before {
        event: Timestamp::from_millis(T),
        before_ms: 900_000,
    };
    assert_eq!(
        schedule(&["--at", "2027-01-15T08:00:00Z", "--before", "15m"]).await,
        alarm
    );
    let every = Schedule::Every {
        every_ms: 300_000,
        anchor: Timestamp::from_millis(T),
    };
    assert_eq!(
        schedule(&["--every", "5m", "--anchor", "2027-01-15T08:00:00Z"]).await,
        every
    );
    // No dtstart is sent: the leader says when the rule begins. Here it is read as `T`.
    let Schedule::Rrule { dtstart, .. } = schedule(&["--rrule", "FREQ=MINUTELY;BYSECOND=40"]).await else {
        panic!("no rule");
    };
    assert_eq!(dtstart, Timestamp::from_millis(T));
    let action = async |flags: &[&str]| enqueued(&cluster, flags).await.action;
    let Action::Http {
        method,
        url,
        headers,
        body,
        success_statuses,
        timeout_ms,
        expect,
        expect_headers,
    } = action(&[
        "--http",
        "post http://x/y",
        "--header",
        "A: b: c",
        "--header",
        "D:e",
        "--body",
        "{}",
        "--http-status",
        "202",
        "--http-timeout",
        "5s",
        "--expect",
        "ok|done",
        "--expect-header",
        "Content-Type: ^a/(b|c)$",
    ])
    .await
    else {
        panic!("no http");
    };
    assert_eq!(
        (method.as_str(), url.as_str(), body.as_slice()),
        ("POST", "http://x/y", &b"{}"[..])
    );
    assert_eq!(
        headers,
        [("A".to_owned(), "b: c".to_owned()), ("D".to_owned(), "e".to_owned())]
    );
    assert_eq!((success_statuses, timeout_ms), (vec![202], 5_000));
    assert_eq!(expect.as_deref(), Some("ok|done"));
    assert_eq!(expect_headers, [("Content-Type".to_owned(), "^a/(b|c)$".to_owned())]);
    // JSON is sent in its one form; of a file, whatever bytes it holds.
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), [0, 255, b'{']).expect("written");
    let bytes = format!("@{}", file.path().display());
    for (flags, expected, progress_timeout_ms) in [
        (
            &["--payload", "{\"b\": 1,  \"a\": [2]}"][..],
            &b"{\"a\":[2],\"b\":1}"[..],
            None,
        ),
        (&["--payload", &bytes], &[0, 255, b'{'], None),
        (&[], b"", None),
        (&["--progress-timeout", "1m30s"], b"", Some(90_000)),
    ] {
        let worker = Action::Worker {
            queue: "images".into(),
            payload: expected.to_vec(),
            progress_timeout_ms,
        };
        assert_eq!(action(&[&["--queue", "images"], flags].concat()).await, worker);
    }
    let mail = action(&[
        "--mail-to",
        "a@x.org",
        "--mail-to",
        "b@x.org",
        "--mail-cc",
        "c@x.org",
        "--mail-from",
        "d@x.org",
        "--subject",
        "s",
        "--text",
        "t",
    ])
    .await;
    assert_eq!(
        mail,
        Action::Mail {
            from: Some("d@x.org".into()),
            to: vec!["a@x.org".into(), "b@x.org".into()],
            cc: vec!["c@x.org".into()],
            subject: "s".into(),
            text: "t".into(),
        }
    );
    let sample = action(&["--sample", "fail,250"]).await;
    assert_eq!(
        sample,
        Action::Sample {
            succeed: false,
            duration_ms: 250,
            payload: Vec::new()
        }
    );
    let Action::Command { dir: None, .. } = action(&["--", "/bin/sh", "-c", "date >> out.txt"]).await else {
        panic!("a command without --dir runs in the worker's work folder");
    };
}

#[tokio::test]
async fn enqueue_prints_the_id() {
    let cluster = FakeCluster::start(1).await;
    assert_eq!(
        run(&cluster, &["enqueue", "--manual", "--sample", "ok"]).await.done(),
        "1\n"
    );
    let json = run(
        &cluster,
        &[
            "-o",
            "json",
            "enqueue",
            "--at",
            "2027-01-15T08:00:00Z",
            "--sample",
            "ok",
        ],
    )
    .await
    .json();
    let expected =
        serde_json::json!({"id": 2, "name": null, "state": "QUEUED", "next_run": "2027-01-15T08:00:00.000Z"});
    assert_eq!(json, expected);
    let again = [
        "-o",
        "json",
        "enqueue",
        "--manual",
        "--request-id",
        "r",
        "--sample",
        "ok",
    ];
    assert_eq!(run(&cluster, &again).await.json(), run(&cluster, &again).await.json());
}

const FILE: &str = "
name: a
schedule: {cron: '0 2 * * *', tz: Europe/Zurich}
action: {command: [/bin/true], dir: sub}
---
- name: b
  schedule: {rrule: FREQ=DAILY}
  action: {sample: ok}
- name: c
  schedule: {in: 1h}
  action: {sample: ok}
";

#[tokio::test]
async fn a_file_is_applied_again_without_effect() {
    let cluster = FakeCluster::start(1).await;
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("tasks.yaml");
    std::fs::write(&path, FILE).expect("writable");
    let path = path.to_str().expect("UTF-8");
    let results = |json: &serde_json::Value| -> Vec<(u64, String)> {
        let row = |row: &serde_json::Value| {
            (
                row["id"].as_u64().expect("id"),
                row["result"].as_str().expect("result").to_owned(),
            )
        };
        json.as_array().expect("a list").iter().map(row).collect()
    };
    let first = run(&cluster, &["-o", "json", "enqueue", "-f", path]).await.json();
    assert_eq!(
        results(&first),
        [(1, "created".into()), (2, "created".into()), (3, "created".into())]
    );
    {
        // As the cluster resolves them.
        let mut state = cluster.state();
        let accepted = state.tasks[&3].created_at_unix_ms;
        let at = v1::AtSchedule {
            at_unix_ms: accepted + 3_600_000,
        };
        let spec = state.tasks.get_mut(&3).expect("task 3").spec.as_mut().expect("a task");
        spec.schedule = Some(v1::Schedule {
            form: Some(v1::schedule::Form::At(at)),
        });
    }
    let again = run(&cluster, &["-o", "json", "enqueue", "-f", path]).await.json();
    assert_eq!(
        results(&again),
        [
            (1, "unchanged".into()),
            (2, "unchanged".into()),
            (3, "unchanged".into())
        ]
    );
    let spec = cluster.state().tasks[&1].spec.clone().expect("a task");
    let dir = from_wire::task_spec(spec, Timestamp::from_millis(T))
        .expect("acceptable")
        .action;
    let Action::Command { dir: Some(dir), .. } = dir else {
        panic!("{dir:?}");
    };
    assert_eq!(
        std::path::Path::new(&dir),
        folder.path().join("sub"),
        "relative to the file"
    );

    std::fs::write(
        path,
        FILE.replace("0 2 * * *", "0 3 * * *")
            .replace("sample: ok", "sample: fail"),
    )
    .expect("writable");
    let changed = run(&cluster, &["-o", "json", "enqueue", "-f", path]).await.json();
    assert_eq!(
        results(&changed),
        [(1, "updated".into()), (2, "updated".into()), (3, "updated".into())]
    );
    let again = run(&cluster, &["-o", "json", "enqueue", "-f", path]).await.json();
    assert!(results(&again).iter().all(|(_, result)| result == "unchanged"));
    assert_eq!(cluster.state().carried_out[3..], ["update 1", "update 2", "update 3"]);
}

#[tokio::test]
async fn a_file_with_a_mistake_is_not_begun() {
    let cluster = FakeCluster::start(1).await;
    let text = b"- {action: {sample: ok}}\n- {name: late, schedule: {cron: nonsense}, action: {sample: ok}}\n";
    let ran = run_at(&cluster.endpoints()[0], &["enqueue", "-f", "-"], text).await;
    ran.failed(2, &["standard input, task 2 (late): schedule.cron"]);
    assert!(cluster.state().received.is_empty());
}

#[tokio::test]
async fn many_tasks_go_in_batches() {
    let cluster = FakeCluster::start(1).await;
    let text: String = (0..2_500)
        .map(|n| format!("- {{name: t{n}, schedule: {{manual: true}}, action: {{sample: ok}}}}\n"))
        .collect();
    let ran = run_at(
        &cluster.endpoints()[0],
        &["-o", "json", "enqueue", "-f", "-"],
        text.as_bytes(),
    )
    .await;
    assert_eq!(ran.stderr, "", "no bar without a terminal");
    let json: serde_json::Value = serde_json::from_str(&ran.stdout).expect("JSON");
    assert_eq!(json.as_array().expect("a list").len(), 2_500);
    assert!(
        cluster.state().received.len() <= 4,
        "{:?}",
        cluster.state().received.len()
    );
}

#[tokio::test]
async fn lists_are_read_in_pages_up_to_their_limit() {
    let cluster = FakeCluster::start(1).await;
    let text: String = (0..30)
        .map(|_| "- {schedule: {manual: true}, action: {sample: ok}}\n")
        .collect();
    run_at(&cluster.endpoints()[0], &["enqueue", "-f", "-"], text.as_bytes())
        .await
        .done();
    let ids = |json: serde_json::Value| -> Vec<u64> {
        json.as_array()
            .expect("a list")
            .iter()
            .filter_map(|task| task["id"].as_u64())
            .collect()
    };
    let first = run(&cluster, &["-o", "json", "list", "--limit", "7"]).await;
    assert_eq!(first.stderr, "more: --cursor 7\n");
    assert_eq!(ids(first.json()), (1..=7).collect::<Vec<_>>());
    let rest = run(&cluster, &["-o", "json", "list", "--limit", "0", "--cursor", "7"]).await;
    assert_eq!(rest.stderr, "");
    assert_eq!(ids(rest.json()), (8..=30).collect::<Vec<_>>());
}

#[tokio::test]
async fn output_is_passed_on_as_it_is_to_a_pipe() {
    let cluster = full_cluster().await;
    let expected = "looking\n\x1b[31mbroken";
    assert_eq!(run(&cluster, &["logs", "1:2"]).await.done(), expected);
    assert_eq!(run(&cluster, &["logs", "1:2", "--raw"]).await.done(), expected);
    assert_eq!(run(&cluster, &["logs", "1:2", "-f"]).await.done(), expected);
    cluster.state().output_breaks_at = Some(8);
    assert_eq!(
        run(&cluster, &["logs", "report"]).await.done(),
        expected,
        "a task stands for its newest run"
    );
}

#[tokio::test]
async fn a_wait_says_how_it_ended() {
    let cluster = full_cluster().await;
    let failed = run(&cluster, &["wait", "1:2"]).await;
    assert_eq!((failed.code, failed.stdout.as_str()), (1, "FAILED\n"));
    assert!(failed.stderr.contains("exit code 3"), "{failed:?}");
    cluster.state().runs.insert(
        (1, 2),
        v1::Run {
            state: v1::RunState::Finished.into(),
            ..full_run()
        },
    );
    assert_eq!(run(&cluster, &["wait", "1:2"]).await.done(), "FINISHED\n");
    let late = run(&cluster, &["wait", "report", "--timeout", "10ms"]).await;
    assert_eq!((late.code, late.stdout.as_str()), (1, "RUNNING\n"));
    assert!(late.stderr.contains("time passed"), "{late:?}");
    cluster.state().tasks.get_mut(&1).expect("task 1").state = v1::TaskState::Finished.into();
    assert_eq!(run(&cluster, &["wait", "report"]).await.done(), "FINISHED\n");
}

#[tokio::test]
async fn the_scheduler_is_stopped_cleared_and_started() {
    let cluster = full_cluster().await;
    cluster.state().carried_out.clear();
    assert_eq!(
        run(&cluster, &["shutdown", "--message", "moving"]).await.done(),
        "SHUTDOWN\n"
    );
    assert_eq!(
        run(&cluster, &["clear-spool", "--yes"]).await.done(),
        "1 operations removed\n"
    );
    assert_eq!(run(&cluster, &["start"]).await.done(), "RUNNING\n");
    assert_eq!(cluster.state().carried_out, ["shutdown moving", "clear-spool", "start"]);
    cluster.state().findings[0].severity = v1::Severity::Error.into();
    assert_eq!(
        run(&cluster, &["check"]).await.code,
        1,
        "an error is told by the exit code"
    );
}

#[tokio::test]
async fn next_is_computed_here() {
    let after = ["--after", "2027-01-01T00:00:00Z"];
    let next = async |flags: &[&str]| run_alone(&[&["next"], flags, &after[..]].concat()).await.done();
    assert_eq!(
        next(&["--cron", "0 9 * * 1-5", "--tz", "Europe/Zurich", "-n", "2"]).await,
        "2027-01-01T08:00:00.000Z\n2027-01-04T08:00:00.000Z\n"
    );
    assert_eq!(next(&["--every", "1d", "-n", "1"]).await, "2027-01-02T00:00:00.000Z\n");
    let rule = [
        "--rrule",
        "FREQ=YEARLY;BYEASTER=0",
        "--dtstart",
        "2026-01-01T12:00:00Z",
        "-n",
        "2",
    ];
    assert_eq!(
        next(&rule).await,
        "2027-03-28T12:00:00.000Z\n2028-04-16T12:00:00.000Z\n"
    );
    let ended = [
        "next",
        "--rrule",
        "FREQ=DAILY;COUNT=1",
        "--dtstart",
        "2026-01-01T12:00:00Z",
        "-o",
        "json",
    ];
    let ran = run_alone(&[&ended[..], &after[..]].concat()).await;
    assert!(ran.stderr.contains("does not occur"), "{ran:?}");
    assert_eq!(ran.json(), serde_json::json!([]));
}

#[tokio::test]
async fn a_task_waits_for_others_by_id_and_by_name() {
    let cluster = FakeCluster::start(1).await;
    let spec = enqueued(
        &cluster,
        &[
            "--after",
            "42,fetch",
            "--on",
            "any",
            "--expires",
            "2027-01-01",
            "--sample",
            "ok",
        ],
    )
    .await;
    assert_eq!(spec.schedule.to_string(), "after 42,fetch on any");
    assert_eq!(
        spec.bounds.expires.expect("given").to_string(),
        "2027-01-01T00:00:00.000Z"
    );
}

#[tokio::test]
async fn backfill_and_explain_print_what_the_cluster_says() {
    let cluster = full_cluster().await;
    let backfilled = run(
        &cluster,
        &["backfill", "1", "--from", "2026-01-01", "--to", "2026-01-02"],
    )
    .await;
    assert_eq!(backfilled.done(), "1:1\n1:2\n");
    let explained = run(&cluster, &["explain", "1"]).await.done().to_owned();
    assert!(explained.starts_with("Task 1 is "), "{explained}");
    let json = run(&cluster, &["explain", "1", "-o", "json"]).await.done().to_owned();
    let lines: Vec<String> = serde_json::from_str(&json).expect("an array of lines");
    assert_eq!(lines.len(), 1);
}

#[tokio::test]
async fn next_explains_what_a_schedule_means() {
    let next = async |flags: &[&str]| run_alone(&[&["next", "--explain"], flags].concat()).await;
    let flags = ["--cron", "30 2 * * *", "--tz", "Europe/Berlin", "-n", "1"];
    let after = ["--after", "2027-03-27T12:00:00Z"];
    let text = next(&[&flags[..], &after[..]].concat()).await.done();
    let first: Vec<&str> = text.lines().take(3).collect();
    assert_eq!(
        first,
        [
            "every day at 02:30, Europe/Berlin",
            "2027-03-28T01:00:00.000Z",
            "2027-03-28: 02:30 does not exist in Europe/Berlin; runs at 03:00 instead (dst=shift)",
        ]
    );
    let json = next(&[&flags[..], &after[..], &["-o", "json"]].concat()).await.json();
    assert_eq!(json["meaning"], "every day at 02:30, Europe/Berlin");
    assert_eq!(json["clock"], "wall");
    assert_eq!(json["times"], serde_json::json!(["2027-03-28T01:00:00.000Z"]));
    let changes = json["clock_changes"].as_array().expect("a list");
    let kinds: Vec<_> = changes.iter().map(|change| change["kind"].as_str()).collect();
    // Two years from the end of March have three of its last Sundays.
    assert_eq!(kinds, ["gap", "fold", "gap", "fold", "gap"].map(Some));
    assert_eq!(changes[0]["runs_at"], "2027-03-28T01:00:00.000Z");
    let skipped = next(&[&flags[..], &after[..], &["--dst", "skip", "-o", "json"]].concat())
        .await
        .json();
    assert_eq!(skipped["clock_changes"][0]["runs_at"], serde_json::Value::Null);
    let text = next(&["--cron", "*/30 * * * *", "--tz", "Europe/Berlin", "-n", "1"])
        .await
        .done();
    assert!(text.contains("absolute time"), "{text}");
    // What is refused is refused the same way.
    next(&["--cron", "0 0 30 2 *"]).await.failed(2, &["never occurs"]);
}
