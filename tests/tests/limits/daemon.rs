//! What operators type: wrong flags, wrong files, ports that are taken.

use anyhow::{Context, Result, ensure};
use sched_tests::{binaries, ports};
use std::net::TcpListener;
use std::path::Path;
use std::process::Output;
use std::time::Duration;
use tempfile::TempDir;
use tokio::process::Command;
use tokio::time::timeout;

/// A daemon that cannot run says so within this.
const LIMIT: Duration = Duration::from_secs(15);

/// Runs `schednode` to an end that must come by itself.
async fn schednode(arguments: &[&str], environment: &[(&str, &str)]) -> Result<(Option<i32>, String)> {
    let mut command = Command::new(binaries::path("schednode")?);
    for (variable, _) in std::env::vars_os() {
        if variable.to_string_lossy().starts_with("SCHED_") {
            command.env_remove(variable);
        }
    }
    command
        .args(arguments)
        .envs(environment.iter().copied())
        .stdin(std::process::Stdio::null())
        .kill_on_drop(true);
    let output: Output = timeout(LIMIT, command.output())
        .await
        .with_context(|| format!("schednode {arguments:?} goes on"))??;
    let said = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok((output.status.code(), said))
}

async fn refused(arguments: &[&str], environment: &[(&str, &str)], parts: &[&str]) -> Result<()> {
    let (code, said) = schednode(arguments, environment).await?;
    let line = format!("schednode {arguments:?} {environment:?} ended with {code:?}: {said}");
    ensure!(code.is_some_and(|code| code != 0), "expected a failure: {line}");
    ensure!(!said.contains("panicked"), "a panic is no error message: {line}");
    for part in parts {
        ensure!(said.contains(part), "expected {part:?}: {line}");
    }
    Ok(())
}

fn run(test: impl Future<Output = Result<()>>) -> Result<()> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(test)
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

#[test]
fn settings_that_cannot_be_are_refused_by_name() -> Result<()> {
    run(async {
        let folder = TempDir::new_in(binaries::scratch()?)?;
        let data = text(&folder.path().join("data"));
        let free = ports::free(2)?;
        let (client, peer) = (format!("127.0.0.1:{}", free[0]), format!("127.0.0.1:{}", free[1]));
        let base = ["run", "--data-dir", &data, "--listen", &client, "--peer-listen", &peer];
        let open = format!("0.0.0.0:{}", free[0]);
        let open_peer = format!("0.0.0.0:{}", free[1]);
        refused(&["run"], &[], &["--data-dir"]).await?;
        refused(
            &["run", "--data-dir", &data, "--listen", &open],
            &[],
            &["listen", &open, "--insecure"],
        )
        .await?;
        refused(
            &["run", "--data-dir", &data, "--peer-listen", &open_peer],
            &[],
            &["peer_listen", "--insecure"],
        )
        .await?;
        for (more, parts) in [
            (&["--frobnicate"][..], &["--frobnicate"][..]),
            (
                &["--initial-cluster", "127.0.0.1:1,127.0.0.1:2"],
                &["initial_cluster", "does not contain"],
            ),
            (
                &["--initial-cluster", &peer, "--join", "127.0.0.1:1"],
                &["join", "initial_cluster"],
            ),
            (&["--initial-cluster", "nonsense"], &["initial_cluster", "host:port"]),
            (&["--slots", "100000"], &["slots", "10000"]),
            (&["--heartbeat-ms", "0"], &["heartbeat_ms"]),
            (&["--labels", "nonsense"], &["labels", "key=value"]),
            (&["--log", "a=b=c"], &["log"]),
            (&["--config", "/no/such/file.toml"], &["/no/such/file.toml"]),
        ] {
            refused(&[&base[..], more].concat(), &[], parts).await?;
        }
        refused(
            &base,
            &[("SCHED_INITIAL_CLUSTER", "nonsense")],
            &["initial_cluster", "host:port"],
        )
        .await?;
        // Neither to form nor to join: what should it be a part of?
        refused(&base, &[], &["initial"]).await?;
        Ok(())
    })
}

#[test]
fn files_and_ports_that_cannot_be_used_are_named() -> Result<()> {
    run(async {
        let folder = TempDir::new_in(binaries::scratch()?)?;
        let free = ports::free(2)?;
        let (client, peer) = (format!("127.0.0.1:{}", free[0]), format!("127.0.0.1:{}", free[1]));
        let base = [
            "run",
            "--listen",
            &client,
            "--peer-listen",
            &peer,
            "--initial-cluster",
            &peer,
        ];

        let config = folder.path().join("node.toml");
        std::fs::write(&config, "listn = '127.0.0.1:1'\n")?;
        refused(
            &[&base[..], &["--config", &text(&config)]].concat(),
            &[],
            &["node.toml", "listn"],
        )
        .await?;

        let file = folder.path().join("file");
        std::fs::write(&file, "not a folder")?;
        refused(
            &[&base[..], &["--data-dir", &text(&file)]].concat(),
            &[],
            &[&text(&file)],
        )
        .await?;
        refused(
            &["check", "--data-dir", &text(&folder.path().join("nowhere"))],
            &[],
            &["nowhere"],
        )
        .await?;

        let data = text(&folder.path().join("data"));
        for address in [&client, &peer] {
            let _taken = TcpListener::bind(address)?;
            refused(&[&base[..], &["--data-dir", &data]].concat(), &[], &[address, "in use"]).await?;
        }
        Ok(())
    })
}

#[test]
fn the_printed_configuration_is_the_one_it_was_given() -> Result<()> {
    run(async {
        let folder = TempDir::new_in(binaries::scratch()?)?;
        let config = folder.path().join("node.toml");
        std::fs::write(&config, "slots = 3\nname = 'from-file'\nlog = 'debug'\n")?;
        let config = text(&config);
        let arguments = ["config", "--config", &config, "--data-dir", "/d", "--slots", "5"];
        let (code, printed) =
            schednode(&arguments, &[("SCHED_NAME", "from-environment"), ("SCHED_SLOTS", "4")]).await?;
        ensure!(code == Some(0), "{printed}");
        for line in [
            "slots = 5",
            "name = \"from-environment\"",
            "log = \"debug\"",
            "data_dir = \"/d\"",
        ] {
            ensure!(
                printed.contains(line),
                "expected {line:?}: flag, then environment, then file: {printed}"
            );
        }
        Ok(())
    })
}
