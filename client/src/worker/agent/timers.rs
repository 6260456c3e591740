//! What the agent does because time has passed: contact, dialling, heartbeats, repeats, leaving.

use super::Agent;
use super::inbound::draining;
use crate::clock;
use crate::worker::contact::Phase;
use crate::worker::stop::{Cause, Urgency};
use crate::worker::stream::Stream;
use rand::Rng as _;
use sched_proto::worker as pb;
use std::time::Duration;
use tokio::time::Instant;

/// The shortest and the longest pause before a node is dialled again.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));
/// A report that is not recorded within this time is sent again: the leader may have been unable to propose it.
const REPEAT_AFTER: Duration = Duration::from_secs(5);
/// Longest sleep: timers stand still while the machine is suspended, and what is overdue by the clock of contact is seen then.
const SLEEP_MAX: Duration = Duration::from_millis(500);
/// Progress is sent no more often than this.
const PROGRESS_EVERY: Duration = Duration::from_millis(200);
/// For results to be recorded once nothing runs any more and the worker is leaving.
const RECORD_PATIENCE: Duration = Duration::from_secs(3);

/// When what is to be done.
pub(super) struct Timers {
    heartbeat_every: Duration,
    heartbeat_at: Instant,
    repeat_at: Instant,
    progress_at: Instant,
    backoff: Duration,
    leaving: Option<Leaving>,
}

impl Default for Timers {
    fn default() -> Self {
        let now = Instant::now();
        Self {
            heartbeat_every: Duration::from_secs(2),
            heartbeat_at: now,
            repeat_at: now,
            progress_at: now,
            backoff: BACKOFF.0,
            leaving: None,
        }
    }
}

/// The worker is leaving.
struct Leaving {
    /// What runs is told to stop then.
    stop_at: Instant,
    stopped: bool,
    /// Nothing runs any more; results are waited for until then.
    gone_by: Option<Instant>,
}

impl Timers {
    pub(super) fn is_leaving(&self) -> bool {
        self.leaving.is_some()
    }

    /// A leader has welcomed the worker.
    pub(super) fn welcomed(&mut self, heartbeat_every: Duration) {
        self.heartbeat_every = heartbeat_every;
        self.heartbeat_at = Instant::now();
        self.repeat_at = Instant::now() + REPEAT_AFTER;
        self.backoff = BACKOFF.0;
    }

    /// Returns the next pause before dialling: longer each time, and never the same on two workers.
    fn pause(&mut self) -> Duration {
        let pause = self.backoff.mul_f64(rand::rng().random_range(0.5..1.0));
        self.backoff = (self.backoff * 2).min(BACKOFF.1);
        pause
    }

    /// Returns the pause before following a redirect. Not none: two nodes that name each other are not asked in a circle without rest.
    pub(super) fn short_pause(&mut self) -> Duration {
        self.pause().min(BACKOFF.0)
    }
}

impl Agent {
    /// Returns when [`on_time`](Self::on_time) has something to do.
    pub(super) fn next_deadline(&self) -> Instant {
        let now = Instant::now();
        let welcomed = self.stream.is_welcomed();
        let leaving = self.timers.leaving.as_ref();
        [
            self.stream.deadline(),
            self.contact.until_change(clock::boot()).map(|left| now + left),
            welcomed.then_some(self.timers.heartbeat_at),
            (welcomed && self.held.has_unrecorded()).then_some(self.timers.repeat_at),
            (welcomed && !self.outbox.progress.is_empty() && !self.outbox.progress_due)
                .then_some(self.timers.progress_at),
            self.readers.iter().map(|(until, _)| *until).min(),
            leaving
                .filter(|leaving| !leaving.stopped)
                .map(|leaving| leaving.stop_at),
            leaving.and_then(|leaving| leaving.gone_by),
        ]
        .into_iter()
        .flatten()
        .fold(now + SLEEP_MAX, Instant::min)
    }

    /// Does what is due.
    pub(super) fn on_time(&mut self) {
        self.on_contact();
        let now = Instant::now();
        if self.stream.deadline().is_some_and(|at| at <= now) {
            match self.stream {
                Stream::Idle { .. } => self.dial_now(),
                _ => self.disconnect("hello was not answered in time", None),
            }
        }
        if self.stream.is_welcomed() {
            self.on_time_while_welcomed(now);
        }
        if self.readers.iter().any(|(until, _)| *until <= now) {
            self.answer_readers();
        }
        self.on_leaving(now);
    }

    fn on_time_while_welcomed(&mut self, now: Instant) {
        if self.timers.heartbeat_at <= now {
            self.outbox.heartbeat = true;
            self.timers.heartbeat_at = now + self.timers.heartbeat_every;
        }
        if self.timers.repeat_at <= now {
            self.timers.repeat_at = now + REPEAT_AFTER;
            let sent_before = clock::boot().saturating_sub(REPEAT_AFTER);
            self.outbox.reports.extend(self.held.unreported(sent_before));
        }
        if !self.outbox.progress.is_empty() && !self.outbox.progress_due && self.timers.progress_at <= now {
            self.outbox.progress_due = true;
            self.timers.progress_at = now + PROGRESS_EVERY;
        }
    }

