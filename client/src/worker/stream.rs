//! Where a worker's stream to the leader stands: idle, dialling, opening, open.

use super::link::{Connection, Link};
use futures::StreamExt;
use futures::future::{BoxFuture, pending};
use sched_core::Token;
use sched_proto::worker as pb;
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::Instant;

/// Where the stream stands.
pub enum Stream {
    /// Nothing is there; dialled again at an instant, or only once a leader is known.
    Idle { retry_at: Option<Instant> },
    /// The connection is being made.
    Dialing {
        address: String,
        connection: BoxFuture<'static, Result<Box<dyn Connection>, String>>,
    },
    /// Hello is on its way.
    Opening {
        hello: Hello,
        link: BoxFuture<'static, Result<Link, String>>,
    },
    /// Both sides can write.
    Open { hello: Hello, link: Link, welcomed: bool },
}

/// A Hello that was sent.
#[derive(Clone)]
pub struct Hello {
    pub address: String,
    /// When, since boot: contact counts from here.
    pub sent: Duration,
    /// It is answered until then, or the stream is given up.
    pub answer_by: Instant,
    /// The attempts it named.
    pub held: BTreeSet<Token>,
}

/// What happens on a stream.
pub enum StreamEvent {
    Connected(Result<Box<dyn Connection>, String>),
    Opened(Result<Link, String>),
    Message(Box<pb::ToWorker>),
    /// The leader's side has ended, or the connection broke.
    Closed(String),
}

impl Stream {
    /// Waits for the next event. Forgetting the wait loses nothing.
    pub async fn next(&mut self) -> StreamEvent {
        match self {
            Stream::Idle { .. } => pending().await,
            Stream::Dialing { connection, .. } => StreamEvent::Connected(connection.await),
            Stream::Opening { link, .. } => StreamEvent::Opened(link.await),
            Stream::Open { link, .. } => match link.rx.next().await {
                Some(Ok(message)) => StreamEvent::Message(Box::new(message)),
                Some(Err(reason)) => StreamEvent::Closed(reason),
                None => StreamEvent::Closed("the leader ended the stream".to_owned()),
            },
        }
    }

    /// Returns the address that is dialled or connected.
    pub fn address(&self) -> Option<&str> {
        match self {
            Stream::Idle { .. } => None,
            Stream::Dialing { address, .. } => Some(address),
            Stream::Opening { hello, .. } | Stream::Open { hello, .. } => Some(&hello.address),
        }
    }

    /// Whether the leader has welcomed the worker on this stream.
    pub fn is_welcomed(&self) -> bool {
        matches!(self, Stream::Open { welcomed: true, .. })
    }

    /// Returns the queue to the leader, once it has welcomed the worker.
    pub fn tx(&self) -> Option<&mpsc::Sender<pb::FromWorker>> {
        match self {
            Stream::Open {
                link, welcomed: true, ..
            } => Some(&link.tx),
            _ => None,
        }
    }

    /// Returns when something is to be done about the stream although nothing happens on it.
    pub fn deadline(&self) -> Option<Instant> {
        match self {
            Stream::Idle { retry_at } => *retry_at,
            // Bounded by the dialler.
            Stream::Dialing { .. } => None,
            Stream::Opening { hello, .. }
            | Stream::Open {
                hello, welcomed: false, ..
            } => Some(hello.answer_by),
            Stream::Open { .. } => None,
        }
    }
}
