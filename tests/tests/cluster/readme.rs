//! What README prints works as printed. Only ports are replaced, by free ones: those of the text may be in use here.

use crate::LIMIT;
use anyhow::{Context, Result, ensure};
use sched_tests::{Cluster, Plan, binaries, ports, scenario};
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;
use tokio::time::timeout;

/// What starts in seconds has started.
const SOON: Duration = Duration::from_secs(20);

#[test]
fn the_quick_start_works_as_printed() {
    scenario(Plan::empty(), LIMIT, async |cluster| {
        let blocks = blocks("## Quick start")?;
        let start = blocks[0].lines().last().context("the first block starts a node")?;
        ensure!(start == "schednode dev", "expected `schednode dev`: {start}");
        let mut node = shell(cluster, "exec schednode dev")?.stdout(Stdio::piped()).spawn()?;
        let mut lines = BufReader::new(node.stdout.take().context("a pipe was asked for")?).lines();
        let mut printed = Vec::new();
        while !printed.iter().any(|line: &String| line.starts_with("ready")) {
            let line = timeout(SOON, lines.next_line())
                .await
                .context("the node does not get ready")??;
            printed.push(line.with_context(|| format!("the node has ended: {printed:?}"))?);
        }
        // It takes the next free ports when its own are in use, and says which.
        let address = printed
            .iter()
            .find_map(|line| line.trim().strip_prefix("clients"))
            .context("no client address is printed")?;

        let mut commands = shell(cluster, &format!("set -e\n{}", blocks[1]))?;
        let output = timeout(SOON, commands.env("SCHED_ENDPOINT", address.trim()).output()).await??;
        ensure!(output.status.success(), "{}\n{output:?}", blocks[1]);
        let mut run = shell(cluster, "schedcli run 2 --wait")?;
        let output = timeout(SOON, run.env("SCHED_ENDPOINT", address.trim()).output()).await??;
        ensure!(output.status.success(), "{output:?}");
        let written = cluster.file("sched-dev/worker/work/out.txt");
        ensure!(written.exists(), "README says that {} is written", written.display());
        let text = std::fs::read_to_string(binaries::repository().join("README.md"))?;
        ensure!(
            text.contains("`sched-dev/worker/work/out.txt`"),
            "README names the file"
        );
        node.kill().await?;
        Ok(())
    });
}

#[test]
fn three_nodes_by_hand_work_as_printed() {
    scenario(Plan::empty(), LIMIT, async |cluster| {
        let mut script = blocks("## Three nodes by hand")?.remove(0);
        let free = ports::free(6)?;
        for (index, printed) in ["7401", "7402", "7403", "7501", "7502", "7503"].into_iter().enumerate() {
            ensure!(script.contains(printed), "README shows port {printed}");
            script = script.replace(printed, &free[index].to_string());
        }
        // As at a terminal: with job control, line by line, and a line that fails is seen.
        let script = format!("set -em\n{script}");
        let log = std::fs::File::create(cluster.file("log"))?;
        let mut bash = shell(cluster, &script)?;
        let status = timeout(SOON, bash.stdout(log.try_clone()?).stderr(log).status())
            .await
            .context("README's commands take too long")??;
        let log = std::fs::read_to_string(cluster.file("log"))?;
        ensure!(status.success(), "{script}\n{log}");
        ensure!(
            log.contains("LEADER") || log.contains("leader"),
            "status shows a leader: {log}"
        );
        Ok(())
    });
}

/// A shell in the cluster's folder that finds our binaries; whatever it leaves running there ends with the test.
fn shell(cluster: &Cluster, script: &str) -> Result<Command> {
    let folder = binaries::path("schednode")?
        .parent()
        .context("a binary is in a folder")?
        .to_owned();
    let path = std::env::var("PATH").unwrap_or_default();
    let mut bash = Command::new("bash");
    bash.args(["-c", script])
        .current_dir(cluster.folder())
        .env("PATH", format!("{}:{path}", folder.display()));
    bash.stdin(Stdio::null()).kill_on_drop(true);
    Ok(bash)
}

/// The shell blocks under a heading of README.
fn blocks(heading: &str) -> Result<Vec<String>> {
    let text = std::fs::read_to_string(binaries::repository().join("README.md"))?;
    let (_, section) = text
        .split_once(&format!("{heading}\n"))
        .with_context(|| format!("README has no {heading:?}"))?;
    let section = section.split("\n## ").next().unwrap_or_default();
    let blocks: Vec<String> = section
        .split("```sh\n")
        .skip(1)
        .filter_map(|rest| Some(rest.split_once("\n```")?.0.to_owned()))
        .collect();
    ensure!(!blocks.is_empty(), "no commands under {heading:?}");
    Ok(blocks)
}
