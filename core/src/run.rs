//! One occurrence of a task: its states, its attempts, its result.

use crate::hash::Fnv;
use crate::ids::{RequestKey, RunId, SessionId, Token};
use crate::limits;
use crate::task::{Group, Placement};
use crate::time::Timestamp;
use serde::{Deserialize, Serialize};

/// Why a run exists.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Occurrence {
    /// Its schedule said so.
    Scheduled,
    /// Somebody asked for it, once per request.
    Manual(Option<RequestKey>),
    /// Somebody asked for the occurrences of a range that had passed, once per request.
    Backfill(Option<RequestKey>),
    /// Its schedule said so while nobody could start it; the policy for missed runs makes up for it.
    CatchUp,
}

impl Occurrence {
    /// Whether such runs of a task follow each other, even where the overlap policy lets runs overlap.
    pub fn takes_turns(&self) -> bool {
        matches!(self, Occurrence::Backfill(_) | Occurrence::CatchUp)
    }

    /// Whether the schedule made the run, in time or late.
    pub fn is_scheduled(&self) -> bool {
        matches!(self, Occurrence::Scheduled | Occurrence::CatchUp)
    }
}

/// Where a run is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum RunState {
    /// Due, and free to start.
    Ready,
    /// Waits until an instant: a retry delay or *delay me*.
    Delayed {
        /// Not before.
        until: Timestamp,
    },
    /// Waits for an earlier run of the same task.
    Held,
    /// Given to a session, not yet granted to start (at-most-once only).
    Assigned {
        /// The attempt.
        token: Token,
        /// The worker's session.
        session: SessionId,
    },
    /// Started, as far as the cluster knows.
    Running {
        /// The attempt.
        token: Token,
        /// The worker's session.
        session: SessionId,
    },
    /// The session ended after the start of an at-most-once attempt: outcome unknown.
    Lost {
        /// The attempt.
        token: Token,
        /// Until then it keeps its place in overlap and group limits; absent once that is over.
        hold_until: Option<Timestamp>,
    },
    /// Succeeded.
    Finished,
    /// Failed for good.
    Failed,
    /// Cancelled.
    Terminated,
    /// Due, and waits for room in its group.
    Blocked,
}

impl RunState {
    /// Returns the word used by API, command line and docs.
    pub fn as_str(self) -> &'static str {
        match self {
            RunState::Ready | RunState::Delayed { .. } | RunState::Held | RunState::Blocked => "PENDING",
            RunState::Assigned { .. } => "ASSIGNED",
            RunState::Running { .. } => "RUNNING",
            RunState::Lost { .. } => "LOST",
            RunState::Finished => "FINISHED",
            RunState::Failed => "FAILED",
            RunState::Terminated => "TERMINATED",
        }
    }

    /// Whether the run takes room in its group: it may start at any moment, or has.
    pub fn takes_room(self) -> bool {
        matches!(
            self,
            RunState::Ready
                | RunState::Assigned { .. }
                | RunState::Running { .. }
                | RunState::Lost {
                    hold_until: Some(_),
                    ..
                }
        )
    }

    /// Whether the run has ended for good (unless an operator retries it).
    pub fn is_terminal(self) -> bool {
        matches!(self, RunState::Finished | RunState::Failed | RunState::Terminated)
    }

    /// Returns the attempt and the session that hold the run now.
    pub fn holder(self) -> Option<(Token, SessionId)> {
        match self {
            RunState::Assigned { token, session } | RunState::Running { token, session } => Some((token, session)),
            _ => None,
        }
    }
}

/// One try of a run that ended or is under way.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Attempt {
    /// Its token; fences late reports.
    pub token: Token,
    /// The name of the worker.
    pub worker: String,
    /// When it was assigned, by leader time.
    pub assigned_at: Timestamp,
    /// How it ended: `success`, `failure`, `worker_lost`, `refused`, `delayed`; absent while under way.
    pub ended: Option<AttemptEnd>,
    /// It starts at most once, whatever its task says by now.
    pub at_most_once: bool,
    /// The journal of the worker it was given to: only that one may report it.
    pub journal: u128,
    /// How long that journal was, its record of the start included, when the start was granted (at-most-once); else 0.
    pub journal_length: u64,
}

