//! A TCP proxy per directed link, which holds back what goes through it: the kernel here has no delay of its own.

use super::net::{self, HUB, Link, Network};
use anyhow::{Context, Result};
use rand::Rng;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

/// Chunks held back on one connection and direction; beyond it the sender is not read.
const HELD_MAX: usize = 1024;
/// Longest chunk.
const CHUNK_BYTES: usize = 16 * 1024;

/// What all proxies do now.
#[derive(Debug, Default)]
struct Orders {
    /// Milliseconds each way.
    delay_ms: AtomicU64,
    /// On top, from 0 to this, anew for each chunk; the order is kept.
    jitter_ms: AtomicU64,
    /// Bytes held back so far.
    held_bytes: AtomicU64,
}

/// Proxies for every directed link, for the client and the peer port.
#[derive(Debug)]
pub(super) struct Proxies {
    orders: Arc<Orders>,
    listeners: Vec<JoinHandle<()>>,
}

impl Proxies {
    /// Diverts all connections that nodes make to each other from now on.
    ///
    /// # Errors
    /// A port cannot be bound, or the firewall does not take a rule.
    pub(super) async fn between(network: &Network, nodes: usize, ports: &[u16]) -> Result<Self> {
        let orders = Arc::new(Orders::default());
        let mut listeners = Vec::new();
        let links = (0..nodes).flat_map(|from| (0..nodes).map(move |to| (from, to)));
        for (from, to) in links.filter(|link: &Link| link.0 != link.1) {
            for port in ports {
                let listener = TcpListener::bind((HUB, 0)).await.context("a port for a proxy")?;
                let own = listener.local_addr()?.port();
                network.divert(from, (net::address(to), *port), (HUB, own))?;
                let target = SocketAddr::new(IpAddr::V4(net::address(to)), *port);
                listeners.push(tokio::spawn(serve(listener, target, orders.clone())));
            }
        }
        Ok(Self { orders, listeners })
    }

    /// Holds back everything by so much from now on, each way.
    pub(super) fn delay(&self, delay: Duration, jitter: Duration) {
        let ms = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        self.orders.delay_ms.store(ms(delay), Ordering::Relaxed);
        self.orders.jitter_ms.store(ms(jitter), Ordering::Relaxed);
    }

    /// Bytes held back so far.
    pub(super) fn held_bytes(&self) -> u64 {
        self.orders.held_bytes.load(Ordering::Relaxed)
    }
}

impl Drop for Proxies {
    fn drop(&mut self) {
        self.listeners.iter().for_each(JoinHandle::abort);
    }
}

async fn serve(listener: TcpListener, target: SocketAddr, orders: Arc<Orders>) {
    let mut connections = BTreeMap::new();
    for number in 0_u64.. {
        let Ok((near, _)) = listener.accept().await else { return };
        connections.retain(|_, pump: &mut AbortOnDrop| !pump.0.is_finished());
        connections.insert(number, AbortOnDrop(tokio::spawn(connect(near, target, orders.clone()))));
    }
}

/// Connections end with their listener.
struct AbortOnDrop(JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn connect(near: TcpStream, target: SocketAddr, orders: Arc<Orders>) {
    // Who cannot be reached is refused by closing: the dialler sees a connection that broke at once.
    let Ok(far) = TcpStream::connect(target).await else {
        return;
    };
    if near.set_nodelay(true).and_then(|()| far.set_nodelay(true)).is_err() {
        return;
    }
    let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
    tokio::select! {
        () = pump(near_in, far_out, &orders) => {}
        () = pump(far_in, near_out, &orders) => {}
    }
}

async fn pump(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, orders: &Orders) {
    let (held, mut due) = mpsc::channel::<(Instant, Vec<u8>)>(HELD_MAX);
    let read = async move {
        let mut buffer = vec![0; CHUNK_BYTES];
        while let Ok(count) = from.read(&mut buffer).await
            && count > 0
        {
            let (delay, jitter) = (
                orders.delay_ms.load(Ordering::Relaxed),
                orders.jitter_ms.load(Ordering::Relaxed),
            );
            let wait = delay + rand::rng().random_range(0..=jitter);
            if wait > 0 {
                orders.held_bytes.fetch_add(count as u64, Ordering::Relaxed);
            }
            let at = Instant::now() + Duration::from_millis(wait);
            if held.send((at, buffer[..count].to_vec())).await.is_err() {
                return;
            }
        }
    };
    let write = async move {
        while let Some((at, chunk)) = due.recv().await {
            sleep_until(at).await;
            if to.write_all(&chunk).await.is_err() {
                return;
            }
        }
    };
    tokio::join!(read, write);
}
