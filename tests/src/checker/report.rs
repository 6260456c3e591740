//! What the checker says of a history.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// What a cluster can do wrong.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// An occurrence did not run, or began after its deadline with nothing to excuse it.
    Missed,
    /// A run began before its occurrence was due.
    Early,
    /// A run that nobody asked for: of a refused or unknown task, or one more than there are occurrences.
    Orphan,
    /// An at-most-once occurrence, or one attempt token, was started twice.
    Doubled,
    /// Two attempts of an at-least-once run were alive at once, and the run does not say so.
    UnflaggedOverlap,
    /// A run is FINISHED, and no process of it ended well.
    FalseSuccess,
    /// An acknowledged call is not to be found in a replica.
    LostAcknowledgement,
    /// Due, and neither running nor terminal when the time after a heal was over.
    Stuck,
    /// Two replicas say different things.
    ReplicasDiffer,
    /// The answers of the API have no order in which they make sense.
    NotLinearizable,
}

impl Class {
    /// All of them.
    pub const ALL: [Class; 10] = [
        Class::Missed,
        Class::Early,
        Class::Orphan,
        Class::Doubled,
        Class::UnflaggedOverlap,
        Class::FalseSuccess,
        Class::LostAcknowledgement,
        Class::Stuck,
        Class::ReplicasDiffer,
        Class::NotLinearizable,
    ];
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Class::Missed => "missed",
            Class::Early => "early",
            Class::Orphan => "orphan",
            Class::Doubled => "doubled",
            Class::UnflaggedOverlap => "unflagged overlap",
            Class::FalseSuccess => "false success",
            Class::LostAcknowledgement => "lost acknowledgement",
            Class::Stuck => "stuck after heal",
            Class::ReplicasDiffer => "replicas differ",
            Class::NotLinearizable => "not linearizable",
        })
    }
}

/// One thing the cluster did wrong.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Accusation {
    /// What.
    pub class: Class,
    /// Of which task, run or node.
    pub subject: String,
    /// What was seen and what was to be expected, with the instants.
    pub detail: String,
}

impl fmt::Display for Accusation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.class, self.subject, self.detail)
    }
}

/// What was looked at, so that a figure of zero accusations says out of how many.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Figures {
    /// Acknowledged submits, each looked for in every replica.
    pub acknowledged: u64,
    /// Calls whose outcome stayed unknown.
    pub unknown: u64,
    /// Occurrences that had to run, each matched with a run.
    pub occurrences: u64,
    /// Of them, of at-most-once tasks.
    pub at_most_once: u64,
    /// Processes heard.
    pub processes: u64,
    /// Attempts beyond the first of their runs.
    pub further_attempts: u64,
    /// Runs whose attempts overlapped, and which say so.
    pub flagged_overlaps: u64,
    /// Runs that are LOST.
    pub lost: u64,
    /// Calls judged for linearizability.
    pub operations: u64,
    /// Tasks whose calls could not be judged within the bound of the search.
    pub operations_undecided: u64,
    /// The longest time from due to start, of those that no fault excuses, in milliseconds.
    pub late_ms_max: i64,
    /// The longest time from a heal to the start of what had been due, in milliseconds.
    pub after_heal_ms_max: i64,
    /// Faults, by kind.
    pub faults: BTreeMap<String, u64>,
}

impl Figures {
    /// Adds those of another history.
    pub fn add(&mut self, other: &Self) {
        self.acknowledged += other.acknowledged;
        self.unknown += other.unknown;
        self.occurrences += other.occurrences;
        self.at_most_once += other.at_most_once;
        self.processes += other.processes;
        self.further_attempts += other.further_attempts;
        self.flagged_overlaps += other.flagged_overlaps;
        self.lost += other.lost;
        self.operations += other.operations;
        self.operations_undecided += other.operations_undecided;
        self.late_ms_max = self.late_ms_max.max(other.late_ms_max);
        self.after_heal_ms_max = self.after_heal_ms_max.max(other.after_heal_ms_max);
        for (kind, count) in &other.faults {
            *self.faults.entry(kind.clone()).or_default() += count;
        }
    }
}

/// The checker's answer.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Report {
    /// What the cluster did wrong.
    pub accusations: Vec<Accusation>,
    /// Why the history proves nothing: its fault did not take place, or what is needed to judge is not there.
    pub rejections: Vec<String>,
    /// What was looked at.
    pub figures: Figures,
}

/// The answer in a word.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Judged, and nothing found.
    Passed,
    /// The cluster did wrong, whatever else is to be said of the history.
    Accused,
    /// Nothing found, and nothing proved.
    Rejected,
}

impl Report {
    /// Returns the answer in a word.
    pub fn verdict(&self) -> Verdict {
        if !self.accusations.is_empty() {
            Verdict::Accused
        } else if !self.rejections.is_empty() {
            Verdict::Rejected
        } else {
            Verdict::Passed
        }
    }

    /// How many accusations there are of each class, zeros included.
    pub fn by_class(&self) -> BTreeMap<Class, u64> {
        let mut counts: BTreeMap<Class, u64> = Class::ALL.iter().map(|class| (*class, 0)).collect();
        for accusation in &self.accusations {
            *counts.entry(accusation.class).or_default() += 1;
        }
        counts
    }

    pub(super) fn accuse(&mut self, class: Class, subject: impl Into<String>, detail: impl Into<String>) {
        self.accusations.push(Accusation {
            class,
            subject: subject.into(),
            detail: detail.into(),
        });
    }

    pub(super) fn reject(&mut self, why: impl Into<String>) {
        self.rejections.push(why.into());
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:?}", self.verdict())?;
        for why in &self.rejections {
            writeln!(f, "rejected: {why}")?;
        }
        // A broken cluster breaks everything alike: the first ones say it.
        const SHOWN: usize = 50;
        for accusation in self.accusations.iter().take(SHOWN) {
            writeln!(f, "{accusation}")?;
        }
        if self.accusations.len() > SHOWN {
            writeln!(f, "and {} more", self.accusations.len() - SHOWN)?;
        }
        for (class, count) in self.by_class() {
            writeln!(f, "{count:>8}  {class}")?;
        }
        let figures = &self.figures;
        writeln!(
            f,
            "of {} acknowledged submits, {} occurrences ({} at-most-once), {} processes, {} calls, under {:?}",
            figures.acknowledged,
            figures.occurrences,
            figures.at_most_once,
            figures.processes,
            figures.operations,
            figures.faults
        )
    }
}
