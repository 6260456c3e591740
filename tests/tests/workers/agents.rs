//! Agents: they find the leader, come and go, and are drained.

use crate::escapees::{Witness, ended};
use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use sched_tests::{Agent, Cluster, Plan, Recorder, eventually, scenario};
use serde_json::Value;
use std::time::{Duration, Instant};

/// Something that must come has come.
const SOON: Duration = Duration::from_secs(30);
/// The lease as the leader counts it.
const LEASE: Duration = Duration::from_secs(10);
/// A run is started anew this soon after its worker died.
const RESTARTED: Duration = Duration::from_secs(15);

/// Nodes that only vote: what runs, runs on agents.
pub(super) fn voters() -> Plan {
    Plan::nodes(3).with("--slots").with("0")
}

async fn workers(cluster: &Cluster) -> Result<Vec<Value>> {
    let list = cluster.json(&["workers"]).await?;
    list.as_array().cloned().context("a list")
}

/// Waits until a worker is as it should be.
pub(super) async fn worker(cluster: &Cluster, name: &str, what: &str, fits: impl Fn(&Value) -> bool) -> Result<Value> {
    eventually(&format!("{name} {what}"), SOON, async || {
        let list = workers(cluster).await?;
        let found = list.iter().find(|worker| worker["name"] == name);
        let found = found.with_context(|| format!("no {name} among {list:?}"))?;
        ensure!(fits(found), "it is {found}");
        Ok(found.clone())
    })
    .await
}

pub(super) fn is_connected(worker: &Value) -> bool {
    worker["state"] == "CONNECTED"
}

pub(super) async fn started(cluster: &mut Cluster, name: &str, arguments: &[&str]) -> Result<Agent> {
    let mut agent = Agent::new(cluster, name, arguments);
    agent.start(cluster)?;
    worker(cluster, name, "is there", is_connected).await?;
    Ok(agent)
}

#[test]
fn an_agent_follows_the_leader_runs_on_meanwhile_and_leaves_when_told() {
    scenario(voters(), Duration::from_secs(180), async |cluster| {
        let mut agent = started(cluster, "a1", &["--slots", "4", "--labels", "gpu=yes"]).await?;
        let seen = worker(cluster, "a1", "is described", is_connected).await?;
        ensure!(
            seen["slots"] == 4 && seen["labels"]["gpu"] == "yes" && seen["node"].is_null(),
            "{seen}"
        );
        let recorder = Recorder::at(cluster.file("starts"))?;
        let argv = recorder.argv_then("long", "exec sleep 8");
        let line: Vec<&str> = ["--require", "gpu=yes", "--"]
            .into_iter()
            .chain(argv.iter().map(String::as_str))
            .collect();
        let id = cluster.enqueue(&line).await?;
        recorder.hear("long", 1, SOON).await?;
        let leader = cluster.leader().await?;
        cluster.kill9(leader).await?;
        cluster.leader().await?;
        worker(cluster, "a1", "is with the next leader", is_connected).await?;
        cluster.cli(&["wait", &id.to_string()]).await?.done()?;
        let runs = cluster.json(&["runs", &id.to_string()]).await?;
        ensure!(
            runs[0]["state"] == "FINISHED" && runs[0]["attempts"] == 1,
            "the run went on: {runs}"
        );
        // It leaves: what runs ends by itself, and the cluster is told.
        let argv = recorder.argv_then("last", "exec sleep 2");
        let line: Vec<&str> = std::iter::once("--").chain(argv.iter().map(String::as_str)).collect();
        let last = cluster.enqueue(&line).await?;
        recorder.hear("last", 1, SOON).await?;
        agent.signal(Signal::TERM)?;
        let status = agent.ended(cluster, SOON).await?;
        ensure!(status.success(), "{status}:\n{}", agent.log());
        let runs = cluster.json(&["runs", &last.to_string()]).await?;
        ensure!(runs[0]["state"] == "FINISHED", "{runs}");
        ensure!(workers(cluster).await?.is_empty(), "it has said goodbye");
        Ok(())
    });
}

