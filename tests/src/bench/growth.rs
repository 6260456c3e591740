//! How cost grows with the queue and with the number of nodes.

use super::plot::{Curve, Plot};
use super::{Figure, Measured, Row, Settings, enqueue};
use crate::figures;
use crate::load::Way;
use crate::{Cluster, Plan, procfs};
use anyhow::Result;
use std::time::Duration;

/// Callers, each with so many under way.
const STREAMS: usize = 8;
const WINDOW: usize = 32;

pub(super) async fn measure(settings: &Settings) -> Result<Measured> {
    let mut measured = Measured::default();
    let duration = settings.duration.min(Duration::from_secs(5));
    let cluster = Cluster::new(Plan::nodes(3)).await?;
    let (mut rate, mut cpu, mut memory) = (Vec::new(), Vec::new(), Vec::new());
    let mut held = 0;
    let mut first = None;
    for size in [1_000, 10_000, 100_000, 1_000_000, 10_000_000] {
        if size > settings.growth {
            break;
        }
        if size > held {
            figures::fill(&cluster, size - held).await?;
        }
        let report = enqueue::at_leader(&cluster, STREAMS, Way::Stream(WINDOW), duration).await?;
        eprintln!("{size} queued: {report}");
        // What was measured is in the queue too.
        held = size.max(held) + usize::try_from(report.ops)?;
        let base = *first.get_or_insert(report.ops_per_second);
        let resident = cluster
            .pids()
            .iter()
            .filter_map(|pid| procfs::resident_mib(*pid).ok())
            .fold(0.0, f64::max);
        let x = size as f64;
        rate.push((x, report.ops_per_second));
        cpu.push((x, report.cost.nodes_us_per_op));
        memory.push((x, resident));
        let share = report.ops_per_second / base * 100.0;
        let mut figures = vec![
            Figure::new("rate", report.ops_per_second, "/s"),
            Figure::new("of that of an empty queue", share, " %").at_least(70.0),
            Figure::new("RSS", resident, " MiB"),
        ];
        if size >= 10_000_000 {
            figures[2].bound = Some(super::row::Bound::AtMost(1024.0));
        }
        let setting = format!("{size} queued, 8 streams of 32, 256 B");
        measured
            .rows
            .push(Row::of("growth of the queue", &setting, report, figures));
    }
    drop(cluster);
    let mut nodes_curve = Vec::new();
    for nodes in [1, 3, 5] {
        let cluster = Cluster::new(Plan::nodes(nodes)).await?;
        let report = enqueue::at_leader(&cluster, STREAMS, Way::Stream(WINDOW), duration).await?;
        eprintln!("{nodes} nodes: {report}");
        nodes_curve.push((nodes as f64, report.ops_per_second));
        let figures = vec![
            Figure::new("rate", report.ops_per_second, "/s"),
            Figure::new("p99", report.latency.p99_ms, " ms"),
        ];
        let setting = format!("{nodes} nodes, 8 streams of 32, 256 B");
        measured
            .rows
            .push(Row::of("growth of the cluster", &setting, report, figures));
    }
    let curve = |name: &str, points| Curve {
        name: name.to_owned(),
        points,
    };
    measured.plots.push(Plot {
        file: "growth".to_owned(),
        title: "What a long queue costs".to_owned(),
        x: "queued tasks".to_owned(),
        curves: vec![
            curve("enqueues/s", rate),
            curve("µs of CPU each", cpu),
            curve("MiB in the largest node", memory),
        ],
    });
    measured.plots.push(Plot {
        file: "nodes".to_owned(),
        title: "What more nodes cost".to_owned(),
        x: "nodes".to_owned(),
        curves: vec![curve("enqueues/s", nodes_curve)],
    });
    Ok(measured)
}
