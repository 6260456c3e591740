//! What is said when something is wrong, and with which exit code.

use crate::support::{run, run_alone, run_at};
use crate::wrong_values::{WRONG, Wrong};
use sched_client::testing::{FakeCluster, Fault};
use sched_client::v1;
use sched_proto::convert::failure;

#[tokio::test]
async fn wrong_usage_is_2_and_sends_nothing() {
    let cluster = FakeCluster::start(1).await;
    let long = "x".repeat(257);
    for (arguments, parts) in [
        (
            &["enqueue", "--at", "noon", "--sample", "ok"][..],
            &["--at", "2027-03-01T09:00:00Z"][..],
        ),
        (&["enqueue", "--in", "soon", "--sample", "ok"], &["--in", "90m"]),
        (&["enqueue", "--every", "1ms", "--sample", "ok"], &["--every", "10ms"]),
        (
            &["enqueue", "--cron", "99 * * * *", "--sample", "ok"],
            &["--cron", "99"],
        ),
        (
            &[
                "enqueue",
                "--rrule",
                "FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=30",
                "--sample",
                "ok",
            ],
            &["--rrule", "never occurs"],
        ),
        (
            &["enqueue", "--cron", "@daily", "--tz", "Mars/Olympus", "--sample", "ok"],
            &["--tz", "Mars/Olympus"],
        ),
        (
            &["enqueue", "--in", "1s", "--dtstart", "x", "--sample", "ok"],
            &["--dtstart", "--rrule"],
        ),
        (&["enqueue", "--sample", "perhaps"], &["--sample", "ok,500"]),
        (
            &["enqueue", "--after", ",", "--sample", "ok"],
            &["--after", "42,nightly"],
        ),
        (&["enqueue", "--on", "any", "--sample", "ok"], &["--on", "--after"]),
        (
            &["enqueue", "--in", "1s", "--count", "3", "--sample", "ok"],
            &["--count", "--every"],
        ),
        (
            &["enqueue", "--in", "1s", "--jitter", "3s", "--sample", "ok"],
            &["--jitter", "--cron"],
        ),
        (
            &["enqueue", "--every", "1s", "--jitter", "x", "--sample", "ok"],
            &["--jitter", "90m"],
        ),
        (
            &["enqueue", "--every", "1s", "--expires", "2027-01-01", "--sample", "ok"],
            &["--expires", "--at"],
        ),
        (
            &["enqueue", "--every", "1s", "--until", "noon", "--sample", "ok"],
            &["--until", "2027"],
        ),
        (
            &["enqueue", "--every", "1s", "--not-before", "noon", "--sample", "ok"],
            &["--not-before", "2027"],
        ),
        (
            &["enqueue", "--every", "1s", "--count", "0", "--sample", "ok"],
            &["--count", "at least 1"],
        ),
        (
            &[
                "enqueue",
                "--every",
                "1s",
                "--not-before",
                "2027-02-01",
                "--until",
                "2027-01-01",
                "--sample",
                "ok",
            ],
            &["--until", "before not_before"],
        ),
        (
            &["enqueue", "--group", "reports", "--sample", "ok"],
            &["--group", "reports:2"],
        ),
        (
            &["enqueue", "--group", "reports:0", "--sample", "ok"],
            &["--group", "1 to"],
        ),
        (
            &["enqueue", "--require", "gpu", "--sample", "ok"],
            &["--require", "KEY=VALUE"],
        ),
        (
            &["enqueue", "--prefer", "a=1", "--prefer", "a=2", "--sample", "ok"],
            &["--prefer", "twice"],
        ),
        (
            &["backfill", "1", "--from", "noon", "--to", "2027-01-01"],
            &["--from", "2027"],
        ),
        (&["enqueue", "--dir", "x", "--sample", "ok"], &["--dir", "CMD"]),
        (
            &["enqueue", "--before", "15m", "--in", "1h", "--sample", "ok"],
            &["--before", "--at"],
        ),
        (
            &[
                "enqueue",
                "--at",
                "2030-01-01T09:00:00Z",
                "--before",
                "early",
                "--sample",
                "ok",
            ],
            &["--before", "early", "90m"],
        ),
        (
            &["enqueue", "--mail-to", "Ann <ann@x.org>", "--subject", "s"],
            &["--mail-to", "Ann <ann@x.org>", "ann@example.org"],
        ),
        (
            &["enqueue", "--mail-to", "a@x.org", "--mail-cc", "bob", "--subject", "s"],
            &["--mail-cc", "bob", "ann@example.org"],
        ),
        (
            &["enqueue", "--mail-to", "a@x.org", "--mail-from", "me", "--subject", "s"],
            &["--mail-from", "me", "ann@example.org"],
        ),
        (&["enqueue", "--mail-to", "a@x.org"], &["--subject", "Backup is due"]),
        (
            &["enqueue", "--mail-to", "a@x.org", "--subject", "a\nBcc: x@y"],
            &["--subject", "Bcc", "one line"],
        ),
        (
            &[
                "enqueue",
                "--mail-to",
                "a@x.org",
                "--subject",
                "s",
                "--text",
                "@/no/such/file",
            ],
            &["--text", "/no/such/file"],
        ),
        (
            &["enqueue", "--subject", "s", "--sample", "ok"],
            &["--subject", "--mail-to"],
        ),
        (
            &["enqueue", "--http", "http://x", "--expect", "(ok"],
            &["--expect", "(ok", "ok|done"],
        ),
        (
            &["enqueue", "--expect", "ok", "--sample", "ok"],
            &["--expect", "--http"],
        ),
        (
            &["enqueue", "--queue", "q", "--payload", "{width: 640}"],
            &["--payload", "not JSON", "640"],
        ),
        (
            &["enqueue", "--queue", "q", "--payload", "@/no/such/file"],
            &["--payload", "/no/such/file"],
        ),
        (
            &["enqueue", "--payload", "1", "--sample", "ok"],
            &["--payload", "--queue"],
        ),
        (
            &["enqueue", "--http", "http://x", "--http-timeout", "soon"],
            &["--http-timeout", "soon", "90m"],
        ),
        (
            &["enqueue", "--http", "http://x", "--http-status", "99"],
            &["--http-status", "99", "HTTP status"],
        ),
        (
            &["enqueue", "--http", "http://x", "--header", "nonsense"],
            &["--header", "nonsense", "Name: value"],
        ),
        (&["enqueue", "--user", "a b", "--", "ls"], &["--user", "a b", "backup"]),
        (
            &["enqueue", "--limit-cpu", "1500ms", "--", "ls"],
            &["--limit-cpu", "1500ms", "90s"],
        ),
        (
            &["enqueue", "--limit-memory", "9x", "--", "ls"],
            &["--limit-memory", "9x", "512M"],
        ),
        (
            &["enqueue", "--limit-memory", "9K", "--", "ls"],
            &["--limit-memory", "9216", "64 MiB"],
        ),
        (
            &["enqueue", "--limit-files", "2", "--", "ls"],
            &["--limit-files", "2", "at least 4"],
        ),
        (
            &["enqueue", "--limit-files", "9", "--sample", "ok"],
            &["--limit-files", "CMD"],
        ),
        (
            &["enqueue", "--notify", "failure", "--sample", "ok"],
            &["--notify", "\"failure\"", "end=mailto:ann@example.org"],
        ),
        (
            &["enqueue", "--notify", "sometimes=https://x", "--sample", "ok"],
            &["--notify", "sometimes", "recovery"],
        ),
        (
            &["enqueue", "--notify", "miss=mailto:ann", "--sample", "ok"],
            &["--notify", "\"ann\"", "ann@example.org"],
        ),
        (
            &["enqueue", "--notify", "miss=ftp://x", "--sample", "ok"],
            &["--notify", "ftp://x", "http"],
        ),
        (&["enqueue", "--http", "GET nowhere"], &["--http", "http"]),
        (&["enqueue", "--name", &long, "--sample", "ok"], &["name", "257", "256"]),
        (&["enqueue", "--name", "42", "--sample", "ok"], &["name", "letter"]),
        (&["enqueue", "--tries", "0", "--sample", "ok"], &["tries"]),
        (
            &["enqueue", "--label", "a=1", "--label", "a=2", "--sample", "ok"],
            &["--label", "twice"],
        ),
        (
            &["enqueue", "--stdin", "@/no/such/file", "--", "cat"],
            &["--stdin", "/no/such/file"],
        ),
        (&["enqueue", "-f", "/no/such/file.yaml"], &["/no/such/file.yaml"]),
        (&["move", "1", "--at", "noon"], &["--at"]),
        (&["retry", "42"], &["42:3"]),
        (&["retry", "1:2", "nonsense"], &["nonsense"]),
        (&["run", "1", "--param", "a b=c"], &["params", "a b"]),
        (&["wait", "1", "--timeout", "x"], &["--timeout"]),
        (&["clear-spool"], &["--yes"]),
        (&["--endpoint", "https://x", "status"], &["https://x", "plain http"]),
        (&["--endpoint", "", "status"], &["0 addresses"]),
        (&["--deadline", "x", "status"], &["--deadline"]),
    ] {
        run(&cluster, arguments).await.failed(2, parts);
    }
    assert!(cluster.state().received.is_empty());
}

