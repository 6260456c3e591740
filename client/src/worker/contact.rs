//! What a worker may still do, by how long ago it was last known to be in contact.
//!
//! Contact is measured from the *send time* of the last acknowledged heartbeat, by a clock that counts while the machine is suspended:
//! the leader began its own lease after that moment, so what the worker gives up in time, it has given up before the lease is over.

use std::collections::VecDeque;
use std::time::Duration;

/// Heartbeats without an answer that are remembered. More only means that the oldest can no longer prolong anything.
const OUTSTANDING_MAX: usize = 64;

/// What a worker may still do. The times are those of a lease of 10 s.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Phase {
    /// Everything.
    Good,
    /// After 4 s: no new starts.
    NoStarts,
    /// After 6 s: what runs is asked to end.
    Terminate,
    /// After 8 s: what runs is killed.
    Kill,
    /// After 10 s, or without a session: the attempts are no longer the worker's.
    GivenUp,
}

/// The tenths of the lease after which each phase begins.
const STEPS: [(u32, Phase); 4] = [
    (4, Phase::NoStarts),
    (6, Phase::Terminate),
    (8, Phase::Kill),
    (10, Phase::GivenUp),
];

/// The contact with the leader.
#[derive(Debug)]
pub struct Contact {
    lease: Duration,
    /// When the last acknowledged sign of life was sent; absent without a session.
    last: Option<Duration>,
    /// Sent and not acknowledged, oldest first.
    outstanding: VecDeque<(u64, Duration)>,
    next_seq: u64,
}

impl Default for Contact {
    fn default() -> Self {
        Self::new()
    }
}

impl Contact {
    /// Returns no contact.
    pub fn new() -> Self {
        Self {
            lease: Duration::ZERO,
            last: None,
            outstanding: VecDeque::new(),
            next_seq: 1,
        }
    }

    /// A Hello sent at `sent` was answered by Welcome. Heartbeats of an earlier stream are never acknowledged any more.
    pub fn welcomed(&mut self, sent: Duration, lease: Duration) {
        self.lease = lease;
        self.last = self.last.max(Some(sent));
        self.outstanding.clear();
        self.next_seq = 1;
    }

    /// Returns the number for a heartbeat sent now.
    pub fn send(&mut self, now: Duration) -> u64 {
        let seq = self.next_seq;
        self.next_seq += 1;
        if self.outstanding.len() == OUTSTANDING_MAX {
            self.outstanding.pop_front();
        }
        self.outstanding.push_back((seq, now));
        seq
    }

    /// A heartbeat, and with it every earlier one, was acknowledged. Numbers that were never sent prolong nothing.
    pub fn acknowledged(&mut self, seq: u64) {
        if seq >= self.next_seq {
            return;
        }
        while let Some((sent_seq, sent)) = self.outstanding.front().copied()
            && sent_seq <= seq
        {
            self.outstanding.pop_front();
            self.last = self.last.max(Some(sent));
        }
    }

    /// The session is no longer this worker's.
    pub fn give_up(&mut self) {
        self.last = None;
    }

    /// Returns when the last acknowledged sign of life was sent, and the length of the lease; nothing without a session.
    pub fn lease(&self) -> Option<(Duration, Duration)> {
        Some((self.last?, self.lease))
    }

    /// Returns what may still be done.
    pub fn phase(&self, now: Duration) -> Phase {
        let Some(last) = self.last else { return Phase::GivenUp };
        let age = now.saturating_sub(last);
        let passed = STEPS.iter().rev().find(|(tenths, _)| age >= self.after(*tenths));
        passed.map_or(Phase::Good, |(_, phase)| *phase)
    }

    /// Returns how long until the phase changes by itself; nothing when it does not.
    pub fn until_change(&self, now: Duration) -> Option<Duration> {
        let age = now.saturating_sub(self.last?);
        STEPS
            .iter()
            .map(|(tenths, _)| self.after(*tenths))
            .find(|at| *at > age)
            .map(|at| at - age)
    }

    fn after(&self, tenths: u32) -> Duration {
        self.lease * tenths / 10
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn phases_follow_the_age_of_the_last_contact() {
        let mut contact = Contact::new();
        assert_eq!(contact.phase(s(100)), Phase::GivenUp);
        assert_eq!(contact.until_change(s(100)), None);
        contact.welcomed(s(100), s(10));
        let table = [
            (0, Phase::Good, Some(4)),
            (3, Phase::Good, Some(1)),
            (4, Phase::NoStarts, Some(2)),
            (6, Phase::Terminate, Some(2)),
            (8, Phase::Kill, Some(2)),
            (9, Phase::Kill, Some(1)),
            (10, Phase::GivenUp, None),
            (1000, Phase::GivenUp, None),
        ];
        for (age, phase, change) in table {
            assert_eq!(
                (contact.phase(s(100 + age)), contact.until_change(s(100 + age))),
                (phase, change.map(s))
            );
        }
    }

    #[test]
    fn an_acknowledgement_counts_from_the_sending_not_from_its_arrival() {
        let mut contact = Contact::new();
        contact.welcomed(s(100), s(10));
        let first = contact.send(s(102));
        let second = contact.send(s(104));
        contact.acknowledged(first);
        assert_eq!(contact.phase(s(106)), Phase::NoStarts, "102 + 4");
        contact.acknowledged(second);
        assert_eq!(contact.phase(s(107)), Phase::Good);
        contact.acknowledged(first);
        assert_eq!(
            contact.phase(s(108)),
            Phase::NoStarts,
            "a repeat takes nothing back and adds nothing"
        );
    }

    #[test]
    fn numbers_never_sent_and_numbers_of_an_earlier_stream_prolong_nothing() {
        let mut contact = Contact::new();
        contact.welcomed(s(100), s(10));
        contact.send(s(109));
        contact.acknowledged(99);
        assert_eq!(contact.phase(s(109)), Phase::Kill);
        contact.welcomed(s(103), s(10));
        contact.acknowledged(1);
        assert_eq!(contact.phase(s(109)), Phase::Terminate);
        contact.welcomed(s(101), s(10));
        assert_eq!(
            contact.phase(s(109)),
            Phase::Terminate,
            "an older Hello takes nothing back"
        );
    }

    #[test]
    fn without_any_answer_memory_stays_bounded() {
        let mut contact = Contact::new();
        contact.welcomed(s(0), s(10));
        for i in 0..1000 {
            contact.send(s(i));
        }
        assert_eq!(contact.outstanding.len(), OUTSTANDING_MAX);
        contact.acknowledged(1000);
        assert_eq!(contact.phase(s(1000)), Phase::Good);
    }
}
