//! The verbs that act on runs: retry, cancel, logs, wait; and what executors report.

use crate::{LIMIT, SOON, rows, text};
use anyhow::{Context, Result, ensure};
use sched_tests::cli::{self, NOT_FOUND, REFUSED};
use sched_tests::{Plan, Recorder, eventually, scenario};
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;
use tokio::time::timeout;

#[test]
fn failed_runs_are_shown_and_retried() {
    scenario(Plan::nodes(3), LIMIT, async |cluster| {
        // Fails until a file is there.
        let flag = cluster.file("mended").display().to_string();
        let script = format!("echo looking; test -e {flag} || {{ echo broken >&2; exit 3; }}");
        let failed = cluster
            .cli(&["enqueue", "--name", "fragile", "--wait", "--", "/bin/sh", "-c", &script])
            .await?;
        ensure!(
            failed.code == REFUSED,
            "--wait exits with 1 when the task failed: {failed}"
        );
        let runs = cluster.json(&["runs", "--state", "FAILED"]).await?;
        let run = &rows(&runs)?[0];
        ensure!(run["exit_code"] == 3 && run["state"] == "FAILED", "{run}");
        let name = text(run, "run")?.to_owned();
        let output = cluster.cli(&["logs", &name]).await?.done()?;
        ensure!(output == "looking\nbroken\n", "{output:?}");
        cluster
            .cli(&["wait", &name])
            .await
            .map(|ran| ensure_code(ran, REFUSED))??;

        std::fs::write(&flag, "")?;
        cluster.cli(&["retry", &name]).await?.done()?;
        cluster.cli(&["wait", &name, "--timeout", "10s"]).await?.done()?;
        let task = cluster.json(&["get", "fragile"]).await?;
        ensure!(task["state"] == "FINISHED", "{task}");
        cluster.cli(&["retry", &name]).await?.failed(REFUSED, &["FINISHED"])?;
        cluster.cli(&["retry", "1:99"]).await?.failed(NOT_FOUND, &["1:99"])
    });
}

#[test]
fn tries_delays_and_time_limits() {
    scenario(Plan::nodes(3), LIMIT, async |cluster| {
        let recorder = Recorder::at(cluster.file("starts"))?;
        let argv = recorder.argv_then("tries", "exit 1");
        let command: Vec<&str> = argv.iter().map(String::as_str).collect();
        let id = cluster
            .enqueue(&[&["--tries", "3", "--retry-delay", "200ms", "--"], &command[..]].concat())
            .await?
            .to_string();
        let starts = recorder.hear("tries", 3, SOON).await?;
        ensure!(starts.iter().map(|start| start.attempt).eq(1..=3), "{starts:?}");
        let ended = cluster.cli(&["wait", &id, "--timeout", "10s"]).await?;
        ensure_code(ended, REFUSED)?;
        let runs = cluster.json(&["runs", &id]).await?;
        ensure!(rows(&runs)?.len() == 1, "tries are attempts of one run: {runs}");

        // 75 means: not now, and it costs no try.
        let argv = recorder.argv_then("delay", "exit 75");
        let command: Vec<&str> = argv.iter().map(String::as_str).collect();
        cluster.enqueue(&[&["--"], &command[..]].concat()).await?;
        let run = recorder.hear("delay", 1, SOON).await?.remove(0).run;
        eventually("the run is delayed", SOON, async || {
            let shown = cluster.json(&["get", &run]).await?;
            ensure!(
                shown["state"] == "PENDING" && text(&shown, "reason")?.contains("75"),
                "{shown}"
            );
            Ok(())
        })
        .await?;

        // The whole tree is killed: the grandchild would tell.
        let argv = recorder.argv_then(
            "limit",
            &format!("( exec sleep 600 ) & sleep 600; : >'{}'", recorder.path().display()),
        );
        let command: Vec<&str> = argv.iter().map(String::as_str).collect();
        let id = cluster
            .enqueue(&[&["--time-limit", "500ms", "--"], &command[..]].concat())
            .await?
            .to_string();
        let ended = cluster.cli(&["wait", &id, "--timeout", "20s"]).await?;
        ensure_code(ended, REFUSED)?;
        let run = cluster.json(&["runs", &id]).await?[0].clone();
        ensure!(text(&run, "reason")?.contains("limit"), "{run}");
        Ok(())
    });
}

#[test]
fn a_running_run_is_cancelled_and_killed() {
    scenario(Plan::nodes(3), LIMIT, async |cluster| {
        let recorder = Recorder::at(cluster.file("starts"))?;
        for (note, verb) in [("cancel", "cancel"), ("kill", "dequeue")] {
            let argv = recorder.argv_then(note, "exec sleep 600");
            let command: Vec<&str> = argv.iter().map(String::as_str).collect();
            let id = cluster.enqueue(&[&["--"], &command[..]].concat()).await?.to_string();
            let run = recorder.hear(note, 1, SOON).await?.remove(0).run;
            let arguments = if verb == "cancel" {
                vec!["cancel", &run]
            } else {
                vec!["dequeue", &id, "--kill"]
            };
            cluster.cli(&arguments).await?.done()?;
            eventually("the run is terminated", SOON, async || {
                let shown = cluster.json(&["get", &run]).await?;
                ensure!(shown["state"] == "TERMINATED", "{shown}");
                Ok(())
            })
            .await?;
        }
        Ok(())
    });
}

