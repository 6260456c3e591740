//! The worker over a real connection: a small leader behind a real port.

use super::support::{clock, command, job, sample};
use crate::worker::wire::{attempt_to_wire, job_to_wire};
use crate::worker::{Worker, WorkerHandle, WorkerOptions};
use sched_proto::worker as pb;
use sched_proto::worker::worker_gateway_server::{WorkerGateway, WorkerGatewayServer};
use std::time::Duration;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::{Request, Response, Status, Streaming};

/// A stream that the server has taken.
struct Taken {
    rx: Streaming<pb::FromWorker>,
    tx: mpsc::Sender<Result<pb::ToWorker, Status>>,
}

struct Gateway(mpsc::Sender<Taken>);

#[tonic::async_trait]
impl WorkerGateway for Gateway {
    type ConnectStream = ReceiverStream<Result<pb::ToWorker, Status>>;

    async fn connect(
        &self,
        request: Request<Streaming<pb::FromWorker>>,
    ) -> Result<Response<Self::ConnectStream>, Status> {
        let (tx, rx) = mpsc::channel(16);
        let taken = Taken {
            rx: request.into_inner(),
            tx,
        };
        self.0
            .send(taken)
            .await
            .map_err(|_| Status::unavailable("the test is over"))?;
        Ok(Response::new(ReceiverStream::new(rx)))
    }
}

/// A server on a port of its own; it dies when it is dropped.
struct Server {
    address: String,
    taken: mpsc::Receiver<Taken>,
    task: JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (tx, taken) = mpsc::channel(4);
        let server = tonic::transport::Server::builder().add_service(WorkerGatewayServer::new(Gateway(tx)));
        let task = tokio::spawn(async move {
            server
                .serve_with_incoming(TcpListenerStream::new(listener))
                .await
                .unwrap();
        });
        Self { address, taken, task }
    }

    /// The next stream after its Hello, welcomed.
    async fn welcomed(&mut self) -> (Taken, pb::Hello) {
        let mut taken = timeout(Duration::from_secs(30), self.taken.recv())
            .await
            .unwrap()
            .unwrap();
        let hello = taken.rx.message().await.unwrap().unwrap().hello.unwrap();
        let kind = pb::DispositionKind::Continue.into();
        let dispositions = hello
            .held
            .iter()
            .map(|held| pb::Disposition {
                attempt: held.attempt,
                kind,
            })
            .collect();
        let session = Some(pb::Token { index: 1, position: 0 });
        let welcome = Some(pb::Welcome {
            session,
            term: 1,
            lease_ms: 10_000,
            heartbeat_ms: 2_000,
            dispositions,
        });
        taken
            .tx
            .send(Ok(pb::ToWorker {
                welcome,
                ..Default::default()
            }))
            .await
            .unwrap();
        (taken, hello)
    }
}

fn worker(leader: watch::Receiver<Option<String>>) -> (WorkerHandle, TempDir) {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let dir = tempfile::tempdir().unwrap();
    let options = WorkerOptions {
        name: "w".into(),
        slots: 100,
        labels: Default::default(),
        node: None,
        dir: dir.path().to_owned(),
        leader,
        clock: clock(),
        output: Default::default(),
        grace: Duration::from_secs(5),
        supervisor: None,
        containment: crate::worker::Containment::default(),
        mail: Default::default(),
    };
    (Worker::start(options).unwrap(), dir)
}

/// Reads until so many completions have come.
async fn completed(taken: &mut Taken, count: usize) -> Vec<pb::Completed> {
    let mut all = Vec::new();
    while all.len() < count {
        let message = timeout(Duration::from_secs(30), taken.rx.message())
            .await
            .unwrap()
            .unwrap()
            .unwrap();
        if let Some(heartbeat) = message.heartbeat {
            let heartbeat_ack = Some(pb::HeartbeatAck { seq: heartbeat.seq });
            taken
                .tx
                .send(Ok(pb::ToWorker {
                    heartbeat_ack,
                    ..Default::default()
                }))
                .await
                .unwrap();
        }
        all.extend(message.completed);
    }
    all
}

