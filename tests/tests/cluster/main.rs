//! A three-node cluster as its users meet it: formed from the printed command lines, driven by the command line tool.

mod clocks;
mod damage;
mod definitions;
mod files;
mod formation;
mod members;
mod misplaced;
mod policies;
mod readme;
mod runs;
mod scheduler;
mod schedules;
mod tasks;
mod workers;

use anyhow::{Context, Result, ensure};
use sched_tests::{Cluster, eventually};
use serde_json::Value;
use std::time::Duration;

/// Longest scenario of this binary that waits for nothing in particular.
const LIMIT: Duration = Duration::from_secs(120);
/// Something that is due now has happened within this.
const SOON: Duration = Duration::from_secs(10);

/// The entries of a list that was printed as JSON.
fn rows(document: &Value) -> Result<&Vec<Value>> {
    document
        .as_array()
        .with_context(|| format!("expected a list: {document}"))
}

/// A text in a document.
fn text<'a>(document: &'a Value, key: &str) -> Result<&'a str> {
    document[key]
        .as_str()
        .with_context(|| format!("no text {key:?} in {document}"))
}

/// Waits until a sentence of `explain` holds a text.
async fn explained(cluster: &Cluster, what: &str, expected: &str) -> Result<()> {
    eventually(expected, SOON, async || {
        let said = cluster.cli(&["explain", what]).await?.done()?;
        ensure!(said.contains(expected), "{said}");
        Ok(())
    })
    .await
}
