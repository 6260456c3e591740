//! `schednode agent`: a worker alone. It keeps no state of the cluster, opens no port, and finds the leader through any node.

use crate::clock;
use crate::config::AgentConfig;
use crate::worker::executors::{MAIL_TIMEOUT_DEFAULT, MailOptions};
use crate::worker::output::OutputLimits;
use crate::worker::supervisor;
use crate::worker::{GRACE_DEFAULT, Worker, WorkerClock, WorkerError, WorkerHandle, WorkerOptions, WorkerStatus};
use sched_client::{Client, ClientError};
use std::fs::{self, File, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// Held while an agent uses the folder.
const LOCK_FILE: &str = "LOCK";
/// The name that was made with the folder.
const NAME_FILE: &str = "NAME";
/// The cluster that the folder belongs to.
const CLUSTER_FILE: &str = "CLUSTER";
/// What only the folder of a node has.
const NODE_FILE: &str = "IDENTITY";
/// Larger is none of ours.
const FILE_BYTES_MAX: u64 = 1024;
/// Before the cluster is asked again who it is.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// Why an agent did not start.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// The folder could not be used.
    #[error("{path}: {source}; check its owner and the disk", path = path.display())]
    Folder {
        /// What of it.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Another agent uses the folder.
    #[error("{} is in use by another agent; each needs a folder of its own", .0.display())]
    InUse(PathBuf),
    /// The folder is a node's.
    #[error("{} is the data folder of a node; an agent needs a folder of its own", .0.display())]
    OfANode(PathBuf),
    /// The folder belongs to another cluster.
    #[error(
        "{dir} belongs to an agent of cluster {known}, the nodes of --join are cluster {found}; join the old one, or start with an empty folder",
        dir = dir.display()
    )]
    OtherCluster {
        /// The folder.
        dir: PathBuf,
        /// As the folder says.
        known: String,
        /// As the nodes say.
        found: String,
    },
    /// The addresses are not acceptable to the client.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The worker could not be started.
    #[error(transparent)]
    Worker(#[from] WorkerError),
}

/// The folder of an agent.
#[derive(Debug)]
struct Folder {
    dir: PathBuf,
    name: String,
    /// Until the agent ends.
    _lock: File,
}

impl Folder {
    /// Makes the folder where there is none, and keeps others out of it. `name` wins over the one that is made with the folder.
    fn open(dir: &Path, name: &str) -> Result<Self, AgentError> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| AgentError::Folder { path, source }
        };
        fs::create_dir_all(dir).map_err(failed(dir))?;
        if dir.join(NODE_FILE).exists() {
            return Err(AgentError::OfANode(dir.to_owned()));
        }
        let path = dir.join(LOCK_FILE);
        let lock = File::options()
            .create(true)
            .append(true)
            .open(&path)
            .map_err(failed(&path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(AgentError::InUse(dir.to_owned())),
            Err(TryLockError::Error(e)) => return Err(failed(&path)(e)),
        }
        let path = dir.join(NAME_FILE);
        let known = read(&path).map_err(failed(&path))?;
        let name = match known {
            _ if !name.is_empty() => name.to_owned(),
            Some(known) => known,
            None => {
                let made = format!("{}-{:08x}", host(), rand::random::<u32>());
                write(dir, NAME_FILE, &made).map_err(failed(&path))?;
                made
            }
        };
        let dir = dir.to_owned();
        Ok(Self { dir, name, _lock: lock })
    }

    /// Checks that the folder belongs to this cluster, or notes that it does from now on.
    fn belongs_to(&self, cluster: &str) -> Result<(), AgentError> {
        let path = self.dir.join(CLUSTER_FILE);
        let failed = |source| AgentError::Folder {
            path: path.clone(),
            source,
        };
        match read(&path).map_err(failed)? {
            Some(known) if known == cluster => Ok(()),
            Some(known) => Err(AgentError::OtherCluster {
                dir: self.dir.clone(),
                known,
                found: cluster.to_owned(),
            }),
            None => write(&self.dir, CLUSTER_FILE, cluster).map_err(failed),
        }
    }
}

