//! A cluster in its sandbox, with everything that watches it and everything that is done to it.

use super::disk::Disk;
use super::net::{self, Network};
use super::proxy::Proxies;
use super::recorder::{Clock, Recorder};
use super::shim::{Shim, Tools};
use super::workload::{Rates, Workload};
use super::{read, watch};
use crate::checker::{Bounds, FORMAT, Fault, FaultKind, History, Process};
use crate::{Cluster, Node, Plan, Site, eventually};
use anyhow::{Context, Result, ensure};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// The ports of every node.
pub(super) const CLIENT_PORT: u16 = 7400;
/// See [`CLIENT_PORT`].
pub(super) const PEER_PORT: u16 = 7500;
/// Everything that is due has ended so long after the load did, or it never will: the checker says what did not.
const SETTLE_LIMIT: Duration = Duration::from_secs(30);
/// For all pages of one node.
const READ_LIMIT: Duration = Duration::from_secs(60);
/// Nothing is done to the cluster in the last part of a run: what was due is to be seen to come to its end, under load.
const QUIET: Duration = Duration::from_secs(12);

/// What a cluster of a scenario is to be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Setting {
    pub(super) nodes: usize,
    /// Further ones that are not started and are no members.
    pub(super) spares: usize,
    /// A file system for each.
    pub(super) disks: bool,
    /// Proxies between them.
    pub(super) proxies: bool,
    pub(super) rates: Rates,
    /// Given to each node.
    pub(super) arguments: &'static [&'static str],
}

impl Setting {
    /// Three nodes with nothing special.
    pub(super) const USUAL: Self = Self {
        nodes: 3,
        spares: 0,
        disks: false,
        proxies: false,
        rates: Rates::USUAL,
        arguments: &[],
    };
}

/// The death of a worker with its node.
#[derive(Clone, Copy, Debug)]
pub(super) struct Death {
    pub(super) at_ms: i64,
    /// The leader died with it.
    pub(super) with_leader: bool,
}

/// What was measured, by what it is.
#[derive(Debug, Default)]
pub(super) struct Measured {
    /// Milliseconds without a leader, by the fault.
    pub(super) leaderless_ms: BTreeMap<&'static str, Vec<u64>>,
    /// Milliseconds from the return of the power until calls are answered.
    pub(super) serving_ms: Vec<u64>,
    /// What became of damaged folders, by what the node did.
    pub(super) damages: BTreeMap<&'static str, u64>,
    /// What is wrong and no history shows.
    pub(super) wrongs: Vec<String>,
    pub(super) deaths: Vec<Death>,
    /// Submits refused for want of room.
    pub(super) refused_for_room: u64,
}

pub(super) struct World {
    pub(super) cluster: Cluster,
    pub(super) network: Network,
    pub(super) disks: Vec<Disk>,
    pub(super) shims: Vec<Shim>,
    pub(super) proxies: Option<Proxies>,
    pub(super) clock: Clock,
    pub(super) recorder: Arc<Recorder>,
    workload: Option<Workload>,
    pub(super) faults: Vec<Fault>,
    pub(super) measured: Measured,
    pub(super) rng: StdRng,
    seed: u64,
    started_at_ms: i64,
    load_ends: Instant,
}

