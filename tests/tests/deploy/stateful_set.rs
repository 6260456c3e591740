//! The pods of the StatefulSet as three processes: what Kubernetes would set is read from the manifest, not repeated here.

use std::collections::BTreeMap;
use std::fs::File;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use sched_tests::{binaries, eventually, http};
use serde_json::Value;
use tempfile::TempDir;
use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::manifests::{container_ports, environment, objects};
use crate::support::{at, list_at, number_at, run, text_at};

/// Time in which three fresh nodes find each other and elect a leader, on a machine that runs other tests too.
const FORM_LIMIT: Duration = Duration::from_secs(60);
/// Well within the manifest's grace period.
const STOP_LIMIT: Duration = Duration::from_secs(30);

/// Shown of each pod's log after a failure.
const LOG_LINES: usize = 30;

/// One pod: a process with the pod's environment, on a loopback address of its own so that the ports stay as they are.
struct Pod {
    address: String,
    process: Child,
    folder: TempDir,
}

impl Pod {
    /// The end of what it logged.
    fn log(&self) -> String {
        let log = std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
        let lines: Vec<_> = log.lines().collect();
        let tail = lines[lines.len().saturating_sub(LOG_LINES)..].join("\n");
        format!("--- {}\n{tail}\n", self.address)
    }
}

#[tokio::test]
async fn the_pods_environment_makes_a_cluster() -> Result<()> {
    let set = &objects().await?["StatefulSet/sched"];
    let client_port = container_ports(set)?["client"];
    let mut pods = Vec::new();
    let outcome = serve(set, client_port, &mut pods).await;
    // What the nodes said is the first thing to read.
    outcome.with_context(|| pods.iter().map(Pod::log).collect::<String>())
}

async fn serve(set: &Value, client_port: u64, pods: &mut Vec<Pod>) -> Result<()> {
    // The first pod alone: alive, and not ready, for there is no quorum.
    pods.push(start(set, 0, client_port)?);
    probe(set, "livenessProbe", &pods[0], 200).await?;
    probe(set, "readinessProbe", &pods[0], 503).await?;

    for ordinal in 1..number_at(set, "/spec/replicas")? {
        pods.push(start(set, ordinal, client_port)?);
    }
    for pod in &*pods {
        probe(set, "startupProbe", pod, 200).await?;
        probe(set, "readinessProbe", pod, 200).await?;
    }

    // It is a cluster: what one accepts is done and known to the others.
    let mut enqueue = Command::new(binaries::path("schedcli")?);
    enqueue.args(["--endpoint", &pods[0].address, "enqueue", "--sample", "ok", "--wait"]);
    run(enqueue, FORM_LIMIT).await?;
    for pod in pods {
        stop(pod).await?;
    }
    Ok(())
}

/// Starts the pod with the given number as the StatefulSet would.
fn start(set: &Value, ordinal: u64, client_port: u64) -> Result<Pod> {
    let folder = tempfile::tempdir()?;
    let name = format!("sched-{ordinal}");
    let mut environment: BTreeMap<String, String> = environment(set)?
        .into_iter()
        .map(|(key, value)| (key, with_loopback(&value.replace("$(POD_NAME)", &name))))
        .collect();
    for key in ["SCHED_LISTEN", "SCHED_PEER_LISTEN"] {
        environment
            .entry(key.into())
            .and_modify(|value| *value = value.replace("0.0.0.0", &loopback(ordinal)));
    }
    environment.insert(
        "SCHED_DATA_DIR".into(),
        folder.path().join("data").display().to_string(),
    );
    let arguments = list_at(set, "/spec/template/spec/containers/0/args")?;
    let process = Command::new(binaries::path("schednode")?)
        .args(arguments.iter().filter_map(Value::as_str))
        .envs(environment)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(File::create(folder.path().join("log"))?)
        .kill_on_drop(true)
        .spawn()
        .context("schednode")?;
    Ok(Pod {
        address: format!("{}:{client_port}", loopback(ordinal)),
        process,
        folder,
    })
}

/// Waits until a probe of the manifest is answered with `status`.
async fn probe(set: &Value, kind: &str, pod: &Pod, status: u16) -> Result<()> {
    let probe = at(set, &format!("/spec/template/spec/containers/0/{kind}"))?;
    let path = text_at(probe, "/httpGet/path")?;
    assert_eq!(text_at(probe, "/httpGet/port")?, "client");
    let what = format!("{kind} {}{path} answers {status}", pod.address);
    eventually(&what, FORM_LIMIT, async || {
        match http::get(&pod.address, path).await? {
            (answered, _) if answered == status => Ok(()),
            (other, body) => bail!("status {other}: {body}"),
        }
    })
    .await
}

/// Ends the pod as the kubelet does, and demands that it ends well within the grace period.
async fn stop(pod: &mut Pod) -> Result<()> {
    let address = &pod.address;
    let id = pod.process.id().and_then(|id| Pid::from_raw(id.cast_signed()));
    kill_process(
        id.with_context(|| format!("{address} has ended by itself"))?,
        Signal::TERM,
    )?;
    let status = timeout(STOP_LIMIT, pod.process.wait()).await;
    let status = status.with_context(|| format!("{address} does not end on SIGTERM"))??;
    assert!(status.success(), "{address} ended with {status}");
    Ok(())
}

/// An address that no other test listens on.
fn loopback(ordinal: u64) -> String {
    format!("127.74.0.{}", ordinal + 1)
}

/// Replaces the names that a cluster's DNS would resolve.
fn with_loopback(value: &str) -> String {
    (0..9).fold(value.to_owned(), |value, n| {
        value.replace(&format!("sched-{n}.sched-peers"), &loopback(n))
    })
}
