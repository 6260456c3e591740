//! Measures acknowledged proposals: three replicas in one process, real logs with synced writes, many callers.
//!
//! ```text
//! cargo run -p sched-raft --example throughput -- [seconds] [callers] [payload bytes] [replicas] [entries per snapshot] [entries in flight]
//! ```

use sched_core::command::{Command, Item};
use sched_core::schedule::Schedule;
use sched_core::task::{Action, NextRun, Policy, TaskSpec};
use sched_core::{RequestKey, Timestamp};
use sched_raft::{Options, Origin, Replica};
use sched_storage::DataDir;
use std::error::Error;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_millis(since.as_millis() as i64)
}

fn submit(nonce: u128, payload: usize) -> Item {
    let spec = TaskSpec {
        namespace: "default".to_owned(),
        name: None,
        labels: Default::default(),
        owner: "bench".to_owned(),
        description: String::new(),
        schedule: Schedule::Manual,
        action: Action::Sample {
            succeed: true,
            duration_ms: 0,
            payload: vec![7; payload],
        },
        policy: Policy::default(),
        bounds: Default::default(),
    };
    let request = RequestKey::Client {
        expires_at: now().plus_millis(600_000),
        nonce,
    };
    let command = Command::Submit {
        spec: Box::new(spec),
        first: NextRun::Never,
    };
    Item {
        request: Some(request),
        principal: "bench".to_owned(),
        command,
    }
}

async fn caller(replica: Replica, number: u128, payload: usize, until: Instant) -> Vec<Duration> {
    let mut latencies = Vec::new();
    let mut count: u128 = 0;
    while Instant::now() < until {
        count += 1;
        let begun = Instant::now();
        let answers = replica
            .propose(Origin::default(), vec![submit(number << 64 | count, payload)])
            .await;
        if answers.iter().all(Result::is_ok) {
            latencies.push(begun.elapsed());
        } else {
            eprintln!("{answers:?}");
        }
    }
    latencies
}

async fn start(
    replicas: usize,
    snapshot_entries: usize,
    in_flight: usize,
    dir: &std::path::Path,
) -> Result<Vec<Replica>, Box<dyn Error>> {
    let listeners: Vec<TcpListener> = (0..replicas)
        .map(|_| TcpListener::bind("127.0.0.1:0"))
        .collect::<Result<_, _>>()?;
    let list: Vec<String> = listeners
        .iter()
        .map(|l| Ok(l.local_addr()?.to_string()))
        .collect::<std::io::Result<_>>()?;
    let mut started = Vec::new();
    for (n, listener) in listeners.into_iter().enumerate() {
        let data = DataDir::open(&dir.join(n.to_string()))?;
        let mut options = Options::new(
            listener,
            list[n].clone(),
            format!("127.0.0.1:{}", 7400 + n),
            Arc::new(now),
        );
        options.initial_cluster.clone_from(&list);
        options.in_flight_entries_max = in_flight;
        if snapshot_entries > 0 {
            options.snapshot_entries = snapshot_entries as u64;
            options.log_keep_entries = snapshot_entries as u64 / 2;
        }
        started.push(Replica::start(data, options).await?);
    }
    for replica in &started {
        replica.wait_formed(Duration::from_secs(60)).await?;
    }
    Ok(started)
}

#[tokio::main(flavor = "multi_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<usize> = std::env::args().skip(1).map(|a| a.parse()).collect::<Result<_, _>>()?;
    let argument = |n: usize, default: usize| arguments.get(n).copied().unwrap_or(default);
    let (seconds, callers, payload, replicas) = (argument(0, 10), argument(1, 256), argument(2, 256), argument(3, 3));
    tracing_subscriber::fmt().with_max_level(tracing::Level::WARN).init();
    let dir = tempfile::tempdir()?;
    let started = start(replicas, argument(4, 0), argument(5, 4), dir.path()).await?;
    let leader = loop {
        let leading = started.iter().find(|replica| replica.roles().borrow().leading);
        if let Some(leader) = leading {
            break leader.clone();
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    let until = Instant::now() + Duration::from_secs(seconds as u64);
    let begun = Instant::now();
    let tasks: Vec<_> = (0..callers)
        .map(|n| tokio::spawn(caller(leader.clone(), n as u128, payload, until)))
        .collect();
    let mut latencies = Vec::new();
    for task in tasks {
        latencies.extend(task.await?);
    }
    let took = begun.elapsed().as_secs_f64();
    latencies.sort();
    let at = |part: f64| {
        latencies
            .get((latencies.len() as f64 * part) as usize)
            .copied()
            .unwrap_or_default()
    };
    let metrics = leader.metrics();
    println!(
        "{replicas} replicas, {callers} callers, {payload} bytes: {:.0} proposals/s, p50 {:?}, p99 {:?}, {:.1} commands per entry",
        latencies.len() as f64 / took,
        at(0.5),
        at(0.99),
        metrics.proposed_items as f64 / metrics.proposed_entries.max(1) as f64,
    );
    println!("leader: {metrics:?}");
    for replica in &started {
        replica.shutdown().await;
    }
    Ok(())
}
