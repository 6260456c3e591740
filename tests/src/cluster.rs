//! Several nodes that form a cluster on this machine.

use crate::cli::{self, Ran};
use crate::guard::Guard;
use crate::{Node, Site, binaries, eventually, http, ports};
use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use sched_client::Client;
use sched_proto::v1;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;
use tempfile::TempDir;

/// A cluster on two busy cores has formed, or has a leader again, within this.
pub const READY_LIMIT: Duration = Duration::from_secs(30);
/// Keeps the folders of failed tests when set.
const KEEP_VARIABLE: &str = "SCHED_TEST_KEEP";

/// What a cluster is to be.
#[derive(Clone, Debug)]
pub struct Plan {
    /// How many nodes.
    pub nodes: usize,
    /// Given to each of them, after the addresses.
    pub arguments: Vec<String>,
    /// Whether they are started; otherwise the test does it.
    pub start: bool,
    /// Where each of them is and what it is started with; none: on loopback ports that are free.
    pub sites: Vec<Site>,
}

impl Plan {
    /// So many nodes, started, with the settings that a user gets.
    pub fn nodes(nodes: usize) -> Self {
        Self {
            nodes,
            arguments: Vec::new(),
            start: true,
            sites: Vec::new(),
        }
    }

    /// None: a folder that is cleaned up, and the machine to oneself.
    pub fn empty() -> Self {
        Self::nodes(0).not_started()
    }

    /// Adds an argument to the command line of each node.
    #[must_use]
    pub fn with(mut self, argument: &str) -> Self {
        self.arguments.push(argument.to_owned());
        self
    }

    /// Puts the nodes elsewhere than on loopback.
    #[must_use]
    pub fn at(mut self, sites: Vec<Site>) -> Self {
        self.nodes = sites.len();
        self.sites = sites;
        self
    }

    /// Leaves the starting to the test.
    #[must_use]
    pub fn not_started(mut self) -> Self {
        self.start = false;
        self
    }
}

/// Nodes, their folders, and whoever cleans up after them.
#[derive(Debug)]
pub struct Cluster {
    /// In the order of the initial list.
    pub nodes: Vec<Node>,
    // Before the folder: processes end first.
    guard: Guard,
    folder: TempDir,
}

impl Cluster {
    /// Describes the nodes, and when the plan says so starts them and waits until they are ready.
    ///
    /// # Errors
    /// A node ends by itself, or they do not form a cluster in time.
    pub async fn new(plan: Plan) -> Result<Self> {
        let folder = tempfile::Builder::new()
            .prefix("cluster-")
            .tempdir_in(binaries::scratch()?)?;
        let guard = Guard::over(folder.path())?;
        let nodes = Vec::new();
        let mut cluster = Self { nodes, guard, folder };
        let start = plan.start;
        cluster.describe(plan)?;
        if start {
            for index in 0..cluster.nodes.len() {
                cluster.start(index)?;
            }
            cluster.ready().await?;
        }
        Ok(cluster)
    }

    /// Describes the initial members; starts none of them.
    ///
    /// # Errors
    /// There are nodes already, or no free ports.
    pub fn describe(&mut self, plan: Plan) -> Result<()> {
        ensure!(self.nodes.is_empty(), "there are nodes already");
        let sites = match plan.sites.is_empty() {
            true => loopback(plan.nodes)?,
            false => plan.sites,
        };
        let members: Vec<&str> = sites.iter().map(|site| site.peer.as_str()).collect();
        let mut arguments = vec!["--initial-cluster".to_owned(), members.join(",")];
        arguments.extend(plan.arguments);
        sites
            .into_iter()
            .try_for_each(|site| self.describe_one(site, arguments.clone()))
    }

    fn describe_one(&mut self, site: Site, arguments: Vec<String>) -> Result<()> {
        let name = format!("n{}", self.nodes.len() + 1);
        self.nodes.push(Node::new(self.folder.path(), &name, site, arguments)?);
        Ok(())
    }

    /// Starts a node that does not run; does not wait for it.
    ///
    /// # Errors
    /// It runs, or cannot be started.
    pub fn start(&mut self, index: usize) -> Result<()> {
        self.nodes[index].start()?;
        self.guard.add(self.nodes[index].pid()?)
    }

