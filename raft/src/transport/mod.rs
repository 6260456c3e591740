//! The sockets, and nothing else of the network: how a peer is dialled, and how peers are served.
//!
//! With [`crate::runtime`] and the crate of the disk this is all that a replica touches of its machine.

mod counted;
mod listen;

use crate::net::{CONNECTION_WINDOW_BYTES, DIAL_TIMEOUT, KEEP_ALIVE_INTERVAL, KEEP_ALIVE_TIMEOUT, STREAM_WINDOW_BYTES};
pub(crate) use listen::serve;
use std::io;
use tonic::transport::Endpoint;
pub(crate) use tonic::transport::{Channel, Error};

/// The bound socket on which peers are served.
pub(crate) type Listener = std::net::TcpListener;

/// The same, ready to accept.
pub(crate) type Opened = tokio::net::TcpListener;

/// Makes a bound socket ready to accept.
pub(crate) fn open(listener: &Listener) -> io::Result<Opened> {
    let listener = listener.try_clone()?;
    listener.set_nonblocking(true)?;
    Opened::from_std(listener)
}

/// Dials peers, from the node that serves on a listener.
pub(crate) struct Dialer;

impl Dialer {
    pub(crate) fn of(_: &Listener) -> Self {
        Self
    }

    /// Returns a connection to an address that resolves and dials when it is used.
    pub(crate) fn channel(&self, address: &str) -> Result<Channel, Error> {
        let endpoint = Endpoint::from_shared(format!("http://{address}"))?;
        Ok(endpoint
            .connect_timeout(DIAL_TIMEOUT)
            .tcp_nodelay(true)
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
            .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
            .keep_alive_while_idle(true)
            .connect_lazy())
    }
}
