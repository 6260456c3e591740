//! What can be proposed, what is answered, and what is refused.

mod call;
mod effect;
mod resolution;
mod spool;

pub use call::{Call, Remembered};
pub use effect::{Effect, Outcome};
pub use resolution::Resolution;
pub use spool::{DrainItem, SpoolAction, SpoolOp};

use crate::calendar::CalendarSpec;
use crate::config::{Config, Setting};
use crate::ids::{NodeId, RequestKey, RunId, SessionId, TaskId, Token};
use crate::run::RunResult;
use crate::schedule::Schedule;
use crate::session::{Disposition, JournalPosition};
use crate::task::{NextRun, TaskRef, TaskSpec, TaskState};
use crate::time::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// One entry of the replicated log: many commands, one time stamp.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Entry {
    /// The term of the proposer; refused when it is not the entry's own.
    pub term: u64,
    /// Leader time when it was proposed.
    pub now: Timestamp,
    /// In order.
    pub items: Vec<Item>,
}

/// A command with its origin.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Item {
    /// Makes a retry recognisable; absent for the leader's own commands, whose checks make a retry harmless.
    pub request: Option<RequestKey>,
    /// Who asked; empty for the leader's own commands.
    pub principal: String,
    /// What.
    pub command: Command,
}

impl Item {
    /// Returns a command of the leader's own.
    pub fn internal(command: Command) -> Self {
        Self {
            request: None,
            principal: String::new(),
            command,
        }
    }
}

