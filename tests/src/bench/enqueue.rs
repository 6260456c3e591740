//! How fast enqueues are acknowledged: alone, by many callers, in batches and streams.

use super::{Figure, Row, Settings};
use crate::figures::{PAYLOAD, WRITERS};
use crate::load::{Arrival, Enqueue, Report, Way};
use crate::{Cluster, Plan};
use anyhow::Result;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Connections that callers share: the tools whose figures ours are compared with share as many.
const CONNECTIONS: usize = 8;
/// Tasks under way in all with batches and streams, as the peers' tools have it.
const UNDER_WAY: usize = 8 * 128;

/// A closed load on the leader of a fresh cluster; the median of the rounds.
pub(super) async fn closed(settings: &Settings, callers: usize, way: Way) -> Result<Report> {
    let cluster = Cluster::new(Plan::nodes(3)).await?;
    let mut rounds = Vec::new();
    for _ in 0..settings.rounds.max(1) {
        let report = at_leader(&cluster, callers, way, settings.duration).await?;
        eprintln!("{report}");
        rounds.push(report);
    }
    rounds.sort_by(|a, b| a.ops_per_second.total_cmp(&b.ops_per_second));
    Ok(rounds.swap_remove(rounds.len() / 2))
}

/// A closed load on the leader.
pub(super) async fn at_leader(cluster: &Cluster, callers: usize, way: Way, duration: Duration) -> Result<Report> {
    let leader = cluster.leader().await?;
    let load = Enqueue {
        endpoints: vec![cluster.nodes[leader].client.clone()],
        callers,
        connections: CONNECTIONS.min(callers),
        payload: PAYLOAD,
        way,
        arrival: Arrival::Closed,
        warm_up: Duration::from_secs(2),
        duration,
        stop: CancellationToken::new(),
        pids: cluster.pids(),
    };
    load.run("enqueue").await
}

pub(super) async fn rows(settings: &Settings) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    let alone = closed(settings, 1, Way::Unary).await?;
    let figures = vec![
        Figure::new("p50", alone.latency.p50_ms, " ms").at_most(0.8),
        Figure::new("p99", alone.latency.p99_ms, " ms"),
    ];
    rows.push(Row::of(
        "acknowledged enqueue",
        "1 caller, a call each, 256 B",
        alone,
        figures,
    ));
    // Of etcd's rate on the same machine it should be 2.5 times, of NATS's 1 and 1.5 times: `make bench-peers` says.
    let table = [
        (WRITERS, Way::Unary, "256 callers, a call each, 256 B", Some(25_800.0)),
        (
            8,
            Way::Stream(WRITERS / 8),
            "8 streams, 256 under way, 256 B",
            Some(32_400.0),
        ),
        (
            8,
            Way::Batch(UNDER_WAY / 8),
            "8 callers, batches of 128, 256 B",
            Some(66_300.0),
        ),
        (
            8,
            Way::Stream(UNDER_WAY / 8),
            "8 streams, 1,024 under way, 256 B",
            Some(66_300.0),
        ),
    ];
    for (callers, way, setting, bound) in table {
        let report = closed(settings, callers, way).await?;
        let mut rate = Figure::new("rate", report.ops_per_second, "/s");
        rate.bound = bound.map(super::row::Bound::AtLeast);
        let figures = vec![
            rate,
            Figure::new("p50", report.latency.p50_ms, " ms"),
            Figure::new("p99", report.latency.p99_ms, " ms"),
            Figure::new("p99.9", report.latency.p999_ms, " ms"),
        ];
        rows.push(Row::of("acknowledged enqueue", setting, report, figures));
    }
    Ok(rows)
}
