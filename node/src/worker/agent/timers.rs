//! What the agent does because time has passed: contact, dialling, heartbeats, repeats, leaving.

use super::Agent;
use crate::worker::contact::Phase;
use crate::worker::stop::{Cause, Urgency};
use crate::worker::stream::Stream;
use rand::Rng;
use sched_proto::worker as pb;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// The shortest and the longest pause before a leader is dialled again.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));
/// The longest such pause while the last lease runs: a new leader is there within seconds, and what runs is at stake.
const BACKOFF_IN_CONTACT: Duration = Duration::from_millis(400);
/// A report that is not recorded within this time is sent again: the leader may have been unable to propose it.
const REPEAT_AFTER: Duration = Duration::from_secs(5);
/// Longest sleep: timers stand still while the machine is suspended, and what is overdue by the clock of contact is seen then.
const SLEEP_MAX: Duration = Duration::from_millis(500);
/// For results to be recorded once nothing runs any more and the worker is leaving.
const RECORD_PATIENCE: Duration = Duration::from_secs(3);

/// When what is to be done.
pub(super) struct Timers {
    pub(super) heartbeat_every: Duration,
    pub(super) heartbeat_at: Instant,
    repeat_at: Instant,
    backoff: Duration,
    leaving: Option<Leaving>,
}

impl Default for Timers {
    fn default() -> Self {
        let now = Instant::now();
        let heartbeat_every = Duration::from_secs(2);
        Self {
            heartbeat_every,
            heartbeat_at: now,
            repeat_at: now,
            backoff: BACKOFF.0,
            leaving: None,
        }
    }
}

/// The worker is leaving.
struct Leaving {
    /// What runs is told to end then.
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

    /// Returns the next pause before dialling: longer each time, up to a bound, and never the same on two workers.
    pub(super) fn pause(&mut self, phase: Phase) -> Duration {
        let longest = if phase < Phase::GivenUp {
            BACKOFF_IN_CONTACT
        } else {
            BACKOFF.1
        };
        let pause = self.backoff.min(longest).mul_f64(rand::rng().random_range(0.5..1.0));
        self.backoff = (self.backoff * 2).min(longest);
        pause
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
            self.contact.until_change(self.clock().boot()).map(|left| now + left),
            welcomed.then_some(self.timers.heartbeat_at),
            (welcomed && !self.held.is_empty()).then_some(self.timers.repeat_at),
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
        if self.stream.is_welcomed() && self.timers.heartbeat_at <= now {
            self.outbox.heartbeat();
            self.timers.heartbeat_at = now + self.timers.heartbeat_every;
        }
        if self.stream.is_welcomed() && self.timers.repeat_at <= now {
            self.timers.repeat_at = now + REPEAT_AFTER;
            let sent_before = self.clock().boot().saturating_sub(REPEAT_AFTER);
            self.held
                .unreported(sent_before)
                .into_iter()
                .for_each(|token| self.outbox.report(token));
            self.held
                .waiting_for_grant()
                .into_iter()
                .for_each(|token| self.outbox.ask_for_grant(token));
        }
        self.on_leaving(now);
    }

    /// Acts on a contact that has become worse, or better.
    fn on_contact(&mut self) {
        let phase = self.contact.phase(self.clock().boot());
        if phase == self.phase {
            return;
        }
        let before = std::mem::replace(&mut self.phase, phase);
        tracing::info!(worker = self.identity.name, ?before, now = ?phase, "contact with the leader");
        if phase >= Phase::Terminate && before < Phase::Terminate {
            self.held.lost_contact(Urgency::Terminate);
            // Whatever the stream looks like, it is of no use.
            self.disconnect("no heartbeat was acknowledged", None);
        }
        if phase >= Phase::Kill && before < Phase::Kill {
            self.held.lost_contact(Urgency::Kill);
        }
        if phase == Phase::GivenUp {
            self.contact.give_up();
            self.session = None;
            self.held
                .refuse_waiting(pb::NackCode::NoContact, "contact was lost before the start");
        }
    }

    /// Dials the leader, if one is known.
    pub(super) fn dial_now(&mut self) {
        if self.renewing.is_some() {
            // As another worker, once there is a journal.
            return;
        }
        let known = || self.leader.borrow().clone();
        self.stream = match self.hint.take().or_else(known) {
            Some(address) => Stream::Dialing {
                connection: self.dial.dial(&address),
                address,
            },
            // Until one is known.
            None => Stream::Idle { retry_at: None },
        };
    }

    /// Ends the stream; dials again after a pause, which grows with each failure unless one is given.
    pub(super) fn disconnect(&mut self, reason: &str, pause: Option<Duration>) {
        let Some(address) = self.stream.address() else { return };
        let phase = self.contact.phase(self.clock().boot());
        let pause = pause.unwrap_or_else(|| self.timers.pause(phase));
        let retry_ms = pause.as_millis();
        if self.stream.is_welcomed() {
            tracing::info!(
                worker = self.identity.name,
                leader = address,
                reason,
                "disconnected from the leader"
            );
        } else {
            tracing::debug!(
                worker = self.identity.name,
                leader = address,
                reason,
                retry_ms,
                "no stream to the leader"
            );
        }
        self.stream = Stream::Idle {
            retry_at: Some(Instant::now() + pause),
        };
        // What was on its way is sent again after the next Welcome; answers to requests of this stream are of no use on another.
        self.outbox.clear();
        self.held.forget_sent();
        self.reads = JoinSet::new();
    }

    /// This node has heard of another leader, or of none.
    pub(super) fn on_leader_changed(&mut self) {
        let leader = self.leader.borrow_and_update().clone();
        // Without one, the old one may still be there; the stream ends by itself if not.
        let Some(leader) = leader else { return };
        self.hint = None;
        // A new leader turns workers away for the moment until it may act: what failed before it says nothing about it.
        self.timers.backoff = BACKOFF.0;
        if self.stream.address() == Some(leader.as_str()) {
            return;
        }
        self.disconnect("another leader is known", Some(Duration::ZERO));
        self.dial_now();
    }

    /// The worker is to leave.
    pub(super) fn on_leave(&mut self, patience: Duration) {
        let stop_at = Instant::now() + patience;
        if let Some(leaving) = &mut self.timers.leaving {
            leaving.stop_at = leaving.stop_at.min(stop_at);
            return;
        }
        tracing::info!(worker = self.identity.name, running = self.runs.len(), "worker leaves");
        self.timers.leaving = Some(Leaving {
            stop_at,
            stopped: false,
            gone_by: None,
        });
        self.held.drain();
        if self.stream.is_welcomed() {
            self.held
                .unreported(Duration::ZERO)
                .into_iter()
                .for_each(|token| self.outbox.report(token));
            self.outbox.goodbye(pb::Goodbye {
                empty: false,
                reason: "draining".to_owned(),
            });
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
        let unrecorded = self.held.unrecorded();
        if self.runs.is_empty() && (self.held.is_empty() || leaving.gone_by.is_some_and(|by| by <= Instant::now())) {
            if unrecorded > 0 {
                tracing::warn!(
                    worker = self.identity.name,
                    unrecorded,
                    "worker leaves with results that no leader took"
                );
            }
            return true;
        }
        false
    }
}
