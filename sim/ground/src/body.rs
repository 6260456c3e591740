//! The body of a stream on its way: frames in their order, each after a delay; stalled while the way is cut, broken when that lasts.

use crate::world::{World, world};
use bytes::Bytes;
use http_body::Frame;
use http_body_util::BodyExt;
use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::sync::mpsc;
use tokio::time::{Instant, Sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tonic::body::Body;

/// Frames under way; beyond it the sender is held back, as by a window.
const FRAMES_MAX: usize = 64;

/// A way from one host to another.
#[derive(Clone)]
pub(crate) struct Link {
    pub(crate) from: Arc<str>,
    pub(crate) to: Arc<str>,
}

impl Link {
    pub(crate) fn new(from: &str, to: &str) -> Self {
        Self {
            from: from.into(),
            to: to.into(),
        }
    }
}

type Arriving = (Instant, Result<Frame<Bytes>, Status>);

struct Pumped {
    frames: mpsc::Receiver<Arriving>,
    next: VecDeque<Arriving>,
    wait: Option<Pin<Box<Sleep>>>,
}

/// Returns the body as it arrives at the other end of the link.
pub(crate) fn pumped(body: Body, link: Link, lives: [CancellationToken; 2]) -> Body {
    let (tx, frames) = mpsc::channel(FRAMES_MAX);
    tokio::spawn(async move {
        let world = world();
        let [one, other] = lives;
        tokio::select! {
            biased;
            () = tx.closed() => {}
            () = one.cancelled() => drop(tx.try_send(broken("connection reset"))),
            () = other.cancelled() => drop(tx.try_send(broken("connection reset"))),
            () = pump(&world, body, &link, &tx) => {}
        }
    });
    Body::new(Pumped {
        frames,
        next: VecDeque::new(),
        wait: None,
    })
}

fn broken(why: &'static str) -> Arriving {
    (Instant::now(), Err(Status::unavailable(why)))
}

async fn pump(world: &World, mut body: Body, link: &Link, tx: &mpsc::Sender<Arriving>) {
    let mut arrives = Instant::now();
    loop {
        // A connection nobody writes on breaks too when its way is cut: keep-alive.
        let frame = loop {
            let quiet = tokio::time::sleep(crate::net::GIVE_UP);
            tokio::select! {
                biased;
                frame = body.frame() => break frame,
                () = quiet => {
                    let way = world.net.open(&link.from, &link.to).await && world.net.open(&link.to, &link.from).await;
                    if !way {
                        drop(tx.send(broken("keep-alive timed out")).await);
                        return;
                    }
                }
            }
        };
        let Some(frame) = frame else { return };
        if !world.net.open(&link.from, &link.to).await {
            drop(tx.send(broken("connection timed out")).await);
            return;
        }
        arrives = arrives.max(Instant::now() + world.way());
        let last = frame.is_err();
        if tx.send((arrives, frame)).await.is_err() || last {
            return;
        }
    }
}

impl http_body::Body for Pumped {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if self.next.is_empty() {
            match self.frames.poll_recv(cx) {
                Poll::Ready(Some(arriving)) => {
                    self.wait = Some(Box::pin(sleep_until(arriving.0)));
                    self.next.push_back(arriving);
                }
                Poll::Ready(None) => return Poll::Ready(None),
                Poll::Pending => return Poll::Pending,
            }
        }
        if let Some(wait) = &mut self.wait {
            match wait.as_mut().poll(cx) {
                Poll::Ready(()) => self.wait = None,
                Poll::Pending => return Poll::Pending,
            }
        }
        Poll::Ready(self.next.pop_front().map(|(_, frame)| frame))
    }

    fn is_end_stream(&self) -> bool {
        false
    }
}
