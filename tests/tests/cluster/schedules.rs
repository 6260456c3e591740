//! Every form of schedule, from the command line to the start of a process.

use crate::{LIMIT, SOON, rows, text};
use anyhow::{Context, Result, ensure};
use sched_tests::cli::{NOT_FOUND, REFUSED};
use sched_tests::tasks::{now_ms, rfc3339};
use sched_tests::{Cluster, Plan, Recorder, eventually, scenario, tasks};
use serde_json::Value;

#[test]
fn both_examples_of_the_original_work() {
    scenario(Plan::nodes(3), LIMIT, async |cluster| {
        let id = cluster.enqueue(&["--in", "1s", "--sample", "ok"]).await?.to_string();
        cluster.cli(&["wait", &id, "--timeout", "15s"]).await?.done()?;
        let run = &cluster.json(&["runs", &id]).await?[0];
        ensure!(run["state"] == "FINISHED", "{run}");
        ensure!(
            run["late_ms"].as_i64().is_some_and(|late| (0..1000).contains(&late)),
            "{run}"
        );

        let script = "date >> out.txt";
        let rule = "FREQ=MINUTELY;BYSECOND=40";
        let reply = cluster
            .json(&["enqueue", "--rrule", rule, "--", "/bin/sh", "-c", script])
            .await?;
        let next = tasks::instant_ms(text(&reply, "next_run")?)?;
        ensure!(
            next % 60_000 == 40_000 && (0..=61_000).contains(&(next - tasks::now_ms())),
            "{reply}"
        );
        // Not a minute's wait: the same run, asked for.
        let id = reply["id"].as_u64().context("no id")?.to_string();
        cluster.cli(&["run", &id, "--wait"]).await?.done()?;
        let written = find(cluster.folder(), "out.txt").context("out.txt is nowhere")?;
        ensure!(
            std::fs::read_to_string(&written)?.lines().count() == 1,
            "{}",
            written.display()
        );
        Ok(())
    });
}

#[test]
fn every_form_starts_when_it_is_due() {
    scenario(Plan::nodes(3), LIMIT, async |cluster| {
        let recorder = Recorder::at(cluster.file("starts"))?;
        let soon = tasks::now_ms() / 1000 * 1000 + 4000;
        let at = tasks::rfc3339(soon);
        let second = (soon / 1000) % 60;
        let cron = format!("{second} * * * * *");
        let minutely = format!("FREQ=MINUTELY;BYSECOND={second}");
        let secondly = "FREQ=SECONDLY;INTERVAL=2;COUNT=3";
        for (note, schedule) in [
            ("now", &[][..]),
            ("in", &["--in", "500ms"]),
            ("at", &["--at", &at]),
            ("every", &["--every", "2s"]),
            ("cron", &["--cron", &cron]),
            ("minutely", &["--rrule", &minutely]),
            ("secondly", &["--rrule", secondly, "--dtstart", &at]),
        ] {
            let argv = recorder.argv(note);
            let command: Vec<&str> = argv.iter().map(String::as_str).collect();
            cluster
                .cli(&[&["enqueue", "--name", note], schedule, &["--"], &command].concat())
                .await?
                .done()?;
        }
        for (note, number) in [
            ("now", 1),
            ("in", 1),
            ("at", 1),
            ("cron", 1),
            ("minutely", 1),
            ("every", 3),
            ("secondly", 3),
        ] {
            recorder.hear(note, number, SOON).await?;
        }
        let by_note = recorder.by_note();
        for note in ["at", "cron", "minutely", "secondly"] {
            let due = tasks::instant_ms(&by_note[note][0].scheduled_at)?;
            ensure!(due == soon, "{note} was due at {due}, expected {soon}");
        }
        for start in &by_note["every"] {
            let due = tasks::instant_ms(&start.scheduled_at)?;
            ensure!(
                due % 2000 == 0,
                "every 2s counts from the epoch, not from a process: {start:?}"
            );
        }
        ends(cluster, "secondly").await?;
        ends(cluster, "at").await
    });
}

