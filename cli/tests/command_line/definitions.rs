//! Changing definitions, history and settings.

use crate::support::{T, run, run_alone};
use sched_client::testing::{FakeCluster, Fault};
use sched_client::v1;
use sched_core::Timestamp;
use sched_core::schedule::Schedule;
use sched_core::task::{Action, PolicyField, TaskSpec};
use sched_proto::convert::{failure, from_wire};

/// Returns a task as the cluster has it.
fn stored(cluster: &FakeCluster, id: u64) -> TaskSpec {
    let spec = cluster.state().tasks[&id].spec.clone().expect("a task");
    from_wire::task_spec(spec, Timestamp::from_millis(T)).expect("acceptable")
}

async fn update(cluster: &FakeCluster, flags: &[&str]) -> TaskSpec {
    run(cluster, &[&["update", "x"], flags].concat()).await.done();
    stored(cluster, 1)
}

/// A cluster with a task `x`.
async fn with_task(flags: &[&str]) -> FakeCluster {
    let cluster = FakeCluster::start(1).await;
    run(&cluster, &[&["enqueue", "--name", "x"], flags].concat())
        .await
        .done();
    cluster
}

#[tokio::test]
async fn an_update_changes_what_is_given_and_nothing_else() {
    let flags = "--cron 0_9_*_*_* --tz Europe/Zurich --jitter 30s --until 2028-01-01 --label team=a --label tier=1 --owner ann \
                 --tries 3 --group g:2 --require gpu=yes --env A=1 --env B=2 --stdin @/dev/null --dir /srv -- cat @x";
    let flags: Vec<String> = flags.split_whitespace().map(|flag| flag.replace('_', " ")).collect();
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let cluster = with_task(&flags).await;
    let before = stored(&cluster, 1);
    assert_eq!(
        update(&cluster, &["--description", "d"]).await,
        TaskSpec {
            description: "d".into(),
            ..before.clone()
        }
    );
    let now = update(
        &cluster,
        &[
            "--label",
            "team=b",
            "--label",
            "new=1",
            "--require",
            "zone=x",
            "--env",
            "B=3",
        ],
    )
    .await;
    assert_eq!(now.labels.len(), 3);
    assert_eq!((now.labels["team"].as_str(), now.labels["tier"].as_str()), ("b", "1"));
    assert_eq!(now.policy.placement.require.len(), 2);
    let Action::Command { argv, env, dir, .. } = &now.action else {
        panic!("{now:?}")
    };
    assert_eq!(
        (argv.as_slice(), dir.as_deref()),
        (&["cat".to_owned(), "@x".to_owned()][..], Some("/srv"))
    );
    assert_eq!((env["A"].as_str(), env["B"].as_str()), ("1", "3"));
    assert_eq!((&now.schedule, &now.bounds), (&before.schedule, &before.bounds));
    // Another time of day: the zone and the bounds stay. Another form: what has no place in it goes.
    let now = update(&cluster, &["--cron", "0 10 * * *"]).await;
    let Schedule::Cron { expr, zone, .. } = &now.schedule else {
        panic!("{now:?}")
    };
    assert_eq!((expr.as_str(), zone.as_str()), ("0 10 * * *", "Europe/Zurich"));
    assert_eq!(now.bounds, before.bounds);
    let now = update(&cluster, &["--at", "2027-03-01T09:00:00"]).await;
    assert_eq!(
        now.schedule.to_string(),
        Schedule::At("2027-03-01T08:00:00Z".parse().expect("an instant")).to_string()
    );
    assert_eq!(now.bounds, sched_core::task::Bounds::default());
    // Another kind of action begins from nothing.
    let now = update(
        &cluster,
        &["--http", "http://localhost/x", "--expect-header", "Content-Type: json"],
    )
    .await;
    let Action::Http {
        method, expect_headers, ..
    } = &now.action
    else {
        panic!("{now:?}")
    };
    assert_eq!(method, "GET");
    assert_eq!(expect_headers, &[("Content-Type".to_owned(), "json".to_owned())]);
    let kept = update(&cluster, &["--http-timeout", "5s"]).await;
    let Action::Http {
        expect_headers,
        timeout_ms,
        ..
    } = &kept.action
    else {
        panic!("{kept:?}")
    };
    assert_eq!((expect_headers.len(), *timeout_ms), (1, 5_000));
    let now = update(
        &cluster,
        &[
            "--unset",
            "policy.group",
            "--unset",
            "labels.team",
            "--unset",
            "owner",
            "--unset",
            "policy.tries",
        ],
    )
    .await;
    assert_eq!((now.policy.group, now.owner.as_str()), (None, ""));
    assert!(!now.labels.contains_key("team") && now.labels.contains_key("tier"));
    assert!(!now.policy.stated.contains(PolicyField::Tries));
    let renamed = update(&cluster, &["--name", "y"]).await;
    assert_eq!(renamed.name.as_deref(), Some("y"));
}

