//! Packs the waiting commands of all callers into entries of the log: one synced write and one round for many commands.
//!
//! There is no linger. When fewer entries are under way than may be, whatever waits is proposed at once; while they are,
//! the next group fills up. So a lone command is not delayed, and under load the groups grow by themselves.

use crate::core::Core;
use crate::error::ProposeError;
use crate::options::Options;
use crate::shared::Counters;
use crate::types::{Commands, TypeConfig};
use openraft::errors::ClientWriteError;
use openraft::impls::ProgressResponder;
use openraft::raft::ClientWriteResult;
use sched_core::codec::{self, Kind};
use sched_core::command::{Entry, Item, Reply};
use sched_core::limits::{ENTRY_BYTES_MAX, ENTRY_COMMANDS_MAX};
use sched_core::{Reject, Timestamp};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, oneshot};

/// The answer to one command.
pub(crate) type Answer = Result<Reply, ProposeError>;

/// Largest single command: its entry must fit a record with room to spare.
pub(crate) const COMMAND_BYTES_MAX: usize = sched_core::limits::RECORD_BYTES_MAX / 2;
/// When to try again after the queue was full: some tens of entries later.
const RETRY_AFTER_MS: u64 = 100;
/// Of an entry, clients get at least one part in this many when both lanes have something.
const CLIENT_SHARE: usize = 4;

/// Who proposes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Lane {
    /// The duties of the leader.
    Internal,
    /// Everybody else.
    Clients,
}

/// Commands of one caller that stay together.
struct Proposal {
    items: Vec<Item>,
    bytes: usize,
    reply: oneshot::Sender<Vec<Answer>>,
}

#[derive(Default)]
struct LaneQueue {
    proposals: VecDeque<Proposal>,
    items: usize,
    bytes: usize,
}

#[derive(Default)]
struct Lanes {
    internal: LaneQueue,
    clients: LaneQueue,
    closed: bool,
}

/// The commands that wait to be proposed. Each lane is bounded on its own.
pub(crate) struct Queue {
    lanes: Mutex<Lanes>,
    wake: Notify,
    items_max: usize,
    bytes_max: usize,
}

