//! Damaged bytes: found by checksum, told with the file's name and what to do, and no reason for the others to stop.

use crate::LIMIT;
use anyhow::{Context, Result, ensure};
use sched_tests::load::Way;
use sched_tests::{Cluster, Plan, binaries, figures, scenario};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::process::Command;
use tokio::time::timeout;

/// A node that cannot run says so and ends within this.
const REFUSE_LIMIT: Duration = Duration::from_secs(30);

#[test]
fn a_damaged_log_stops_its_node_and_no_other() {
    scenario(Plan::nodes(3), LIMIT, async |cluster| {
        figures::enqueue(cluster, "something to damage", Way::Batch(32), Duration::from_secs(1)).await?;
        let damaged = cluster.follower().await?;
        cluster.kill9(damaged).await?;
        ensure!(check(cluster, damaged).await?.0, "an undamaged folder passes the check");
        let file = largest(&cluster.nodes[damaged].data.join("groups/0/log"))?;
        flip(&file)?;

        let name = file
            .file_name()
            .and_then(|name| name.to_str())
            .context("a file has a name")?
            .to_owned();
        let (fine, said) = check(cluster, damaged).await?;
        ensure!(!fine && said.contains(&name), "the check must name {name}: {said}");
        let seen = cluster.nodes[damaged].log()?.len();
        cluster.start(damaged)?;
        let status = cluster.ended(damaged, REFUSE_LIMIT).await?;
        let log = cluster.nodes[damaged].log()?;
        let said = log.get(seen..).context("a log only grows")?;
        ensure!(
            !status.success() && !said.contains("panicked"),
            "ended with {status}: {said}"
        );
        ensure!(said.contains(&name), "the message must name {name}: {said}");
        cluster
            .cli(&["enqueue", "--sample", "ok", "--wait"])
            .await?
            .done()
            .map(drop)
    });
}

/// Runs the offline check of a node's folder.
async fn check(cluster: &Cluster, node: usize) -> Result<(bool, String)> {
    let mut command = Command::new(binaries::path("schednode")?);
    command
        .arg("check")
        .arg("--data-dir")
        .arg(&cluster.nodes[node].data)
        .kill_on_drop(true);
    let output = timeout(REFUSE_LIMIT, command.output())
        .await
        .context("the check does not end")??;
    let said = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    ensure!(!said.contains("panicked"), "the check panicked: {said}");
    Ok((output.status.success(), said))
}

/// Where most of the bytes are.
fn largest(folder: &Path) -> Result<PathBuf> {
    let mut found = Vec::new();
    walk(folder, &mut found)?;
    found.sort();
    found
        .pop()
        .map(|(_, path)| path)
        .with_context(|| format!("no files in {}", folder.display()))
}

fn walk(folder: &Path, found: &mut Vec<(u64, PathBuf)>) -> Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            walk(&path, found)?;
        } else if path
            .extension()
            .is_some_and(|ending| ending == "log" || ending == "sst")
        {
            found.push((std::fs::metadata(&path)?.len(), path));
        }
    }
    Ok(())
}

/// Turns over some bits in the middle.
fn flip(file: &Path) -> Result<()> {
    let mut bytes = std::fs::read(file)?;
    let middle = bytes.len() / 2;
    ensure!(middle > 1024, "{} has only {} bytes", file.display(), bytes.len());
    bytes[middle] ^= 0x55;
    Ok(std::fs::write(file, bytes)?)
}
