//! One process with what it starts: signalled, waited for, and nothing left behind.
//!
//! In production it has a supervisor, see [`supervisor`](crate::worker::supervisor). Without one it leads a group of its own, and what leaves
//! that group gets away.

use crate::worker::supervisor::{End, Overruled, Supervised};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};
use std::io;
use std::os::fd::OwnedFd;
use std::process::ExitStatus;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::process::{Child, Command};

/// A running process.
pub(super) enum Process {
    /// Under a supervisor.
    Supervised(Supervised),
    /// With its group alone.
    Grouped(Grouped),
}

impl Process {
    /// Waits until the process has ended. Forgetting the wait loses nothing.
    pub(super) async fn ended(&mut self) {
        match self {
            Process::Supervised(process) => process.ended().await,
            Process::Grouped(process) => process.ended().await,
        }
    }

    /// Asks all its processes to end.
    pub(super) fn terminate(&self) {
        match self {
            Process::Supervised(process) => process.terminate(),
            Process::Grouped(process) => process.signal(Signal::TERM),
        }
    }

    /// Kills all its processes.
    pub(super) fn kill(&self) {
        match self {
            Process::Supervised(process) => process.kill(),
            Process::Grouped(process) => process.signal(Signal::KILL),
        }
    }

    /// Kills what is left, and returns how the process ended and whether its supervisor did not wait for an order.
    pub(super) async fn reap(self) -> (End, Option<Overruled>) {
        match self {
            Process::Supervised(process) => process.reap().await,
            Process::Grouped(process) => (process.reap().await.map_or(End::Unknown, End::Exited), None),
        }
    }
}

/// A running process that leads its own group.
///
/// The group's number is the process's own. While the process has not been *reaped*, no other group can get that number, so signals are
/// sent only before: the end is seen through a pidfd, which reaps nothing; then the group is killed; then the process is reaped.
pub(super) struct Grouped {
    child: Child,
    group: Pid,
    /// Becomes readable when the process has ended. Absent where the kernel has none; then the end is seen by reaping.
    ended: Option<AsyncFd<OwnedFd>>,
    reaped: bool,
}

impl Grouped {
    /// Starts it in a group of its own.
    ///
    /// # Errors
    /// As the system says.
    pub(super) fn spawn(command: &mut Command) -> io::Result<Self> {
        let mut child = command.process_group(0).kill_on_drop(true).spawn()?;
        let pid = child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
        let Some(group) = pid else {
            // Without a number it cannot be killed as a group; it has not been waited for, so this does not happen.
            let _ = child.start_kill();
            return Err(io::Error::other("the new process has no number"));
        };
        let ended = pidfd_open(group, PidfdFlags::NONBLOCK)
            .or_else(|_| pidfd_open(group, PidfdFlags::empty()))
            .map_err(io::Error::from)
            .and_then(watch_readable);
        if let Err(e) = &ended {
            tracing::debug!(error = %e, "no pidfd; the end of a process is seen by reaping it");
        }
        Ok(Self {
            child,
            group,
            ended: ended.ok(),
            reaped: false,
        })
    }

    /// Waits until the process has ended. Forgetting the wait loses nothing.
    async fn ended(&mut self) {
        match &self.ended {
            Some(fd) => {
                if let Err(e) = fd.readable().await {
                    tracing::warn!(error = %e, "the end of a process cannot be watched; waiting by reaping");
                    self.ended = None;
                    self.reap_quietly().await;
                }
            }
            None => self.reap_quietly().await,
        }
    }

    async fn reap_quietly(&mut self) {
        // The status stays with the child and is read by `reap`.
        let _ = self.child.wait().await;
        self.reaped = true;
    }

    /// Sends a signal to the whole group. That nobody is left is no error.
    fn signal(&self, signal: Signal) {
        if self.reaped {
            return;
        }
        match kill_process_group(self.group, signal) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => {}
            Err(e) => tracing::warn!(group = self.group.as_raw_pid(), ?signal, error = %e, "signal was not sent"),
        }
    }

    /// Kills what is left of the group and takes the exit status.
    ///
    /// # Errors
    /// Somebody else has reaped the process.
    async fn reap(mut self) -> io::Result<ExitStatus> {
        self.signal(Signal::KILL);
        let status = self.child.wait().await;
        self.reaped = true;
        status
    }
}

#[expect(
    deprecated,
    reason = "its successor is unsafe: the caller must own the descriptor, which an `OwnedFd` does by its type"
)]
fn watch_readable(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::with_interest(fd, Interest::READABLE)
}

impl Drop for Grouped {
    /// On every path on which the run was given up half-way; the runtime then reaps the process.
    fn drop(&mut self) {
        self.signal(Signal::KILL);
    }
}
