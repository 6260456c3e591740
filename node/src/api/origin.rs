//! Whom a call comes from, so that one client who asks for much does not keep the others waiting.
//!
//! It is the connection: whoever opens several has several shares, and whoever claims to be a node can claim any. Nobody proves who he is
//! yet, so nothing better is known. A call that was passed on keeps the origin it had where it came in.

use crate::shared::Shared;
use http::{HeaderMap, HeaderValue};
use sched_proto::metadata::{FORWARDED_FOR, ORIGIN};
use sched_raft::Origin;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

tokio::task_local! {
    static CURRENT: Origin;
}

/// Returns whom the call that is being answered comes from.
pub(super) fn current() -> Origin {
    CURRENT.try_with(|origin| *origin).unwrap_or_default()
}

/// Answers a call of `origin`.
pub(super) fn answering<F: Future>(origin: Origin, call: F) -> impl Future<Output = F::Output> {
    CURRENT.scope(origin, call)
}

/// A client's connection, as its calls find it.
#[derive(Debug)]
pub(super) struct Connection {
    origin: Origin,
    /// Short calls in progress.
    calls: AtomicUsize,
}

impl Connection {
    /// Returns the next connection of this node. Numbers of nodes are random, so that those of two nodes do not meet.
    pub(super) fn next(shared: &Shared) -> Arc<Self> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        Arc::new(Self {
            origin: Origin(shared.replica.node().0.wrapping_add(number)),
            calls: AtomicUsize::new(0),
        })
    }
}

/// Where a call comes from: another node's client, or a connection of this node's own.
pub(super) enum Source {
    /// Admitted where it came in.
    Elsewhere(Origin),
    /// Counted here.
    Here(Arc<Connection>),
    /// A call without a connection, within the process.
    Nowhere,
}

impl Source {
    pub(super) fn of(headers: &HeaderMap, connection: Option<&Arc<Connection>>) -> Self {
        let number = |value: &HeaderValue| value.to_str().ok()?.parse().ok();
        match headers.get(ORIGIN).and_then(number) {
            Some(origin) if headers.contains_key(FORWARDED_FOR) => Self::Elsewhere(Origin(origin)),
            _ => connection.cloned().map_or(Self::Nowhere, Self::Here),
        }
    }

    pub(super) fn origin(&self) -> Origin {
        match self {
            Self::Elsewhere(origin) => *origin,
            Self::Here(connection) => connection.origin,
            Self::Nowhere => Origin::default(),
        }
    }

    /// Lets a call in. A connection has at most as many as there is room for others, so that there is always some.
    pub(super) fn admit(self, calls: &Arc<Semaphore>) -> Result<Admitted, &'static str> {
        let permit = calls.clone().try_acquire_owned();
        let permit = permit.map_err(|_| "too many calls are in progress on this node")?;
        let connection = match self {
            Self::Here(connection) => Some(connection),
            Self::Elsewhere(_) | Self::Nowhere => None,
        };
        let of_it = connection
            .as_ref()
            .map_or(0, |c| c.calls.fetch_add(1, Ordering::Relaxed));
        let admitted = Admitted {
            connection,
            _permit: permit,
        };
        if of_it > calls.available_permits() {
            return Err("too many calls of this connection are in progress on this node");
        }
        Ok(admitted)
    }
}

/// A call in progress.
#[derive(Debug)]
pub(super) struct Admitted {
    connection: Option<Arc<Connection>>,
    _permit: OwnedSemaphorePermit,
}

impl Drop for Admitted {
    fn drop(&mut self) {
        if let Some(connection) = &self.connection {
            connection.calls.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connection(origin: u64) -> Arc<Connection> {
        Arc::new(Connection {
            origin: Origin(origin),
            calls: AtomicUsize::new(0),
        })
    }

    #[test]
    fn a_flood_on_one_connection_leaves_room_for_others() {
        let calls = Arc::new(Semaphore::new(100));
        let (flood, other) = (connection(1), connection(2));
        let admit = |of: &Arc<Connection>| Source::Here(of.clone()).admit(&calls);
        let mut held: Vec<_> = (0..200).filter_map(|_| admit(&flood).ok()).collect();
        assert_eq!(held.len(), 50);
        held.push(admit(&other).unwrap());
        assert_eq!(
            admit(&flood).unwrap_err(),
            "too many calls of this connection are in progress on this node"
        );
        held.clear();
        assert_eq!(flood.calls.load(Ordering::Relaxed), 0);
        assert!(admit(&flood).is_ok(), "its calls have ended");
    }

    #[test]
    fn a_call_without_room_is_refused_whoever_makes_it() {
        let calls = Arc::new(Semaphore::new(2));
        let held = [(); 2].map(|()| Source::Nowhere.admit(&calls).unwrap());
        let refused = Source::Here(connection(1)).admit(&calls).unwrap_err();
        assert_eq!(refused, "too many calls are in progress on this node");
        drop(held);
    }

    #[test]
    fn a_call_that_was_passed_on_keeps_its_origin() {
        let here = connection(7);
        let mut headers = HeaderMap::new();
        headers.insert(ORIGIN, HeaderValue::from_static("9"));
        assert_eq!(
            Source::of(&headers, Some(&here)).origin(),
            Origin(7),
            "only a call that was passed on says for whom it is"
        );
        headers.insert(FORWARDED_FOR, HeaderValue::from_static("1,1"));
        assert_eq!(Source::of(&headers, Some(&here)).origin(), Origin(9));
        headers.insert(ORIGIN, HeaderValue::from_static("nonsense"));
        assert_eq!(Source::of(&headers, Some(&here)).origin(), Origin(7));
        assert_eq!(Source::of(&HeaderMap::new(), None).origin(), Origin(0));
    }
}
