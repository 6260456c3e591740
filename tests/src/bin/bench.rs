//! Measures every row of `docs/benchmarks.md` on this machine, with every write synced; prints the table and writes `target/bench.json`.
//!
//! Quote a row only when its `foreign cores` are few: the nodes, the load and the measuring share this machine.
#![forbid(unsafe_code)]

use anyhow::{Context, Result, ensure};
use clap::Parser;
use sched_tests::bench::{self, Measured, PARTS, Row, Settings};
use sched_tests::binaries;
use sched_tests::wait::unless_ended;
use serde::Serialize;
use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// Measures the rows of docs/benchmarks.md.
///
/// Examples: bench; bench --parts enqueue,cycle --seconds 5; bench --full --docs
#[derive(Parser)]
struct Flags {
    /// Parts to measure, separated by commas: enqueue, cycle, lateness, burst, recurring, queue, lists, failover, overload, growth.
    #[arg(long, value_delimiter = ',')]
    parts: Vec<String>,
    /// Seconds of each measurement.
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Repetitions of each measurement whose median counts.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Tasks in the long queue; 1,000,000 with --full.
    #[arg(long)]
    tasks: Option<usize>,
    /// Ten minutes of recurring tasks, a million queued, a curve up to ten million: about an hour.
    #[arg(long)]
    full: bool,
    /// Write docs/benchmarks.md and its pictures from what was measured.
    #[arg(long)]
    docs: bool,
}

#[derive(Serialize)]
struct Results {
    cores: usize,
    commit: String,
    date: String,
    processor: String,
    rows: Vec<Row>,
    plots: Vec<bench::Plot>,
}

// One thread: the load shares the machine with what it measures.
#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    unless_ended(run(Flags::parse())).await
}

async fn run(flags: Flags) -> Result<()> {
    let pick = |short, full| if flags.full { full } else { short };
    let settings = Settings {
        duration: Duration::from_secs(flags.seconds),
        rounds: flags.rounds,
        queue: flags.tasks.unwrap_or(pick(100_000, 1_000_000)),
        burst: pick(20_000, 100_000),
        recurring: Duration::from_secs(if flags.full { 600 } else { 30 }),
        growth: pick(100_000, 10_000_000),
    };
    let parts: Vec<&str> = if flags.parts.is_empty() {
        PARTS.to_vec()
    } else {
        flags.parts.iter().map(String::as_str).collect()
    };
    let unknown = parts.iter().find(|part| !PARTS.contains(*part));
    ensure!(
        unknown.is_none(),
        "--parts: {:?} is none; expected some of {}",
        unknown.unwrap_or(&""),
        PARTS.join(",")
    );
    let mut results = Results {
        cores: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        commit: said("git", &["rev-parse", "--short", "HEAD"]),
        date: said("date", &["-u", "+%F"]),
        processor: processor(),
        rows: Vec::new(),
        plots: Vec::new(),
    };
    let mut failed = Vec::new();
    for part in parts {
        eprintln!("bench: {part}");
        match bench::measure(part, &settings).await {
            Ok(Measured { rows, plots }) => {
                results.rows.extend(rows);
                results.plots.extend(plots);
            }
            // One part that cannot be measured does not cost the figures of the others.
            Err(error) => {
                eprintln!("bench: {part} failed: {error:?}");
                failed.push(part);
            }
        }
    }
    finish(&results, flags.docs)?;
    ensure!(failed.is_empty(), "not measured: {}", failed.join(", "));
    Ok(())
}

fn said(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program)
        .args(arguments)
        .current_dir(binaries::repository())
        .output();
    output.map_or_else(
        |_| "unknown".to_owned(),
        |output| String::from_utf8_lossy(&output.stdout).trim().to_owned(),
    )
}

fn processor() -> String {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = text.lines().find_map(|line| line.strip_prefix("model name"));
    name.map_or_else(
        || "unknown".to_owned(),
        |name| name.trim_start_matches([':', ' ', '\t']).to_owned(),
    )
}

fn table(results: &Results) -> String {
    let Results {
        cores,
        commit,
        date,
        processor,
        rows,
        ..
    } = results;
    let mut text = format!(
        "Measured on {date} at commit {commit}: {cores} cores ({processor}) for everything, the nodes with every write synced, the load, \
         the measuring. *Foreign cores* are those that others used meanwhile.\n\n\
         | what | setting | should reach | measured | beside it | foreign cores |\n|---|---|---|---|---|---|\n"
    );
    for row in rows {
        let _ = writeln!(text, "{}", row.markdown());
    }
    text
}

/// Prints the table and writes the files.
fn finish(results: &Results, docs: bool) -> Result<()> {
    let text = table(results);
    println!("{text}");
    let folder = binaries::folder()?;
    let target = folder.parent().context("target/debug has a parent")?;
    write(&target.join("bench.json"), &serde_json::to_string_pretty(results)?)?;
    for plot in &results.plots {
        write(&target.join(format!("bench-{}.svg", plot.file)), &plot.svg())?;
    }
    if docs {
        let folder = binaries::repository().join("docs");
        for plot in &results.plots {
            write(&folder.join(format!("benchmarks-{}.svg", plot.file)), &plot.svg())?;
        }
        let page = folder.join("benchmarks.md");
        let old = std::fs::read_to_string(&page).with_context(|| page.display().to_string())?;
        let new = between(&old, &text).with_context(|| format!("{}: no marks for the table", page.display()))?;
        write(&page, &new)?;
    }
    Ok(())
}

/// Replaces what stands between the two marks of the page.
fn between(page: &str, table: &str) -> Option<String> {
    const BEGIN: &str = "<!-- Written by `make bench`. -->\n";
    const END: &str = "<!-- End of what `make bench` wrote. -->";
    let (before, rest) = page.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}\n{table}\n{END}{after}"))
}

fn write(path: &Path, text: &str) -> Result<()> {
    std::fs::write(path, text).with_context(|| format!("writing {}", path.display()))?;
    eprintln!("written: {}", path.display());
    Ok(())
}
