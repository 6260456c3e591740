//! The address of a node, and the connection to it.

use crate::error::ClientError;
use std::fmt;
use std::time::Duration;
use tonic::transport::{Channel, Endpoint};

/// The port of a node when an address names none.
const PORT_DEFAULT: u16 = 7400;
/// A node that does not accept a connection within this time is passed over.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// A connection with calls under way whose peer answers no ping within this time is given up.
const KEEP_ALIVE: Duration = Duration::from_secs(5);
/// Receive window: a page of tasks and a log chunk never wait for a window update.
const WINDOW_BYTES: u32 = 4 * 1024 * 1024;

/// The address of a node, without a path: `http://host:port`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Address {
    /// `host:port`; two addresses with the same one are the same node.
    pub(crate) authority: String,
}

impl Address {
    /// Reads `http://host:port`, `host:port` or `host`.
    pub(crate) fn parse(text: &str) -> Result<Self, ClientError> {
        let bad = |problem: &str| ClientError::Endpoint {
            endpoint: text.chars().take(100).collect(),
            problem: problem.to_owned(),
        };
        let trimmed = text.trim();
        if trimmed.starts_with("https://") {
            return Err(bad(
                "this release speaks plain http; use http://HOST:PORT, inside a trusted network",
            ));
        }
        let authority = trimmed.strip_prefix("http://").unwrap_or(trimmed).trim_end_matches('/');
        // An IPv6 address keeps its colons inside brackets.
        let has_port = authority.rsplit_once(':').is_some_and(|(_, port)| !port.contains(']'));
        let authority = if has_port {
            authority.to_owned()
        } else {
            format!("{authority}:{PORT_DEFAULT}")
        };
        if sched_proto::metadata::is_address(&authority) {
            Ok(Self { authority })
        } else {
            Err(bad("expected http://HOST:PORT, for example http://127.0.0.1:7400"))
        }
    }

    /// Returns a channel that connects at its first call and again after each loss, resolving the name anew.
    pub(crate) fn channel(&self) -> Result<Channel, ClientError> {
        let endpoint = Endpoint::from_shared(self.to_string()).map_err(|error| ClientError::Endpoint {
            endpoint: self.to_string(),
            problem: error.to_string(),
        })?;
        Ok(endpoint
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(KEEP_ALIVE)
            .keep_alive_timeout(KEEP_ALIVE)
            .initial_stream_window_size(WINDOW_BYTES)
            .initial_connection_window_size(WINDOW_BYTES)
            .connect_lazy())
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}", self.authority)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_get_a_scheme_and_a_port() {
        for (text, expected) in [
            ("http://127.0.0.1:7401", "http://127.0.0.1:7401"),
            (" http://node-1:7400/ ", "http://node-1:7400"),
            ("node-1:80", "http://node-1:80"),
            ("node-1", "http://node-1:7400"),
            ("[::1]", "http://[::1]:7400"),
            ("http://[::1]:9", "http://[::1]:9"),
        ] {
            assert_eq!(Address::parse(text).expect(text).to_string(), expected);
        }
    }

    #[test]
    fn what_is_no_address_is_refused_with_an_example() {
        for text in [
            "",
            "http://",
            "ftp://x:1",
            "http://a:b",
            "http://a/b",
            "a b",
            "http://a:0",
            "http://a:70000",
        ] {
            let error = Address::parse(text).expect_err(text).to_string();
            assert!(error.contains("http://127.0.0.1:7400"), "{text}: {error}");
        }
        let tls = Address::parse("https://node:7400").expect_err("TLS").to_string();
        assert!(tls.contains("plain http"), "{tls}");
    }
}
