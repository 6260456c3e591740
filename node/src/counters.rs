//! What the node counts, and its page for Prometheus. Counted here, never in `apply`: a replay would count twice.

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};

/// A number that only grows, from the start of the process.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds to it.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    /// Returns it.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Upper bounds of the buckets of lateness, in milliseconds; the last bucket is open.
const LATENESS_MS: [u64; 14] = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 15_000, 60_000];

/// How late runs were handed to a worker.
#[derive(Debug, Default)]
pub struct Lateness {
    buckets: [AtomicU64; LATENESS_MS.len() + 1],
    sum_ms: AtomicU64,
}

impl Lateness {
    /// Notes one run.
    pub fn observe(&self, late_ms: u64) {
        let bucket = LATENESS_MS.partition_point(|bound| *bound < late_ms);
        self.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        self.sum_ms.fetch_add(late_ms, Ordering::Relaxed);
    }

    /// Returns how many runs were at most so late, and later than the bucket before says; the last bound is open.
    pub fn buckets(&self) -> impl Iterator<Item = (Option<u64>, u64)> {
        let bounds = LATENESS_MS.iter().copied().map(Some).chain([None]);
        bounds.zip(self.buckets.iter().map(|bucket| bucket.load(Ordering::Relaxed)))
    }

    fn render(&self, text: &mut String) {
        let name = "sched_run_lateness_seconds";
        let _ = writeln!(
            text,
            "# HELP {name} From the scheduled instant of a run to its hand-over to a worker."
        );
        let _ = writeln!(text, "# TYPE {name} histogram");
        let mut total = 0;
        for (bound, bucket) in LATENESS_MS.iter().zip(&self.buckets) {
            total += bucket.load(Ordering::Relaxed);
            let _ = writeln!(text, "{name}_bucket{{le=\"{}\"}} {total}", seconds(*bound));
        }
        total += self.buckets[LATENESS_MS.len()].load(Ordering::Relaxed);
        let _ = writeln!(text, "{name}_bucket{{le=\"+Inf\"}} {total}");
        let _ = writeln!(text, "{name}_sum {}", seconds(self.sum_ms.load(Ordering::Relaxed)));
        let _ = writeln!(text, "{name}_count {total}");
    }
}

fn seconds(ms: u64) -> String {
    format!("{}.{:03}", ms / 1000, ms % 1000)
}

/// All counters of a node.
#[derive(Debug, Default)]
pub struct Counters {
    /// Tasks accepted through this node.
    pub submitted: Counter,
    /// Runs created by this leader's ticker.
    pub fired: Counter,
    /// Occurrences this leader's ticker declared missed.
    pub missed: Counter,
    /// Occurrences this leader's ticker skipped because of a calendar.
    pub closed: Counter,
    /// Attempts given to workers by this leader.
    pub assigned: Counter,
    /// Items of fire and assign that the state refused.
    pub refused: Counter,
    /// Reports of workers recorded.
    pub completed: Counter,
    /// Reports recorded under a token that was no longer current.
    pub stale: Counter,
    /// Attempts that workers did not start.
    pub nacked: Counter,
    /// Reports refused: of attempts that were never given to whoever reported them.
    pub reports_refused: Counter,
    /// Workers refused: of another cluster, or named as another one that is connected.
    pub workers_refused: Counter,
    /// Workers' journals refused: restored or copied.
    pub journals_refused: Counter,
    /// Sessions that this leader expired.
    pub sessions_expired: Counter,
    /// Searches for a next time that met their bound.
    pub gave_up: Counter,
    /// Notifications this leader sent.
    pub notices_sent: Counter,
    /// Notifications this leader gave up.
    pub notices_failed: Counter,
    /// Notifications this leader dropped because too many waited.
    pub notices_dropped: Counter,
    /// Calls taken.
    pub calls: Counter,
    /// Calls passed on to the leader.
    pub forwarded: Counter,
    /// Calls refused because too many were in progress.
    pub overloaded: Counter,
    /// Connections taken.
    pub connections: Counter,
    /// Connections ended because nothing sensible came in time.
    pub connections_timed_out: Counter,
    /// How late runs were handed to a worker.
    pub lateness: Lateness,
}

