//! A queue that is fair to those who fill it: start-time fair queueing (Goyal, Vin and Cheng, SIGCOMM 1996).
//!
//! What waits is ordered by a virtual time that passes as things are taken out. What somebody puts in stands at the virtual time of now, or
//! where his last one ended if that is later, and lasts as long as it costs. So whoever asks for little comes next, whoever asks for much
//! waits behind what he himself has asked for, and each keeps his own order. One alone finds a plain queue.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;

/// Owners that are remembered beyond those who wait before the past is swept out.
const SWEEP: usize = 64;

/// What waits, by owner `K`.
pub(super) struct FairQueue<K, T> {
    waiting: BTreeMap<(u64, u64), Waiting<K, T>>,
    owners: HashMap<K, Owner>,
    /// The virtual time: where what was taken last began.
    now: u64,
    /// Tells apart what begins at the same virtual time: first come, first served.
    number: u64,
}

struct Waiting<K, T> {
    owner: K,
    cost: u64,
    value: T,
}

#[derive(Default)]
struct Owner {
    /// The virtual time at which everything he has put in has ended.
    end: u64,
    /// The cost of what waits.
    waiting: u64,
}

impl<K, T> Default for FairQueue<K, T> {
    fn default() -> Self {
        Self {
            waiting: BTreeMap::new(),
            owners: HashMap::new(),
            now: 0,
            number: 0,
        }
    }
}

impl<K: Copy + Eq + Hash, T> FairQueue<K, T> {
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// The cost of everything that waits of this owner.
    pub(super) fn waiting_of(&self, owner: K) -> u64 {
        self.owners.get(&owner).map_or(0, |owner| owner.waiting)
    }

    pub(super) fn push(&mut self, owner: K, cost: u64, value: T) {
        let entry = self.owners.entry(owner).or_default();
        let start = self.now.max(entry.end);
        entry.end = start + cost;
        entry.waiting += cost;
        self.number += 1;
        self.waiting
            .insert((start, self.number), Waiting { owner, cost, value });
    }

    /// What is next.
    pub(super) fn peek(&self) -> Option<&T> {
        self.waiting.first_key_value().map(|(_, next)| &next.value)
    }

    pub(super) fn pop(&mut self) -> Option<T> {
        let ((start, _), next) = self.waiting.pop_first()?;
        self.now = start;
        if let Some(owner) = self.owners.get_mut(&next.owner) {
            owner.waiting -= next.cost;
        }
        if self.waiting.is_empty() {
            // Nobody has to wait for anybody: what was is forgotten, and virtual time does not run out.
            self.owners.clear();
            self.now = 0;
        } else if self.owners.len() > self.owners_max() {
            self.sweep();
        }
        Some(next.value)
    }

    fn owners_max(&self) -> usize {
        2 * self.waiting.len() + SWEEP
    }

    /// Forgets those who have had no more than others; if they are not enough, all who wait for nothing.
    fn sweep(&mut self) {
        let now = self.now;
        self.owners.retain(|_, owner| owner.waiting > 0 || owner.end > now);
        if self.owners.len() > self.owners_max() {
            self.owners.retain(|_, owner| owner.waiting > 0);
        }
    }

    /// Takes out everything, in order.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = T> + use<K, T> {
        std::mem::take(self).waiting.into_values().map(|next| next.value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(mut queue: FairQueue<char, u32>) -> Vec<u32> {
        std::iter::from_fn(|| queue.pop()).collect()
    }

    #[test]
    fn one_alone_is_served_in_order() {
        let mut queue = FairQueue::default();
        for value in 0..5 {
            queue.push('a', u64::from(value) + 1, value);
        }
        assert_eq!(order(queue), [0, 1, 2, 3, 4]);
    }

    #[test]
    fn who_asks_for_little_comes_next() {
        let mut queue = FairQueue::default();
        (0..100).for_each(|value| queue.push('a', 1, value));
        (0..10).for_each(|value| assert_eq!(queue.pop(), Some(value)));
        queue.push('b', 1, 1000);
        assert_eq!(
            (queue.pop(), queue.pop()),
            (Some(1000), Some(10)),
            "b has had nothing yet"
        );
    }

    #[test]
    fn those_who_ask_for_much_share_by_cost() {
        let mut queue = FairQueue::default();
        for value in 0..40 {
            queue.push('a', 1, value);
        }
        for value in 100..110 {
            queue.push('b', 4, value);
        }
        let first: Vec<u32> = order(queue).into_iter().take(20).collect();
        let of_b = first.iter().filter(|value| **value >= 100).count();
        assert_eq!(of_b, 4, "16 of a cost as much as 4 of b: {first:?}");
    }

    #[test]
    fn a_rest_is_not_saved_up() {
        let mut queue = FairQueue::default();
        queue.push('b', 1, 1000);
        (0..50).for_each(|value| queue.push('a', 1, value));
        (0..40).for_each(|_| assert!(queue.pop().is_some()));
        // b has asked for nothing for long. It gets every other one from here on, not all of them.
        (1001..1005).for_each(|value| queue.push('b', 1, value));
        let next: Vec<u32> = order(queue).into_iter().take(6).collect();
        assert_eq!(next.iter().filter(|value| **value >= 1000).count(), 3, "{next:?}");
    }

    #[test]
    fn owners_who_left_are_forgotten() {
        let mut queue = FairQueue::default();
        queue.push(0, 1_000_000, ());
        queue.push(0, 1, ());
        queue.pop();
        for owner in 1..10_000 {
            queue.push(owner, 1, ());
            queue.pop();
        }
        assert!(queue.owners.len() <= 2 + SWEEP + 1, "{}", queue.owners.len());
        assert_eq!(queue.waiting_of(0), 1);
        queue.pop();
        assert!(queue.is_empty() && queue.owners.is_empty());
    }
}
