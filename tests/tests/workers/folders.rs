//! Agents whose folders are copied, shared, restored or damaged: each says so, and what others run is left alone.

use crate::agents::{is_connected, started, voters, worker};
use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use sched_tests::{Agent, Cluster, Recorder, eventually, http, scenario};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// Something that must come has come; a lock is waited for ten seconds, a lease as long.
const SOON: Duration = Duration::from_secs(40);
const LIMIT: Duration = Duration::from_secs(180);

/// A run on a worker, which ends when the test says so.
struct Long {
    run: String,
    go: std::path::PathBuf,
}

impl Long {
    async fn start(cluster: &Cluster, recorder: &Recorder, label: &str) -> Result<Self> {
        let go = cluster.file("go");
        let more = format!("until [ -e '{}' ]; do sleep 0.1; done", go.display());
        let argv = recorder.argv_then("long", &more);
        let line: Vec<&str> = ["--require", label, "--"]
            .into_iter()
            .chain(argv.iter().map(String::as_str))
            .collect();
        let run = format!("{}:1", cluster.enqueue(&line).await?);
        recorder.hear("long", 1, SOON).await?;
        Ok(Self { run, go })
    }

    /// It still runs where it did, and ends well when it is let.
    async fn ends(self, cluster: &Cluster, recorder: &Recorder, on: &str) -> Result<()> {
        let run = cluster.json(&["get", &self.run]).await?;
        ensure!(
            run["state"] == "RUNNING" && run["worker"] == on && run["attempts"] == 1,
            "{run}"
        );
        std::fs::write(&self.go, "")?;
        cluster.cli(&["wait", &self.run]).await?.done()?;
        let run = cluster.json(&["get", &self.run]).await?;
        ensure!(run["state"] == "FINISHED" && run["stale_reports"] == 0, "{run}");
        let starts = recorder.by_note().remove("long").unwrap_or_default();
        ensure!(starts.len() == 1, "{starts:?}");
        Ok(())
    }
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    let status = Command::new("cp").arg("-a").arg(from).arg(to).status()?;
    ensure!(status.success(), "cp: {status}");
    Ok(())
}

/// An agent that must end by itself, and say all of `parts`.
async fn refuses(cluster: &mut Cluster, agent: &mut Agent, parts: &[&str]) -> Result<()> {
    let seen = agent.log().len();
    agent.start(cluster)?;
    let status = agent.ended(cluster, SOON).await?;
    let log = agent.log();
    let said = log.get(seen..).unwrap_or(&log);
    ensure!(
        status.code() == Some(1) && !said.contains("panicked"),
        "ended with {status}: {said}"
    );
    for part in parts {
        ensure!(said.contains(part), "expected {part:?} in: {said}");
    }
    Ok(())
}

#[test]
fn a_copied_folder_is_no_second_life_of_its_agent() {
    scenario(voters(), LIMIT, async |cluster| {
        let recorder = Recorder::at(cluster.file("starts"))?;
        let a1 = started(cluster, "a1", &["--labels", "which=original"]).await?;
        let long = Long::start(cluster, &recorder, "which=original").await?;
        let copied = cluster.file("copied");
        copy(&a1.data, &copied)?;

        // Under its name, which is taken as long as the original is there.
        let mut twin = Agent::new(cluster, "a1", &["--labels", "which=copy"]);
        twin.data.clone_from(&copied);
        // The log of the original has the same name.
        let seen = twin.log().len();
        twin.start(cluster)?;
        eventually("the copy is refused", SOON, async || {
            let log = twin.log();
            let said = log.get(seen..).unwrap_or(&log);
            ensure!(said.contains("was copied or restored"), "{said}");
            ensure!(
                said.contains("another worker named \\\"a1\\\"") && said.contains("a name of its own"),
                "{said}"
            );
            let leader = &cluster.nodes[cluster.leader().await?];
            ensure!(http::metric(&leader.client, "sched_workers_refused_total").await? > 0.0);
            ensure!(leader.log()?.contains("two workers with one name"));
            Ok(())
        })
        .await?;
        ensure!(
            copied.join("worker/journal.refused").exists(),
            "the copied journal is not set aside"
        );
        twin.signal(Signal::TERM)?;
        twin.ended(cluster, SOON).await?;

        // Under a name of its own it is a new worker, and claims nothing of the other's.
        let mut a2 = Agent::new(cluster, "a2", &["--labels", "which=copy"]);
        a2.data.clone_from(&copied);
        a2.start(cluster)?;
        worker(cluster, "a2", "is there", is_connected).await?;
        cluster
            .cli(&["enqueue", "--require", "which=copy", "--sample", "ok", "--wait"])
            .await?
            .done()?;
        long.ends(cluster, &recorder, "a1").await
    });
}

