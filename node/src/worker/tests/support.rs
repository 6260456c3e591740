//! What the worker's tests share: jobs, a place to run one, and a leader played by the test.

use crate::worker::attempt::{Finished, Runner};
use crate::worker::executors::{
    CommandExecutor, Executors, HttpExecutor, MailExecutor, MailOptions, SampleExecutor, Surroundings,
};
use crate::worker::journal::JournalOptions;
use crate::worker::link::{Connection, Dial, Link};
use crate::worker::output::{OutputLimits, OutputStore};
use crate::worker::stop::Stopper;
use crate::worker::wire::{Job, OnDisconnect, attempt_to_wire, job_to_wire};
use crate::worker::{WorkerClock, WorkerError, WorkerHandle, WorkerOptions, WorkerStatus, start};
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt};
use sched_core::task::{Action, Delivery};
use sched_core::{RunId, TaskId, Timestamp, Token};
use sched_proto::worker as pb;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;

/// Clocks that follow tokio's, paused or not.
pub(in crate::worker) fn clock() -> WorkerClock {
    let start = Instant::now();
    let boot = move || Duration::from_secs(1000) + start.elapsed();
    let wall = move || Timestamp::from_millis(1_700_000_000_000 + start.elapsed().as_millis() as i64);
    WorkerClock::new(boot, wall)
}

pub(in crate::worker) fn token(index: u64) -> Token {
    Token { index, position: 0 }
}

/// A journal that writes at once: paused time would run ahead of a thread.
pub(in crate::worker) fn inline() -> JournalOptions {
    JournalOptions {
        inline: true,
        ..JournalOptions::default()
    }
}

/// Run `n` of task 7 under token `n`.
pub(in crate::worker) fn job(n: u64, action: Action) -> Job {
    Job {
        run: RunId {
            task: TaskId(7),
            number: n,
        },
        token: token(n),
        namespace: "default".into(),
        task_name: None,
        scheduled_at: Timestamp::from_millis(1_699_999_999_123),
        attempt_number: 1,
        action,
        time_limit: None,
        params: Vec::new(),
        delivery: Delivery::AtLeastOnce,
        on_disconnect: OnDisconnect::Kill,
    }
}

pub(in crate::worker) fn sample(n: u64, duration: Duration) -> Job {
    job(
        n,
        Action::Sample {
            succeed: true,
            duration_ms: duration.as_millis() as u64,
            payload: Vec::new(),
        },
    )
}

pub(in crate::worker) fn command(argv: &[&str]) -> Action {
    Action::Command {
        argv: argv.iter().map(|arg| (*arg).to_owned()).collect(),
        env: Default::default(),
        dir: None,
        stdin: Vec::new(),
        success_codes: Vec::new(),
        user: None,
        limits: Default::default(),
    }
}

pub(in crate::worker) fn store(dir: &Path, limits: OutputLimits) -> Arc<OutputStore> {
    OutputStore::open(dir.join("output"), limits, clock()).unwrap()
}

/// A place to run single attempts.
pub(in crate::worker) struct Bench {
    pub(in crate::worker) dir: TempDir,
    pub(in crate::worker) runner: Arc<Runner>,
}

impl Bench {
    pub(in crate::worker) fn new() -> Self {
        Self::with(OutputLimits::default(), Duration::from_secs(5))
    }

    pub(in crate::worker) fn mailing(mail: MailOptions) -> Self {
        Self::set_up(OutputLimits::default(), Duration::from_secs(5), mail)
    }

    pub(in crate::worker) fn with(limits: OutputLimits, grace: Duration) -> Self {
        Self::set_up(limits, grace, MailOptions::default())
    }

    fn set_up(limits: OutputLimits, grace: Duration, mail: MailOptions) -> Self {
        // The first of many tests installs it for all.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let dir = tempfile::tempdir().unwrap();
        let surroundings = Surroundings {
            work_dir: dir.path().to_owned(),
            path: "/usr/bin:/bin".into(),
            home: "/nowhere/x".into(),
            lang: "C".into(),
        };
        let executors = Executors {
            command: CommandExecutor::new(surroundings, None),
            http: HttpExecutor::new(clock()),
            sample: SampleExecutor,
            mail: MailExecutor::new(mail, clock()),
        };
        let runner = Runner {
            executors,
            output: store(dir.path(), limits),
            clock: clock(),
            grace,
        };
        Self {
            dir,
            runner: Arc::new(runner),
        }
    }

    pub(in crate::worker) async fn run(&self, job: &Job) -> Finished {
        self.runner.run(job, &Stopper::new()).await
    }

    pub(in crate::worker) async fn shell(&self, script: &str) -> Finished {
        self.run(&job(1, command(&["/bin/sh", "-c", script]))).await
    }

