//! What the files under `deploy/` say, against Kubernetes and against the binary.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use sched_tests::binaries;
use serde::Deserialize;
use serde_json::Value;
use tokio::process::Command;

use crate::support::{at, cannot_run, has, list_at, map_at, number_at, run, run_json, text_at};

/// The oldest and the newest release of Kubernetes that the manifests promise to fit.
const KUBERNETES_RELEASES: [&str; 2] = ["1.29", "1.37"];

const COMMAND_LIMIT: Duration = Duration::from_secs(60);
const INSTALL_LIMIT: Duration = Duration::from_secs(300);

#[tokio::test]
async fn kubernetes_accepts_the_manifests() -> Result<()> {
    if !has("kubectl").await {
        return cannot_run("kubectl is missing (scripts/setup.sh test installs it for root)");
    }
    if !has("python3").await {
        return cannot_run("python3 is missing, which holds the manifests against Kubernetes' schemas");
    }
    let rendered = rendered().await?;
    let validator = schema_validator().await?;
    for release in KUBERNETES_RELEASES {
        validate(&validator, release, &rendered).await?;
    }
    // The check is one: a misspelt field is refused.
    let misspelt = rendered.replace("replicas:", "replicsa:");
    let refusal = validate(&validator, KUBERNETES_RELEASES[0], &misspelt).await;
    assert!(
        refusal.is_err_and(|error| format!("{error:#}").contains("replicsa")),
        "a misspelt field was accepted"
    );
    Ok(())
}

#[tokio::test]
async fn names_and_ports_agree_with_each_other() -> Result<()> {
    let objects = objects().await?;
    let set = &objects["StatefulSet/sched"];
    let peers = &objects["Service/sched-peers"];
    let labels = at(set, "/spec/template/metadata/labels")?;

    // Whoever selects the pods selects them by labels that they carry.
    for (object, pointer) in [
        ("StatefulSet/sched", "/spec/selector/matchLabels"),
        ("Service/sched-peers", "/spec/selector"),
        ("Service/sched", "/spec/selector"),
        ("PodDisruptionBudget/sched", "/spec/selector/matchLabels"),
        ("NetworkPolicy/sched", "/spec/podSelector/matchLabels"),
    ] {
        let selector = map_at(&objects[object], pointer)?;
        for (key, value) in selector {
            assert_eq!(
                labels.get(key),
                Some(value),
                "{object} selects by a label that the pods do not carry"
            );
        }
    }
    assert_eq!(text_at(set, "/spec/serviceName")?, text_at(peers, "/metadata/name")?);
    assert_eq!(text_at(peers, "/spec/clusterIP")?, "None");
    assert_eq!(at(peers, "/spec/publishNotReadyAddresses")?, true);
    assert_eq!(text_at(set, "/spec/podManagementPolicy")?, "Parallel");
    // A quorum of the replicas survives what the budget permits.
    let replicas = number_at(set, "/spec/replicas")?;
    let unavailable = at(&objects["PodDisruptionBudget/sched"], "/spec/maxUnavailable")?.as_u64();
    assert!(unavailable.is_some_and(|out| (replicas - out) * 2 > replicas));

    let ports = container_ports(set)?;
    let environment = environment(set)?;
    assert!(environment["SCHED_LISTEN"].ends_with(&format!(":{}", ports["client"])));
    assert!(environment["SCHED_PEER_LISTEN"].ends_with(&format!(":{}", ports["peer"])));
    let members: Vec<_> = (0..replicas)
        .map(|n| format!("sched-{n}.sched-peers:{}", ports["peer"]))
        .collect();
    assert_eq!(environment["SCHED_INITIAL_CLUSTER"], members.join(","));
    assert_eq!(
        environment["SCHED_PEER_ADVERTISE"],
        format!("$(POD_NAME).sched-peers:{}", ports["peer"])
    );
    assert_eq!(
        environment["SCHED_ADVERTISE"],
        format!("$(POD_NAME).sched-peers:{}", ports["client"])
    );
    for service in ["Service/sched-peers", "Service/sched"] {
        for port in list_at(&objects[service], "/spec/ports")? {
            let target = text_at(port, "/targetPort")?;
            assert_eq!(
                port.get("port"),
                ports.get(target).map(|n| Value::from(*n)).as_ref(),
                "{service}, {target}"
            );
        }
    }
    // The data folder lies on the volume.
    assert!(environment["SCHED_DATA_DIR"].starts_with("/var/lib/sched/"));
    assert_eq!(
        text_at(set, "/spec/template/spec/containers/0/volumeMounts/0/mountPath")?,
        "/var/lib/sched"
    );
    Ok(())
}

