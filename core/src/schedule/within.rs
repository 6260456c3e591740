//! Many searches of one decision, under one bound of steps.
//!
//! One search is bounded by itself. A decision about a time without a leader makes up to some hundred, and counts up to some ten
//! thousand: with a rule whose every search is costly these would add up to minutes, during which nothing else is fired.

use super::search::Steps;
use super::{Next, Recurrence};
use crate::calendar::Calendars;
use crate::time::Timestamp;
use std::cell::Cell;

/// Steps that the searches of one decision may take together: the worst rule takes less than a tenth of a second for
/// them.
pub const DECISION_STEPS_MAX: u32 = 10 * Steps::MOST;

/// Steps that several searches may take together.
#[derive(Debug)]
pub(super) struct Budget {
    left: Cell<u32>,
    /// Something was not found out for want of steps.
    met: Cell<bool>,
}

impl Budget {
    pub(super) fn new(steps: u32) -> Self {
        Self {
            left: Cell::new(steps),
            met: Cell::new(false),
        }
    }

    /// For one search, which is bounded by itself.
    pub(super) fn of_one() -> Self {
        // With jitter it is some forty in fact.
        Self::new(64 * Steps::MOST)
    }

    /// Returns the steps that the next search may take; none when the budget is spent.
    pub(super) fn grant(&self) -> Option<Steps> {
        match self.left.get() {
            0 => None,
            left => Some(Steps::new(left.min(Steps::MOST))),
        }
    }

    /// Takes what a search took, and one for itself.
    pub(super) fn spend(&self, granted: u32, left: u32) {
        let taken = granted.saturating_sub(left).saturating_add(1);
        self.left.set(self.left.get().saturating_sub(taken));
    }

    /// Notes that something was not found out.
    pub(super) fn note_met(&self) {
        self.met.set(true);
    }
}

/// A schedule to decide about, with the calendars of its task. What is asked of it is bounded in all.
#[derive(Debug)]
pub struct Occurrences<'a> {
    recurrence: Recurrence,
    calendars: &'a Calendars,
    budget: Budget,
}

impl<'a> Occurrences<'a> {
    /// Begins a decision.
    pub fn new(recurrence: &Recurrence, calendars: &'a Calendars) -> Self {
        Self {
            recurrence: recurrence.clone(),
            calendars,
            budget: Budget::new(DECISION_STEPS_MAX),
        }
    }

    /// Returns the task's calendars.
    pub fn calendars(&self) -> &'a Calendars {
        self.calendars
    }

    /// Cuts off what comes after an instant.
    pub fn end(&mut self, until: Timestamp) {
        self.recurrence = self.recurrence.clone().ending(until);
    }

    /// Whether an answer since the beginning is not to be relied on, because the bound was met.
    pub fn met_bound(&self) -> bool {
        self.budget.met.get()
    }

    /// Returns how many steps were taken.
    pub fn steps_taken(&self) -> u32 {
        DECISION_STEPS_MAX.saturating_sub(self.budget.left.get())
    }

    /// Returns the first occurrence after an instant, closed or not.
    pub fn next_after(&self, after: Timestamp) -> Next {
        self.recurrence.search(after, &self.budget)
    }

    /// Returns the first occurrence at or after the moment a task is accepted, closed or not.
    pub fn first_from(&self, from: Timestamp) -> Next {
        self.recurrence.first_from(from)
    }

    /// Returns the first occurrence after an instant, closed or not; that there is one before `to` which was not found is noted.
    pub fn next_known(&self, after: Timestamp, to: Timestamp) -> Next {
        self.known(self.next_after(after), to)
    }

    /// Returns the first occurrence after an instant that no calendar closes.
    pub fn next_open(&self, after: Timestamp) -> Next {
        let mut after = after;
        loop {
            let next = self.next_after(after);
            let Next::At(at) = next else { return next };
            match self.calendars.covering(at) {
                // Each stretch is passed in one search.
                Some((_, closed)) => after = closed.to.plus_millis(-1).max(at),
                None => return next,
            }
        }
    }

    /// Returns the last occurrence at or after `from` and before `to`, closed or not.
    pub fn latest_in(&self, from: Timestamp, to: Timestamp) -> Option<Timestamp> {
        super::latest(|after| self.known(self.next_after(after), to), from, to)
    }

    /// Returns the last occurrence at or after `from` and before `to` that no calendar closes.
    pub fn latest_open_in(&self, from: Timestamp, to: Timestamp) -> Option<Timestamp> {
        super::latest(|after| self.known(self.next_open(after), to), from, to)
    }

    /// Counts the occurrences at or after `from` and before `to`, closed or not, and says whether these are all: the count stops at
    /// `most`, or when the bound is met.
    pub fn count_in(&self, from: Timestamp, to: Timestamp, most: u64) -> (u64, bool) {
        let mut found = 0;
        let mut next = self.next_after(from.plus_millis(-1));
        loop {
            match next {
                Next::At(at) if at < to && found < most => {
                    found += 1;
                    next = self.next_after(at);
                }
                Next::At(at) => return (found, at >= to),
                Next::Exhausted => return (found, true),
                Next::GaveUp { searched_until } => return (found, searched_until >= to),
            }
        }
    }

    /// Notes when a search gave up before `to`.
    fn known(&self, next: Next, to: Timestamp) -> Next {
        if matches!(next, Next::GaveUp { searched_until } if searched_until < to) {
            self.budget.note_met();
        }
        next
    }
}
