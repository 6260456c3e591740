//! Damaged bytes: found by checksum, told with the file's name and what to do, and no reason for the others to stop.

use crate::LIMIT;
use anyhow::{Context, Result, ensure};
use sched_tests::load::Way;
use sched_tests::{Cluster, Plan, Recorder, binaries, eventually, figures, http, scenario};
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

/// A node's worker whose journal is damaged stays away; the node goes on as a voter, and says what to do.
#[test]
fn a_damaged_journal_keeps_the_worker_away_and_nothing_else() {
    scenario(
        Plan::nodes(3).not_started(),
        Duration::from_secs(240),
        async |cluster| {
            let mut labelled = cluster.nodes[0].arguments().to_vec();
            labelled.extend(["--labels".to_owned(), "journal=damaged".to_owned()]);
            cluster.nodes[0].set_arguments(labelled);
            for node in 0..3 {
                cluster.start(node)?;
            }
            cluster.ready().await?;
            let recorder = Recorder::at(cluster.file("starts"))?;
            let once = recorder.argv_then("once", "exec sleep 600");
            let line = ["--delivery", "at-most-once", "--require", "journal=damaged", "--"];
            let line: Vec<&str> = line.into_iter().chain(once.iter().map(String::as_str)).collect();
            let once = format!("{}:1", cluster.enqueue(&line).await?);
            recorder.hear("once", 1, REFUSE_LIMIT).await?;
            cluster.kill9(0).await?;
            let journal = cluster.nodes[0].data.join("worker/journal");
            damage_journal(&journal)?;
            cluster.start(0)?;
            cluster.ready().await?;

            let log = cluster.nodes[0].log()?;
            ensure!(
                log.contains("this node's worker stays away") && log.contains("is damaged at byte"),
                "{log}"
            );
            let path = journal.display().to_string();
            eventually("every page says it", REFUSE_LIMIT, async || {
                for line in [&["status"][..], &["check"], &["workers"]] {
                    let said = cluster.cli(line).await?;
                    for part in [
                        path.as_str(),
                        "is damaged at byte",
                        "move the file away",
                        "schedcli resolve",
                    ] {
                        ensure!(said.stdout.contains(part), "expected {part:?}: {said}");
                    }
                }
                let worker = worker(cluster, "n1").await?;
                ensure!(worker["state"] == "FAULTY", "{worker}");
                Ok(())
            })
            .await?;
            ensure!(
                cluster.cli(&["check"]).await?.code == 1,
                "the check finds nothing wrong"
            );
            for (node, faulty) in [(0, 1.0), (1, 0.0)] {
                ensure!(http::metric(&cluster.nodes[node].client, "sched_worker_faulty").await? == faulty);
            }
            eventually("the run that starts at most once is LOST", REFUSE_LIMIT, async || {
                let run = cluster.json(&["get", &once]).await?;
                ensure!(run["state"] == "LOST", "{run}");
                Ok(())
            })
            .await?;
            // Its vote is needed, and it has it.
            cluster.kill9(1).await?;
            cluster.cli(&["enqueue", "--sample", "ok", "--wait"]).await?.done()?;
            cluster.start(1)?;

            // As it says: away with the file, and start again.
            cluster.sigterm(0).await?;
            std::fs::rename(&journal, cluster.file("journal.damaged"))?;
            cluster.start(0)?;
            cluster.ready().await?;
            eventually("its worker is back, as a new one", REFUSE_LIMIT, async || {
                let worker = worker(cluster, "n1").await?;
                ensure!(worker["state"] == "CONNECTED" && worker["fault"].is_null(), "{worker}");
                ensure!(http::metric(&cluster.nodes[0].client, "sched_worker_faulty").await? == 0.0);
                Ok(())
            })
            .await?;
            let line = ["enqueue", "--require", "journal=damaged", "--sample", "ok", "--wait"];
            cluster.cli(&line).await?.done()?;
            cluster.cli(&["resolve", &once, "--as", "failed"]).await?.done()?;
            let run = cluster.json(&["get", &once]).await?;
            ensure!(run["state"] == "FAILED", "{run}");
            ensure!(recorder.starts().len() == 1, "started again: {:?}", recorder.starts());
            Ok(())
        },
    );
}

async fn worker(cluster: &Cluster, name: &str) -> Result<serde_json::Value> {
    let workers = cluster.json(&["workers"]).await?;
    let found = crate::rows(&workers)?.iter().find(|worker| worker["name"] == name);
    found.cloned().with_context(|| format!("no {name} among {workers}"))
}

/// Turns a bit over in the first block, in place: a new file would be taken for a copy.
fn damage_journal(journal: &Path) -> Result<()> {
    let mut bytes = std::fs::read(journal)?;
    bytes[40] ^= 1;
    let file = std::fs::OpenOptions::new().write(true).open(journal)?;
    Ok(std::os::unix::fs::FileExt::write_all_at(&file, &bytes, 0)?)
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