#[tokio::test]
async fn the_binary_understands_every_setting() -> Result<()> {
    let mut environments = vec![("statefulset.yaml", environment(&objects().await?["StatefulSet/sched"])?)];
    for service in compose_services()?.values() {
        let variables = map_at(service, "/environment")?.iter();
        let texts = variables.map(|(name, value)| (name.clone(), value.as_str().unwrap_or_default().to_owned()));
        environments.push(("compose.yaml", texts.collect()));
    }
    let file = read("deploy/systemd/schednode.env")?;
    environments.push(("schednode.env", assignments(file.lines()).collect()));
    let image = read("deploy/Dockerfile")?;
    let image: BTreeMap<_, _> = assignments(image.lines().filter_map(|line| line.strip_prefix("ENV "))).collect();
    assert!(!image.is_empty());
    environments.push(("Dockerfile", image));

    for (file, variables) in environments {
        understands(file, variables, &["config", "--json"]).await?;
    }
    // The subcommand that all of them run.
    assert!(read("deploy/Dockerfile")?.contains("CMD [\"run\"]"));
    assert!(read("deploy/systemd/schednode.service")?.contains("ExecStart=/usr/local/bin/schednode run\n"));
    Ok(())
}

#[tokio::test]
async fn an_agent_understands_every_setting() -> Result<()> {
    let agents = &objects().await?["Deployment/sched-agent"];
    let file = read("deploy/systemd/schednode-agent.env")?;
    let show = ["agent", "--show-config=json"];
    understands("agents.yaml", environment(agents)?, &show).await?;
    understands("schednode-agent.env", assignments(file.lines()).collect(), &show).await?;
    assert!(read("deploy/systemd/schednode-agent.service")?.contains("ExecStart=/usr/local/bin/schednode agent\n"));
    assert_eq!(text_at(agents, "/spec/template/spec/containers/0/args/0")?, "agent");
    Ok(())
}

#[tokio::test]
async fn agents_join_the_nodes_and_have_time_to_leave() -> Result<()> {
    let objects = objects().await?;
    let (set, agents) = (&objects["StatefulSet/sched"], &objects["Deployment/sched-agent"]);
    let variables = environment(agents)?;
    let client = container_ports(set)?["client"];
    let nodes: Vec<_> = (0..number_at(set, "/spec/replicas")?)
        .map(|n| format!("sched-{n}.sched-peers:{client}"))
        .collect();
    assert_eq!(variables["SCHED_JOIN"], nodes.join(","));
    let labels = at(agents, "/spec/template/metadata/labels")?;
    for (key, value) in map_at(agents, "/spec/selector/matchLabels")? {
        assert_eq!(labels.get(key), Some(value));
    }
    // They are none of the nodes: no service and no budget counts them.
    let nodes = map_at(set, "/spec/selector/matchLabels")?;
    assert!(nodes.iter().any(|(key, value)| labels.get(key) != Some(value)));
    for pointer in ["runAsUser", "fsGroup"] {
        let pointer = format!("/spec/template/spec/securityContext/{pointer}");
        assert_eq!(at(agents, &pointer)?, at(set, &pointer)?, "one image, one user");
    }
    // The drain, five seconds of grace, and the goodbye.
    let drain_s = variables["SCHED_DRAIN_MS"].parse::<u64>()? / 1000;
    let patience = number_at(agents, "/spec/template/spec/terminationGracePeriodSeconds")?;
    assert!(patience >= drain_s + 15, "{patience} s for a drain of {drain_s} s");
    let unit = read("deploy/systemd/schednode-agent.service")?;
    let patience = unit.lines().find_map(|line| line.strip_prefix("TimeoutStopSec="));
    let file = read("deploy/systemd/schednode-agent.env")?;
    let file: BTreeMap<_, _> = assignments(file.lines()).collect();
    let drain_s = file["SCHED_DRAIN_MS"].parse::<u64>()? / 1000;
    assert!(patience.context("TimeoutStopSec")?.parse::<u64>()? >= drain_s + 15);
    Ok(())
}

