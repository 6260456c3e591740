//! Takes connections from peers, and ends those that do not speak HTTP/2 soon after they were opened.

use super::counted::Counted;
use crate::net::service::Service;
use crate::net::{
    CONNECTION_WINDOW_BYTES, KEEP_ALIVE_INTERVAL, KEEP_ALIVE_TIMEOUT, MESSAGE_BYTES_MAX, STREAM_WINDOW_BYTES,
};
use sched_proto::peer::peer_server::PeerServer;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;

/// What every HTTP/2 connection begins with.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// How long a new connection may take to say it.
const PREFACE_TIMEOUT: Duration = Duration::from_secs(5);
/// Connections that have not said it yet; more are ended at once. A cluster opens three per pair of members.
const GREETING_MAX: usize = 64;
/// Connections at once: many times what the largest cluster needs, far fewer than file handles.
const CONNECTIONS_MAX: usize = 512;
/// Calls under way on one connection.
const STREAMS_MAX: u32 = 256;
/// Pause after the system refused to accept: usually it is out of file handles, and trying at once again only burns time.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long calls under way may still take when the node stops.
const STOP_GRACE: Duration = Duration::from_secs(2);

/// Serves peers on `listener` until `stop`.
pub(crate) async fn serve(listener: TcpListener, service: Service, stop: CancellationToken) {
    let (greeted, incoming) = mpsc::channel(GREETING_MAX);
    let accepting = accept(listener, greeted, stop.clone());
    let service = PeerServer::new(service)
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX);
    let serving = Server::builder()
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_concurrent_streams(STREAMS_MAX)
        .http2_keepalive_interval(Some(KEEP_ALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEP_ALIVE_TIMEOUT))
        .add_service(service)
        .serve_with_incoming_shutdown(ReceiverStream::new(incoming), stop.clone().cancelled_owned());
    let stopped = async {
        stop.cancelled().await;
        tokio::time::sleep(STOP_GRACE).await;
    };
    tokio::select! {
        (served, ()) = futures::future::join(serving, accepting) => if let Err(error) = served {
            tracing::error!(%error, "serving peers ended");
        },
        () = stopped => {}
    }
}

async fn accept(listener: TcpListener, greeted: mpsc::Sender<io::Result<Counted>>, stop: CancellationToken) {
    let greeting = Arc::new(Semaphore::new(GREETING_MAX));
    let open = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => return,
        };
        let (stream, from) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "a peer's connection was not accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let permits = (greeting.clone().try_acquire_owned(), open.clone().try_acquire_owned());
        let (Ok(greets), Ok(place)) = permits else {
            tracing::warn!(%from, "too many connections, a new one was ended");
            continue;
        };
        let greeted = greeted.clone();
        tokio::spawn(async move {
            match tokio::time::timeout(PREFACE_TIMEOUT, greet(&stream)).await {
                Ok(Ok(())) => {
                    // A closed channel: the node stops.
                    let _ = greeted.send(Ok(Counted::new(stream, place))).await;
                }
                Ok(Err(error)) => tracing::debug!(%from, %error, "a connection that is no peer's was ended"),
                Err(_) => tracing::debug!(%from, "a connection that said nothing was ended"),
            }
            drop(greets);
        });
    }
}

/// Waits until the connection has begun as HTTP/2 does, without taking anything from it.
async fn greet(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut seen = [0; PREFACE.len()];
    let mut before = 0;
    loop {
        stream.readable().await?;
        let len = match stream.peek(&mut seen).await {
            Ok(len) => len,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
            Err(error) => return Err(error),
        };
        if len == 0 || seen[..len] != PREFACE[..len] {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "not HTTP/2"));
        }
        if len == PREFACE.len() {
            return Ok(());
        }
        if len == before {
            // The socket stays readable while only a part of the preface is there: wait a little for the rest.
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        before = len;
    }
}
