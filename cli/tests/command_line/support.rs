//! Running the built command line.

use sched_client::testing::FakeCluster;
use sched_client::v1;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

/// What one run gave.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ran {
    pub(crate) fn done(self) -> String {
        assert_eq!(self.code, 0, "{self:?}");
        self.stdout
    }

    pub(crate) fn json(self) -> serde_json::Value {
        serde_json::from_str(&self.done()).expect("one JSON document")
    }

    /// Checks that it failed so, printed no data, and said all of `parts`.
    pub(crate) fn failed(self, code: i32, parts: &[&str]) {
        assert_eq!(self.code, code, "{self:?}");
        assert_eq!(self.stdout, "", "{self:?}");
        for part in parts {
            assert!(self.stderr.contains(part), "{part:?} is not in {self:?}");
        }
    }
}

fn command(endpoints: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_schedcli"));
    for (variable, _) in std::env::vars_os() {
        if variable.to_string_lossy().starts_with("SCHED_") {
            command.env_remove(variable);
        }
    }
    command
        .env("SCHED_ENDPOINT", endpoints)
        // The width of help texts.
        .env("COLUMNS", "100")
        .args(arguments)
        .kill_on_drop(true);
    command
}

fn ran(output: Output) -> Ran {
    Ran {
        code: output.status.code().expect("an exit code"),
        stdout: String::from_utf8(output.stdout).expect("UTF-8"),
        stderr: String::from_utf8(output.stderr).expect("UTF-8"),
    }
}

