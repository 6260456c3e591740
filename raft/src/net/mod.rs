//! How nodes of one cluster talk: the wire's types, connections to peers, and the service for them.

mod acked;
pub(crate) mod append;
pub(crate) mod client;
pub(crate) mod peers;
pub(crate) mod refusals;
pub(crate) mod service;
pub(crate) mod snapshot;
pub(crate) mod wire;

use std::time::Duration;

/// Longest message of a peer: one whole record of the log, or a few small ones, and room for the frame around it.
pub(crate) const MESSAGE_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Bytes under way on one stream before the receiver has taken them; the default of 64 KiB stalls at every entry.
pub(crate) const STREAM_WINDOW_BYTES: u32 = 8 * 1024 * 1024;
/// Bytes under way on one connection.
pub(crate) const CONNECTION_WINDOW_BYTES: u32 = 16 * 1024 * 1024;
/// How long a dial may take, name resolution included.
pub(crate) const DIAL_TIMEOUT: Duration = Duration::from_millis(1_000);
/// A connection on which nothing comes back for this long is asked for a sign of life …
pub(crate) const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(2);
/// … and ended when none comes within this time.
pub(crate) const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(4);
/// How long one call that is no vote and no heartbeat may take.
pub(crate) const CALL_TIMEOUT: Duration = Duration::from_secs(5);
