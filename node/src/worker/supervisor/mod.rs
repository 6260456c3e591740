//! The agent's side of supervisors, one for each process of a run: see [`sched_supervisor`] for what they do.

mod cgroup;
mod program;
mod supervised;

pub use cgroup::Containment;
pub use program::program;
pub use sched_supervisor::Lease;
pub(super) use supervised::{End, Overruled, Supervised};

use super::wire::{Job, OnDisconnect};
use cgroup::Cgroups;
use sched_supervisor::{PROGRAM, SUPERVISOR_ARG, Spec, prefixed};
use std::ffi::OsString;
use std::fs::{File, TryLockError};
use std::io::{self, PipeWriter};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::UnixStream;
use tokio::process::Command;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::spawn_blocking;

/// In the worker's folder.
const LOCK_FILE: &str = "supervisors.lock";
/// Between two looks whether the supervisors of a former life have ended.
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// Processes that are being started at once, for each processor: one waits for the disk or the kernel while another is worked on.
const BIRTHS_PER_CORE: usize = 2;
/// They end within seconds; when not, the log says so this often.
const STILL_THERE: Duration = Duration::from_secs(10);

/// Why the processes of runs cannot be held as the settings say.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct NotHeld(String);

/// Starts supervisors. Clones are the same.
#[derive(Clone, Debug)]
pub struct Supervision(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    program: PathBuf,
    dir: PathBuf,
    /// Between asking a process to end and killing it.
    grace: Duration,
    cgroups: Option<Cgroups>,
    lease: watch::Sender<Option<Lease>>,
    births: Arc<Semaphore>,
}

/// Leave to start one process, until it has started. Without it hundreds of due commands would share the processors for so long
/// that none is there before its lease is too old for a start.
#[derive(Debug)]
pub(super) struct Leave {
    _permit: Option<OwnedSemaphorePermit>,
}

impl Supervision {
    /// Uses `program` for supervisors, and keeps what they need in the worker's folder, an absolute path that exists.
    ///
    /// # Errors
    /// The cgroups that are asked for cannot be used.
    pub fn new(program: PathBuf, dir: &Path, grace: Duration, containment: Containment) -> Result<Self, NotHeld> {
        let cgroups = Cgroups::find(containment, dir).map_err(NotHeld)?;
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        match &cgroups {
            Some(cgroups) => tracing::info!(cgroup = %cgroups.dir().display(), "processes of runs are held by cgroups"),
            None => tracing::info!("processes of runs are held by their supervisors alone"),
        }
        Ok(Self(Arc::new(Inner {
            program,
            dir: dir.to_owned(),
            grace,
            cgroups,
            lease: watch::Sender::new(None),
            births: Arc::new(Semaphore::new(BIRTHS_PER_CORE * cores)),
        })))
    }

    /// Waits until few others are being started. Who waited the longest is next.
    pub(super) async fn leave(&self) -> Leave {
        Leave {
            // It is never closed.
            _permit: self.0.births.clone().acquire_owned().await.ok(),
        }
    }

    /// Tells every supervisor of runs that need contact that there is a newer lease.
    pub fn extend(&self, lease: Lease) {
        self.0.lease.send_if_modified(|known| {
            let newer = known.is_none_or(|known| known != lease);
            *known = Some(lease);
            newer
        });
    }

    /// Waits until nothing runs any more that a former life of this worker started. Must be called before the first start, and
    /// before anybody is told that those runs are over.
    pub async fn former_life_over(&self) {
        let inner = self.0.clone();
        // Ends with the runtime at the latest: the look is short, the pauses are ours.
        let cleared = spawn_blocking(move || {
            if let Some(cgroups) = &inner.cgroups {
                cgroups.clear();
            }
        });
        if let Err(e) = cleared.await {
            tracing::warn!(error = %e, "what a former life left in cgroups was not cleared");
        }
        let path = self.0.dir.join(LOCK_FILE);
        let mut waited = Duration::ZERO;
        loop {
            match all_ended(&path) {
                Ok(true) => return,
                Ok(false) => {}
                Err(e) => {
                    tracing::warn!(path = %path.display(), error = %e, "cannot tell whether former processes have ended");
                    return;
                }
            }
            if waited.as_millis().is_multiple_of(STILL_THERE.as_millis()) {
                tracing::info!("waiting for processes that were started before this start to end");
            }
            tokio::time::sleep(LOOK_AGAIN).await;
            waited += LOOK_AGAIN;
        }
    }

