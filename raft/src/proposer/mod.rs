//! Packs the waiting commands of all callers into entries of the log: one synced write and one round for many commands.
//!
//! There is no linger. When fewer entries are under way than may be, whatever waits is proposed at once; while they are,
//! the next group fills up. So a lone command is not delayed, and under load the groups grow by themselves.
//!
//! Clients take turns, by what they ask for: see [`fair`]. Turns alone would change little, as a group takes in whatever a few hundred callers
//! have under way; so the commands of clients that are proposed and not yet applied are bounded, too. That is how much a command may
//! find before it.

mod fair;
mod queue;

use crate::core::Core;
use crate::error::ProposeError;
use crate::role::Role;
use crate::shared::Counters;
use crate::types::{Callback, Commands, TypeConfig};
use fair::Ticket;
use openraft::errors::ClientWriteError;
use openraft::raft::ClientWriteResult;
use queue::{Group, Proposal, RETRY_AFTER_MS};
pub(crate) use queue::{Lane, Queue};
use sched_core::codec::{self, EncodedItem};
use sched_core::command::{Item, Reply};
use sched_core::limits::{ENTRY_BYTES_MAX, ENTRY_COMMANDS_MAX};
use sched_core::{Reject, Timestamp};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot, watch};
use tokio_util::task::task_tracker::TaskTrackerToken;

/// The answer to one command.
pub(crate) type Answer = Result<Reply, ProposeError>;

/// Largest single command: its entry must fit a record with room to spare.
pub(crate) const COMMAND_BYTES_MAX: usize = sched_core::limits::RECORD_BYTES_MAX / 2;

/// Whom commands come from. Those of one origin wait for each other before they make others wait; what it stands for, a connection or a
/// user, is for the caller to say.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Origin(pub u64);

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
    let together = match lane {
        Lane::Internal => ENTRY_COMMANDS_MAX,
        // Half of what may be under way: what one has sent does not fill it.
        Lane::Client(_) => (core.options.in_flight_items_max / 2).clamp(1, ENTRY_COMMANDS_MAX),
    };
    // All parts are queued before the first is waited for, so that they travel in neighbouring entries.
    let parts = split(items, together).into_iter();
    let parts: Vec<Part> = parts.map(|part| enqueue(core, lane, part)).collect();
    for part in parts {
        match part {
            Part::Refused(items, error) => answers.extend(std::iter::repeat_n(Err(error), items)),
            Part::Waiting(items, ticket, reply) => match tokio::time::timeout_at(deadline, reply).await {
                Ok(Ok(part)) => answers.extend(part),
                Ok(Err(_)) => answers.extend(unknown(core, items, "the replica stopped")),
                Err(_) if core.queue.withdraw(lane, ticket) => {
                    core.board.counters.overloaded.add(1);
                    let error = ProposeError::Overloaded {
                        waiting: core.queue.waiting(),
                        retry_after_ms: RETRY_AFTER_MS,
                    };
                    answers.extend(std::iter::repeat_n(Err(error), items));
                }
                Err(_) => answers.extend(unknown(core, items, "no quorum answered in time")),
            },
        }
    }
    answers
}

enum Part {
    Refused(usize, ProposeError),
    Waiting(usize, Ticket, oneshot::Receiver<Vec<Answer>>),
}

/// Cuts a caller's commands into parts of at most so many that fit one entry each; a command too large for any stands alone.
///
/// Commands are encoded here, on the callers' threads; the proposer only puts them side by side.
fn split(items: Vec<Item>, together: usize) -> Vec<(Vec<EncodedItem>, usize)> {
    let mut parts: Vec<(Vec<EncodedItem>, usize)> = Vec::new();
    for item in items {
        let item = EncodedItem::new(&item);
        let bytes = item.len();
        match parts.last_mut() {
            Some((part, sum)) if part.len() < together && *sum + bytes <= ENTRY_BYTES_MAX => {
                part.push(item);
                *sum += bytes;
            }
            _ => parts.push((vec![item], bytes)),
        }
    }
    parts
}

fn enqueue(core: &Core, lane: Lane, (items, bytes): (Vec<EncodedItem>, usize)) -> Part {
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
        Ok(ticket) => {
            core.board.counters.proposed_items.add(count);
            Part::Waiting(count, ticket, answer)
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
    let mut roles = core.roles.subscribe();
    loop {
        let permit = refusing(&core, &mut roles, under_way.clone().acquire_owned()).await;
        let Some(Ok(permit)) = permit else { break };
        let Some(group) = refusing(&core, &mut roles, next_group(&core)).await else {
            break;
        };
        // Read as late as possible. `apply` sees to it that time never runs backwards.
        let stamp = (core.options.clock)();
        let under_way = UnderWay {
            core: core.clone(),
            of_clients: group.of_clients,
            _permit: permit,
            _tracked: core.tasks.token(),
        };
        propose_group(group, stamp, under_way).await;
    }
    core.queue.close();
}

/// An entry that is proposed and not yet applied.
struct UnderWay {
    core: Arc<Core>,
    of_clients: usize,
    _permit: OwnedSemaphorePermit,
    /// A replica that is shut down waits for it.
    _tracked: TaskTrackerToken,
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.core.queue.release(self.of_clients);
    }
}

/// Waits, and refuses what is queued as soon as this node does not lead: what is under way may never come back. Nothing when the replica stops.
async fn refusing<T>(core: &Core, roles: &mut watch::Receiver<Role>, wait: impl Future<Output = T>) -> Option<T> {
    tokio::pin!(wait);
    loop {
        tokio::select! {
            done = &mut wait => return Some(done),
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

async fn next_group(core: &Core) -> Group {
    loop {
        let group = core.queue.take();
        if !group.items.is_empty() {
            return group;
        }
        core.queue.wake.notified().await;
    }
}

async fn propose_group(group: Group, stamp: Timestamp, under_way: UnderWay) {
    let core = under_way.core.clone();
    let Group { items, callers, .. } = group;
    let Ok(leader) = core.raft.as_leader() else {
        return refuse_callers(callers, &not_leader(&core));
    };
    let commands = Commands(codec::encode_entry(leader.term(), stamp, &items).into());
    drop(items);
    core.board.counters.proposed_entries.add(1);
    // Dropped without a call, the senders in it tell their callers that the outcome is unknown.
    let answered = Callback::new({
        let core = core.clone();
        move |outcome| {
            drop(under_way);
            answer(&core, callers, outcome);
        }
    });
    // Only the leader of this very term may append it: the stamp and the term inside are its own.
    let write = core
        .raft
        .write(commands)
        .with_leader(leader.to_committed_leader_id())
        .responder(answered);
    if let Err(e) = write.await {
        tracing::debug!(error = %e, "an entry was not proposed");
    }
}

/// Hands the answers of one entry to those who wait for them.
fn answer(core: &Core, callers: Vec<(usize, oneshot::Sender<Vec<Answer>>)>, outcome: ClientWriteResult<TypeConfig>) {
    let replies = match outcome {
        Ok(response) => response.data.0,
        Err(ClientWriteError::ForwardToLeader(_) | ClientWriteError::PreconditionFailed(_)) => {
            return refuse_callers(callers, &not_leader(core));
        }
        Err(ClientWriteError::LogEntryDiscarded(_)) => {
            return give_up(
                &core.board.counters,
                callers,
                "the leader changed while it was under way",
            );
        }
        Err(ClientWriteError::ChangeMembershipError(_)) => {
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
