//! A whole node in this process, driven over its client port.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on shall end")]

use sched_proto::v1::scheduler_client::SchedulerClient;
use sched_proto::v1::{self, schedule::Form, wait_request};
use schednode::config::{Config, Settings};
use schednode::node::{Listeners, Node};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

/// For anything that shall happen.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) struct One {
    pub(crate) node: Node,
    pub(crate) client: SchedulerClient<Channel>,
    address: String,
    _dir: TempDir,
}

impl One {
    pub(crate) async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    /// Starts one that is told more.
    pub(crate) async fn start_with(more: impl FnOnce(&mut Settings)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (node, address) = start_in(&dir, more).await;
        let client = connect(&address).await;
        Self {
            node,
            client,
            address,
            _dir: dir,
        }
    }

    pub(crate) async fn submit(&mut self, spec: v1::TaskSpec) -> Result<v1::SubmitReply, Status> {
        let request = v1::SubmitRequest {
            request: key(),
            task: Some(spec),
            late_ok: false,
        };
        self.client.submit(request).await.map(|reply| reply.into_inner())
    }

    pub(crate) async fn wait_run(&mut self, task: u64, number: u64) -> v1::Run {
        let subject = Some(wait_request::Subject::Run(v1::RunId { task, number }));
        let until = Instant::now() + PATIENCE;
        loop {
            let request = v1::WaitRequest {
                subject: subject.clone(),
                timeout_ms: 5_000,
            };
            match self.client.wait(request).await {
                Ok(reply) if reply.get_ref().ended => return reply.into_inner().run.unwrap(),
                Ok(_) => {}
                // Not created yet.
                Err(e) if e.code() == Code::NotFound => tokio::task::yield_now().await,
                Err(e) => panic!("{e}"),
            }
            assert!(Instant::now() < until, "run {task}:{number} has not ended");
        }
    }

    async fn wait_task(&mut self, task: u64) -> v1::WaitReply {
        let subject = Some(wait_request::Subject::Task(by_id(task).unwrap()));
        let request = v1::WaitRequest {
            subject,
            timeout_ms: 30_000,
        };
        let reply = self.client.wait(request).await.unwrap().into_inner();
        assert!(reply.ended, "{reply:?}");
        reply
    }
}

async fn connect(address: &str) -> SchedulerClient<Channel> {
    let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
    SchedulerClient::new(endpoint.connect().await.unwrap())
}

async fn start_in(dir: &TempDir, more: impl FnOnce(&mut Settings)) -> (Node, String) {
    // A member must name its own address before it starts. The ports stay bound until then: one that was free a moment ago may be taken.
    let [client, peers] = [(); 2].map(|()| std::net::TcpListener::bind("127.0.0.1:0").unwrap());
    let peer = peers.local_addr().unwrap().to_string();
    let mut settings = Settings {
        data_dir: Some(dir.path().join("data")),
        listen: Some(client.local_addr().unwrap().to_string()),
        peer_listen: Some(peer.clone()),
        initial_cluster: Some(vec![peer]),
        slots: Some(8),
        ..Settings::default()
    };
    more(&mut settings);
    let mut config = Config::resolve(settings).unwrap();
    let listeners = Listeners::bound(&mut config, client, peers).unwrap();
    let address = config.listen.to_string();
    // This process is no supervisor.
    let supervisor = env!("CARGO_BIN_EXE_schednode").into();
    let node = Node::start_with(config, listeners, supervisor).await.unwrap();
    timeout(PATIENCE, node.ready()).await.unwrap();
    (node, address)
}

pub(crate) fn key() -> Option<v1::RequestKey> {
    let key = format!("{:032x}", rand::random::<u128>());
    let caller = v1::CallerKey {
        namespace: String::new(),
        key,
    };
    Some(v1::RequestKey {
        key: Some(v1::request_key::Key::Caller(caller)),
    })
}

pub(crate) fn by_id(id: u64) -> Option<v1::TaskRef> {
    Some(v1::TaskRef {
        by: Some(v1::task_ref::By::Id(id)),
    })
}

fn spec(form: Form, kind: v1::action::Kind) -> v1::TaskSpec {
    v1::TaskSpec {
        schedule: Some(v1::Schedule { form: Some(form) }),
        action: Some(v1::Action { kind: Some(kind) }),
        ..v1::TaskSpec::default()
    }
}

