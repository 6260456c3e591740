//! What a task's state says about its runs.

use super::{Overlap, TaskState, TaskStatus};
use crate::time::Timestamp;
use serde::{Deserialize, Serialize};

/// A pause: the task keeps its place in the tables but is not fired.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Pause {
    /// For people.
    pub note: String,
    /// When it resumes by itself.
    pub until: Option<Timestamp>,
    /// Since when, by leader time.
    pub since: Timestamp,
}

impl TaskStatus {
    /// Whether the next of the runs that follow each other may start: where runs may overlap, it waits for its like only.
    pub fn is_turn_free(&self) -> bool {
        match self.policy.overlap {
            Overlap::Allow => self.turn.is_none(),
            Overlap::Skip | Overlap::QueueOne | Overlap::QueueAll | Overlap::Replace => self.live.is_empty(),
        }
    }
}

impl TaskStatus {
    /// Takes a run out of the way of others.
    pub fn leave_place(&mut self, number: u64) {
        self.live.retain(|live| *live != number);
        if self.turn == Some(number) {
            self.turn = None;
        }
    }

    /// Whether those that wait for the task know what they wait for: it was dequeued, or has ended and no run of it is LOST. One that is
    /// may still turn out to have finished.
    pub fn has_told(&self) -> bool {
        self.state == TaskState::Terminated || self.state.is_ended() && self.lost.is_empty()
    }

    /// Whether a run is under way or waits to be: one that is LOST is not.
    pub fn is_busy(&self) -> bool {
        !self.held.is_empty() || self.live.iter().any(|number| !self.lost.contains(number))
    }
}
