//! A leader's end of the streams of workers, in the hands of a test.

use sched_core::ids::{RunId, Token};
use sched_proto::convert::worker::attempt_to_wire;
use sched_proto::worker::worker_gateway_server::{WorkerGateway, WorkerGatewayServer};
use sched_proto::worker::{self as pb, FromWorker, ToWorker};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::{Request, Response, Status, Streaming};

/// Nothing a test waits for takes this long.
const PATIENCE: Duration = Duration::from_secs(20);

/// A node that workers dial. Dropping it stops it.
#[derive(Debug)]
pub struct FakeLeader {
    address: SocketAddr,
    streams: mpsc::Receiver<WorkerStream>,
    server: tokio::task::JoinHandle<()>,
}

/// One stream of a worker. Dropping it ends it.
#[derive(Debug)]
pub struct WorkerStream {
    /// What the worker said first.
    pub hello: pb::Hello,
    inbound: Streaming<FromWorker>,
    outbound: mpsc::Sender<Result<ToWorker, Status>>,
    /// Heartbeats are acknowledged as they come.
    pub acknowledges: bool,
}

impl FakeLeader {
    /// Starts one on the loopback device.
    ///
    /// # Panics
    ///
    /// When the loopback device takes no listener.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0")
            .await
            .expect("a port on the loopback device");
        let address = listener.local_addr().expect("the address just bound");
        let (tx, streams) = mpsc::channel(16);
        let server = tokio::spawn(async move {
            tonic::transport::Server::builder()
                .add_service(WorkerGatewayServer::new(Gateway { tx }))
                .serve_with_incoming(TcpListenerStream::new(listener))
                .await
                .expect("the server ends only with its task");
        });
        Self {
            address,
            streams,
            server,
        }
    }

    /// Returns its address, `host:port`.
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// Waits for a worker to dial, and reads its Hello.
    ///
    /// # Panics
    ///
    /// When none does in time.
    pub async fn accept(&mut self) -> WorkerStream {
        let stream = timeout(PATIENCE, self.streams.recv()).await;
        stream.expect("a worker dials in time").expect("the server runs")
    }

    /// Waits for a worker to dial, and welcomes it with this lease; of what it holds, it goes on with everything.
    ///
    /// # Panics
    ///
    /// When none does in time.
    pub async fn welcome(&mut self, lease: Duration) -> WorkerStream {
        let stream = self.accept().await;
        let dispositions = stream.hello.held.iter().map(|held| pb::Disposition {
            attempt: held.attempt,
            kind: pb::DispositionKind::Continue.into(),
        });
        let lease_ms = u32::try_from(lease.as_millis()).unwrap_or(u32::MAX);
        let welcome = pb::Welcome {
            session: Some(pb::Token { index: 1, position: 0 }),
            term: 1,
            lease_ms,
            heartbeat_ms: lease_ms / 10,
            dispositions: dispositions.collect(),
        };
        stream
            .send(ToWorker {
                welcome: Some(welcome),
                ..ToWorker::default()
            })
            .await;
        stream
    }
}

impl Drop for FakeLeader {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl WorkerStream {
    /// Sends a batch; a worker that has gone does not hear it.
    pub async fn send(&self, message: ToWorker) {
        let _ = self.outbound.send(Ok(message)).await;
    }

    /// Sends runs.
    pub async fn run(&self, runs: Vec<pb::Run>) {
        self.send(ToWorker {
            runs,
            ..ToWorker::default()
        })
        .await;
    }

    /// Says that the end of an attempt is recorded.
    pub async fn record(&self, run: RunId, token: Token) {
        self.send(ToWorker {
            recorded: vec![attempt_to_wire(run, token)],
            ..ToWorker::default()
        })
        .await;
    }

    /// Tells the worker to end an attempt.
    pub async fn kill(&self, run: RunId, token: Token) {
        self.send(ToWorker {
            kills: vec![attempt_to_wire(run, token)],
            ..ToWorker::default()
        })
        .await;
    }

    /// Waits for the next batch that says something besides a heartbeat; nothing when the worker has ended the stream.
    ///
    /// # Panics
    ///
    /// When none comes in time.
    pub async fn next(&mut self) -> Option<FromWorker> {
        let next = async {
            loop {
                let Ok(Some(mut batch)) = self.inbound.message().await else {
                    return None;
                };
                if let Some(pb::Heartbeat { seq, .. }) = batch.heartbeat.take().filter(|_| self.acknowledges) {
                    self.send(ToWorker {
                        heartbeat_ack: Some(pb::HeartbeatAck { seq }),
                        ..ToWorker::default()
                    })
                    .await;
                }
                if batch != FromWorker::default() {
                    return Some(batch);
                }
            }
        };
        timeout(PATIENCE, next)
            .await
            .expect("the worker says something in time")
    }

    /// Waits for the report of an attempt that ended.
    ///
    /// # Panics
    ///
    /// When the worker ends the stream instead, or nothing comes in time.
    pub async fn completed(&mut self) -> pb::Completed {
        loop {
            let mut batch = self.next().await.expect("the stream goes on");
            if let Some(completed) = batch.completed.pop() {
                return completed;
            }
        }
    }
}

struct Gateway {
    tx: mpsc::Sender<WorkerStream>,
}

#[tonic::async_trait]
impl WorkerGateway for Gateway {
    type ConnectStream = ReceiverStream<Result<ToWorker, Status>>;

    async fn connect(&self, request: Request<Streaming<FromWorker>>) -> Result<Response<Self::ConnectStream>, Status> {
        let mut inbound = request.into_inner();
        let (outbound, rx) = mpsc::channel(64);
        let tx = self.tx.clone();
        tokio::spawn(async move {
            let Ok(Some(FromWorker { hello: Some(hello), .. })) = inbound.message().await else {
                return;
            };
            let stream = WorkerStream {
                hello,
                inbound,
                outbound,
                acknowledges: true,
            };
            // The test may be over.
            let _ = tx.send(stream).await;
        });
        Ok(Response::new(ReceiverStream::new(rx)))
    }
}