#[test]
fn output_is_followed_through_any_node() {
    scenario(Plan::nodes(3), LIMIT, async |cluster| {
        let recorder = Recorder::at(cluster.file("starts"))?;
        let go = cluster.file("go");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &go,
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::RWXU,
            0,
        )?;
        // Says one line, waits to be told, says another.
        let more = format!("echo first; read -r word <'{}'; echo \"second $word\"", go.display());
        let argv = recorder.argv_then("talk", &more);
        let command: Vec<&str> = argv.iter().map(String::as_str).collect();
        cluster
            .enqueue(&[&["--name", "talk", "--"], &command[..]].concat())
            .await?;
        let run = recorder.hear("talk", 1, SOON).await?.remove(0).run;

        let mut followers = Vec::new();
        for node in &cluster.nodes {
            let mut follower = cli::command(&format!("http://{}", node.client), &["logs", "-f", &run])?;
            let mut child = follower.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
            let mut lines = BufReader::new(child.stdout.take().context("a pipe was asked for")?).lines();
            let first = timeout(SOON, lines.next_line())
                .await
                .with_context(|| format!("nothing from {}", node.name))??;
            ensure!(first.as_deref() == Some("first"), "{first:?} through {}", node.name);
            followers.push((child, lines));
        }
        tokio::fs::write(&go, "word\n").await?;
        for (mut child, mut lines) in followers {
            let second = timeout(SOON, lines.next_line())
                .await
                .context("the second line does not come")??;
            ensure!(second.as_deref() == Some("second word"), "{second:?}");
            ensure!(
                timeout(SOON, lines.next_line())
                    .await
                    .context("the end does not come")??
                    .is_none(),
                "more than was said"
            );
            ensure!(
                timeout(SOON, child.wait()).await??.success(),
                "logs -f ends well when the run does"
            );
        }
        // Afterwards it is still there, and a part of it.
        ensure!(
            cluster.cli(&["logs", "talk"]).await?.done()? == "first\nsecond word\n",
            "the whole output"
        );
        ensure!(
            cluster.cli(&["logs", "talk", "--tail", "5"]).await?.done()? == "word\n",
            "the end of it"
        );
        Ok(())
    });
}

#[test]
fn http_and_failing_samples_report_what_came() {
    scenario(Plan::nodes(1), LIMIT, async |cluster| {
        let server = Server::start().await?;
        let well = cluster
            .enqueue(&["--http", &format!("POST {}/fine", server.url), "--body", "hello"])
            .await?
            .to_string();
        cluster.cli(&["wait", &well, "--timeout", "10s"]).await?.done()?;
        let run = cluster.json(&["runs", &well]).await?[0].clone();
        ensure!(run["exit_code"] == 200, "the status is the exit code: {run}");
        let asked = server.requests()[0].to_ascii_lowercase();
        ensure!(asked.starts_with("post /fine ") && asked.ends_with("hello"), "{asked}");
        ensure!(
            asked.contains(&format!("idempotency-key: {well}:1")),
            "the run's identity goes along: {asked}"
        );
        let gone = cluster
            .enqueue(&["--http", &format!("{}/gone", server.url)])
            .await?
            .to_string();
        ensure_code(cluster.cli(&["wait", &gone, "--timeout", "10s"]).await?, REFUSED)?;
        let run = cluster.json(&["runs", &gone]).await?[0].clone();
        ensure!(run["exit_code"] == 404, "{run}");
        let sample = cluster.enqueue(&["--sample", "fail,50"]).await?.to_string();
        ensure_code(cluster.cli(&["wait", &sample, "--timeout", "10s"]).await?, REFUSED)?;
        let missing = cluster.enqueue(&["--", "/no/such/program"]).await?.to_string();
        ensure_code(cluster.cli(&["wait", &missing, "--timeout", "10s"]).await?, REFUSED)?;
        let run = cluster.json(&["runs", &missing]).await?[0].clone();
        ensure!(text(&run, "reason")?.contains("/no/such/program"), "{run}");
        Ok(())
    });
}

/// Answers `/fine` with 200, everything else with 404, and keeps what was asked.
struct Server {
    url: String,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Server {
    async fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}", listener.local_addr()?);
        let requests = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&requests);
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut bytes = vec![0; 16 * 1024];
                // Requests of this test fit into one segment.
                let length = stream.read(&mut bytes).await.unwrap_or(0);
                let request = String::from_utf8_lossy(&bytes[..length]).into_owned();
                let status = if request.contains(" /fine ") {
                    "200 OK"
                } else {
                    "404 Not Found"
                };
                kept.lock().unwrap_or_else(PoisonError::into_inner).push(request);
                let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
                // A client that has gone away needs no answer.
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        });
        Ok(Self { url, requests })
    }

    fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn ensure_code(ran: cli::Ran, code: i32) -> Result<()> {
    ensure!(ran.code == code, "expected exit code {code}: {ran}");
    Ok(())
}
