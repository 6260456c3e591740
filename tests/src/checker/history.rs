//! What a run under faults leaves behind: everything the checker judges, and nothing else.
//!
//! Every instant is in milliseconds since the Unix epoch by **one** clock, the recorder's: read from the system once, at the
//! start, and monotonic from there. The recorder runs outside the cluster and outside every fault. Field names end in their unit.

use serde::{Deserialize, Serialize};
use std::fmt;

/// The layout of a saved history; another number is refused, not guessed at.
pub const FORMAT: u32 = 1;

/// One run of a cluster under load and faults.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct History {
    /// [`FORMAT`].
    pub format: u32,
    /// Which scenario, for people.
    pub label: String,
    /// What repeats it.
    pub seed: u64,
    /// What was promised.
    #[serde(default)]
    pub bounds: Bounds,
    /// When the load began.
    pub started_at_ms: i64,
    /// When the last replica had been read. Nothing that is due later is judged.
    pub ended_at_ms: i64,
    /// Nodes of the cluster whose tables must have been read.
    pub nodes: Vec<String>,
    /// What was asked for. Tasks that were refused are listed too: they must not run.
    pub tasks: Vec<TaskAsked>,
    /// What the recorder saw, in any order.
    pub processes: Vec<Process>,
    /// Kinds of faults this run was to contain; one that is not among [`History::faults`] has it rejected.
    pub intended: Vec<FaultKind>,
    /// What was done to the cluster.
    pub faults: Vec<Fault>,
    /// The state as each node had it after the last heal.
    pub replicas: Vec<Replica>,
    /// Calls on tasks, for linearizability; may be empty.
    #[serde(default)]
    pub operations: Vec<Operation>,
}

/// What the cluster promised. The defaults are the protocol's.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Bounds {
    /// An occurrence starts at most so long after it is due while nothing is wrong. Much above the usual lateness: a cluster
    /// without faults that takes longer has missed it.
    pub start_ms_max: i64,
    /// Leader time and a quorum's clocks differ by at most this, so an occurrence may start so much too soon.
    pub early_ms_max: i64,
    /// Everything due is running or terminal so long after a heal.
    pub heal_ms_max: i64,
    /// The recorder hears ends late by at most this: processes that overlap by less are not said to.
    pub overlap_ms_max: i64,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            start_ms_max: 15_000,
            early_ms_max: 500,
            heal_ms_max: 15_000,
            overlap_ms_max: 50,
        }
    }
}

/// A task that somebody asked for.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TaskAsked {
    /// Told to each of its processes, and unique: what joins processes, tasks and replicas. The task's name serves well.
    pub key: String,
    /// Before the first call left.
    pub asked_at_ms: i64,
    /// What came back in the end, over all repeats under one request key.
    pub answer: Answer,
    /// How often an occurrence may run.
    pub delivery: Delivery,
    /// When it is due.
    pub plan: Plan,
    /// Its processes tell the recorder of themselves. Of others only what the replicas say is judged.
    #[serde(default = "yes")]
    pub watched: bool,
    /// Exit codes that count as success.
    #[serde(default = "zero")]
    pub success_codes: Vec<i32>,
    /// Its policy's bound on tries. Beyond 1, an at-most-once run may start again after a process that is known to have failed.
    #[serde(default = "one")]
    pub tries_max: u32,
    /// Occurrences may be skipped or missed if the ledger says so (overlap policy `skip`, a short grace, a pause). Otherwise a
    /// ledger line about one is itself a miss.
    #[serde(default)]
    pub may_skip: bool,
    /// The longest delay between two tries, as its policy has it; 0 when a failure is not tried again.
    #[serde(default)]
    pub retry_delay_ms_max: i64,
    /// A call that dequeued it: when it left, and what came back. What is due after it need not run; live runs may end as they like.
    #[serde(default)]
    pub dequeued: Option<Asked>,
    /// Calls that triggered it: each gives one run more.
    #[serde(default)]
    pub triggers: Vec<Asked>,
}

fn yes() -> bool {
    true
}

fn zero() -> Vec<i32> {
    vec![0]
}

fn one() -> u32 {
    1
}

/// A call and what came back.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Asked {
    /// Before the call left.
    pub at_ms: i64,
    /// In the end.
    pub answer: Answer,
}

/// What came back of a call.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// Acknowledged: it must never be lost.
    Accepted {
        /// The task's id.
        task: u64,
        /// When the answer had arrived.
        at_ms: i64,
    },
    /// Refused for good: it must never have an effect.
    Refused {
        /// For people.
        reason: String,
    },
    /// No answer: it may or may not have been carried out, once.
    Unknown,
}