#[test]
fn zones_and_exhausted_and_manual() {
    scenario(Plan::nodes(1), LIMIT, async |cluster| {
        // Half past midnight in Kathmandu is a quarter to seven in the evening, the day before, in UTC.
        let nepal = ["--cron", "30 0 * * *", "--tz", "Asia/Kathmandu", "--sample", "ok"];
        let reply = cluster.json(&[&["enqueue"], &nepal[..]].concat()).await?;
        ensure!(text(&reply, "next_run")?.ends_with("T18:45:00.000Z"), "{reply}");

        let manual = cluster.enqueue(&["--manual", "--sample", "ok"]).await?.to_string();
        let task = cluster.json(&["get", &manual]).await?;
        ensure!(task["next_run"].is_null(), "{task}");
        let run = cluster.json(&["run", &manual, "--param", "DAY=monday"]).await?;
        let run = text(&run, "run")?.to_owned();
        cluster.cli(&["wait", &run, "--timeout", "10s"]).await?.done()?;
        ensure!(
            cluster
                .json(&["runs", &manual])
                .await?
                .as_array()
                .is_some_and(|runs| runs.len() == 1),
            "one run was asked for"
        );

        // Local, without a cluster.
        let next = [
            "next",
            "--rrule",
            "FREQ=YEARLY;BYEASTER=0",
            "--dtstart",
            "2026-01-01T12:00:00Z",
            "--after",
            "2026-01-01T00:00:00Z",
            "-n",
            "3",
        ];
        let times = sched_tests::cli::run("http://127.0.0.1:1", &[&["--output", "json"], &next[..]].concat(), None)
            .await?
            .json()?;
        let expected: Value = [
            "2026-04-05T12:00:00.000Z",
            "2027-03-28T12:00:00.000Z",
            "2028-04-16T12:00:00.000Z",
        ]
        .into_iter()
        .collect();
        ensure!(times == expected, "{times}");
        let lines = sched_tests::cli::run("http://127.0.0.1:1", &next, None).await?.done()?;
        ensure!(lines.lines().count() == 3, "one time per line: {lines}");
        Ok(())
    });
}

/// Waits until a named task is finished: its schedule is exhausted.
async fn ends(cluster: &Cluster, name: &str) -> Result<()> {
    eventually("the task is finished", SOON, async || {
        let task = cluster.json(&["get", name]).await?;
        ensure!(task["state"] == "FINISHED", "{task}");
        Ok(())
    })
    .await
}

/// Finds a file below a folder.
fn find(folder: &std::path::Path, name: &str) -> Option<std::path::PathBuf> {
    std::fs::read_dir(folder)
        .ok()?
        .flatten()
        .map(|entry| entry.path())
        .find_map(|path| {
            if path.is_dir() {
                find(&path, name)
            } else {
                path.ends_with(name).then_some(path)
            }
        })
}

/// Returns what the ledger of a task says, newest first: fact and reason.
async fn ledger(cluster: &Cluster, task: &str) -> Result<Vec<(String, String, u64)>> {
    let task = cluster.json(&["get", task]).await?;
    rows(&task["ledger"])?
        .iter()
        .map(|line| {
            Ok((
                text(line, "fact")?.to_owned(),
                text(line, "reason")?.to_owned(),
                line["count"].as_u64().unwrap_or_default(),
            ))
        })
        .collect()
}

/// Every instant that a ledger tells of, when the occurrences lie `step_ms` apart, in their order.
fn told(ledger: &Value, step_ms: i64) -> Result<Vec<i64>> {
    let mut told = Vec::new();
    for line in rows(ledger)? {
        let first = tasks::instant_ms(text(line, "scheduled_at")?)?;
        let count = line["count"].as_i64().context("a number")?;
        if let Some(last) = line["last"].as_str() {
            ensure!(tasks::instant_ms(last)? == first + (count - 1) * step_ms, "{line}");
        }
        told.extend((0..count).map(|n| first + n * step_ms));
    }
    told.sort_unstable();
    Ok(told)
}

async fn often_told(cluster: &Cluster) -> Result<Value> {
    cluster.json(&["ledger", "often", "--limit", "1000"]).await
}

fn has(ledger: &Value, fact: &str) -> Result<()> {
    ensure!(
        rows(ledger)?.iter().any(|line| line["fact"] == fact),
        "no {fact}: {ledger}"
    );
    Ok(())
}

