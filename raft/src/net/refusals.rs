//! Members that refuse this node's messages, and how often that is said: one of the two was started with a data folder, or at an address,
//! that is not its own. Consensus backs off and tries again and again, so each is told now and then, not each time.

use crate::types::Place;
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// Before the same is said again.
const QUIET: Duration = Duration::from_secs(10);
/// Senders remembered at once: a number on the wire is anybody's choice.
const SENDERS_MAX: usize = 64;

/// Why members refuse this node, by number.
#[derive(Default)]
pub(crate) struct Refusals {
    known: Mutex<BTreeMap<u64, String>>,
    said: Hush,
}

impl Refusals {
    fn known(&self) -> MutexGuard<'_, BTreeMap<u64, String>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A member refused a message.
    pub(crate) fn note(&self, member: u64, address: &str, why: &str) {
        self.known().insert(member, why.to_owned());
        if self.said.speaks(member) {
            tracing::warn!(member, address, why, "a member refuses this node's messages");
        }
    }

    /// A member answered.
    pub(crate) fn over(&self, member: u64) {
        self.known().remove(&member);
    }

    /// Returns why a member refuses this node, as long as it does.
    pub(crate) fn of(&self, member: u64) -> Option<String> {
        self.known().get(&member).cloned()
    }

    /// Forgets those that are no members any more.
    pub(crate) fn keep(&self, members: &BTreeMap<u64, Place>) {
        self.known().retain(|member, _| members.contains_key(member));
    }
}

/// When something was last said about a node.
#[derive(Default)]
pub(crate) struct Hush(Mutex<BTreeMap<u64, Instant>>);

impl Hush {
    /// Whether it is time to say something about this node again.
    pub(crate) fn speaks(&self, about: u64) -> bool {
        let mut said = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if said.get(&about).is_some_and(|at| at.elapsed() < QUIET) {
            return false;
        }
        if said.len() >= SENDERS_MAX {
            said.clear();
        }
        said.insert(about, Instant::now());
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn each_is_told_now_and_then_and_known_until_it_answers() {
        let refusals = Refusals::default();
        refusals.note(1, "a:1", "no");
        refusals.note(2, "b:1", "neither");
        assert_eq!(refusals.of(1).as_deref(), Some("no"));
        assert!(!refusals.said.speaks(1) && !refusals.said.speaks(2) && refusals.said.speaks(3));
        tokio::time::advance(QUIET).await;
        assert!(refusals.said.speaks(1));
        refusals.over(1);
        refusals.keep(&BTreeMap::new());
        assert_eq!((refusals.of(1), refusals.of(2)), (None, None));
        // However many there are, no more than so many are kept.
        assert!((0..1000).all(|about| about < 4 || refusals.said.speaks(about)));
        assert!(refusals.said.0.lock().unwrap().len() <= SENDERS_MAX);
    }
}
