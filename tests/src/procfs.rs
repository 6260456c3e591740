//! What the kernel knows about processes: processor time and memory.

use anyhow::{Context, Result};

/// Linux counts processor time in hundredths of a second on every architecture it has today.
const TICKS_PER_SECOND: f64 = 100.0;

/// Returns the processor time of a process, all its threads, in seconds.
///
/// # Errors
/// There is no such process.
pub fn cpu_seconds(pid: u32) -> Result<f64> {
    let path = format!("/proc/{pid}/stat");
    let text = std::fs::read_to_string(&path).with_context(|| path.clone())?;
    // The second field is the program's name in brackets, which may contain anything.
    let (_, rest) = text.rsplit_once(") ").with_context(|| format!("{path}: no name"))?;
    let ticks = |index: usize| {
        rest.split_whitespace()
            .nth(index)
            .and_then(|field| field.parse::<f64>().ok())
    };
    let (user, system) = ticks(11).zip(ticks(12)).with_context(|| format!("{path}: no times"))?;
    Ok((user + system) / TICKS_PER_SECOND)
}

/// Returns the state of a process as one letter: `R` runs, `S` sleeps, `T` is stopped, `Z` has ended.
///
/// # Errors
/// There is no such process.
pub fn state(pid: u32) -> Result<char> {
    let path = format!("/proc/{pid}/stat");
    let text = std::fs::read_to_string(&path).with_context(|| path.clone())?;
    let (_, rest) = text.rsplit_once(") ").with_context(|| format!("{path}: no name"))?;
    rest.chars().next().with_context(|| format!("{path}: no state"))
}

/// Returns the processor time of several processes; those that are gone count nothing.
pub fn cpu_seconds_of(pids: &[u32]) -> f64 {
    pids.iter().filter_map(|pid| cpu_seconds(*pid).ok()).sum()
}

/// Returns the resident memory of a process in MiB.
///
/// # Errors
/// There is no such process.
pub fn resident_mib(pid: u32) -> Result<f64> {
    Ok(number(&format!("/proc/{pid}/status"), "VmRSS:")? / 1024.0)
}

/// Returns the most memory that a process ever had resident, in MiB.
///
/// # Errors
/// There is no such process.
pub fn peak_resident_mib(pid: u32) -> Result<f64> {
    Ok(number(&format!("/proc/{pid}/status"), "VmHWM:")? / 1024.0)
}

/// Returns the bytes that several processes have caused to be written to disk; those that are gone count nothing.
pub fn written_bytes_of(pids: &[u32]) -> f64 {
    let written = |pid: &u32| number(&format!("/proc/{pid}/io"), "write_bytes:").ok();
    pids.iter().filter_map(written).sum()
}

/// Reads the number behind a name in one of the kernel's tables.
fn number(path: &str, name: &str) -> Result<f64> {
    let text = std::fs::read_to_string(path).with_context(|| path.to_owned())?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(name))
        .with_context(|| format!("{path}: no {name}"))?;
    let number = line.split_whitespace().next().unwrap_or_default();
    number.parse().with_context(|| format!("{path}: {name}{line}"))
}

/// Returns the processor time that the whole machine has spent working, in seconds.
///
/// # Errors
/// `/proc/stat` cannot be read.
pub fn machine_busy_seconds() -> Result<f64> {
    let text = std::fs::read_to_string("/proc/stat").context("/proc/stat")?;
    let line = text.lines().next().context("/proc/stat is empty")?;
    let fields: Vec<f64> = line
        .split_whitespace()
        .skip(1)
        .filter_map(|field| field.parse().ok())
        .collect();
    // user, nice, system, irq, softirq; idle, iowait and what guests are charged for twice are left out.
    let busy = [0, 1, 2, 5, 6]
        .iter()
        .filter_map(|index| fields.get(*index))
        .sum::<f64>();
    Ok(busy / TICKS_PER_SECOND)
}
