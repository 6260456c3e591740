//! Reads that see everything acknowledged before them: one round to a quorum serves all that wait.

use crate::core::Core;
use crate::error::ProposeError;
use crate::net::wire;
use crate::role::{Leader, Role};
use openraft::LinearizerOption;
use openraft::errors::{LinearizableReadError, RaftError};
use openraft::raft::linearizable_read::LinearizeState;
use sched_core::NodeId;
use sched_proto::peer::read_index_reply::Outcome;
use sched_proto::peer::{NotLeader, ReadIndexRequest};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// How far the tables must be: an index, or nothing for an empty log.
pub(crate) type ReadIndex = Option<u64>;
type Waiter = oneshot::Sender<Result<ReadIndex, ProposeError>>;

/// Reads that may wait for the next round; more are refused.
const WAITING_MAX: usize = 16 * 1024;

/// Where reads wait for a round. Own reads ask the leader when this node is not it; the reads of peers never do, or two
/// nodes that take each other for the leader would wait for each other.
pub(crate) struct Reads {
    own: mpsc::Sender<Waiter>,
    peers: mpsc::Sender<Waiter>,
}

/// The other end of [`Reads`].
pub(crate) struct Rounds {
    own: mpsc::Receiver<Waiter>,
    peers: mpsc::Receiver<Waiter>,
}

impl Reads {
    pub(crate) fn new() -> (Self, Rounds) {
        let (own, own_rounds) = mpsc::channel(WAITING_MAX);
        let (peers, peers_rounds) = mpsc::channel(WAITING_MAX);
        (
            Self { own, peers },
            Rounds {
                own: own_rounds,
                peers: peers_rounds,
            },
        )
    }
}

impl Rounds {
    /// Runs rounds until the replica stops.
    pub(crate) fn start(self, core: &Arc<Core>) {
        core.tasks.spawn(run(core.clone(), self.own, true));
        core.tasks.spawn(run(core.clone(), self.peers, false));
    }
}

/// Waits until the tables of this node hold everything that was acknowledged before the call.
pub(crate) async fn barrier(core: &Core) -> Result<(), ProposeError> {
    let limit = Duration::from_millis(core.options.read_timeout_ms);
    let waited = tokio::time::timeout(limit, async {
        let Some(index) = join(&core.reads.own).await? else {
            return Ok(());
        };
        let mut applied = core.board.applied.subscribe();
        let reached = applied.wait_for(|applied| applied.index >= index).await;
        reached.map(drop).map_err(|_| ProposeError::Stopped)
    });
    tokio::select! {
        waited = waited => waited.unwrap_or(Err(ProposeError::NotLeader { leader: None })),
        () = core.stop.cancelled() => Err(ProposeError::Stopped),
    }
}

/// Asks a quorum whether this node leads, in a round that begins after the call. Unlike [`barrier`], it waits for no tables, and a node
/// that does not lead asks nobody else.
pub(crate) async fn confirm_leadership(core: &Core) -> Result<(), ProposeError> {
    let limit = Duration::from_millis(core.options.read_timeout_ms);
    tokio::select! {
        joined = tokio::time::timeout(limit, join(&core.reads.peers)) => match joined {
            Ok(answer) => answer.map(drop),
            Err(_) => Err(ProposeError::NotLeader { leader: None }),
        },
        () = core.stop.cancelled() => Err(ProposeError::Stopped),
    }
}

/// Returns how far a node must have applied the log for a read of a peer that begins now; only a leader knows.
pub(crate) async fn for_peer(core: &Core) -> Result<ReadIndex, ProposeError> {
    join(&core.reads.peers).await
}

async fn join(rounds: &mpsc::Sender<Waiter>) -> Result<ReadIndex, ProposeError> {
    let (waiter, answer) = oneshot::channel();
    match rounds.try_send(waiter) {
        Ok(()) => answer.await.unwrap_or(Err(ProposeError::Stopped)),
        Err(mpsc::error::TrySendError::Full(_)) => Err(ProposeError::Overloaded {
            waiting: WAITING_MAX,
            retry_after_ms: 100,
        }),
        Err(mpsc::error::TrySendError::Closed(_)) => Err(ProposeError::Stopped),
    }
}

