//! Connections of the client port: bounded in number, and ended when they say nothing.

use super::origin::Connection;
use crate::shared::Shared;
use futures::Stream;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Sleep;
use tonic::transport::server::Connected;

/// The first bytes must come within this time: a port scanner or a half-open connection holds nothing for longer.
const FIRST_BYTES_TIMEOUT: Duration = Duration::from_secs(10);
/// As many as tell HTTP/2 from HTTP/1; from there on the protocols have timeouts of their own.
const FIRST_BYTES: usize = 24;
/// After an accept that failed for want of file handles or memory.
const ACCEPT_AGAIN: Duration = Duration::from_millis(50);

/// Takes connections.
pub(super) struct Incoming {
    listener: TcpListener,
    permits: Arc<Semaphore>,
    shared: Arc<Shared>,
}

impl Incoming {
    pub(super) fn new(listener: TcpListener, shared: Arc<Shared>) -> Self {
        let permits = Arc::new(Semaphore::new(shared.config.connections_max as usize));
        Self {
            listener,
            permits,
            shared,
        }
    }

    /// Returns connections as they come; beyond the bound they wait in the system's queue.
    pub(super) fn accept(self) -> impl Stream<Item = io::Result<Guarded>> {
        futures::stream::unfold(self, |incoming| async move {
            let guarded = incoming.next().await?;
            Some((Ok(guarded), incoming))
        })
    }

    async fn next(&self) -> Option<Guarded> {
        // Never closed: only a fault could end this.
        let permit = self.permits.clone().acquire_owned().await.ok()?;
        loop {
            match self.listener.accept().await {
                Ok((io, _)) => {
                    self.shared.counters.connections.add(1);
                    // Answers are small and awaited; without it they wait for each other.
                    let _ = io.set_nodelay(true);
                    let first = First {
                        seen: 0,
                        timeout: Box::pin(tokio::time::sleep(FIRST_BYTES_TIMEOUT)),
                    };
                    return Some(Guarded {
                        io,
                        first: Some(first),
                        connection: Connection::next(&self.shared),
                        shared: self.shared.clone(),
                        _permit: permit,
                    });
                }
                Err(e) => {
                    tracing::warn!(error = %e, "connection not accepted");
                    tokio::time::sleep(ACCEPT_AGAIN).await;
                }
            }
        }
    }
}

struct First {
    seen: usize,
    timeout: Pin<Box<Sleep>>,
}

/// One connection.
pub(super) struct Guarded {
    io: TcpStream,
    /// Until the first bytes have come.
    first: Option<First>,
    connection: Arc<Connection>,
    shared: Arc<Shared>,
    _permit: OwnedSemaphorePermit,
}

impl Connected for Guarded {
    type ConnectInfo = Arc<Connection>;

    fn connect_info(&self) -> Self::ConnectInfo {
        self.connection.clone()
    }
}

impl AsyncRead for Guarded {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        if let Poll::Ready(result) = Pin::new(&mut self.io).poll_read(cx, buf) {
            let read = buf.filled().len() - before;
            if let Some(first) = &mut self.first {
                first.seen += read;
                if first.seen >= FIRST_BYTES {
                    self.first = None;
                }
            }
            return Poll::Ready(result);
        }
        let Some(first) = &mut self.first else {
            return Poll::Pending;
        };
        ready!(first.timeout.as_mut().poll(cx));
        self.shared.counters.connections_timed_out.add(1);
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncWrite for Guarded {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}
