//! The verbs that act on tasks, through any node.

use crate::{LIMIT, SOON, rows, text};
use anyhow::{Context, Result, ensure};
use sched_tests::cli::{NOT_FOUND, REFUSED};
use sched_tests::{Plan, Recorder, eventually, scenario, tasks};

#[test]
fn any_node_takes_and_shows_any_task() {
    scenario(Plan::nodes(3), LIMIT, async |cluster| {
        let follower = cluster.follower().await?;
        let reply = cluster
            .cli_at(
                follower,
                &[
                    "--output", "json", "enqueue", "--in", "1h", "--name", "report", "--label", "team=a", "--sample",
                    "ok",
                ],
            )
            .await?
            .json()?;
        ensure!(reply["state"] == "QUEUED" && reply["name"] == "report", "{reply}");
        let id = reply["id"].as_u64().context("no id")?.to_string();
        tasks::instant_ms(text(&reply, "next_run")?)?;
        cluster.cli_at(follower, &["run", &id, "--wait"]).await?.done()?;
        for index in 0..3 {
            let by_id = cluster.cli_at(index, &["--output", "json", "get", &id]).await?.json()?;
            let by_name = cluster
                .cli_at(index, &["--output", "json", "get", "report"])
                .await?
                .json()?;
            ensure!(by_id == by_name && by_id["state"] == "QUEUED", "{by_id} and {by_name}");
            let list = cluster
                .cli_at(index, &["--output", "json", "list", "--label", "team=a"])
                .await?
                .json()?;
            ensure!(rows(&list)?.len() == 1, "{list}");
            let list = cluster
                .cli_at(index, &["--output", "json", "list", "--label", "team=b"])
                .await?
                .json()?;
            ensure!(rows(&list)?.is_empty(), "{list}");
            let runs = cluster
                .cli_at(index, &["--output", "json", "runs", "report"])
                .await?
                .json()?;
            let run = &rows(&runs)?[0];
            ensure!(run["run"] == format!("{id}:1") && run["state"] == "FINISHED", "{run}");
            for key in [
                "scheduled_at",
                "started_at",
                "ended_at",
                "late_ms",
                "worker",
                "attempts",
                "exit_code",
                "reason",
            ] {
                ensure!(run.get(key).is_some(), "no {key} in {run}");
            }
            let table = cluster.cli_at(index, &["list"]).await?.done()?;
            ensure!(table.contains("report"), "{table}");
        }
        Ok(())
    });
}

#[test]
fn tasks_are_moved_paused_resumed_and_dequeued() {
    scenario(Plan::nodes(3), LIMIT, async |cluster| {
        let recorder = Recorder::at(cluster.file("starts"))?;
        let argv = recorder.argv("moved");
        let command: Vec<&str> = argv.iter().map(String::as_str).collect();

        // Moved from tomorrow to now.
        let id = cluster
            .enqueue(&[&["--in", "24h", "--"], &command[..]].concat())
            .await?
            .to_string();
        cluster.cli(&["move", &id, "--in", "200ms"]).await?.done()?;
        recorder.hear("moved", 1, SOON).await?;
        cluster.cli(&["wait", &id, "--timeout", "10s"]).await?.done()?;
        cluster
            .cli(&["move", &id, "--in", "1h"])
            .await?
            .failed(REFUSED, &["FINISHED"])?;

        // Paused: nothing starts, and the task says so.
        let argv = recorder.argv("beat");
        let command: Vec<&str> = argv.iter().map(String::as_str).collect();
        cluster
            .enqueue(&[&["--every", "1s", "--name", "beat", "--"], &command[..]].concat())
            .await?;
        recorder.hear("beat", 2, SOON).await?;
        cluster.cli(&["pause", "beat", "--note", "month end"]).await?.done()?;
        let task = cluster.json(&["get", "beat"]).await?;
        ensure!(task.to_string().contains("month end"), "the note is not shown: {task}");
        let paused = recorder.by_note()["beat"].len();
        // A marker that is due two beats later shows that the time has passed.
        let argv = recorder.argv("marker");
        let marker: Vec<&str> = argv.iter().map(String::as_str).collect();
        cluster
            .enqueue(&[&["--in", "2500ms", "--"], &marker[..]].concat())
            .await?;
        recorder.hear("marker", 1, SOON).await?;
        ensure!(
            recorder.by_note()["beat"].len() <= paused + 1,
            "a paused task was started"
        );
        cluster.cli(&["resume", "beat"]).await?.done()?;
        let seen = recorder.by_note()["beat"].len();
        recorder.hear("beat", seen + 2, SOON).await?;

        // Paused until an instant: resumes by itself.
        let until = tasks::rfc3339(tasks::now_ms() + 2000);
        cluster.cli(&["pause", "beat", "--until", &until]).await?.done()?;
        let seen = recorder.by_note()["beat"].len();
        recorder.hear("beat", seen + 2, SOON).await?;

        cluster.cli(&["dequeue", "beat"]).await?.done()?;
        let task = cluster.json(&["list", "--state", "QUEUED"]).await?;
        ensure!(rows(&task)?.is_empty(), "a dequeued task is queued: {task}");
        cluster.cli(&["dequeue", "4711"]).await?.failed(NOT_FOUND, &["4711"])
    });
}

