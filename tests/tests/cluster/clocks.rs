//! A node whose wall clock is years off: it is told, it moves nobody's time, and nothing starts early or is lost.

use crate::SOON;
use anyhow::{Context, Result, ensure};
use sched_proto::v1;
use sched_tests::chaos::shim::{self, Shim};
use sched_tests::tasks::now_ms;
use sched_tests::{Cluster, Plan, Recorder, Site, eventually, ports, scenario};
use std::time::Duration;

/// Three years and half a day, so that what is told in whole days is the same on either side.
const OFF_MS: i64 = 3 * 365 * 86_400_000 + 43_200_000;
/// The node whose clock is off.
const OFF: usize = 0;
/// Longest scenario.
const LIMIT: Duration = Duration::from_secs(240);
/// Leader time is as close to the true time as this, or nothing is fired.
const CLOCK_MS_MAX: i64 = 500;
/// For the leader to compare the clocks a few times.
const COMPARED: Duration = Duration::from_secs(40);
/// What a leader says when of two clocks it cannot tell which is right.
const UNSETTLED: &str = "no majority of the voters' clocks agrees";

#[test]
fn a_node_three_years_ahead_moves_nobodys_time() {
    far_off(OFF_MS, "ahead");
}

#[test]
fn a_node_three_years_behind_moves_nobodys_time() {
    far_off(-OFF_MS, "behind");
}

fn far_off(ahead_ms: i64, way: &str) {
    scenario(Plan::empty(), LIMIT, async |cluster| {
        let begun_ms = now_ms();
        let off = formed(cluster, ahead_ms).await?.to_string();
        led_by_another(cluster).await?;
        reported(cluster, &off, way).await?;
        let recorder = Recorder::at(cluster.file("starts"))?;
        let canary = cluster.enqueue(&["--in", "365d", "--sample", "ok"]).await?;
        // Through each node, the one that is off among them, and run by that one.
        for node in 0..3 {
            on_time(cluster, &recorder, node).await?;
        }

        let late = recorder.argv("late");
        let line: Vec<&str> = ["--in", "10s", "--"]
            .into_iter()
            .chain(late.iter().map(String::as_str))
            .collect();
        let id = cluster.enqueue(&line).await?.to_string();
        let due = tokio::time::Instant::now() + Duration::from_secs(10);

        // One of the two whose clocks are right dies: of the two that are left nobody knows which is.
        let dead = cluster.leader().await?;
        cluster.kill9(dead).await?;
        let right = 3 - OFF - dead;
        led_by(cluster, right).await?;
        settled(cluster, right).await?;
        // Its turn to lead, which it uses for nothing.
        eventually("the other node leads for a moment", COMPARED, async || {
            if !cluster.nodes[OFF].log()?.contains(UNSETTLED) {
                let _ = cluster.cli(&["cluster", "hand-over"]).await?;
            }
            ensure!(cluster.nodes[OFF].log()?.contains(UNSETTLED), "it has not led");
            Ok(())
        })
        .await?;
        led_by(cluster, right).await?;
        let status = cluster.cli(&["status"]).await?.done()?;
        ensure!(status.contains("nothing that waits for a time is started"), "{status}");
        // A time that is counted from now would be counted from a clock that may be wrong, and for good.
        let refused = cluster.cli(&["enqueue", "--in", "1s", "--sample", "ok"]).await?;
        ensure!(
            refused.code != 0 && refused.stderr.contains("do not confirm the leader's"),
            "{refused}"
        );
        // What has no time needs no clock.
        cluster.cli(&["enqueue", "--sample", "ok", "--wait"]).await?.done()?;
        settled(cluster, right).await?;
        tokio::time::sleep_until(due + Duration::from_secs(1)).await;
        ensure!(
            !recorder.by_note().contains_key("late"),
            "started by a clock that nobody confirms"
        );

        cluster.start(dead)?;
        cluster.ready().await?;
        recorder.hear("late", 1, COMPARED).await?;
        cluster.cli(&["wait", &id]).await?.done()?;
        for (note, starts) in recorder.by_note() {
            ensure!(starts.len() == 1, "{note} started {} times", starts.len());
        }
        stamps_are_true(cluster, begun_ms, canary).await
    });
}

/// Starts three nodes, one of them with another clock from its start on; returns that one's number.
async fn formed(cluster: &mut Cluster, ahead_ms: i64) -> Result<u64> {
    let library = shim::library(cluster.folder())?;
    let shim = Shim::new(cluster.file("clock"))?;
    shim.set_clock(ahead_ms)?;
    let ports = ports::free(6)?;
    let site = |pair: &[u16]| Site::new(format!("127.0.0.1:{}", pair[0]), format!("127.0.0.1:{}", pair[1]));
    let mut sites: Vec<Site> = ports.chunks(2).map(site).collect();
    sites[OFF].environment = shim.environment(&library);
    cluster.describe(Plan::nodes(3).at(sites).not_started())?;
    let mut labelled = cluster.nodes[OFF].arguments().to_vec();
    labelled.extend(["--labels".to_owned(), "clock=off".to_owned()]);
    cluster.nodes[OFF].set_arguments(labelled);
    for node in 0..3 {
        cluster.start(node)?;
    }
    cluster.ready().await?;
    ensure!(shim.clock_reads()? > 0, "the node does not read the other clock");
    Ok(cluster.nodes[OFF].status().await?.node)
}

