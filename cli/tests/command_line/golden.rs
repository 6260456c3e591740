//! Texts that users and scripts rely on, kept in files.

use crate::support::{full_cluster, golden, run, run_alone};
use std::fmt::Write as _;

const VERBS: [&str; 36] = [
    "enqueue",
    "dequeue",
    "move",
    "update",
    "run",
    "retry",
    "cancel",
    "pause",
    "resume",
    "get",
    "list",
    "runs",
    "delete-history",
    "logs",
    "wait",
    "next",
    "status",
    "show spool",
    "clear-spool",
    "shutdown",
    "start",
    "config list",
    "config get",
    "config set",
    "config unset",
    "check",
    "nodes",
    "calendar set",
    "calendar import",
    "calendar get",
    "calendar list",
    "calendar delete",
    "workers",
    "workers drain",
    "workers undrain",
    "completions",
];

#[tokio::test]
async fn help_is_as_it_was() {
    let mut text = run_alone(&["--help"]).await.done();
    for verb in VERBS {
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
