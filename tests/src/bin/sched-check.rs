//! Judges saved histories again: `sched-check FILE…`, as the chaos runs save them when something was wrong.
//!
//! Exit status: 0 all passed, 1 one was accused, 2 one could not be read, 3 one proves nothing.
#![forbid(unsafe_code)]

use anyhow::{Context, Result};
use clap::Parser;
use sched_tests::checker::{self, History, Report, Verdict};
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Judges saved histories of runs under faults.
#[derive(Parser)]
struct Arguments {
    /// Histories in JSON.
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// Print reports as JSON, one a line.
    #[arg(long)]
    json: bool,
}

fn judge(file: &Path) -> Result<Report> {
    let opened = std::fs::File::open(file).with_context(|| format!("{}", file.display()))?;
    let history: History =
        serde_json::from_reader(BufReader::new(opened)).with_context(|| format!("{} is no history", file.display()))?;
    Ok(checker::check(&history))
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let mut worst = 0;
    for file in &arguments.files {
        match judge(file) {
            Ok(report) => {
                if arguments.json {
                    println!(
                        "{}",
                        serde_json::json!({ "file": file, "verdict": report.verdict(), "report": report })
                    );
                } else {
                    println!("{}: {report}", file.display());
                }
                // What was done wrong outweighs what could not be judged.
                let status = match report.verdict() {
                    Verdict::Accused => 1,
                    Verdict::Rejected => 3,
                    Verdict::Passed => 0,
                };
                worst = if worst == 1 || status == 1 {
                    1
                } else {
                    status.max(worst)
                };
            }
            Err(error) => {
                eprintln!("sched-check: {error:#}");
                worst = if worst == 1 { 1 } else { 2 };
            }
        }
    }
    ExitCode::from(worst)
}
