//! What peers ask of this node. Every call is checked for whom it is meant; bad bytes end that call or stream, nothing else.

use super::wire;
use super::{CALL_TIMEOUT, snapshot};
use crate::core::Core;
use crate::error::ProposeError;
use crate::formation::{agreed, hex};
use crate::join;
use crate::machine::{Snapshot, SnapshotData, meta_of};
use crate::reads;
use crate::role::Leader;
use futures::{Stream, StreamExt, future, stream};
use openraft::async_runtime::watch::WatchReceiver;
use openraft::errors::Fatal;
use sched_proto::peer::snapshot_part::Part;
use sched_proto::peer::{
    self, AppendReply, AppendRequest, HelloReply, HelloRequest, JoinReply, JoinRequest, LeaderHint, ReadIndexReply,
    ReadIndexRequest, Route, SnapshotPart, SnapshotReply, TransferLeaderReply, TransferLeaderRequest, VoteReply,
    VoteRequest,
};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use tokio::sync::Semaphore;
use tonic::{Request, Response, Status, Streaming};

/// Serves the peers of one replica. Holds it weakly: a connection must not keep a stopped replica's folder in use.
#[derive(Clone)]
pub(crate) struct Service {
    core: Weak<Core>,
    /// One snapshot at a time is taken: each needs the room of a whole copy on the disk.
    receiving: Arc<Semaphore>,
}

/// What is to be done about a node where another is expected. Only an operator knows which of the two is in the wrong place.
const MISPLACED: &str = "one of the two nodes was started with the data folder or at the address of another: stop that one, and start it \
     with its own folder, or with an empty one and --join";

type Replies = Pin<Box<dyn Stream<Item = Result<AppendReply, Status>> + Send>>;

impl Service {
    pub(crate) fn new(core: &Arc<Core>) -> Self {
        Self {
            core: Arc::downgrade(core),
            receiving: Arc::new(Semaphore::new(1)),
        }
    }

    fn core(&self) -> Result<Arc<Core>, Status> {
        let core = self.core.upgrade().filter(|core| !core.stop.is_cancelled());
        core.ok_or_else(|| Status::unavailable("the node is stopping"))
    }
}

/// Makes sure that a message is meant for this node and comes from its cluster.
fn check(core: &Core, route: Option<&Route>) -> Result<(), Status> {
    let checked = check_route(core, route);
    if let Err(status) = &checked {
        core.board.counters.peer_refused.add(1);
        let from = route.map_or(0, |route| route.from);
        if core.refused.speaks(from) {
            tracing::warn!(
                node = core.node,
                from,
                why = status.message(),
                "a peer's message was refused"
            );
        }
    }
    checked
}

fn check_route(core: &Core, route: Option<&Route>) -> Result<(), Status> {
    let no = |why: String| Err(Status::failed_precondition(why));
    let Some(route) = route else {
        return no("the route is missing".to_owned());
    };
    let Some(cluster) = core.peers.cluster() else {
        return no("this node belongs to no cluster yet".to_owned());
    };
    if route.cluster != cluster[..] {
        return no(format!(
            "this is node {} of cluster {}, the message comes from node {} of cluster {}; {MISPLACED}",
            core.node,
            hex(&cluster),
            route.from,
            // A cluster's name has 16 bytes; what it has more is anybody's.
            hex(route.cluster.get(..16).unwrap_or(&route.cluster))
        ));
    }
    if route.to != core.node {
        return no(format!("this is node {}, not {}; {MISPLACED}", core.node, route.to));
    }
    if route.group != core.peers.group() {
        return no(format!("there is no group {} here", route.group));
    }
    if route.from == core.node {
        return no(format!("node {} speaks to itself", core.node));
    }
    Ok(())
}

fn fatal(error: &Fatal<crate::types::TypeConfig>) -> Status {
    Status::unavailable(format!("consensus has stopped on this node: {error}"))
}

fn raft_error(error: &impl std::fmt::Display) -> Status {
    Status::unavailable(format!("consensus: {error}"))
}

fn hint(core: &Core, leader: Leader) -> LeaderHint {
    let term = core.roles.borrow().term;
    LeaderHint {
        node: leader.node.0,
        peer_address: leader.peer_address,
        client_address: leader.client_address,
        term,
    }
}

