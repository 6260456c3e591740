//! The agent's end: a process with its supervisor.

use super::{Lease, Leave};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use sched_supervisor::Leaf;
use std::io::{self, ErrorKind};
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::Duration;
use tokio::net::UnixStream;
use tokio::process::Child;
use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

/// What a supervisor says is shorter; more is none of ours.
const INBOX_BYTES_MAX: usize = 4096;
/// What cannot be killed is waited for, with a line in the log this often: a process in the middle of a broken disk or mount.
const SAID_AGAIN: Duration = Duration::from_secs(10);

/// How a process ended.
#[derive(Debug)]
pub(in crate::worker) enum End {
    /// It did, with this status.
    Exited(ExitStatus),
    /// It could not be started.
    NotStarted(io::Error),
    /// Nobody knows: its supervisor was killed, and it with it.
    Unknown,
}

/// Why a supervisor did not wait for an order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::worker) enum Overruled {
    /// The last acknowledged sign of life was too long ago.
    Contact,
    /// The time limit was over.
    TimeLimit,
}

/// See the module. Dropping it has the tree killed.
#[derive(Debug)]
pub(in crate::worker) struct Supervised {
    supervisor: Child,
    socket: UnixStream,
    inbox: Vec<u8>,
    /// Newer leases; absent for a process that goes on without contact.
    renewals: Option<watch::Receiver<Option<Lease>>>,
    leaf: Option<Leaf>,
    /// Until the process has started, or never will.
    leave: Option<Leave>,
    main: Option<Pid>,
    end: Option<End>,
    overruled: Option<Overruled>,
    /// The supervisor has ended.
    closed: bool,
}

impl Supervised {
    pub(super) fn new(
        supervisor: Child,
        socket: UnixStream,
        renewals: Option<watch::Receiver<Option<Lease>>>,
        leaf: Option<Leaf>,
        leave: Leave,
    ) -> Self {
        Self {
            supervisor,
            socket,
            inbox: Vec::new(),
            renewals,
            leaf,
            leave: Some(leave),
            main: None,
            end: None,
            overruled: None,
            closed: false,
        }
    }

    /// Waits until the process has ended or could not be started. Forgetting the wait loses nothing.
    pub(in crate::worker) async fn ended(&mut self) {
        while self.end.is_none() && !self.closed {
            let renewed = async {
                if let Some(renewals) = &mut self.renewals
                    && renewals.changed().await.is_ok()
                {
                    return *renewals.borrow_and_update();
                }
                std::future::pending().await
            };
            tokio::select! {
                lease = renewed => self.pass_on(lease),
                // An error shows in the reading.
                _ = self.socket.readable() => self.read(),
            }
        }
    }

    fn pass_on(&self, lease: Option<Lease>) {
        if let Some(Lease { since, length }) = lease {
            self.order(&format!("lease {} {}", since.as_millis(), length.as_millis()));
        }
    }

    /// Gives an order. A supervisor that does not read has ended, or will kill by itself.
    fn order(&self, what: &str) {
        let _ = self.socket.try_write(format!("{what}\n").as_bytes());
    }

    fn read(&mut self) {
        let mut buffer = [0; 512];
        match self.socket.try_read(&mut buffer) {
            Ok(0) => self.closed = true,
            Ok(count) => self.inbox.extend_from_slice(&buffer[..count]),
            Err(e) if e.kind() == ErrorKind::WouldBlock => {}
            Err(_) => self.closed = true,
        }
        while let Some(at) = self.inbox.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.inbox.drain(..=at).collect();
            self.hear(String::from_utf8_lossy(&line).trim());
        }
        if self.inbox.len() > INBOX_BYTES_MAX {
            tracing::warn!("a supervisor talks nonsense and is not listened to any more");
            self.closed = true;
        }
    }

    fn hear(&mut self, line: &str) {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        if matches!(word, "started" | "failed") {
            self.leave = None;
        }
        let number = || rest.parse::<i32>().ok();
        match word {
            "started" => self.main = number().and_then(Pid::from_raw),
            "ended" => self.end = number().map(|raw| End::Exited(ExitStatus::from_raw(raw))),
            "failed" => {
                let error = number().map_or_else(|| io::Error::other(rest.to_owned()), io::Error::from_raw_os_error);
                self.end = Some(End::NotStarted(error));
            }
            "overruled" if rest == "limit" => self.overruled = Some(Overruled::TimeLimit),
            "overruled" => self.overruled = Some(Overruled::Contact),
            // Written by the supervisor with the name of a file or an error of the system in it.
            _ => tracing::warn!(process = ?self.main, said = line, "supervisor"),
        }
    }

    /// Has every process of the tree asked to end.
    pub(in crate::worker) fn terminate(&self) {
        self.order("terminate");
    }

    /// Has every process of the tree killed.
    pub(in crate::worker) fn kill(&self) {
        self.order("kill");
        // One that was stopped hears nothing.
        if let Some(supervisor) = pid_of(&self.supervisor) {
            let _ = kill_process(supervisor, Signal::CONT);
        }
    }

    /// Kills what is left of the tree, waits until nothing is, and returns how the process ended and whether the supervisor did not wait for
    /// an order.
    pub(in crate::worker) async fn reap(mut self) -> (End, Option<Overruled>) {
        self.kill();
        while timeout(SAID_AGAIN, self.supervisor.wait()).await.is_err() {
            tracing::warn!(process = ?self.main, "processes of a run do not die; waiting for them");
        }
        while !self.closed {
            self.read();
        }
        if self.end.is_none() {
            self.clean_up().await;
        }
        let end = self.end.take().unwrap_or(End::Unknown);
        (end, self.overruled)
    }

    /// After a supervisor that was killed: its process died with it, others perhaps not.
    async fn clean_up(&mut self) {
        tracing::warn!(process = ?self.main, "the supervisor of a process was killed; killing what it held");
        if let Some(main) = self.main {
            let _ = kill_process_group(main, Signal::KILL);
        }
        if let Some(leaf) = self.leaf.take() {
            // It is killed all the same when nobody waits for it any more.
            let _ = spawn_blocking(move || leaf.kill_all()).await;
        }
    }
}

impl Drop for Supervised {
    /// On every path on which the run was given up half-way; the runtime then takes the supervisor's status.
    fn drop(&mut self) {
        if !self.closed {
            self.kill();
        }
    }
}

fn pid_of(child: &Child) -> Option<Pid> {
    Pid::from_raw(i32::try_from(child.id()?).ok()?)
}
