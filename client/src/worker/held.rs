//! The attempts that a remote worker holds, from the leader's `Run` until the end is recorded.
//!
//! A pure table: the agent feeds it and acts on its answers. It lives in memory, and so does the journal id: a process that is started
//! again is a new worker, which claims nothing and is told nothing of what the old one held.

use super::attempt::Finished;
use super::contact::Phase;
use super::job::Said;
use super::settled::Settled;
use super::stop::{Cause, Stopper, Urgency};
use sched_core::limits::HELD_TOKENS_MAX;
use sched_core::session::Disposition;
use sched_core::task::Delivery;
use sched_core::{RunId, Token};
use sched_proto::convert::worker::{Job, OnDisconnect, attempt_to_wire, result_to_wire};
use sched_proto::worker as pb;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

/// Outputs of ended attempts kept for readers that are still at them.
const OUTPUTS_KEPT_MAX: usize = 64;

struct Entry {
    run: RunId,
    state: State,
}

/// How far an attempt is.
enum State {
    /// Waits for a slot, for contact, or both.
    Parked(Box<Job>),
    /// Has a slot, waits for its grant.
    WaitsForGrant(Box<Job>),
    /// Begun.
    Running {
        stopper: Stopper,
        on_disconnect: OnDisconnect,
        said: Arc<Said>,
        attempt: u32,
    },
    /// Ended or refused: reported until recorded.
    Over { report: Report, sent: Option<Duration> },
}

/// What the leader is told until it has recorded it.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Report {
    Completed(Box<Finished>),
    /// It never began and never will.
    Refused {
        code: pb::NackCode,
        reason: String,
    },
}

/// What to do about something that came from the leader.
#[derive(PartialEq, Debug)]
pub(super) enum Offer {
    /// Nothing.
    Known,
    /// There is something to report.
    Report,
    /// Refused without being remembered: as the table is full, this answer is sent once.
    RefuseOnce(Box<pb::Nack>),
}

/// What comes next for an attempt that has a slot.
pub(super) enum Step {
    Begin(Box<Job>),
    AskForGrant(Token),
}

/// The table.
pub(super) struct Held {
    entries: BTreeMap<Token, Entry>,
    /// In the order in which they came.
    parked: VecDeque<Token>,
    settled: Settled,
    outputs: VecDeque<(RunId, u32, Arc<Said>)>,
    slots: usize,
    /// Attempts that have a slot.
    busy: usize,
    draining: bool,
}