fn sample(form: Form) -> v1::TaskSpec {
    let sample = v1::SampleAction {
        succeed: true,
        ..v1::SampleAction::default()
    };
    spec(form, v1::action::Kind::Sample(sample))
}

fn now() -> Form {
    Form::Now(v1::NowSchedule {})
}

fn soon(delay_ms: u64) -> Form {
    Form::In(v1::InSchedule { delay_ms })
}

pub(crate) fn shell(form: Form, script: &str) -> v1::TaskSpec {
    let argv = vec!["/bin/sh".into(), "-c".into(), script.into()];
    spec(
        form,
        v1::action::Kind::Command(v1::CommandAction {
            argv,
            ..v1::CommandAction::default()
        }),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_runs_when_it_is_due_and_is_found_afterwards() {
    let mut one = One::start().await;
    let task = one.submit(sample(soon(300))).await.unwrap();
    assert_eq!(task.state(), v1::TaskState::Queued);
    let ended = one.wait_task(task.id).await;
    assert_eq!(ended.task.unwrap().state(), v1::TaskState::Finished);
    let run = ended.run.unwrap();
    assert_eq!(run.state(), v1::RunState::Finished);
    assert!((0..5000).contains(&run.late_ms.unwrap()), "{run:?}");

    let items = (0..20).map(|_| v1::SubmitRequest {
        request: key(),
        task: Some(sample(now())),
        late_ok: false,
    });
    let many = v1::SubmitManyRequest { items: items.collect() };
    for result in one.client.submit_many(many).await.unwrap().into_inner().results {
        let Some(v1::submit_result::Result::Accepted(accepted)) = result.result else {
            panic!("{result:?}")
        };
        one.wait_task(accepted.id).await;
    }
    let (mut cursor, mut seen) = (String::new(), Vec::new());
    loop {
        let request = v1::ListRunsRequest {
            limit: 7,
            cursor,
            ..v1::ListRunsRequest::default()
        };
        let page = one.client.list_runs(request).await.unwrap().into_inner();
        assert!(page.runs.len() <= 7);
        seen.extend(page.runs.iter().map(|run| run.id.unwrap().task));
        cursor = page.cursor;
        if cursor.is_empty() {
            break;
        }
    }
    seen.sort_unstable();
    assert_eq!(seen, (1..=21).collect::<Vec<_>>(), "every run on exactly one page");
    let status = one.client.status(v1::StatusRequest {}).await.unwrap().into_inner();
    assert!(
        status.confirmed && status.workers == 1 && status.slots == 8 && status.finished == 21,
        "{status:?}"
    );
    let check = one.client.check(v1::CheckRequest {}).await.unwrap().into_inner();
    let broken: Vec<_> = check.findings.iter().filter(|finding| finding.area != "disk").collect();
    assert!(broken.is_empty() && check.complete, "{check:?}");
    one.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn output_is_read_and_followed_while_a_command_runs() {
    let mut one = One::start().await;
    let script = "echo begin; while [ ! -e go ]; do sleep 0.05; done; echo end; rm go; exit 3";
    let task = one.submit(shell(now(), script)).await.unwrap();
    let run = Some(v1::RunId {
        task: task.id,
        number: 1,
    });
    let request = v1::LogsRequest {
        run,
        follow: true,
        ..v1::LogsRequest::default()
    };
    let mut logs = one.client.logs(request).await.unwrap().into_inner();
    let mut text = Vec::new();
    while !text.ends_with(b"begin\n") {
        text.extend(timeout(PATIENCE, logs.message()).await.unwrap().unwrap().unwrap().data);
    }
    std::fs::write(one.node.config().data_dir.join("worker/work/go"), b"").unwrap();
    while let Some(chunk) = timeout(PATIENCE, logs.message()).await.unwrap().unwrap() {
        text.extend(chunk.data);
    }
    assert_eq!(text, b"begin\nend\n");
    let ended = one.wait_run(task.id, 1).await;
    assert_eq!((ended.state(), ended.exit_code), (v1::RunState::Failed, Some(3)));
    let request = v1::LogsRequest {
        run,
        tail: Some(4),
        ..v1::LogsRequest::default()
    };
    let chunk = one
        .client
        .logs(request)
        .await
        .unwrap()
        .into_inner()
        .message()
        .await
        .unwrap()
        .unwrap();
    assert_eq!(chunk.data, b"end\n".as_slice());
    one.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tasks_are_moved_paused_triggered_and_cancelled() {
    let mut one = One::start().await;
    let far = one.submit(sample(soon(3_600_000))).await.unwrap();
    let start = Some(v1::move_request::Start::InMs(200));
    let request = v1::MoveRequest {
        request: key(),
        task: by_id(far.id),
        start,
        ..v1::MoveRequest::default()
    };
    one.client.r#move(request.clone()).await.unwrap();
    one.wait_task(far.id).await;
    let again = one.client.r#move(request).await.unwrap().into_inner();
    assert_eq!(again.state(), v1::TaskState::Queued, "a repeat gets the first answer");

    // An alarm keeps its distance from the event that is moved.
    let (event, before_ms) = (4_000_000_000_000, 900_000);
    let form = Form::Before(v1::BeforeSchedule {
        event_unix_ms: event,
        before_ms,
    });
    let alarm = one.submit(sample(form)).await.unwrap();
    let due = |at: i64| v1::NextRun {
        next: Some(v1::next_run::Next::AtUnixMs(at - 900_000)),
    };
    assert_eq!(alarm.next_run, Some(due(event)));
    let request = v1::MoveRequest {
        request: key(),
        task: by_id(alarm.id),
        start: Some(v1::move_request::Start::AtUnixMs(event + 60_000)),
        ..v1::MoveRequest::default()
    };
    let moved = one.client.r#move(request).await.unwrap().into_inner();
    assert_eq!(moved.next_run, Some(due(event + 60_000)));

    let form = Form::Every(v1::EverySchedule {
        every_ms: 100,
        anchor_unix_ms: None,
    });
    let every = one.submit(sample(form)).await.unwrap().id;
    one.wait_run(every, 3).await;
    let pause = v1::PauseRequest {
        request: key(),
        task: by_id(every),
        ..v1::PauseRequest::default()
    };
    one.client.pause(pause).await.unwrap();
    let get = v1::GetTaskRequest { task: by_id(every) };
    let task = one.client.get_task(get).await.unwrap().into_inner().task.unwrap();
    assert!(task.pause.is_some());
    one.client
        .resume(v1::ResumeRequest {
            request: key(),
            task: by_id(every),
        })
        .await
        .unwrap();
    one.wait_run(every, task.runs_created + 2).await;
    one.client
        .dequeue(v1::DequeueRequest {
            request: key(),
            task: by_id(every),
            kill: true,
        })
        .await
        .unwrap();

    let manual = one
        .submit(shell(Form::Manual(v1::ManualSchedule {}), "sleep 600"))
        .await
        .unwrap()
        .id;
    let trigger = v1::TriggerRequest {
        request: key(),
        task: by_id(manual),
        params: Vec::new(),
    };
    let run = one.client.trigger(trigger).await.unwrap().into_inner().run;
    one.client
        .cancel(v1::CancelRequest { request: key(), run })
        .await
        .unwrap();
    assert_eq!(one.wait_run(manual, 1).await.state(), v1::RunState::Terminated);
    one.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn operations_wait_in_the_spool_while_the_scheduler_is_shut_down() {
    let mut one = One::start().await;
    let before = one.submit(sample(soon(1500))).await.unwrap();
    one.client
        .shutdown(v1::ShutdownRequest {
            request: key(),
            message: "service".into(),
        })
        .await
        .unwrap();
    let spooled = one.submit(sample(now())).await.unwrap();
    assert_eq!(spooled.state(), v1::TaskState::Spooled);
    let show = one
        .client
        .show_spool(v1::ShowSpoolRequest::default())
        .await
        .unwrap()
        .into_inner();
    assert_eq!(show.ops.len(), 1);
    let cleared = one
        .client
        .clear_spool(v1::ClearSpoolRequest { request: key() })
        .await
        .unwrap()
        .into_inner();
    assert_eq!(cleared.removed, 1);
    let spooled = one.submit(sample(now())).await.unwrap();
    one.client.start(v1::StartRequest { request: key() }).await.unwrap();
    one.wait_task(spooled.id).await;
    one.wait_task(before.id).await;
    one.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nonsense_is_refused_by_name_and_stores_nothing() {
    let mut one = One::start().await;
    let cron = |expr: &str| {
        Form::Cron(v1::CronSchedule {
            expr: expr.into(),
            ..v1::CronSchedule::default()
        })
    };
    let named = |name: String| v1::TaskSpec {
        name: Some(name),
        ..sample(soon(60_000))
    };
    let payload = vec![0; 64 * 1024 + 1].into();
    let big = v1::SampleAction {
        succeed: true,
        duration_ms: 0,
        payload,
    };
    let cases = [
        (sample(cron("61 * * * *")), "schedule"),
        (sample(cron("0 0 30 2 *")), "schedule"),
        (sample(Form::At(v1::AtSchedule { at_unix_ms: 1000 })), "schedule.at"),
        (named("n".repeat(257)), "name"),
        (named("42".into()), "name"),
        (spec(soon(1), v1::action::Kind::Sample(big)), "action"),
        (
            v1::TaskSpec {
                action: None,
                ..sample(soon(1))
            },
            "action",
        ),
    ];
    for (spec, field) in cases {
        let e = one.submit(spec).await.unwrap_err();
        let failure = sched_proto::convert::failure_of(&e).unwrap();
        assert_eq!(
            (e.code(), failure.field.as_str()),
            (Code::InvalidArgument, field),
            "{e}"
        );
    }
    let e = one
        .client
        .get_task(v1::GetTaskRequest { task: by_id(99) })
        .await
        .unwrap_err();
    assert_eq!(e.code(), Code::NotFound);
    one.submit(named("taken".into())).await.unwrap();
    assert_eq!(
        one.submit(named("taken".into())).await.unwrap_err().code(),
        Code::AlreadyExists
    );
    let status = one.client.status(v1::StatusRequest {}).await.unwrap();
    assert_eq!(status.metadata().get("sched-leader").unwrap(), one.address.as_str());
    let tasks = one
        .client
        .list_tasks(v1::ListTasksRequest::default())
        .await
        .unwrap()
        .into_inner()
        .tasks;
    assert_eq!(tasks.len(), 1);
    one.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_on_the_port_ends_the_connection_and_not_the_node() {
    let mut one = One::start().await;
    let nothing = b"\x00\xff\x13\x37 nothing that anybody speaks, longer than a preface".as_slice();
    let bad_frame = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\xff\xff\xff\xff\xff\xff\xff\xff\xff".as_slice();
    for garbage in [nothing, bad_frame] {
        let mut stream = TcpStream::connect(&one.address).await.unwrap();
        stream.write_all(garbage).await.unwrap();
        // However it ends, it ends.
        let _ = timeout(PATIENCE, stream.read_to_end(&mut Vec::new())).await.unwrap();
    }
    // A connection that says nothing is ended too, later.
    let mut silent = TcpStream::connect(&one.address).await.unwrap();
    let _ = timeout(PATIENCE, silent.read_to_end(&mut Vec::new())).await.unwrap();

    let mut http = TcpStream::connect(&one.address).await.unwrap();
    http.write_all(b"GET /metrics HTTP/1.1\r\nHost: n\r\nConnection: close\r\n\r\n")
        .await
        .unwrap();
    let mut text = String::new();
    http.read_to_string(&mut text).await.unwrap();
    assert!(text.starts_with("HTTP/1.1 200"), "{text}");
    assert!(text.contains("sched_connections_timed_out_total 1"), "{text}");
    one.submit(sample(soon(1))).await.unwrap();
    one.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_queued_survives_a_stop() {
    let dir = tempfile::tempdir().unwrap();
    let (node, address) = start_in(&dir, |_| {}).await;
    let request = v1::SubmitRequest {
        request: key(),
        task: Some(sample(soon(1000))),
        late_ok: false,
    };
    let id = connect(&address).await.submit(request).await.unwrap().into_inner().id;
    node.stop().await;
    let (node, address) = start_in(&dir, |_| {}).await;
    let subject = Some(wait_request::Subject::Task(by_id(id).unwrap()));
    let request = v1::WaitRequest {
        subject,
        timeout_ms: 30_000,
    };
    let reply = connect(&address).await.wait(request).await.unwrap().into_inner();
    assert!(reply.ended);
    assert_eq!(reply.run.unwrap().state(), v1::RunState::Finished);
    node.stop().await;
    let report = schednode::inspect::inspect(&dir.path().join("data")).unwrap();
    assert!(report.sound, "{}", report.text);
}