async fn led_by_another(cluster: &Cluster) -> Result<()> {
    eventually("a node leads whose clock is right", SOON, async || {
        ensure!(cluster.leader().await? != OFF, "the one that is off leads");
        Ok(())
    })
    .await
}

async fn led_by(cluster: &Cluster, right: usize) -> Result<()> {
    eventually("the node whose clock is right leads", COMPARED, async || {
        let leader = cluster.leader().await?;
        ensure!(leader == right, "{} leads", cluster.nodes[leader].name);
        Ok(())
    })
    .await
}

/// A leader that cannot tell which clock is right looks again and again, and stays.
async fn settled(cluster: &Cluster, right: usize) -> Result<()> {
    let looks = |cluster: &Cluster| Ok::<_, anyhow::Error>(cluster.nodes[right].log()?.matches(UNSETTLED).count());
    let (before, term) = (looks(cluster)?, cluster.nodes[right].status().await?.term);
    eventually("it has looked twice more", COMPARED, async || {
        let now = looks(cluster)?;
        ensure!(now >= before + 2, "{now} looks, {before} before");
        Ok(())
    })
    .await?;
    let after = cluster.nodes[right].status().await?.term;
    // An election of a busy machine is none of the clocks'.
    ensure!(
        after <= term + 3,
        "leadership went back and forth: term {term}, then {after}"
    );
    Ok(())
}

/// Says which clock is off, everywhere that an operator looks.
async fn reported(cluster: &Cluster, id: &str, way: &str) -> Result<()> {
    eventually("the clock is reported", SOON, async || {
        let status = cluster.cli(&["status"]).await?.done()?;
        let said = format!("the clock of node {id} is 1095 days {way}");
        ensure!(status.contains("ALARM") && status.contains(&said), "{status}");
        let leader = &cluster.nodes[cluster.leader().await?];
        let (_, page) = sched_tests::http::get(&leader.client, "/metrics").await?;
        let name = format!("sched_voter_clock_ahead_milliseconds{{node=\"{id}\"}} ");
        let value = page
            .lines()
            .find_map(|line| line.strip_prefix(&name))
            .context("no metric")?;
        let apart = value.parse::<i64>()?.abs() - OFF_MS;
        ensure!(apart.abs() < CLOCK_MS_MAX, "{value}");
        ensure!(
            leader.log()?.contains("a voter's clock is apart from leader time"),
            "not in the log"
        );
        Ok(())
    })
    .await?;
    let check = cluster.cli(&["check"]).await?;
    ensure!(
        check.code == 1 && check.stdout.contains(&format!("the clock of node {id} at")) && check.stdout.contains(way),
        "{check}"
    );
    Ok(())
}

/// A task that is enqueued through a node runs once, not early, and soon, on the node whose clock is off.
async fn on_time(cluster: &Cluster, recorder: &Recorder, through: usize) -> Result<()> {
    let note = format!("through-{through}");
    let argv = recorder.argv(&note);
    let line = [
        "--output",
        "json",
        "enqueue",
        "--in",
        "2s",
        "--require",
        "clock=off",
        "--",
    ];
    let line: Vec<&str> = line.into_iter().chain(argv.iter().map(String::as_str)).collect();
    let asked = tokio::time::Instant::now();
    let reply = cluster.cli_at(through, &line).await?.json()?;
    let heard = recorder.hear(&note, 1, Duration::from_secs(2) + SOON).await?;
    ensure!(
        heard[0].heard - asked >= Duration::from_secs(2),
        "started early: {heard:?}"
    );
    let id = reply["id"].as_u64().context("an id")?.to_string();
    cluster.cli(&["wait", &id]).await?.done()?;
    let runs = cluster.json(&["runs", &id]).await?;
    ensure!(runs[0]["state"] == "FINISHED" && runs[0]["attempts"] == 1, "{runs}");
    Ok(())
}

/// What the state says of its own time is true: of every task, and of the one that is not due for a year.
async fn stamps_are_true(cluster: &Cluster, begun_ms: i64, canary: u64) -> Result<()> {
    let leader = cluster.leader().await?;
    let reply = cluster.nodes[leader]
        .api()
        .list_tasks(v1::ListTasksRequest::default())
        .await?;
    let true_time = begun_ms - CLOCK_MS_MAX..now_ms() + CLOCK_MS_MAX;
    let tasks = reply.into_inner().tasks;
    ensure!(tasks.len() == 6, "{} tasks", tasks.len());
    for task in tasks {
        for stamp in [Some(task.created_at_unix_ms), task.ended_at_unix_ms]
            .into_iter()
            .flatten()
        {
            ensure!(
                true_time.contains(&stamp),
                "task {}: {stamp}, not in {true_time:?}",
                task.id
            );
        }
        let due = task.next_run.and_then(|next| next.next);
        match due {
            Some(v1::next_run::Next::AtUnixMs(due)) if task.id == canary => {
                let year = 365 * 86_400_000;
                ensure!(true_time.contains(&(due - year)), "due at {due}");
            }
            _ => ensure!(task.id != canary && task.state() == v1::TaskState::Finished, "{task:?}"),
        }
    }
    Ok(())
}