/// Everything that changes the state. The order of the variants is on disk: new ones go to the end.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub enum Command {
    /// Accepts a task. `first` was computed by the leader.
    Submit {
        /// The task, with `in` already resolved to `at`.
        spec: Box<TaskSpec>,
        /// Its first run time.
        first: NextRun,
    },
    /// Takes a task out: it does not come back.
    Dequeue {
        /// Which.
        task: TaskRef,
        /// Cancel its live runs too, instead of leaving them.
        kill: bool,
    },
    /// Gives a task a new start.
    Move {
        /// Which.
        task: TaskRef,
        /// Refused when the task has changed since the leader computed `next`.
        generation: u64,
        /// The schedule with its new start.
        schedule: Schedule,
        /// The next run time under it.
        next: NextRun,
    },
    /// Creates a run now.
    Trigger {
        /// Which.
        task: TaskRef,
        /// Given to the run.
        params: Vec<(String, String)>,
    },
    /// Gives a failed or terminated run a new round of tries.
    Retry {
        /// Which.
        run: RunId,
    },
    /// Cancels a run in any state that is not terminal.
    Cancel {
        /// Which.
        run: RunId,
    },
    /// Stops firing a task.
    Pause {
        /// Which.
        task: TaskRef,
        /// Resume by itself then.
        until: Option<Timestamp>,
        /// For people.
        note: String,
    },
    /// Fires a task again.
    Resume {
        /// Which.
        task: TaskRef,
        /// Refused when the task has changed since.
        generation: u64,
        /// The next run time.
        next: NextRun,
        /// Occurrences that fell into the pause.
        paused: Option<MissedRange>,
    },
    /// Removes what is still in the spool, oldest first, in bounded steps.
    ClearSpool {
        /// Only operations with smaller numbers: what is accepted while clearing is not cleared.
        upto: u64,
    },
    /// Shuts the scheduler down: nothing is fired, operations stay in the spool.
    Shutdown {
        /// For people.
        message: String,
    },
    /// Starts the scheduler again.
    Start,
    /// Works off the oldest operations of the spool.
    Drain {
        /// Oldest first, without gaps.
        items: Vec<DrainItem>,
    },
    /// Turns due occurrences into runs and moves the cursors on.
    Fire {
        /// Occurrences older than this fell into a time without a leader: late, not missed.
        leader_since: Timestamp,
        /// One per task.
        items: Vec<FireItem>,
    },
    /// Makes delayed runs ready.
    Due {
        /// Whose delay has passed.
        runs: Vec<RunId>,
    },
    /// Gives ready runs to sessions.
    Assign {
        /// In the order of the plan.
        items: Vec<AssignItem>,
    },
    /// Grants the start of an at-most-once attempt.
    Grant {
        /// The run.
        run: RunId,
        /// The attempt.
        token: Token,
        /// Whose.
        session: SessionId,
        /// Where the worker's journal ends, the record of this start included.
        position: Option<JournalPosition>,
    },
    /// Reports the end of an attempt.
    Complete {
        /// The run.
        run: RunId,
        /// The attempt.
        token: Token,
        /// Who reports: the session that was given the attempt, or a later one of the same journal.
        session: SessionId,
        /// Where the worker's journal ends, the record of this end included.
        position: Option<JournalPosition>,
        /// How it ended.
        result: Box<RunResult>,
    },
    /// The worker refuses an attempt that it was just given, and keeps no record of it.
    Nack {
        /// The run.
        run: RunId,
        /// The attempt.
        token: Token,
        /// Who refuses.
        session: SessionId,
        /// Why.
        reason: String,
    },
    /// A worker joins, or comes back under the same journal.
    SessionOpen {
        /// The worker's name.
        worker: String,
        /// Its journal.
        journal: u128,
        /// The node it runs in.
        node: Option<NodeId>,
        /// Runs it takes at once.
        slots: u32,
        /// To be selected by.
        labels: BTreeMap<String, String>,
        /// The attempts it holds.
        held: Vec<(RunId, Token)>,
        /// The queues it serves; none for one that takes every other run.
        queues: BTreeSet<String>,
        /// Where its journal ends; absent for a worker without a journal on disk.
        position: Option<JournalPosition>,
        /// One random number per opening, as in the journal: from the last that was answered to this one's. See [`crate::session`].
        openings: Vec<u64>,
    },
    /// A session's lease is over.
    SessionExpire {
        /// Whose.
        session: SessionId,
        /// Its newest `SessionOpen` as the leader saw it; refused when there is a newer one.
        bound: Token,
    },
    /// A worker leaves by itself and holds nothing any more, or asks for no new runs.
    SessionClose {
        /// Whose.
        session: SessionId,
    },
    /// Deletes what retention no longer keeps.
    Retain {
        /// Ended runs, by age.
        runs: Vec<RunId>,
        /// Ended tasks, by age.
        tasks: Vec<TaskId>,
        /// Answers whose time has passed, up to this instant.
        requests_until: Timestamp,
    },
    /// Creates runs for occurrences that have passed.
    Backfill {
        /// Which.
        task: TaskRef,
        /// Refused when the task has changed since the leader computed `times`.
        generation: u64,
        /// The occurrences, ascending.
        times: Vec<Timestamp>,
        /// All may run at once, instead of one after the other.
        at_once: bool,
    },
    /// Gives a task another definition.
    Update {
        /// Which.
        task: TaskRef,
        /// Refused when the task has changed since its definition was read.
        generation: u64,
        /// The whole definition, with `in` already resolved to `at` and every policy filled in.
        spec: Box<TaskSpec>,
        /// The next run time under its schedule; absent when that stays as it is.
        next: Option<NextRun>,
    },
    /// Changes settings of the cluster.
    Configure {
        /// What is set in it is set; the rest stays as it is.
        set: Box<Config>,
        /// These get the values that are built in.
        unset: Vec<Setting>,
    },
    /// Deletes what is over of a task's history.
    DeleteHistory {
        /// Which.
        task: TaskRef,
        /// Numbers of ended runs; those that have not ended stay.
        runs: Vec<u64>,
        /// Ledger lines older than this go.
        lines_before: Option<Timestamp>,
    },
    /// Notes what a search found that had given up before.
    SearchedAgain {
        /// Which.
        task: TaskId,
        /// Refused when the task has changed since the leader looked.
        generation: u64,
        /// The next run time, or another time to search again.
        next: NextRun,
    },
    /// Creates or replaces a calendar.
    SetCalendar {
        /// The namespace it belongs to.
        namespace: String,
        /// Its name there.
        name: String,
        /// What it says.
        calendar: Box<CalendarSpec>,
        /// Refused unless the calendar is at this generation; 0 stands for one that does not exist.
        generation: Option<u64>,
    },
    /// Deletes a calendar that no task uses.
    DeleteCalendar {
        /// The namespace it belongs to.
        namespace: String,
        /// Its name there.
        name: String,
        /// Refused unless the calendar is at this generation.
        generation: Option<u64>,
    },
    /// Gives a worker no new runs, also when it comes back.
    DrainWorker {
        /// Its name.
        worker: String,
        /// For people.
        note: String,
    },
    /// Gives a worker runs again.
    UndrainWorker {
        /// Its name.
        worker: String,
    },
    /// The worker's journal says that the attempt never started and never will: also of a run that was given up as lost.
    NotStarted {
        /// The run.
        run: RunId,
        /// The attempt.
        token: Token,
        /// Who says so: the session that was given the attempt, or a later one of the same journal.
        session: SessionId,
        /// Where the worker's journal ends, the record of the refusal included.
        position: Option<JournalPosition>,
        /// Why.
        reason: String,
    },
    /// An operator says what became of a lost run.
    Resolve {
        /// Which.
        run: RunId,
        /// What.
        resolution: Resolution,
    },
    /// An operator takes back the time of the state, which a wrong clock has set far ahead.
    ResetClock {
        /// Leader time, confirmed by the clocks of a majority.
        to: Timestamp,
    },
}

