//! What is done to the cluster, and how it is known to have happened.

use super::net::Link;
use super::watch;
use super::world::{Death, World};
use crate::checker::{Evidence, EvidenceKind, Fault, FaultKind};
use crate::{eventually, procfs};
use anyhow::{Context, Result, ensure};
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::Duration;
use tokio::time::Instant;

/// A process that was killed, or whose disk failed, has ended within this.
const END_LIMIT: Duration = Duration::from_secs(20);
/// Something that must be seen is seen within this.
const SEEN_LIMIT: Duration = Duration::from_secs(15);

/// A fault that was begun: its place in the log.
#[derive(Clone, Copy, Debug)]
pub(super) struct Begun(usize);

impl World {
    /// Notes that a fault begins.
    pub(super) fn begin(&mut self, kind: FaultKind, target: impl Into<String>) -> Begun {
        self.faults.push(Fault {
            kind,
            target: target.into(),
            applied_at_ms: self.clock.now_ms(),
            healed_at_ms: None,
            evidence: Vec::new(),
        });
        Begun(self.faults.len() - 1)
    }

    /// Notes what was seen of it.
    pub(super) fn seen(&mut self, fault: Begun, kind: EvidenceKind, detail: impl Into<String>) {
        let at_ms = self.clock.now_ms();
        self.faults[fault.0].evidence.push(Evidence {
            at_ms,
            kind,
            detail: detail.into(),
        });
    }

    /// Notes that it is over.
    pub(super) fn healed(&mut self, fault: Begun) {
        self.faults[fault.0].healed_at_ms = Some(self.clock.now_ms());
    }

    /// The names of nodes, for people.
    pub(super) fn names(&self, nodes: &[usize]) -> String {
        let names: Vec<&str> = nodes
            .iter()
            .map(|node| self.cluster.nodes[*node].name.as_str())
            .collect();
        names.join(",")
    }

    /// Kills nodes with SIGKILL. `leader` is who led.
    ///
    /// # Errors
    /// One does not run, or does not die.
    pub(super) async fn kill(&mut self, nodes: &[usize], leader: usize) -> Result<(Begun, Instant)> {
        let fault = self.begin(FaultKind::Kill, self.names(nodes));
        let since = Instant::now();
        let at_ms = self.clock.now_ms();
        for node in nodes {
            self.cluster.nodes[*node].signal(rustix::process::Signal::KILL)?;
        }
        for node in nodes {
            let status = self.cluster.ended(*node, END_LIMIT).await?;
            ensure!(
                status.signal() == Some(9),
                "{} ended with {status}, not by SIGKILL",
                self.names(&[*node])
            );
            let detail = format!("{}: {status}", self.names(&[*node]));
            self.seen(fault, EvidenceKind::ProcessEnded, detail);
        }
        self.measured.deaths.push(Death {
            at_ms,
            with_leader: nodes.contains(&leader),
        });
        Ok((fault, since))
    }

    /// Starts nodes that were killed or have stopped, and waits until they are members again that are reached.
    ///
    /// # Errors
    /// One does not come back.
    pub(super) async fn restart(&mut self, fault: Begun, nodes: &[usize]) -> Result<()> {
        for node in nodes {
            self.cluster.start(*node)?;
        }
        self.cluster.ready().await?;
        self.healed(fault);
        Ok(())
    }

    /// Freezes a node.
    ///
    /// # Errors
    /// It does not run, or does not stop.
    pub(super) async fn stop(&mut self, node: usize) -> Result<(Begun, Instant)> {
        let fault = self.begin(FaultKind::Stop, self.names(&[node]));
        let since = Instant::now();
        self.cluster.sigstop(node)?;
        let pid = self.cluster.nodes[node].pid()?;
        let state = eventually("the process is stopped", SEEN_LIMIT, async || {
            let state = procfs::state(pid)?;
            ensure!(state == 'T', "it is {state}");
            Ok(state)
        })
        .await?;
        let detail = format!("{}: /proc/{pid}/stat says {state}", self.names(&[node]));
        self.seen(fault, EvidenceKind::ProcessStopped, detail);
        Ok((fault, since))
    }

    /// Thaws a node and waits until it follows again.
    ///
    /// # Errors
    /// It does not come back.
    pub(super) async fn thaw(&mut self, fault: Begun, node: usize) -> Result<()> {
        self.cluster.sigcont(node)?;
        self.cluster.ready().await?;
        self.healed(fault);
        Ok(())
    }

    /// Cuts links.
    ///
    /// # Errors
    /// The firewall does not take it.
    pub(super) fn cut(&mut self, shape: &str, links: &[Link]) -> Result<(Begun, Instant)> {
        let fault = self.begin(FaultKind::Partition, shape);
        let since = Instant::now();
        self.network.cut(links)?;
        Ok((fault, since))
    }

    /// Counts what the cut has dropped, and makes the network whole.
    ///
    /// # Errors
    /// The firewall does not tell, or the cluster does not come back.
    pub(super) async fn mend(&mut self, fault: Begun) -> Result<()> {
        let packets = self.network.cut_packets()?;
        // Without a packet it was no cut: the history is rejected.
        if packets > 0 {
            self.seen(
                fault,
                EvidenceKind::TrafficBlocked,
                format!("{packets} packets dropped"),
            );
        }
        self.network.mend()?;
        self.cluster.ready().await?;
        self.healed(fault);
        Ok(())
    }

    /// Sets the wall clock of one node.
    ///
    /// # Errors
    /// It does not take effect.
    pub(super) async fn set_clock(&mut self, node: usize, ahead_ms: i64) -> Result<Begun> {
        let before = self.shims[node].clock_reads()?;
        let fault = self.begin(
            FaultKind::ClockJump,
            format!("{} by {ahead_ms} ms", self.names(&[node])),
        );
        self.shims[node].set_clock(ahead_ms)?;
        let (shim, running) = (&self.shims[node], &self.cluster.nodes[node]);
        let (reads, says) = eventually("the node reads the other clock", SEEN_LIMIT, async || {
            let reads = shim.clock_reads()? - before;
            ensure!(reads > 0, "it has not read its wall clock");
            Ok((reads, watch::own_status(running).await?.now_unix_ms))
        })
        .await?;
        // A leader's time is not its wall clock: it keeps the one its term began with.
        let off = says - self.clock.now_ms();
        let detail = format!("{reads} readings of the other clock; the node says a time that is {off} ms off");
        self.seen(fault, EvidenceKind::ClockOffset, detail);
        Ok(fault)
    }

    /// Waits until a node has stopped itself, and checks that it says why and what to do.
    ///
    /// # Errors
    /// It goes on, or panicked, or does not say one of `words`.
    pub(super) async fn stops_itself(
        &mut self,
        node: usize,
        log_from: usize,
        words: &[&str],
    ) -> Result<(ExitStatus, String)> {
        let status = self.cluster.ended(node, END_LIMIT).await?;
        let log = self.cluster.nodes[node].log()?;
        let said = log.get(log_from..).context("a log only grows")?.to_owned();
        let name = self.names(&[node]);
        ensure!(
            !status.success(),
            "{name} ended with {status}, as if nothing were wrong"
        );
        ensure!(!said.contains("panicked at"), "{name} panicked:\n{said}");
        let found = words.iter().any(|word| said.contains(word));
        ensure!(found, "{name} ended with {status} and said none of {words:?}:\n{said}");
        Ok((status, said))
    }
}
