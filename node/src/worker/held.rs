//! The attempts a worker holds, from the leader's `Run` until the end is recorded: what may start, what is reported, what is known.
//!
//! A pure table: the agent feeds it and acts on its answers. What it wants written to the journal it hands out ([`Held::take_records`]),
//! and it goes on once that is on disk ([`Held::journalled`]): `S` before a process starts or a grant is asked for, `X` and `R` before
//! the end or the refusal is reported.

mod journalled;

use super::attempt::Finished;
use super::contact::Phase;
use super::journal::{Mark, Record};
use super::report::Report;
use super::settled::Settled;
use super::stop::{Cause, Stopper, Urgency};
use super::wire::{Job, OnDisconnect, attempt_to_wire};
use sched_core::limits::HELD_TOKENS_MAX;
use sched_core::run::{RunResult, Verdict};
use sched_core::session::Disposition;
use sched_core::task::Delivery;
use sched_core::{RunId, Timestamp, Token};
use sched_proto::worker as pb;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

/// An attempt, and how far it is.
struct Entry {
    run: RunId,
    state: State,
}

/// How far an attempt is.
enum State {
    /// Waits for a slot, for contact, or both.
    Parked(Arc<Job>),
    /// Has a slot; that it starts is being written to the journal.
    Starting(Arc<Job>),
    /// Has a slot, waits for its grant.
    WaitsForGrant(Arc<Job>),
    /// Started.
    Running {
        stopper: Stopper,
        on_disconnect: OnDisconnect,
        started_at: Timestamp,
        announced: bool,
    },
    /// Ended or refused, which is being written to the journal.
    Closing(Report),
    /// Ended or refused: reported until recorded.
    Over { report: Report, sent: Option<Duration> },
}

/// What to do about a `Run`.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Offer {
    /// Taken: see [`Held::next_step`].
    Taken,
    /// Known, nothing to do.
    Known,
    /// To be reported (again).
    Report,
    /// Refused without being remembered: as the table is full, this answer is sent once.
    RefuseOnce { code: pb::NackCode, reason: String },
}

/// What comes next for an attempt.
pub(crate) enum Step {
    /// Start it.
    Start { job: Arc<Job>, stopper: Stopper },
    /// Ask for its grant.
    AskForGrant(Token),
    /// Report it.
    Report(Token),
}

/// The table.
pub(crate) struct Held {
    entries: BTreeMap<Token, Entry>,
    /// In the order in which they came.
    parked: VecDeque<Token>,
    settled: Settled,
    slots: usize,
    /// Attempts that have a slot.
    busy: usize,
    draining: bool,
    /// What is to be written to the journal.
    records: Vec<Record>,
    /// Why the journal cannot be written any more.
    unwritable: Option<String>,
    /// Nothing of it is this worker's: it is ended and not reported.
    disowned: bool,
}

impl Held {
    /// Returns an empty table for a worker with so many slots.
    pub(crate) fn new(slots: u32) -> Self {
        Self {
            entries: BTreeMap::new(),
            parked: VecDeque::new(),
            settled: Settled::default(),
            slots: slots as usize,
            busy: 0,
            draining: false,
            records: Vec::new(),
            unwritable: None,
            disowned: false,
        }
    }

