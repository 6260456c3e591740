//! Calls between hosts. A call is one exchange of HTTP messages, as gRPC makes it: nothing below it is simulated.
//!
//! Single calls may be lost on the way there or back, repeated, and overtake each other; streams keep their order, stall while the way
//! is cut and break when that lasts, as a connection of TCP does.

use crate::body::{Link, pumped};
use crate::world::{World, world};
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::{oneshot, watch};
use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use tower::Service;

/// Calls that are streams; all others are one message each way.
const STREAMS: [&str; 5] = ["AppendStream", "InstallSnapshot", "Connect", "SubmitStream", "Logs"];
/// After so long without a way a connection is given up, by keep-alive.
pub(crate) const GIVE_UP: Duration = Duration::from_secs(6);

type Answer = Pin<Box<dyn Future<Output = Response<Body>> + Send>>;
type Handler = Arc<dyn Fn(Request<Body>) -> Answer + Send + Sync>;

/// Why a call was not answered.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub struct NetError(pub(crate) &'static str);

/// One life of a host on the network.
#[derive(Clone, Debug)]
pub struct Port {
    /// The name of the host.
    pub host: Arc<str>,
    /// Ends with the life of its process.
    pub life: CancellationToken,
}

impl Port {
    /// Returns a new life of a host.
    pub fn new(host: &str) -> Self {
        Self {
            host: host.into(),
            life: CancellationToken::new(),
        }
    }
}

/// How bad the network is, everywhere.
#[derive(Clone, Copy, Debug)]
pub struct Weather {
    /// Of a thousand single calls, so many are lost, each way.
    pub loss_permille: u64,
    /// Of a thousand single calls, so many arrive twice.
    pub repeat_permille: u64,
    /// The longest way, in microseconds.
    pub delay_us_max: u64,
}

impl Default for Weather {
    fn default() -> Self {
        Self {
            loss_permille: 0,
            repeat_permille: 0,
            delay_us_max: 2_000,
        }
    }
}

/// The network of a world.
pub(crate) struct Net {
    inner: Mutex<Inner>,
    changed: watch::Sender<u64>,
}

#[derive(Default)]
struct Inner {
    served: BTreeMap<String, (Port, Handler)>,
    /// From whom to whom nothing goes, by what cut it: each heals by itself.
    cut: BTreeMap<String, BTreeSet<(String, String)>>,
    weather: Weather,
}

impl Default for Net {
    fn default() -> Self {
        Self {
            inner: Mutex::default(),
            changed: watch::Sender::new(0),
        }
    }
}

impl Net {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn is_cut(&self, from: &str, to: &str) -> bool {
        let inner = self.inner();
        // Most of the time nothing is cut.
        !inner.cut.is_empty() && {
            let way = (from.to_owned(), to.to_owned());
            inner.cut.values().any(|cut| cut.contains(&way))
        }
    }

    /// Waits until a way is open; false: it stayed cut for too long.
    pub(crate) async fn open(&self, from: &str, to: &str) -> bool {
        let mut changed = self.changed.subscribe();
        let open = async {
            while self.is_cut(from, to) {
                if changed.changed().await.is_err() {
                    return;
                }
            }
        };
        tokio::time::timeout(GIVE_UP, open).await.is_ok()
    }
}

impl World {
    /// Sets how bad the network is.
    pub fn set_weather(&self, weather: Weather) {
        self.net.inner().weather = weather;
    }

    /// Sets which ways are cut by `what`, from whom to whom; none heals it.
    pub fn set_cut(&self, what: &str, cut: BTreeSet<(String, String)>) {
        if cut.is_empty() {
            self.net.inner().cut.remove(what);
        } else {
            self.net.inner().cut.insert(what.to_owned(), cut);
        }
        self.net.changed.send_modify(|n| *n += 1);
    }

    /// Heals everything that is cut.
    pub fn heal_cuts(&self) {
        self.net.inner().cut.clear();
        self.net.changed.send_modify(|n| *n += 1);
    }

    /// Draws how long one way takes.
    pub(crate) fn way(&self) -> Duration {
        let most = self.net.inner().weather.delay_us_max;
        Duration::from_micros(self.draw(|chance| 50 + chance.below(most.max(1))))
    }
}

/// Serves an address with a service of gRPC, until the port's life is over.
pub fn register<S>(port: &Port, address: &str, service: S)
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Clone + Send + Sync + 'static,
    S::Future: Send,
{
    let handler: Handler = Arc::new(move |request| {
        let mut service = service.clone();
        Box::pin(async move {
            // The generated services are always ready.
            let _ = std::future::poll_fn(|cx| service.poll_ready(cx)).await;
            match service.call(request).await {
                Ok(response) => response,
                Err(never) => match never {},
            }
        })
    });
    world()
        .net
        .inner()
        .served
        .insert(address.to_owned(), (port.clone(), handler));
}

