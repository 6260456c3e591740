//! Running `schedcli` and looking at what it said.

use crate::binaries;
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use tokio::time::timeout;

/// Longest run of the command line.
const LIMIT: Duration = Duration::from_secs(60);

/// Done.
pub const DONE: i32 = 0;
/// Refused by the cluster.
pub const REFUSED: i32 = 1;
/// Wrong usage.
pub const USAGE: i32 = 2;
/// No answer.
pub const UNREACHABLE: i32 = 3;
/// No such task or run.
pub const NOT_FOUND: i32 = 4;

/// What one run of the command line gave.
#[derive(Clone, Debug)]
pub struct Ran {
    line: String,
    /// Its exit code; -1 when a signal ended it.
    pub code: i32,
    /// Data.
    pub stdout: String,
    /// Talk.
    pub stderr: String,
}

impl Ran {
    /// Returns what it printed when it exited with 0.
    ///
    /// # Errors
    /// Another exit code.
    pub fn done(self) -> Result<String> {
        ensure!(self.code == DONE, "expected exit code 0: {self}");
        Ok(self.stdout)
    }

    /// Returns the one JSON document it printed when it exited with 0.
    ///
    /// # Errors
    /// Another exit code, or no JSON.
    pub fn json(self) -> Result<Value> {
        let shown = self.to_string();
        let text = self.done()?;
        serde_json::from_str(&text).with_context(|| format!("no JSON document: {shown}"))
    }

    /// Checks that it failed with this code, printed no data, and said all of `parts` on standard error.
    ///
    /// # Errors
    /// It did not.
    pub fn failed(self, code: i32, parts: &[&str]) -> Result<()> {
        ensure!(self.code == code, "expected exit code {code}: {self}");
        ensure!(self.stdout.is_empty(), "expected nothing on standard output: {self}");
        ensure!(
            !self.stderr.contains("panicked at"),
            "a panic is no error message: {self}"
        );
        for part in parts {
            ensure!(
                self.stderr.contains(part),
                "expected {part:?} on standard error: {self}"
            );
        }
        Ok(())
    }
}

impl std::fmt::Display for Ran {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            line,
            code,
            stdout,
            stderr,
        } = self;
        write!(
            f,
            "`{line:.2000}` exited with {code}\nstdout: {stdout:.4000}\nstderr: {stderr:.4000}"
        )
    }
}

/// The command, not yet started: for what must be watched while it runs.
///
/// # Errors
/// There is no binary.
pub fn command(endpoints: &str, arguments: &[&str]) -> Result<Command> {
    let mut command = Command::new(binaries::path("schedcli")?);
    // The endpoints by environment, as users have it; another variable of ours must not leak in.
    for (variable, _) in std::env::vars_os() {
        if variable.to_string_lossy().starts_with("SCHED_") {
            command.env_remove(variable);
        }
    }
    command
        .env("SCHED_ENDPOINT", endpoints)
        .args(arguments)
        .kill_on_drop(true);
    Ok(command)
}

/// Runs the command line to its end.
///
/// # Errors
/// It cannot be started, or has not ended within a minute.
pub async fn run(endpoints: &str, arguments: &[&str], input: Option<&[u8]>) -> Result<Ran> {
    let mut command = command(endpoints, arguments)?;
    let line = format!("schedcli {}", arguments.join(" "));
    command.stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() });
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().with_context(|| format!("starting `{line:.200}`"))?;
    if let Some((mut pipe, input)) = child.stdin.take().zip(input) {
        // A command that refuses early does not read its input; what it says is what counts.
        let _ = pipe.write_all(input).await;
    }
    let output = timeout(LIMIT, child.wait_with_output()).await;
    let output = output.with_context(|| format!("`{line:.200}` has not ended within {LIMIT:?}"))??;
    Ok(Ran {
        line,
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}
