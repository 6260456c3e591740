//! Connections to the client ports of other nodes, kept and shared. Names are resolved at each dial.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
pub(crate) use tonic::transport::Channel;
use tonic::transport::Endpoint;

/// More than a cluster has members.
const KEPT_MAX: usize = 16;
/// For the dial.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(1000);
/// A connection whose other end is silent is noticed after the interval and the timeout together.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(2);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(2);
/// HTTP/2 windows: a batch of tasks or a page of them at once.
const WINDOW_BYTES: u32 = 4 * 1024 * 1024;

/// The connections used last.
#[derive(Default)]
pub(crate) struct Channels {
    kept: Mutex<VecDeque<(String, Channel)>>,
}

impl Channels {
    /// Returns the connection to an address, `host:port`; it is dialled when it is used. Nothing when the address is none.
    pub(crate) fn get(&self, address: &str) -> Option<Channel> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, channel)) = kept.iter().find(|(known, _)| known == address) {
            return Some(channel.clone());
        }
        let channel = Endpoint::from_shared(format!("http://{address}"))
            .ok()?
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
            .keep_alive_timeout(KEEPALIVE_TIMEOUT)
            .initial_stream_window_size(WINDOW_BYTES)
            .initial_connection_window_size(2 * WINDOW_BYTES)
            .connect_lazy();
        if kept.len() >= KEPT_MAX {
            kept.pop_front();
        }
        kept.push_back((address.to_owned(), channel.clone()));
        Some(channel)
    }
}