async fn run(core: Arc<Core>, mut waiting: mpsc::Receiver<Waiter>, forward: bool) {
    let mut waiters = Vec::new();
    loop {
        tokio::select! {
            taken = waiting.recv_many(&mut waiters, WAITING_MAX) => if taken == 0 { return },
            () = core.stop.cancelled() => return,
        }
        // Whoever comes from here on waits for the next round: this one may have begun before.
        let answer = tokio::select! {
            answer = round(&core, forward) => answer,
            () = core.stop.cancelled() => return,
        };
        for waiter in waiters.drain(..) {
            // A reader that has gone needs no answer.
            let _ = waiter.send(answer.clone());
        }
    }
}

/// Asks whoever leads, and asks anew when somebody else does: a leader that stands still, or is cut off, never answers, and every read
/// of this node would wait for it until time is up. What is asked anew has begun after the call still.
async fn round(core: &Core, forward: bool) -> Result<ReadIndex, ProposeError> {
    let limit = Duration::from_millis(core.options.read_timeout_ms);
    let mut roles = core.roles.subscribe();
    let asked = tokio::time::timeout(limit, async {
        loop {
            let role = roles.borrow_and_update().clone();
            tokio::select! {
                answer = ask(core, &role, forward) => return answer,
                changed = roles.wait_for(|now| *now != role) => if changed.is_err() {
                    return Err(ProposeError::Stopped);
                },
            }
        }
    });
    asked.await.unwrap_or(Err(ProposeError::NotLeader { leader: None }))
}

async fn ask(core: &Core, role: &Role, forward: bool) -> Result<ReadIndex, ProposeError> {
    if forward {
        let leader = role.leader.as_ref().ok_or(ProposeError::NotLeader { leader: None })?;
        if leader.node != NodeId(core.node) {
            return ask_peer(core, leader).await;
        }
    }
    // A fresh round to a quorum, never an old acknowledgement: the lease is for efficiency elsewhere, not for reads.
    let limit = Duration::from_millis(core.options.read_timeout_ms);
    let fresh = LinearizerOption::new(Some(Duration::ZERO), true).with_wait_timeout(limit);
    match core.raft.get_read_linearizer(fresh).await {
        Ok(linearizer) => Ok(read_index(&linearizer)),
        Err(RaftError::APIError(LinearizableReadError::ForwardToLeader(_))) => Err(elsewhere(core)),
        Err(RaftError::APIError(_)) => Err(ProposeError::NotLeader { leader: None }),
        Err(RaftError::Fatal(_)) => Err(ProposeError::Stopped),
    }
}

fn read_index(state: &LinearizeState<crate::types::TypeConfig>) -> ReadIndex {
    Some(state.read_log_id().index())
}

fn elsewhere(core: &Core) -> ProposeError {
    ProposeError::NotLeader {
        leader: core.leader().filter(|leader| leader.node != NodeId(core.node)),
    }
}

async fn ask_peer(core: &Core, leader: &Leader) -> Result<ReadIndex, ProposeError> {
    let unknown = || ProposeError::NotLeader { leader: None };
    let route = core.peers.route(leader.node.0).ok_or_else(unknown)?;
    let mut peer = core.peers.get(leader.node.0).ok_or_else(unknown)?;
    let reply = peer.control.read_index(ReadIndexRequest { route: Some(route) }).await;
    match reply.map_err(|_| unknown())?.into_inner().outcome {
        Some(Outcome::Read(read)) => Ok(read.last.as_ref().map(|last| wire::id(last).index())),
        Some(Outcome::NotLeader(NotLeader { leader: Some(hint) })) => Err(ProposeError::NotLeader {
            leader: Some(Leader {
                node: NodeId(hint.node),
                client_address: hint.client_address,
                peer_address: hint.peer_address,
            }),
        }),
        Some(Outcome::NotLeader(NotLeader { leader: None })) | None => Err(unknown()),
    }
}
