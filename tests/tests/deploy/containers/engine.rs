//! The container engine: the one that runs on this machine, or one that lives and dies with the test.

use std::fs::File;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use rustix::process::{Pid, Signal, kill_process};
use sched_tests::{binaries, eventually};
use tempfile::TempDir;
use tokio::process::{Child, Command};

use crate::support::{has, run};

/// The image the test builds; not the name that a user would have.
pub(crate) const IMAGE: &str = "sched-test:latest";
const BASE: &str = "sched-test-base:latest";

const START_LIMIT: Duration = Duration::from_secs(60);
const COMMAND_LIMIT: Duration = Duration::from_secs(60);
const BASE_LIMIT: Duration = Duration::from_secs(600);

/// Where containers run.
pub(crate) struct Engine {
    compose: (&'static str, &'static [&'static str]),
    own: Option<Own>,
}

/// An engine that this test started.
struct Own {
    /// `unshare`, which ends when the engine does, and kills it when it is killed itself.
    guardian: Child,
    /// The engine, the first process of its own pid namespace.
    pid: u32,
    host: String,
    /// Removed once the engine has ended: a field is dropped after `drop` has run.
    _folder: TempDir,
}

impl Engine {
    /// Takes the engine that answers, or starts one; the inner error says what the machine lacks for either.
    pub(crate) async fn find_or_start() -> Result<Result<Self, String>> {
        let Some(compose) = compose_program().await else {
            return Ok(Err(
                "docker-compose is missing (scripts/setup.sh test installs it for root)".into(),
            ));
        };
        let root = rustix::process::getuid().is_root();
        let has_base = base_archive()?.exists() || root && has("debootstrap").await;
        if !has_base {
            return Ok(Err(
                "there is no base image, and making one needs root and debootstrap".into()
            ));
        }
        let mut version = Command::new("docker");
        version.args(["version", "--format", "{{.Server.Version}}"]);
        if run(version, COMMAND_LIMIT).await.is_ok() {
            return Ok(Ok(Self { compose, own: None }));
        }
        for program in ["docker", "dockerd", "setpriv", "unshare", "nsenter", "ip", "iptables"] {
            if !has(program).await {
                return Ok(Err(format!(
                    "no container engine answers, and {program} is missing to start one"
                )));
            }
        }
        if !root {
            return Ok(Err("no container engine answers, and only root can start one".into()));
        }
        Ok(Ok(Self {
            compose,
            own: Some(Own::start().await?),
        }))
    }

    /// How compose is called here: as a plugin of docker, or as a program.
    pub(crate) fn compose(&self) -> (&'static str, &'static [&'static str]) {
        self.compose
    }

    /// A command that talks to this engine and sees the ports it publishes.
    pub(crate) fn command(&self, program: &str) -> Command {
        let Some(own) = &self.own else {
            return Command::new(program);
        };
        let mut command = Command::new("nsenter");
        command
            .args(["--net", "--target", &own.pid.to_string(), "--", program])
            .env("DOCKER_HOST", &own.host);
        command
    }

    /// Builds the image by the script that users have, from this build's binaries, on a base made on this machine.
    pub(crate) async fn build_image(&self) -> Result<()> {
        for name in ["schednode", "schedcli"] {
            binaries::path(name)?;
        }
        let base = base_archive()?;
        let mut make = Command::new(binaries::repository().join("scripts/base-image.sh"));
        make.arg(&base);
        run(make, BASE_LIMIT).await?;
        let mut import = self.command("docker");
        import.arg("import").arg(&base).arg(BASE);
        run(import, COMMAND_LIMIT).await?;

        let script = binaries::repository().join("deploy/image.sh");
        let mut build = self.command(&script.display().to_string());
        build
            .env("IMAGE", IMAGE)
            .env("BASE", BASE)
            .env("BINARIES", "prebuilt")
            .env("TARGET_DIR", binaries::folder()?);
        run(build, BASE_LIMIT).await.map(drop)
    }
}

impl Own {
    /// Starts the engine in namespaces of its own: no bridge, firewall rule, mount or process outlives it, and its
    /// addresses and ports cannot clash with those of the machine.
    async fn start() -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("sched-engine-").tempdir()?;
        let root = folder.path().display();
        let host = format!("unix://{root}/docker.sock");
        let log = folder.path().join("log");
        let mut guardian = Command::new("setpriv")
            // Killed with the thread that started it, and the engine with it: also when the test is killed.
            .args(["--pdeathsig", "KILL"])
            .args("unshare --kill-child --fork --pid --mount-proc --net --mount".split(' '))
            .args([
                "sh",
                "-c",
                r#"ip link set lo up && exec dockerd --log-level warn "$@""#,
                "sh",
            ])
            .args(["--host", &host])
            .arg(format!("--data-root={root}/data"))
            .arg(format!("--exec-root={root}/exec"))
            .arg(format!("--pidfile={root}/pid"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&log)?)
            .kill_on_drop(true)
            .spawn()
            .context("setpriv")?;

        let answers = eventually("the engine answers", START_LIMIT, async || {
            let mut version = Command::new("docker");
            version.args(["--host", &host, "version"]);
            run(version, COMMAND_LIMIT).await
        });
        let started = tokio::select! {
            answer = answers => answer,
            status = guardian.wait() => Err(anyhow!("the engine ended: {status:?}")),
        };
        started.with_context(|| std::fs::read_to_string(&log).unwrap_or_default())?;
        let guard = guardian.id().context("the engine ended at once")?;
        let children = std::fs::read_to_string(format!("/proc/{guard}/task/{guard}/children"))?;
        let pid = children
            .split_whitespace()
            .next()
            .context("the engine has no process")?;
        Ok(Self {
            pid: pid.parse()?,
            guardian,
            host,
            _folder: folder,
        })
    }
}

impl Drop for Own {
    /// Ends the engine. It is the first process of its pid namespace: once it has ended, nothing of it is left.
    fn drop(&mut self) {
        let pid = self.pid.to_string();
        for (signal, patience) in [(Signal::TERM, "20"), (Signal::KILL, "10")] {
            if let Some(engine) = Pid::from_raw(self.pid.cast_signed()) {
                // An error means that it has ended, which is what is asked for.
                let _ = kill_process(engine, signal);
            }
            // `tail --pid` returns when the process has ended, `timeout` when it has not.
            let wait = ["--foreground", patience, "tail", "--pid", &pid, "-f", "/dev/null"];
            if std::process::Command::new("timeout")
                .args(wait)
                .status()
                .is_ok_and(|status| status.success())
            {
                break;
            }
        }
        if let Ok(None) = self.guardian.try_wait() {
            // It has nothing left to guard and ends by itself; this is for the case that the engine does not.
            let _ = self.guardian.start_kill();
        }
    }
}

/// The local base image as an archive, made once and kept among the tools.
fn base_archive() -> Result<PathBuf> {
    let release = std::fs::read_to_string("/etc/os-release").context("/etc/os-release")?;
    let codename = release
        .lines()
        .find_map(|line| line.strip_prefix("VERSION_CODENAME="))
        .unwrap_or("unknown");
    Ok(binaries::repository().join(format!(
        ".tools/base-{}-{}.tar",
        codename.trim_matches('"'),
        std::env::consts::ARCH
    )))
}

async fn compose_program() -> Option<(&'static str, &'static [&'static str])> {
    let mut plugin = Command::new("docker");
    plugin.args(["compose", "version"]);
    if run(plugin, COMMAND_LIMIT).await.is_ok() {
        return Some(("docker", &["compose"]));
    }
    has("docker-compose").await.then_some(("docker-compose", &[]))
}
