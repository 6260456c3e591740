//! One start of `deploy/compose.yaml` under a name of its own, taken down with its volumes when it is dropped.

use std::time::Duration;

use anyhow::{Context, Result};
use sched_tests::{binaries, ports};
use serde_json::Value;
use tokio::process::Command;

use super::engine::{Engine, IMAGE};
use crate::support::{run, run_json};

const UP_LIMIT: Duration = Duration::from_secs(120);
const COMMAND_LIMIT: Duration = Duration::from_secs(60);
const SERVICES: [&str; 3] = ["node1", "node2", "node3"];

/// The running project.
pub(crate) struct Compose<'a> {
    engine: &'a Engine,
    project: String,
    ports: Vec<u16>,
}

impl<'a> Compose<'a> {
    /// Starts all services and returns at once; the cluster forms by itself.
    pub(crate) async fn up(engine: &'a Engine) -> Result<Self> {
        let compose = Self {
            engine,
            project: format!("sched-test-{}", std::process::id()),
            ports: ports::free(SERVICES.len())?,
        };
        run(compose.command(&["up", "-d", "--no-build"]), UP_LIMIT).await?;
        Ok(compose)
    }

    /// The names of the services.
    pub(crate) fn services(&self) -> &'static [&'static str] {
        &SERVICES
    }

    /// Runs `schedcli` from outside of the containers, against the published ports of all services.
    pub(crate) async fn schedcli(&self, arguments: &[&str]) -> Result<Value> {
        let endpoints: Vec<_> = self.ports.iter().map(|port| format!("127.0.0.1:{port}")).collect();
        let mut command = self.engine.command(&binaries::path("schedcli")?.display().to_string());
        command
            .args(["--endpoint", &endpoints.join(","), "--output", "json"])
            .args(arguments);
        run_json(command, COMMAND_LIMIT).await
    }

    /// Runs `docker` and returns what it printed.
    pub(crate) async fn docker(&self, arguments: &[&str]) -> Result<String> {
        let mut command = self.engine.command("docker");
        command.args(arguments);
        run(command, COMMAND_LIMIT).await
    }

    /// The id of a service's container, stopped or not.
    pub(crate) async fn container(&self, service: &str) -> Result<String> {
        let project = format!("label=com.docker.compose.project={}", self.project);
        let service = format!("label=com.docker.compose.service={service}");
        let ids = self
            .docker(&["ps", "--all", "--quiet", "--filter", &project, "--filter", &service])
            .await?;
        ids.lines()
            .next()
            .map(str::to_owned)
            .with_context(|| format!("no container for {service}"))
    }

    /// The last lines of every container.
    pub(crate) fn logs(&self) -> String {
        let output = self.command(&["logs", "--no-color", "--tail=40"]).into_std().output();
        output.map_or_else(
            |error| error.to_string(),
            |output| String::from_utf8_lossy(&output.stdout).into_owned(),
        )
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let (program, first) = self.engine.compose();
        let mut command = self.engine.command(program);
        command.args(first).args(["--project-name", &self.project, "--file"]);
        command
            .arg(binaries::repository().join("deploy/compose.yaml"))
            .args(arguments)
            .env("SCHED_IMAGE", IMAGE);
        for (index, port) in self.ports.iter().enumerate() {
            command.env(format!("SCHED_PORT_{}", index + 1), port.to_string());
        }
        command
    }
}

impl Drop for Compose<'_> {
    fn drop(&mut self) {
        let down = self
            .command(&["down", "--volumes", "--timeout", "1"])
            .into_std()
            .output();
        if !down.as_ref().is_ok_and(|output| output.status.success()) {
            eprintln!("compose down failed: {down:?}");
        }
    }
}
