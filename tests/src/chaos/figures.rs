//! What came of the scenarios: the table of what the project promises, and the same as JSON.

use crate::checker::{self, Class, Report, Verdict};
use crate::stats::Samples;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

/// What came of one scenario.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Outcome {
    /// Which.
    pub mix: String,
    /// What repeats its choices; not its timing.
    pub seed: u64,
    /// How long it took.
    pub seconds: u64,
    /// What the checker says.
    pub report: Report,
    /// What is wrong and no history shows.
    pub wrongs: Vec<String>,
    /// Milliseconds without a leader, by the fault.
    pub leaderless_ms: BTreeMap<String, Vec<u64>>,
    /// Milliseconds from a worker's death until a run of it started again.
    pub restarted_ms: Vec<u64>,
    /// The same, when the leader died with it.
    pub restarted_with_leader_ms: Vec<u64>,
    /// Milliseconds from the return of the power until calls were answered.
    pub serving_ms: Vec<u64>,
    /// Damaged folders, by what their nodes did.
    pub damages: BTreeMap<String, u64>,
    /// Submits refused for want of room, while disks were low.
    pub refused_for_room: u64,
}

impl Outcome {
    /// Whether the cluster kept its promises, and the run shows it.
    pub fn passed(&self) -> bool {
        self.report.verdict() == Verdict::Passed && self.wrongs.is_empty()
    }
}

/// What came of several scenarios.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Figures {
    /// In the order in which they ran.
    pub outcomes: Vec<Outcome>,
}

/// A percentile of fewer says nothing.
const ENOUGH: usize = 20;

/// One line of the table.
struct Row {
    what: &'static str,
    promised: String,
    measured: String,
    kept: bool,
}

impl Figures {
    /// Whether every scenario passed, and every figure that was measured is within what is promised.
    pub fn kept(&self) -> bool {
        self.outcomes.iter().all(Outcome::passed) && self.rows().iter().all(|row| row.kept)
    }

    /// The table.
    pub fn table(&self) -> String {
        let mut text = "| what | promised | measured | |\n|---|---|---|---|\n".to_owned();
        for Row {
            what,
            promised,
            measured,
            kept,
        } in self.rows()
        {
            let kept = if kept { "" } else { "NOT KEPT" };
            // Writing to a string cannot fail.
            let _ = writeln!(text, "| {what} | {promised} | {measured} | {kept} |");
        }
        text
    }

    /// What was seen of the classes of wrongs, over all scenarios.
    fn wrongs(&self, classes: &[Class]) -> u64 {
        let counts = self.outcomes.iter().map(|outcome| outcome.report.by_class());
        counts
            .map(|counts| classes.iter().map(|class| counts[class]).sum::<u64>())
            .sum()
    }

    fn total(&self) -> checker::Figures {
        let mut total = checker::Figures::default();
        self.outcomes
            .iter()
            .for_each(|outcome| total.add(&outcome.report.figures));
        total
    }

    fn samples(&self, of: impl Fn(&Outcome) -> Vec<u64>) -> Samples {
        self.outcomes.iter().flat_map(of).map(Duration::from_millis).collect()
    }

