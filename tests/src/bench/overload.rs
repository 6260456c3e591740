//! More callers than a cluster can serve, and one who asks for little beside one who asks for everything.

use super::{Figure, Row, Settings};
use crate::figures::{PAYLOAD, WRITERS};
use crate::load::{Arrival, Enqueue, Report, Way};
use crate::{Cluster, Plan};
use anyhow::Result;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Calls that one connection carries at once; more wait in the caller.
const PER_CONNECTION: usize = 80;
/// Callers for each of those that keep the cluster busy. The last is more than `--calls-max` lets in.
const TIMES: [usize; 2] = [10, 20];
/// What an overloaded cluster still does of what it can do.
const GOODPUT_MIN: f64 = 0.8;
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
    rows.push(fairness(settings).await?);
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

/// One caller alone, and then beside a client with hundreds.
async fn fairness(settings: &Settings) -> Result<Row> {
    let cluster = Cluster::new(Plan::nodes(3)).await?;
    let one = load(&cluster, 1, settings.duration).await?;
    let alone = one.run("alone").await?;
    eprintln!("{alone}");
    let mut flood = load(&cluster, WRITERS, settings.duration * 2).await?;
    flood.stop = CancellationToken::new();
    let over = flood.stop.clone();
    let beside = async {
        let report = one.run("beside a flood").await;
        over.cancel();
        report
    };
    let (flooded, beside): (Result<Report>, Result<Report>) = tokio::join!(flood.run("flood"), beside);
    let (flooded, beside) = (flooded?, beside?);
    eprintln!("{beside}");
    let ratio = beside.latency.p99_ms / alone.latency.p99_ms;
    let figures = vec![
        Figure::new("p99, of that alone", ratio, "").at_most(FAIRNESS_MAX),
        Figure::new("p99 alone", alone.latency.p99_ms, " ms"),
        Figure::new("p99", beside.latency.p99_ms, " ms"),
    ];
    let setting = format!("1 caller beside a client with {WRITERS}");
    let row = Row::of("fairness", &setting, beside, figures);
    Ok(row.beside(format!("the flood had {:.0}/s", flooded.ops_per_second)))
}