/// How often an occurrence may start.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Delivery {
    /// Tried again when the outcome is unknown; overlapping attempts are flagged.
    AtLeastOnce,
    /// Never started twice; an unknown outcome is LOST.
    AtMostOnce,
}

/// When a task is due.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Plan {
    /// At these instants, ascending. One that had passed when the task was accepted counts from then: for a task that is due at
    /// once, name [`TaskAsked::asked_at_ms`].
    Times(Vec<i64>),
    /// At `first`, and every `every` after it, up to `last`.
    Every {
        /// The first occurrence after acceptance; with an unknown answer, the first one possible.
        first_ms: i64,
        /// The interval; at least 1.
        every_ms: i64,
        /// No occurrence after it; absent: until it is dequeued.
        last_ms: Option<i64>,
    },
    /// Only when triggered.
    Manual,
}

/// One process of an attempt, as the recorder saw it.
///
/// The recorder must see the death of a process by itself (a closed connection, a held pipe), also when it was killed: one
/// without an end counts as alive to the end of the history.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Process {
    /// [`TaskAsked::key`], as the process was told.
    pub key: String,
    /// `task:number`.
    pub run: String,
    /// From 1.
    pub attempt: u32,
    /// The attempt token, as the process was told.
    pub token: String,
    /// The occurrence, as the process was told.
    pub scheduled_at_ms: i64,
    /// When its start was heard.
    pub started_at_ms: i64,
    /// When its end was heard.
    pub ended_at_ms: Option<i64>,
    /// What it ended with; absent when it was killed, or still runs.
    pub exit_code: Option<i32>,
    /// The worker that started it, when known.
    #[serde(default)]
    pub worker: String,
}

/// Something done to the cluster, and how it is known to have happened.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// What.
    pub kind: FaultKind,
    /// To whom: node names, or `n1|n2,n3` for a partition.
    pub target: String,
    /// When it began to work.
    pub applied_at_ms: i64,
    /// When it had ceased: processes run again, the network is whole.
    pub healed_at_ms: Option<i64>,
    /// That it took place, seen from outside; without any the history is rejected.
    pub evidence: Vec<Evidence>,
}

/// Kinds of faults.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultKind {
    /// SIGKILL of nodes.
    Kill,
    /// SIGSTOP of nodes.
    Stop,
    /// SIGKILL of a worker that is not in a node.
    KillWorker,
    /// SIGSTOP of a worker that is not in a node.
    StopWorker,
    /// Nodes that do not hear each other.
    Partition,
    /// Messages get lost.
    Loss,
    /// Messages come late.
    Delay,
    /// The wall clock of a node jumped.
    ClockJump,
    /// No room on a node's disk.
    DiskFull,
    /// A node's fsync failed.
    SyncError,
    /// All nodes lost what was not synced.
    PowerCut,
    /// Bytes of a stopped node's files were changed.
    Damage,
    /// Members came or went.
    Membership,
    /// Leadership was handed over, or nodes restarted in order.
    Restart,
}

/// One observation that a fault took place.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Evidence {
    /// When it was seen.
    pub at_ms: i64,
    /// What.
    pub kind: EvidenceKind,
    /// For people: the line of a log, a counter, a state in `/proc`.
    pub detail: String,
}

/// What can be seen of a fault from outside.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EvidenceKind {
    /// A process was reaped with the signal or exit status that the fault gives.
    ProcessEnded,
    /// `/proc` says that a process is stopped.
    ProcessStopped,
    /// Packets or connections were refused: a counter of the firewall or proxy that was zero before and is not now.
    TrafficBlocked,
    /// The cluster itself says that a member is unreachable.
    PeerUnreachable,
    /// The proxy dropped bytes.
    TrafficLost,
    /// The proxy held bytes back.
    TrafficDelayed,
    /// A node says, or its process shows, that its clock is elsewhere.
    ClockOffset,
    /// A write or fsync was refused: the node's log, or the injector's count.
    WriteRefused,
    /// A file system was shut down under the nodes.
    FilesystemDown,
    /// A file differs from what it was.
    BytesChanged,
    /// The list of members is another.
    MembersChanged,
    /// Another node leads, or the same one under another term.
    LeaderChanged,
}

impl FaultKind {
    /// What proves that such a fault took place; one of these is enough.
    pub fn proofs(self) -> &'static [EvidenceKind] {
        use EvidenceKind as E;
        match self {
            FaultKind::Kill | FaultKind::KillWorker => &[E::ProcessEnded],
            FaultKind::Stop | FaultKind::StopWorker => &[E::ProcessStopped],
            FaultKind::Partition => &[E::TrafficBlocked, E::PeerUnreachable],
            FaultKind::Loss => &[E::TrafficLost],
            FaultKind::Delay => &[E::TrafficDelayed],
            FaultKind::ClockJump => &[E::ClockOffset],
            FaultKind::DiskFull | FaultKind::SyncError => &[E::WriteRefused],
            FaultKind::PowerCut => &[E::FilesystemDown],
            FaultKind::Damage => &[E::BytesChanged],
            FaultKind::Membership => &[E::MembersChanged],
            FaultKind::Restart => &[E::ProcessEnded, E::LeaderChanged],
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} of {} at {}", self.kind, self.target, self.applied_at_ms)
    }
}

