//! The network as openraft wants it: one [`Net`] per member and purpose, over the shared connections.

use super::peers::{Peer, Peers};
use super::{append, snapshot, wire};
use crate::machine::{Snapshot, SnapshotData};
use crate::shared::Counters;
use crate::types::{Place, TypeConfig, Vote};
use futures::{Stream, StreamExt as _, stream};
use openraft::base::{BoxFuture, BoxStream};
use openraft::errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Timeout, Unreachable};
use openraft::network::RPCOption;
use openraft::raft::StreamAppendError;
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderRequest, TransferLeaderResponse,
    VoteRequest, VoteResponse,
};
use openraft::{OptionalSend, RPCTypes, RaftNetworkFactory, RaftNetworkV2};
use sched_proto::peer::Route;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tonic::{Code, Status};

pub(crate) type RpcError = RPCError<TypeConfig>;

/// Makes the network of one member and purpose.
pub(crate) struct Factory {
    pub(crate) peers: Arc<Peers>,
    pub(crate) counters: Arc<Counters>,
}

/// Talks to one member.
pub(crate) struct Net {
    peers: Arc<Peers>,
    counters: Arc<Counters>,
    target: u64,
    place: Place,
    heartbeat: bool,
}

impl Factory {
    fn net(&self, target: u64, place: &Place, heartbeat: bool) -> Net {
        let (peers, counters) = (self.peers.clone(), self.counters.clone());
        Net {
            peers,
            counters,
            target,
            place: place.clone(),
            heartbeat,
        }
    }
}

impl RaftNetworkFactory<TypeConfig> for Factory {
    type Network = Net;

    async fn new_client(&mut self, target: u64, place: &Place) -> Net {
        self.net(target, place, false)
    }

    async fn new_heartbeat_client(&mut self, target: u64, place: &Place) -> Net {
        self.net(target, place, true)
    }
}

impl Net {
    /// Returns the connections and the route; a member may have moved since this network was made.
    fn reach(&self) -> Result<(Peer, Route), RpcError> {
        let route = self.peers.route(self.target);
        let route = route.ok_or_else(|| unreachable("this node belongs to no cluster yet"))?;
        let peer = match self.peers.get(self.target) {
            Some(peer) => peer,
            None => self.peers.place(self.target, &self.place).map_err(unreachable)?,
        };
        Ok((peer, route))
    }

    /// Waits for a call, no longer than `limit`.
    async fn within<T>(
        &self,
        action: RPCTypes,
        limit: Duration,
        call: impl Future<Output = Result<T, Status>>,
    ) -> Result<T, RpcError> {
        match tokio::time::timeout(limit, call).await {
            Ok(Ok(answer)) => {
                self.peers.refusals.over(self.target);
                Ok(answer)
            }
            Ok(Err(status)) => {
                if status.code() == Code::FailedPrecondition {
                    self.counters.refused_by_peers.add(1);
                    self.peers
                        .refusals
                        .note(self.target, &self.place.peer_address, status.message());
                }
                Err(error_of(&status))
            }
            Err(_) => Err(self.timeout(action, limit)),
        }
    }

    fn timeout(&self, action: RPCTypes, timeout: Duration) -> RpcError {
        RPCError::Timeout(Timeout {
            action,
            id: self.peers.me(),
            target: self.target,
            timeout,
        })
    }

    /// Sends one append on the urgent connection.
    async fn append_once(
        &self,
        request: AppendEntriesRequest<TypeConfig>,
        limit: Duration,
    ) -> Result<wire::StreamAppendResult, RpcError> {
        let (mut peer, route) = self.reach()?;
        let wire = wire::append_request(Some(route), &request);
        let reply = self.within(RPCTypes::AppendEntries, limit, async {
            Ok(peer.control.append(wire).await?.into_inner())
        });
        let last = request.entries.last().map(|entry| entry.id()).or(request.prev_log_id);
        let result = wire::append_result(reply.await?, request.prev_log_id, last).map_err(|e| error_of(&e))?;
        self.peers.plausible(self.target, request.vote.leader_id().term, result)
    }
}

impl Peers {
    /// Passes on what a member answers to an append, unless it lacks what it had acknowledged to this same leader: then it is as good as gone.
    fn plausible(
        &self,
        member: u64,
        term: u64,
        result: wire::StreamAppendResult,
    ) -> Result<wire::StreamAppendResult, RpcError> {
        match &result {
            Ok(matched) => self.acked.note(member, term, *matched),
            Err(StreamAppendError::Conflict(lacking)) if self.acked.went_backwards(member, term, *lacking) => {
                let index = lacking.index();
                tracing::error!(
                    member,
                    index,
                    "this member has lost log entries that it had acknowledged: its folder was restored or copied; replace the node"
                );
                return Err(unreachable(format!("its log went backwards, it lacks entry {index}")));
            }
            Err(_) => {}
        }
        Ok(result)
    }
}

