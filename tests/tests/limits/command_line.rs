//! What people type.

use crate::{LIMIT, holds_and_serves};
use anyhow::{Context, Result, ensure};
use sched_tests::cli::{NOT_FOUND, REFUSED, USAGE};
use sched_tests::{Plan, scenario};

/// An `enqueue` that is refused: its arguments, and what the message must contain.
type Row = (&'static [&'static str], &'static [&'static str]);

/// Refused before anything is sent.
const WRONG: &[Row] = &[
    (&["--frobnicate", "--sample", "ok"], &["--frobnicate"]),
    (&["--in", "1s"], &["--sample"]),
    (&["--in", "1s", "--every", "1s", "--sample", "ok"], &["--in", "--every"]),
    // Schedules.
    (&["--cron", "99 * * * *", "--sample", "ok"], &["--cron", "99", "minute"]),
    (&["--cron", "* * *", "--sample", "ok"], &["--cron", "five fields"]),
    (&["--cron", "0 0 31 2 *", "--sample", "ok"], &["--cron", "never"]),
    (&["--cron", "", "--sample", "ok"], &["--cron"]),
    (
        &["--rrule", "FREQ=FORTNIGHTLY", "--sample", "ok"],
        &["--rrule", "FORTNIGHTLY", "DAILY"],
    ),
    (
        &["--rrule", "FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=30", "--sample", "ok"],
        &["--rrule", "never", "30 February"],
    ),
    (&["--rrule", "BYHOUR=9", "--sample", "ok"], &["--rrule", "FREQ"]),
    (
        &["--rrule", "FREQ=DAILY;COUNT=3;UNTIL=20300101T000000Z", "--sample", "ok"],
        &["--rrule", "UNTIL"],
    ),
    (
        &["--rrule", "FREQ=DAILY;INTERVAL=0", "--sample", "ok"],
        &["--rrule", "INTERVAL"],
    ),
    (
        &["--rrule", "FREQ=DAILY;BYHOUR=24", "--sample", "ok"],
        &["--rrule", "24", "23"],
    ),
    (
        &["--rrule", "FREQ=DAILY;BYPHASE=full", "--sample", "ok"],
        &["--rrule", "BYPHASE"],
    ),
    (
        &["--cron", "@daily", "--tz", "Mars/Olympus", "--sample", "ok"],
        &["--tz", "Mars/Olympus", "IANA"],
    ),
    (
        &["--at", "yesterday", "--sample", "ok"],
        &["--at", "yesterday", "RFC 3339"],
    ),
    (
        &["--at", "2027-02-30T00:00:00Z", "--sample", "ok"],
        &["--at", "2027-02-30"],
    ),
    (&["--at", "99999-01-01T00:00:00Z", "--sample", "ok"], &["--at"]),
    (&["--in", "5parsecs", "--sample", "ok"], &["--in", "5parsecs", "500ms"]),
    (&["--in=-5s", "--sample", "ok"], &["--in", "-5s"]),
    (&["--in", "99999999999h", "--sample", "ok"], &["--in"]),
    (&["--every", "0s", "--sample", "ok"], &["--every", "0s", "10ms"]),
    // Policies.
    (&["--tries", "0", "--sample", "ok"], &["tries", "0", "1 to 1000"]),
    (&["--tries", "1001", "--sample", "ok"], &["tries", "1001", "1 to 1000"]),
    (
        &["--priority", "101", "--sample", "ok"],
        &["priority", "101", "-100 to 100"],
    ),
    (
        &["--overlap", "maybe", "--sample", "ok"],
        &["--overlap", "maybe", "queue-one"],
    ),
    (
        &["--missed", "sometimes", "--sample", "ok"],
        &["--missed", "sometimes", "latest"],
    ),
    (&["--grace", "never", "--sample", "ok"], &["--grace", "never"]),
    (&["--time-limit", "0s", "--sample", "ok"], &["--time-limit"]),
    (
        &["--delivery", "exactly-once", "--sample", "ok"],
        &["--delivery", "exactly-once", "at-most-once"],
    ),
    // Actions.
    (&["--sample", "perhaps"], &["--sample", "perhaps"]),
    (&["--http", "FETCH ME"], &["http", "FETCH", "GET"]),
    (&["--http", "GET ftp://x/"], &["ftp"]),
    (
        &["--http", "GET http://x/", "--header", "no colon"],
        &["--header", "no colon"],
    ),
    (
        &["--http", "GET http://x/", "--header", "A: b\r\nInjected: c"],
        &["header"],
    ),
    (&["--"], &["enqueue"]),
    (&["--", ""], &["CMD"]),
    (&["--dir", "relative/..", "--env", "=x", "--", "ls"], &["--env"]),
    // Names.
    (&["--name", "", "--sample", "ok"], &["name", "1 to 256"]),
    (&["--name", "4711", "--sample", "ok"], &["name", "4711"]),
    (&["--name", "a\nb", "--sample", "ok"], &["name", "control"]),
    (
        &["--label", "nonsense", "--sample", "ok"],
        &["--label", "nonsense", "KEY=VALUE"],
    ),
    (&["--output", "xml", "--sample", "ok"], &["--output", "xml", "json"]),
    (&["--endpoint", "not an address", "--sample", "ok"], &["not an address"]),
    (&["--endpoint", "", "--sample", "ok"], &["endpoint"]),
];