    /// Starts the supervisor of a process. What the process gets comes from `command`: program, arguments, environment, user, and both ends of
    /// its input and output; `dir` is where it begins.
    pub(super) fn start(&self, job: &Job, birth: Birth, leave: Leave) -> io::Result<Supervised> {
        let inner = &*self.0;
        let needs_contact = job.on_disconnect == OnDisconnect::Kill;
        let lease = *inner.lease.borrow();
        let leaf = inner.cgroups.as_ref().map(|cgroups| cgroups.leaf(&leaf_name(job)));
        let spec = Spec {
            argv: birth.argv,
            dir: birth.dir,
            user: birth.user,
            limits: birth.limits,
            time_limit: job.time_limit,
            grace: inner.grace,
            starts_by: lease.map(Lease::no_starts_from),
            lease: lease.filter(|_| needs_contact),
            leaf: leaf.clone(),
            lock: inner.dir.join(LOCK_FILE),
        };
        let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
        ours.set_nonblocking(true)?;
        let mut command = Command::new(&inner.program);
        command
            .arg0(PROGRAM)
            .arg(SUPERVISOR_ARG)
            .args(spec.encode())
            .current_dir(&inner.dir);
        command
            .env_clear()
            .envs(birth.env.into_iter().map(|(name, value)| (prefixed(&name), value)));
        // A group of its own: what a terminal sends to the worker is not for the supervisor.
        command
            .process_group(0)
            .stdin(birth.stdin)
            .stdout(birth.output)
            .stderr(Stdio::from(std::os::fd::OwnedFd::from(theirs)));
        let child = command.spawn()?;
        let renewals = needs_contact.then(|| inner.lease.subscribe());
        Ok(Supervised::new(
            child,
            UnixStream::from_std(ours)?,
            renewals,
            leaf,
            leave,
        ))
    }
}

/// What a process is born with.
pub(super) struct Birth {
    pub(super) argv: Vec<String>,
    pub(super) env: Vec<(OsString, OsString)>,
    pub(super) dir: PathBuf,
    pub(super) user: Option<(u32, u32)>,
    pub(super) limits: sched_core::task::ProcessLimits,
    pub(super) stdin: Stdio,
    /// For output and errors: their order is kept.
    pub(super) output: PipeWriter,
}

/// Unique for all lives of a worker: a token is started once.
fn leaf_name(job: &Job) -> String {
    format!("{}-{}", job.token.index, job.token.position)
}

/// Whether no supervisor holds the lock.
fn all_ended(path: &Path) -> io::Result<bool> {
    let file = File::options().create(true).append(true).open(path)?;
    match file.try_lock() {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(e)) => Err(e),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::worker::contact::{Contact, Phase};

    #[test]
    fn a_supervisor_counts_a_lease_as_the_agent_does() {
        let lease = Lease {
            since: Duration::from_secs(100),
            length: Duration::from_secs(10),
        };
        let mut contact = Contact::new();
        contact.welcomed(lease.since, lease.length);
        for (at, phase) in [
            (lease.no_starts_from(), Phase::NoStarts),
            (lease.terminate_at(), Phase::Terminate),
            (lease.kill_at(), Phase::Kill),
        ] {
            assert_eq!(contact.phase(at), phase);
            assert!(contact.phase(at - Duration::from_millis(1)) < phase);
        }
    }
}
