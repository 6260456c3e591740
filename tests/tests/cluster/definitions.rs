//! Settings and definitions: the same through every node, kept over a new leader, and changed in order while nothing runs.

use crate::{LIMIT, text};
use anyhow::{Result, ensure};
use sched_tests::cli::{NOT_FOUND, REFUSED, USAGE};
use sched_tests::{Cluster, Plan, Recorder, eventually, scenario};
use serde_json::Value;
use std::time::Duration;

/// Something that is due now has happened within this.
const SOON: Duration = Duration::from_secs(15);

/// What a task got from the cluster's defaults.
async fn defaults(cluster: &Cluster, task: &str) -> Result<Value> {
    Ok(cluster.json(&["get", task]).await?["policy_defaults"].clone())
}

#[test]
fn settings_are_replicated_and_change_no_task_that_exists() {
    scenario(Plan::nodes(3), LIMIT, async |cluster| {
        cluster
            .enqueue(&["--manual", "--name", "old", "--sample", "ok"])
            .await?;
        let follower = cluster.follower().await?;
        cluster
            .cli_at(
                follower,
                &["config", "set", "tries=3", "retry_delay=1s", "overlap=queue-one"],
            )
            .await?
            .done()?;
        let leader = cluster.leader().await?;
        cluster.kill9(leader).await?;
        for index in (0..3).filter(|index| *index != leader) {
            let value = cluster
                .cli_at(index, &["config", "get", "tries", "--deadline", "15s"])
                .await?;
            ensure!(value.done()? == "3\n", "node {index} has lost a setting");
        }
        cluster
            .enqueue(&["--manual", "--name", "new", "--sample", "ok"])
            .await?;
        cluster
            .enqueue(&["--manual", "--name", "own", "--tries", "2", "--sample", "ok"])
            .await?;
        let (old, new, own) = (
            defaults(cluster, "old").await?,
            defaults(cluster, "new").await?,
            defaults(cluster, "own").await?,
        );
        ensure!(old["tries"] == "1" && old["overlap"] == "skip", "{old}");
        ensure!(new["tries"] == "3" && new["overlap"] == "queue-one", "{new}");
        ensure!(own.get("tries").is_none() && own["retry_delay"] == "1s", "{own}");
        cluster
            .cli(&["config", "set", "task_max_tries=3"])
            .await?
            .failed(USAGE, &["task_max_tries", "retry_delay"])?;
        cluster.start(leader)?;
        cluster.ready().await
    });
}

#[test]
fn a_changed_definition_counts_from_the_next_run_on() {
    scenario(Plan::nodes(3), LIMIT, async |cluster| {
        let recorder = Recorder::at(cluster.file("starts"))?;
        let shell = |note: &str| recorder.argv(note);
        let words = |argv: &[String]| argv.iter().map(String::as_str).map(str::to_owned).collect::<Vec<_>>();
        let enqueue = [
            vec!["--manual".to_owned(), "--name".into(), "x".into(), "--".into()],
            words(&shell("before")),
        ]
        .concat();
        cluster
            .enqueue(&enqueue.iter().map(String::as_str).collect::<Vec<_>>())
            .await?;
        cluster.cli(&["run", "x", "--wait"]).await?.done()?;
        recorder.hear("before", 1, SOON).await?;
        let follower = cluster.follower().await?;
        let update = [
            vec![
                "update".to_owned(),
                "x".into(),
                "--label".into(),
                "a=b".into(),
                "--".into(),
            ],
            words(&shell("after")),
        ]
        .concat();
        let update: Vec<&str> = update.iter().map(String::as_str).collect();
        cluster.cli_at(follower, &update).await?.done()?;
        cluster.cli(&["run", "x", "--wait"]).await?.done()?;
        recorder.hear("after", 1, SOON).await?;

        // While the scheduler is shut down an update waits, and its generation is taken.
        cluster.cli(&["shutdown"]).await?.done()?;
        let task = cluster.json(&["get", "x"]).await?;
        let generation = task["generation"].to_string();
        cluster
            .cli(&["update", "x", "--generation", &generation, "--owner", "ann"])
            .await?
            .done()?;
        cluster
            .cli(&["update", "x", "--generation", &generation, "--owner", "bob"])
            .await?
            .failed(REFUSED, &["generation"])?;
        ensure!(
            cluster.cli(&["show", "spool"]).await?.done()?.contains("update"),
            "the spool shows it"
        );
        ensure!(
            text(&cluster.json(&["get", "x"]).await?, "owner")?.is_empty(),
            "it waits"
        );
        cluster.cli(&["start"]).await?.done()?;
        eventually("the update is carried out", SOON, async || {
            let owner = cluster.json(&["get", "x"]).await?;
            ensure!(owner["owner"] == "ann", "{owner}");
            Ok(())
        })
        .await?;

        let deleted = cluster.json(&["delete-history", "x", "--yes"]).await?;
        ensure!(deleted["runs"] == 2, "{deleted}");
        ensure!(
            cluster.json(&["runs", "x"]).await? == Value::Array(Vec::new()),
            "nothing is left"
        );
        cluster
            .cli(&["update", "nobody", "--tries", "2"])
            .await?
            .failed(NOT_FOUND, &["nobody"])?;
        Ok(())
    });
}