/// How an attempt ended.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum AttemptEnd {
    /// The executor said success.
    Success,
    /// The executor said failure.
    Failure,
    /// Its session expired: the worker died or was cut off.
    WorkerLost,
    /// The worker did not start it.
    Refused,
    /// The executor asked for a delay.
    Delayed,
    /// Cancelled by an operator or by the overlap policy.
    Cancelled,
    /// Given up as lost or refused, and reported by its worker afterwards: it may have overlapped its successor.
    ReportedLate,
    /// Its worker ended it because it was stopping.
    WorkerStopped,
    /// An operator said what became of it.
    Resolved,
}

/// What an executor reports when an attempt has ended.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RunResult {
    /// How it ended.
    pub verdict: Verdict,
    /// Exit code of a command, status of an HTTP exchange.
    pub exit_code: Option<i32>,
    /// Start by the worker's clock.
    pub started_at: Timestamp,
    /// End by the worker's clock.
    pub ended_at: Timestamp,
    /// Last bytes of the output, at most [`crate::limits::OUTPUT_TAIL_BYTES_MAX`].
    #[serde(with = "serde_bytes")]
    pub output_tail: Vec<u8>,
    /// What a remote worker has to say of its success, at most [`crate::limits::RESULT_BYTES_MAX`].
    #[serde(with = "serde_bytes")]
    pub result: Vec<u8>,
}

impl RunResult {
    /// Cuts what is longer than its bound: the reason and a remote worker's result at their end, the output at its beginning.
    #[must_use]
    pub fn bounded(mut self) -> Self {
        if let Verdict::Failure { reason } | Verdict::DelayMe { reason, .. } = &mut self.verdict {
            reason.truncate(cut(reason).len());
        }
        let over = self.output_tail.len().saturating_sub(limits::OUTPUT_TAIL_BYTES_MAX);
        self.output_tail.drain(..over);
        self.result.truncate(limits::RESULT_BYTES_MAX);
        self
    }
}

/// Returns the beginning of a reason, as much of it as a record holds.
pub fn cut(reason: &str) -> &str {
    let end = (0..=limits::TEXT_BYTES_MAX.min(reason.len()))
        .rev()
        .find(|end| reason.is_char_boundary(*end));
    &reason[..end.unwrap_or(0)]
}

/// The executor's answer as a value: what comes next.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Verdict {
    /// Done.
    Success,
    /// Failed; tries may be left.
    Failure {
        /// For people.
        reason: String,
    },
    /// Not now: again after a delay, without using up a try.
    DelayMe {
        /// How long, in milliseconds.
        delay_ms: u64,
        /// For people.
        reason: String,
    },
    /// Killed because the cluster said so.
    Cancelled,
    /// Its worker ended it by itself, because it was stopping or had lost contact.
    Abandoned {
        /// For people.
        reason: String,
        /// The worker was stopped on purpose, which says nothing against the task.
        stopping: bool,
    },
    /// Its worker was killed or crashed while it ran, and has started again: nobody knows how it ended.
    Lost {
        /// For people.
        reason: String,
    },
}

/// The record of a run.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Run {
    /// Its name.
    pub id: RunId,
    /// The generation of the task that created it.
    pub generation: u64,
    /// Why it exists.
    pub occurrence: Occurrence,
    /// When it was to start.
    pub scheduled_at: Timestamp,
    /// Copied from the task when it was created: the ready list is ordered by it.
    pub priority: i8,
    /// The namespace of its task: groups belong to it.
    pub namespace: String,
    /// Copied from the task when it was created, as is the next.
    pub group: Option<Group>,
    /// Workers it may go to.
    pub placement: Placement,
    /// Parameters of a manual trigger, given to the process as `SCHED_PARAM_*`.
    pub params: Vec<(String, String)>,
    /// Where it is.
    pub state: RunState,
    /// Somebody asked to cancel it while it was running.
    pub cancelling: bool,
    /// Tries begun.
    pub tries: u32,
    /// Tries begun before the last operator's retry.
    pub tries_before: u32,
    /// Workers lost under it.
    pub losses: u32,
    /// Attempts ever.
    pub attempts_count: u32,
    /// The newest attempts, oldest first.
    pub attempts: Vec<Attempt>,
    /// First assignment, by leader time.
    pub assigned_at: Option<Timestamp>,
    /// Start of the newest reported attempt.
    pub started_at: Option<Timestamp>,
    /// When the run became terminal, by leader time.
    pub ended_at: Option<Timestamp>,
    /// Of the newest reported attempt.
    pub exit_code: Option<i32>,
    /// Why it is where it is, for people.
    pub reason: String,
    /// Of the newest reported attempt.
    #[serde(with = "serde_bytes")]
    pub output_tail: Vec<u8>,
    /// Reports that came under a token that was no longer current: an overlap that is shown, not hidden.
    pub stale_reports: u32,
    /// Delays that its executor has asked for in this round of tries.
    pub delays: u32,
    /// When the first of them was asked for.
    pub put_off_since: Option<Timestamp>,
    /// The queue whose workers alone may take it; copied from the task when it was created.
    pub queue: Option<String>,
    /// Of the newest reported attempt, when a remote worker made one.
    #[serde(with = "serde_bytes")]
    pub result: Vec<u8>,
}