pub(crate) async fn run_at(endpoints: &str, arguments: &[&str], input: &[u8]) -> Ran {
    let mut child = command(endpoints, arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("starts");
    let mut stdin = child.stdin.take().expect("piped");
    // One that refuses early reads nothing.
    let _ = stdin.write_all(input).await;
    drop(stdin);
    ran(child.wait_with_output().await.expect("ends"))
}

pub(crate) async fn run(cluster: &FakeCluster, arguments: &[&str]) -> Ran {
    run_at(&cluster.endpoints().join(","), arguments, b"").await
}

/// Runs what needs no cluster.
pub(crate) async fn run_alone(arguments: &[&str]) -> Ran {
    run_at("http://127.0.0.1:1", arguments, b"").await
}

fn path_of(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/command_line/golden")
        .join(name)
}

/// Returns what [`golden`] compares with.
pub(crate) fn kept(name: &str) -> String {
    let path = path_of(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Compares with a file, or rewrites it.
pub(crate) fn golden(name: &str, text: &str) {
    let path = path_of(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, text).expect("writable");
        return;
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    if expected != text {
        let differs = expected.lines().zip(text.lines()).position(|(a, b)| a != b);
        let line = differs.unwrap_or_else(|| expected.lines().count().min(text.lines().count()));
        panic!(
            "{name} differs from line {} on; UPDATE_GOLDEN=1 rewrites it\nexpected: {:?}\n     now: {:?}",
            line + 1,
            expected.lines().nth(line),
            text.lines().nth(line),
        );
    }
}

/// Begins 2027-01-15T08:00:00Z.
pub(crate) const T: i64 = 1_800_000_000_000;

/// A run in which every field is set.
pub(crate) fn full_run() -> v1::Run {
    v1::Run {
        id: Some(v1::RunId { task: 1, number: 2 }),
        task_name: Some("report".into()),
        state: v1::RunState::Failed.into(),
        manual: true,
        scheduled_at_unix_ms: T,
        assigned_at_unix_ms: Some(T + 7),
        started_at_unix_ms: Some(T + 8),
        ended_at_unix_ms: Some(T + 1_008),
        late_ms: Some(7),
        worker: "node-1".into(),
        attempts_count: 2,
        attempts: vec![attempt(v1::AttemptEnd::WorkerLost), attempt(v1::AttemptEnd::Failure)],
        exit_code: Some(3),
        reason: "exit code 3".into(),
        priority: 5,
        params: vec![v1::Param {
            key: "DAY".into(),
            value: "monday".into(),
        }],
        losses: 1,
        stale_reports: 1,
        generation: 4,
        ..v1::Run::default()
    }
}

fn attempt(ended: v1::AttemptEnd) -> v1::Attempt {
    v1::Attempt {
        token_index: 17,
        token_position: 3,
        worker: "node-1".into(),
        assigned_at_unix_ms: T + 7,
        ended: ended.into(),
    }
}

/// A run that waits.
pub(crate) fn pending_run() -> v1::Run {
    v1::Run {
        id: Some(v1::RunId { task: 1, number: 3 }),
        state: v1::RunState::Pending.into(),
        pending: v1::Pending::Delayed.into(),
        delayed_until_unix_ms: Some(T + 60_000),
        scheduled_at_unix_ms: T,
        ..v1::Run::default()
    }
}

/// A cluster with a task in which every field is set, its runs, a spool, findings.
pub(crate) async fn full_cluster() -> FakeCluster {
    let cluster = FakeCluster::start(1).await;
    let flags = [
        "--cron",
        "0 9 * * 1-5",
        "--tz",
        "Europe/Zurich",
        "--name",
        "report",
        "--label",
        "team=a",
    ];
    let more = [
        "--owner",
        "ann",
        "--description",
        "daily",
        "--overlap",
        "queue-one",
        "--tries",
        "3",
        "--",
        "ls",
        "a b",
    ];
    run(&cluster, &[&["enqueue"], &flags[..], &more[..]].concat())
        .await
        .done();
    {
        let mut state = cluster.state();
        fill(state.tasks.get_mut(&1).expect("just enqueued"));
        state.runs.insert((1, 2), full_run());
        state.runs.insert((1, 3), pending_run());
        state.workers = vec![full_worker(), gone_worker()];
        state.output = b"looking\n\x1b[31mbroken".to_vec();
        let missed = v1::LedgerMissed {
            first_unix_ms: T,
            last_unix_ms: T + 60_000,
            count: 2,
            reason: "grace".into(),
        };
        state.ledger = vec![v1::LedgerLine {
            at_unix_ms: T + 61_000,
            fact: Some(v1::ledger_line::Fact::Missed(missed)),
        }];
        state.spool = vec![v1::SpoolOp {
            seq: 9,
            kind: "enqueue".into(),
            task: 4,
            task_name: Some("kept".into()),
            accepted_at_unix_ms: T,
            principal: "ann".into(),
        }];
        state.findings = vec![v1::Finding {
            severity: v1::Severity::Warning.into(),
            area: "disk".into(),
            text: "node 2 has 3 % left".into(),
            advice: "make room".into(),
        }];
        state.status = full_status();
    }
    cluster
}

fn fill(task: &mut v1::Task) {
    task.state = v1::TaskState::Running.into();
    task.generation = 4;
    task.periodic = true;
    task.last_scheduled_at_unix_ms = Some(T);
    task.runs_created = 3;
    task.live = vec![2];
    task.held = vec![3];
    task.finished = 1;
    task.failed = 1;
    task.pause = Some(v1::Pause {
        note: "month end".into(),
        until_unix_ms: Some(T + 86_400_000),
        since_unix_ms: T,
    });
}

fn full_status() -> v1::StatusReply {
    let node = |id, role: v1::NodeRole, reachable, lag_entries| v1::Node {
        id,
        role: role.into(),
        client_address: format!("node-{id}:7400"),
        peer_address: format!("node-{id}:7500"),
        reachable,
        lag_entries,
        disk_low: id == 2,
        worker_fault: (id == 3).then(|| v1::WorkerFault {
            worker: "n3".into(),
            reason: "the worker's journal /data/worker/journal is damaged".into(),
        }),
        clock_ahead_ms: (id != 1).then_some(if id == 2 { 94_608_000_000 } else { -3 }),
    };
    v1::StatusReply {
        delayed: 3,
        lost: 1,
        missed: 12,
        skipped: 4,
        stale_reports: 2,
        refuses_work: true,
        clocks_apart: true,
        lateness: vec![
            v1::LatenessBucket {
                late_ms_max: Some(1),
                runs: 60,
            },
            v1::LatenessBucket {
                late_ms_max: Some(50),
                runs: 39,
            },
            v1::LatenessBucket {
                late_ms_max: None,
                runs: 1,
            },
        ],
        state: v1::SchedulerState::Shutdown.into(),
        shutdown_message: "moving house".into(),
        leader: Some(1),
        term: 5,
        nodes: vec![
            node(1, v1::NodeRole::Leader, true, Some(0)),
            node(2, v1::NodeRole::Follower, false, Some(12)),
            node(3, v1::NodeRole::Follower, true, None),
        ],
        spooled: 1,
        waiting: 2,
        ready: 3,
        running: 4,
        failed: 5,
        finished: 6,
        confirmed: false,
        node: 3,
        version: "0.1.0".into(),
        zone_data: "2026b (system)".into(),
        cluster: "00112233445566778899aabbccddeeff".into(),
        now_unix_ms: T,
        workers: 3,
        slots: 192,
    }
}

fn full_worker() -> v1::Worker {
    v1::Worker {
        name: "w1".into(),
        state: v1::WorkerState::Connected.into(),
        node: Some(17),
        session: "900.1".into(),
        slots: 64,
        running: 2,
        labels: [("gpu".to_owned(), "yes".to_owned())].into(),
        last_contact_ms: Some(1234),
        drain: None,
        fault: "the worker's journal cannot be written".into(),
    }
}

fn gone_worker() -> v1::Worker {
    v1::Worker {
        name: "w2".into(),
        state: v1::WorkerState::Gone.into(),
        drain: Some(v1::Drain {
            since_unix_ms: T,
            principal: String::new(),
            note: "new disk".into(),
        }),
        ..v1::Worker::default()
    }
}
