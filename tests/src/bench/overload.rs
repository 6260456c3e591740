//! More callers than a cluster can serve, and one who asks for little beside one who asks for everything.

use super::{Figure, Row, Settings};
use crate::figures::{PAYLOAD, WRITERS};
use crate::load::{Arrival, Enqueue, Way};
use crate::{Cluster, Plan, binaries};
use anyhow::{Context, Result};
use serde_json::Value;
use std::process::Stdio;
use std::time::Duration;
use tokio::process::{Child, Command};
use tokio_util::sync::CancellationToken;

/// Calls that one connection carries at once; more wait in the caller.
const PER_CONNECTION: usize = 80;
/// Callers for each of those that keep the cluster busy. The last is more than `--calls-max` lets in.
const TIMES: [usize; 2] = [10, 20];
/// What an overloaded cluster still does of what it can do.
const GOODPUT_MIN: f64 = 0.8;
/// What a client may ask for beside another who asks for one task after the other.
const FLOODS: [(&str, usize, Way); 3] = [
    ("1 caller beside a client with 256", WRITERS, Way::Unary),
    ("1 caller beside a client with 2,560", 10 * WRITERS, Way::Unary),
    (
        "1 caller beside a client with 8 streams of 1,024 under way",
        8,
        Way::Stream(1024),
    ),
];
/// How much longer a call may take for whoever is beside a flood.
const FAIRNESS_MAX: f64 = 3.0;

pub(super) async fn rows(settings: &Settings) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    let cluster = Cluster::new(Plan::nodes(3)).await?;
    let peak = load(&cluster, WRITERS, settings.duration).await?.run("peak").await?;
    eprintln!("{peak}");
    let term = term(&cluster).await?;
    for times in TIMES {
        let callers = WRITERS * times;
        let report = load(&cluster, callers, settings.duration)
            .await?
            .run("overload")
            .await?;
        eprintln!("{report}");
        let elections = self::term(&cluster).await? - term;
        let goodput = report.ops_per_second / peak.ops_per_second;
        let figures = vec![
            Figure::new("of the peak", goodput, "").at_least(GOODPUT_MIN),
            Figure::new("elections", elections as f64, "").at_most(0.0),
            Figure::new("p99", report.latency.p99_ms, " ms"),
        ];
        let setting = format!("{callers} callers, a call each, {times} times those of the peak");
        rows.push(Row::of("overload", &setting, report, figures));
    }
    for (setting, callers, way) in FLOODS {
        rows.push(fairness(settings, setting, callers, way).await?);
    }
    Ok(rows)
}

async fn term(cluster: &Cluster) -> Result<u64> {
    Ok(cluster.nodes[cluster.leader().await?].status().await?.term)
}

async fn load(cluster: &Cluster, callers: usize, duration: Duration) -> Result<Enqueue> {
    Ok(Enqueue {
        endpoints: vec![cluster.nodes[cluster.leader().await?].client.clone()],
        callers,
        connections: callers.div_ceil(PER_CONNECTION),
        payload: PAYLOAD,
        way: Way::Unary,
        arrival: Arrival::Closed,
        warm_up: Duration::from_secs(2),
        duration,
        stop: CancellationToken::new(),
        pids: cluster.pids(),
    })
}

/// One caller alone, and then beside a flood.
async fn fairness(settings: &Settings, setting: &str, callers: usize, way: Way) -> Result<Row> {
    let cluster = Cluster::new(Plan::nodes(3)).await?;
    let mut one = load(&cluster, 1, settings.duration).await?;
    let alone = one.run("alone").await?;
    eprintln!("{alone}");
    let flood = Flood::start(&cluster, callers, way, settings.duration).await?;
    // What the flood takes itself is neither the nodes' nor foreign; this row says nothing of what a call costs.
    one.pids.extend(flood.process.id());
    let beside = one.run("beside a flood").await?;
    let flooded = flood.end().await?;
    eprintln!("{beside}");
    let ratio = beside.latency.p99_ms / alone.latency.p99_ms;
    let figures = vec![
        Figure::new("p99, of that alone", ratio, "").at_most(FAIRNESS_MAX),
        Figure::new("p99 alone", alone.latency.p99_ms, " ms"),
        Figure::new("p50", beside.latency.p50_ms, " ms"),
        Figure::new("p99", beside.latency.p99_ms, " ms"),
        Figure::new("p99 of the flood", flooded.p99_ms, " ms"),
    ];
    let row = Row::of("fairness", setting, beside, figures);
    Ok(row.beside(format!("the flood had {:.0}/s", flooded.per_second)))
}

/// A client with many calls under way, as a process of its own: within one, both would wait for the same thread.
struct Flood {
    process: Child,
}

/// What a flood got.
struct Flooded {
    per_second: f64,
    p99_ms: f64,
}

impl Flood {
    /// Floods the leader for as long as the load beside it warms up and lasts, and somewhat more.
    async fn start(cluster: &Cluster, callers: usize, way: Way, duration: Duration) -> Result<Self> {
        let (mode, window) = match way {
            Way::Unary => ("unary", 1),
            Way::Batch(size) => ("batch", size),
            Way::Stream(window) => ("stream", window),
        };
        let leader = &cluster.nodes[cluster.leader().await?].client;
        let process = Command::new(binaries::path("load")?)
            .arg(mode)
            .args(["--endpoint", leader])
            .args(["--callers", &callers.to_string()])
            .args(["--connections", &callers.div_ceil(PER_CONNECTION).to_string()])
            .args(["--payload", &PAYLOAD.to_string()])
            .args(["--window", &window.to_string()])
            .args(["--seconds", &(duration.as_secs() + 1).to_string()])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .context("starting the flood")?;
        Ok(Self { process })
    }

    /// Waits until it is over.
    async fn end(self) -> Result<Flooded> {
        let output = self.process.wait_with_output().await?;
        let report: Value = serde_json::from_slice(&output.stdout).context("what the flood printed")?;
        let figure = |figure: &Value| figure.as_f64().context("a figure of the flood");
        Ok(Flooded {
            per_second: figure(&report["ops_per_second"])?,
            p99_ms: figure(&report["latency"]["p99_ms"])?,
        })
    }
}