#[test]
fn a_drained_worker_keeps_what_it_has_and_gets_nothing_under_any_leader() {
    scenario(voters(), Duration::from_secs(180), async |cluster| {
        let mut a1 = started(cluster, "a1", &[]).await?;
        let recorder = Recorder::at(cluster.file("starts"))?;
        let argv = recorder.argv_then("long", "exec sleep 20");
        let line: Vec<&str> = std::iter::once("--").chain(argv.iter().map(String::as_str)).collect();
        let long = cluster.enqueue(&line).await?;
        recorder.hear("long", 1, SOON).await?;
        cluster
            .cli(&["workers", "drain", "a1", "--note", "new disk"])
            .await?
            .done()?;
        let waiting = cluster.enqueue(&["--", "true"]).await?;
        says_drained(cluster, waiting).await?;
        let leader = cluster.leader().await?;
        cluster.kill9(leader).await?;
        cluster.leader().await?;
        let seen = worker(cluster, "a1", "is drained under the next leader", is_connected).await?;
        ensure!(seen["drained"] == true && seen["drain_note"] == "new disk", "{seen}");
        let other = cluster.enqueue(&["--", "true"]).await?;
        says_drained(cluster, other).await?;
        cluster.cli(&["wait", &long.to_string()]).await?.done()?;
        // Also when it comes back as a new session.
        a1.signal(Signal::TERM)?;
        a1.ended(cluster, SOON).await?;
        worker(cluster, "a1", "is remembered", |worker| worker["state"] == "GONE").await?;
        a1.start(cluster)?;
        worker(cluster, "a1", "is back", is_connected).await?;
        says_drained(cluster, other).await?;
        cluster.cli(&["workers", "undrain", "a1"]).await?.done()?;
        for id in [waiting, other] {
            cluster.cli(&["wait", &id.to_string()]).await?.done()?;
        }
        cluster
            .cli(&["workers", "drain", "nobody"])
            .await?
            .failed(4, &["nobody"])
    });
}

/// A run waits, and the reason is told.
async fn says_drained(cluster: &Cluster, id: u64) -> Result<()> {
    let text = eventually("the run is explained", SOON, async || {
        let text = cluster.cli(&["explain", &format!("{id}:1")]).await?.done()?;
        ensure!(text.contains("drained (a1)"), "{text}");
        Ok(text)
    })
    .await?;
    ensure!(text.contains("PENDING"), "{text}");
    Ok(())
}

#[test]
fn a_killed_agent_comes_back_and_nothing_of_its_former_life_runs_beside_the_next() {
    scenario(voters(), Duration::from_secs(180), async |cluster| {
        let mut agent = started(cluster, "a1", &["--slots", "16"]).await?;
        let mut witness = Witness::at(cluster.file("escapees"))?;
        let argv = witness.argv();
        let line: Vec<&str> = std::iter::once("--").chain(argv.iter().map(String::as_str)).collect();
        let id = cluster.enqueue(&line).await?;
        let processes = witness.all_there(SOON).await?;
        agent.kill9(cluster).await?;
        let killed = Instant::now();
        // At once, as an init system does: it waits for its former life before it speaks.
        agent.start(cluster)?;
        worker(cluster, "a1", "is back", is_connected).await?;
        ended(&processes)
            .await
            .context("the agent is back, and of its former life there are")?;
        println!("killed and back after {:.1} s", killed.elapsed().as_secs_f64());
        cluster.cli(&["dequeue", "--kill", &id.to_string()]).await?.done()?;
        Ok(())
    });
}

#[test]
fn a_stopped_agent_loses_its_runs_before_they_start_elsewhere() {
    scenario(voters(), Duration::from_secs(180), async |cluster| {
        let a1 = started(cluster, "a1", &[]).await?;
        let mut witness = Witness::at(cluster.file("escapees"))?;
        let argv = witness.argv();
        let line: Vec<&str> = std::iter::once("--").chain(argv.iter().map(String::as_str)).collect();
        let id = cluster.enqueue(&line).await?;
        let processes = witness.all_there(SOON).await?;
        let _a2 = started(cluster, "a2", &[]).await?;
        a1.signal(Signal::STOP)?;
        let stopped = Instant::now();
        let gone = witness.all_gone(LEASE).await?;
        ended(&processes).await?;
        // The second attempt holds the pipe anew: it is heard by its number of processes.
        let again = eventually("the run starts on the other agent", RESTARTED + SOON, async || {
            let runs = cluster.json(&["runs", &id.to_string()]).await?;
            ensure!(runs[0]["worker"] == "a2" && runs[0]["state"] == "RUNNING", "{runs}");
            Ok(Instant::now())
        })
        .await?;
        let (dead, restarted) = (gone - stopped, again - stopped);
        println!(
            "stopped: dead after {:.1} s, elsewhere after {:.1} s",
            dead.as_secs_f64(),
            restarted.as_secs_f64()
        );
        ensure!(
            gone < again && dead < LEASE,
            "dead after {dead:?}, elsewhere after {restarted:?}"
        );
        a1.signal(Signal::CONT)?;
        worker(cluster, "a1", "is back", is_connected).await?;
        let runs = cluster.json(&["runs", &id.to_string()]).await?;
        ensure!(runs[0]["worker"] == "a2" && runs[0]["state"] == "RUNNING", "{runs}");
        cluster.cli(&["dequeue", "--kill", &id.to_string()]).await?.done()?;
        Ok(())
    });
}