impl World {
    /// Makes the network, the disks and the cluster, waits until it is ready and begins the load, which goes on for `length`.
    ///
    /// # Errors
    /// A tool is missing, or the cluster does not form.
    pub(super) async fn new(setting: Setting, length: Duration, seed: u64) -> Result<Self> {
        let network = Network::new(setting.nodes + setting.spares)?;
        let mut cluster = Cluster::new(Plan::empty()).await?;
        let folder = cluster.folder().to_owned();
        let tools = Tools::compile(&folder)?;
        let mut disks = Vec::new();
        let mut shims = Vec::new();
        let mut sites = Vec::new();
        for node in 0..setting.nodes + setting.spares {
            let address = net::address(node);
            let mut site = Site::new(format!("{address}:{CLIENT_PORT}"), format!("{address}:{PEER_PORT}"));
            site.prefix = net::prefix(node);
            let shim = Shim::new(folder.join(format!("{}.shim", net::name(node))))?;
            site.environment = shim.environment(&tools.shim);
            shims.push(shim);
            if setting.disks {
                let disk = Disk::new(&folder, &net::name(node))?;
                site.data = Some(disk.data());
                disks.push(disk);
            }
            sites.push(site);
        }
        let mut plan = Plan::nodes(0).not_started().with("--insecure");
        for argument in setting.arguments {
            plan = plan.with(argument);
        }
        let spares = sites.split_off(setting.nodes);
        let proxies = match setting.proxies {
            true => Some(Proxies::between(&network, setting.nodes, &[CLIENT_PORT, PEER_PORT]).await?),
            false => None,
        };
        cluster.describe(plan.at(sites))?;
        for index in 0..setting.nodes {
            cluster.start(index)?;
        }
        cluster.ready().await?;
        for site in spares {
            let arguments = [&["--insecure"], setting.arguments].concat();
            cluster.add_at(site, &arguments)?;
        }
        let clock = Clock::start();
        let recorder = Arc::new(Recorder::at(folder.join("told"), clock)?);
        let started_at_ms = clock.now_ms();
        let until_ms = started_at_ms + i64::try_from(length.as_millis())?;
        let load_ends = Instant::now() + length;
        let endpoints = cluster.endpoints().into_iter().collect();
        let heard = (clock, recorder.clone(), &tools);
        let workload = Workload::start(endpoints, heard, setting.rates, until_ms, seed).await?;
        recorder
            .further(20, Duration::from_secs(30))
            .await
            .context("before any fault")?;
        Ok(Self {
            cluster,
            network,
            disks,
            shims,
            proxies,
            clock,
            recorder,
            workload: Some(workload),
            faults: Vec::new(),
            measured: Measured::default(),
            rng: StdRng::seed_from_u64(seed),
            seed,
            started_at_ms,
            load_ends,
        })
    }

    /// Whether there is time for another fault.
    pub(super) fn goes_on(&self) -> bool {
        Instant::now() + QUIET < self.load_ends
    }

    /// Submits acknowledged so far.
    pub(super) fn accepted(&self) -> u64 {
        self.workload.as_ref().map_or(0, Workload::accepted)
    }

    /// How many faults there were: who takes turns by it leaves out nothing.
    pub(super) fn turn(&self) -> usize {
        self.faults.len()
    }

    /// A random number below `bound`.
    pub(super) fn draw(&mut self, bound: u64) -> u64 {
        self.rng.random_range(0..bound)
    }

    /// Waits for a random time.
    pub(super) async fn pause(&mut self, from_ms: u64, to_ms: u64) {
        let ms = self.rng.random_range(from_ms..to_ms);
        sleep(Duration::from_millis(ms)).await;
    }

    /// Waits until a third of a second's usual work is heard again.
    ///
    /// # Errors
    /// Nothing runs.
    pub(super) async fn works(&self) -> Result<()> {
        self.recorder
            .further(20, Duration::from_secs(40))
            .await
            .context("the cluster does not work again")
    }

    /// The members that run, but for some.
    pub(super) fn others(&self, but: &[usize]) -> Vec<&Node> {
        let nodes = self.cluster.nodes.iter().enumerate();
        nodes
            .filter(|(index, node)| !but.contains(index) && node.runs())
            .map(|(_, node)| node)
            .collect()
    }

    /// Waits until one of the others leads, and takes down how long nobody did.
    ///
    /// # Errors
    /// None of them does.
    pub(super) async fn leaderless(&mut self, fault: &'static str, but: &[usize], since: Instant) -> Result<()> {
        let (_, time) = watch::next_leader(&self.others(but), since).await?;
        let ms = u64::try_from(time.as_millis())?;
        self.measured.leaderless_ms.entry(fault).or_default().push(ms);
        Ok(())
    }