/// The tables of one node, read after the last heal.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Replica {
    /// Its name, as in [`History::nodes`].
    pub node: String,
    /// When the reading began.
    pub read_at_ms: i64,
    /// How far it had applied the log, when known. Two replicas are compared by hash only at the same index.
    #[serde(default)]
    pub applied: Option<u64>,
    /// Of all its tables, when known.
    #[serde(default)]
    pub state_hash: Option<String>,
    /// Every task that is there, each once, in any order.
    pub tasks: Vec<TaskFound>,
}

/// A task as a node has it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TaskFound {
    /// [`TaskAsked::key`], from its name or command line.
    pub key: String,
    /// Its id.
    pub id: u64,
    /// As the API words it, `QUEUED` and so on.
    pub state: String,
    /// Its runs that are kept, in any order. Retention must be wide enough to keep all that are judged.
    pub runs: Vec<RunFound>,
    /// Occurrences the ledger says were missed or skipped, as ranges from the first to the last.
    #[serde(default)]
    pub ledger: Vec<(i64, i64)>,
}

/// A run as a node has it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunFound {
    /// `task:number`.
    pub run: String,
    /// As the API words it: `PENDING`, `ASSIGNED`, `RUNNING`, `LOST`, `FINISHED`, `FAILED`, `TERMINATED`.
    pub state: String,
    /// Its occurrence.
    pub scheduled_at_ms: i64,
    /// Somebody asked for it.
    #[serde(default)]
    pub manual: bool,
    /// Waits for a retry delay, an earlier run or room in its group: it is not due.
    #[serde(default)]
    pub waits: bool,
    /// Attempts ever.
    pub attempts: u32,
    /// The token whose report ended it with success, when it is FINISHED and the node tells.
    #[serde(default)]
    pub success_token: Option<String>,
    /// Reports under a token that was not current: the flag of an overlap.
    #[serde(default)]
    pub stale_reports: u32,
    /// Workers lost under it.
    #[serde(default)]
    pub losses: u32,
}

/// One call of the API on one task and what came back, by a clock with microseconds: calls are short.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Operation {
    /// The task's name: tasks are judged apart from each other.
    pub key: String,
    /// Who called: one call at a time.
    pub client: u32,
    /// Before the call left.
    pub called_at_us: i64,
    /// After the answer came; absent when none did.
    pub answered_at_us: Option<i64>,
    /// What was asked.
    pub call: Call,
    /// What was answered; must be [`Told::Unknown`] when no answer came.
    pub told: Told,
}

/// A call on a named task that is never due by itself (manual, or far in the future).
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Call {
    /// Submits the task under its name.
    Submit {
        /// The request key: a repeat gets the first answer.
        request: String,
        /// Due then; absent: manual.
        at_ms: Option<i64>,
    },
    /// Reads the task by its name.
    Get,
    /// Pauses it with a note.
    Pause {
        /// The request key.
        request: String,
        /// For people.
        note: String,
    },
    /// Resumes it.
    Resume {
        /// The request key.
        request: String,
    },
    /// Takes it out; its name is free again.
    Dequeue {
        /// The request key.
        request: String,
    },
    /// Gives it another due time.
    Move {
        /// The request key.
        request: String,
        /// Due then.
        at_ms: i64,
        /// Refused unless the task is at this generation.
        generation: Option<u64>,
    },
}

/// What a call was answered.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Told {
    /// Carried out, on the task of this id.
    Done {
        /// Its id.
        id: u64,
    },
    /// As it is, for [`Call::Get`].
    Found {
        /// Its id.
        id: u64,
        /// Its generation.
        generation: u64,
        /// The note, while paused.
        paused: Option<String>,
        /// Its due time; absent: manual.
        at_ms: Option<i64>,
    },
    /// There is no task of that name.
    NotFound,
    /// The name belongs to another task.
    NameTaken {
        /// Its id.
        by: u64,
    },
    /// It is at another generation.
    Conflict {
        /// As it is.
        actual: u64,
    },
    /// Not possible in its state.
    WrongState,
    /// Refused without being looked at (overloaded, no quorum, not the leader): nothing was done.
    NotDone,
    /// No answer, or one that leaves it open.
    Unknown,
}
