//! One `schednode` as a process.

use crate::binaries;
use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use sched_proto::v1;
use sched_proto::v1::scheduler_client::SchedulerClient;
use std::fs::OpenOptions;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;
use tokio::process::{Child, Command};
use tokio::time::timeout;
use tonic::transport::{Channel, Endpoint};

/// A process that was sent SIGKILL is gone within this, or the machine is broken.
const REAP_LIMIT: Duration = Duration::from_secs(10);
/// Longest single call of a test to a node.
const CALL_LIMIT: Duration = Duration::from_secs(10);
/// What is shown of a log when a test fails.
const TAIL_BYTES: u64 = 6 * 1024;

/// Where a node is, and what it is started with.
#[derive(Clone, Debug)]
pub struct Site {
    /// Its `--listen`.
    pub client: String,
    /// Its `--peer-listen`.
    pub peer: String,
    /// Its `--data-dir`; nothing: a folder of the cluster's.
    pub data: Option<PathBuf>,
    /// A command that starts the one that follows it and becomes it.
    pub prefix: Vec<String>,
    /// Added to its environment.
    pub environment: Vec<(String, PathBuf)>,
}

impl Site {
    /// At these addresses, with nothing special.
    pub fn new(client: String, peer: String) -> Self {
        Self {
            client,
            peer,
            data: None,
            prefix: Vec::new(),
            environment: Vec::new(),
        }
    }
}

/// A node, running or not. Dropping it kills the process.
#[derive(Debug)]
pub struct Node {
    /// Its `--name`.
    pub name: String,
    /// Its `--listen`.
    pub client: String,
    /// Its `--peer-listen`.
    pub peer: String,
    /// Its `--data-dir`.
    pub data: PathBuf,
    prefix: Vec<String>,
    environment: Vec<(String, PathBuf)>,
    arguments: Vec<String>,
    log: PathBuf,
    child: Option<Child>,
    pid: Option<u32>,
    channel: Channel,
}

impl Node {
    /// Describes a node that keeps its data in `folder/NAME` unless told otherwise; `arguments` follow those that every node gets.
    ///
    /// # Errors
    /// An address does not make a URL.
    pub fn new(folder: &Path, name: &str, site: Site, arguments: Vec<String>) -> Result<Self> {
        let Site {
            client,
            peer,
            data,
            prefix,
            environment,
        } = site;
        let endpoint = Endpoint::from_shared(format!("http://{client}"))?;
        let channel = endpoint
            .connect_timeout(Duration::from_secs(2))
            .timeout(CALL_LIMIT)
            .connect_lazy();
        let data = data.unwrap_or_else(|| folder.join(name));
        let log = folder.join(format!("{name}.log"));
        Ok(Self {
            name: name.to_owned(),
            client,
            peer,
            data,
            prefix,
            environment,
            arguments,
            log,
            child: None,
            pid: None,
            channel,
        })
    }

    /// Starts the process; its output is appended to the log file.
    ///
    /// # Errors
    /// It runs already, or cannot be started.
    pub fn start(&mut self) -> Result<()> {
        ensure!(self.child.is_none(), "{} runs already", self.name);
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&self.log)
            .context("the log file")?;
        let program = binaries::path("schednode")?;
        let mut command = match self.prefix.split_first() {
            Some((first, rest)) => {
                let mut command = Command::new(first);
                command.args(rest).arg(program);
                command
            }
            None => Command::new(program),
        };
        command.args([
            "run",
            "--name",
            &self.name,
            "--listen",
            &self.client,
            "--peer-listen",
            &self.peer,
        ]);
        command.arg("--data-dir").arg(&self.data).args(&self.arguments);
        // A setting in the environment of whoever runs the tests is none of the test's.
        for (variable, _) in std::env::vars_os() {
            if variable.to_string_lossy().starts_with("SCHED_") {
                command.env_remove(variable);
            }
        }
        command
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .process_group(0)
            .kill_on_drop(true);
        let child = command.spawn().with_context(|| format!("starting {}", self.name))?;
        self.pid = child.id();
        self.child = Some(child);
        Ok(())
    }

    /// Returns the arguments that follow those that every node gets.
    pub fn arguments(&self) -> &[String] {
        &self.arguments
    }

    /// Replaces the arguments that follow those that every node gets; counts at the next start.
    pub fn set_arguments(&mut self, arguments: Vec<String>) {
        self.arguments = arguments;
    }

    /// Whether a process was started and its end not yet seen.
    pub fn runs(&self) -> bool {
        self.child.is_some()
    }

    /// The process id, which is that of its process group too.
    ///
    /// # Errors
    /// It does not run.
    pub fn pid(&self) -> Result<u32> {
        ensure!(self.child.is_some(), "{} does not run", self.name);
        // Also of a process that has ended and was not yet waited for: its group may still have others.
        self.pid.with_context(|| format!("{} was never started", self.name))
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
    pub async fn ended(&mut self, limit: Duration) -> Result<ExitStatus> {
        let child = self
            .child
            .as_mut()
            .with_context(|| format!("{} does not run", self.name))?;
        let status = timeout(limit, child.wait()).await;
        let status = status.with_context(|| format!("{} has not ended within {limit:?}", self.name))??;
        self.child = None;
        Ok(status)
    }

    /// Kills the process with SIGKILL and waits until it is gone.
    ///
    /// # Errors
    /// It does not run.
    pub async fn kill9(&mut self) -> Result<()> {
        self.signal(Signal::KILL)?;
        self.ended(REAP_LIMIT).await.map(drop)
    }

    /// Fails with the tail of the log when the process has ended by itself.
    ///
    /// # Errors
    /// It has.
    pub fn still_runs(&mut self) -> Result<()> {
        let child = self
            .child
            .as_mut()
            .with_context(|| format!("{} does not run", self.name))?;
        if let Some(status) = child.try_wait()? {
            bail!("{} has ended by itself ({status}):\n{}", self.name, self.log_tail());
        }
        Ok(())
    }

    /// A client of this one node: it neither retries nor follows the leader.
    pub fn api(&self) -> SchedulerClient<Channel> {
        SchedulerClient::new(self.channel.clone()).max_decoding_message_size(64 * 1024 * 1024)
    }

    /// What the node says of the cluster.
    ///
    /// # Errors
    /// It does not answer.
    pub async fn status(&self) -> Result<v1::StatusReply> {
        let reply = self.api().status(v1::StatusRequest {}).await;
        Ok(reply.with_context(|| format!("status of {}", self.name))?.into_inner())
    }

    /// Where its output goes.
    pub fn log_path(&self) -> &Path {
        &self.log
    }

    /// Everything it has printed.
    ///
    /// # Errors
    /// The log cannot be read.
    pub fn log(&self) -> Result<String> {
        let bytes = std::fs::read(&self.log).with_context(|| format!("reading {}", self.log.display()))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// The end of what it has printed.
    pub fn log_tail(&self) -> String {
        let read = || -> std::io::Result<String> {
            let mut file = std::fs::File::open(&self.log)?;
            let size = file.metadata()?.len();
            file.seek(SeekFrom::Start(size.saturating_sub(TAIL_BYTES)))?;
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes)?;
            Ok(String::from_utf8_lossy(&bytes).into_owned())
        };
        read().unwrap_or_else(|error| format!("(no log: {error})"))
    }
}
