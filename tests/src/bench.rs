//! The benchmark: every row of `docs/benchmarks.md`, each on a cluster of its own, so that none pays for the one before.
//!
//! A row says what was measured, with what setting, what it should reach and what it did. Everything runs on this machine: the nodes,
//! the load and the measuring share its cores, and `foreign_cores` says how much somebody else took. Only quiet rows may be quoted.

mod cycle;
mod due;
mod enqueue;
mod gap;
mod growth;
mod lists;
mod overload;
mod plot;
mod queue;
mod row;

pub use plot::{Curve, Plot};
pub use row::{Figure, Row};

use crate::load::{Report, Way};
use anyhow::{Result, bail};
use std::time::Duration;

/// How much is measured.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Of each measurement.
    pub duration: Duration,
    /// Repetitions where the median counts.
    pub rounds: usize,
    /// Tasks in a long queue.
    pub queue: usize,
    /// Tasks that are due in one second.
    pub burst: usize,
    /// For how long tasks recur.
    pub recurring: Duration,
    /// The longest queue of the curve.
    pub growth: usize,
}

/// The parts of the benchmark, by the name that selects them.
pub const PARTS: [&str; 10] = [
    "enqueue",
    "cycle",
    "lateness",
    "burst",
    "recurring",
    "queue",
    "lists",
    "failover",
    "overload",
    "growth",
];

impl Settings {
    /// One short measurement of each.
    pub fn short(duration: Duration) -> Self {
        Self {
            duration,
            rounds: 1,
            queue: 10_000,
            burst: 10_000,
            recurring: duration,
            growth: 10_000,
        }
    }
}

/// Measures what others are compared with, on a fresh cluster: enqueues in the given way, or the full cycle of `sample` tasks.
///
/// # Errors
/// The cluster does not form, or refuses.
pub async fn ours(settings: &Settings, callers: usize, way: Option<Way>) -> Result<Report> {
    match way {
        Some(way) => enqueue::closed(settings, callers, way).await,
        None => cycle::of_samples(settings, callers as u64).await,
    }
}

/// What a part gave.
#[derive(Debug, Default)]
pub struct Measured {
    /// Its rows.
    pub rows: Vec<Row>,
    /// Its curves.
    pub plots: Vec<Plot>,
}

impl From<Vec<Row>> for Measured {
    fn from(rows: Vec<Row>) -> Self {
        Self {
            rows,
            plots: Vec::new(),
        }
    }
}

/// Measures one part.
///
/// # Errors
/// There is no such part, or the cluster did not do what is to be measured.
pub async fn measure(part: &str, settings: &Settings) -> Result<Measured> {
    match part {
        "enqueue" => enqueue::rows(settings).await.map(Measured::from),
        "cycle" => cycle::rows(settings).await.map(Measured::from),
        "lateness" => due::lateness(settings).await.map(Measured::from),
        "burst" => due::burst(settings).await.map(Measured::from),
        "recurring" => due::recurring(settings).await.map(Measured::from),
        "queue" => queue::rows(settings).await.map(Measured::from),
        "lists" => lists::rows(settings).await.map(Measured::from),
        "failover" => gap::rows(settings).await.map(Measured::from),
        "overload" => overload::rows(settings).await.map(Measured::from),
        "growth" => growth::measure(settings).await,
        other => bail!(
            "{other:?} is no part of the benchmark; expected some of {}",
            PARTS.join(", ")
        ),
    }
}