    /// Describes one more node, which joins through all the others when it is started; returns its index.
    ///
    /// # Errors
    /// There is no port for it.
    pub fn add(&mut self, arguments: &[&str]) -> Result<usize> {
        let site = loopback(1)?.pop().context("a site was asked for")?;
        self.add_at(site, arguments)
    }

    /// As [`Cluster::add`], elsewhere.
    ///
    /// # Errors
    /// An address does not make a URL.
    pub fn add_at(&mut self, site: Site, arguments: &[&str]) -> Result<usize> {
        let peers: Vec<_> = self.nodes.iter().map(|node| node.peer.clone()).collect();
        let mut all = vec!["--join".to_owned(), peers.join(",")];
        all.extend(arguments.iter().map(|argument| (*argument).to_owned()));
        self.describe_one(site, all)?;
        Ok(self.nodes.len() - 1)
    }

    /// Has a process group killed when the test ends, however it ends.
    ///
    /// # Errors
    /// Nobody is there who could do it.
    pub fn kill_in_the_end(&mut self, group: u32) -> Result<()> {
        self.guard.add(group)
    }

    /// Forgets a process group that has ended: its number may be given to another.
    ///
    /// # Errors
    /// As [`Cluster::kill_in_the_end`].
    pub fn has_ended(&mut self, group: u32) -> Result<()> {
        self.guard.remove(group)
    }

    /// Kills a node with SIGKILL and waits until the process is gone.
    ///
    /// # Errors
    /// It does not run.
    pub async fn kill9(&mut self, index: usize) -> Result<()> {
        let group = self.nodes[index].pid()?;
        self.nodes[index].kill9().await?;
        self.guard.remove(group)
    }

    /// Asks a node to stop and waits until it has.
    ///
    /// # Errors
    /// It does not run, or has not ended in time.
    pub async fn sigterm(&mut self, index: usize) -> Result<ExitStatus> {
        self.nodes[index].signal(Signal::TERM)?;
        self.ended(index, Duration::from_secs(30)).await
    }

    /// Waits for a node's process to end.
    ///
    /// # Errors
    /// It has not ended in time.
    pub async fn ended(&mut self, index: usize, limit: Duration) -> Result<ExitStatus> {
        let group = self.nodes[index].pid()?;
        let status = self.nodes[index].ended(limit).await?;
        self.guard.remove(group)?;
        Ok(status)
    }

    /// Freezes a node.
    ///
    /// # Errors
    /// It does not run.
    pub fn sigstop(&self, index: usize) -> Result<()> {
        self.nodes[index].signal(Signal::STOP)
    }

    /// Thaws a node.
    ///
    /// # Errors
    /// It does not run.
    pub fn sigcont(&self, index: usize) -> Result<()> {
        self.nodes[index].signal(Signal::CONT)
    }

    /// Waits until every node that runs says that it is ready, knows the leader, and the leader reaches it.
    ///
    /// # Errors
    /// One of them has ended, or it takes too long.
    pub async fn ready(&mut self) -> Result<()> {
        let running = self.nodes.iter().filter(|node| node.runs()).count();
        eventually("all running nodes ready", READY_LIMIT, async || {
            for node in self.nodes.iter_mut().filter(|node| node.runs()) {
                node.still_runs()?;
                let (status, body) = http::get(&node.client, "/readyz").await?;
                ensure!(status == 200, "{} answers {status} at /readyz: {body}", node.name);
            }
            let status = self.nodes[leader_of(&self.nodes).await?].status().await?;
            let reached = status.nodes.iter().filter(|node| node.reachable).count();
            ensure!(
                reached >= running,
                "the leader reaches {reached} of {running}: {:?}",
                status.nodes
            );
            Ok(())
        })
        .await
    }

    /// Waits until a quorum confirms a leader and returns its index.
    ///
    /// # Errors
    /// None is confirmed in time.
    pub async fn leader(&self) -> Result<usize> {
        eventually("a leader", READY_LIMIT, async || leader_of(&self.nodes).await).await
    }

