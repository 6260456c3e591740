//! Children that leave the group, the session and their parent do not outlive the run that started them, however it ends.

use crate::escapees::{TRIES, Witness, ended};
use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use sched_tests::{Cluster, Plan, scenario};
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

/// Runs per way of ending: with [`TRIES`] each and four ways, 200 tries.
const RUNS: usize = 10;
/// Something that must come has come.
const SOON: Duration = Duration::from_secs(30);
/// Between asking and killing, by the worker.
const GRACE: Duration = Duration::from_secs(5);
/// Of the agent's death until the kill.
const ABANDONED_GRACE: Duration = Duration::from_secs(2);
/// From the last acknowledged sign of life, which may be two seconds old, until the kill: the agent's own lease is 10 s.
const KILLED_WITHOUT_CONTACT: Duration = Duration::from_secs(8);
/// The lease as the leader counts it: nothing is started elsewhere before it is over.
const LEASE: Duration = Duration::from_secs(10);
/// A busy machine kills a little later.
const SLACK: Duration = Duration::from_secs(4);

#[test]
fn nobody_escapes_from_the_supervisor_alone() {
    four_ways("subreaper");
}

#[test]
fn nobody_escapes_from_a_cgroup_of_version_2() {
    four_ways("cgroup2");
}

#[test]
fn nobody_escapes_from_a_cgroup_of_version_1() {
    four_ways("cgroup1");
}

fn four_ways(containment: &'static str) {
    let plan = Plan::nodes(1)
        .with("--slots")
        .with("64")
        .with("--containment")
        .with(containment);
    if let Err(reason) = can_hold(containment) {
        // Not even with CI=true an error: no one machine has all of them.
        eprintln!("NOT RUN: {containment}: {reason:#}");
        return;
    }
    scenario(plan, Duration::from_secs(240), async |cluster| {
        let mut tries = 0;
        for way in [Way::TimeLimit, Way::Cancel, Way::AgentKilled, Way::AgentStopped] {
            let (count, after) = end_all(cluster, way).await.with_context(|| format!("{way:?}"))?;
            tries += count;
            println!(
                "{containment}, {way:?}: {count} tries, 0 survivors, all gone after {:.1} s",
                after.as_secs_f64()
            );
        }
        ensure!(tries == 4 * RUNS * TRIES);
        chain(cluster).await
    });
}

/// Whether this process may make a cgroup below its own that has what a worker needs.
fn can_hold(containment: &str) -> Result<()> {
    let (kind, option, controller, file) = match containment {
        "cgroup2" => ("cgroup2", "", "", "cgroup.kill"),
        "cgroup1" => ("cgroup", "freezer", "freezer", "freezer.state"),
        _ => return Ok(()),
    };
    let mounts = fs::read_to_string("/proc/self/mountinfo")?;
    let mounted = mounts.lines().find_map(|line| {
        let (front, back) = line.split_once(" - ")?;
        let fits = back.split(' ').next() == Some(kind) && back.contains(option);
        fits.then(|| front.split(' ').nth(4)).flatten()
    });
    let own = fs::read_to_string("/proc/self/cgroup")?;
    let path = own.lines().find_map(|line| {
        let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
        (controllers == controller).then_some(path)
    });
    let (mounted, path) = mounted.zip(path).context("there is none")?;
    let dir = Path::new(mounted)
        .join(path.trim_start_matches('/'))
        .join(format!("sched-test-{}", std::process::id()));
    fs::create_dir(&dir).with_context(|| format!("making {}", dir.display()))?;
    let has = dir.join(file).exists();
    fs::remove_dir(&dir)?;
    ensure!(has, "it has no {file}");
    Ok(())
}

/// How a run ends.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Way {
    TimeLimit,
    Cancel,
    AgentKilled,
    AgentStopped,
}