    /// Reads the output of run `n` from the files, from `offset`, waiting for it while it runs.
    pub(in crate::worker) async fn output(&self, n: u64, offset: u64) -> Vec<u8> {
        let run = RunId {
            task: TaskId(7),
            number: n,
        };
        let wait = Duration::from_secs(30);
        self.runner
            .output
            .read(run, 1, offset, 0, wait)
            .await
            .unwrap()
            .data
            .to_vec()
    }
}

/// A stream that a worker has opened to the leader played by the test.
pub(in crate::worker) struct Stream {
    pub(in crate::worker) address: String,
    pub(in crate::worker) hello: pb::Hello,
    pub(in crate::worker) tx: mpsc::Sender<Result<pb::ToWorker, String>>,
    pub(in crate::worker) rx: mpsc::Receiver<pb::FromWorker>,
    /// The heartbeats seen by [`reports`](Self::reports), not acknowledged.
    pub(in crate::worker) heartbeats: Vec<u64>,
    /// Acknowledge heartbeats as they come.
    pub(in crate::worker) confirm: bool,
}

struct Network(mpsc::Sender<Stream>);

struct Dialed(String, mpsc::Sender<Stream>);

impl Dial for Network {
    fn dial(&self, address: &str) -> BoxFuture<'static, Result<Box<dyn Connection>, String>> {
        let dialed = Dialed(address.to_owned(), self.0.clone());
        async move {
            match dialed.0.as_str() {
                "nobody:1" => Err("connection refused".to_owned()),
                _ => Ok(Box::new(dialed) as Box<dyn Connection>),
            }
        }
        .boxed()
    }
}

impl Connection for Dialed {
    fn open(self: Box<Self>, hello: pb::FromWorker) -> BoxFuture<'static, Result<Link, String>> {
        async move {
            let (to_leader, from_worker) = mpsc::channel(2);
            let (to_worker, from_leader) = mpsc::channel(64);
            let stream = Stream {
                address: self.0,
                hello: hello.hello.ok_or("no hello")?,
                tx: to_worker,
                rx: from_worker,
                heartbeats: Vec::new(),
                confirm: true,
            };
            self.1.send(stream).await.map_err(|e| e.to_string())?;
            Ok(Link {
                tx: to_leader,
                rx: ReceiverStream::new(from_leader).boxed(),
            })
        }
        .boxed()
    }
}

/// A worker whose leader is the test.
pub(in crate::worker) struct Play {
    pub(in crate::worker) worker: WorkerHandle,
    pub(in crate::worker) leader: watch::Sender<Option<String>>,
    streams: mpsc::Receiver<Stream>,
    pub(in crate::worker) dir: TempDir,
}

impl Play {
    pub(in crate::worker) fn new(slots: u32) -> Self {
        Self::in_folder(slots, tempfile::tempdir().unwrap(), inline()).unwrap()
    }

    pub(in crate::worker) fn in_folder(
        slots: u32,
        dir: TempDir,
        journal: JournalOptions,
    ) -> Result<Self, (WorkerError, TempDir)> {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let (leader, follows) = watch::channel(Some("a:1".to_owned()));
        let options = WorkerOptions {
            name: "w".into(),
            slots,
            labels: [("zone".to_owned(), "x".to_owned())].into(),
            node: None,
            dir: dir.path().to_owned(),
            leader: follows,
            clock: clock(),
            output: OutputLimits::default(),
            grace: Duration::from_secs(5),
            supervisor: None,
            containment: crate::worker::Containment::default(),
            mail: MailOptions::default(),
        };
        let (tx, streams) = mpsc::channel(16);
        match start(options, Arc::new(Network(tx)), journal) {
            Ok(worker) => Ok(Self {
                worker,
                leader,
                streams,
                dir,
            }),
            Err(e) => Err((e, dir)),
        }
    }

    /// Kills the worker as a crash of its process would, and returns its folder.
    pub(in crate::worker) async fn crash(self) -> TempDir {
        let mut status = self.worker.status();
        drop(self.worker);
        // The agent's end is the last to let go of the journal.
        while status.changed().await.is_ok() {}
        self.dir
    }

    /// The next stream that the worker opens.
    pub(in crate::worker) async fn stream(&mut self) -> Stream {
        self.streams.recv().await.unwrap()
    }

    /// Names another leader and returns the stream that the worker opens to it.
    pub(in crate::worker) async fn stream_at(&mut self, address: &str) -> Stream {
        self.leader.send_replace(Some(address.to_owned()));
        loop {
            let stream = self.stream().await;
            if stream.address == address {
                return stream;
            }
        }
    }

    /// The next stream, welcomed with every held attempt to go on.
    pub(in crate::worker) async fn welcomed(&mut self) -> Stream {
        let stream = self.stream().await;
        stream.welcome(pb::DispositionKind::Continue).await;
        stream
    }

