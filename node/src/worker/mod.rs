//! The worker: takes attempts from the leader over one stream, runs them, and reports how they ended.
//!
//! ```text
//! leader  <->  link (gRPC)  <->  agent (one task, owns all state)  ->  attempts (one task each)  ->  executors
//!                                 |- held:    what it holds, what may start, what is to be reported
//!                                 |- journal: what it was given and what became of it, on disk before anybody acts on it
//!                                 |- contact: what it may still do without hearing from the leader
//!                                 `- outbox:  what waits to be sent, in batches
//! ```
//!
//! The agent is the only owner of what the worker knows; attempts tell it how they ended, and hold nothing else. It follows the leader
//! from node to node while the attempts run on. `design/protocol.md`, "Worker", says what it promises.
//!
//! Linux only: processes are watched through pidfds, and groups are signalled while their number cannot belong to anybody else.

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test that fails should say where"))]

mod agent;
mod anywhere;
mod attempt;
pub mod executors;
mod held;
pub mod journal;
mod orphans;
mod outbox;
pub mod output;
mod report;
pub mod supervisor;

// What does not depend on what is run, and serves remote workers too.
pub use sched_client::worker::stop;
use sched_client::worker::{contact, link, settled, stream};
/// The messages of the stream.
pub use sched_proto::convert::worker as wire;

#[cfg(test)]
mod tests;

use agent::{Agent, Identity};
use anywhere::Anywhere;
use attempt::Runner;
use executors::{CommandExecutor, Executors, HttpExecutor, MailExecutor, MailOptions, SampleExecutor, Surroundings};
use journal::{Journal, JournalError, JournalOptions};
use link::{Dial, Grpc};
use orphans::Orphans;
use output::{OutputLimits, OutputStore};
use sched_core::limits::WORKER_SLOTS_MAX;
use sched_core::{NodeId, SessionId, Timestamp};
use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use supervisor::{Containment, NotHeld, Supervision};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

/// Between asking an attempt to end and killing it, unless said otherwise.
pub const GRACE_DEFAULT: Duration = Duration::from_secs(5);

/// The clocks a worker reads; the daemon's own in production.
#[derive(Clone)]
pub struct WorkerClock {
    boot: Arc<dyn Fn() -> Duration + Send + Sync>,
    wall: Arc<dyn Fn() -> Timestamp + Send + Sync>,
}

impl WorkerClock {
    /// Takes the time since boot, suspension included, and the wall clock.
    pub fn new(
        boot: impl Fn() -> Duration + Send + Sync + 'static,
        wall: impl Fn() -> Timestamp + Send + Sync + 'static,
    ) -> Self {
        Self {
            boot: Arc::new(boot),
            wall: Arc::new(wall),
        }
    }

    /// Returns the time since boot: contact and deadlines are measured by it.
    pub fn boot(&self) -> Duration {
        (self.boot)()
    }

    /// Returns the wall clock: for people and files only.
    pub fn wall(&self) -> Timestamp {
        (self.wall)()
    }
}

impl fmt::Debug for WorkerClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WorkerClock")
    }
}

/// What a worker is started with.
#[derive(Debug)]
pub struct WorkerOptions {
    /// Its name, unique in the cluster.
    pub name: String,
    /// Attempts it runs at once, 1 to [`WORKER_SLOTS_MAX`].
    pub slots: u32,
    /// To be selected by.
    pub labels: BTreeMap<String, String>,
    /// The node it runs in; absent for an agent.
    pub node: Option<NodeId>,
    /// Its folder: `work` (where processes run) and `output` are made in it.
    pub dir: PathBuf,
    /// The client address (`host:port`) of the leader, as far as it is known; or of several nodes, separated by commas, when it is not.
    pub leader: watch::Receiver<Option<String>>,
    /// The clocks.
    pub clock: WorkerClock,
    /// How much output is kept.
    pub output: OutputLimits,
    /// Between asking an attempt to end and killing it.
    pub grace: Duration,
    /// The program that, given [`sched_supervisor::SUPERVISOR_ARG`], supervises a process: [`supervisor::program`]. Without one, processes outlive a
    /// worker that is killed or stopped, and what leaves its group outlives its run.
    pub supervisor: Option<PathBuf>,
    /// How supervisors hold the processes of a run.
    pub containment: Containment,
    /// What mails are sent with.
    pub mail: MailOptions,
}

/// Why a worker could not be started.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// Its folder cannot be made.
    #[error("the worker's folder {dir} cannot be made: {source}; check its owner and the disk", dir = dir.display())]
    Dir {
        /// Which.
        dir: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Its journal cannot be used.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The number of slots is out of range.
    #[error("{0} slots; a worker has 1 to {WORKER_SLOTS_MAX}")]
    Slots(u32),
    /// Processes cannot be held as asked.
    #[error(transparent)]
    NotHeld(#[from] NotHeld),
}

/// What a worker is doing, for status pages and metrics.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct WorkerStatus {
    /// The leader that has welcomed it.
    pub leader: Option<String>,
    /// Its session, as of the last welcome.
    pub session: Option<SessionId>,
    /// Attempts it runs at once.
    pub slots: u32,
    /// Attempts under way.
    pub running: usize,
    /// Attempts that wait for a slot or for contact.
    pub waiting: usize,
    /// Attempts that are over and not recorded by the leader.
    pub unrecorded: usize,
    /// Attempts ever started.
    pub started: u64,
    /// It takes no new attempts.
    pub draining: bool,
    /// Why its journal cannot be written any more: it takes no new attempts then either.
    pub journal_failure: Option<String>,
    /// It has ended.
    pub gone: bool,
}