#[test]
fn two_agents_share_neither_a_folder_nor_a_journal() {
    scenario(voters(), LIMIT, async |cluster| {
        let recorder = Recorder::at(cluster.file("starts"))?;
        let a1 = started(cluster, "a1", &["--labels", "which=first"]).await?;
        let long = Long::start(cluster, &recorder, "which=first").await?;
        let mut second = Agent::new(cluster, "a2", &[]);
        second.data.clone_from(&a1.data);
        refuses(
            cluster,
            &mut second,
            &["is in use by another agent", "a folder of its own"],
        )
        .await?;
        // A folder of its own with the journal of the first in it: by a link, or by the same files under other names.
        let mut third = Agent::new(cluster, "a3", &[]);
        std::fs::create_dir(&third.data)?;
        std::os::unix::fs::symlink(a1.data.join("worker"), third.data.join("worker"))?;
        let parts = ["is in use by another process", "two workers cannot share a folder"];
        refuses(cluster, &mut third, &parts).await?;
        let mut fourth = Agent::new(cluster, "a4", &[]);
        std::fs::create_dir_all(fourth.data.join("worker"))?;
        for file in ["journal", "journal.lock"] {
            let of = |agent: &Agent| agent.data.join("worker").join(file);
            std::fs::hard_link(of(&a1), of(&fourth))?;
        }
        refuses(cluster, &mut fourth, &parts).await?;
        long.ends(cluster, &recorder, "a1").await
    });
}

#[test]
fn a_restored_journal_makes_a_new_worker() {
    scenario(voters(), LIMIT, async |cluster| {
        let mut a1 = started(cluster, "a1", &[]).await?;
        let journal = a1.data.join("worker/journal");
        let old = std::fs::read(&journal)?;
        for _ in 0..3 {
            cluster.cli(&["enqueue", "--sample", "ok", "--wait"]).await?.done()?;
        }
        a1.kill9(cluster).await?;
        // In place, as a restored disk has it: a new file would be found out by its agent alone.
        let file = std::fs::OpenOptions::new().write(true).open(&journal)?;
        file.write_all_at(&old, 0)?;
        file.set_len(old.len().try_into()?)?;
        drop(file);
        a1.start(cluster)?;
        eventually("the journal is refused", SOON, async || {
            let leader = &cluster.nodes[cluster.leader().await?];
            ensure!(http::metric(&leader.client, "sched_journals_refused_total").await? == 1.0);
            ensure!(leader.log()?.contains("a worker's journal is refused"));
            ensure!(a1.log().contains("this worker joins as a new one"), "{}", a1.log());
            Ok(())
        })
        .await?;
        worker(cluster, "a1", "is back", is_connected).await?;
        cluster.cli(&["enqueue", "--sample", "ok", "--wait"]).await?.done()?;
        ensure!(a1.data.join("worker/journal.refused").exists(), "it is not set aside");
        Ok(())
    });
}

#[test]
fn an_agent_with_a_damaged_journal_ends_and_says_what_to_do() {
    scenario(voters(), LIMIT, async |cluster| {
        let mut a1 = started(cluster, "a1", &[]).await?;
        cluster.cli(&["enqueue", "--sample", "ok", "--wait"]).await?.done()?;
        a1.kill9(cluster).await?;
        let journal = a1.data.join("worker/journal");
        let byte = std::fs::read(&journal)?
            .get(40)
            .copied()
            .context("a journal is longer")?;
        let file = std::fs::OpenOptions::new().write(true).open(&journal)?;
        file.write_all_at(&[byte ^ 1], 40)?;
        let path = journal.display().to_string();
        let parts = [&path, "is damaged at byte", "move the file away", "schedcli resolve"];
        refuses(cluster, &mut a1, &parts).await?;
        // As it says.
        std::fs::rename(&journal, cluster.file("journal.damaged"))?;
        a1.start(cluster)?;
        worker(cluster, "a1", "is back", is_connected).await?;
        cluster
            .cli(&["enqueue", "--sample", "ok", "--wait"])
            .await?
            .done()
            .map(drop)
    });
}