    /// The index of some running node that does not lead.
    ///
    /// # Errors
    /// There is no leader or no other node.
    pub async fn follower(&self) -> Result<usize> {
        let leader = self.leader().await?;
        (0..self.nodes.len())
            .find(|index| *index != leader && self.nodes[*index].runs())
            .context("no follower runs")
    }

    /// The client addresses of all nodes, as `--endpoint` takes them.
    pub fn endpoints(&self) -> Vec<String> {
        self.nodes
            .iter()
            .map(|node| format!("http://{}", node.client))
            .collect()
    }

    /// The process ids of the nodes that run.
    pub fn pids(&self) -> Vec<u32> {
        self.nodes.iter().filter_map(|node| node.pid().ok()).collect()
    }

    /// The client library, told of all nodes.
    ///
    /// # Errors
    /// The client does not accept the addresses.
    pub fn client(&self) -> Result<Client> {
        Ok(Client::connect(self.endpoints())?)
    }

    /// Runs `schedcli` against all nodes and returns what came of it.
    ///
    /// # Errors
    /// It cannot be started, or does not end in time.
    pub async fn cli(&self, arguments: &[&str]) -> Result<Ran> {
        cli::run(&self.endpoints().join(","), arguments, None).await
    }

    /// Runs `schedcli` against one node.
    ///
    /// # Errors
    /// As [`Cluster::cli`].
    pub async fn cli_at(&self, index: usize, arguments: &[&str]) -> Result<Ran> {
        cli::run(&format!("http://{}", self.nodes[index].client), arguments, None).await
    }

    /// Runs `schedcli --output json` against all nodes and returns the document it printed.
    ///
    /// # Errors
    /// As [`Cluster::cli`], or it failed, or printed no JSON.
    pub async fn json(&self, arguments: &[&str]) -> Result<Value> {
        self.cli(&[&["--output", "json"], arguments].concat()).await?.json()
    }

    /// Enqueues with these arguments and returns the id.
    ///
    /// # Errors
    /// It was refused, or no id was printed.
    pub async fn enqueue(&self, arguments: &[&str]) -> Result<u64> {
        let reply = self.json(&[&["enqueue"], arguments].concat()).await?;
        reply["id"].as_u64().with_context(|| format!("no id in {reply}"))
    }

    /// A file or folder of this cluster, removed with it.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The folder of all nodes.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The ends of all logs, for whoever has to find out why a test failed.
    pub fn log_tails(&self) -> String {
        let tail = |node: &Node| format!("---- {} ({}) ----\n{}\n", node.name, node.client, node.log_tail());
        self.nodes.iter().map(tail).collect()
    }

    /// Keeps the folder when the environment asks for it; called when a test has failed.
    pub fn keep_if_asked(&mut self) {
        if std::env::var_os(KEEP_VARIABLE).is_some() && self.guard.keep().is_ok() {
            self.folder.disable_cleanup(true);
            eprintln!("kept: {}", self.folder.path().display());
        }
    }
}

/// Sites on ports of loopback that are free.
fn loopback(nodes: usize) -> Result<Vec<Site>> {
    let ports = ports::free(2 * nodes)?;
    let (clients, peers) = ports.split_at(nodes);
    let site = |(client, peer)| Site::new(format!("127.0.0.1:{client}"), format!("127.0.0.1:{peer}"));
    Ok(clients.iter().zip(peers).map(site).collect())
}

/// Finds the node that leads and whose leadership a quorum has just confirmed.
async fn leader_of(nodes: &[Node]) -> Result<usize> {
    let mut last = anyhow::anyhow!("no node runs");
    for (index, node) in nodes.iter().enumerate().filter(|(_, node)| node.runs()) {
        match node.status().await {
            Ok(status) if leads(&status) => return Ok(index),
            Ok(status) => {
                last = anyhow::anyhow!(
                    "{} says leader {:?}, confirmed {}",
                    node.name,
                    status.leader,
                    status.confirmed
                )
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn leads(status: &v1::StatusReply) -> bool {
    status.confirmed && status.leader == Some(status.node)
}
