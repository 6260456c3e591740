//! What is wanted: the definition of a task, and its run-time state beside it.

mod delivery;
mod field;
mod notify;
mod placement;
mod status;

pub use delivery::{Delivery, LOST_HOLD_MS_DEFAULT, OnDisconnect};
pub use field::{NONE, PolicyField, Stated};
pub use notify::{Notify, NotifyOn, NotifyTo};
pub use placement::{Group, Placement};
pub use status::Pause;

use crate::ids::TaskId;
use crate::schedule::Schedule;
use crate::time::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// How a caller names a task.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum TaskRef {
    /// By its serial number.
    Id(TaskId),
    /// By its unique name.
    Name {
        /// The namespace, `default` unless said otherwise.
        namespace: String,
        /// The name.
        name: String,
    },
}

/// The id, or the name; the namespace only when it is not the default one.
impl std::fmt::Display for TaskRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            TaskRef::Id(id) => write!(f, "{id}"),
            TaskRef::Name { namespace, name } if namespace == "default" => f.write_str(name),
            TaskRef::Name { namespace, name } => write!(f, "{namespace}/{name}"),
        }
    }
}

/// What a user asks for; the part of a task that only `update` and `move` change.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct TaskSpec {
    /// Names, groups and limits belong to it.
    pub namespace: String,
    /// Unique in the namespace while the task is not terminated.
    pub name: Option<String>,
    /// Free `key=value` pairs to select by.
    pub labels: BTreeMap<String, String>,
    /// Who asked for it.
    pub owner: String,
    /// For people.
    pub description: String,
    /// When.
    pub schedule: Schedule,
    /// What to do.
    pub action: Action,
    /// How to treat missed runs, overlap, failures, history.
    pub policy: Policy,
    /// What the schedule is cut down to.
    pub bounds: Bounds,
}

/// What a schedule is cut down to. It concerns occurrences, not runs asked for by hand.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Bounds {
    /// There is no occurrence before it.
    pub not_before: Option<Timestamp>,
    /// There is no occurrence after it.
    pub until: Option<Timestamp>,
    /// The last start of a one-shot: after it, it is missed.
    pub expires: Option<Timestamp>,
    /// There are at most so many occurrences, whether they run or not.
    pub count: Option<u64>,
    /// Each occurrence is put off by some time, so that many tasks with one schedule do not start at one instant.
    pub jitter: Option<Jitter>,
    /// Calendars of the task's namespace: an occurrence in one of their times is skipped.
    pub calendars: Vec<String>,
}

/// How occurrences are put off: each by a hash of itself, always by the same, never past the next one.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Jitter {
    /// Occurrences are put off by less than this, in milliseconds.
    pub ms: u64,
    /// Tells tasks apart: a hash of the task's name, or of the request that submitted it.
    pub seed: u64,
}

/// How a task must have ended that others wait for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub enum Ending {
    /// Finished.
    #[default]
    Success,
    /// Failed, missed or cancelled.
    Failure,
    /// Either.
    Any,
}

impl Ending {
    /// Returns the word used by API, command line and docs.
    pub fn as_str(self) -> &'static str {
        match self {
            Ending::Success => "success",
            Ending::Failure => "failure",
            Ending::Any => "any",
        }
    }

    /// Whether an end, with success or without, is the one that is waited for.
    pub fn is_met_by(self, success: bool) -> bool {
        match self {
            Ending::Success => success,
            Ending::Failure => !success,
            Ending::Any => true,
        }
    }
}

/// The stored definition of a task.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Task {
    /// What was asked for.
    pub spec: TaskSpec,
    /// When it was accepted, by leader time.
    pub created_at: Timestamp,
}