impl Run {
    /// Returns the worker whose attempt was the last to fail: another one is taken when there is one.
    pub fn avoids(&self) -> Option<&str> {
        let last = self.attempts.last()?;
        let bad = matches!(
            last.ended,
            Some(AttemptEnd::Failure | AttemptEnd::WorkerLost | AttemptEnd::Refused)
        );
        bad.then_some(last.worker.as_str())
    }

    /// Returns the part of the ready list it belongs in: 0 when any worker will do, else a number that runs with the same demands
    /// share, so that runs nobody can take are not in the way of others. Two demands with one hash share a part, which costs order
    /// between them and nothing else: each run is placed by its own demands.
    pub fn class(&self) -> u64 {
        let avoids = self.avoids();
        if self.placement.is_any() && avoids.is_none() && self.queue.is_none() {
            return 0;
        }
        let mut hash = Fnv::default();
        for (tag, labels) in [(1, &self.placement.require), (2, &self.placement.prefer)] {
            for (label, value) in labels {
                hash.add(&[tag]);
                hash.add(label.as_bytes());
                hash.add(&[0]);
                hash.add(value.as_bytes());
                hash.add(&[0]);
            }
        }
        if let Some(worker) = avoids {
            hash.add(&[3]);
            hash.add(worker.as_bytes());
            hash.add(&[0]);
        }
        if let Some(queue) = &self.queue {
            hash.add(&[4]);
            hash.add(queue.as_bytes());
        }
        hash.finish().max(1)
    }
}

/// What became of an expected occurrence that got no run of its own, or of a report that came too late.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct LedgerLine {
    /// When it was written, by leader time.
    pub at: Timestamp,
    /// What.
    pub fact: LedgerFact,
}

/// See [`LedgerLine`].
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum LedgerFact {
    /// Occurrences later than their grace, or dropped by the missed-run policy.
    Missed {
        /// The first of them.
        first: Timestamp,
        /// The last of them.
        last: Timestamp,
        /// How many.
        count: u64,
        /// Why.
        reason: String,
    },
    /// One occurrence that was not started on purpose.
    Skipped {
        /// Which.
        scheduled_at: Timestamp,
        /// Why.
        reason: String,
    },
    /// An operation from the spool that could not be carried out.
    DrainFailed {
        /// Why.
        reason: String,
    },
    /// Occurrences that came due one after the other in times that a calendar closes. The line grows while they go on.
    Closed {
        /// The first of them.
        first: Timestamp,
        /// The last of them.
        last: Timestamp,
        /// How many.
        count: u64,
        /// Which calendar.
        calendar: String,
    },
    /// An attempt that had been given up was reported after all: it may have overlapped its successor.
    StaleReport {
        /// Its run.
        run: RunId,
        /// The attempt.
        token: Token,
        /// Who reported it.
        worker: String,
        /// How it ended: a word of [`Verdict::as_str`].
        verdict: String,
    },
    /// An operator said what became of a lost run.
    Resolved {
        /// Which.
        run: RunId,
        /// A word of [`crate::command::Resolution::as_str`].
        resolution: String,
        /// Who said so.
        principal: String,
    },
}

impl Verdict {
    /// Returns the word used in ledger and log.
    pub fn as_str(&self) -> &'static str {
        match self {
            Verdict::Success => "success",
            Verdict::Failure { .. } => "failure",
            Verdict::DelayMe { .. } => "delay",
            Verdict::Cancelled => "cancelled",
            Verdict::Abandoned { .. } => "abandoned",
            Verdict::Lost { .. } => "lost",
        }
    }
}