/// Returns the answer of a node that does not lead.
pub(crate) fn not_leader(core: &Core, leader: Option<Leader>) -> peer::NotLeader {
    let leader = leader.filter(|leader| leader.node.0 != core.node);
    peer::NotLeader {
        leader: leader.map(|leader| hint(core, leader)),
    }
}

#[tonic::async_trait]
impl peer::peer_server::Peer for Service {
    async fn hello(&self, request: Request<HelloRequest>) -> Result<Response<HelloReply>, Status> {
        let core = self.core()?;
        let request = request.into_inner();
        if request.to != 0 && request.to != core.node {
            return Err(Status::failed_precondition(format!(
                "this is node {}, not {}",
                core.node, request.to
            )));
        }
        let mut initial_cluster = core.options.initial_cluster.clone();
        initial_cluster.sort();
        Ok(Response::new(HelloReply {
            node: core.node,
            cluster: core.peers.cluster().map(|c| c.to_vec()).unwrap_or_default().into(),
            agreed: agreed(&core).map(|a| a.cluster().to_vec()).unwrap_or_default().into(),
            initial_cluster,
            peer_address: core.options.peer_advertise.clone(),
            client_address: core.options.client_advertise.clone(),
            leader: core.leader().map(|leader| hint(&core, leader)),
        }))
    }

    type AppendStreamStream = Replies;

    async fn append_stream(
        &self,
        request: Request<Streaming<AppendRequest>>,
    ) -> Result<Response<Self::AppendStreamStream>, Status> {
        let core = self.core()?;
        Ok(Response::new(append_stream(core, request.into_inner())))
    }

    async fn append(&self, request: Request<AppendRequest>) -> Result<Response<AppendReply>, Status> {
        let core = self.core()?;
        let request = request.into_inner();
        check(&core, request.route.as_ref())?;
        let append = wire::append(request)?;
        // One append as a stream of one: only the stream says at which entry a conflict is.
        let replies = core.raft.stream_append(stream::iter([append]));
        let mut replies = std::pin::pin!(replies);
        let reply = tokio::time::timeout(CALL_TIMEOUT, replies.next()).await;
        let reply = reply.map_err(|_| Status::deadline_exceeded("the append was not written in time"))?;
        let result = reply
            .ok_or_else(|| Status::unavailable("consensus has stopped"))?
            .map_err(|e| fatal(&e))?;
        Ok(Response::new(wire::append_reply(&result)))
    }

    async fn vote(&self, request: Request<VoteRequest>) -> Result<Response<VoteReply>, Status> {
        let core = self.core()?;
        let request = request.into_inner();
        check(&core, request.route.as_ref())?;
        let reply = core
            .raft
            .vote(wire::ask_vote(&request)?)
            .await
            .map_err(|e| raft_error(&e))?;
        Ok(Response::new(wire::vote_reply(&reply)))
    }

    async fn pre_vote(&self, request: Request<VoteRequest>) -> Result<Response<VoteReply>, Status> {
        let core = self.core()?;
        let request = request.into_inner();
        check(&core, request.route.as_ref())?;
        let reply = core
            .raft
            .pre_vote(wire::ask_vote(&request)?)
            .await
            .map_err(|e| raft_error(&e))?;
        Ok(Response::new(wire::vote_reply(&reply)))
    }

    async fn transfer_leader(
        &self,
        request: Request<TransferLeaderRequest>,
    ) -> Result<Response<TransferLeaderReply>, Status> {
        let core = self.core()?;
        let request = request.into_inner();
        check(&core, request.route.as_ref())?;
        let result = core
            .raft
            .handle_transfer_leader(wire::transfer(&request)?)
            .await
            .map_err(|e| fatal(&e))?;
        Ok(Response::new(wire::transfer_reply(&result)))
    }

    async fn snapshot(&self, request: Request<Streaming<SnapshotPart>>) -> Result<Response<SnapshotReply>, Status> {
        let core = self.core()?;
        let Ok(_one) = self.receiving.clone().try_acquire_owned() else {
            return Err(Status::resource_exhausted("another snapshot is being received"));
        };
        let mut inbound = request.into_inner();
        tokio::select! {
            reply = receive_snapshot(&core, &mut inbound) => reply.map(Response::new),
            () = core.stop.cancelled() => Err(Status::unavailable("the node is stopping")),
        }
    }

