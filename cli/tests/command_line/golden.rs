//! Texts that users and scripts rely on, kept in files.

use crate::docs::verbs;
use crate::support::{full_cluster, golden, kept, run, run_alone};
use serde_json::Value;
use std::fmt::Write as _;

#[tokio::test]
async fn help_is_as_it_was() {
    let mut text = run_alone(&["--help"]).await.done();
    for verb in verbs() {
        let words: Vec<&str> = verb.split(' ').chain(["-h"]).collect();
        let help = run_alone(&words).await.done();
        // The same for every verb; shown once, above.
        let (own, _) = help.split_once("\nGlobal options:").expect("global options");
        let example = help.find("\nExample").map_or("", |at| &help[at..]);
        write!(text, "\n==== {verb} ====\n{own}{example}").expect("into a String");
    }
    golden("help.txt", &text);
}

#[tokio::test]
async fn data_has_the_shape_it_had() {
    let cluster = full_cluster().await;
    for (format, file) in [
        ("table", "data.txt"),
        ("json", "data.json.txt"),
        ("yaml", "data.yaml.txt"),
    ] {
        let mut text = String::new();
        for line in [
            "list",
            "get report",
            "runs report",
            "ledger report",
            "get 1:2",
            "status",
            "nodes",
            "workers",
            "workers drain w1",
            "show spool",
            "check",
            "pause report",
            "retry 1:2 1:2",
            "run report",
            "move 1 --at 2027-02-01T00:00:00Z",
            "update report --tries 5",
            "config set tries=3 keep_for=1d",
            "config get tries",
            "delete-history report --yes",
            "enqueue --manual --sample ok --request-id a",
            "calendar set holidays --day 2027-01-01..2027-01-02 --tz Europe/Zurich",
            "calendar get holidays",
            "calendar list",
        ] {
            let words: Vec<&str> = ["--output", format].into_iter().chain(line.split(' ')).collect();
            let data = run(&cluster, &words).await.done();
            write!(text, "==== {line} ====\n{data}\n").expect("into a String");
        }
        golden(file, &text);
    }
}

#[tokio::test]
async fn completion_scripts_know_the_verbs() {
    for shell in ["bash", "zsh", "fish"] {
        let script = run_alone(&["completions", shell]).await.done();
        for verb in ["enqueue", "clear-spool", "--rrule"] {
            assert!(script.contains(verb.trim_start_matches('-')), "{shell} lacks {verb}");
        }
    }
}

/// The parts of a file of [`data_has_the_shape_it_had`], each under its command line.
fn parts(file: &str) -> Vec<(String, String)> {
    let text = kept(file);
    let parts = text.split("==== ").skip(1);
    let part = |part: &str| {
        let (line, data) = part.split_once(" ====\n").expect("a command line");
        (line.to_owned(), data.to_owned())
    };
    parts.map(part).collect()
}

/// Looks at every key and value: what users wrote themselves, as it is, is theirs.
fn look(place: &str, value: &Value, wrong: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                let place = format!("{place}.{key}");
                let snake = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
                if !key.chars().all(snake) {
                    wrong.push(format!("{place} is not in snake_case"));
                }
                let names_a_time = ["late", "delay_", "contact"].iter().any(|word| key.contains(word));
                if names_a_time && value.is_number() && !key.contains("_ms") {
                    wrong.push(format!("{place} is a duration without its unit"));
                }
                let names_an_instant = ["at", "now", "until", "since", "next_run"].contains(&key.as_str())
                    || ["_at", "_until", "_since"].iter().any(|end| key.ends_with(end));
                let is_an_instant = value.as_str().is_some_and(|text| {
                    let parsed: Result<sched_core::Timestamp, _> = text.parse();
                    parsed.is_ok_and(|at| at.to_string() == text) && text.len() == "2027-01-15T08:00:00.000Z".len()
                });
                if names_an_instant && !value.is_null() && !is_an_instant {
                    wrong.push(format!("{place} is no instant: {value}"));
                }
                if !["labels", "params", "document"].contains(&key.as_str()) {
                    look(&place, value, wrong);
                }
            }
        }
        Value::Array(list) => list.iter().for_each(|value| look(place, value, wrong)),
        _ => {}
    }
}

/// Leaves keys alone, of a list those of its first element: what a format says of its own.
fn shape(value: &Value) -> Value {
    match value {
        Value::Object(map) => map.iter().map(|(key, value)| (key.clone(), shape(value))).collect(),
        Value::Array(list) => list.first().map(shape).into_iter().collect(),
        _ => Value::Null,
    }
}

/// What [`data_has_the_shape_it_had`] holds down keeps to the rules: keys, instants, durations; and YAML has the keys that JSON has.
#[test]
fn data_keeps_to_its_conventions() {
    let (json, yaml) = (parts("data.json.txt"), parts("data.yaml.txt"));
    assert!(json.len() > 15 && json.len() == yaml.len(), "{} parts", json.len());
    let mut wrong = Vec::new();
    for ((line, json), (_, yaml)) in json.iter().zip(&yaml) {
        let json: Value = serde_json::from_str(json).expect("JSON");
        let yaml: Value = serde_norway::from_str(yaml).expect("YAML");
        if shape(&json) != shape(&yaml) {
            wrong.push(format!("{line}: YAML and JSON have different keys"));
        }
        look(line, &json, &mut wrong);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