#[test]
fn what_makes_no_sense_is_refused_and_not_stored() {
    scenario(Plan::nodes(1), LIMIT, async |cluster| {
        let mut wrong = Vec::new();
        for (arguments, parts) in WRONG {
            let ran = cluster.cli(&[&["enqueue"], *arguments].concat()).await?;
            // All of them, so that one run shows all there is to mend.
            wrong.extend(ran.failed(USAGE, parts).err().map(|error| format!("{error:#}")));
        }
        ensure!(
            wrong.is_empty(),
            "{} of {} messages:\n{}",
            wrong.len(),
            WRONG.len(),
            wrong.join("\n")
        );
        holds_and_serves(cluster, 0).await
    });
}

#[test]
fn what_is_too_large_is_refused_with_the_limit() {
    scenario(Plan::nodes(1), LIMIT, async |cluster| {
        let (name, text) = ("n".repeat(257), "t".repeat(4097));
        let payload = "p".repeat(65 * 1024);
        let labels: Vec<String> = (0..33).map(|number| format!("l{number}=x")).collect();
        let mut many = vec!["enqueue", "--sample", "ok"];
        for label in &labels {
            many.extend(["--label", label]);
        }
        let long_label = format!("{name}=x");
        let file = cluster.file("payload");
        std::fs::write(&file, &payload)?;
        let file = format!("@{}", file.display());
        for (arguments, parts) in [
            (
                &["enqueue", "--name", &name, "--sample", "ok"][..],
                &["name", "257", "256"][..],
            ),
            (
                &["--namespace", &name, "enqueue", "--sample", "ok"],
                &["namespace", "257", "256"],
            ),
            (
                &["enqueue", "--owner", &name, "--sample", "ok"],
                &["owner", "257", "256"],
            ),
            (
                &["enqueue", "--description", &text, "--sample", "ok"],
                &["description", "4097", "4096"],
            ),
            (
                &["enqueue", "--label", &long_label, "--sample", "ok"],
                &["labels", "257", "256"],
            ),
            (&many, &["labels", "33", "32"]),
            (&["enqueue", "--", "/bin/echo", &payload], &["65536"]),
            (&["enqueue", "--stdin", &file, "--", "/bin/cat"], &["65536"]),
            (&["enqueue", "--http", "POST http://x/", "--body", &file], &["65536"]),
            (&["shutdown", "--message", &text], &["4097", "4096"]),
        ] {
            cluster.cli(arguments).await?.failed(USAGE, parts)?;
        }
        // The largest that fits is taken.
        let (name, payload) = ("n".repeat(256), "p".repeat(63 * 1024));
        cluster
            .cli(&["enqueue", "--name", &name, "--manual", "--", "/bin/echo", &payload])
            .await?
            .done()?;
        holds_and_serves(cluster, 1).await
    });
}