/// Starts runs full of escapees, ends them in one way, and returns how many tries it were and after what time all were gone.
async fn end_all(cluster: &mut Cluster, way: Way) -> Result<(usize, Duration)> {
    let mut witnesses = Vec::new();
    let mut ids = Vec::new();
    for number in 0..RUNS {
        let witness = Witness::at(cluster.file(&format!("{way:?}-{number}")))?;
        let argv = witness.argv();
        let mut line: Vec<&str> = vec![];
        if way == Way::TimeLimit {
            line.extend(["--time-limit", "3s"]);
        }
        line.push("--");
        line.extend(argv.iter().map(String::as_str));
        ids.push(cluster.enqueue(&line).await?);
        witnesses.push(witness);
    }
    let mut processes = Vec::new();
    for witness in &mut witnesses {
        processes.extend(witness.all_there(SOON).await?);
    }
    let since = Instant::now();
    let within = match way {
        Way::TimeLimit => Duration::from_secs(3) + GRACE,
        Way::Cancel => {
            let runs: Vec<String> = ids.iter().map(|id| format!("{id}:1")).collect();
            let line: Vec<&str> = std::iter::once("cancel")
                .chain(runs.iter().map(String::as_str))
                .collect();
            cluster.cli(&line).await?.done()?;
            GRACE
        }
        Way::AgentKilled => {
            cluster.kill9(0).await?;
            ABANDONED_GRACE
        }
        Way::AgentStopped => {
            cluster.sigstop(0)?;
            KILLED_WITHOUT_CONTACT
        }
    };
    let mut last = since;
    for witness in &mut witnesses {
        last = last.max(witness.all_gone(within + SLACK).await?);
    }
    let after = last - since;
    ensure!(after <= within + SLACK, "gone only after {after:?}");
    if way == Way::AgentStopped {
        ensure!(after < LEASE, "gone only after {after:?}: the lease was over");
    }
    ended(&processes).await?;
    match way {
        Way::AgentKilled => {
            cluster.start(0)?;
            cluster.ready().await?;
        }
        Way::AgentStopped => cluster.nodes[0].signal(Signal::CONT)?,
        Way::TimeLimit | Way::Cancel => {}
    }
    for id in ids {
        settle(cluster, id, way).await?;
    }
    Ok((processes.len(), after))
}

/// What became of the run is said as it was. One whose worker was lost starts again, and is taken out.
async fn settle(cluster: &Cluster, id: u64, way: Way) -> Result<()> {
    let id = id.to_string();
    match way {
        Way::TimeLimit | Way::Cancel => {
            cluster.cli(&["wait", &id]).await?;
        }
        Way::AgentKilled | Way::AgentStopped => {
            cluster.cli(&["dequeue", "--kill", &id]).await?.done()?;
        }
    }
    let runs = cluster.json(&["runs", &id]).await?;
    let run = &runs[0];
    let state = run["state"].as_str().unwrap_or_default();
    let reason = run["reason"].as_str().unwrap_or_default();
    match way {
        Way::TimeLimit => ensure!(state == "FAILED" && reason.contains("time limit"), "{run}"),
        Way::Cancel => ensure!(state == "TERMINATED", "{run}"),
        Way::AgentKilled | Way::AgentStopped => {}
    }
    Ok(())
}

/// A chain of processes that fork and end, faster than anybody can look for them.
async fn chain(cluster: &Cluster) -> Result<()> {
    let mut witness = Witness::at(cluster.file("chain"))?;
    let argv = witness.chain();
    let line: Vec<&str> = ["--time-limit", "1s", "--"]
        .into_iter()
        .chain(argv.iter().map(String::as_str))
        .collect();
    let id = cluster.enqueue(&line).await?;
    witness.one_there(SOON).await?;
    let since = Instant::now();
    let gone = witness.all_gone(Duration::from_secs(1) + GRACE + SLACK).await?;
    println!("a chain of forks: gone after {:.1} s", (gone - since).as_secs_f64());
    cluster.cli(&["wait", &id.to_string()]).await?;
    Ok(())
}
