//! What a process is given between its birth and its program, and what its supervisor lets go of: the one place that needs unsafe code.
#![allow(
    unsafe_code,
    reason = "`pre_exec` and taking a descriptor by its number are unsafe: see each block for what makes it safe"
)]

use rustix::process::{
    Pid, Resource, Rlimit, Signal, getpid, getppid, getrlimit, set_parent_process_death_signal, setrlimit,
};
use sched_core::task::ProcessLimits;
use std::fs::File;
use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Between the polite end of a process that has used up its processor time, and its end by force.
const CPU_GRACE_S: u64 = 2;

/// What happens to a process before its program begins. Its children inherit the limits, each for itself.
#[derive(Default)]
pub struct Birth {
    limits: ProcessLimits,
    /// It is killed when this process, its parent, dies.
    parent: Option<Pid>,
    /// The file of a cgroup; who writes `0` into it moves there.
    joins: Option<OwnedFd>,
}

impl Birth {
    /// Of a process that only has limits.
    pub fn limited(limits: ProcessLimits) -> Self {
        Self {
            limits,
            ..Self::default()
        }
    }

    /// Of a process that does not outlive this one, which must start it from its first thread: the kernel kills it when the thread ends.
    pub fn supervised(joins: Option<OwnedFd>, limits: ProcessLimits) -> Self {
        Self {
            limits,
            parent: Some(getpid()),
            joins,
        }
    }

    fn is_plain(&self) -> bool {
        self.limits == ProcessLimits::default() && self.parent.is_none() && self.joins.is_none()
    }

    fn apply(&self) -> io::Result<()> {
        if let Some(parent) = self.parent {
            set_parent_process_death_signal(Some(Signal::KILL))?;
            // It may have died before that.
            if getppid() != Some(parent) {
                return Err(rustix::io::Errno::SRCH.into());
            }
        }
        if let Some(file) = &self.joins {
            // Without it the supervisor alone holds the tree, which it can.
            let _ = rustix::io::write(file, b"0");
        }
        limit(self.limits)
    }
}

/// Makes the process that `command` starts go through its birth.
pub fn at_birth(command: &mut Command, birth: Birth) {
    if birth.is_plain() {
        return;
    }
    // SAFETY: between fork and exec only functions that are safe in a signal handler may be called, since other threads may have held
    // any lock. `apply` makes system calls on copied numbers: it takes no lock and allocates nothing, in failure neither. The descriptor it
    // writes to is owned by the closure.
    unsafe {
        command.pre_exec(move || birth.apply());
    }
}

/// Points standard input, output and error of this process at nothing: others wait for the ends of what they were.
pub fn let_go_of_stdio() -> io::Result<()> {
    let nothing = File::options().read(true).write(true).open("/dev/null")?;
    for number in 0..=2 {
        // SAFETY: the three are open, the runtime of the standard library sees to that before `main`. Nothing owns them, and this does not
        // close them either; `dup2` replaces what they stand for in one step.
        let mut standard = ManuallyDrop::new(unsafe { OwnedFd::from_raw_fd(number) });
        rustix::io::dup2(&nothing, &mut standard)?;
    }
    Ok(())
}

fn limit(limits: ProcessLimits) -> io::Result<()> {
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