pub(crate) fn unreachable(why: impl ToString) -> RpcError {
    RPCError::Unreachable(Unreachable::from_string(why))
}

/// Says how openraft shall react: back off from a peer that is away or refuses us, retry at once after anything else.
pub(crate) fn error_of(status: &Status) -> RpcError {
    let text = format!("{}: {}", status.code(), status.message());
    match status.code() {
        // `Unknown` and `Cancelled` are how a broken connection shows.
        Code::Unavailable
        | Code::FailedPrecondition
        | Code::Unimplemented
        | Code::InvalidArgument
        | Code::ResourceExhausted
        | Code::Unknown
        | Code::Cancelled => unreachable(text),
        _ => RPCError::Network(NetworkError::from_string(text)),
    }
}

impl RaftNetworkV2<TypeConfig> for Net {
    type SnapshotData = SnapshotData;

    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<TypeConfig>, RpcError> {
        Ok(self.append_once(request, option.hard_ttl()).await?.into())
    }

    /// Heartbeats go as single calls on the urgent connection, entries as one long stream on their own.
    fn stream_append<'s, S>(
        &'s mut self,
        mut input: S,
        option: RPCOption,
    ) -> BoxFuture<'s, Result<BoxStream<'s, Result<wire::StreamAppendResult, RpcError>>, RpcError>>
    where
        S: Stream<Item = AppendEntriesRequest<TypeConfig>> + OptionalSend + Unpin + 'static,
    {
        Box::pin(async move {
            if !self.heartbeat {
                let (peer, route) = self.reach()?;
                let limit = |limit| self.timeout(RPCTypes::AppendEntries, limit);
                // All of one stream are of one leader.
                let term = Arc::new(AtomicU64::new(0));
                let seen = term.clone();
                let input = input.inspect(move |request: &AppendEntriesRequest<TypeConfig>| {
                    seen.store(request.vote.leader_id().term, Ordering::Relaxed);
                });
                let exchange = append::exchange(peer.log, route, input, limit).await?;
                let (peers, target) = (self.peers.clone(), self.target);
                let replies = exchange.map(move |reply| peers.plausible(target, term.load(Ordering::Relaxed), reply?));
                let replies: BoxStream<'s, _> = Box::pin(replies);
                return Ok(replies);
            }
            let limit = option.hard_ttl();
            let first = futures::StreamExt::next(&mut input).await;
            let answer = match first {
                Some(request) => Some(self.append_once(request, limit).await?),
                None => None,
            };
            let replies: BoxStream<'s, _> = Box::pin(stream::iter(answer.map(Ok)));
            Ok(replies)
        })
    }

    async fn vote(
        &mut self,
        request: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RpcError> {
        let (mut peer, route) = self.reach()?;
        let wire = wire::vote_request(route, &request);
        let call = async { wire::vote_response(&peer.control.vote(wire).await?.into_inner()) };
        self.within(RPCTypes::Vote, option.hard_ttl(), call).await
    }

    async fn pre_vote(
        &mut self,
        request: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RpcError> {
        let (mut peer, route) = self.reach()?;
        let wire = wire::vote_request(route, &request);
        let call = async { wire::vote_response(&peer.control.pre_vote(wire).await?.into_inner()) };
        self.within(RPCTypes::Vote, option.hard_ttl(), call).await
    }

    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<TypeConfig>, RpcError> {
        let (mut peer, route) = self.reach()?;
        let wire = wire::transfer_request(route, &request);
        let call = async { wire::transfer_result(peer.control.transfer_leader(wire).await?.into_inner(), &request) };
        // The receiver waits until the log has arrived, up to its election timeout.
        self.within(RPCTypes::TransferLeader, option.hard_ttl() * 2, call).await
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        let (peer, route) = self.reach()?;
        let SnapshotData::Stored(reader) = snapshot.snapshot else {
            return Err(NetworkError::from_string("only a stored snapshot can be sent").into());
        };
        let timeout = |limit| self.timeout(RPCTypes::InstallSnapshot, limit);
        let sent = snapshot::send(peer.bulk, route, &vote, reader, timeout);
        tokio::select! {
            closed = cancel => Err(closed.into()),
            reply = sent => {
                let vote = reply?;
                self.counters.snapshots_sent.add(1);
                Ok(SnapshotResponse::new(vote))
            }
        }
    }
}