/// What to do when a run starts.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Action {
    /// Starts a process. Never through a shell unless `argv` names one.
    Command {
        /// Program and arguments.
        argv: Vec<String>,
        /// Added to the worker's own minimal environment.
        env: BTreeMap<String, String>,
        /// Working directory; the worker's own when absent.
        dir: Option<String>,
        /// Bytes given on standard input.
        #[serde(with = "serde_bytes")]
        stdin: Vec<u8>,
        /// Exit codes that count as success; empty means 0 alone.
        success_codes: Vec<i32>,
        /// The name of the user it runs as; the worker's own when absent.
        user: Option<String>,
        /// What it may use.
        limits: ProcessLimits,
    },
    /// Sends an HTTP request.
    Http {
        /// Method, upper case.
        method: String,
        /// Absolute `http` or `https` address.
        url: String,
        /// In the order given; names may repeat.
        headers: Vec<(String, String)>,
        /// The body, empty for none.
        #[serde(with = "serde_bytes")]
        body: Vec<u8>,
        /// Statuses that count as success; empty means 200 to 299.
        success_statuses: Vec<u16>,
        /// How long the whole exchange may take, in milliseconds.
        timeout_ms: u64,
        /// A regular expression that the body of a successful answer must match somewhere.
        expect: Option<String>,
        /// Headers that a successful answer must have: a name, and a regular expression that one of its values must match somewhere.
        expect_headers: Vec<(String, String)>,
    },
    /// Sleeps, then succeeds or fails as told: for demos and tests.
    Sample {
        /// How it ends.
        succeed: bool,
        /// How long it takes, in milliseconds.
        duration_ms: u64,
        /// Carried along unused, so that the cost of a payload can be measured.
        #[serde(with = "serde_bytes")]
        payload: Vec<u8>,
    },
    /// Sends a mail through the relay of the worker's node.
    Mail {
        /// The sender's address; the one of the worker's node when absent.
        from: Option<String>,
        /// Addresses.
        to: Vec<String>,
        /// Addresses that get a copy.
        cc: Vec<String>,
        /// One line.
        subject: String,
        /// Plain text.
        text: String,
    },
    /// Is done by a remote worker: a program of the user's own that serves the queue.
    Worker {
        /// The queue. Only workers that serve it get the runs, and they get no others.
        queue: String,
        /// What it means is between whoever submits it and the worker.
        #[serde(with = "serde_bytes")]
        payload: Vec<u8>,
        /// The longest that its handler may say nothing of its progress, in milliseconds: then the attempt has failed.
        progress_timeout_ms: Option<u64>,
    },
}

/// What each process of a run may use; the system enforces it. Absent means what the worker itself may use.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct ProcessLimits {
    /// Processor time in seconds, after which the process is ended.
    pub cpu_s: Option<u64>,
    /// Address space in bytes; beyond it, allocations fail.
    pub memory_bytes: Option<u64>,
    /// Files open at once; beyond it, opening one fails.
    pub files: Option<u32>,
}

impl Action {
    /// Returns the queue whose workers alone may run it; nothing when the nodes' own workers run it.
    pub fn queue(&self) -> Option<&str> {
        match self {
            Action::Worker { queue, .. } => Some(queue),
            Action::Command { .. } | Action::Http { .. } | Action::Sample { .. } | Action::Mail { .. } => None,
        }
    }

    /// Returns the name of the executor: `command`, `http`, `sample`, `mail` or `worker`.
    pub fn kind(&self) -> &'static str {
        match self {
            Action::Command { .. } => "command",
            Action::Http { .. } => "http",
            Action::Sample { .. } => "sample",
            Action::Mail { .. } => "mail",
            Action::Worker { .. } => "worker",
        }
    }
}

/// What to do with occurrences that came due while nobody could start them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub enum Missed {
    /// None of them runs.
    Skip,
    /// The latest runs.
    #[default]
    Latest,
    /// The last `max` run, oldest first.
    All {
        /// At most this many.
        max: u32,
    },
}

/// What to do when an occurrence comes due while a run of the same task is alive.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub enum Overlap {
    /// Both run.
    Allow,
    /// The new one is skipped, with a line in the ledger.
    #[default]
    Skip,
    /// One waits; further ones are skipped.
    QueueOne,
    /// All wait, in order.
    QueueAll,
    /// The running one is cancelled, the new one follows it.
    Replace,
}

/// How often and how fast a failed run is tried again.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Tries {
    /// Tries in all, the first included; at least 1.
    pub max: u32,
    /// Before the second try, in milliseconds.
    pub delay_ms: u64,
    /// Each further delay is this many hundredths of the one before: 200 doubles it.
    pub factor_percent: u32,
    /// No delay is longer, in milliseconds.
    pub delay_ms_max: u64,
    /// How long executors may put a run off by *delay me*, in milliseconds from the first such answer to the last delay's end.
    pub put_off_ms_max: u64,
}

impl Default for Tries {
    fn default() -> Self {
        Self {
            max: 1,
            delay_ms: 10_000,
            factor_percent: 200,
            delay_ms_max: 3_600_000,
            put_off_ms_max: 24 * 60 * 60 * 1000,
        }
    }
}