impl Held {
    pub(super) fn new(slots: u32) -> Self {
        Self {
            entries: BTreeMap::new(),
            parked: VecDeque::new(),
            settled: Settled::default(),
            outputs: VecDeque::new(),
            slots: slots as usize,
            busy: 0,
            draining: false,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(super) fn is_draining(&self) -> bool {
        self.draining
    }

    pub(super) fn free_slots(&self) -> u32 {
        u32::try_from(self.slots.saturating_sub(self.busy)).unwrap_or(u32::MAX)
    }

    /// Takes a `Run`. A token is begun once in the worker's life, however often it comes.
    pub(super) fn offer(&mut self, job: Job) -> Offer {
        let token = job.token;
        if let Some(known) = self.known(token) {
            return known;
        }
        let refusal = if self.settled.may_have_forgotten(token) {
            Some((pb::NackCode::TooOld, "older than what this worker remembers"))
        } else if self.draining {
            Some((pb::NackCode::Draining, "the worker is leaving"))
        } else if self.busy + self.parked.len() >= 2 * self.slots {
            Some((pb::NackCode::Full, "no slot is free"))
        } else {
            None
        };
        if let Some((code, reason)) = refusal {
            return self.refuse_unknown(job.run, token, code, reason);
        }
        let entry = Entry {
            run: job.run,
            state: State::Parked(Box::new(job)),
        };
        self.entries.insert(token, entry);
        self.parked.push_back(token);
        Offer::Known
    }

    fn known(&self, token: Token) -> Option<Offer> {
        match self.entries.get(&token).map(|entry| &entry.state) {
            Some(State::Over { .. }) => Some(Offer::Report),
            Some(_) => Some(Offer::Known),
            None => self.settled.contains(token).then_some(Offer::Known),
        }
    }

    /// Takes a `Run` that cannot be done here: it fails, visibly, instead of going round between workers.
    pub(super) fn fail(&mut self, run: RunId, token: Token, reason: String) -> Offer {
        if let Some(known) = self.known(token) {
            return known;
        }
        if self.entries.len() >= HELD_TOKENS_MAX {
            return Offer::Known;
        }
        let report = Report::Completed(Box::new(Finished::failed(reason)));
        let state = State::Over { report, sent: None };
        self.entries.insert(token, Entry { run, state });
        Offer::Report
    }

    /// Refuses an attempt that is not in the table.
    fn refuse_unknown(&mut self, run: RunId, token: Token, code: pb::NackCode, reason: &str) -> Offer {
        let reason = reason.to_owned();
        if self.entries.len() >= HELD_TOKENS_MAX {
            return Offer::RefuseOnce(Box::new(pb::Nack {
                attempt: Some(attempt_to_wire(run, token)),
                code: code.into(),
                reason,
                journal_position: None,
            }));
        }
        let report = Report::Refused { code, reason };
        let state = State::Over { report, sent: None };
        self.entries.insert(token, Entry { run, state });
        Offer::Report
    }

    /// Gives the oldest parked attempt a slot; nothing when there is none of either. Only with good contact.
    pub(super) fn next_step(&mut self) -> Option<Step> {
        if self.busy >= self.slots {
            return None;
        }
        let token = self.parked.pop_front()?;
        let entry = self.entries.get_mut(&token)?;
        let State::Parked(job) = &entry.state else { return None };
        let job = job.clone();
        self.busy += 1;
        if job.delivery == Delivery::AtMostOnce {
            entry.state = State::WaitsForGrant(job);
            return Some(Step::AskForGrant(token));
        }
        Some(Step::Begin(job))
    }

    /// The leader has granted the start of an attempt; nothing when there is none to begin.
    ///
    /// Without good contact the grant may be old news, but it stays a committed fact: the attempt is refused, not begun.
    pub(super) fn granted(&mut self, token: Token, phase: Phase) -> Option<Step> {
        let State::WaitsForGrant(job) = &self.entries.get(&token)?.state else {
            return None;
        };
        let job = job.clone();
        if phase > Phase::Good {
            self.refuse(token, pb::NackCode::NoContact, "contact was lost before the start");
            return None;
        }
        Some(Step::Begin(job))
    }

    /// An attempt begins: from here on its token counts as used, whatever happens.
    pub(super) fn begun(&mut self, job: &Job, stopper: Stopper, said: Arc<Said>) {
        if let Some(entry) = self.entries.get_mut(&job.token) {
            entry.state = State::Running {
                stopper,
                on_disconnect: job.on_disconnect,
                said,
                attempt: job.attempt_number,
            };
        }
    }

    /// An attempt has ended. Returns whether there is something to report.
    pub(super) fn ended(&mut self, token: Token, finished: Finished) -> bool {
        let Some(entry) = self.entries.get_mut(&token) else {
            return false;
        };
        let State::Running { said, attempt, .. } = &entry.state else {
            return false;
        };
        self.outputs.push_back((entry.run, *attempt, said.clone()));
        if self.outputs.len() > OUTPUTS_KEPT_MAX {
            self.outputs.pop_front();
        }
        let report = Report::Completed(Box::new(finished));
        entry.state = State::Over { report, sent: None };
        self.busy -= 1;
        true
    }

    /// Refuses an attempt that has not begun: it never will.
    fn refuse(&mut self, token: Token, code: pb::NackCode, reason: &str) {
        let Some(entry) = self.entries.get_mut(&token) else {
            return;
        };
        match entry.state {
            State::Parked(_) => self.parked.retain(|parked| *parked != token),
            State::WaitsForGrant(_) => self.busy -= 1,
            State::Running { .. } | State::Over { .. } => return,
        }
        let report = Report::Refused {
            code,
            reason: reason.to_owned(),
        };
        entry.state = State::Over { report, sent: None };
    }

    /// Ends an attempt for good: what runs is told to stop, what waits is refused, one that never came will not begin when it comes late.
    pub(super) fn kill(&mut self, run: RunId, token: Token) -> Offer {
        match self.entries.get(&token).map(|entry| &entry.state) {
            Some(State::Running { stopper, .. }) => {
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
    pub(super) fn recorded(&mut self, token: Token) {
        match self.entries.get(&token).map(|entry| &entry.state) {
            None => {}
            Some(State::Over { .. }) => {
                self.entries.remove(&token);
                self.settled.insert(token);
            }
            // Recorded under our token, while it runs here: somebody else's report. It is no longer ours to run.
            Some(State::Running { stopper, .. }) => stopper.raise(Urgency::Terminate, Cause::Stale),
            Some(State::Parked(_) | State::WaitsForGrant(_)) => {
                self.refuse(token, pb::NackCode::Killed, "recorded before it started");
            }
        }
    }

    /// Acts on what the leader says about an attempt that was named in Hello.
    pub(super) fn dispose(&mut self, token: Token, disposition: Disposition) {
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

    /// Contact is lost: what does not go on without it is told to stop.
    pub(super) fn lost_contact(&self, urgency: Urgency) {
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

    /// Tells everything that runs to stop.
    pub(super) fn stop_all(&self, urgency: Urgency, cause: Cause) {
        for entry in self.entries.values() {
            if let State::Running { stopper, .. } = &entry.state {
                stopper.raise(urgency, cause);
            }
        }
    }

    /// Refuses everything that has not begun.
    pub(super) fn refuse_waiting(&mut self, code: pb::NackCode, reason: &str) {
        let waits = |entry: &Entry| matches!(entry.state, State::Parked(_) | State::WaitsForGrant(_));
        for token in self.tokens(waits) {
            self.refuse(token, code, reason);
        }
    }

    /// Takes nothing new from now on, and refuses what has not begun.
    pub(super) fn drain(&mut self) {
        self.draining = true;
        self.refuse_waiting(pb::NackCode::Draining, "the worker is leaving");
    }

    fn tokens(&self, which: impl Fn(&Entry) -> bool) -> Vec<Token> {
        let found = self.entries.iter().filter(|(_, entry)| which(entry));
        found.map(|(token, _)| *token).collect()
    }

    /// Returns the attempts whose end was never sent, or sent before `sent_before` and not recorded.
    pub(super) fn unreported(&self, sent_before: Duration) -> Vec<Token> {
        self.tokens(|entry| match &entry.state {
            State::Over { sent, .. } => sent.is_none_or(|sent| sent < sent_before),
            _ => false,
        })
    }

    /// Whether some end is not recorded.
    pub(super) fn has_unrecorded(&self) -> bool {
        self.entries.len() > self.busy + self.parked.len()
    }

    /// Returns the attempts that wait for their grant.
    pub(super) fn waiting_for_grant(&self) -> Vec<Token> {
        self.tokens(|entry| matches!(entry.state, State::WaitsForGrant(_)))
    }

    /// Returns the attempts that run.
    pub(super) fn running(&self) -> Vec<Token> {
        self.tokens(|entry| matches!(entry.state, State::Running { .. }))
    }

    /// A new stream: whatever was sent on the old one may be lost.
    pub(super) fn forget_sent(&mut self) {
        for entry in self.entries.values_mut() {
            if let State::Over { sent, .. } = &mut entry.state {
                *sent = None;
            }
        }
    }

    /// Returns what Hello says of everything held, and which tokens it names.
    pub(super) fn hello(&self) -> (Vec<pb::Held>, BTreeSet<Token>) {
        let describe = |(token, entry): (&Token, &Entry)| {
            let state = match &entry.state {
                State::Parked(_) | State::WaitsForGrant(_) => pb::HeldState::Waiting,
                State::Running { .. } => pb::HeldState::Running,
                State::Over {
                    report: Report::Completed(_),
                    ..
                } => pb::HeldState::Ended,
                State::Over {
                    report: Report::Refused { .. },
                    ..
                } => pb::HeldState::Refused,
            };
            let held = pb::Held {
                attempt: Some(attempt_to_wire(entry.run, *token)),
                state: state.into(),
            };
            (held, *token)
        };
        self.entries.iter().map(describe).unzip()
    }

    /// Returns the wire form of an attempt that is held.
    pub(super) fn attempt(&self, token: Token) -> Option<pb::Attempt> {
        Some(attempt_to_wire(self.entries.get(&token)?.run, token))
    }

    /// Returns what an attempt that runs said last.
    pub(super) fn progress(&self, token: Token) -> Option<pb::Progress> {
        let entry = self.entries.get(&token)?;
        let State::Running { said, .. } = &entry.state else {
            return None;
        };
        let (percent, message) = said.newest()?;
        Some(pb::Progress {
            attempt: Some(attempt_to_wire(entry.run, token)),
            percent,
            message,
        })
    }

    /// Returns the output of an attempt of a run, 0 for the newest, and the attempt's number.
    pub(super) fn output(&self, run: RunId, attempt: u32) -> Option<(Arc<Said>, u32)> {
        let live = self.entries.values().filter_map(|entry| match &entry.state {
            State::Running { said, attempt, .. } => Some((entry.run, *attempt, said)),
            _ => None,
        });
        let ended = self.outputs.iter().map(|(run, attempt, said)| (*run, *attempt, said));
        live.chain(ended)
            .filter(|(of, number, _)| *of == run && (attempt == 0 || *number == attempt))
            .max_by_key(|(_, number, _)| *number)
            .map(|(_, number, said)| (said.clone(), number))
    }

    /// Adds the report of an attempt that is over to a batch, and notes that it is sent now. Returns about how many bytes it takes.
    pub(super) fn report(&mut self, token: Token, now: Duration, batch: &mut pb::FromWorker) -> usize {
        let Some(entry) = self.entries.get_mut(&token) else {
            return 0;
        };
        let attempt = Some(attempt_to_wire(entry.run, token));
        let State::Over { report, sent } = &mut entry.state else {
            return 0;
        };
        *sent = Some(now);
        match report {
            Report::Completed(finished) => {
                let result = result_to_wire(&finished.result, &finished.reason);
                let bytes = 64 + result.output_tail.len() + result.reason.len() + result.result.len();
                batch.completed.push(pb::Completed {
                    attempt,
                    result: Some(result),
                    journal_position: None,
                });
                bytes
            }
            Report::Refused { code, reason } => {
                let (code, reason) = ((*code).into(), reason.clone());
                batch.nacks.push(pb::Nack {
                    attempt,
                    code,
                    reason,
                    journal_position: None,
                });
                64
            }
        }
    }
}

#[cfg(test)]
#[path = "held_tests.rs"]
mod tests;