    /// Ends the load, waits until everything due has ended, reads every node, and returns the history.
    ///
    /// # Errors
    /// A node does not run, or does not answer.
    pub(super) async fn finish(&mut self, label: &str, intended: &[FaultKind]) -> Result<(History, Measured)> {
        self.cluster.ready().await?;
        let bounds = Bounds::default();
        tokio::time::sleep_until(self.load_ends).await;
        let workload = self.workload.take().context("finished twice")?;
        let (tasks, operations) = workload.stop().await?;
        let healed = self
            .faults
            .iter()
            .filter_map(|fault| fault.healed_at_ms)
            .max()
            .unwrap_or_default();
        let settled = healed + bounds.heal_ms_max - self.clock.now_ms();
        sleep(Duration::from_millis(u64::try_from(settled.max(0))? + 500)).await;
        // Not demanded here: what has not ended, the checker judges.
        let leader = self.cluster.leader().await?;
        let ended = eventually("everything due has ended", SETTLE_LIMIT, async || {
            let status = self.cluster.nodes[leader].status().await?;
            ensure!(
                status.ready + status.running == 0,
                "{} ready, {} running",
                status.ready,
                status.running
            );
            Ok(())
        });
        if let Err(error) = ended.await {
            eprintln!("{label}: {error:#}");
        }
        let mut replicas = Vec::new();
        let mut nodes = Vec::new();
        for node in self.cluster.nodes.iter_mut().filter(|node| node.runs()) {
            node.still_runs()?;
            let node = &*node;
            // On a busy machine an election may come between.
            let read = eventually("the tables of a node", READ_LIMIT, async || {
                read::replica(node, &self.clock).await
            });
            replicas.push(read.await?);
            nodes.push(node.name.clone());
        }
        self.measured
            .wrongs
            .extend(self.recorder.nonsense().into_iter().take(20));
        let history = History {
            format: FORMAT,
            label: label.to_owned(),
            seed: self.seed,
            bounds,
            started_at_ms: self.started_at_ms,
            processes: self.recorder.processes(),
            ended_at_ms: self.clock.now_ms(),
            nodes,
            tasks,
            intended: intended.to_vec(),
            faults: std::mem::take(&mut self.faults),
            replicas,
            operations,
        };
        Ok((history, std::mem::take(&mut self.measured)))
    }

    /// Copies the logs of all nodes into a folder.
    ///
    /// # Errors
    /// They cannot be read, or there is no room.
    pub(super) fn keep_logs(&self, folder: &Path, label: &str) -> Result<()> {
        for node in self.cluster.nodes.iter().filter(|node| node.log_path().exists()) {
            std::fs::copy(node.log_path(), folder.join(format!("{label}-{}.log", node.name)))?;
        }
        Ok(())
    }
}

/// How long runs took to start again that were under way when their worker died: those whose leader lived, and those whose leader died too.
/// Deaths that another fault followed say nothing: a new leader starts all leases in full.
pub(super) fn restarts(processes: &[Process], deaths: &[Death], faults: &[Fault]) -> (Vec<u64>, Vec<u64>) {
    /// What a node leaves behind is killed within this.
    const KILLED_MS: i64 = 3000;
    /// Longer than a lease and an election.
    const ALONE_MS: i64 = 13_000;
    let alone = |death: &&Death| {
        let after = death.at_ms + 1..death.at_ms + ALONE_MS;
        !faults.iter().any(|fault| after.contains(&fault.applied_at_ms))
    };
    let deaths: Vec<&Death> = deaths.iter().filter(alone).collect();
    let mut by_run: BTreeMap<&str, Vec<&Process>> = BTreeMap::new();
    for process in processes {
        by_run.entry(&process.run).or_default().push(process);
    }
    let (mut alone, mut with_leader) = (Vec::new(), Vec::new());
    for attempts in by_run.values_mut() {
        attempts.sort_by_key(|process| process.started_at_ms);
        for pair in attempts.windows(2) {
            let Some(ended) = pair[0].ended_at_ms.filter(|_| pair[0].exit_code.is_none()) else {
                continue;
            };
            let killed = |death: &&&Death| (death.at_ms..death.at_ms + KILLED_MS).contains(&ended);
            let Some(death) = deaths.iter().find(killed) else {
                continue;
            };
            let ms = u64::try_from(pair[1].started_at_ms - death.at_ms).unwrap_or(0);
            if death.with_leader {
                with_leader.push(ms)
            } else {
                alone.push(ms)
            }
        }
    }
    (alone, with_leader)
}