    /// Returns what is to be written to the journal, in this order.
    pub(crate) fn take_records(&mut self) -> Vec<Record> {
        std::mem::take(&mut self.records)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(crate) fn free_slots(&self) -> u32 {
        u32::try_from(self.slots.saturating_sub(self.busy)).unwrap_or(u32::MAX)
    }

    /// Attempts that wait to start.
    pub(crate) fn parked(&self) -> usize {
        self.parked.len()
    }

    /// Attempts that are over and not recorded.
    pub(crate) fn unrecorded(&self) -> usize {
        self.entries.len() - self.busy - self.parked.len()
    }

    /// Takes a `Run`. A token is started once in the worker's life, however often it comes.
    pub(crate) fn offer(&mut self, job: Job) -> Offer {
        let token = job.token;
        if let Some(entry) = self.entries.get(&token) {
            return match entry.state {
                State::Over { .. } => Offer::Report,
                _ => Offer::Known,
            };
        }
        if self.settled.contains(token) {
            return Offer::Known;
        }
        let refusal = if self.settled.may_have_forgotten(token) {
            Some((pb::NackCode::TooOld, "older than what this worker remembers"))
        } else if self.unwritable.is_some() {
            Some((pb::NackCode::Journal, "the worker cannot write its journal"))
        } else if self.draining {
            Some((pb::NackCode::Draining, "the worker is leaving"))
        } else if self.entries.len() >= HELD_TOKENS_MAX || self.busy + self.parked.len() >= 2 * self.slots {
            Some((pb::NackCode::Full, "no slot is free"))
        } else {
            None
        };
        if let Some((code, reason)) = refusal {
            return self.refuse_unknown(job.run, token, code, reason);
        }
        self.entries.insert(
            token,
            Entry {
                run: job.run,
                state: State::Parked(Arc::new(job)),
            },
        );
        self.parked.push_back(token);
        Offer::Taken
    }

    /// Refuses an attempt that is not in the table.
    fn refuse_unknown(&mut self, run: RunId, token: Token, code: pb::NackCode, reason: &str) -> Offer {
        let reason = reason.to_owned();
        if self.entries.len() >= HELD_TOKENS_MAX {
            // Should it come again before the refusal has arrived, it is not taken then either.
            self.settled.insert(token);
            return Offer::RefuseOnce { code, reason };
        }
        let journalled = self.unwritable.is_none();
        let report = Report::Refused {
            code,
            reason,
            journalled,
        };
        self.close(run, token, report);
        Offer::Report
    }

    /// Takes a `Run` that this version does not understand: it fails, visibly, instead of going round between workers.
    pub(crate) fn not_understood(&mut self, run: RunId, token: Token, reason: String, now: Timestamp) -> Offer {
        if self.entries.contains_key(&token) || self.settled.contains(token) || self.entries.len() >= HELD_TOKENS_MAX {
            return Offer::Known;
        }
        let finished = ended_at(now, Verdict::Failure { reason });
        self.close(run, token, Report::Completed(Box::new(finished)));
        Offer::Report
    }

    /// Notes that an attempt is over: reported once the journal says so, at once when it cannot be written.
    fn close(&mut self, run: RunId, token: Token, report: Report) {
        let state = if self.unwritable.is_some() {
            State::Over { report, sent: None }
        } else {
            self.records.push(match &report {
                Report::Completed(finished) => Record::ended(run, token, finished),
                Report::Refused { code, reason, .. } => Record::Refused {
                    run,
                    token,
                    code: (*code).into(),
                    reason: reason.clone(),
                },
            });
            State::Closing(report)
        };
        self.entries.insert(token, Entry { run, state });
    }

    /// Gives parked attempts slots, and has it written that they start. Only with good contact.
    pub(crate) fn begin_waiting(&mut self) {
        while self.busy < self.slots && self.unwritable.is_none() {
            let Some(token) = self.parked.pop_front() else { return };
            let Some(entry) = self.entries.get_mut(&token) else {
                continue;
            };
            let State::Parked(job) = &entry.state else { continue };
            entry.state = State::Starting(job.clone());
            self.busy += 1;
            self.records.push(Record::Started { run: entry.run, token });
        }
    }

    /// A record is on disk. Returns what comes next, if anything.
    ///
    /// Without good contact nothing starts: the attempt is refused, which is written behind its start.
    pub(crate) fn journalled(&mut self, mark: Mark, phase: Phase, now: Timestamp) -> Option<Step> {
        let (Mark::Started(token) | Mark::Ended(token) | Mark::Refused(token)) = mark else {
            return None;
        };
        let entry = self.entries.get_mut(&token)?;
        match (&mut entry.state, mark) {
            (State::Starting(_), Mark::Started(_)) if phase > Phase::Good => {
                self.refuse(token, pb::NackCode::NoContact, "contact was lost before the start");
                None
            }
            (State::Starting(job), Mark::Started(_)) => {
                let job = job.clone();
                if job.delivery == Delivery::AtMostOnce {
                    entry.state = State::WaitsForGrant(job);
                    return Some(Step::AskForGrant(token));
                }
                Some(start(entry, job, now))
            }
            (State::Closing(report), Mark::Ended(_) | Mark::Refused(_)) => {
                let report = report.clone();
                entry.state = State::Over { report, sent: None };
                Some(Step::Report(token))
            }
            _ => None,
        }
    }

    /// The leader has granted the start of an attempt. `None` when there is nothing to start.
    ///
    /// Without good contact the grant may be old news, but it stays a committed fact: the attempt is refused, not started.
    pub(crate) fn granted(&mut self, token: Token, phase: Phase, now: Timestamp) -> Option<Step> {
        let entry = self.entries.get_mut(&token)?;
        let State::WaitsForGrant(job) = &entry.state else {
            return None;
        };
        if phase > Phase::Good {
            self.refuse(token, pb::NackCode::NoContact, "contact was lost before the start");
            return None;
        }
        let job = job.clone();
        Some(start(entry, job, now))
    }

    /// An attempt has ended: it is reported once that is on disk, unless it was forgotten meanwhile.
    pub(crate) fn ended(&mut self, token: Token, finished: Finished) {
        let Some(entry) = self.entries.get(&token) else { return };
        if !matches!(entry.state, State::Running { .. }) {
            return;
        }
        self.busy -= 1;
        if self.disowned {
            self.entries.remove(&token);
            self.settled.insert(token);
            return;
        }
        let run = entry.run;
        self.close(run, token, Report::Completed(Box::new(finished)));
    }

    /// A report was refused: the attempt was never this worker's.
    pub(crate) fn rejected(&mut self, token: Token) {
        match self.entries.get(&token).map(|entry| &entry.state) {
            Some(State::Closing(_) | State::Over { .. }) => self.recorded(token),
            Some(_) => self.dispose(token, Disposition::Stale),
            None => {}
        }
    }

    /// Refuses an attempt that has not started: it never will.
    fn refuse(&mut self, token: Token, code: pb::NackCode, reason: &str) {
        let Some(entry) = self.entries.get(&token) else {
            return;
        };
        match entry.state {
            State::Parked(_) => self.parked.retain(|parked| *parked != token),
            State::Starting(_) | State::WaitsForGrant(_) => self.busy -= 1,
            State::Running { .. } | State::Closing(_) | State::Over { .. } => return,
        }
        let (run, journalled) = (entry.run, self.unwritable.is_none());
        let report = Report::Refused {
            code,
            reason: reason.to_owned(),
            journalled,
        };
        self.close(run, token, report);
    }

    /// Kills an attempt for good: what runs is asked to end, what waits is refused. One that never came will not start when it comes
    /// late. Returns whether there is something to report at once.
    pub(crate) fn kill(&mut self, run: RunId, token: Token) -> Offer {
        match self.entries.get(&token) {
            Some(entry) if entry.run != run => {
                tracing::warn!(%run, held = %entry.run, attempt = %token, "a kill names another run than the attempt's");
                Offer::Known
            }
            Some(Entry {
                state: State::Running { stopper, .. },
                ..
            }) => {
                stopper.raise(Urgency::Terminate, Cause::Cancelled);
                Offer::Known
            }
            Some(_) => {
                self.refuse(token, pb::NackCode::Killed, "killed before it started");
                Offer::Report
            }
            None if self.settled.contains(token) => Offer::Known,
            None => self.refuse_unknown(run, token, pb::NackCode::Killed, "killed before it arrived"),
        }
    }

    /// The end of an attempt is committed: it is forgotten, but its token is remembered.
    pub(crate) fn recorded(&mut self, token: Token) {
        match self.entries.get(&token).map(|entry| &entry.state) {
            None => {}
            Some(State::Closing(_) | State::Over { .. }) => {
                self.entries.remove(&token);
                self.settled.insert(token);
                if self.unwritable.is_none() {
                    self.records.push(Record::Recorded { token });
                }
            }
            // Recorded under our token, while it runs here: somebody else's report. It is no longer ours to run.
            Some(State::Running { stopper, .. }) => stopper.raise(Urgency::Terminate, Cause::Stale),
            Some(State::Parked(_) | State::Starting(_) | State::WaitsForGrant(_)) => {
                self.refuse(token, pb::NackCode::Killed, "recorded before it started");
            }
        }
    }

    /// Acts on what the leader says about an attempt that was named in Hello.
    pub(crate) fn dispose(&mut self, token: Token, disposition: Disposition) {
        let Some(entry) = self.entries.get(&token) else { return };
        match (disposition, &entry.state) {
            (Disposition::Continue, _) => {}
            (Disposition::Recorded, _) => self.recorded(token),
            (Disposition::Kill, State::Running { stopper, .. }) => stopper.raise(Urgency::Terminate, Cause::Cancelled),
            (Disposition::Stale, State::Running { stopper, .. }) => stopper.raise(Urgency::Terminate, Cause::Stale),
            (Disposition::Kill | Disposition::Stale, _) => {
                self.refuse(token, pb::NackCode::Killed, "killed before it started");
            }
        }
    }

    /// Contact is lost: what does not go on without it is told to end.
    pub(crate) fn lost_contact(&self, urgency: Urgency) {
        for entry in self.entries.values() {
            if let State::Running {
                stopper,
                on_disconnect: OnDisconnect::Kill,
                ..
            } = &entry.state
            {
                stopper.raise(urgency, Cause::ContactLost);
            }
        }
    }

    /// Refuses everything that has not started.
    pub(crate) fn refuse_waiting(&mut self, code: pb::NackCode, reason: &str) {
        let waiting = |entry: &Entry| {
            matches!(
                entry.state,
                State::Parked(_) | State::Starting(_) | State::WaitsForGrant(_)
            )
        };
        self.parked.clear();
        let tokens: Vec<Token> = self
            .entries
            .iter()
            .filter(|(_, e)| waiting(e))
            .map(|(token, _)| *token)
            .collect();
        for token in tokens {
            self.refuse(token, code, reason);
        }
    }

    /// Takes nothing new from now on, and refuses what has not started.
    pub(crate) fn drain(&mut self) {
        self.draining = true;
        self.refuse_waiting(pb::NackCode::Draining, "the worker is leaving");
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.draining
    }

    /// Tells everything that runs to end.
    pub(crate) fn stop_all(&self, urgency: Urgency, cause: Cause) {
        for entry in self.entries.values() {
            if let State::Running { stopper, .. } = &entry.state {
                stopper.raise(urgency, cause);
            }
        }
    }

    /// Returns what Hello says of everything held; running and ended ones first, where not all have room.
    pub(crate) fn hello(&self) -> Vec<pb::Held> {
        let mut held: Vec<pb::Held> = self
            .entries
            .iter()
            .map(|(token, entry)| describe(*token, entry))
            .collect();
        held.sort_by_key(|held| held.state == i32::from(pb::HeldState::Refused));
        held.truncate(HELD_TOKENS_MAX);
        held
    }

    /// Returns the attempts whose end is to be reported: never sent, or sent before `sent_before` and not recorded.
    pub(crate) fn unreported(&self, sent_before: Duration) -> Vec<Token> {
        let due = |entry: &Entry| match &entry.state {
            State::Over { sent, .. } => sent.is_none_or(|sent| sent < sent_before),
            _ => false,
        };
        self.entries
            .iter()
            .filter(|(_, entry)| due(entry))
            .map(|(token, _)| *token)
            .collect()
    }

    /// Returns the attempts that wait for their grant.
    pub(crate) fn waiting_for_grant(&self) -> Vec<Token> {
        let waits = |entry: &Entry| matches!(entry.state, State::WaitsForGrant(_));
        self.entries
            .iter()
            .filter(|(_, entry)| waits(entry))
            .map(|(token, _)| *token)
            .collect()
    }

    /// A new stream: whatever was sent on the old one may be lost.
    pub(crate) fn forget_sent(&mut self) {
        for entry in self.entries.values_mut() {
            match &mut entry.state {
                State::Over { sent, .. } => *sent = None,
                State::Running { announced, .. } => *announced = false,
                _ => {}
            }
        }
    }

    /// Returns the report of an attempt that is over, and notes that it is sent now.
    pub(crate) fn report(&mut self, token: Token, now: Duration) -> Option<(pb::Attempt, Report)> {
        let entry = self.entries.get_mut(&token)?;
        let State::Over { report, sent } = &mut entry.state else {
            return None;
        };
        *sent = Some(now);
        Some((attempt_to_wire(entry.run, token), report.clone()))
    }

    /// Returns the wire form of an attempt that is held.
    pub(crate) fn attempt(&self, token: Token) -> Option<pb::Attempt> {
        Some(attempt_to_wire(self.entries.get(&token)?.run, token))
    }

    /// Returns what has started and was not announced yet, at most `max`.
    pub(crate) fn announce(&mut self, max: usize) -> Vec<pb::Started> {
        let mut started = Vec::new();
        for (token, entry) in &mut self.entries {
            if started.len() == max {
                break;
            }
            if let State::Running {
                started_at,
                announced: announced @ false,
                ..
            } = &mut entry.state
            {
                *announced = true;
                started.push(pb::Started {
                    attempt: Some(attempt_to_wire(entry.run, *token)),
                    started_at_ms: started_at.as_millis(),
                });
            }
        }
        started
    }
}

/// What is said about an attempt that this worker has not run to its end.
fn ended_at(now: Timestamp, verdict: Verdict) -> Finished {
    Finished {
        result: RunResult {
            verdict,
            exit_code: None,
            started_at: now,
            ended_at: now,
            output_tail: Vec::new(),
            result: Vec::new(),
        },
        reason: String::new(),
    }
}

/// The one way into running: from here on the token counts as started, whatever happens.
fn start(entry: &mut Entry, job: Arc<Job>, now: Timestamp) -> Step {
    let stopper = Stopper::new();
    entry.state = State::Running {
        stopper: stopper.clone(),
        on_disconnect: job.on_disconnect,
        started_at: now,
        announced: false,
    };
    Step::Start { job, stopper }
}

fn describe(token: Token, entry: &Entry) -> pb::Held {
    let state = match &entry.state {
        State::Parked(_) | State::Starting(_) | State::WaitsForGrant(_) => pb::HeldState::Waiting,
        State::Running { .. } => pb::HeldState::Running,
        State::Closing(report) | State::Over { report, .. } => match report {
            Report::Completed(_) => pb::HeldState::Ended,
            Report::Refused { .. } => pb::HeldState::Refused,
        },
    };
    pb::Held {
        attempt: Some(attempt_to_wire(entry.run, token)),
        state: state.into(),
    }
}

#[cfg(test)]
#[path = "tests/held.rs"]
mod tests;