#[tokio::test]
async fn image_compose_and_manifests_name_the_same_things() -> Result<()> {
    let set = &objects().await?["StatefulSet/sched"];
    let ports = container_ports(set)?;
    let dockerfile = read("deploy/Dockerfile")?;
    assert!(dockerfile.contains(&format!("EXPOSE {} {}", ports["client"], ports["peer"])));

    // The image's user is the one Kubernetes runs it as, and owns the folder that the volume is mounted at.
    let user = at(set, "/spec/template/spec/securityContext/runAsUser")?;
    assert!(dockerfile.contains(&format!("USER {user}:{user}")) && dockerfile.contains(&format!("--uid {user} ")));
    assert!(dockerfile.contains("install -d -o sched -g sched -m 0750 /var/lib/sched"));

    let services = compose_services()?;
    let members: Vec<_> = services
        .keys()
        .map(|name| format!("{name}:{}", ports["peer"]))
        .collect();
    for (name, service) in &services {
        let of = |key: &str| text_at(service, &format!("/environment/{key}"));
        assert_eq!(
            of("SCHED_INITIAL_CLUSTER")?,
            members.join(","),
            "every member gets the same full list"
        );
        assert_eq!(of("SCHED_ADVERTISE")?, format!("{name}:{}", ports["client"]));
        assert_eq!(of("SCHED_PEER_ADVERTISE")?, format!("{name}:{}", ports["peer"]));
        let published = text_at(service, "/ports/0")?;
        assert!(
            published.starts_with("127.0.0.1:"),
            "{name} publishes {published} beyond this machine"
        );
        assert!(published.ends_with(&format!(":{}", ports["client"])));
        assert_eq!(text_at(service, "/volumes/0")?, format!("{name}:/var/lib/sched"));
    }
    Ok(())
}

#[tokio::test]
async fn systemd_accepts_the_unit() -> Result<()> {
    if !has("systemd-analyze").await {
        return cannot_run("systemd-analyze is missing");
    }
    // The program must exist for the check, so the units name the one that was built here.
    let folder = tempfile::tempdir()?;
    for name in ["schednode.service", "schednode-agent.service"] {
        let unit = read(&format!("deploy/systemd/{name}"))?.replace(
            "/usr/local/bin/schednode",
            &binaries::path("schednode")?.display().to_string(),
        );
        let path = folder.path().join(name);
        std::fs::write(&path, unit)?;
        let mut command = Command::new("systemd-analyze");
        command.arg("verify").arg(&path);
        run(command, COMMAND_LIMIT).await?;
    }
    Ok(())
}

/// Checks that each variable is a setting, and that the binary, asked by `show`, makes of it what it says.
async fn understands(file: &str, mut variables: BTreeMap<String, String>, show: &[&str]) -> Result<()> {
    if let Some(pod) = variables.insert("POD_NAME".into(), "sched-0".into()) {
        assert_eq!(pod, "", "Kubernetes gives the pod its name");
        variables
            .values_mut()
            .for_each(|value| *value = value.replace("$(POD_NAME)", "sched-0"));
    }
    let config = effective(&variables, show).await?;
    for (name, value) in variables.iter().filter(|(name, _)| *name != "POD_NAME") {
        let setting = name.trim_start_matches("SCHED_").to_lowercase();
        let found = config
            .get(&setting)
            .with_context(|| format!("{file}: {name} is no setting: {config}"))?;
        assert_eq!(&as_given(found), value, "{file}: {name}");
    }
    Ok(())
}

/// What the binary makes of an environment, and of nothing else.
async fn effective(environment: &BTreeMap<String, String>, show: &[&str]) -> Result<Value> {
    let mut command = Command::new(binaries::path("schednode")?);
    command.args(show).env_clear().envs(environment);
    run_json(command, COMMAND_LIMIT).await
}

/// A setting as the environment gives it.
fn as_given(setting: &Value) -> String {
    match setting {
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(as_given).collect::<Vec<_>>().join(","),
        other => other.to_string(),
    }
}

