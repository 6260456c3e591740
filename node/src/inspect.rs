//! `schednode check`: looks at the data folder of a node that does not run.

use sched_core::check::check;
use sched_storage::{DataDir, StorageError};
use std::fmt::Write;
use std::path::Path;

/// What a check found.
pub struct Report {
    /// For people.
    pub text: String,
    /// Nothing is wrong.
    pub sound: bool,
}

/// Opens a data folder, reads all of its tables and checks every invariant.
///
/// # Errors
/// The folder is not one, is in use, or is damaged.
pub fn inspect(path: &Path) -> Result<Report, StorageError> {
    let data = DataDir::open(path)?;
    let identity = data.identity();
    let mut text = String::new();
    let _ = writeln!(text, "data folder  {}", path.display());
    let _ = writeln!(text, "node         {}", identity.node);
    let cluster = identity
        .cluster
        .map(|id| id.iter().map(|byte| format!("{byte:02x}")).collect::<String>());
    let _ = writeln!(text, "cluster      {}", cluster.as_deref().unwrap_or("none yet"));
    let group = data.group(0)?;
    let view = group.state.view();
    let findings = match check(&view) {
        Ok(findings) => findings,
        Err(fault) => vec![fault.to_string()],
    };
    if let Ok(meta) = crate::state::meta(&view) {
        let _ = writeln!(text, "time         {}", meta.now);
        let _ = writeln!(text, "tasks        {} ({} waiting)", meta.tasks, meta.waiting);
        let live = format!(
            "{} ready, {} running, {} delayed, {} lost",
            meta.ready, meta.running, meta.delayed, meta.lost
        );
        let _ = writeln!(
            text,
            "runs         {live}, {} finished, {} failed",
            meta.finished, meta.failed
        );
        let _ = writeln!(text, "spool        {} operations", meta.spooled());
    }
    for finding in &findings {
        let _ = writeln!(text, "broken       {finding}");
    }
    let _ = writeln!(
        text,
        "{}",
        if findings.is_empty() {
            "sound: every invariant holds"
        } else {
            "not sound"
        }
    );
    Ok(Report {
        text,
        sound: findings.is_empty(),
    })
}