impl Tries {
    /// Returns the delay after the try with this number (from 1) failed, in milliseconds.
    pub fn delay_after(&self, tries_done: u32) -> u64 {
        let mut delay = u128::from(self.delay_ms);
        for _ in 1..tries_done.min(64) {
            delay = (delay * u128::from(self.factor_percent) / 100).min(u128::from(self.delay_ms_max));
        }
        u64::try_from(delay.min(u128::from(self.delay_ms_max))).unwrap_or(self.delay_ms_max)
    }
}

/// How long ended runs stay readable.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Retention {
    /// Finished runs kept per task.
    pub finished_max: u32,
    /// Failed runs kept per task.
    pub failed_max: u32,
    /// Age at which a finished run goes, in milliseconds.
    pub finished_age_ms_max: u64,
    /// Age at which a failed run goes, in milliseconds.
    pub failed_age_ms_max: u64,
}

impl Default for Retention {
    fn default() -> Self {
        Self {
            finished_max: 100,
            failed_max: 100,
            finished_age_ms_max: 7 * 24 * 60 * 60 * 1000,
            failed_age_ms_max: 7 * 24 * 60 * 60 * 1000,
        }
    }
}

impl Retention {
    /// Returns the age at which a run that ended so goes, in milliseconds. A task goes with the last run that it can have.
    pub fn age_ms_max(&self, finished: bool) -> i64 {
        let age = if finished {
            self.finished_age_ms_max
        } else {
            self.failed_age_ms_max
        };
        i64::try_from(age).unwrap_or(i64::MAX)
    }
}

/// How a task's runs are treated.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Policy {
    /// How late an occurrence may start, in milliseconds; older ones are missed.
    pub grace_ms: u64,
    /// Which of several occurrences within the grace run.
    pub missed: Missed,
    /// Runs of the same task at the same time.
    pub overlap: Overlap,
    /// Failed runs.
    pub tries: Tries,
    /// Lost runs; absent means by action.
    pub delivery: Option<Delivery>,
    /// Longest run in milliseconds, after which its whole process tree is killed.
    pub time_limit_ms: Option<u64>,
    /// -100 to 100; among due runs higher first, then older.
    pub priority: i8,
    /// History.
    pub retention: Retention,
    /// Bound shared with other tasks.
    pub group: Option<Group>,
    /// Workers.
    pub placement: Placement,
    /// Who hears of its runs.
    pub notify: Vec<Notify>,
    /// Runs whose worker loses contact; absent means by delivery: at-least-once is killed, at-most-once runs on.
    pub on_disconnect: Option<OnDisconnect>,
    /// How long a LOST run keeps its place in overlap and group limits, in milliseconds.
    pub lost_hold_ms: u64,
    /// Which of them the task's owner has stated; the others have the defaults of the time when the task was accepted.
    pub stated: Stated,
    /// Runs that are caught up with start at least so far apart, in milliseconds; in any case one after the other.
    pub catch_up_every_ms: u64,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            grace_ms: 3_600_000,
            missed: Missed::default(),
            overlap: Overlap::default(),
            tries: Tries::default(),
            delivery: None,
            time_limit_ms: None,
            priority: 0,
            retention: Retention::default(),
            group: None,
            placement: Placement::default(),
            notify: Vec::new(),
            on_disconnect: None,
            lost_hold_ms: LOST_HOLD_MS_DEFAULT,
            stated: Stated::default(),
            catch_up_every_ms: 0,
        }
    }
}

/// Where a task is in its life.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub enum TaskState {
    /// Accepted while the scheduler was shut down, or behind such operations; moved on by `Drain`.
    Spooled,
    /// In the waiting queue, or only waiting to be triggered.
    Queued,
    /// A run of it is alive.
    Running,
    /// A one-shot whose run failed, was missed, lost or cancelled.
    Failed,
    /// A one-shot that succeeded, or a schedule that is exhausted.
    Finished,
    /// Dequeued: it does not come back, and its name is free.
    Terminated,
}

impl TaskState {
    /// Returns the word used by API, command line and docs.
    pub fn as_str(self) -> &'static str {
        match self {
            TaskState::Spooled => "SPOOLED",
            TaskState::Queued => "QUEUED",
            TaskState::Running => "RUNNING",
            TaskState::Failed => "FAILED",
            TaskState::Finished => "FINISHED",
            TaskState::Terminated => "TERMINATED",
        }
    }

    /// Whether nothing more happens to the task by itself.
    pub fn is_ended(self) -> bool {
        matches!(self, TaskState::Failed | TaskState::Finished | TaskState::Terminated)
    }
}

