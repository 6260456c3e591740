//! The judge of runs under faults: pure functions from a [`History`] to a [`Report`].
//!
//! A harness records what it asked of the cluster, what the recorder saw of the processes, which faults it injected with what
//! proof, and what every replica held after the last heal. [`check`] compares the four. It knows nothing of how a history came
//! about, so the same judge serves real clusters, simulations and the generated histories that test it.
//!
//! An occurrence that had to run is a *target*: an instant at which it is due, and a deadline. Deadlines are moved by faults: what
//! falls into one counts from its heal. Targets are matched with runs in one sweep, earliest deadline first, by what the recorder
//! saw and not by what the cluster says of it.
//!
//! A history that shows no wrong is not yet a proof: when a fault has no evidence, was never healed, or the state was read too
//! soon, it is rejected, which a caller must treat as a failure of the run.

mod attempts;
mod case;
mod history;
mod linear;
mod replicas;
mod report;
mod starts;
mod sweep;
mod targets;
mod timeline;
mod validity;

pub use history::{
    Answer, Asked, Bounds, Call, Delivery, Evidence, EvidenceKind, FORMAT, Fault, FaultKind, History, Operation, Plan,
    Process, Replica, RunFound, TaskAsked, TaskFound, Told,
};
pub use report::{Accusation, Class, Figures, Report, Verdict};

use timeline::Timeline;

/// Judges a history.
pub fn check(history: &History) -> Report {
    let mut report = Report::default();
    let timeline = Timeline::new(history.bounds, &history.faults);
    validity::judge(history, &timeline, &mut report);
    for fault in &history.faults {
        *report.figures.faults.entry(format!("{:?}", fault.kind)).or_default() += 1;
    }
    report.figures.processes = history.processes.len() as u64;
    for task in &history.tasks {
        match task.answer {
            Answer::Accepted { .. } => report.figures.acknowledged += 1,
            Answer::Unknown => report.figures.unknown += 1,
            Answer::Refused { .. } => {}
        }
    }
    let (cases, nobodys) = case::cases(history, &timeline);
    for case in &cases {
        starts::judge(case, &mut report);
        attempts::judge(case, &mut report);
        attempts::tokens(case, &mut report);
    }
    for process in nobodys {
        let detail = format!(
            "started at {} for {:?}, which nobody asked for",
            process.started_at_ms, process.key
        );
        report.accuse(Class::Orphan, &process.run, detail);
    }
    replicas::judge(history, &mut report);
    linear::judge(history, &mut report);
    report
}

/// The task's id and when the answer had come, if it was accepted.
fn accepted(answer: &Answer) -> Option<(u64, i64)> {
    match answer {
        Answer::Accepted { task, at_ms } => Some((*task, *at_ms)),
        Answer::Refused { .. } | Answer::Unknown => None,
    }
}