    fn rows(&self) -> Vec<Row> {
        let total = self.total();
        let zero = |what, classes: &[Class], of: String| {
            let count = self.wrongs(classes);
            Row {
                what,
                promised: "0".to_owned(),
                measured: format!("{count} of {of}"),
                kept: count == 0,
            }
        };
        let mut rows = vec![
            zero(
                "acknowledged calls lost",
                &[Class::LostAcknowledgement],
                total.acknowledged.to_string(),
            ),
            zero(
                "occurrences missed, early, orphan",
                &[Class::Missed, Class::Early, Class::Orphan],
                total.occurrences.to_string(),
            ),
            zero(
                "at-most-once double starts",
                &[Class::Doubled],
                total.at_most_once.to_string(),
            ),
            zero(
                "overlap of at-least-once runs not flagged; false successes",
                &[Class::UnflaggedOverlap, Class::FalseSuccess],
                format!(
                    "{} processes, {} further attempts, {} overlaps flagged",
                    total.processes, total.further_attempts, total.flagged_overlaps
                ),
            ),
            zero(
                "linearizability violations",
                &[Class::NotLinearizable],
                format!("{} calls", total.operations),
            ),
            zero(
                "replicas that differ",
                &[Class::ReplicasDiffer],
                format!("{} runs of scenarios", self.outcomes.len()),
            ),
        ];
        rows.extend(self.leaderless());
        rows.extend(
            self.longest("at-least-once run started again after its worker died", 12_000, |o| {
                o.restarted_ms.clone()
            }),
        );
        rows.extend(self.longest("the same, when the leader died with it", 15_000, |o| {
            o.restarted_with_leader_ms.clone()
        }));
        rows.push(zero(
            "due and neither running nor terminal 15 s after a heal",
            &[Class::Stuck],
            format!(
                "{} faults; the latest start {} ms after a heal",
                total.faults.values().sum::<u64>(),
                total.after_heal_ms_max
            ),
        ));
        rows.extend(self.longest("serving after a power cut of all nodes", 10_000, |o| {
            o.serving_ms.clone()
        }));
        rows.extend(self.damages());
        rows
    }

    fn leaderless(&self) -> Vec<Row> {
        let mut by_fault: BTreeMap<&str, Samples> = BTreeMap::new();
        let mut all = Samples::default();
        for (fault, ms) in self.outcomes.iter().flat_map(|outcome| &outcome.leaderless_ms) {
            let samples: Samples = ms.iter().copied().map(Duration::from_millis).collect();
            all.add(&samples);
            by_fault.entry(fault).or_default().add(&samples);
        }
        if all.is_empty() {
            return Vec::new();
        }
        let each: Vec<String> = by_fault
            .iter()
            .map(|(fault, samples)| format!("{fault} {}: p50 {:.0}", samples.len(), samples.summary().p50_ms))
            .collect();
        let summary = all.summary();
        vec![Row {
            what: "time without a leader after kill, SIGSTOP, partition of the leader",
            promised: "p50 at most 1 s, p99 at most 2 s".to_owned(),
            measured: format!(
                "p50 {:.0} ms, p99 {:.0} ms, {} of them ({})",
                summary.p50_ms,
                summary.p99_ms,
                summary.count,
                each.join(", ")
            ),
            kept: summary.count < ENOUGH || (summary.p50_ms <= 1000.0 && summary.p99_ms <= 2000.0),
        }]
    }

    fn longest(&self, what: &'static str, limit_ms: u64, of: impl Fn(&Outcome) -> Vec<u64>) -> Option<Row> {
        let samples = self.samples(of);
        let summary = samples.summary();
        (!samples.is_empty()).then(|| Row {
            what,
            promised: format!("at most {} s", limit_ms / 1000),
            measured: format!(
                "p50 {:.1} s, longest {:.1} s, {} of them",
                summary.p50_ms / 1000.0,
                summary.max_ms / 1000.0,
                summary.count
            ),
            kept: summary.max_ms <= limit_ms as f64,
        })
    }

    fn damages(&self) -> Option<Row> {
        let mut by_end: BTreeMap<&str, u64> = BTreeMap::new();
        for (end, count) in self.outcomes.iter().flat_map(|outcome| &outcome.damages) {
            *by_end.entry(end).or_default() += count;
        }
        let ends: Vec<String> = by_end.iter().map(|(end, count)| format!("{count} {end}")).collect();
        let wrong = self
            .outcomes
            .iter()
            .filter(|outcome| !outcome.damages.is_empty())
            .any(|outcome| !outcome.wrongs.is_empty());
        (!by_end.is_empty()).then(|| Row {
            what: "bit flips and truncations on a minority",
            promised: "no wrong answer, no crash loop; the node stops itself and says how to replace it".to_owned(),
            measured: format!("{}: {}", by_end.values().sum::<u64>(), ends.join(", ")),
            kept: !wrong,
        })
    }
}
