//! Puts load on a running cluster and prints what it gave: one line for people on standard error, one line of JSON on standard output.
#![forbid(unsafe_code)]

use anyhow::{Result, bail};
use clap::{Parser, ValueEnum};
use sched_proto::v1::scheduler_client::SchedulerClient;
use sched_tests::load::{Arrival, Enqueue, Lateness, Way};
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use tonic::transport::Endpoint;

/// Puts load on a running cluster.
///
/// Example: load --endpoint 127.0.0.1:7400 --callers 256 --payload 256 --pids "$(pgrep -d, schednode)"
#[derive(Parser)]
struct Flags {
    /// What to do.
    #[arg(value_enum, default_value = "unary")]
    mode: Mode,
    /// Nodes to call, `host:port`; the leader alone gives the highest figures.
    #[arg(long, value_delimiter = ',', default_value = "127.0.0.1:7400")]
    endpoint: Vec<String>,
    /// Callers at once.
    #[arg(long, default_value_t = 256)]
    callers: usize,
    /// Connections they share.
    #[arg(long, default_value_t = 8)]
    connections: usize,
    /// Bytes in each task.
    #[arg(long, default_value_t = 256)]
    payload: usize,
    /// Tasks per call with `batch`, under way per caller with `stream`.
    #[arg(long, default_value_t = 64)]
    window: usize,
    /// With `unary`: so many calls per second over all callers, instead of one after the other. With `lateness`: runs per second.
    #[arg(long)]
    rate: Option<f64>,
    /// Seconds before measuring.
    #[arg(long, default_value_t = 2.0)]
    warm_up: f64,
    /// Seconds of measuring.
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
    /// Process ids of the nodes, for what it cost them.
    #[arg(long, value_delimiter = ',')]
    pids: Vec<u32>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Mode {
    /// One call per task.
    Unary,
    /// Many tasks per call.
    Batch,
    /// A stream per caller.
    Stream,
    /// How late `sample` tasks are that are due at a steady rate.
    Lateness,
}

// One thread: the generator shares the machine with what it measures.
#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let flags = Flags::parse();
    let duration = Duration::from_secs_f64(flags.seconds);
    let way = match flags.mode {
        Mode::Unary => Way::Unary,
        Mode::Batch => Way::Batch(flags.window),
        Mode::Stream => Way::Stream(flags.window),
        Mode::Lateness => {
            let Some(endpoint) = flags.endpoint.first() else {
                bail!("--endpoint names no node")
            };
            let mut client =
                SchedulerClient::new(Endpoint::from_shared(format!("http://{endpoint}"))?.connect().await?);
            let rate = flags.rate.unwrap_or(200.0);
            let load = Lateness {
                rate,
                duration,
                lead: Duration::from_secs(2),
                pids: flags.pids,
            };
            return show(&load.run(&mut client, "lateness").await?);
        }
    };
    if flags.rate.is_some() && way != Way::Unary {
        bail!("--rate goes with unary and lateness only: a batch or stream is handed over as fast as it is taken");
    }
    let load = Enqueue {
        endpoints: flags.endpoint,
        callers: flags.callers,
        connections: flags.connections,
        payload: flags.payload,
        way,
        arrival: flags.rate.map_or(Arrival::Closed, Arrival::Open),
        warm_up: Duration::from_secs_f64(flags.warm_up),
        duration,
        stop: CancellationToken::new(),
        pids: flags.pids,
    };
    show(&load.run("enqueue").await?)
}

fn show(report: &sched_tests::load::Report) -> Result<()> {
    eprintln!("{report}");
    println!("{}", serde_json::to_string(report)?);
    Ok(())
}