    /// Acts on a contact that has become worse, or better.
    fn on_contact(&mut self) {
        let phase = self.contact.phase(clock::boot());
        if phase == self.phase {
            return;
        }
        let before = std::mem::replace(&mut self.phase, phase);
        tracing::debug!(worker = self.identity.name, ?before, now = ?phase, "contact with the leader");
        if phase >= Phase::NoStarts && before < Phase::NoStarts && self.stream.is_welcomed() {
            // Whatever the stream looks like, it is of no use: the leader may have been cut off. Others are asked while there is time
            // for what runs to go on.
            self.shunned = self.stream.address().map(str::to_owned);
            self.hint = None;
            self.disconnect("no heartbeat was acknowledged", Some(Duration::ZERO));
        }
        if phase >= Phase::Terminate && before < Phase::Terminate {
            tracing::warn!(worker = self.identity.name, "contact with the cluster is lost");
            self.held.lost_contact(Urgency::Terminate);
        }
        if phase >= Phase::Kill && before < Phase::Kill {
            self.held.lost_contact(Urgency::Kill);
        }
        if phase == Phase::GivenUp {
            self.contact.give_up();
            self.held
                .refuse_waiting(pb::NackCode::NoContact, "contact was lost before the start");
        }
    }

    /// Dials the leader where it is known, else the next of the nodes that were given.
    fn dial_now(&mut self) {
        let address = match self.hint.take() {
            Some(address) => address,
            None => self.next_endpoint(),
        };
        self.stream = Stream::Dialing {
            connection: self.dial.dial(&address),
            address,
        };
    }

    /// Returns the next of the nodes that were given; not the one that fell silent, where there is another.
    fn next_endpoint(&mut self) -> String {
        let shunned = self.shunned.take();
        let mut address = String::new();
        for _ in 0..2 {
            let next = self.next_endpoint % self.endpoints.len().max(1);
            self.next_endpoint = next + 1;
            address = self.endpoints.get(next).cloned().unwrap_or_default();
            if shunned.as_ref() != Some(&address) {
                break;
            }
        }
        address
    }

    /// Ends the stream; dials again after a pause, which grows with each failure unless one is given.
    pub(super) fn disconnect(&mut self, reason: &str, pause: Option<Duration>) {
        let Some(node) = self.stream.address() else { return };
        let pause = pause.unwrap_or_else(|| self.timers.pause());
        let retry_ms = pause.as_millis();
        if self.stream.is_welcomed() {
            tracing::info!(
                worker = self.identity.name,
                node,
                reason,
                "disconnected from the leader"
            );
        } else {
            tracing::debug!(
                worker = self.identity.name,
                node,
                reason,
                retry_ms,
                "no stream to the leader"
            );
        }
        self.stream = Stream::Idle {
            retry_at: Some(Instant::now() + pause),
        };
        // What was on its way is sent again after the next Welcome; answers to requests of this stream are of no use on another.
        self.outbox = Default::default();
        self.readers.clear();
        self.held.forget_sent();
    }

    /// The worker is to leave.
    pub(super) fn on_leave(&mut self) {
        tracing::info!(worker = self.identity.name, running = self.runs.len(), "worker leaves");
        self.timers.leaving = Some(Leaving {
            stop_at: Instant::now() + self.identity.patience,
            stopped: false,
            gone_by: None,
        });
        self.held.drain();
        if self.stream.is_welcomed() {
            self.outbox.reports.extend(self.held.unreported(Duration::ZERO));
            self.outbox.goodbye = Some(draining());
        }
    }

    fn on_leaving(&mut self, now: Instant) {
        let Some(leaving) = &mut self.timers.leaving else {
            return;
        };
        if !leaving.stopped && leaving.stop_at <= now {
            leaving.stopped = true;
            self.held.stop_all(Urgency::Terminate, Cause::Leaving);
        }
        if self.runs.is_empty() {
            leaving.gone_by.get_or_insert(now + RECORD_PATIENCE);
        }
    }

    /// Whether the worker is to leave and nothing keeps it any more.
    pub(super) fn has_left(&self) -> bool {
        let Some(leaving) = &self.timers.leaving else {
            return false;
        };
        let late = leaving.gone_by.is_some_and(|by| by <= Instant::now());
        if !self.runs.is_empty() || !(self.held.is_empty() || late) {
            return false;
        }
        if !self.held.is_empty() {
            tracing::warn!(
                worker = self.identity.name,
                "worker leaves with results that no leader took"
            );
        }
        true
    }
}
