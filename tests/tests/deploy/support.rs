//! Commands with a time limit, reading of documents, and the way to say that a test cannot run here.

use std::fmt::Display;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;
use tokio::process::Command;
use tokio::time::timeout;

/// Says why a test does nothing on this machine; with `CI=true` it fails instead.
///
/// # Errors
/// Where `CI` is set, what cannot run has not been shown to work.
pub(crate) fn cannot_run(reason: impl Display) -> Result<()> {
    if std::env::var("CI").is_ok_and(|value| value == "true" || value == "1") {
        bail!("cannot run here, and CI is set: {reason}");
    }
    eprintln!("NOT RUN: {reason}");
    Ok(())
}

/// Tells whether the machine has a program.
pub(crate) async fn has(program: &str) -> bool {
    let mut command = Command::new("sh");
    command.args(["-c", "command -v \"$1\"", "sh", program]);
    run(command, Duration::from_secs(10)).await.is_ok()
}

/// Runs a command to its end and returns what it printed; another exit code than 0, or none within `limit`, is an error.
pub(crate) async fn run(mut command: Command, limit: Duration) -> Result<String> {
    let line = format!("{:?}", command.as_std());
    command.kill_on_drop(true).stdin(Stdio::null());
    let output = timeout(limit, command.output()).await;
    let output = output
        .with_context(|| format!("{line}: no end within {limit:?}"))?
        .with_context(|| line.clone())?;
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(stdout);
    }
    bail!(
        "{line}: {}\n{stdout}{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    )
}

/// Like [`run`], for a command that prints one JSON document.
pub(crate) async fn run_json(command: Command, limit: Duration) -> Result<Value> {
    let line = format!("{:?}", command.as_std());
    let text = run(command, limit).await?;
    serde_json::from_str(&text).with_context(|| format!("{line}: not JSON: {text:?}"))
}

/// Follows a path of keys and indexes through a document; a missing step is an error that names it.
pub(crate) fn at<'a>(document: &'a Value, pointer: &str) -> Result<&'a Value> {
    document
        .pointer(pointer)
        .with_context(|| format!("no {pointer} in {document}"))
}

/// Like [`at`], for a text.
pub(crate) fn text_at<'a>(document: &'a Value, pointer: &str) -> Result<&'a str> {
    at(document, pointer)?
        .as_str()
        .with_context(|| format!("{pointer} is not a text in {document}"))
}

/// Like [`at`], for a list.
pub(crate) fn list_at<'a>(document: &'a Value, pointer: &str) -> Result<&'a Vec<Value>> {
    at(document, pointer)?
        .as_array()
        .with_context(|| format!("{pointer} is not a list in {document}"))
}

/// Like [`at`], for a map.
pub(crate) fn map_at<'a>(document: &'a Value, pointer: &str) -> Result<&'a serde_json::Map<String, Value>> {
    at(document, pointer)?
        .as_object()
        .with_context(|| format!("{pointer} is not a map in {document}"))
}

/// Like [`at`], for a whole number.
pub(crate) fn number_at(document: &Value, pointer: &str) -> Result<u64> {
    at(document, pointer)?
        .as_u64()
        .with_context(|| format!("{pointer} is not a number in {document}"))
}
