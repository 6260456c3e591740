//! How much of the log each member has acknowledged to this leader, so that one whose log went backwards is told from one that is behind.
//!
//! A log goes backwards when its folder is a copy or was restored from a backup. Consensus takes for granted that this cannot be: a leader
//! that meets such an answer would count on entries that are nowhere any more, or stop. So the answer does not get there: the member is
//! as good as gone, and the log says to replace it. What this leader does not know, what was acknowledged to others before, is not noticed.

use crate::types::LogId;
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// By member: the term in which it was, and the newest entry that it has acknowledged.
#[derive(Default)]
pub(crate) struct Acked {
    members: Mutex<BTreeMap<u64, (u64, Option<LogId>)>>,
}

impl Acked {
    /// Takes down that a member holds the log up to `matched`, as the leader of `term` has it.
    pub(crate) fn note(&self, member: u64, term: u64, matched: Option<LogId>) {
        let mut members = self.members.lock().unwrap_or_else(PoisonError::into_inner);
        let known = members.entry(member).or_insert((term, None));
        if known.0 < term {
            *known = (term, None);
        }
        if known.0 == term {
            known.1 = known.1.max(matched);
        }
    }

    /// Whether a member that lacks the entry at `lacking` had acknowledged it to the leader of `term`.
    pub(crate) fn went_backwards(&self, member: u64, term: u64, lacking: LogId) -> bool {
        let members = self.members.lock().unwrap_or_else(PoisonError::into_inner);
        members
            .get(&member)
            .is_some_and(|(known, matched)| *known == term && *matched >= Some(lacking))
    }
}
