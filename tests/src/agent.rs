//! One `schednode agent` as a process.

use crate::{Cluster, binaries};
use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use std::fs::OpenOptions;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;
use tokio::process::{Child, Command};
use tokio::time::timeout;

/// A process that was sent SIGKILL is gone within this, or the machine is broken.
const REAP_LIMIT: Duration = Duration::from_secs(10);

/// An agent, running or not. Dropping it kills the process.
#[derive(Debug)]
pub struct Agent {
    /// Its `--name`.
    pub name: String,
    /// Its `--data-dir`.
    pub data: PathBuf,
    arguments: Vec<String>,
    log: PathBuf,
    child: Option<Child>,
}

impl Agent {
    /// Describes an agent of a cluster that keeps its data in the cluster's folder; `arguments` follow name, folder and nodes.
    pub fn new(cluster: &Cluster, name: &str, arguments: &[&str]) -> Self {
        let join: Vec<&str> = cluster.nodes.iter().map(|node| node.client.as_str()).collect();
        let mut line = vec!["--join".to_owned(), join.join(",")];
        line.extend(arguments.iter().map(|argument| (*argument).to_owned()));
        Self {
            name: name.to_owned(),
            data: cluster.file(name),
            arguments: line,
            log: cluster.file(&format!("{name}.log")),
            child: None,
        }
    }

    /// Starts the process; its output is appended to the log file.
    ///
    /// # Errors
    /// It runs already, or cannot be started.
    pub fn start(&mut self, cluster: &mut Cluster) -> Result<()> {
        ensure!(self.child.is_none(), "{} runs already", self.name);
        let log = OpenOptions::new().create(true).append(true).open(&self.log)?;
        let mut command = Command::new(binaries::path("schednode")?);
        command
            .args(["agent", "--name", &self.name, "--data-dir"])
            .arg(&self.data)
            .args(&self.arguments);
        // A setting in the environment of whoever runs the tests is none of the test's.
        for (variable, _) in std::env::vars_os() {
            if variable.to_string_lossy().starts_with("SCHED_") {
                command.env_remove(variable);
            }
        }
        command
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .process_group(0)
            .kill_on_drop(true);
        self.child = Some(command.spawn().with_context(|| format!("starting {}", self.name))?);
        cluster.kill_in_the_end(self.pid()?)
    }

    /// The process id, which is that of its process group too.
    ///
    /// # Errors
    /// It does not run.
    pub fn pid(&self) -> Result<u32> {
        let child = self
            .child
            .as_ref()
            .with_context(|| format!("{} does not run", self.name))?;
        child.id().with_context(|| format!("{} has ended", self.name))
    }

    /// Sends a signal to the process.
    ///
    /// # Errors
    /// It does not run.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let pid = i32::try_from(self.pid()?)
            .ok()
            .and_then(Pid::from_raw)
            .context("a pid is positive")?;
        kill_process(pid, signal).with_context(|| format!("signal {signal:?} to {}", self.name))
    }

    /// Waits for the process to end and returns how it did.
    ///
    /// # Errors
    /// It does not run, or does not end within the limit.
    pub async fn ended(&mut self, cluster: &mut Cluster, limit: Duration) -> Result<ExitStatus> {
        let group = self.pid()?;
        let Some(child) = self.child.as_mut() else {
            bail!("{} does not run", self.name)
        };
        let status = timeout(limit, child.wait()).await;
        let status =
            status.with_context(|| format!("{} has not ended within {limit:?}:\n{}", self.name, self.log()))??;
        self.child = None;
        cluster.has_ended(group)?;
        Ok(status)
    }

    /// Kills the process with SIGKILL and waits until it is gone.
    ///
    /// # Errors
    /// It does not run.
    pub async fn kill9(&mut self, cluster: &mut Cluster) -> Result<()> {
        self.signal(Signal::KILL)?;
        self.ended(cluster, REAP_LIMIT).await.map(drop)
    }

    /// Everything it has printed, or why that is not known.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_else(|error| format!("(no log: {error})"))
    }
}