impl std::str::FromStr for TaskState {
    type Err = String;

    /// Reads the word in either case.
    fn from_str(s: &str) -> Result<Self, String> {
        const ALL: [TaskState; 6] = [
            TaskState::Spooled,
            TaskState::Queued,
            TaskState::Running,
            TaskState::Failed,
            TaskState::Finished,
            TaskState::Terminated,
        ];
        ALL.into_iter()
            .find(|state| state.as_str().eq_ignore_ascii_case(s))
            .ok_or_else(|| {
                format!(
                    "{s:?} is not a task state; expected one of {}",
                    ALL.map(TaskState::as_str).join(", ")
                )
            })
    }
}

/// How many occurrences a schedule can have by itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum ScheduleKind {
    /// At most one.
    OneShot,
    /// Any number.
    Periodic,
    /// None: only when triggered.
    Manual,
}

impl ScheduleKind {
    /// Returns the kind of a schedule.
    pub fn of(schedule: &Schedule) -> Self {
        match schedule {
            Schedule::Now
            | Schedule::At(_)
            | Schedule::In { .. }
            | Schedule::After { .. }
            | Schedule::Before { .. } => ScheduleKind::OneShot,
            Schedule::Every { .. } | Schedule::Cron { .. } | Schedule::Rrule { .. } => ScheduleKind::Periodic,
            Schedule::Manual => ScheduleKind::Manual,
        }
    }
}

/// The next run time of a task, as the leader computed it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum NextRun {
    /// Due then.
    At(Timestamp),
    /// The schedule has no further occurrence, or never had one by itself (`manual`).
    Never,
    /// The search reached its bound: an alarm, and another search from `retry_at`. Never "finished".
    GaveUp {
        /// When to search again.
        retry_at: Timestamp,
        /// Nothing was found up to here.
        searched_until: Timestamp,
    },
}

/// The part of a task that changes as it runs.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct TaskStatus {
    /// Where it is.
    pub state: TaskState,
    /// Grows with every change of the definition or the schedule.
    pub generation: u64,
    /// How many occurrences the schedule can have by itself.
    pub kind: ScheduleKind,
    /// Copied from the definition, as are the next two: firing and completing never read the definition with its payload.
    pub policy: Policy,
    /// See [`TaskSpec::bounds`].
    pub bounds: Bounds,
    /// See [`TaskSpec::namespace`].
    pub namespace: String,
    /// Occurrences decided about so far: run, skipped or missed.
    pub occurrences: u64,
    /// Tasks that must end before this one is due.
    pub waits_for: Vec<TaskId>,
    /// How they must end.
    pub waits_on: Ending,
    /// Why it shall not run although it is due: a task it waited for has ended in another way than it asked for.
    pub doomed: Option<String>,
    /// Tasks that wait for the end of this one.
    pub dependents: u32,
    /// The next occurrence.
    pub next: NextRun,
    /// Set while paused.
    pub pause: Option<Pause>,
    /// The last occurrence that was fired, skipped or missed.
    pub last_scheduled: Option<Timestamp>,
    /// Number of the newest run.
    pub runs_created: u64,
    /// Runs not yet terminal that may run now, ascending.
    pub live: Vec<u64>,
    /// Runs waiting for the live ones to end, in order.
    pub held: Vec<u64>,
    /// LOST runs, ascending; those that still keep their place are live, too.
    pub lost: Vec<u64>,
    /// Finished runs ever.
    pub finished: u64,
    /// Failed, missed and terminated runs ever.
    pub failed: u64,
    /// The newest end that was no cancellation was a failure, or left the outcome unknown.
    pub failing: bool,
    /// Finished run records kept now.
    pub finished_kept: u32,
    /// Failed run records kept now.
    pub failed_kept: u32,
    /// Ledger lines ever written; the newest [`crate::limits::LEDGER_LINES_MAX`] are kept.
    pub ledger_lines: u64,
    /// When it entered an ended state; for retention.
    pub ended_at: Option<Timestamp>,
    /// The live run that those held back wait for although the overlap policy is `allow`: the one of a backfill or a catch-up whose
    /// turn it is.
    pub turn: Option<u64>,
    /// The newest start of a run that was caught up with.
    pub caught_up_at: Option<Timestamp>,
    /// See [`Action::queue`]; copied, as firing never reads the definition.
    pub queue: Option<String>,
}
