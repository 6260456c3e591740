//! The commands that wait to be proposed: the leader's own in one lane, those of clients in another.

use super::fair::{FairQueue, Ticket};
use super::{Answer, Origin, refuse};
use crate::error::ProposeError;
use crate::options::Options;
use sched_core::codec::EncodedItem;
use sched_core::limits::{ENTRY_BYTES_MAX, ENTRY_COMMANDS_MAX};
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::{Notify, oneshot};

/// When to try again after the queue was full: some tens of entries later.
pub(super) const RETRY_AFTER_MS: u64 = 100;
/// Of an entry, one part in this many is kept free for clients when both lanes have something.
const CLIENT_SHARE: usize = 4;
/// So many bytes of a command count as one command more when clients take turns.
const COST_BYTES: usize = 2048;

/// Who proposes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Lane {
    /// The duties of the leader.
    Internal,
    /// Everybody else.
    Client(Origin),
}

/// Commands of one caller that stay together.
pub(super) struct Proposal {
    pub(super) items: Vec<EncodedItem>,
    pub(super) bytes: usize,
    pub(super) reply: oneshot::Sender<Vec<Answer>>,
}

/// Proposals by origin; the leader itself is one.
#[derive(Default)]
struct LaneQueue {
    proposals: FairQueue<Origin, Proposal>,
    items: usize,
    bytes: usize,
}

#[derive(Default)]
struct Lanes {
    internal: LaneQueue,
    clients: LaneQueue,
    /// Commands of clients that are proposed and not yet applied.
    under_way: usize,
    /// The leader's own had left no room for those of clients.
    clients_first: bool,
    closed: bool,
}

/// The commands that wait to be proposed. Each lane is bounded on its own.
pub(crate) struct Queue {
    lanes: Mutex<Lanes>,
    pub(super) wake: Notify,
    items_max: usize,
    bytes_max: usize,
    under_way_max: usize,
}