/// Serves an address until `stop` or the end of the port's life.
pub async fn serve_until<S>(port: Port, address: String, service: S, stop: CancellationToken)
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Clone + Send + Sync + 'static,
    S::Future: Send,
{
    register(&port, &address, service);
    tokio::select! {
        () = stop.cancelled() => {}
        () = port.life.cancelled() => {}
    }
}

/// A connection to an address, from one life of a host.
#[derive(Clone, Debug)]
pub struct Channel {
    from: Port,
    to: Arc<str>,
}

impl Channel {
    /// Returns a connection; it is made when it is used.
    pub fn new(from: &Port, to: &str) -> Self {
        Self {
            from: from.clone(),
            to: to.into(),
        }
    }
}

impl Service<Request<Body>> for Channel {
    type Response = Response<Body>;
    type Error = NetError;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, NetError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), NetError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let channel = self.clone();
        Box::pin(async move {
            let life = channel.from.life.clone();
            tokio::select! {
                biased;
                () = life.cancelled() => Err(NetError("the caller has crashed")),
                answer = channel.exchange(request) => answer,
            }
        })
    }
}

fn host_of(address: &str) -> &str {
    address.split(':').next().unwrap_or(address)
}

impl Channel {
    async fn exchange(self, request: Request<Body>) -> Result<Response<Body>, NetError> {
        let world = world();
        let path = request.uri().path().rsplit('/').next().unwrap_or_default().to_owned();
        let host = host_of(&self.to).to_owned();
        let there = Link::new(&self.from.host, &host);
        let back = Link::new(&host, &self.from.host);
        world.event(&path, fingerprint(&self.from.host), fingerprint(&host));
        let stream = STREAMS.contains(&path.as_str());
        self.travel(&world, &there, stream).await?;
        let Some((port, handler)) = world.net.inner().served.get(&*self.to).cloned() else {
            return Err(NetError("connection refused"));
        };
        if port.life.is_cancelled() {
            return Err(NetError("connection refused"));
        }
        let lives = [self.from.life.clone(), port.life.clone()];
        let request = if stream {
            let (parts, body) = request.into_parts();
            Request::from_parts(parts, pumped(body, there, lives.clone()))
        } else {
            let (parts, body) = request.into_parts();
            let bytes = body
                .collect()
                .await
                .map_err(|_| NetError("the request broke"))?
                .to_bytes();
            let weather = world.net.inner().weather;
            if world.draw(|chance| chance.permille(weather.repeat_permille)) {
                let again = Request::from_parts(parts.clone(), Body::new(Full::new(bytes.clone())));
                let (world, port, handler) = (world.clone(), port.clone(), handler.clone());
                tokio::spawn(async move {
                    tokio::time::sleep(world.way() * 10).await;
                    drop(handle(&port, &handler, again).await);
                });
            }
            Request::from_parts(parts, Body::new(Full::new(bytes)))
        };
        let answer = handle(&port, &handler, request).await;
        let response = answer.ok_or(NetError("connection reset"))?;
        self.travel(&world, &back, stream).await?;
        let (parts, body) = response.into_parts();
        if stream {
            return Ok(Response::from_parts(parts, pumped(body, back, lives)));
        }
        let whole = body.collect().await.map_err(|_| NetError("the answer broke"))?;
        Ok(Response::from_parts(parts, Body::new(whole)))
    }

    /// One way of a message, or of the first one of a stream.
    async fn travel(&self, world: &World, link: &Link, stream: bool) -> Result<(), NetError> {
        let weather = world.net.inner().weather;
        if !stream && world.draw(|chance| chance.permille(weather.loss_permille)) {
            tokio::time::sleep(Duration::from_millis(world.draw(|chance| chance.range(50, 6_000)))).await;
            return Err(NetError("connection reset"));
        }
        tokio::time::sleep(world.way()).await;
        if world.net.open(&link.from, &link.to).await {
            Ok(())
        } else {
            Err(NetError("connection timed out"))
        }
    }
}

/// Runs a handler on its host: it ends with the host, not with the caller. Nothing: the host has crashed.
async fn handle(port: &Port, handler: &Handler, request: Request<Body>) -> Option<Response<Body>> {
    let (tell, told) = oneshot::channel();
    let (life, answer) = (port.life.clone(), handler(request));
    tokio::spawn(async move {
        tokio::select! {
            biased;
            () = life.cancelled() => {}
            // A caller that has gone needs no answer.
            response = answer => drop(tell.send(response)),
        }
    });
    told.await.ok()
}

fn fingerprint(host: &str) -> u64 {
    host.bytes().fold(7, |hash, byte| hash * 31 + u64::from(byte))
}
