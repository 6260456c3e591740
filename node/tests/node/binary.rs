//! The built program: where settings come from, what is refused, and with which exit code.

use std::path::Path;
use std::process::{Command, Output};

fn schednode(dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_schednode"));
    command.current_dir(dir).env_clear();
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[track_caller]
fn refused(output: Output, code: i32, part: &str) {
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{stderr}");
    assert!(stderr.contains(part), "{part:?} is not in {stderr:?}");
    assert!(output.stdout.is_empty(), "data is for standard output, talk is not");
}

#[test]
fn a_flag_wins_over_the_environment_and_that_over_the_file() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(
        dir.path().join("n.toml"),
        "data_dir = 'file'\nslots = 1\nname = 'file'\nlabels = ['a=1']",
    )
    .unwrap();
    let output = schednode(dir.path())
        .args(["config", "--json", "--config", "n.toml", "--name", "flag"])
        .envs([
            ("SCHED_NAME", "environment"),
            ("SCHED_SLOTS", "2"),
            ("SCHED_INSECURE", "true"),
        ])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    let config: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(config["data_dir"], "file");
    assert_eq!(config["slots"], 2);
    assert_eq!(config["name"], "flag");
    assert_eq!(config["insecure"], true);
    assert_eq!(config["labels"], serde_json::json!(["a=1"]));
}

#[test]
fn the_configuration_is_printed_with_its_documentation_and_can_be_used_as_a_file() {
    let dir = tempfile::tempdir().unwrap();
    let first = schednode(dir.path())
        .args(["config", "--data-dir", "d"])
        .output()
        .unwrap();
    let printed = text(&first.stdout);
    assert!(
        printed.contains("# --data-dir, SCHED_DATA_DIR\ndata_dir = \"d\""),
        "{printed}"
    );
    std::fs::write(dir.path().join("n.toml"), &printed).unwrap();
    let again = schednode(dir.path())
        .args(["config", "--config", "n.toml"])
        .output()
        .unwrap();
    assert_eq!(text(&again.stdout), printed, "{}", text(&again.stderr));
}

#[test]
fn what_cannot_work_is_refused_before_anything_is_opened() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("bad.toml"), "data_dir = 'd'\nlisten_adress = 'x'").unwrap();
    let run = |args: &[&str]| schednode(dir.path()).arg("run").args(args).output().unwrap();
    refused(run(&[]), 2, "data_dir is not set");
    refused(run(&["--data-dir", "d", "--listen", "0.0.0.0:0"]), 2, "--insecure");
    refused(run(&["--config", "bad.toml"]), 2, "listen_adress");
    refused(run(&["--config", "none.toml"]), 2, "none.toml");
    refused(run(&["--slots", "many"]), 2, "many");
    refused(run(&["--no-such-flag"]), 2, "--no-such-flag");
    assert!(!dir.path().join("d").exists(), "nothing was made");
    let check = schednode(dir.path())
        .args(["check", "--data-dir", "d"])
        .output()
        .unwrap();
    refused(check, 2, "is not a data folder");
}

#[test]
fn a_new_node_must_be_told_what_to_belong_to_and_a_taken_port_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let run = |listen: &str| {
        schednode(dir.path())
            .args([
                "run",
                "--data-dir",
                "d",
                "--listen",
                listen,
                "--peer-listen",
                "127.0.0.1:0",
            ])
            .output()
            .unwrap()
    };
    let alone = run("127.0.0.1:0");
    assert_eq!(alone.status.code(), Some(2));
    assert!(
        text(&alone.stderr).contains("--initial-cluster"),
        "{}",
        text(&alone.stderr)
    );
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let output = run(&address);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains(&address), "{}", text(&output.stderr));
}

#[test]
fn help_has_an_example_for_every_verb() {
    let dir = tempfile::tempdir().unwrap();
    for verb in ["run", "dev", "config", "check"] {
        let output = schednode(dir.path()).args([verb, "--help"]).output().unwrap();
        let help = text(&output.stdout);
        assert!(
            output.status.success() && help.contains("Example") && help.contains(&format!("schednode {verb}")),
            "{help}"
        );
    }
}