impl Queue {
    pub(crate) fn new(options: &Options) -> Self {
        Self {
            lanes: Mutex::new(Lanes::default()),
            wake: Notify::new(),
            items_max: options.queue_items_max,
            bytes_max: options.queue_bytes_max,
            under_way_max: options.in_flight_items_max,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Lanes> {
        // Nothing panics between two changes of the queue, so a poisoned lock guards a whole value.
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns how many commands wait.
    pub(crate) fn waiting(&self) -> usize {
        let lanes = self.lock();
        lanes.internal.items + lanes.clients.items
    }

    pub(super) fn push(&self, lane: Lane, proposal: Proposal) -> Result<Ticket, ProposeError> {
        let mut lanes = self.lock();
        if lanes.closed {
            return Err(ProposeError::Stopped);
        }
        let (queue, origin) = match lane {
            Lane::Internal => (&mut lanes.internal, Origin::default()),
            Lane::Client(origin) => (&mut lanes.clients, origin),
        };
        let (items, bytes) = (queue.items + proposal.items.len(), queue.bytes + proposal.bytes);
        let full = items > self.items_max || bytes > self.bytes_max;
        // A client has at most as much waiting as there is room for others, so that there is always some.
        let room = (self.items_max.saturating_sub(items)).min(self.bytes_max.saturating_sub(bytes) / COST_BYTES);
        let greedy = lane != Lane::Internal && queue.proposals.waiting_of(origin) > room as u64;
        // An empty queue takes anything, or what is larger than the bound could never be proposed.
        if (full || greedy) && !queue.proposals.is_empty() {
            return Err(ProposeError::Overloaded {
                waiting: queue.items,
                retry_after_ms: RETRY_AFTER_MS,
            });
        }
        (queue.items, queue.bytes) = (items, bytes);
        let ticket = queue.proposals.push(origin, proposal.cost(), proposal);
        drop(lanes);
        self.wake.notify_one();
        Ok(ticket)
    }

    /// Takes back commands that nobody has proposed yet. Whether it did: then they never will be.
    pub(super) fn withdraw(&self, lane: Lane, ticket: Ticket) -> bool {
        let mut lanes = self.lock();
        let queue = match lane {
            Lane::Internal => &mut lanes.internal,
            Lane::Client(_) => &mut lanes.clients,
        };
        let Some(proposal) = queue.proposals.withdraw(ticket) else {
            return false;
        };
        queue.items -= proposal.items.len();
        queue.bytes -= proposal.bytes;
        true
    }

    /// Takes what fits into one entry; callers that have given up are passed over.
    pub(super) fn take(&self) -> Group {
        let mut lanes = self.lock();
        let mut group = Group::default();
        if lanes.clients_first {
            lanes.take_clients(&mut group, self.under_way_max);
        }
        let share = if lanes.clients.proposals.is_empty() { 0 } else { 1 };
        let room = |of: usize| of - of / CLIENT_SHARE * share;
        lanes
            .internal
            .take_into(&mut group, room(ENTRY_COMMANDS_MAX), room(ENTRY_BYTES_MAX));
        let could = lanes.take_clients(&mut group, self.under_way_max);
        // Commands that stay together and are more than the share would never get in.
        lanes.clients_first = could && group.of_clients == 0;
        lanes
            .internal
            .take_into(&mut group, ENTRY_COMMANDS_MAX, ENTRY_BYTES_MAX);
        group
    }

    /// So many commands of clients are under way no more.
    pub(super) fn release(&self, of_clients: usize) {
        if of_clients > 0 {
            self.lock().under_way -= of_clients;
            self.wake.notify_one();
        }
    }

    /// Answers everything that waits; nothing of it was proposed.
    pub(super) fn refuse_all(&self, error: &ProposeError) {
        let mut lanes = self.lock();
        let waiting: Vec<Proposal> = lanes.internal.drain().chain(lanes.clients.drain()).collect();
        drop(lanes);
        for proposal in waiting {
            refuse(proposal.reply, proposal.items.len(), error);
        }
    }

    /// Takes nothing more and answers what waits.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.refuse_all(&ProposeError::Stopped);
        self.wake.notify_one();
    }
}

impl Lanes {
    /// Takes commands of clients as far as they fit, unless too many are under way. Returns whether there were any that could be.
    fn take_clients(&mut self, group: &mut Group, under_way_max: usize) -> bool {
        let window = under_way_max.saturating_sub(self.under_way);
        if window == 0 || self.clients.proposals.is_empty() {
            return false;
        }
        let before = group.items.len();
        let items_max = ENTRY_COMMANDS_MAX.min(before.saturating_add(window));
        self.clients.take_into(group, items_max, ENTRY_BYTES_MAX);
        let taken = group.items.len() - before;
        group.of_clients += taken;
        self.under_way += taken;
        true
    }
}

impl Proposal {
    /// What it counts for in turns: large commands as several.
    fn cost(&self) -> u64 {
        (self.items.len() + self.bytes / COST_BYTES) as u64
    }
}

impl LaneQueue {
    fn take_into(&mut self, group: &mut Group, items_max: usize, bytes_max: usize) {
        while let Some(next) = self.proposals.peek() {
            let fits = group.items.len() + next.items.len() <= items_max && group.bytes + next.bytes <= bytes_max;
            let gone = next.reply.is_closed();
            if !fits && !group.items.is_empty() && !gone {
                return;
            }
            let Some(proposal) = self.proposals.pop() else {
                return;
            };
            self.items -= proposal.items.len();
            self.bytes -= proposal.bytes;
            if !gone {
                group.add(proposal);
            }
        }
    }

    fn drain(&mut self) -> impl Iterator<Item = Proposal> + use<> {
        (self.items, self.bytes) = (0, 0);
        self.proposals.drain()
    }
}

/// The commands of one entry, and who waits for their answers.
#[derive(Default)]
pub(super) struct Group {
    pub(super) items: Vec<EncodedItem>,
    bytes: usize,
    /// Of the commands, those of clients.
    pub(super) of_clients: usize,
    pub(super) callers: Vec<(usize, oneshot::Sender<Vec<Answer>>)>,
}

impl Group {
    fn add(&mut self, proposal: Proposal) {
        self.callers.push((proposal.items.len(), proposal.reply));
        self.bytes += proposal.bytes;
        self.items.extend(proposal.items);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sched_core::Command;
    use sched_core::command::Item;

    const CLIENT: Lane = Lane::Client(Origin(1));

    fn queue(items_max: usize) -> Queue {
        Queue {
            lanes: Mutex::default(),
            wake: Notify::new(),
            items_max,
            bytes_max: usize::MAX,
            under_way_max: usize::MAX,
        }
    }

    fn push(
        queue: &Queue,
        lane: Lane,
        items: usize,
        bytes: usize,
    ) -> Result<oneshot::Receiver<Vec<Answer>>, ProposeError> {
        let (reply, answer) = oneshot::channel();
        let items = vec![EncodedItem::new(&Item::internal(Command::Start)); items];
        queue.push(lane, Proposal { items, bytes, reply }).map(|_| answer)
    }

    #[test]
    fn groups_are_bounded_and_keep_the_order() {
        let queue = queue(usize::MAX);
        let waiting: Vec<_> = (0..3).map(|_| push(&queue, CLIENT, 500, 1000).unwrap()).collect();
        assert_eq!(queue.take().callers.len(), 2, "a third does not fit");
        assert_eq!(queue.take().callers.len(), 1);
        assert!(queue.take().items.is_empty());
        drop(waiting);
    }

    #[test]
    fn clients_do_not_starve_the_leader_nor_the_leader_them() {
        let queue = queue(usize::MAX);
        let clients: Vec<_> = (0..2000).map(|_| push(&queue, CLIENT, 1, 10).unwrap()).collect();
        let internal: Vec<_> = (0..2000)
            .map(|_| push(&queue, Lane::Internal, 1, 10).unwrap())
            .collect();
        let group = queue.take();
        assert_eq!(group.items.len(), ENTRY_COMMANDS_MAX);
        let lanes = queue.lock();
        assert_eq!(lanes.internal.items, 2000 - ENTRY_COMMANDS_MAX * 3 / 4);
        assert_eq!(lanes.clients.items, 2000 - ENTRY_COMMANDS_MAX / 4);
        drop((lanes, clients, internal));
    }

    #[test]
    fn what_is_larger_than_a_group_still_goes_alone() {
        let queue = queue(usize::MAX);
        let large = push(&queue, CLIENT, 1, 2 * ENTRY_BYTES_MAX).unwrap();
        let small = push(&queue, CLIENT, 1, 10).unwrap();
        assert_eq!(queue.take().items.len(), 1);
        assert_eq!(queue.take().items.len(), 1);
        drop((large, small));
    }

    #[test]
    fn a_full_lane_refuses_and_leaves_the_other_alone() {
        let queue = queue(10);
        let waiting = push(&queue, CLIENT, 10, 10).unwrap();
        assert!(matches!(
            push(&queue, CLIENT, 1, 1),
            Err(ProposeError::Overloaded { waiting: 10, .. })
        ));
        assert!(push(&queue, Lane::Internal, 1, 1).is_ok());
        drop(waiting);
    }

    #[test]
    fn a_client_that_floods_leaves_room_for_another() {
        let queue = queue(100);
        let mut waiting: Vec<_> = (0..200).filter_map(|_| push(&queue, CLIENT, 1, 10).ok()).collect();
        assert!((50..=51).contains(&waiting.len()), "{}", waiting.len());
        waiting.push(push(&queue, Lane::Client(Origin(2)), 1, 10).unwrap());
        let (second, reply) = (queue.take(), waiting.pop().unwrap());
        assert_eq!(second.items.len(), waiting.len() + 1);
        drop(reply);
    }

    #[test]
    fn only_so_many_commands_of_clients_are_under_way() {
        let queue = Queue {
            under_way_max: 10,
            ..queue(usize::MAX)
        };
        let clients: Vec<_> = (0..30).map(|_| push(&queue, CLIENT, 1, 10).unwrap()).collect();
        assert_eq!(queue.take().of_clients, 10);
        assert!(queue.take().items.is_empty(), "the rest waits");
        let internal = push(&queue, Lane::Internal, 20, 10).unwrap();
        assert_eq!(
            (queue.take().items.len(), queue.lock().under_way),
            (20, 10),
            "the leader's own do not"
        );
        // Whoever comes now is before what the flood has waiting.
        let other = push(&queue, Lane::Client(Origin(2)), 1, 10).unwrap();
        queue.release(2);
        let mut next = queue.take();
        assert_eq!(next.of_clients, 2);
        let (_, reply) = next.callers.pop().unwrap();
        assert!(reply.send(Vec::new()).is_ok());
        drop((clients, internal, other));
    }

    #[test]
    fn what_stays_together_gets_in_beside_a_busy_leader() {
        let queue = queue(usize::MAX);
        let large = push(&queue, CLIENT, ENTRY_COMMANDS_MAX, 10).unwrap();
        let internal: Vec<_> = (0..4000)
            .map(|_| push(&queue, Lane::Internal, 1, 10).unwrap())
            .collect();
        assert_eq!(queue.take().of_clients, 0, "it does not fit the share");
        assert_eq!(queue.take().of_clients, ENTRY_COMMANDS_MAX, "so it goes next");
        drop((large, internal));
    }

    #[test]
    fn what_is_taken_back_is_not_proposed_and_makes_room() {
        let queue = queue(10);
        let proposal = |items: usize| {
            let (reply, answer) = oneshot::channel();
            let items = vec![EncodedItem::new(&Item::internal(Command::Start)); items];
            (Proposal { items, bytes: 1, reply }, answer)
        };
        let (first, _first) = proposal(10);
        let ticket = queue.push(CLIENT, first).unwrap();
        let (second, _second) = proposal(1);
        assert!(queue.push(CLIENT, second).is_err());
        assert!(queue.withdraw(CLIENT, ticket));
        assert!(!queue.withdraw(CLIENT, ticket));
        let (third, _third) = proposal(3);
        let ticket = queue.push(CLIENT, third).unwrap();
        assert_eq!(queue.take().items.len(), 3);
        assert!(!queue.withdraw(CLIENT, ticket), "it is proposed");
    }

    #[test]
    fn callers_that_have_gone_are_not_proposed() {
        let queue = queue(usize::MAX);
        drop(push(&queue, CLIENT, 1, 1).unwrap());
        let stays = push(&queue, CLIENT, 2, 1).unwrap();
        assert_eq!(queue.take().items.len(), 2);
        drop(stays);
    }

    #[test]
    fn closing_answers_what_waits() {
        let queue = queue(usize::MAX);
        let mut waiting = push(&queue, CLIENT, 2, 1).unwrap();
        queue.close();
        assert_eq!(waiting.try_recv().unwrap(), vec![Err(ProposeError::Stopped); 2]);
        assert!(matches!(push(&queue, CLIENT, 1, 1), Err(ProposeError::Stopped)));
    }
}