/// One task of [`Command::Fire`].
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct FireItem {
    /// Which.
    pub task: TaskId,
    /// As the leader saw it.
    pub generation: u64,
    /// The occurrence the leader saw as next; must be the task's cursor.
    pub cursor: Timestamp,
    /// Occurrences that shall run, ascending, from `cursor` to now.
    pub runs: Vec<Timestamp>,
    /// Occurrences that shall not.
    pub missed: Option<MissedRange>,
    /// The cursor afterwards.
    pub next: NextRun,
    /// Occurrences that a calendar closes; then nothing else is in the item.
    pub closed: Option<ClosedRange>,
    /// The newest change of any calendar as the leader saw it; of no meaning for a task without calendars.
    pub calendars: u64,
}

/// Occurrences that came due and are skipped because of a calendar.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ClosedRange {
    /// The first of them.
    pub first: Timestamp,
    /// The last of them.
    pub last: Timestamp,
    /// How many.
    pub count: u64,
    /// Which calendar.
    pub calendar: String,
}

/// Occurrences that came due and shall not run.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct MissedRange {
    /// The first of them.
    pub first: Timestamp,
    /// The last of them.
    pub last: Timestamp,
    /// How many.
    pub count: u64,
    /// Why.
    pub reason: String,
}

/// One run of [`Command::Assign`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct AssignItem {
    /// Which.
    pub run: RunId,
    /// To whom.
    pub session: SessionId,
}

/// The answer to a command that was carried out.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub enum Reply {
    /// Nothing to add.
    Done,
    /// A task as it is after `Submit`, `Dequeue`, `Move`, `Pause`, `Resume`, `Update`.
    Task {
        /// Its number.
        id: TaskId,
        /// Its name.
        name: Option<String>,
        /// Its state.
        state: TaskState,
        /// Its next run time.
        next: NextRun,
    },
    /// A run, after `Trigger`, `Retry`, `Cancel`.
    Run {
        /// Which; absent when the operation went into the spool.
        run: Option<RunId>,
        /// Its task.
        task: TaskId,
    },
    /// How many, after `ClearSpool`, `Due`, `Drain`, `SessionExpire`, `Retain`, and whether more remain.
    Count {
        /// Moved or removed.
        count: u64,
        /// More of the same remain.
        more: bool,
    },
    /// After `Fire`: how many items took effect, and the runs they created.
    Fired {
        /// Runs created, ready or held.
        runs: Vec<RunId>,
        /// Items refused because the task had changed.
        refused: u32,
    },
    /// After `Assign`: the token of each item, or nothing when it was refused.
    Assigned(Vec<Option<Token>>),
    /// After `Complete`: whether the token was current.
    Completed {
        /// False: recorded and flagged as stale.
        current: bool,
    },
    /// After `SessionOpen`.
    Session {
        /// The session.
        id: SessionId,
        /// The log position of this opening.
        bound: Token,
        /// What to do with each attempt the worker holds.
        dispositions: Vec<(RunId, Token, Disposition)>,
    },
    /// After `Backfill`: the runs it created, ready or held.
    Runs(Vec<RunId>),
    /// After `Configure`: all settings as they are now.
    Config(Box<Config>),
    /// After `DeleteHistory`: what went.
    History {
        /// Runs.
        runs: u64,
        /// Ledger lines.
        lines: u64,
    },
    /// After `SetCalendar`.
    Calendar {
        /// What it is at now.
        generation: u64,
    },
}

