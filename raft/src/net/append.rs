//! The log's stream to one follower: several appends under way, replies in their order.

use super::client::{RpcError, error_of};
use super::peers::Client;
use super::{DIAL_TIMEOUT, wire};
use crate::types::{LogId, TypeConfig};
use futures::{Stream, StreamExt, stream};
use openraft::OptionalSend;
use openraft::errors::{NetworkError, RPCError};
use openraft::raft::AppendEntriesRequest;
use sched_proto::peer::{AppendReply, AppendRequest, Route};
use std::collections::VecDeque;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

/// Appends under way to one follower: enough to hide a round trip and a sync behind each other.
const UNDER_WAY_MAX: usize = 32;
/// Bytes of entries under way to one follower; bounds what a slow one costs in memory.
const UNDER_WAY_BYTES_MAX: usize = 8 * 1024 * 1024;
/// A follower that takes longer to write one append is treated as gone, and the stream is opened again.
const REPLY_TIMEOUT: Duration = Duration::from_secs(5);

/// An append that was sent and not yet answered.
struct Sent {
    previous: Option<LogId>,
    last: Option<LogId>,
    bytes: usize,
    at: Instant,
}

struct Exchange<S> {
    /// Ends when openraft has nothing more for this stream.
    input: Option<S>,
    outbound: Option<mpsc::Sender<AppendRequest>>,
    inbound: Streaming<AppendReply>,
    under_way: VecDeque<Sent>,
    bytes: usize,
    ended: bool,
}

/// Opens the stream and returns the replies. `timeout` makes the error for a peer that is too slow.
///
/// Everything is driven by polling the replies; dropping them ends the stream and lets go of the input at once, which
/// openraft needs before it opens the next one.
pub(crate) async fn exchange<'s, S, T>(
    mut client: Client,
    route: Route,
    mut input: S,
    timeout: T,
) -> Result<impl Stream<Item = Result<wire::StreamAppendResult, RpcError>> + Send + use<'s, S, T>, RpcError>
where
    S: Stream<Item = AppendEntriesRequest<TypeConfig>> + OptionalSend + Unpin + 'static,
    T: Fn(Duration) -> RpcError + Send + Sync + 's,
{
    let (outbound, requests) = mpsc::channel(UNDER_WAY_MAX);
    let first = input.next().await;
    let mut under_way = VecDeque::new();
    let mut bytes = 0;
    if let Some(request) = &first {
        let sent = Sent::now(request);
        bytes += sent.bytes;
        under_way.push_back(sent);
        // The channel is new and has room.
        let _ = outbound.try_send(wire::append_request(Some(route), request));
    }
    let opened = tokio::time::timeout(DIAL_TIMEOUT * 2, client.append_stream(ReceiverStream::new(requests))).await;
    let inbound = opened
        .map_err(|_| timeout(DIAL_TIMEOUT * 2))?
        .map_err(|e| error_of(&e))?
        .into_inner();
    let ended = first.is_none();
    let exchange = Exchange {
        input: Some(input),
        outbound: Some(outbound),
        inbound,
        under_way,
        bytes,
        ended,
    };
    Ok(stream::unfold(
        (exchange, timeout),
        |(mut exchange, timeout)| async move {
            let item = exchange.next(&timeout).await?;
            // After anything but an acknowledgement the follower has ended the stream, and openraft starts anew.
            exchange.ended = !matches!(item, Ok(Ok(_)));
            Some((item, (exchange, timeout)))
        },
    ))
}

impl Sent {
    fn now(request: &AppendEntriesRequest<TypeConfig>) -> Self {
        let last = request.entries.last().map(|entry| entry.id()).or(request.prev_log_id);
        let bytes = request.entries.iter().map(|entry| entry.record().len()).sum();
        Self {
            previous: request.prev_log_id,
            last,
            bytes,
            at: Instant::now(),
        }
    }
}

impl<S> Exchange<S>
where
    S: Stream<Item = AppendEntriesRequest<TypeConfig>> + OptionalSend + Unpin + 'static,
{
    /// Returns the next reply, sending what there is meanwhile; nothing when the stream is over.
    async fn next(
        &mut self,
        timeout: &impl Fn(Duration) -> RpcError,
    ) -> Option<Result<wire::StreamAppendResult, RpcError>> {
        loop {
            if self.ended || (self.input.is_none() && self.under_way.is_empty()) {
                return None;
            }
            let room = self.under_way.len() < UNDER_WAY_MAX && self.bytes < UNDER_WAY_BYTES_MAX;
            let late = self.under_way.front().map(|sent| sent.at + REPLY_TIMEOUT);
            tokio::select! {
                reply = self.inbound.message() => return Some(self.answered(reply)),
                request = next_of(&mut self.input), if room && self.input.is_some() => self.send(request),
                () = until(late), if late.is_some() => return Some(Err(timeout(REPLY_TIMEOUT))),
            }
        }
    }

    fn send(&mut self, request: Option<AppendEntriesRequest<TypeConfig>>) {
        let Some(request) = request else {
            self.input = None;
            self.outbound = None;
            return;
        };
        let sent = Sent::now(&request);
        let wire = wire::append_request(None, &request);
        // There is room for as many as may be under way; a closed channel shows as an ended reply stream.
        if self
            .outbound
            .as_ref()
            .is_some_and(|outbound| outbound.try_send(wire).is_ok())
        {
            self.bytes += sent.bytes;
            self.under_way.push_back(sent);
        } else {
            self.input = None;
        }
    }

    fn answered(
        &mut self,
        reply: Result<Option<AppendReply>, tonic::Status>,
    ) -> Result<wire::StreamAppendResult, RpcError> {
        let broken = |why: &str| RPCError::Network(NetworkError::from_string(why));
        let reply = reply
            .map_err(|e| error_of(&e))?
            .ok_or_else(|| broken("the follower ended the stream"))?;
        let sent = self.under_way.pop_front().ok_or_else(|| broken("a reply to nothing"))?;
        self.bytes -= sent.bytes;
        wire::append_result(reply, sent.previous, sent.last).map_err(|e| error_of(&e))
    }
}

async fn next_of<S: Stream + Unpin>(input: &mut Option<S>) -> Option<S::Item> {
    match input {
        Some(input) => input.next().await,
        None => None,
    }
}

async fn until(instant: Option<Instant>) {
    match instant {
        Some(instant) => tokio::time::sleep_until(instant).await,
        None => std::future::pending().await,
    }
}
