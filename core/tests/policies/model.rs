//! What shall become of a task, in the words of its documentation.

use crate::{GRACE, INTERVAL, Outcome, World};
use sched_core::task::{Missed, Overlap};
use std::collections::VecDeque;

/// Younger than this, an occurrence is late, not missed.
const LATE: i64 = 15_000;

pub(crate) struct Model {
    missed: Missed,
    overlap: Overlap,
    length: i64,
    /// The end of each run that is alive.
    alive: Vec<i64>,
    waiting: VecDeque<i64>,
    /// The end of the run that is caught up with, where runs may overlap.
    catching_up: Option<i64>,
    /// Let go in this step, and not yet with a worker.
    let_go: Vec<i64>,
    /// The first occurrence that nothing was decided about.
    next: i64,
    outcome: Outcome,
}

impl Model {
    pub(crate) fn new(missed: Missed, overlap: Overlap, length: i64) -> Self {
        Self {
            missed,
            overlap,
            length,
            alive: Vec::new(),
            waiting: VecDeque::new(),
            catching_up: None,
            let_go: Vec::new(),
            next: INTERVAL,
            outcome: Outcome::default(),
        }
    }

    fn start(&mut self, at: i64, now: i64) {
        self.outcome.runs.insert(at, Some(now));
        self.alive.push(now + self.length);
        self.let_go.push(at);
    }

    /// Which of the occurrences that are too old to be late run all the same.
    fn caught_up(&self, old: &[i64], none_is_fresh: bool, now: i64) -> Vec<i64> {
        let in_grace: Vec<i64> = old.iter().copied().filter(|at| now - at <= GRACE).collect();
        let want = match self.missed {
            Missed::Skip => 0,
            Missed::Latest => usize::from(none_is_fresh),
            Missed::All { max } => max as usize,
        };
        in_grace[in_grace.len().saturating_sub(want)..].to_vec()
    }

    fn place(&mut self, at: i64, now: i64, may_drop: bool) {
        let old = now - at >= LATE;
        if self.overlap == Overlap::Allow && old {
            // Those that are caught up with follow each other, whatever else runs.
            if self.catching_up.is_some() {
                self.outcome.runs.insert(at, None);
                return self.waiting.push_back(at);
            }
            self.catching_up = Some(now + self.length);
            return self.start(at, now);
        }
        if self.alive.is_empty() {
            return self.start(at, now);
        }
        match self.overlap {
            Overlap::Allow => self.start(at, now),
            Overlap::Skip if may_drop => self.outcome.skipped.push(at),
            Overlap::QueueOne if may_drop && !self.waiting.is_empty() => self.outcome.skipped.push(at),
            Overlap::Skip | Overlap::QueueOne | Overlap::QueueAll => {
                self.outcome.runs.insert(at, None);
                self.waiting.push_back(at);
            }
            Overlap::Replace => {
                // Those before it are cancelled, whether they run or wait; it takes their place.
                self.waiting.clear();
                self.alive.clear();
                for at in self.let_go.drain(..) {
                    self.outcome.runs.insert(at, None);
                }
                self.start(at, now);
            }
        }
    }
}

impl World for Model {
    fn step(&mut self, now: i64, leader_since: i64) {
        self.alive.retain(|end| *end > now);
        self.catching_up = self.catching_up.filter(|end| *end > now);
        let free = match self.overlap {
            Overlap::Allow => self.catching_up.is_none(),
            _ => self.alive.is_empty(),
        };
        if free && let Some(at) = self.waiting.pop_front() {
            if self.overlap == Overlap::Allow {
                self.catching_up = Some(now + self.length);
            }
            self.start(at, now);
        }
        self.let_go.clear();
        let mut due = Vec::new();
        while self.next <= now {
            due.push(self.next);
            self.next += INTERVAL;
        }
        let (old, fresh): (Vec<i64>, Vec<i64>) = due.into_iter().partition(|at| now - at >= LATE);
        let caught_up = self.caught_up(&old, fresh.is_empty(), now);
        let gone = &old[..old.len() - caught_up.len()];
        if let (Some(first), Some(last)) = (gone.first(), gone.last()) {
            self.outcome.missed.push((*first, *last, gone.len() as u64));
        }
        let busy = !self.alive.is_empty();
        for at in caught_up.into_iter().chain(fresh) {
            // What fell into the time without a leader is not dropped for a run that was alive then.
            let spared = at < leader_since && now - at < LATE;
            self.place(at, now, busy && !spared);
        }
    }

    fn outcome(self) -> Outcome {
        self.outcome
    }
}