impl Counters {
    /// Appends them in the text format of Prometheus.
    pub fn render(&self, text: &mut String) {
        let counters = [
            (
                "sched_tasks_submitted_total",
                "Tasks accepted through this node.",
                &self.submitted,
            ),
            (
                "sched_runs_fired_total",
                "Runs created by this node as leader.",
                &self.fired,
            ),
            (
                "sched_occurrences_closed_total",
                "Occurrences skipped because of a calendar by this node as leader.",
                &self.closed,
            ),
            (
                "sched_occurrences_missed_total",
                "Occurrences declared missed by this node as leader.",
                &self.missed,
            ),
            (
                "sched_attempts_assigned_total",
                "Attempts given to workers by this node as leader.",
                &self.assigned,
            ),
            (
                "sched_plans_refused_total",
                "Items of fire and assign that the state refused.",
                &self.refused,
            ),
            (
                "sched_reports_recorded_total",
                "Reports of workers recorded by this node as leader.",
                &self.completed,
            ),
            (
                "sched_reports_stale_total",
                "Reports under a token that was not current.",
                &self.stale,
            ),
            (
                "sched_reports_refused_total",
                "Reports of attempts that were never given to whoever reported them.",
                &self.reports_refused,
            ),
            (
                "sched_workers_refused_total",
                "Workers refused: of another cluster, or named as another one that is connected.",
                &self.workers_refused,
            ),
            (
                "sched_journals_refused_total",
                "Workers' journals refused: restored or copied.",
                &self.journals_refused,
            ),
            (
                "sched_attempts_nacked_total",
                "Attempts that workers did not start.",
                &self.nacked,
            ),
            (
                "sched_sessions_expired_total",
                "Sessions of workers whose lease was over.",
                &self.sessions_expired,
            ),
            (
                "sched_searches_gave_up_total",
                "Searches for a next time that met their bound.",
                &self.gave_up,
            ),
            (
                "sched_notifications_sent_total",
                "Notifications sent by this node as leader.",
                &self.notices_sent,
            ),
            (
                "sched_notifications_failed_total",
                "Notifications given up by this node as leader.",
                &self.notices_failed,
            ),
            (
                "sched_notifications_dropped_total",
                "Notifications dropped by this node as leader because too many waited.",
                &self.notices_dropped,
            ),
            ("sched_calls_total", "Calls of clients taken.", &self.calls),
            (
                "sched_calls_forwarded_total",
                "Calls of clients passed on to the leader.",
                &self.forwarded,
            ),
            (
                "sched_calls_overloaded_total",
                "Calls refused because too many were in progress.",
                &self.overloaded,
            ),
            (
                "sched_connections_total",
                "Connections taken on the client port.",
                &self.connections,
            ),
            (
                "sched_connections_timed_out_total",
                "Connections ended because nothing sensible came in time.",
                &self.connections_timed_out,
            ),
        ];
        for (name, help, counter) in counters {
            metric(text, name, "counter", help, counter.get());
        }
        self.lateness.render(text);
    }
}

/// Appends one number with its documentation.
pub fn metric(text: &mut String, name: &str, kind: &str, help: &str, value: u64) {
    let _ = writeln!(text, "# HELP {name} {help}");
    let _ = writeln!(text, "# TYPE {name} {kind}");
    let _ = writeln!(text, "{name} {value}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lateness_is_cumulative() {
        let lateness = Lateness::default();
        for late in [0, 1, 2, 50, 51, 100_000] {
            lateness.observe(late);
        }
        let mut text = String::new();
        lateness.render(&mut text);
        for line in [
            "le=\"0.001\"} 2",
            "le=\"0.050\"} 4",
            "le=\"60.000\"} 5",
            "le=\"+Inf\"} 6",
            "_sum 100.104",
            "_count 6",
        ] {
            assert!(text.contains(line), "{line} in\n{text}");
        }
    }
}
