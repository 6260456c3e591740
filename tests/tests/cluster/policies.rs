//! Policies between tasks and workers: groups, labels, tasks that wait for others, bounds, backfills, and what `explain` says of them.

use crate::{LIMIT, SOON, explained, rows, text};
use anyhow::ensure;
use sched_tests::cli::REFUSED;
use sched_tests::{Plan, Recorder, eventually, scenario};

#[test]
fn a_group_lets_no_more_run_than_its_limit() {
    scenario(Plan::nodes(3), LIMIT, async |cluster| {
        let recorder = Recorder::at(cluster.file("group"))?;
        let gate = cluster.file("gate").display().to_string();
        let wait = format!("while ! test -e {gate}; do sleep 0.05; done");
        let mut ids = Vec::new();
        for _ in 0..4 {
            let argv = recorder.argv_then("g", &wait);
            let command: Vec<&str> = argv.iter().map(String::as_str).collect();
            ids.push(
                cluster
                    .enqueue(&[&["--group", "g:2", "--"], &command[..]].concat())
                    .await?,
            );
        }
        recorder.hear("g", 2, SOON).await?;
        // Two run; the others say what they wait for, and a task outside the group is not held up.
        let waiting = cluster.json(&["runs", "--state", "PENDING"]).await?;
        ensure!(rows(&waiting)?.len() == 2, "{waiting}");
        for run in rows(&waiting)? {
            ensure!(
                run["pending"] == "blocked" && text(run, "reason")?.contains("group g"),
                "{run}"
            );
        }
        explained(cluster, text(&rows(&waiting)?[0], "run")?, "limit 2").await?;
        cluster.cli(&["enqueue", "--sample", "ok", "--wait"]).await?.done()?;
        std::fs::write(&gate, "")?;
        for id in ids {
            cluster
                .cli(&["wait", &id.to_string(), "--timeout", "10s"])
                .await?
                .done()?;
        }
        let starts = recorder.hear("g", 4, SOON).await?;
        ensure!(starts.len() == 4, "{starts:?}");
        Ok(())
    });
}

#[test]
fn runs_go_to_workers_with_the_labels_they_ask_for() {
    // Fewer slots than runs that nobody can take.
    scenario(Plan::nodes(3).with("--slots").with("2"), LIMIT, async |cluster| {
        // Many that nobody can take are not in the way of one that somebody can.
        for _ in 0..20 {
            cluster.enqueue(&["--require", "gpu=yes", "--sample", "ok"]).await?;
        }
        explained(cluster, "1:1", "a worker with gpu=yes: none of 3 is one").await?;
        let pending = cluster.json(&["runs", "1"]).await?;
        ensure!(text(&rows(&pending)?[0], "reason")?.contains("gpu=yes"), "{pending}");
        cluster.cli(&["enqueue", "--sample", "ok", "--wait"]).await?.done()?;

        let with_gpu = cluster.follower().await?;
        cluster.sigterm(with_gpu).await?;
        let mut arguments = cluster.nodes[with_gpu].arguments().to_vec();
        arguments.extend(["--labels".to_owned(), "gpu=yes".to_owned()]);
        cluster.nodes[with_gpu].set_arguments(arguments);
        cluster.start(with_gpu)?;
        for id in 1..=20 {
            cluster
                .cli(&["wait", &format!("{id}:1"), "--timeout", "20s"])
                .await?
                .done()?;
        }
        let runs = cluster.json(&["runs", "1"]).await?;
        let worker = text(&rows(&runs)?[0], "worker")?.to_owned();
        ensure!(worker == cluster.nodes[with_gpu].name, "it ran on {worker}");
        Ok(())
    });
}

#[test]
fn tasks_wait_for_others_and_fail_when_they_wait_in_vain() {
    scenario(Plan::nodes(3), LIMIT, async |cluster| {
        cluster.enqueue(&["--name", "a", "--manual", "--sample", "ok"]).await?;
        cluster
            .enqueue(&["--name", "b", "--manual", "--sample", "fail"])
            .await?;
        let both = cluster
            .enqueue(&["--after", "a,b", "--on", "any", "--sample", "ok"])
            .await?
            .to_string();
        let vain = cluster
            .enqueue(&["--name", "vain", "--after", "b", "--sample", "ok"])
            .await?
            .to_string();
        let last = cluster
            .enqueue(&["--after", "vain", "--on", "failure", "--sample", "ok"])
            .await?
            .to_string();
        explained(cluster, &both, "It waits for the end of 1, 2 (on any)").await?;
        cluster.cli(&["run", "a", "--wait"]).await?.done()?;
        explained(cluster, &both, "It waits for the end of 2 (on any)").await?;
        cluster.cli(&["run", "b", "--wait"]).await?;
        cluster.cli(&["wait", &both, "--timeout", "10s"]).await?.done()?;
        let failed = cluster.cli(&["wait", &vain, "--timeout", "10s"]).await?;
        ensure!(failed.code == REFUSED, "{failed}");
        explained(cluster, &vain, "task 2 ended FAILED, it waited for success").await?;
        cluster.cli(&["wait", &last, "--timeout", "10s"]).await?.done()?;
        cluster
            .cli(&["enqueue", "--after", "nobody", "--sample", "ok"])
            .await?
            .failed(REFUSED, &["schedule.after", "nobody"])
    });
}

#[test]
fn bounds_end_a_schedule_and_the_past_can_be_run_again() {
    scenario(Plan::nodes(1), LIMIT, async |cluster| {
        let flags = [
            "--every",
            "200ms",
            "--count",
            "3",
            "--jitter",
            "100ms",
            "--overlap",
            "queue-all",
            "--sample",
            "ok",
        ];
        let id = cluster.enqueue(&flags).await?.to_string();
        cluster.cli(&["wait", &id, "--timeout", "10s"]).await?.done()?;
        let runs = cluster.json(&["runs", &id]).await?;
        ensure!(rows(&runs)?.len() == 3, "{runs}");
        explained(cluster, &id, "is FINISHED").await?;

        cluster
            .enqueue(&[
                "--name",
                "daily",
                "--cron",
                "30 6 * * *",
                "--not-before",
                "2020-01-01",
                "--sample",
                "ok",
            ])
            .await?;
        let range = [
            "backfill",
            "daily",
            "--from",
            "2026-01-01",
            "--to",
            "2026-01-07T23:59:59Z",
        ];
        let made = cluster.json(&range).await?;
        ensure!(rows(&made)?.len() == 7, "{made}");
        eventually("all seven have run", SOON, async || {
            let runs = cluster.json(&["runs", "daily", "--state", "FINISHED"]).await?;
            ensure!(rows(&runs)?.len() == 7, "{runs}");
            let mut times: Vec<&str> = Vec::new();
            for run in rows(&runs)? {
                times.push(text(run, "scheduled_at")?);
            }
            times.sort_unstable();
            ensure!(
                times[0] == "2026-01-01T06:30:00.000Z" && times[6] == "2026-01-07T06:30:00.000Z",
                "{times:?}"
            );
            Ok(())
        })
        .await?;
        cluster
            .cli(&["backfill", "daily", "--from", "2026-01-01", "--to", "2999-01-01"])
            .await?
            .failed(REFUSED, &["to", "after now"])
    });
}