#[tokio::test]
async fn what_no_text_can_hold_survives_an_update() {
    let cluster = with_task(&["--", "cat"]).await;
    {
        let mut state = cluster.state();
        let spec = state.tasks.get_mut(&1).expect("task 1").spec.as_mut().expect("a task");
        let Some(v1::Action {
            kind: Some(v1::action::Kind::Command(command)),
        }) = &mut spec.action
        else {
            panic!("{spec:?}");
        };
        command.stdin = vec![0xff, 0, b'@'].into();
    }
    let now = update(&cluster, &["--dir", "/tmp"]).await;
    let Action::Command { stdin, dir, .. } = &now.action else {
        panic!("{now:?}")
    };
    assert_eq!((stdin.as_slice(), dir.as_deref()), (&[0xff, 0, b'@'][..], Some("/tmp")));
    let now = update(&cluster, &["--unset", "action.stdin"]).await;
    let Action::Command { stdin, .. } = &now.action else {
        panic!("{now:?}")
    };
    assert!(stdin.is_empty());
}

#[tokio::test]
async fn an_update_of_another_generation_is_refused_when_one_is_named_and_else_read_again() {
    let cluster = with_task(&["--manual", "--sample", "ok"]).await;
    let named = run(&cluster, &["update", "x", "--generation", "7", "--tries", "2"]).await;
    named.failed(1, &["generation 1"]);
    run(&cluster, &["update", "x", "--generation", "1", "--tries", "2"])
        .await
        .done();
    // It changes between the read and the write, once.
    let conflict = failure(v1::FailureKind::Conflict, "task 1 is at generation 3");
    cluster.fault_at("update", Fault::Refuse(conflict));
    run(&cluster, &["update", "x", "--tries", "4"]).await.done();
    assert_eq!(stored(&cluster, 1).policy.tries.max, 4);
}

#[tokio::test]
async fn what_an_update_cannot_mean_is_refused_before_anything_is_sent() {
    let cluster = with_task(&["--every", "5m", "--sample", "ok"]).await;
    for (flags, parts) in [
        (&[][..], &["update: names nothing to change", "--tries 3"][..]),
        (&["--unset", "tries"], &["--unset", "\"tries\"", "policy.tries"]),
        (&["--unset", "policy.tryes"], &["\"policy.tryes\" is not a field"]),
        (&["--unset", "action.sample"], &["action", "is missing"]),
        (&["--tries", "0"], &["tries", "1 to 1000"]),
        (&["--dtstart", "2027-01-01"], &["--dtstart", "--rrule"]),
        (&["--dir", "/tmp"], &["--dir", "CMD"]),
        (&["--cron", "nonsense"], &["--cron", "nonsense"]),
    ] {
        run(&cluster, &[&["update", "x"], flags].concat())
            .await
            .failed(2, parts);
    }
    assert_eq!(cluster.state().carried_out, ["submit 1"]);
    run(&cluster, &["update", "nobody", "--tries", "2"])
        .await
        .failed(4, &["nobody"]);
}

