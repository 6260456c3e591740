//! One node of three is left: it says so, soon, and goes on when another comes back.

use anyhow::ensure;
use sched_tests::cli::UNREACHABLE;
use sched_tests::{Plan, Recorder, eventually, http, scenario, tasks};
use std::time::{Duration, Instant};

/// A command line that gets no answer gives up after the client's 5 s and a start-up.
const ANSWER_LIMIT: Duration = Duration::from_secs(7);

#[test]
fn without_a_quorum_errors_are_clear_and_quick_and_liveness_stays() {
    scenario(Plan::nodes(3), Duration::from_secs(120), async |cluster| {
        let recorder = Recorder::at(cluster.file("starts"))?;
        let survivor = cluster.leader().await?;
        // Accepted by three, due when only one is left.
        let due = tasks::task(tasks::at(tasks::now_ms() + 4000), tasks::command(recorder.argv("due")));
        cluster.client()?.submit(tasks::submission(due)?).await?;
        let others: Vec<usize> = (0..3).filter(|index| *index != survivor).collect();
        for other in &others {
            cluster.kill9(*other).await?;
        }

        let endpoints: Vec<String> = cluster.nodes.iter().map(|node| node.client.clone()).collect();
        let parts: Vec<&str> = endpoints.iter().map(String::as_str).collect();
        for arguments in [
            &["enqueue", "--in", "1h", "--sample", "ok"][..],
            &["list"],
            &["get", "1"],
            &["shutdown"],
        ] {
            let start = Instant::now();
            cluster.cli(arguments).await?.failed(UNREACHABLE, &parts)?;
            ensure!(
                start.elapsed() < ANSWER_LIMIT,
                "{arguments:?} took {:?}",
                start.elapsed()
            );
        }

        let node = &cluster.nodes[survivor];
        ensure!(
            http::get(&node.client, "/livez").await?.0 == 200,
            "liveness needs no quorum"
        );
        eventually("readiness needs a leader", Duration::from_secs(15), async || {
            let (status, body) = http::get(&node.client, "/readyz").await?;
            ensure!(status == 503, "{status}: {body}");
            Ok(())
        })
        .await?;
        let status = node.status().await?;
        ensure!(!status.confirmed, "status is confirmed by nobody: {status:?}");
        let shown = cluster
            .cli_at(survivor, &["--output", "json", "status"])
            .await?
            .json()?;
        ensure!(
            shown["nodes"].as_array().is_some_and(|nodes| nodes.len() == 3),
            "status without a quorum: {shown}"
        );

        ensure!(recorder.starts().is_empty(), "something was started without a quorum");
        cluster.start(others[0])?;
        recorder.hear("due", 1, Duration::from_secs(30)).await?;
        cluster
            .cli(&["enqueue", "--in", "1s", "--sample", "ok"])
            .await?
            .done()?;
        Ok(())
    });
}