    async fn read_index(&self, request: Request<ReadIndexRequest>) -> Result<Response<ReadIndexReply>, Status> {
        use peer::read_index_reply::Outcome;
        let core = self.core()?;
        let request = request.into_inner();
        check(&core, request.route.as_ref())?;
        let outcome = match reads::for_peer(&core).await {
            Ok(index) => {
                // Only the index counts: what is applied up to a committed index is the same everywhere.
                let last = index.map(|index| peer::Position {
                    term: core.roles.borrow().term,
                    index,
                });
                Outcome::Read(peer::Accepted { last })
            }
            Err(ProposeError::NotLeader { leader }) => Outcome::NotLeader(not_leader(&core, leader)),
            Err(ProposeError::Overloaded { .. }) => return Err(Status::resource_exhausted("too many reads wait")),
            Err(_) => return Err(Status::unavailable("the node is stopping")),
        };
        Ok(Response::new(ReadIndexReply { outcome: Some(outcome) }))
    }

    async fn join(&self, request: Request<JoinRequest>) -> Result<Response<JoinReply>, Status> {
        let core = self.core()?;
        let request = request.into_inner();
        check(&core, request.route.as_ref())?;
        let Some(route) = &request.route else {
            return Err(Status::invalid_argument("the route is missing"));
        };
        Ok(Response::new(join::take_in(&core, route, &request).await))
    }
}

/// Feeds the appends of a stream to consensus and returns its replies; ends with the first message that is not right.
fn append_stream(core: Arc<Core>, inbound: Streaming<AppendRequest>) -> Replies {
    let bad = Arc::new(Mutex::new(None));
    let appends = {
        let (core, bad) = (Arc::downgrade(&core), bad.clone());
        let start = (inbound, false);
        stream::unfold(start, move |(mut inbound, greeted)| {
            let (core, bad) = (core.clone(), bad.clone());
            async move {
                match next_append(&core, &mut inbound, greeted).await {
                    Ok(append) => append.map(|append| (append, (inbound, true))),
                    Err(status) => {
                        *bad.lock().unwrap_or_else(PoisonError::into_inner) = Some(status);
                        None
                    }
                }
            }
        })
    };
    let replies = core.raft.stream_append(appends).map(|reply| match reply {
        Ok(result) => Ok(wire::append_reply(&result)),
        Err(error) => Err(fatal(&error)),
    });
    let last_word = stream::once(async move { bad.lock().unwrap_or_else(PoisonError::into_inner).take() });
    let stop = core.stop.clone().cancelled_owned();
    let last_word = last_word.filter_map(|bad| future::ready(bad.map(Err)));
    Box::pin(replies.chain(last_word).take_until(stop))
}

async fn next_append(
    core: &Weak<Core>,
    inbound: &mut Streaming<AppendRequest>,
    greeted: bool,
) -> Result<Option<openraft::raft::AppendEntriesRequest<crate::types::TypeConfig>>, Status> {
    let Some(request) = inbound.message().await? else {
        return Ok(None);
    };
    if !greeted {
        let core = core
            .upgrade()
            .ok_or_else(|| Status::unavailable("the node is stopping"))?;
        check(&core, request.route.as_ref())?;
    }
    wire::append(request).map(Some)
}

async fn receive_snapshot(core: &Core, inbound: &mut Streaming<SnapshotPart>) -> Result<SnapshotReply, Status> {
    let Some(Part::Head(head)) = snapshot::next_part(inbound).await? else {
        return Err(Status::invalid_argument("a snapshot begins with its head"));
    };
    check(core, head.route.as_ref())?;
    let vote = wire::vote(head.ballot.as_ref())?;
    let own = core.raft.server_metrics().borrow_watched().vote;
    if own > vote {
        // An old leader: it hears so before it has sent everything.
        return Ok(SnapshotReply {
            ballot: Some(wire::ballot(&own)),
        });
    }
    let manifest = snapshot::manifest(&head)?;
    let meta = meta_of(&manifest.applied).map_err(Status::invalid_argument)?;
    tracing::info!(node = core.node, snapshot = %manifest.id, bytes = manifest.total_bytes(), "receives a snapshot");
    let received = snapshot::receive(&core.snapshots, manifest, inbound).await?;
    let snapshot = Snapshot {
        meta,
        snapshot: SnapshotData::Received(received),
    };
    let response = core
        .raft
        .install_full_snapshot(vote, snapshot)
        .await
        .map_err(|e| fatal(&e))?;
    Ok(SnapshotReply {
        ballot: Some(wire::ballot(&response.vote)),
    })
}