/// Returns the one line of a file; nothing when there is no file or nothing in it.
fn read(path: &Path) -> io::Result<Option<String>> {
    match fs::metadata(path) {
        Ok(meta) if meta.len() > FILE_BYTES_MAX => Err(io::Error::other("is larger than it can be")),
        Ok(_) => {
            let text = fs::read_to_string(path)?;
            Ok(Some(text.trim().to_owned()).filter(|text| !text.is_empty()))
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

/// Writes a file whole or not at all.
fn write(dir: &Path, file: &str, text: &str) -> io::Result<()> {
    let draft = dir.join(format!("{file}.new"));
    let mut new = File::create(&draft)?;
    new.write_all(text.as_bytes())?;
    new.write_all(b"\n")?;
    new.sync_all()?;
    fs::rename(&draft, dir.join(file))?;
    File::open(dir)?.sync_all()
}

/// The host's own name, as far as it makes a name.
fn host() -> String {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let plain: String = name
        .chars()
        .filter(|c| c.is_ascii_alphanumeric() || ".-_".contains(*c))
        .collect();
    // A name has 256 bytes.
    let short: String = plain.chars().take(200).collect();
    if short.is_empty() { "agent".to_owned() } else { short }
}

/// An agent whose folder is open.
#[derive(Debug)]
pub struct Agent {
    config: AgentConfig,
    folder: Folder,
    client: Client,
}

impl Agent {
    /// Opens the folder.
    ///
    /// # Errors
    /// Says what is wrong with the folder or an address, and what to do about it.
    pub fn open(mut config: AgentConfig) -> Result<Self, AgentError> {
        let folder = Folder::open(&config.data_dir, &config.name)?;
        config.name.clone_from(&folder.name);
        let client = Client::connect(config.join.iter().map(|address| format!("http://{address}")))?;
        Ok(Self { config, folder, client })
    }

    /// Returns the configuration, with the name that the folder gave.
    pub fn config(&self) -> &AgentConfig {
        &self.config
    }

    /// Starts the worker, once some node has said which cluster this is: until then nothing could be taken anyway.
    ///
    /// # Errors
    /// The folder belongs to another cluster, or the worker cannot be started.
    pub async fn start(self) -> Result<RunningAgent, AgentError> {
        let cluster = self.cluster().await;
        self.folder.belongs_to(&cluster)?;
        let Self { config, folder, .. } = self;
        // Any of them: who does not lead says who does.
        let (nodes, leader) = watch::channel(Some(config.join.join(",")));
        let worker = Worker::start(WorkerOptions {
            name: config.name.clone(),
            slots: config.slots,
            labels: config.labels.clone(),
            node: None,
            dir: folder.dir.join("worker"),
            leader,
            clock: WorkerClock::new(clock::boot, clock::wall),
            output: OutputLimits::default(),
            grace: GRACE_DEFAULT,
            supervisor: Some(supervisor::program()),
            containment: config.containment,
            mail: MailOptions {
                relay: config.mail_relay(),
                from: config.mail_from(),
                timeout: MAIL_TIMEOUT_DEFAULT,
                cluster: Arc::new(move || cluster.clone()),
            },
        })?;
        Ok(RunningAgent {
            config,
            worker,
            _folder: folder,
            _nodes: nodes,
        })
    }

    async fn cluster(&self) -> String {
        let mut silent = false;
        loop {
            match self.client.status().await {
                Ok(status) if !status.cluster.is_empty() => return status.cluster,
                // Said once: it may take long.
                Ok(_) if !silent => tracing::info!("the nodes have not formed a cluster yet; waiting for it"),
                Err(e) if !silent => tracing::warn!(error = %e, "no node of --join answers; trying until one does"),
                _ => {}
            }
            silent = true;
            tokio::time::sleep(ASK_AGAIN).await;
        }
    }
}

/// An agent that runs.
#[derive(Debug)]
pub struct RunningAgent {
    config: AgentConfig,
    worker: WorkerHandle,
    _folder: Folder,
    /// Kept so that the worker goes on looking.
    _nodes: watch::Sender<Option<String>>,
}

impl RunningAgent {
    /// Returns what the worker is doing, now and from now on.
    pub fn status(&self) -> watch::Receiver<WorkerStatus> {
        self.worker.status()
    }

    /// Lets it leave: nothing new, what runs may go on as long as configured and is then asked to end, the cluster is told.
    pub async fn stop(self) {
        self.worker.drain(self.config.drain()).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_keeps_its_name_its_cluster_and_others_out() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("agent");
        let folder = Folder::open(&path, "").unwrap();
        let name = folder.name.clone();
        assert!(
            name.rsplit_once('-')
                .is_some_and(|(host, made)| !host.is_empty() && made.len() == 8),
            "{name}"
        );
        assert!(matches!(Folder::open(&path, ""), Err(AgentError::InUse(_))));
        folder.belongs_to("c1").unwrap();
        folder.belongs_to("c1").unwrap();
        let other = folder.belongs_to("c2").unwrap_err().to_string();
        assert!(other.contains("cluster c1") && other.contains("cluster c2"), "{other}");
        drop(folder);
        assert_eq!(Folder::open(&path, "").unwrap().name, name, "made once");
        assert_eq!(Folder::open(&path, "other").unwrap().name, "other", "what is said wins");
        fs::write(path.join(NODE_FILE), "x").unwrap();
        assert!(matches!(Folder::open(&path, ""), Err(AgentError::OfANode(_))));
    }
}
