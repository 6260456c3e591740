//! Load on a cluster, and what it cost: shared by `load`, `bench` and the tests that hold the figures down.

mod enqueue;
mod lateness;

pub use enqueue::{Arrival, Enqueue, Way};
pub use lateness::Lateness;

use crate::procfs;
use crate::stats::Summary;
use anyhow::Result;
use serde::Serialize;
use std::time::Instant;

/// What one run of a load gave. Printed as one line of JSON.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// What was done.
    pub name: String,
    /// For how long, without the warm-up.
    pub seconds: f64,
    /// What succeeded.
    pub ops: u64,
    /// What did not.
    pub errors: u64,
    /// The last of the errors.
    pub last_error: Option<String>,
    /// Successes per second.
    pub ops_per_second: f64,
    /// How long each took, or how late it was.
    pub latency: Summary,
    /// What it cost.
    #[serde(flatten)]
    pub cost: Cost,
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            name,
            ops_per_second,
            latency,
            errors,
            cost,
            ..
        } = self;
        write!(f, "{name}: {ops_per_second:.0}/s, {latency}, {errors} errors, {cost}")?;
        if let Some(error) = &self.last_error {
            write!(f, "; last error: {error}")?;
        }
        Ok(())
    }
}

/// Processor time and memory.
#[derive(Clone, Debug, Serialize)]
pub struct Cost {
    /// Processor time of the nodes per success, in microseconds.
    pub nodes_us_per_op: f64,
    /// Processor time of the generator per success, in microseconds.
    pub generator_us_per_op: f64,
    /// Cores kept busy by the nodes.
    pub nodes_cores: f64,
    /// Cores kept busy by neither nodes nor generator: above some tenths, the figures are those of a disturbed machine.
    pub foreign_cores: f64,
    /// Bytes that the nodes wrote to disk per success.
    pub written_per_op: f64,
    /// Memory of each node at the end, in MiB.
    pub resident_mib: Vec<f64>,
    /// The most memory that any node ever had, in MiB.
    pub peak_resident_mib: f64,
}

impl std::fmt::Display for Cost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            nodes_us_per_op,
            generator_us_per_op,
            foreign_cores,
            peak_resident_mib: largest,
            ..
        } = self;
        write!(
            f,
            "CPU per op {nodes_us_per_op:.0} µs in nodes and {generator_us_per_op:.0} µs in the generator, "
        )?;
        write!(
            f,
            "{foreign_cores:.2} cores used by others, {largest:.0} MiB in the largest node"
        )
    }
}

/// Reads the meters at the start of a measurement.
#[derive(Debug)]
pub struct Meter {
    pids: Vec<u32>,
    start: Instant,
    written: f64,
    nodes: f64,
    generator: f64,
    machine: f64,
}

impl Meter {
    /// Reads them for the first time.
    ///
    /// # Errors
    /// The kernel does not tell.
    pub fn start(pids: &[u32]) -> Result<Self> {
        Ok(Self {
            pids: pids.to_vec(),
            start: Instant::now(),
            written: procfs::written_bytes_of(pids),
            nodes: procfs::cpu_seconds_of(pids),
            generator: procfs::cpu_seconds(std::process::id())?,
            machine: procfs::machine_busy_seconds()?,
        })
    }

    /// Reads them again; returns the seconds between and the cost of each of `ops`.
    ///
    /// # Errors
    /// The kernel does not tell.
    pub fn stop(&self, ops: u64) -> Result<(f64, Cost)> {
        let seconds = self.start.elapsed().as_secs_f64();
        let nodes = procfs::cpu_seconds_of(&self.pids) - self.nodes;
        let generator = procfs::cpu_seconds(std::process::id())? - self.generator;
        let machine = procfs::machine_busy_seconds()? - self.machine;
        let per_op = 1e6 / ops.max(1) as f64;
        let cost = Cost {
            nodes_us_per_op: nodes * per_op,
            generator_us_per_op: generator * per_op,
            nodes_cores: nodes / seconds,
            foreign_cores: ((machine - nodes - generator) / seconds).max(0.0),
            written_per_op: (procfs::written_bytes_of(&self.pids) - self.written) / ops.max(1) as f64,
            peak_resident_mib: self
                .pids
                .iter()
                .filter_map(|pid| procfs::peak_resident_mib(*pid).ok())
                .fold(0.0, f64::max),
            resident_mib: self
                .pids
                .iter()
                .filter_map(|pid| procfs::resident_mib(*pid).ok())
                .collect(),
        };
        Ok((seconds, cost))
    }
}