#[test]
fn names_and_request_ids_make_repeats_harmless() {
    scenario(Plan::nodes(3), LIMIT, async |cluster| {
        let first = cluster
            .enqueue(&["--in", "1h", "--name", "one", "--sample", "ok"])
            .await?;
        let taken = cluster
            .cli(&["enqueue", "--in", "1h", "--name", "one", "--sample", "ok"])
            .await?;
        taken.failed(REFUSED, &["one", &first.to_string()])?;
        // Another namespace has its own names.
        cluster
            .cli(&[
                "--namespace",
                "other",
                "enqueue",
                "--in",
                "1h",
                "--name",
                "one",
                "--sample",
                "ok",
            ])
            .await?
            .done()?;

        let request = ["--in", "1h", "--request-id", "order-66", "--sample", "ok"];
        let id = cluster.enqueue(&request).await?;
        for node in 0..3 {
            let again = cluster
                .cli_at(node, &[&["--output", "json", "enqueue"], &request[..]].concat())
                .await?
                .json()?;
            ensure!(again["id"] == id, "a repeated request made a new task: {again}");
        }
        ensure!(
            rows(&cluster.json(&["list"]).await?)?.len() == 3,
            "three tasks were accepted"
        );
        Ok(())
    });
}

#[test]
fn lists_come_in_pages() {
    scenario(Plan::nodes(1), LIMIT, async |cluster| {
        let mut file = String::new();
        for number in 0..250 {
            file.push_str(&format!(
                "- {{name: t{number}, schedule: {{in: 1h}}, action: {{sample: ok}}}}\n"
            ));
        }
        std::fs::write(cluster.file("tasks.yaml"), file)?;
        let path = cluster.file("tasks.yaml").display().to_string();
        cluster.cli(&["enqueue", "-f", &path]).await?.done()?;
        ensure!(
            rows(&cluster.json(&["list", "--limit", "0"]).await?)?.len() == 250,
            "0 means all"
        );
        ensure!(
            rows(&cluster.json(&["list", "--limit", "7"]).await?)?.len() == 7,
            "7 means 7"
        );
        eventually("status counts them", SOON, async || {
            let status = cluster.json(&["status"]).await?;
            ensure!(status["waiting"] == 250, "{status}");
            Ok(())
        })
        .await
    });
}

#[test]
fn the_local_verbs_need_no_cluster() -> Result<()> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(async {
            for shell in ["bash", "zsh", "fish"] {
                let script = sched_tests::cli::run("http://127.0.0.1:1", &["completions", shell], None)
                    .await?
                    .done()?;
                ensure!(script.contains("schedcli"), "{shell}: {script:.200}");
            }
            let verbs = [
                "enqueue", "dequeue", "move", "run", "retry", "cancel", "pause", "resume", "get", "list", "runs",
                "logs", "wait", "next",
            ];
            let more = [
                "status",
                "show",
                "clear-spool",
                "shutdown",
                "start",
                "check",
                "nodes",
                "completions",
            ];
            for verb in verbs.into_iter().chain(more) {
                let help = sched_tests::cli::run("http://127.0.0.1:1", &[verb, "--help"], None)
                    .await?
                    .done()?;
                ensure!(
                    help.contains("Example") || ["show", "completions"].contains(&verb),
                    "{verb} --help has no example"
                );
            }
            Ok(())
        })
}