impl Queue {
    pub(crate) fn new(options: &Options) -> Self {
        Self {
            lanes: Mutex::new(Lanes::default()),
            wake: Notify::new(),
            items_max: options.queue_items_max,
            bytes_max: options.queue_bytes_max,
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

    fn push(&self, lane: Lane, proposal: Proposal) -> Result<(), ProposeError> {
        let mut lanes = self.lock();
        if lanes.closed {
            return Err(ProposeError::Stopped);
        }
        let queue = match lane {
            Lane::Internal => &mut lanes.internal,
            Lane::Clients => &mut lanes.clients,
        };
        let full = queue.items + proposal.items.len() > self.items_max || queue.bytes + proposal.bytes > self.bytes_max;
        // An empty queue takes anything, or what is larger than the bound could never be proposed.
        if full && !queue.proposals.is_empty() {
            return Err(ProposeError::Overloaded {
                waiting: queue.items,
                retry_after_ms: RETRY_AFTER_MS,
            });
        }
        queue.items += proposal.items.len();
        queue.bytes += proposal.bytes;
        queue.proposals.push_back(proposal);
        drop(lanes);
        self.wake.notify_one();
        Ok(())
    }

    /// Takes what fits into one entry; callers that have given up are passed over.
    fn take(&self) -> Group {
        let mut lanes = self.lock();
        let mut group = Group::default();
        let share = if lanes.clients.proposals.is_empty() { 0 } else { 1 };
        let room = |of: usize| of - of / CLIENT_SHARE * share;
        lanes
            .internal
            .take_into(&mut group, room(ENTRY_COMMANDS_MAX), room(ENTRY_BYTES_MAX));
        lanes.clients.take_into(&mut group, ENTRY_COMMANDS_MAX, ENTRY_BYTES_MAX);
        lanes
            .internal
            .take_into(&mut group, ENTRY_COMMANDS_MAX, ENTRY_BYTES_MAX);
        group
    }

    /// Answers everything that waits; nothing of it was proposed.
    fn refuse_all(&self, error: &ProposeError) {
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

impl LaneQueue {
    fn take_into(&mut self, group: &mut Group, items_max: usize, bytes_max: usize) {
        while let Some(next) = self.proposals.front() {
            let fits = group.items.len() + next.items.len() <= items_max && group.bytes + next.bytes <= bytes_max;
            let gone = next.reply.is_closed();
            if !fits && !group.items.is_empty() && !gone {
                return;
            }
            let Some(proposal) = self.proposals.pop_front() else {
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
        std::mem::take(&mut self.proposals).into_iter()
    }
}

/// The commands of one entry, and who waits for their answers.
#[derive(Default)]
struct Group {
    items: Vec<Item>,
    bytes: usize,
    callers: Vec<(usize, oneshot::Sender<Vec<Answer>>)>,
}

impl Group {
    fn add(&mut self, proposal: Proposal) {
        self.callers.push((proposal.items.len(), proposal.reply));
        self.bytes += proposal.bytes;
        self.items.extend(proposal.items);
    }
}

fn refuse(reply: oneshot::Sender<Vec<Answer>>, items: usize, error: &ProposeError) {
    // A caller that has gone needs no answer.
    let _ = reply.send(vec![Err(error.clone()); items]);
}

fn refuse_callers(callers: Vec<(usize, oneshot::Sender<Vec<Answer>>)>, error: &ProposeError) {
    for (items, reply) in callers {
        refuse(reply, items, error);
    }
}

/// Proposes commands and waits for their answers, one per item, in order.
pub(crate) async fn propose(core: &Core, lane: Lane, items: Vec<Item>) -> Vec<Answer> {
    if !core.is_leader() {
        let error = if core.stop.is_cancelled() {
            ProposeError::Stopped
        } else {
            not_leader(core)
        };
        return vec![Err(error); items.len()];
    }
    let deadline = tokio::time::Instant::now() + Duration::from_millis(core.options.propose_timeout_ms);
    let mut answers = Vec::with_capacity(items.len());
    // All parts are queued before the first is waited for, so that they travel in neighbouring entries.
    let parts: Vec<Part> = split(items).into_iter().map(|part| enqueue(core, lane, part)).collect();
    for part in parts {
        match part {
            Part::Refused(items, error) => answers.extend(std::iter::repeat_n(Err(error), items)),
            Part::Waiting(items, reply) => match tokio::time::timeout_at(deadline, reply).await {
                Ok(Ok(part)) => answers.extend(part),
                Ok(Err(_)) => answers.extend(unknown(core, items, "the replica stopped")),
                Err(_) => answers.extend(unknown(core, items, "no quorum answered in time")),
            },
        }
    }
    answers
}

enum Part {
    Refused(usize, ProposeError),
    Waiting(usize, oneshot::Receiver<Vec<Answer>>),
}

/// Cuts a caller's commands into parts that fit one entry each; a command too large for any stands alone.
fn split(items: Vec<Item>) -> Vec<(Vec<Item>, usize)> {
    let mut parts: Vec<(Vec<Item>, usize)> = Vec::new();
    for item in items {
        // Encoded here, on the callers' threads, only for its size: the proposer encodes the entry as a whole.
        let bytes = codec::encode(Kind::Entry, &item).len();
        match parts.last_mut() {
            Some((part, sum)) if part.len() < ENTRY_COMMANDS_MAX && *sum + bytes <= ENTRY_BYTES_MAX => {
                part.push(item);
                *sum += bytes;
            }
            _ => parts.push((vec![item], bytes)),
        }
    }
    parts
}

fn enqueue(core: &Core, lane: Lane, (items, bytes): (Vec<Item>, usize)) -> Part {
    let count = items.len();
    if bytes > COMMAND_BYTES_MAX {
        return Part::Refused(
            count,
            ProposeError::TooLarge {
                bytes,
                bytes_max: COMMAND_BYTES_MAX,
            },
        );
    }
    let (reply, answer) = oneshot::channel();
    match core.queue.push(lane, Proposal { items, bytes, reply }) {
        Ok(()) => {
            core.board.counters.proposed_items.add(count);
            Part::Waiting(count, answer)
        }
        Err(error) => {
            core.board.counters.overloaded.add(1);
            Part::Refused(count, error)
        }
    }
}

fn unknown(core: &Core, items: usize, reason: &str) -> impl Iterator<Item = Answer> + use<> {
    core.board.counters.unknown.add(items);
    std::iter::repeat_n(
        Err(ProposeError::Unknown {
            reason: reason.to_owned(),
        }),
        items,
    )
}

fn not_leader(core: &Core) -> ProposeError {
    let leader = core.leader().filter(|leader| leader.node.0 != core.node);
    ProposeError::NotLeader { leader }
}

/// Proposes what waits, until the replica stops.
pub(crate) async fn run(core: Arc<Core>) {
    let under_way = Arc::new(Semaphore::new(core.options.in_flight_entries_max));
    loop {
        let Some(permit) = permit(&core, &under_way).await else {
            break;
        };
        let Some(group) = next_group(&core).await else { break };
        // Read as late as possible. `apply` sees to it that time never runs backwards.
        let stamp = (core.options.clock)();
        propose_group(&core, group, stamp, permit).await;
    }
    core.queue.close();
}

/// Waits until one more entry may be under way; refuses what waits while this node does not lead.
async fn permit(core: &Core, under_way: &Arc<Semaphore>) -> Option<OwnedSemaphorePermit> {
    let mut roles = core.roles.subscribe();
    let acquire = under_way.clone().acquire_owned();
    tokio::pin!(acquire);
    loop {
        tokio::select! {
            permit = &mut acquire => return permit.ok(),
            changed = roles.changed() => {
                changed.ok()?;
                if !core.is_leader() {
                    core.queue.refuse_all(&not_leader(core));
                }
            }
            () = core.stop.cancelled() => return None,
        }
    }
}

async fn next_group(core: &Core) -> Option<Group> {
    loop {
        let group = core.queue.take();
        if !group.items.is_empty() {
            return Some(group);
        }
        tokio::select! {
            () = core.queue.wake.notified() => {}
            () = core.stop.cancelled() => return None,
        }
    }
}

async fn propose_group(core: &Arc<Core>, group: Group, stamp: Timestamp, permit: OwnedSemaphorePermit) {
    let Group { items, callers, .. } = group;
    let Ok(leader) = core.raft.as_leader() else {
        return refuse_callers(callers, &not_leader(core));
    };
    let entry = Entry {
        term: leader.term(),
        now: stamp,
        items,
    };
    let commands = Commands(codec::encode(Kind::Entry, &entry).into());
    drop(entry);
    core.board.counters.proposed_entries.add(1);
    let (responder, outcome) = ProgressResponder::<TypeConfig, _>::complete_only();
    // Only the leader of this very term may append it: the stamp and the term inside are its own.
    let write = core
        .raft
        .write(commands)
        .with_leader(leader.to_committed_leader_id())
        .responder(responder);
    if write.await.is_err() {
        return refuse_callers(callers, &ProposeError::Stopped);
    }
    let core = core.clone();
    core.tasks.clone().spawn(async move {
        let outcome = outcome.await.ok();
        drop(permit);
        answer(&core, callers, outcome);
    });
}

/// Hands the answers of one entry to those who wait for them.
fn answer(
    core: &Core,
    callers: Vec<(usize, oneshot::Sender<Vec<Answer>>)>,
    outcome: Option<ClientWriteResult<TypeConfig>>,
) {
    let replies = match outcome {
        Some(Ok(response)) => response.data.0,
        Some(Err(ClientWriteError::ForwardToLeader(_) | ClientWriteError::PreconditionFailed(_))) => {
            return refuse_callers(callers, &not_leader(core));
        }
        Some(Err(ClientWriteError::LogEntryDiscarded(_))) => {
            return give_up(
                &core.board.counters,
                callers,
                "the leader changed while it was under way",
            );
        }
        Some(Err(ClientWriteError::ChangeMembershipError(_))) | None => {
            return give_up(
                &core.board.counters,
                callers,
                "the replica stopped while it was under way",
            );
        }
    };
    let expected: usize = callers.iter().map(|(items, _)| items).sum();
    if replies.len() != expected {
        // Never so: apply answers each item of an entry. If it did not, nobody may be told something else.
        return give_up(&core.board.counters, callers, "its answer was lost");
    }
    let mut replies = replies.into_iter();
    for (items, reply) in callers {
        let answers = replies
            .by_ref()
            .take(items)
            .map(|reply: Result<Reply, Reject>| reply.map_err(ProposeError::from));
        // A caller that has gone needs no answer.
        let _ = reply.send(answers.collect());
    }
}

fn give_up(counters: &Counters, callers: Vec<(usize, oneshot::Sender<Vec<Answer>>)>, reason: &str) {
    let error = ProposeError::Unknown {
        reason: reason.to_owned(),
    };
    counters.unknown.add(callers.iter().map(|(items, _)| items).sum());
    refuse_callers(callers, &error);
}

#[cfg(test)]
mod tests {
    use super::*;
    use sched_core::Command;

    fn queue(items_max: usize) -> Queue {
        Queue {
            lanes: Mutex::default(),
            wake: Notify::new(),
            items_max,
            bytes_max: usize::MAX,
        }
    }

    fn push(
        queue: &Queue,
        lane: Lane,
        items: usize,
        bytes: usize,
    ) -> Result<oneshot::Receiver<Vec<Answer>>, ProposeError> {
        let (reply, answer) = oneshot::channel();
        let items = vec![Item::internal(Command::Start); items];
        queue.push(lane, Proposal { items, bytes, reply }).map(|()| answer)
    }

    #[test]
    fn groups_are_bounded_and_keep_the_order() {
        let queue = queue(usize::MAX);
        let waiting: Vec<_> = (0..3)
            .map(|_| push(&queue, Lane::Clients, 500, 1000).unwrap())
            .collect();
        assert_eq!(queue.take().callers.len(), 2, "a third does not fit");
        assert_eq!(queue.take().callers.len(), 1);
        assert!(queue.take().items.is_empty());
        drop(waiting);
    }

    #[test]
    fn clients_do_not_starve_the_leader_nor_the_leader_them() {
        let queue = queue(usize::MAX);
        let clients: Vec<_> = (0..2000).map(|_| push(&queue, Lane::Clients, 1, 10).unwrap()).collect();
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
        let large = push(&queue, Lane::Clients, 1, 2 * ENTRY_BYTES_MAX).unwrap();
        let small = push(&queue, Lane::Clients, 1, 10).unwrap();
        assert_eq!(queue.take().items.len(), 1);
        assert_eq!(queue.take().items.len(), 1);
        drop((large, small));
    }

    #[test]
    fn a_full_lane_refuses_and_leaves_the_other_alone() {
        let queue = queue(10);
        let waiting = push(&queue, Lane::Clients, 10, 10).unwrap();
        assert!(matches!(
            push(&queue, Lane::Clients, 1, 1),
            Err(ProposeError::Overloaded { waiting: 10, .. })
        ));
        assert!(push(&queue, Lane::Internal, 1, 1).is_ok());
        drop(waiting);
    }

    #[test]
    fn callers_that_have_gone_are_not_proposed() {
        let queue = queue(usize::MAX);
        drop(push(&queue, Lane::Clients, 1, 1).unwrap());
        let stays = push(&queue, Lane::Clients, 2, 1).unwrap();
        assert_eq!(queue.take().items.len(), 2);
        drop(stays);
    }

    #[test]
    fn closing_answers_what_waits() {
        let queue = queue(usize::MAX);
        let mut waiting = push(&queue, Lane::Clients, 2, 1).unwrap();
        queue.close();
        assert_eq!(waiting.try_recv().unwrap(), vec![Err(ProposeError::Stopped); 2]);
        assert!(matches!(push(&queue, Lane::Clients, 1, 1), Err(ProposeError::Stopped)));
    }
}
