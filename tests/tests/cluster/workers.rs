//! Remote workers, written with the SDK, against real nodes: what they are given, what becomes of their answers, and what a lost leader or
//! a lost worker costs.

use crate::{LIMIT, SOON, explained, text};
use anyhow::{Context, Result, ensure};
use sched_client::{Answer, Job, Worker};
use sched_tests::{Cluster, Plan, eventually, scenario};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// A run whose worker is gone begins elsewhere within this: its lease of 10 s, what clocks may differ, and the way there.
const ELSEWHERE: Duration = Duration::from_secs(12);

/// A worker in this process. Dropping it is what `kill -9` is to a worker in another: its connections break, and it says nothing.
struct Running(JoinHandle<()>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn worker(cluster: &Cluster, queue: &str, name: &str) -> Worker {
    Worker::new(queue).endpoints(cluster.endpoints()).name(name).slots(4)
}

/// What the handler of these tests is told to do by its payload.
async fn obey(job: Job) -> Result<Answer> {
    let order: Value = job.json()?;
    match order["do"].as_str() {
        Some("fail once") if job.attempt() == 1 => anyhow::bail!("not the first time"),
        Some("delay once") if job.attempt() == 1 => Ok(Answer::delay_me(Duration::from_millis(300), "busy")),
        Some("hang once") if job.attempt() == 1 => {
            job.progress(1, "begun");
            std::future::pending().await
        }
        Some("wait") => {
            job.progress(40, "waiting");
            let why = job.stopped().await;
            job.log(format!("stopped: {}", why.describe()));
            anyhow::bail!("stopped: {}", why.describe())
        }
        _ => Ok(Answer::json(&json!({"attempt": job.attempt(), "echo": order}))?),
    }
}

fn start(worker: Worker) -> Running {
    Running(tokio::spawn(async move {
        worker.run(obey).await.expect("its settings are acceptable");
    }))
}

async fn enqueue(cluster: &Cluster, order: &Value, flags: &[&str]) -> Result<u64> {
    let payload = order.to_string();
    cluster
        .enqueue(&[&["--queue", "images", "--payload", &payload], flags].concat())
        .await
}

async fn run_in(cluster: &Cluster, run: &str, state: &str, limit: Duration) -> Result<Value> {
    eventually(&format!("run {run} is {state}"), limit, async || {
        let shown = cluster.json(&["get", run]).await?;
        ensure!(shown["state"] == state, "{shown}");
        Ok(shown)
    })
    .await
}

#[test]
fn a_queue_waits_for_its_workers_and_they_answer() {
    scenario(Plan::nodes(3), LIMIT, async |cluster| {
        let waiting = enqueue(cluster, &json!({"width": 640}), &["--name", "resize"]).await?;
        let plain = cluster.enqueue(&["--sample", "ok"]).await?;
        run_in(cluster, &format!("{plain}:1"), "FINISHED", SOON).await?;
        let run = format!("{waiting}:1");
        let shown = cluster.json(&["get", &run]).await?;
        ensure!(
            shown["state"] == "PENDING",
            "the nodes' own workers leave it alone: {shown}"
        );
        ensure!(
            text(&shown, "reason")? == "waiting for a worker of queue images",
            "{shown}"
        );
        // A node is ready before its own worker is connected.
        explained(cluster, &run, "a worker of queue images: none of 3 is one").await?;

        let _worker = start(worker(cluster, "images", "sdk-1"));
        let shown = run_in(cluster, &run, "FINISHED", SOON).await?;
        ensure!(shown["worker"] == "sdk-1" && shown["queue"] == "images", "{shown}");
        ensure!(
            shown["result"] == json!({"attempt": 1, "echo": {"width": 640}}),
            "{shown}"
        );
        // A worker that serves a queue takes nothing else.
        let plain = cluster.enqueue(&["--sample", "ok"]).await?;
        let shown = run_in(cluster, &format!("{plain}:1"), "FINISHED", SOON).await?;
        ensure!(shown["worker"] != "sdk-1", "{shown}");

        let tries = ["--tries", "2", "--retry-delay", "100ms"];
        for (order, flags, attempts) in [
            ("fail once", &tries[..], 2),
            ("delay once", &[], 2),
            ("", &["--delivery", "at-most-once"], 1),
            ("", &[], 1),
        ] {
            let id = enqueue(cluster, &json!({"do": order}), flags).await?;
            let shown = run_in(cluster, &format!("{id}:1"), "FINISHED", SOON).await?;
            ensure!(shown["attempts"] == attempts, "{order}: {shown}");
        }
        let promise = ["--progress-timeout", "300ms"];
        let id = enqueue(cluster, &json!({"do": "hang once"}), &[&tries[..], &promise].concat()).await?;
        let shown = run_in(cluster, &format!("{id}:1"), "FINISHED", SOON).await?;
        ensure!(shown["attempts"] == 2, "{shown}");
        let id = enqueue(cluster, &json!({"do": "hang once"}), &promise).await?;
        let shown = run_in(cluster, &format!("{id}:1"), "FAILED", SOON).await?;
        ensure!(text(&shown, "reason")?.contains("no progress for 300 ms"), "{shown}");
        let failed = enqueue(cluster, &json!({"do": "fail once"}), &[]).await?;
        let shown = run_in(cluster, &format!("{failed}:1"), "FAILED", SOON).await?;
        ensure!(shown["reason"] == "not the first time", "{shown}");

        // Progress is shown wherever it is asked for, and a cancel reaches the handler.
        let id = enqueue(cluster, &json!({"do": "wait"}), &[]).await?;
        let run = format!("{id}:1");
        for node in 0..3 {
            eventually("progress is shown", SOON, async || {
                for asked in [
                    &["-o", "json", "get", &run][..],
                    &["-o", "json", "runs", &id.to_string()],
                ] {
                    let shown = cluster.cli_at(node, asked).await?.json()?;
                    let shown = shown.get(0).unwrap_or(&shown);
                    let progress = &shown["progress"];
                    ensure!(progress["percent"] == 40 && progress["message"] == "waiting", "{shown}");
                }
                Ok(())
            })
            .await?;
        }
        let listed = cluster.cli(&["runs", &id.to_string()]).await?.done()?;
        ensure!(listed.contains("40 % waiting"), "{listed}");
        let logs = cluster.cli(&["logs", &run]).await?.done()?;
        ensure!(logs == "40 % waiting\n", "{logs:?}");
        cluster.cli(&["cancel", &run]).await?.done()?;
        let shown = run_in(cluster, &run, "TERMINATED", SOON).await?;
        ensure!(
            text(&shown, "output_tail")? == "40 % waiting\nstopped: cancelled\n",
            "{shown}"
        );
        ensure!(shown["progress"].is_null(), "{shown}");
        Ok(())
    });
}

#[test]
fn a_job_goes_on_while_its_leader_dies_and_is_reported_to_the_next() {
    scenario(Plan::nodes(3), LIMIT, async |cluster| {
        let (tx, mut begun) = mpsc::channel(8);
        let finish = Arc::new(Notify::new());
        let go_on = finish.clone();
        let worker = worker(cluster, "images", "sdk-1").run(move |job: Job| {
            let (tx, go_on) = (tx.clone(), go_on.clone());
            async move {
                job.progress(10, "begun");
                tx.send(job.attempt()).await?;
                tokio::select! {
                    () = go_on.notified() => Ok(Answer::done()),
                    why = job.stopped() => Err(anyhow::anyhow!(why.describe())),
                }
            }
        });
        let _worker = Running(tokio::spawn(async move {
            worker.await.expect("its settings are acceptable");
        }));
        let id = enqueue(cluster, &json!({}), &[]).await?;
        ensure!(timeout(SOON, begun.recv()).await? == Some(1));
        let leader = cluster.leader().await?;
        cluster.kill9(leader).await?;
        cluster.leader().await?;
        // The new leader hears of it: the worker has found it while the job runs.
        let run = format!("{id}:1");
        eventually("the new leader knows how far it is", SOON, async || {
            let shown = cluster.json(&["get", &run]).await?;
            ensure!(
                shown["state"] == "RUNNING" && shown["progress"]["percent"] == 10,
                "{shown}"
            );
            Ok(())
        })
        .await?;
        finish.notify_one();
        let shown = run_in(cluster, &run, "FINISHED", SOON).await?;
        ensure!(
            shown["attempts"] == 1 && shown["losses"] == 0 && shown["stale_reports"] == 0,
            "{shown}"
        );
        ensure!(begun.try_recv().is_err(), "it began once");
        Ok(())
    });
}

#[test]
fn a_run_whose_worker_dies_is_done_by_another_within_its_lease() {
    scenario(Plan::nodes(3), LIMIT, async |cluster| {
        let (tx, mut begun) = mpsc::channel(8);
        let start = |name: &str| {
            let tx = tx.clone();
            let worker = worker(cluster, "images", name).run(move |job: Job| {
                let tx = tx.clone();
                async move {
                    tx.send(job.attempt()).await.expect("the test listens");
                    if job.attempt() == 1 {
                        std::future::pending::<()>().await;
                    }
                }
            });
            Running(tokio::spawn(async move {
                worker.await.expect("its settings are acceptable");
            }))
        };
        let first = start("sdk-1");
        let id = enqueue(cluster, &json!({}), &[]).await?;
        ensure!(timeout(SOON, begun.recv()).await? == Some(1));
        let _second = start("sdk-2");
        drop(first);
        let killed = Instant::now();
        ensure!(
            timeout(2 * ELSEWHERE, begun.recv())
                .await
                .context("nobody took it over")?
                == Some(2)
        );
        let took = killed.elapsed();
        eprintln!(
            "a run of a worker that was killed began elsewhere after {:.1} s",
            took.as_secs_f64()
        );
        ensure!(
            took <= ELSEWHERE,
            "it began elsewhere after {took:?}, the promise is {ELSEWHERE:?}"
        );
        let shown = run_in(cluster, &format!("{id}:1"), "FINISHED", SOON).await?;
        ensure!(
            shown["worker"] == "sdk-2" && shown["losses"] == 1 && shown["attempts"] == 2,
            "{shown}"
        );
        Ok(())
    });
}
