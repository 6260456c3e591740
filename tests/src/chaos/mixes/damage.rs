//! Bits turned over and files cut short in the folder of one node that does not run.
//!
//! One that stopped before it spoke to anybody gets its folder back as it was when it died: nothing that it had promised is forgotten.
//! One that did speak has promised more since; it is replaced by a new node, as it says itself.

use super::members;
use crate::chaos::net::output;
use crate::chaos::world::World;
use crate::chaos::{read, watch};
use crate::checker::{EvidenceKind, FaultKind};
use crate::eventually;
use anyhow::{Context, Result, ensure};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// A node that starts on a damaged folder has stopped, or serves, within this.
const DECIDED: Duration = Duration::from_secs(20);
/// What must be said of how to replace a node; one of these.
const ADVICE: [&str; 5] = ["empty", "new member", "rejoin", "restore", "remove this group's"];
/// In the log of a node that serves its peers.
const SPOKE: &str = "  peers    ";
/// Damages of one node in a row: what costs time is to have it back.
const IN_A_ROW: usize = 4;

/// Kills a follower and lets it start on folders that are damaged in several ways, each time another.
pub(super) async fn one(world: &mut World) -> Result<()> {
    let node = world.cluster.follower().await?;
    let leader = world.cluster.leader().await?;
    let id = members::id(world, node).await?;
    let (kill, _) = world.kill(&[node], leader).await?;
    let data = world.cluster.nodes[node].data.clone();
    let kept = data.with_extension("kept");
    copy(&data, &kept)?;
    let mut spoke = false;
    for _ in 0..IN_A_ROW {
        let log_from = world.cluster.nodes[node].log()?.len();
        let fault = world.begin(FaultKind::Damage, world.names(&[node]));
        let (path, what) = damage(world, &data)?;
        let detail = format!("{}: {what}", path.strip_prefix(&data)?.display());
        world.seen(fault, EvidenceKind::BytesChanged, detail.clone());
        match decided(world, node, log_from).await {
            Ok(end) => *world.measured.damages.entry(end).or_default() += 1,
            Err(error) => {
                *world.measured.damages.entry("WRONG").or_default() += 1;
                world.measured.wrongs.push(format!("{detail}: {error:#}"));
            }
        }
        if world.cluster.nodes[node].runs() {
            world.cluster.kill9(node).await?;
        }
        world.healed(fault);
        spoke = world.cluster.nodes[node].log()?[log_from..].contains(SPOKE);
        if spoke {
            break;
        }
        std::fs::remove_dir_all(&data).context("the damaged folder")?;
        copy(&kept, &data)?;
    }
    std::fs::remove_dir_all(&kept)?;
    if !spoke {
        return world.restart(kill, &[node]).await;
    }
    let all: Vec<usize> = (0..world.cluster.nodes.len()).collect();
    members::empty(world, node, &all)?;
    members::replace(world, id, node).await?;
    world.cluster.ready().await?;
    world.healed(kill);
    Ok(())
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    let mut copy = Command::new("cp");
    copy.arg("-a").arg(from).arg(to);
    output(copy).map(drop)
}

/// Damages one file; returns which, and how.
fn damage(world: &mut World, data: &Path) -> Result<(PathBuf, String)> {
    let mut files = Vec::new();
    walk(data, &mut files)?;
    // What the node itself needs, not the output of tasks; RocksDB's own log is for people.
    files.retain(|(path, size)| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let relative = path.strip_prefix(data).unwrap_or(path);
        *size > 0
            && !relative.starts_with("worker")
            && !relative.starts_with("tmp")
            && !name.starts_with("LOG")
            && name != "LOCK"
    });
    files.sort();
    ensure!(!files.is_empty(), "no files in {}", data.display());
    let (path, size) = files[usize::try_from(world.draw(files.len() as u64))?].clone();
    let mut bytes = std::fs::read(&path)?;
    let what = if world.draw(3) == 0 {
        let left = world.draw(size);
        bytes.truncate(usize::try_from(left)?);
        format!("cut to {left} of {size} bytes")
    } else {
        let (at, bit) = (world.draw(size), world.draw(8));
        bytes[usize::try_from(at)?] ^= 1 << bit;
        format!("bit {bit} of byte {at} of {size} turned over")
    };
    // A checkpoint shares its files with the tables: a new file, so that only one of the two is damaged, as on a disk.
    std::fs::remove_file(&path)?;
    std::fs::write(&path, bytes)?;
    Ok((path, what))
}

fn walk(folder: &Path, found: &mut Vec<(PathBuf, u64)>) -> Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let meta = std::fs::symlink_metadata(&path)?;
        if meta.is_dir() {
            walk(&path, found)?;
        } else if meta.is_file() {
            found.push((path, meta.len()));
        }
    }
    Ok(())
}

/// Starts the node and returns what it did: it stopped and said why, or it serves what the others have.
async fn decided(world: &mut World, node: usize, log_from: usize) -> Result<&'static str> {
    world.cluster.start(node)?;
    let served = eventually("the node stops or serves", DECIDED, async || {
        if world.cluster.nodes[node].still_runs().is_err() {
            return Ok(false);
        }
        let leader = world.cluster.leader().await?;
        let (goal, own) = (applied(world, leader).await?, applied(world, node).await?);
        // Behind by what came since it was asked.
        ensure!(own + 2000.0 > goal && own > 0.0, "applied {own} of {goal}");
        watch::own_status(&world.cluster.nodes[node]).await?;
        Ok(true)
    })
    .await?;
    if !served {
        world.stops_itself(node, log_from, &ADVICE).await?;
        return Ok("stopped with advice");
    }
    same_answers(world, node).await?;
    let log = world.cluster.nodes[node].log()?;
    ensure!(!log[log_from..].contains("panicked at"), "it panicked and goes on");
    Ok("served what the others have")
}

async fn applied(world: &World, node: usize) -> Result<f64> {
    crate::http::metric(&world.cluster.nodes[node].client, "sched_log_applied_index").await
}

/// Compares what has ended, and every task, with what the leader has: neither changes any more.
async fn same_answers(world: &World, node: usize) -> Result<()> {
    let leader = world.cluster.leader().await?;
    let other = read::replica(&world.cluster.nodes[leader], &world.clock).await?;
    let own = read::replica(&world.cluster.nodes[node], &world.clock).await?;
    let mut own: std::collections::BTreeMap<_, _> = own.tasks.into_iter().map(|task| (task.id, task)).collect();
    for task in other.tasks {
        let found = own
            .remove(&task.id)
            .with_context(|| format!("task {} ({}) is not there", task.id, task.key))?;
        ensure!(
            found.key == task.key,
            "task {} is {} and {}",
            task.id,
            task.key,
            found.key
        );
        let runs: std::collections::BTreeMap<_, _> = found.runs.iter().map(|run| (&run.run, run)).collect();
        for run in task.runs.iter().filter(|run| run.state == "FINISHED") {
            let same = runs
                .get(&run.run)
                .is_some_and(|found| found.state == run.state && found.success_token == run.success_token);
            ensure!(same, "run {} is {run:?} and {:?}", run.run, runs.get(&run.run));
        }
    }
    Ok(())
}
