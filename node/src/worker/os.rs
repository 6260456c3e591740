//! What a process is given between its birth and its program: the one place that needs unsafe code.
#![allow(
    unsafe_code,
    reason = "`pre_exec` is unsafe: what it runs must be safe between fork and exec, see below"
)]

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use sched_core::task::ProcessLimits;
use std::io;
use tokio::process::Command;

/// Between the polite end of a process that has used up its processor time, and its end by force.
const CPU_GRACE_S: u64 = 2;

/// Makes the process that `command` starts run under `limits`. Its children inherit them, each for itself.
pub(super) fn limit(command: &mut Command, limits: ProcessLimits) {
    if limits == ProcessLimits::default() {
        return;
    }
    // SAFETY: between fork and exec only functions that are safe in a signal handler may be called, since other threads may have held
    // any lock. `apply` makes system calls on copied numbers: it takes no lock and allocates nothing, in failure neither.
    unsafe {
        command.pre_exec(move || apply(limits));
    }
}

fn apply(limits: ProcessLimits) -> io::Result<()> {
    if let Some(seconds) = limits.cpu_s {
        set(Resource::Cpu, seconds, seconds.saturating_add(CPU_GRACE_S))?;
    }
    if let Some(bytes) = limits.memory_bytes {
        set(Resource::As, bytes, bytes)?;
    }
    if let Some(files) = limits.files {
        set(Resource::Nofile, files.into(), files.into())?;
    }
    Ok(())
}

/// Sets a limit, but none above what the worker itself has: only root could, and it would be no limit.
fn set(resource: Resource, soft: u64, hard: u64) -> io::Result<()> {
    let most = getrlimit(resource).maximum.unwrap_or(u64::MAX);
    let limit = Rlimit {
        current: Some(soft.min(most)),
        maximum: Some(hard.min(most)),
    };
    Ok(setrlimit(resource, limit)?)
}