/// A refusal: the same on every replica, and nothing was changed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, thiserror::Error)]
pub enum Reject {
    /// No such task, run or session.
    #[error("{what} does not exist")]
    NotFound {
        /// For example `task 42`.
        what: String,
    },
    /// The name belongs to another task.
    #[error("name {name:?} is taken by task {by}; choose another name, or dequeue that task first")]
    NameTaken {
        /// The name.
        name: String,
        /// Its owner.
        by: TaskId,
    },
    /// The task or run is in a state in which this cannot be done.
    #[error("{what} is {state}; {expected}")]
    WrongState {
        /// For example `task 42`.
        what: String,
        /// Its state.
        state: String,
        /// What would be accepted.
        expected: String,
    },
    /// The task has changed since the caller looked.
    #[error("task {task} is at generation {actual}, not {expected}; read it again and repeat")]
    Conflict {
        /// Which.
        task: TaskId,
        /// As the caller saw it.
        expected: u64,
        /// As it is.
        actual: u64,
    },
    /// Something in the request is not acceptable.
    #[error("{field}: {problem}")]
    Invalid {
        /// Where.
        field: String,
        /// What is wrong, and what would be accepted.
        problem: String,
    },
    /// The request's time has passed: it is refused, not executed.
    #[error("the request expired at {expired_at}, now is {now}; if its outcome is unknown, look before you repeat it")]
    RequestExpired {
        /// Its own expiry.
        expired_at: Timestamp,
        /// Leader time.
        now: Timestamp,
    },
    /// A bound is reached: try again later.
    #[error("{what}; try again in {retry_after_ms} ms")]
    Overloaded {
        /// Which bound.
        what: String,
        /// When to try again, in milliseconds.
        retry_after_ms: u64,
    },
    /// The token is not the current one of this run.
    #[error("attempt {token} of run {run} is not current")]
    StaleAttempt {
        /// The run.
        run: RunId,
        /// The attempt named.
        token: Token,
    },
    /// The session is not live.
    #[error("session {session} is not live; open a new one")]
    NoSession {
        /// Which.
        session: SessionId,
    },
    /// The worker's journal is not the one that the session knows: it was restored or copied.
    #[error(
        "the journal of worker {worker:?} {problem}: it was restored or copied, and may claim nothing; join with a new journal"
    )]
    OtherJournal {
        /// Whose.
        worker: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The attempt was given to another worker.
    #[error("attempt {token} of run {run} was never given to worker {worker:?}; only who was given it can report it")]
    NotYours {
        /// The run.
        run: RunId,
        /// The attempt named.
        token: Token,
        /// Who named it.
        worker: String,
    },
    /// Proposed by a leader of an earlier term: nothing was done, repeat it with the same request id.
    #[error("proposed in term {proposed}, committed in term {committed}")]
    WrongTerm {
        /// Of the proposer.
        proposed: u64,
        /// Of the entry.
        committed: u64,
    },
    /// Something that is no task has changed since the caller looked.
    #[error("{what} is at generation {actual}, not {expected}; read it again and repeat")]
    Changed {
        /// For example `calendar "holidays"`.
        what: String,
        /// As the caller saw it; 0 when it was not there.
        expected: u64,
        /// As it is; 0 when it is not there.
        actual: u64,
    },
}

/// Damage or a disk error below `apply`: the node stops. Never a replicated answer.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Fault {
    /// The tables could not be read or written.
    #[error("state tables: {0}")]
    Storage(String),
    /// A record does not decode.
    #[error("state table {table}, key {key}: {problem}")]
    Damaged {
        /// Which table.
        table: &'static str,
        /// Which key, in hex.
        key: String,
        /// What is wrong.
        problem: String,
    },
    /// Records contradict each other.
    #[error("state tables contradict each other: {0}")]
    Inconsistent(String),
}
