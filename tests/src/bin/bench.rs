//! Measures what README promises, on three nodes on this machine with every write synced, and writes `target/bench.json`.
//!
//! Quote a figure only when `foreign_cores` beside it is small: the nodes, the load and the measuring share this machine.
#![forbid(unsafe_code)]

use anyhow::{Context, Result};
use clap::Parser;
use sched_tests::figures::{self, Restart};
use sched_tests::load::Report;
use sched_tests::{Cluster, Plan, binaries};
use serde::Serialize;
use std::time::Duration;

/// Measures the figures in README.
#[derive(Parser)]
struct Flags {
    /// Seconds of each measurement.
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Repetitions of each measurement of enqueues; the median counts.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Tasks in the queue when nodes are restarted.
    #[arg(long, default_value_t = 100_000)]
    tasks: usize,
}

#[derive(Serialize)]
struct Results {
    cores: usize,
    enqueues: Vec<Report>,
    lateness: Report,
    restart: Restart,
}

// One thread: the load shares the machine with what it measures.
#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let flags = Flags::parse();
    let duration = Duration::from_secs(flags.seconds);
    let mut enqueues = Vec::new();
    for (name, way) in figures::ways() {
        // A cluster of its own for each: a log that is being compacted for the one before would disturb it.
        let cluster = Cluster::new(Plan::nodes(3)).await?;
        let mut rounds = Vec::new();
        for _ in 0..flags.rounds.max(1) {
            let report = figures::enqueue(&cluster, name, way, duration).await?;
            eprintln!("{report}");
            rounds.push(report);
        }
        rounds.sort_by(|a, b| a.ops_per_second.total_cmp(&b.ops_per_second));
        enqueues.push(rounds.swap_remove(rounds.len() / 2));
    }
    let cluster = Cluster::new(Plan::nodes(3)).await?;
    let lateness = figures::lateness(&cluster, duration * 3).await?;
    eprintln!("{lateness}");
    drop(cluster);
    let mut cluster = Cluster::new(Plan::nodes(3)).await?;
    let restart = figures::restart(&mut cluster, flags.tasks).await?;
    drop(cluster);
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    finish(&Results {
        cores,
        enqueues,
        lateness,
        restart,
    })
}

/// Prints the table and writes the file.
fn finish(results: &Results) -> Result<()> {
    let Results {
        cores,
        enqueues,
        lateness,
        restart,
    } = results;
    println!(
        "Measured on {cores} cores for everything: three nodes with every write synced, the load, the measuring.\n"
    );
    println!("| what | at least | measured |\n|---|---|---|");
    for report in enqueues {
        let (name, rate, p99) = (&report.name, report.ops_per_second, report.latency.p99_ms);
        let us = report.cost.nodes_us_per_op;
        println!(
            "| {name}, {} under way, {} bytes | 10,000/s | {rate:.0}/s, p99 {p99:.1} ms, {us:.0} µs of CPU each |",
            figures::WRITERS,
            figures::PAYLOAD
        );
    }
    let (p50, p99) = (lateness.latency.p50_ms, lateness.latency.p99_ms);
    println!(
        "| {} | p99 at most 50 ms | p50 {p50:.0} ms, p99 {p99:.0} ms |",
        lateness.name
    );
    let Restart {
        tasks,
        follower_seconds,
        leader_seconds,
        all_seconds,
    } = restart;
    println!(
        "| restart with {tasks} queued tasks, until it serves | 5 s | follower {follower_seconds:.1} s, leader {leader_seconds:.1} s, all three at once {all_seconds:.1} s |"
    );
    let folder = binaries::folder()?;
    let file = folder.parent().context("target/debug has a parent")?.join("bench.json");
    std::fs::write(&file, serde_json::to_string_pretty(results)?)
        .with_context(|| format!("writing {}", file.display()))?;
    eprintln!("written: {}", file.display());
    Ok(())
}
