//! Lets a cluster work for a long time under kills and frequent snapshots: `make soak MINUTES=30`. Prints a table and writes `target/soak.json`.
#![forbid(unsafe_code)]

use anyhow::{Context, Result};
use clap::Parser;
use sched_tests::binaries;
use sched_tests::soak::{self, Soaked};
use sched_tests::wait::unless_ended;
use std::process::ExitCode;
use std::time::Duration;

/// Resident memory may grow by so many percent of its mean in an hour, after the warm-up.
const RESIDENT_SLOPE_MAX: f64 = 2.0;
/// Open files may differ by so many: connections come and go with the nodes that are killed.
const FILES_RANGE_MAX: f64 = 40.0;
/// The data folder may be so many times as large as at its smallest: logs are purged and tables compacted in steps.
const DISK_RATIO_MAX: f64 = 3.0;

/// Looks for what grows while a cluster works.
#[derive(Parser)]
struct Flags {
    /// How long.
    #[arg(long, default_value_t = 30)]
    minutes: u64,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<ExitCode> {
    unless_ended(run(Flags::parse())).await
}

async fn run(flags: Flags) -> Result<ExitCode> {
    let soaked = soak::soak(Duration::from_secs(60 * flags.minutes)).await?;
    let file = binaries::folder()?
        .parent()
        .context("the build folder has a parent")?
        .join("soak.json");
    std::fs::write(&file, serde_json::to_vec(&soaked)?).with_context(|| file.display().to_string())?;
    eprintln!("written: {}", file.display());
    Ok(if told(&soaked) {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Prints the table; returns whether everything is within its bounds.
fn told(soaked: &Soaked) -> bool {
    let (slope, error) = soaked.slope_percent_per_hour(|look| look.resident_mib);
    let resident = soaked.range(|look| look.resident_mib);
    let files = soaked.range(|look| look.files as f64);
    let disk = soaked.range(|look| look.disk_mib);
    println!(
        "{} minutes, {} kills, {} snapshots; {} one-shots acknowledged, {} calls failed; {} runs kept as finished, {} as failed",
        (soaked.looks.last().map_or(0.0, |look| look.at_s) / 60.0).round(),
        soaked.kills,
        soaked.snapshots,
        soaked.acknowledged,
        soaked.failed,
        soaked.finished,
        soaked.runs_failed,
    );
    let rows = [
        (
            "resident memory of the node that is never killed",
            format!("grows by at most {RESIDENT_SLOPE_MAX} % an hour"),
            format!(
                "{slope:.1} ± {error:.1} % an hour, {:.0} to {:.0} MiB",
                resident.0, resident.1
            ),
            slope <= RESIDENT_SLOPE_MAX,
        ),
        (
            "its open files",
            format!("within {FILES_RANGE_MAX}"),
            format!("{:.0} to {:.0}", files.0, files.1),
            files.1 - files.0 <= FILES_RANGE_MAX,
        ),
        (
            "its data folder",
            format!("at most {DISK_RATIO_MAX} times its least"),
            format!("{:.1} to {:.1} MiB", disk.0, disk.1),
            disk.1 <= disk.0 * DISK_RATIO_MAX,
        ),
        (
            "calls that failed in 30 s",
            "0".to_owned(),
            soaked.failed.to_string(),
            soaked.failed == 0,
        ),
        (
            "runs that failed",
            "0".to_owned(),
            soaked.runs_failed.to_string(),
            soaked.runs_failed == 0,
        ),
    ];
    println!("\n| what | promised | measured |\n|---|---|---|");
    for (what, promised, measured, kept) in &rows {
        let miss = if *kept { "" } else { " (**missed**)" };
        println!("| {what} | {promised} | {measured}{miss} |");
    }
    rows.iter().all(|(.., kept)| *kept)
}