#[test]
fn what_is_not_there_or_not_possible_is_said() {
    scenario(Plan::nodes(3), LIMIT, async |cluster| {
        for arguments in [
            &["get", "4711"][..],
            &["get", "no-such-name"],
            &["get", "4711:1"],
            &["get", "0"],
            &["dequeue", "4711"],
            &["move", "4711", "--in", "1s"],
            &["run", "no-such-name"],
            &["pause", "4711"],
            &["resume", "4711"],
            &["retry", "4711:1"],
            &["cancel", "4711:1"],
            &["logs", "4711:1"],
            &["runs", "4711"],
            &["wait", "4711"],
            &["wait", "4711:1"],
        ] {
            cluster.cli(arguments).await?.failed(NOT_FOUND, &[arguments[1]])?;
        }
        for (arguments, parts) in [
            (&["get", "18446744073709551616"][..], &["18446744073709551616"][..]),
            (&["retry", "soon"], &["soon", "TASK:NUMBER"]),
            (&["retry", "1:x"], &["1:x"]),
            (&["list", "--limit=-1"], &["--limit", "-1"]),
            (&["list", "--state", "SLEEPING"], &["SLEEPING", "QUEUED"]),
            (&["list", "--deadline", "soon"], &["soon"]),
            (&["wait", "1", "--timeout", "x"], &["--timeout", "x"]),
            (&["next", "--cron", "x"], &["--cron", "x"]),
        ] {
            let ran = cluster.cli(arguments).await?;
            let code = ran.code;
            ensure!([USAGE, NOT_FOUND].contains(&code), "{ran}");
            ran.failed(code, parts)?;
        }
        let past = cluster
            .cli(&["enqueue", "--at", "2001-01-01T00:00:00Z", "--sample", "ok"])
            .await?;
        past.failed(REFUSED, &["2001-01-01", "past", "late"])?;
        cluster
            .cli(&["list", "--cursor", "nonsense"])
            .await?
            .failed(REFUSED, &["cursor"])?;

        let id = cluster.enqueue(&["--sample", "ok", "--wait"]).await?.to_string();
        for arguments in [
            &["move", &id, "--in", "1h"][..],
            &["pause", &id],
            &["cancel", &format!("{id}:1")],
        ] {
            cluster.cli(arguments).await?.failed(REFUSED, &["FINISHED"])?;
        }
        // Late, but told to: runs at once.
        cluster
            .cli(&[
                "enqueue",
                "--at",
                "2001-01-01T00:00:00Z",
                "--late-ok",
                "--sample",
                "ok",
                "--wait",
            ])
            .await?
            .done()?;
        holds_and_serves(cluster, 2).await
    });
}

#[test]
fn arguments_reach_the_process_byte_by_byte_and_the_terminal_harmlessly() {
    scenario(Plan::nodes(1), LIMIT, async |cluster| {
        let hostile = "\u{1b}[2J\u{1b}]0;owned\u{7}\rover\nnext\ttab \u{202e}rtl 漢 '\"$(id)`id`\\";
        let id = cluster
            .enqueue(&[
                "--label",
                "kind=hostile",
                "--wait",
                "--",
                "/usr/bin/printf",
                "%s",
                hostile,
            ])
            .await?
            .to_string();
        // A pipe gets what the process wrote.
        let output = cluster.cli(&["logs", &id]).await?.done()?;
        ensure!(output == hostile, "{output:?}");
        // A table is for a terminal.
        let shown = cluster.cli(&["get", &id]).await?.done()?;
        ensure!(
            !shown.contains('\u{1b}') && !shown.contains('\u{7}'),
            "control characters in a table: {shown:?}"
        );
        let environment = cluster
            .enqueue(&["--env", "A B=c", "--wait", "--", "/usr/bin/env"])
            .await;
        // Odd, but possible: either refused, or passed on as it is.
        if let Ok(id) = environment {
            let output = cluster.cli(&["logs", &id.to_string()]).await?.done()?;
            ensure!(output.contains("A B=c"), "{output:?}");
        }
        let list = cluster.json(&["list", "--label", "kind=hostile"]).await?;
        let count: usize = list.as_array().context("a list")?.len();
        ensure!(count == 1, "{list}");
        Ok::<_, anyhow::Error>(())
    });
}

#[test]
fn a_closed_pipe_is_no_error() -> Result<()> {
    // `schedcli next -n 10000 | head -1`
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(async {
            let mut command =
                sched_tests::cli::command("http://127.0.0.1:1", &["next", "--every", "1s", "-n", "10000"])?;
            command
                .stdout(std::process::Stdio::piped())
                .stderr(std::process::Stdio::piped());
            let mut child = command.spawn()?;
            drop(child.stdout.take());
            let output = child.wait_with_output().await?;
            let said = String::from_utf8_lossy(&output.stderr);
            ensure!(
                output.status.code() == Some(0) && said.is_empty(),
                "{}: {said}",
                output.status
            );
            Ok(())
        })
}