/// The `NAME=VALUE` lines.
fn assignments<'a>(lines: impl Iterator<Item = &'a str>) -> impl Iterator<Item = (String, String)> {
    let pairs = lines
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split_once('='));
    pairs.map(|(name, value)| (name.to_owned(), value.to_owned()))
}

fn read(path: &str) -> Result<String> {
    std::fs::read_to_string(binaries::repository().join(path)).with_context(|| path.to_owned())
}

/// The manifests as `kubectl` would send them.
async fn rendered() -> Result<String> {
    let mut command = Command::new("kubectl");
    command
        .arg("kustomize")
        .arg(binaries::repository().join("deploy/kubernetes"));
    run(command, COMMAND_LIMIT).await
}

/// The objects of all manifests by kind and name, read from the files so that no tool is needed.
pub(crate) async fn objects() -> Result<BTreeMap<String, Value>> {
    let kustomization: Value = serde_norway::from_str(&read("deploy/kubernetes/kustomization.yaml")?)?;
    let mut objects = BTreeMap::new();
    for file in list_at(&kustomization, "/resources")? {
        let path = format!("deploy/kubernetes/{}", file.as_str().unwrap_or_default());
        for document in serde_norway::Deserializer::from_str(&read(&path)?) {
            let object = Value::deserialize(document).with_context(|| path.clone())?;
            let name = format!("{}/{}", text_at(&object, "/kind")?, text_at(&object, "/metadata/name")?);
            objects.insert(name, object);
        }
    }
    Ok(objects)
}

/// The named ports of the pod's container.
pub(crate) fn container_ports(set: &Value) -> Result<BTreeMap<String, u64>> {
    let ports = list_at(set, "/spec/template/spec/containers/0/ports")?;
    ports
        .iter()
        .map(|port| {
            let number = number_at(port, "/containerPort")?;
            Ok((text_at(port, "/name")?.to_owned(), number))
        })
        .collect()
}

/// The environment of the pod's container, with `$(POD_NAME)` as it stands and an empty value where Kubernetes fills it in.
pub(crate) fn environment(set: &Value) -> Result<BTreeMap<String, String>> {
    let variables = list_at(set, "/spec/template/spec/containers/0/env")?;
    variables
        .iter()
        .map(|variable| {
            let value = variable.get("value").and_then(Value::as_str).unwrap_or_default();
            Ok((text_at(variable, "/name")?.to_owned(), value.to_owned()))
        })
        .collect()
}

/// The services of the compose file, with its anchors merged in.
fn compose_services() -> Result<BTreeMap<String, Value>> {
    let mut file: serde_norway::Value = serde_norway::from_str(&read("deploy/compose.yaml")?)?;
    file.apply_merge()?;
    let file: Value = serde_json::to_value(file)?;
    let services = map_at(&file, "/services")?;
    Ok(services
        .iter()
        .map(|(name, service)| (name.clone(), service.clone()))
        .collect())
}

/// Installs the validator once, into the repository's folder of tools, and returns its path.
async fn schema_validator() -> Result<PathBuf> {
    let folder = binaries::repository().join(".tools/kubernetes-validate");
    let program = folder.join("bin/kubernetes-validate");
    // Such a folder names its own path and its Python: one that was copied, or outlived them, is made anew.
    let mut command = Command::new(&program);
    command.arg("--help");
    if run(command, COMMAND_LIMIT).await.is_ok() {
        return Ok(program);
    }
    let mut command = Command::new("python3");
    command.args(["-m", "venv", "--clear"]).arg(&folder);
    run(command, INSTALL_LIMIT).await?;
    let mut command = Command::new(folder.join("bin/python"));
    command
        .args([
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "--requirement",
        ])
        .arg(binaries::repository().join("tests/tests/deploy/requirements.txt"));
    run(command, INSTALL_LIMIT).await?;
    Ok(program)
}

async fn validate(validator: &PathBuf, release: &str, manifests: &str) -> Result<()> {
    let file = tempfile::Builder::new().suffix(".yaml").tempfile()?;
    std::fs::write(file.path(), manifests)?;
    let mut command = Command::new(validator);
    command
        .args(["--strict", "--kubernetes-version", release])
        .arg(file.path());
    run(command, COMMAND_LIMIT).await.map(drop)
}
