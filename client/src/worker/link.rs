//! The stream to a leader: dialled, opened with Hello, and then two queues of batches.

use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use sched_proto::worker as pb;
use sched_proto::worker::worker_gateway_client::WorkerGatewayClient;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint};

/// Until the connection is there, name resolution included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// Until the leader takes the stream.
const OPEN_TIMEOUT: Duration = Duration::from_secs(3);
/// A peer that answers no ping for this long is gone.
const KEEPALIVE: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(4));
/// Largest batch from a leader: many runs of 64 KiB each.
const MESSAGE_BYTES_MAX: usize = 16 * 1024 * 1024;
/// HTTP/2 windows: a burst of runs must not wait for round trips.
const WINDOW_BYTES: u32 = 4 * 1024 * 1024;
/// Batches that wait for the connection. Few: what waits longer is gathered into larger ones.
const QUEUE: usize = 2;

/// An open stream.
pub struct Link {
    /// Batches to the leader. Dropping it ends the stream.
    pub tx: mpsc::Sender<pb::FromWorker>,
    /// Batches from the leader; an error is the last.
    pub rx: BoxStream<'static, Result<pb::ToWorker, String>>,
}

/// A connection on which a stream can be opened.
pub trait Connection: Send {
    /// Opens the stream, with Hello as its first batch.
    fn open(self: Box<Self>, hello: pb::FromWorker) -> BoxFuture<'static, Result<Link, String>>;
}

/// How a leader is reached. Two steps, so that Hello is built, and contact counted, when the connection is there.
pub trait Dial: Send + Sync + 'static {
    /// Connects to a leader's client address, `host:port`. The name is resolved at each call.
    fn dial(&self, address: &str) -> BoxFuture<'static, Result<Box<dyn Connection>, String>>;
}

/// Dials over gRPC.
pub struct Grpc;

impl Dial for Grpc {
    fn dial(&self, address: &str) -> BoxFuture<'static, Result<Box<dyn Connection>, String>> {
        let url = if address.contains("://") {
            address.to_owned()
        } else {
            format!("http://{address}")
        };
        async move {
            let endpoint = Endpoint::from_shared(url).map_err(|e| chain(&e))?;
            let endpoint = endpoint
                .tcp_nodelay(true)
                .connect_timeout(CONNECT_TIMEOUT)
                .http2_keep_alive_interval(KEEPALIVE.0)
                .keep_alive_timeout(KEEPALIVE.1)
                .keep_alive_while_idle(true)
                .initial_connection_window_size(WINDOW_BYTES)
                .initial_stream_window_size(WINDOW_BYTES);
            match timeout(CONNECT_TIMEOUT, endpoint.connect()).await {
                Ok(Ok(channel)) => Ok(Box::new(Connected(channel)) as Box<dyn Connection>),
                Ok(Err(e)) => Err(chain(&e)),
                Err(_) => Err(format!("no connection within {} s", CONNECT_TIMEOUT.as_secs())),
            }
        }
        .boxed()
    }
}

struct Connected(Channel);

impl Connection for Connected {
    fn open(self: Box<Self>, hello: pb::FromWorker) -> BoxFuture<'static, Result<Link, String>> {
        async move {
            let (tx, rx) = mpsc::channel(QUEUE);
            // Cannot be full or closed: it is new. Before the call, as the leader may want it before it answers.
            tx.try_send(hello).map_err(|e| e.to_string())?;
            let mut client = WorkerGatewayClient::new(self.0).max_decoding_message_size(MESSAGE_BYTES_MAX);
            match timeout(OPEN_TIMEOUT, client.connect(ReceiverStream::new(rx))).await {
                Ok(Ok(response)) => {
                    let rx = response
                        .into_inner()
                        .map(|item| item.map_err(|status| describe(&status)))
                        .boxed();
                    Ok(Link { tx, rx })
                }
                Ok(Err(status)) => Err(describe(&status)),
                Err(_) => Err(format!("the stream was not taken within {} s", OPEN_TIMEOUT.as_secs())),
            }
        }
        .boxed()
    }
}

fn describe(status: &tonic::Status) -> String {
    format!("{:?}: {}", status.code(), status.message())
}

/// Writes an error with its causes: those of the transport say nothing by themselves.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
}
