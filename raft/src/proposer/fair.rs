//! A queue that is fair to those who fill it: start-time fair queueing (Goyal, Vin and Cheng, SIGCOMM 1996).
//!
//! What waits is ordered by a virtual time that passes as things are taken out. What somebody puts in stands at the virtual time of now, or
//! where his last one ended if that is later, and lasts as long as it costs. So whoever asks for little comes next, whoever asks for much
//! waits behind what he himself has asked for, and each keeps his own order. One alone finds a plain queue.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;

/// Owners that are remembered beyond those who wait. More than have something under way at once: who is forgotten too early is served as if he
/// had had nothing, again and again, and the others wait for him.
const SWEEP: usize = 16 * 1024;

/// What waits, by owner `K`.
pub(super) struct FairQueue<K, T> {
    waiting: BTreeMap<(u64, u64), Waiting<K, T>>,
    owners: HashMap<K, Owner>,
    /// The virtual time: where what was taken last began.
    now: u64,
    /// Tells apart what begins at the same virtual time: first come, first served.
    number: u64,
}

/// The place of something that was put in. No two have the same.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Ticket((u64, u64));

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

    /// Puts something in, and returns what it can be taken back by.
    pub(super) fn push(&mut self, owner: K, cost: u64, value: T) -> Ticket {
        let entry = self.owners.entry(owner).or_default();
        let start = self.now.max(entry.end);
        entry.end = start + cost;
        entry.waiting += cost;
        self.number += 1;
        let place = (start, self.number);
        self.waiting.insert(place, Waiting { owner, cost, value });
        Ticket(place)
    }

    /// Takes back what was put in, if it still waits: as if it had never been there, when nothing was put in after it.
    pub(super) fn withdraw(&mut self, ticket: Ticket) -> Option<T> {
        let gone = self.waiting.remove(&ticket.0)?;
        if let Some(owner) = self.owners.get_mut(&gone.owner) {
            owner.waiting -= gone.cost;
            if owner.end == ticket.0.0 + gone.cost {
                owner.end = ticket.0.0;
            }
        }
        Some(gone.value)
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
        // Numbers go on: a place that is given out is never another's.
        self.owners.clear();
        std::mem::take(&mut self.waiting).into_values().map(|next| next.value)
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
        for value in 0..100 {
            queue.push('a', 1, value);
        }
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
        for value in 0..50 {
            queue.push('a', 1, value);
        }
        (0..40).for_each(|_| assert!(queue.pop().is_some()));
        // b has asked for nothing for long. It gets every other one from here on, not all of them.
        for value in 1001..1005 {
            queue.push('b', 1, value);
        }
        let next: Vec<u32> = order(queue).into_iter().take(6).collect();
        assert_eq!(next.iter().filter(|value| **value >= 1000).count(), 3, "{next:?}");
    }

    #[test]
    fn what_is_taken_back_counts_no_more() {
        let mut queue = FairQueue::default();
        queue.push('a', 1, 1);
        let ticket = queue.push('b', 100, 2);
        assert_eq!((queue.withdraw(ticket), queue.withdraw(ticket)), (Some(2), None));
        assert_eq!(queue.waiting_of('b'), 0);
        queue.push('b', 1, 3);
        queue.push('a', 1, 4);
        assert_eq!(order(queue), [1, 3, 4], "b begins anew");
    }

    #[test]
    fn a_place_is_given_out_once() {
        let mut queue = FairQueue::default();
        let first = queue.push('a', 1, 1);
        assert_eq!(queue.drain().collect::<Vec<_>>(), [1]);
        queue.push('a', 1, 2);
        assert_eq!(queue.withdraw(first), None);
        assert_eq!(order(queue), [2]);
    }

    /// A thousand who come back as soon as they are served, and one who asks for more at once: nobody is passed over.
    #[test]
    fn nobody_is_passed_over_for_ever() {
        const STEPS: usize = 200_000;
        const MANY: usize = 1200;
        let cost = |owner: usize| if owner == MANY { 16 } else { 1 };
        let mut queue = FairQueue::default();
        (0..=MANY).for_each(|owner| {
            queue.push(owner, cost(owner), owner);
        });
        let (mut under_way, mut served) = (Vec::new(), vec![0; MANY + 1]);
        for step in 0..STEPS {
            let owner = queue.pop().unwrap();
            served[owner] = step;
            under_way.push(owner);
            // As many as are proposed at once come back together.
            if under_way.len() == 512 {
                under_way.drain(..).for_each(|owner| {
                    queue.push(owner, cost(owner), owner);
                });
            }
        }
        let last = served[..MANY].iter().min().unwrap();
        assert!(STEPS - last < 3 * MANY, "somebody was served last in step {last}");
        assert!(STEPS - served[MANY] < 20 * MANY, "{}", served[MANY]);
    }

    #[test]
    fn owners_who_left_are_forgotten() {
        let mut queue = FairQueue::default();
        queue.push(0, 1_000_000, ());
        queue.push(0, 1, ());
        queue.pop();
        for owner in 1..100_000 {
            queue.push(owner, 1, ());
            queue.pop();
        }
        assert!(queue.owners.len() <= 2 + SWEEP + 1, "{}", queue.owners.len());
        assert_eq!(queue.waiting_of(0), 1);
        queue.pop();
        assert!(queue.is_empty() && queue.owners.is_empty());
    }
}
