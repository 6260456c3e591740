//! The image and the compose file, on a real engine: a leader's container is killed, and the work goes on.
//!
//! No registry is needed. The base image is made by `debootstrap`, the binaries are those of this build. Where no engine
//! runs, the test starts one of its own in fresh namespaces, so that nothing of it can stay behind.

mod compose;
mod engine;

use std::time::Duration;

use anyhow::{Context, Result, bail};
use sched_tests::eventually;
use serde_json::Value;

use crate::support::{at, cannot_run, list_at, text_at};
use compose::Compose;
use engine::Engine;

/// Time for three containers to form a cluster, or for one to return to it.
const CLUSTER_LIMIT: Duration = Duration::from_secs(90);
/// Time in which a due task is finished, through the loss of a leader and of the worker that held it.
const TASK_LIMIT: Duration = Duration::from_secs(60);
/// One-shots that fall due while the cluster has no leader.
const DUE_WITHOUT_LEADER: usize = 8;
/// Runs of the periodic task, one every second, that show that it did not stop: more than could have been under way.
const BEATS_AFTER: usize = 5;

#[tokio::test(flavor = "multi_thread")]
async fn the_work_goes_on_when_the_leaders_container_is_killed() -> Result<()> {
    let engine = match Engine::find_or_start().await? {
        Ok(engine) => engine,
        Err(reason) => return cannot_run(reason),
    };
    engine.build_image().await?;
    let compose = Compose::up(&engine).await?;
    let outcome = lose_the_leader(&compose).await;
    // What the nodes said is the first thing to read, and gone with the containers.
    outcome.map_err(|error| error.context(compose.logs()))
}

async fn lose_the_leader(compose: &Compose<'_>) -> Result<()> {
    let all = compose.services();
    let reachable = async |wanted: usize| {
        eventually(&format!("{wanted} nodes reachable"), CLUSTER_LIMIT, async || {
            let status = compose.schedcli(&["status"]).await?;
            let nodes = list_at(&status, "/nodes")?;
            let up = nodes
                .iter()
                .filter(|node| node.get("reachable") == Some(&Value::Bool(true)))
                .count();
            if up != wanted {
                bail!("{up} reachable in {status}");
            }
            Ok(status)
        })
        .await
    };
    let status = reachable(all.len()).await?;
    let leader = service_of_leader(&status)?;

    // A task of before, to see that all is well; a periodic one that must not stop; and some that fall due with no leader.
    finished(compose, &enqueue(compose, &["--in", "1s", "--sample", "ok"]).await?).await?;
    let beat = enqueue(compose, &["--every", "1s", "--name", "beat", "--sample", "ok"]).await?;
    let mut due = Vec::new();
    for _ in 0..DUE_WITHOUT_LEADER {
        due.push(enqueue(compose, &["--in", "3s", "--sample", "ok"]).await?);
    }
    let beats_before = runs(compose, &beat).await?;
    compose.docker(&["kill", &compose.container(&leader).await?]).await?;

    for id in &due {
        finished(compose, id).await?;
    }
    let command = enqueue(compose, &["--in", "1s", "--", "/bin/sh", "-c", "id -u"]).await?;
    finished(compose, &command).await?;
    eventually("the periodic task runs on", TASK_LIMIT, async || {
        let now = runs(compose, &beat).await?;
        if now < beats_before + BEATS_AFTER {
            bail!("{beats_before} runs before, {now} now");
        }
        Ok(())
    })
    .await?;
    let new_leader = service_of_leader(&compose.schedcli(&["status"]).await?)?;
    assert_ne!(new_leader, leader, "a killed container still leads");

    // It comes back with its volume and finds its place.
    compose.docker(&["start", &compose.container(&leader).await?]).await?;
    reachable(all.len()).await?;

    // Stopped politely, a leader ends by itself with success: the signal reaches it through the container's init.
    let container = compose.container(&new_leader).await?;
    compose.docker(&["stop", "--time", "30", &container]).await?;
    let exit = compose
        .docker(&["inspect", "--format", "{{.State.ExitCode}}", &container])
        .await?;
    assert_eq!(exit.trim(), "0", "the leader did not end cleanly on SIGTERM");
    finished(compose, &enqueue(compose, &["--in", "1s", "--sample", "ok"]).await?).await
}

/// Enqueues a task and returns its id.
async fn enqueue(compose: &Compose<'_>, arguments: &[&str]) -> Result<String> {
    let answer = compose.schedcli(&[&["enqueue"], arguments].concat()).await?;
    Ok(at(&answer, "/id")?.to_string())
}

/// Waits until the one-shot has ended, and demands that it succeeded.
async fn finished(compose: &Compose<'_>, id: &str) -> Result<()> {
    eventually(&format!("task {id} is finished"), TASK_LIMIT, async || {
        let task = compose.schedcli(&["get", id]).await?;
        match text_at(&task, "/state")? {
            "FINISHED" => Ok(()),
            state => bail!("{state}: {task}"),
        }
    })
    .await
}

/// Counts the runs of a task that succeeded.
async fn runs(compose: &Compose<'_>, id: &str) -> Result<usize> {
    let runs = compose.schedcli(&["runs", id, "--limit", "1000"]).await?;
    let list = runs
        .as_array()
        .or_else(|| runs.get("runs")?.as_array())
        .context("runs is not a list")?;
    Ok(list
        .iter()
        .filter(|run| run.get("state").and_then(Value::as_str) == Some("FINISHED"))
        .count())
}

/// The compose service that leads: its name is the host of the address it advertises.
fn service_of_leader(status: &Value) -> Result<String> {
    let leader = at(status, "/leader")?;
    let nodes = list_at(status, "/nodes")?;
    let node = nodes
        .iter()
        .find(|node| node.get("id") == Some(leader))
        .with_context(|| format!("no leader in {status}"))?;
    let address = text_at(node, "/client_address")?;
    let (host, _) = address
        .split_once(':')
        .with_context(|| format!("no port in {address}"))?;
    Ok(host.to_owned())
}