/// Returns the words of the command line: verb, what is beside, flag and value, and a command, which comes last.
fn words(row: &Wrong) -> Vec<String> {
    let command = row.beside.strip_prefix("-- ");
    let before = if command.is_some() { "" } else { row.beside };
    let mut words: Vec<String> = [row.verb, before]
        .iter()
        .flat_map(|text| text.split_whitespace())
        .map(str::to_owned)
        .collect();
    words.extend([format!("--{}", row.flag), row.value.to_owned()]);
    if let Some(command) = command {
        words.extend(["--".to_owned(), command.to_owned()]);
    }
    words
}

/// Each message names the flag, the value, and what would be right.
#[tokio::test]
async fn each_wrong_value_is_named_with_its_flag_and_a_right_one() {
    let cluster = FakeCluster::start(1).await;
    let mut wrong = Vec::new();
    for row in WRONG {
        let words = words(row);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let ran = run(&cluster, &words).await;
        let flag = format!("--{}", row.flag);
        // A file is named by its own name, and what a client is given otherwise than by flags as it is there.
        let names = [flag.clone(), row.flag.replace('-', " "), row.flag.to_owned()];
        let named = row.flag == "file" || names.iter().any(|name| ran.stderr.contains(name));
        if ran.code != 2 || !named || !ran.stderr.contains(row.shown) || !ran.stderr.contains(row.right) {
            wrong.push(format!("{words:?}, expected {:?}: {ran:?}", row.right));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(cluster.state().received.is_empty());
}

#[tokio::test]
async fn refusals_are_1_and_unknown_things_are_4() {
    let cluster = FakeCluster::start(1).await;
    let past = v1::Failure {
        field: "schedule.at".into(),
        ..failure(
            v1::FailureKind::Invalid,
            "schedule.at: is an hour past; --late-ok accepts it",
        )
    };
    cluster.fault(0, [Fault::Refuse(past)]);
    let ran = run(&cluster, &["enqueue", "--at", "2020-01-01T00:00:00Z", "--sample", "ok"]).await;
    ran.failed(1, &["--late-ok"]);
    for arguments in [
        &["get", "9"][..],
        &["get", "nobody"],
        &["get", "9:1"],
        &["dequeue", "9"],
        &["run", "9"],
        &["cancel", "9:1"],
        &["runs", "9"],
        &["logs", "9:1"],
        &["logs", "9"],
        &["wait", "9"],
    ] {
        run(&cluster, arguments).await.failed(4, &["does not exist"]);
    }
    // The first failure decides, the rest is done all the same.
    run(&cluster, &["enqueue", "--manual", "--name", "here", "--sample", "ok"])
        .await
        .done();
    let ran = run(&cluster, &["dequeue", "nobody", "here"]).await;
    assert_eq!(ran.code, 4, "{ran:?}");
    assert!(
        ran.stdout.contains("TERMINATED") && ran.stderr.contains("nobody"),
        "{ran:?}"
    );
}

#[tokio::test]
async fn nobody_there_is_3_and_says_who_was_asked() {
    let ran = run_at("127.0.0.1:1,127.0.0.1:2", &["status", "--deadline", "300ms"], b"").await;
    ran.failed(
        3,
        &[
            "http://127.0.0.1:1: Connection refused",
            "http://127.0.0.1:2: Connection refused",
        ],
    );
}

#[tokio::test]
async fn hostile_texts_do_not_reach_the_terminal_as_controls() {
    let cluster = FakeCluster::start(1).await;
    let evil = "\x1b]0;owned\x07";
    let refusal = failure(v1::FailureKind::WrongState, format!("bad {evil}"));
    cluster.fault(0, [Fault::Refuse(refusal)]);
    run(&cluster, &["resume", "x"])
        .await
        .failed(1, &["bad \\u{1b}]0;owned\\u{7}"]);
    run(
        &cluster,
        &["enqueue", "--manual", "--description", evil, "--sample", "ok"],
    )
    .await
    .done();
    let shown = run(&cluster, &["get", "1"]).await.done();
    assert!(shown.contains("\\u{1b}]0;owned"), "{shown}");
    let json = run(&cluster, &["get", "1", "-o", "json"]).await.json();
    assert_eq!(json["description"], evil, "programs get the text itself");
}

#[tokio::test]
async fn a_closed_pipe_is_no_error() {
    use std::process::Stdio;
    let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_schedcli"))
        .args(["next", "--every", "1s", "-n", "10000"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("starts");
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("ends");
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), &b""[..]));
}

#[tokio::test]
async fn without_arguments_the_help_is_shown() {
    let ran = run_alone(&[]).await;
    assert_eq!(ran.code, 2);
    assert!(ran.stderr.contains("Usage: schedcli"), "{ran:?}");
}
