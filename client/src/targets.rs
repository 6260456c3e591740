//! Which node to ask next: the leader as far as it is known, then those that answered lately, then the rest.

use crate::endpoint::Address;
use crate::error::ClientError;
use sched_proto::limits::MESSAGE_BYTES_MAX;
use sched_proto::v1::scheduler_client::SchedulerClient;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;
use tokio::time::Instant;
use tonic::transport::Channel;

/// A node that could not be reached is asked last for this long. A leader's address that only the cluster can reach (a container's
/// name, say) is left alone for as long, although every answer repeats it.
const SUSPECT_FOR: Duration = Duration::from_secs(10);
/// Leaders' addresses remembered beside those that were given; a cluster has few nodes.
const LEARNED_MAX: usize = 16;

/// One node.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) address: Address,
    channel: OnceLock<Channel>,
    suspect_until: Mutex<Option<Instant>>,
}

impl Target {
    fn new(address: Address) -> Self {
        Self {
            address,
            channel: OnceLock::new(),
            suspect_until: Mutex::new(None),
        }
    }

    /// Returns a client on the one connection to this node.
    pub(crate) fn client(&self) -> Result<SchedulerClient<Channel>, ClientError> {
        let channel = match self.channel.get() {
            Some(channel) => channel,
            None => {
                let channel = self.address.channel()?;
                self.channel.get_or_init(|| channel)
            }
        };
        Ok(SchedulerClient::new(channel.clone())
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX))
    }

    /// Notes that it could not be reached.
    pub(crate) fn suspect(&self) {
        *lock(&self.suspect_until) = Some(Instant::now() + SUSPECT_FOR);
    }

    fn trust(&self) {
        *lock(&self.suspect_until) = None;
    }

    fn is_suspect(&self) -> bool {
        lock(&self.suspect_until).is_some_and(|until| Instant::now() < until)
    }
}

/// Every node that is known.
#[derive(Debug)]
pub(crate) struct Targets {
    given: Vec<Arc<Target>>,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    /// Leaders' addresses that were not given.
    learned: Vec<Arc<Target>>,
    leader: Option<Arc<Target>>,
    /// Where in the given list to begin: the last that answered.
    first: usize,
}

impl Targets {
    pub(crate) fn new(addresses: Vec<Address>) -> Self {
        let mut given: Vec<Arc<Target>> = Vec::new();
        for address in addresses {
            if !given.iter().any(|target| target.address == address) {
                given.push(Arc::new(Target::new(address)));
            }
        }
        Self {
            given,
            known: Mutex::default(),
        }
    }

    /// Returns the nodes in the order in which to ask them.
    pub(crate) fn in_order(&self) -> Vec<Arc<Target>> {
        let known = lock(&self.known);
        let mut order: Vec<Arc<Target>> = Vec::with_capacity(self.given.len() + 1);
        order.extend(known.leader.iter().filter(|leader| !leader.is_suspect()).cloned());
        for step in 0..self.given.len() {
            let target = &self.given[(known.first + step) % self.given.len()];
            if !order.iter().any(|other| other.address == target.address) {
                order.push(target.clone());
            }
        }
        // Stable: among equals the order above stays.
        order.sort_by_key(|target| target.is_suspect());
        order
    }

    /// Notes who leads, and returns that node unless it could not be reached lately.
    pub(crate) fn learn_leader(&self, authority: &str) -> Option<Arc<Target>> {
        let mut known = lock(&self.known);
        let same = |target: &&Arc<Target>| target.address.authority == authority;
        let target = match self.given.iter().chain(&known.learned).find(same) {
            Some(target) => target.clone(),
            None => {
                let target = Arc::new(Target::new(Address {
                    authority: authority.to_owned(),
                }));
                if known.learned.len() >= LEARNED_MAX {
                    known.learned.remove(0);
                }
                known.learned.push(target.clone());
                target
            }
        };
        known.leader = Some(target.clone());
        (!target.is_suspect()).then_some(target)
    }

    /// Notes that a node answered.
    pub(crate) fn answered(&self, target: &Target) {
        target.trust();
        if let Some(at) = self.given.iter().position(|given| given.address == target.address) {
            lock(&self.known).first = at;
        }
    }

    /// Notes that a node could not be reached or did not answer.
    pub(crate) fn failed(&self, target: &Target) {
        self.broke(target, true);
    }

    /// Notes that a connection broke. Only a node that cannot be reached is suspect: one that was restarted is back at once.
    pub(crate) fn broke(&self, target: &Target, unreachable: bool) {
        if unreachable {
            target.suspect();
        }
        let mut known = lock(&self.known);
        if known
            .leader
            .as_ref()
            .is_some_and(|leader| leader.address == target.address)
        {
            known.leader = None;
        }
    }
}

/// Locks; what is behind these locks is valid at every step, so a panic elsewhere does not spoil it.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn targets(list: &[&str]) -> Targets {
        Targets::new(list.iter().map(|text| Address::parse(text).expect("address")).collect())
    }

    fn order(targets: &Targets) -> Vec<String> {
        targets
            .in_order()
            .iter()
            .map(|target| target.address.authority.clone())
            .collect()
    }

    #[test]
    fn the_leader_comes_first_then_who_answered_then_the_suspects() {
        let all = targets(&["a:1", "b:1", "c:1", "a:1"]);
        assert_eq!(order(&all), ["a:1", "b:1", "c:1"]);
        all.answered(&all.given[1]);
        assert_eq!(order(&all), ["b:1", "c:1", "a:1"]);
        assert!(all.learn_leader("a:1").is_some());
        assert_eq!(order(&all), ["a:1", "b:1", "c:1"]);
        all.failed(&all.given[0]);
        assert_eq!(order(&all), ["b:1", "c:1", "a:1"]);
        assert!(all.learn_leader("a:1").is_none(), "a suspect leader is not gone to");
        // As if the time had passed.
        *lock(&all.given[0].suspect_until) = Some(Instant::now());
        assert_eq!(order(&all), ["a:1", "b:1", "c:1"]);
    }

    #[test]
    fn a_leader_that_was_not_given_is_asked_unless_it_cannot_be_reached() {
        let all = targets(&["a:1"]);
        let leader = all.learn_leader("inside:7400").expect("new");
        assert_eq!(order(&all), ["inside:7400", "a:1"]);
        all.failed(&leader);
        assert_eq!(order(&all), ["a:1"]);
        assert!(all.learn_leader("inside:7400").is_none());
        assert_eq!(order(&all), ["a:1"]);
        for n in 1..100 {
            all.learn_leader(&format!("n{n}:1"));
        }
        assert!(lock(&all.known).learned.len() <= LEARNED_MAX);
    }
}