#[tokio::test]
async fn a_worker_follows_its_leader_to_another_port_and_loses_nothing() {
    let mut first = Server::start().await;
    let (leader, follows) = watch::channel(Some(first.address.clone()));
    let (worker, dir) = worker(follows);
    let (mut taken, hello) = first.welcomed().await;
    let fifo = dir.path().join("go");
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    let waits = job(
        2,
        command(&[
            "/bin/sh",
            "-c",
            &format!("read line < {}; echo got $line", fifo.display()),
        ]),
    );
    let runs = vec![
        job_to_wire(&job(1, command(&["/bin/echo", "hello"]))),
        job_to_wire(&waits),
    ];
    taken
        .tx
        .send(Ok(pb::ToWorker {
            runs,
            ..Default::default()
        }))
        .await
        .unwrap();
    let one = completed(&mut taken, 1).await.remove(0);
    assert_eq!(&one.result.unwrap().output_tail[..], b"hello\n");

    // The leader dies without having recorded the first run; the second goes on meanwhile.
    let mut second = Server::start().await;
    drop((taken, first));
    leader.send_replace(Some(second.address.clone()));
    let (mut taken, again) = second.welcomed().await;
    assert_eq!(
        (again.journal_high, again.journal_low),
        (hello.journal_high, hello.journal_low)
    );
    let states: Vec<_> = again.held.iter().map(pb::Held::state).collect();
    assert_eq!(states, [pb::HeldState::Ended, pb::HeldState::Running]);
    let one = completed(&mut taken, 1).await.remove(0);
    assert_eq!(one.attempt.unwrap().token.unwrap().index, 1, "told again");
    tokio::fs::write(&fifo, "word\n").await.unwrap();
    let two = completed(&mut taken, 1).await.remove(0);
    assert_eq!(&two.result.unwrap().output_tail[..], b"got word\n");

    let recorded = [1, 2].map(|n| attempt_to_wire(job(n, command(&[])).run, super::support::token(n)));
    taken
        .tx
        .send(Ok(pb::ToWorker {
            recorded: recorded.into(),
            ..Default::default()
        }))
        .await
        .unwrap();
    worker.status().wait_for(|status| status.unrecorded == 0).await.unwrap();
    let left = tokio::spawn(async move { worker.drain(Duration::ZERO).await });
    let mut goodbyes = Vec::new();
    while let Ok(Some(message)) = taken.rx.message().await {
        goodbyes.extend(message.goodbye.map(|goodbye| goodbye.empty));
    }
    drop(taken);
    left.await.unwrap();
    assert!(goodbyes.ends_with(&[true]), "{goodbyes:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thousands_of_runs_pass_through_one_stream() {
    let mut server = Server::start().await;
    let (_leader, follows) = watch::channel(Some(server.address.clone()));
    let (_worker, _dir) = worker(follows);
    let (mut taken, _) = server.welcomed().await;
    let begin = std::time::Instant::now();
    let mut next = 1;
    // As many as there are slots, then as many as have ended, as a leader does.
    let mut free = 100;
    let mut done = 0;
    while done < 20_000 {
        let jobs: Vec<_> = (next..next + free)
            .map(|n| job_to_wire(&sample(n, Duration::ZERO)))
            .collect();
        next += free;
        taken
            .tx
            .send(Ok(pb::ToWorker {
                runs: jobs,
                ..Default::default()
            }))
            .await
            .unwrap();
        let ended = completed(&mut taken, 1).await;
        let recorded = ended.iter().filter_map(|completed| completed.attempt).collect();
        taken
            .tx
            .send(Ok(pb::ToWorker {
                recorded,
                ..Default::default()
            }))
            .await
            .unwrap();
        free = ended.len() as u64;
        done += ended.len();
    }
    println!(
        "{:.0} runs a second",
        f64::from(done as u32) / begin.elapsed().as_secs_f64()
    );
}