#[test]
fn every_occurrence_ends_as_one_line() {
    const STEP_MS: i64 = 500;
    scenario(Plan::nodes(3), LIMIT, async |cluster| {
        // Each run takes two others' time.
        let often = ["--name", "often", "--every", "500ms", "--sample", "ok,1200"];
        cluster.enqueue(&often).await?;
        for fact in ["running", "ran", "skipped"] {
            eventually(fact, SOON, async || has(&often_told(cluster).await?, fact)).await?;
        }
        let until = rfc3339(now_ms() + 2_000);
        cluster.cli(&["pause", "often", "--until", &until]).await?.done()?;
        eventually("the pause leaves a line", SOON, async || {
            has(&often_told(cluster).await?, "missed")
        })
        .await?;
        let leader = cluster.leader().await?;
        cluster.kill9(leader).await?;
        let before = rows(&often_told(cluster).await?)?.len();
        eventually("it goes on", SOON, async || {
            let ledger = often_told(cluster).await?;
            ensure!(rows(&ledger)?.len() > before + 3, "{ledger}");
            Ok(())
        })
        .await?;
        let ledger = often_told(cluster).await?;
        let told = told(&ledger, STEP_MS)?;
        ensure!(
            told.windows(2).all(|pair| pair[1] == pair[0] + STEP_MS),
            "each once, and none left out: {ledger}"
        );
        let ran = rows(&ledger)?
            .iter()
            .find(|line| line["fact"] == "ran")
            .context("one ran")?;
        ensure!(
            ran["state"] == "FINISHED" && ran["late_ms"].is_number() && text(ran, "run")?.contains(':'),
            "{ran}"
        );
        let table = cluster.cli(&["ledger", "often"]).await?.done()?;
        ensure!(table.starts_with("SCHEDULED") && table.contains("skipped"), "{table}");
        Ok(())
    });
}

#[test]
fn a_calendar_holds_at_once_and_leaves_one_line() {
    scenario(Plan::nodes(3), LIMIT, async |cluster| {
        let unknown = [
            "enqueue",
            "--every",
            "200ms",
            "--calendar",
            "holidays",
            "--sample",
            "ok",
        ];
        cluster
            .cli(&unknown)
            .await?
            .failed(REFUSED, &["there is no calendar \"holidays\"", "schedcli calendar set"])?;
        let day = |ms: i64| rfc3339(now_ms() + ms)[..10].to_owned();
        let days = format!("{}..{}", day(-86_400_000), day(86_400_000));
        cluster
            .cli(&["calendar", "set", "holidays", "--day", &days])
            .await?
            .done()?;
        // Closed from the first occurrence on.
        let often = [
            "enqueue",
            "--name",
            "often",
            "--every",
            "200ms",
            "--overlap",
            "allow",
            "--calendar",
            "holidays",
        ];
        cluster.cli(&[&often[..], &["--sample", "ok"]].concat()).await?.done()?;
        let soon = rfc3339(now_ms() + 60_000);
        cluster
            .cli(&["enqueue", "--at", &soon, "--calendar", "holidays", "--sample", "ok"])
            .await?
            .failed(REFUSED, &["schedule.at", "closed by calendar \"holidays\""])?;
        eventually("several occurrences in one line", SOON, async || {
            let lines = ledger(cluster, "often").await?;
            ensure!(lines.len() == 1, "{lines:?}");
            let (fact, reason, count) = &lines[0];
            ensure!(
                fact == "skipped" && reason == "calendar holidays" && *count >= 3,
                "{lines:?}"
            );
            Ok(())
        })
        .await?;
        let said = cluster.cli(&["explain", "often"]).await?.done()?;
        ensure!(
            said.contains("closes that time until") && said.contains("the first that is open"),
            "{said}"
        );
        let runs = cluster.json(&["runs", "often"]).await?;
        ensure!(rows(&runs)?.is_empty(), "{runs}");
        cluster
            .cli(&["calendar", "delete", "holidays"])
            .await?
            .failed(REFUSED, &["in use by task 1"])?;
        // Opened: the next occurrence runs, whatever was computed before; also after the node that leads has died.
        cluster.cli(&["calendar", "set", "holidays"]).await?.done()?;
        eventually("a run", SOON, async || {
            let runs = cluster.json(&["runs", "often"]).await?;
            ensure!(!rows(&runs)?.is_empty(), "{runs}");
            Ok(())
        })
        .await?;
        let leader = cluster.leader().await?;
        cluster.kill9(leader).await?;
        let shown = eventually("the calendar at another leader", SOON, async || {
            cluster.json(&["calendar", "get", "holidays"]).await
        })
        .await?;
        ensure!(shown["used_by"] == serde_json::json!([1]), "{shown}");
        cluster.cli(&["dequeue", "often"]).await?.done()?;
        cluster.cli(&["calendar", "delete", "holidays"]).await?.done()?;
        cluster
            .cli(&["calendar", "get", "holidays"])
            .await?
            .failed(NOT_FOUND, &["does not exist"])?;
        Ok(())
    });
}
