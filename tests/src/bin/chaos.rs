//! Real processes under real faults, for as long as asked: `make chaos MINUTES=N`. Prints a table and writes `target/chaos/*.json`.
#![forbid(unsafe_code)]

use anyhow::{Context, Result, bail, ensure};
use clap::Parser;
use sched_tests::binaries;
use sched_tests::chaos::{self, Figures, MIXES, Mix, Outcome, sandbox};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// Runs scenarios of faults and judges what came of them.
#[derive(Parser)]
struct Flags {
    /// How long in all: every scenario in turn, again and again.
    #[arg(long)]
    minutes: Option<u64>,
    /// Which scenarios [default: all].
    #[arg(long, value_delimiter = ',')]
    mixes: Vec<String>,
    /// Seconds of load of each scenario.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Repeats the choices of a run; its timing is the machine's.
    #[arg(long)]
    seed: Option<u64>,
    /// Lists the scenarios.
    #[arg(long)]
    list: bool,
}

fn main() -> Result<ExitCode> {
    let flags = Flags::parse();
    if flags.list {
        for mix in MIXES {
            println!("{:<10} {}", mix.name, mix.about);
        }
        return Ok(ExitCode::SUCCESS);
    }
    sandbox::possible()?;
    if sandbox::is_inside() {
        return inside(&flags);
    }
    Ok(if all(&flags)? {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Runs the one scenario that was asked for and leaves its outcome in a file.
fn inside(flags: &Flags) -> Result<ExitCode> {
    let (mixes, seed, folder) = (
        chosen(&flags.mixes)?,
        flags.seed.context("inside, --seed is given")?,
        folder()?,
    );
    let [mix] = mixes.as_slice() else {
        bail!("inside, one scenario is given");
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let outcome = runtime.block_on(chaos::run(mix, Duration::from_secs(flags.seconds), seed, &folder))?;
    std::fs::write(outcome_file(&folder, mix, seed), serde_json::to_vec(&outcome)?)?;
    Ok(ExitCode::SUCCESS)
}

fn outcome_file(folder: &Path, mix: &Mix, seed: u64) -> PathBuf {
    folder.join(format!("{}-{seed}.json", mix.name))
}

/// Runs every scenario in turn until time is up, each at least once, and each in a sandbox of its own.
fn all(flags: &Flags) -> Result<bool> {
    let (mixes, folder) = (chosen(&flags.mixes)?, folder()?);
    let (start, limit) = (Instant::now(), Duration::from_secs(60 * flags.minutes.unwrap_or(0)));
    let first_seed = flags.seed.unwrap_or_else(|| rand::random::<u32>().into());
    let mut figures = Figures::default();
    let mut broken = Vec::new();
    for round in 0.. {
        if round > 0 && start.elapsed() >= limit {
            break;
        }
        for mix in &mixes {
            let seed = first_seed.wrapping_add(round);
            eprintln!("{}: {} (seed {seed})", mix.name, mix.about);
            match one(mix, seed, flags.seconds, &folder) {
                Ok(outcome) => {
                    told(&outcome);
                    figures.outcomes.push(outcome);
                }
                Err(error) => broken.push(format!("{} with seed {seed}: {error:#}", mix.name)),
            }
        }
    }
    let name = match mixes.as_slice() {
        [mix] => mix.name,
        _ => "all",
    };
    let file = folder.join(format!("{name}.json"));
    std::fs::write(&file, serde_json::to_string_pretty(&figures)?).with_context(|| file.display().to_string())?;
    println!("\n{}", figures.table());
    broken.iter().for_each(|broken| println!("BROKEN: {broken}"));
    eprintln!("written: {}", file.display());
    Ok(broken.is_empty() && figures.kept())
}

fn one(mix: &Mix, seed: u64, seconds: u64, folder: &Path) -> Result<Outcome> {
    let file = outcome_file(folder, mix, seed);
    // One of an earlier run must not pass for this one's.
    if file.exists() {
        std::fs::remove_file(&file)?;
    }
    let arguments = [
        "--mixes",
        mix.name,
        "--seed",
        &seed.to_string(),
        "--seconds",
        &seconds.to_string(),
    ];
    let status = sandbox::enter(&arguments.map(str::to_owned))?;
    ensure!(status.success(), "ended with {status}, see above");
    let outcome = std::fs::read(&file).with_context(|| file.display().to_string())?;
    std::fs::remove_file(&file)?;
    Ok(serde_json::from_slice(&outcome)?)
}

fn chosen(names: &[String]) -> Result<Vec<Mix>> {
    let unknown: Vec<_> = names
        .iter()
        .filter(|name| MIXES.iter().all(|mix| mix.name != **name))
        .collect();
    ensure!(unknown.is_empty(), "no such scenario: {unknown:?}; --list shows them");
    let wanted = |mix: &Mix| names.is_empty() || names.iter().any(|name| name == mix.name);
    Ok(MIXES.into_iter().filter(wanted).collect())
}

fn folder() -> Result<PathBuf> {
    let build = binaries::folder()?;
    let folder = build.parent().context("the build folder has a parent")?.join("chaos");
    std::fs::create_dir_all(&folder)?;
    Ok(folder)
}

fn told(outcome: &Outcome) {
    eprintln!("{}: {}", outcome.mix, outcome.report);
    for wrong in outcome.wrongs.iter().take(20) {
        eprintln!("{}: wrong: {wrong}", outcome.mix);
    }
}