    /// Waits for a status.
    pub(in crate::worker) async fn until(&self, what: impl FnMut(&WorkerStatus) -> bool) -> WorkerStatus {
        self.worker.status().wait_for(what).await.unwrap().clone()
    }
}

/// What a worker reports about an attempt.
#[derive(Clone, PartialEq, Debug)]
pub(in crate::worker) enum Said {
    Completed(u64, pb::Verdict),
    Nack(u64, pb::NackCode),
    WantsGrant(u64),
    Goodbye { empty: bool },
    Output(pb::OutputChunk),
}

impl Stream {
    pub(in crate::worker) async fn send(&self, message: pb::ToWorker) {
        self.tx.send(Ok(message)).await.unwrap();
    }

    pub(in crate::worker) async fn welcome(&self, kind: pb::DispositionKind) {
        let dispositions = self.hello.held.iter().map(|held| pb::Disposition {
            attempt: held.attempt,
            kind: kind.into(),
        });
        let welcome = pb::Welcome {
            session: Some(pb::Token { index: 3, position: 0 }),
            term: 1,
            lease_ms: 10_000,
            heartbeat_ms: 2_000,
            dispositions: dispositions.collect(),
        };
        self.send(pb::ToWorker {
            welcome: Some(welcome),
            ..Default::default()
        })
        .await;
    }

    pub(in crate::worker) async fn run(&self, job: &Job) {
        self.runs(std::slice::from_ref(job)).await;
    }

    pub(in crate::worker) async fn runs(&self, jobs: &[Job]) {
        self.send(pb::ToWorker {
            runs: jobs.iter().map(job_to_wire).collect(),
            ..Default::default()
        })
        .await;
    }

    pub(in crate::worker) async fn kill(&self, n: u64) {
        self.send(pb::ToWorker {
            kills: vec![attempt(n)],
            ..Default::default()
        })
        .await;
    }

    pub(in crate::worker) async fn grant(&self, n: u64) {
        self.send(pb::ToWorker {
            granted: vec![attempt(n)],
            ..Default::default()
        })
        .await;
    }

    pub(in crate::worker) async fn recorded(&self, n: u64) {
        self.send(pb::ToWorker {
            recorded: vec![attempt(n)],
            ..Default::default()
        })
        .await;
    }

    pub(in crate::worker) async fn acknowledge(&self, seq: u64) {
        let heartbeat_ack = Some(pb::HeartbeatAck { seq });
        // The worker may have left the stream meanwhile.
        let _ = self
            .tx
            .send(Ok(pb::ToWorker {
                heartbeat_ack,
                ..Default::default()
            }))
            .await;
    }

    /// Waits for a batch that says more than a heartbeat; `None` when the worker has ended the stream.
    pub(in crate::worker) async fn reports(&mut self) -> Option<Vec<Said>> {
        loop {
            let batch = self.rx.recv().await?;
            if let Some(heartbeat) = &batch.heartbeat {
                self.heartbeats.push(heartbeat.seq);
                if self.confirm {
                    self.acknowledge(heartbeat.seq).await;
                }
            }
            let said = said(batch);
            if !said.is_empty() {
                return Some(said);
            }
        }
    }

    /// Waits for so many reports, in however many batches.
    pub(in crate::worker) async fn several(&mut self, count: usize) -> Vec<Said> {
        let mut all = Vec::new();
        while all.len() < count {
            all.extend(self.reports().await.unwrap());
        }
        all.sort_by_key(|said| format!("{said:?}"));
        all
    }

    /// Waits for exactly one report.
    pub(in crate::worker) async fn report(&mut self) -> Said {
        let mut said = self.reports().await.unwrap();
        assert_eq!(said.len(), 1, "{said:?}");
        said.remove(0)
    }
}

pub(in crate::worker) fn attempt(n: u64) -> pb::Attempt {
    attempt_to_wire(
        RunId {
            task: TaskId(7),
            number: n,
        },
        token(n),
    )
}

fn said(batch: pb::FromWorker) -> Vec<Said> {
    let index = |attempt: Option<pb::Attempt>| attempt.unwrap().token.unwrap().index;
    let mut said = Vec::new();
    for request in batch.grant_requests {
        said.push(Said::WantsGrant(index(request.attempt)));
    }
    for completed in batch.completed {
        said.push(Said::Completed(
            index(completed.attempt),
            completed.result.unwrap().verdict(),
        ));
    }
    for nack in batch.nacks {
        said.push(Said::Nack(index(nack.attempt), nack.code()));
    }
    said.extend(batch.output.into_iter().map(Said::Output));
    said.extend(batch.goodbye.map(|goodbye| Said::Goodbye { empty: goodbye.empty }));
    said
}