/// A worker inside this process.
pub struct Worker;

impl Worker {
    /// Starts a worker. Must be called within a runtime. It dials the leader as soon as one is known, and never gives up.
    ///
    /// # Errors
    /// Its folder cannot be made, or it has no slots or too many.
    pub fn start(options: WorkerOptions) -> Result<WorkerHandle, WorkerError> {
        start(options, Arc::new(Anywhere::new(Grpc)), JournalOptions::default())
    }
}

fn start(options: WorkerOptions, dial: Arc<dyn Dial>, journal: JournalOptions) -> Result<WorkerHandle, WorkerError> {
    let WorkerOptions {
        name,
        slots,
        labels,
        node,
        dir,
        leader,
        clock,
        output,
        grace,
        supervisor,
        containment,
        mail,
    } = options;
    if !(1..=WORKER_SLOTS_MAX).contains(&slots) {
        return Err(WorkerError::Slots(slots));
    }
    // Supervisors have a working directory of their own.
    let dir = std::path::absolute(&dir).unwrap_or(dir);
    let work_dir = dir.join("work");
    std::fs::create_dir_all(&work_dir).map_err(|source| WorkerError::Dir {
        dir: work_dir.clone(),
        source,
    })?;
    // First of all its files: nothing in the folder is touched that another process uses.
    let journal = Journal::open(&dir, journal)?;
    let output_dir = dir.join("output");
    let output = OutputStore::open(output_dir.clone(), output, clock.clone()).map_err(|source| WorkerError::Dir {
        dir: output_dir,
        source,
    })?;
    let supervision = supervisor
        .map(|program| Supervision::new(program, &dir, grace, containment))
        .transpose()?;
    let cluster = mail.cluster.clone();
    let executors = Executors {
        command: CommandExecutor::new(Surroundings::from_environment(work_dir), supervision.clone()),
        http: HttpExecutor::new(clock.clone()),
        sample: SampleExecutor,
        mail: MailExecutor::new(mail, clock.clone()),
    };
    let runner = Arc::new(Runner {
        executors,
        output,
        clock,
        grace,
    });
    let identity = Identity {
        name,
        slots,
        labels,
        node,
        cluster,
    };
    let (leave, left) = mpsc::channel(4);
    let (status, watched) = watch::channel(WorkerStatus {
        slots,
        ..WorkerStatus::default()
    });
    let agent = Agent::new(
        identity,
        journal,
        runner,
        dial,
        leader,
        (left, status),
        supervision.clone(),
    );
    let task = tokio::spawn(async move {
        // Before anybody hears of this worker: what it would say of its former runs must be true.
        if let Some(supervision) = supervision {
            supervision.former_life_over().await;
        }
        agent.run().await;
    });
    Ok(WorkerHandle {
        leave,
        status: watched,
        task,
        _orphans: Orphans::collect(),
    })
}

/// Holds a worker. Dropping it kills what the worker runs.
#[derive(Debug)]
pub struct WorkerHandle {
    leave: mpsc::Sender<Duration>,
    status: watch::Receiver<WorkerStatus>,
    task: JoinHandle<()>,
    _orphans: Orphans,
}

impl WorkerHandle {
    /// Returns what the worker is doing, now and from now on.
    pub fn status(&self) -> watch::Receiver<WorkerStatus> {
        self.status.clone()
    }

    /// Lets the worker begin to leave, without waiting for it: see [`drain`](Self::drain).
    pub fn begin_drain(&self, patience: Duration) {
        // An agent that is gone has left; one with a full queue has been told often enough.
        let _ = self.leave.try_send(patience);
    }

    /// Lets the worker leave: it takes nothing new, what runs has `patience` to end and is then told to, results are reported, and the
    /// leader is told goodbye. Returns when the worker has ended, at most some seconds after the patience and the grace.
    ///
    /// May be called again, by anybody, to shorten the patience.
    pub async fn drain(&self, patience: Duration) {
        // An agent that is already gone has nothing to leave.
        let _ = self.leave.send(patience).await;
        let _ = self.status.clone().wait_for(|status| status.gone).await;
    }

    /// Ends the worker with what it runs: [`drain`](Self::drain) without patience.
    pub async fn shutdown(&self) {
        self.drain(Duration::ZERO).await;
    }
}

impl Drop for WorkerHandle {
    fn drop(&mut self) {
        self.task.abort();
    }
}
