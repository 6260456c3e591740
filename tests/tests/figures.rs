//! The promised figures in short, with bounds that a busy machine keeps and a regression does not. `make bench` measures them in full.

use anyhow::ensure;
use sched_tests::load::Way;
use sched_tests::{Plan, figures, scenario};
use std::time::Duration;

/// The promise is 10,000 on two cores that do nothing else.
const ENQUEUES_PER_SECOND: f64 = 3_000.0;
/// The promise is 50 ms.
const LATENESS_P99_MS: f64 = 150.0;
/// The promise is 5 s for 100,000 tasks.
const RESTART_SECONDS: f64 = 5.0;
/// A fifth of what `make bench` takes.
const RESTART_TASKS: usize = 20_000;

#[test]
fn enqueues_are_acknowledged_fast() {
    scenario(Plan::nodes(3), Duration::from_secs(60), async |cluster| {
        let report = figures::enqueue(cluster, "enqueue, a call each", Way::Unary, Duration::from_secs(5)).await?;
        println!("{report}");
        ensure!(report.errors == 0, "{report}");
        ensure!(
            report.ops_per_second >= ENQUEUES_PER_SECOND,
            "fewer than {ENQUEUES_PER_SECOND}/s: {report}"
        );
        Ok(())
    });
}

#[test]
fn runs_are_on_time() {
    scenario(Plan::nodes(3), Duration::from_secs(90), async |cluster| {
        let report = figures::lateness(cluster, Duration::from_secs(8)).await?;
        println!("{report}");
        ensure!(
            report.latency.p99_ms <= LATENESS_P99_MS,
            "later than {LATENESS_P99_MS} ms: {report}"
        );
        Ok(())
    });
}

#[test]
fn nodes_come_back_fast_to_a_long_queue() {
    scenario(Plan::nodes(3), Duration::from_secs(120), async |cluster| {
        let restart = figures::restart(cluster, RESTART_TASKS).await?;
        println!("{restart:?}");
        for seconds in [restart.follower_seconds, restart.leader_seconds, restart.all_seconds] {
            ensure!(
                seconds <= RESTART_SECONDS,
                "longer than {RESTART_SECONDS} s: {restart:?}"
            );
        }
        Ok(())
    });
}