#[tokio::test]
async fn settings_are_listed_set_and_unset() {
    let cluster = FakeCluster::start(1).await;
    let settings = run(
        &cluster,
        &["-o", "json", "config", "set", "tries=3", "time_limit=1h30m"],
    )
    .await
    .json();
    let setting = |key: &str| {
        let all = settings.as_array().expect("a list");
        all.iter().find(|setting| setting["key"] == key).expect(key).clone()
    };
    assert_eq!(
        (setting("tries")["value"].as_str(), setting("tries")["set"].as_bool()),
        (Some("3"), Some(true))
    );
    assert_eq!(setting("time_limit")["value"], "1h30m");
    assert_eq!(
        (setting("grace")["value"].as_str(), setting("grace")["set"].as_bool()),
        (Some("1h"), Some(false))
    );
    assert_eq!(run(&cluster, &["config", "get", "tries"]).await.done(), "3\n");
    run(&cluster, &["config", "unset", "tries"]).await.done();
    assert_eq!(run(&cluster, &["config", "get", "tries"]).await.done(), "1\n");
    for (words, parts) in [
        (
            &["set", "trys=3"][..],
            &[
                "\"trys\" is not a setting",
                "did you mean \"tries\"?",
                "keep_ended_tasks",
            ][..],
        ),
        (&["set", "task_max_tries=3"], &["task_max_tries", "Known are"]),
        (&["set", "tries=0"], &["config.tries", "0", "1 to 1000"]),
        (&["set", "tries=many"], &["config.tries", "\"many\"", "for example 3"]),
        (&["set", "tries=1", "tries=2"], &["config.tries", "twice"]),
        (&["set", "tries"], &["\"tries\" is not KEY=VALUE"]),
        (&["unset", "x"], &["\"x\" is not a setting"]),
        (&["get", "over_lap"], &["did you mean \"overlap\"?"]),
    ] {
        run(&cluster, &[&["config"], words].concat()).await.failed(2, parts);
    }
    assert_eq!(cluster.state().carried_out, ["set config", "set config"]);
}

#[tokio::test]
async fn history_is_deleted_when_somebody_means_it() {
    let cluster = with_task(&["--manual", "--sample", "ok"]).await;
    let deleted = run(&cluster, &["-o", "json", "delete-history", "x", "--yes"])
        .await
        .json();
    assert_eq!(
        (deleted["runs"].as_u64(), deleted["ledger_lines"].as_u64()),
        (Some(3), Some(0))
    );
    let words = "delete-history x --before 2027-03-01 --tz Europe/Zurich --state failed -y";
    run(&cluster, &words.split(' ').collect::<Vec<_>>()).await.done();
    assert_eq!(
        cluster.state().carried_out[1..],
        [
            "delete-history 1 before None RUN_STATE_UNSPECIFIED",
            "delete-history 1 before Some(1803855600000) RUN_STATE_FAILED"
        ]
    );
    run(&cluster, &["delete-history", "x"])
        .await
        .failed(2, &["delete-history", "--yes"]);
    run(&cluster, &["delete-history", "nobody", "-y"])
        .await
        .failed(4, &["nobody"]);
    run_alone(&["delete-history", "x", "-y", "--state", "lost"])
        .await
        .failed(2, &["lost", "finished"]);
    run_alone(&["delete-history", "x", "-y", "--before", "soon"])
        .await
        .failed(2, &["--before", "soon"]);
}

#[tokio::test]
async fn a_file_that_differs_from_a_task_that_has_ended_says_how_its_name_is_freed() {
    let cluster = with_task(&["--sample", "ok"]).await;
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("x.yaml");
    std::fs::write(&path, "name: x\naction: {sample: fail}\n").expect("writable");
    let ended = failure(v1::FailureKind::WrongState, "task 1 is FINISHED; enqueue a new one");
    cluster.fault_at("update", Fault::Refuse(ended));
    let refused = run(&cluster, &["enqueue", "-f", path.to_str().expect("UTF-8")]).await;
    assert_eq!(refused.code, 1, "{refused:?}");
    for part in ["task 1 (x)", "task 1 is FINISHED", "`schedcli dequeue 1`"] {
        assert!(refused.stderr.contains(part), "{part}: {refused:?}");
    }
}
