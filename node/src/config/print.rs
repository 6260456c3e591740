//! The effective configuration as text, each setting with its documentation.

use super::{Config, Settings};
use clap::Args;
use serde::Serializer;
use std::collections::BTreeMap;
use std::fmt::Write;

/// Environment variables with our prefix that belong to others: the command line, and the processes of tasks.
const NOT_OURS: [&str; 13] = [
    "SCHED_CONFIG",
    "SCHED_ENDPOINT",
    "SCHED_OUTPUT",
    "SCHED_NAMESPACE",
    "SCHED_TASK",
    "SCHED_RUN",
    "SCHED_ATTEMPT",
    "SCHED_TOKEN",
    "SCHED_SCHEDULED_AT",
    "SCHED_NODE",
    "SCHED_WORKER",
    "SCHED_IMAGE",
    "SCHED_TIMEOUT",
];

/// Writes labels the way a source gives them.
pub(super) fn labels<S: Serializer>(labels: &BTreeMap<String, String>, to: S) -> Result<S::Ok, S::Error> {
    to.collect_seq(labels.iter().map(|(key, value)| format!("{key}={value}")))
}

fn documented() -> clap::Command {
    Settings::augment_args(clap::Command::new("schednode"))
}

/// Returns the configuration as TOML that can be used as a file, each setting below its documentation.
pub fn to_toml(config: &Config) -> String {
    toml_of(documented(), &toml::Table::try_from(config).unwrap_or_default())
}

/// Returns values as TOML, each below the documentation of its argument.
pub(super) fn toml_of(command: clap::Command, values: &toml::Table) -> String {
    let mut text = String::from("# A flag wins over the environment, the environment over the file.\n");
    for arg in command.get_arguments() {
        let key = arg.get_id().as_str();
        let Some(value) = values.get(key) else { continue };
        let help = arg
            .get_long_help()
            .or(arg.get_help())
            .map(ToString::to_string)
            .unwrap_or_default();
        text.push('\n');
        for line in help.lines().filter(|line| !line.trim().is_empty()) {
            let _ = writeln!(text, "# {line}");
        }
        let flag = arg.get_long().unwrap_or_default();
        let variable = arg.get_env().map(|v| v.to_string_lossy()).unwrap_or_default();
        let _ = writeln!(text, "# --{flag}, {variable}");
        let _ = writeln!(text, "{key} = {value}");
    }
    text
}

/// Returns the configuration as JSON, one line.
pub fn to_json(config: &Config) -> String {
    serde_json::to_string(config).unwrap_or_default()
}

/// Returns the environment variables that look like a setting and are none: a typing error says nothing otherwise.
pub fn unknown_variables(names: impl Iterator<Item = String>) -> Vec<String> {
    unknown_of(&documented(), names)
}

/// Returns the variables with our prefix that are no argument of a command.
pub(super) fn unknown_of(command: &clap::Command, names: impl Iterator<Item = String>) -> Vec<String> {
    let known: Vec<String> = command
        .get_arguments()
        .filter_map(|arg| arg.get_env())
        .map(|v| v.to_string_lossy().into_owned())
        .collect();
    let mut unknown: Vec<String> = names
        .filter(|name| name.starts_with("SCHED_") && !name.starts_with("SCHED_PARAM_"))
        .filter(|name| !known.contains(name) && !NOT_OURS.contains(&name.as_str()))
        .collect();
    unknown.sort();
    unknown
}
