//! What a worker might send that is broken, copied or restored: refused with a reason, logged, counted; and nothing is changed.

use crate::LIMIT;
use anyhow::{Context, Result, bail, ensure};
use sched_proto::worker as pb;
use sched_proto::worker::worker_gateway_client::WorkerGatewayClient;
use sched_tests::{Cluster, Plan, http, scenario};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{interval, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::Endpoint;

/// For one answer of the leader.
const ANSWER: Duration = Duration::from_secs(20);

/// A worker that says what the test wants.
struct Impostor {
    tx: mpsc::Sender<pb::FromWorker>,
    rx: Streaming<pb::ToWorker>,
}

fn hello(worker: &str, journal: u64, records: u64, openings: &[u64]) -> pb::Hello {
    pb::Hello {
        protocol_version: 1,
        worker: worker.to_owned(),
        journal_high: 1,
        journal_low: journal,
        journal_position: Some(pb::JournalPosition {
            length: records,
            head: vec![7; 16].into(),
        }),
        slots: 1,
        labels: [("impostor".to_owned(), worker.to_owned())].into(),
        openings: openings.to_vec(),
        ..Default::default()
    }
}

impl Impostor {
    async fn connect(address: &str, hello: pb::Hello) -> Result<Self> {
        let (tx, rx) = mpsc::channel(16);
        let first = pb::FromWorker {
            hello: Some(hello),
            ..Default::default()
        };
        tx.send(first).await?;
        let channel = Endpoint::from_shared(format!("http://{address}"))?.connect().await?;
        let mut client = WorkerGatewayClient::new(channel);
        let rx = client.connect(ReceiverStream::new(rx)).await?.into_inner();
        Ok(Self { tx, rx })
    }

    async fn welcomed(address: &str, hello: pb::Hello) -> Result<Self> {
        let mut worker = Self::connect(address, hello).await?;
        worker.hear("welcome", |message| message.welcome.is_some()).await?;
        Ok(worker)
    }

    /// Gives signs of life until the stream ends.
    fn live(&self) {
        let tx = self.tx.clone();
        tokio::spawn(async move {
            let mut ticks = interval(Duration::from_secs(1));
            for seq in 1.. {
                ticks.tick().await;
                let heartbeat = pb::Heartbeat {
                    seq,
                    ..Default::default()
                };
                let batch = pb::FromWorker {
                    heartbeat: Some(heartbeat),
                    ..Default::default()
                };
                if tx.send(batch).await.is_err() {
                    return;
                }
            }
        });
    }

    async fn hear(&mut self, what: &str, is_it: impl Fn(&pb::ToWorker) -> bool) -> Result<pb::ToWorker> {
        let heard = timeout(ANSWER, async {
            while let Some(message) = self.rx.message().await? {
                if is_it(&message) {
                    return Ok(message);
                }
            }
            bail!("the stream ended")
        });
        heard.await.with_context(|| format!("waiting for {what}"))?
    }

    /// The reason of the refusal that ends the stream, and whether a new journal is asked for.
    async fn refused(&mut self) -> Result<(String, bool)> {
        let message = self.hear("a refusal", |message| message.refused.is_some()).await?;
        let refused = message.refused.unwrap_or_default();
        Ok((refused.reason, refused.new_journal))
    }

    async fn complete(&self, attempt: pb::Attempt) -> Result<()> {
        let result = pb::Result {
            verdict: pb::Verdict::Success.into(),
            ..Default::default()
        };
        let completed = pb::Completed {
            attempt: Some(attempt),
            result: Some(result),
            journal_position: None,
        };
        let batch = pb::FromWorker {
            completed: vec![completed],
            ..Default::default()
        };
        Ok(self.tx.send(batch).await?)
    }
}

async fn counted(cluster: &Cluster, name: &str) -> Result<u64> {
    http::metric(&cluster.nodes[0].client, name)
        .await
        .map(|value| value as u64)
}

#[test]
fn reports_of_attempts_that_are_not_the_workers_own_are_refused_and_repeats_change_nothing() {
    scenario(Plan::nodes(1), LIMIT, async |cluster| {
        let address = cluster.nodes[0].client.clone();
        let mut own = Impostor::welcomed(&address, hello("own", 1, 1, &[1])).await?;
        let mut other = Impostor::welcomed(&address, hello("other", 2, 1, &[1])).await?;
        own.live();
        other.live();
        let id = cluster
            .enqueue(&["--require", "impostor=own", "--sample", "ok"])
            .await?;
        let heard = own.hear("a run", |message| !message.runs.is_empty()).await?;
        let attempt = heard.runs[0].attempt.context("a run names its attempt")?;
        let run = format!("{id}:1");

        // Not its own; one that never was.
        other.complete(attempt).await?;
        let never = pb::Attempt {
            token: Some(pb::Token { index: 1, position: 9 }),
            ..attempt
        };
        own.complete(never).await?;
        let refused = other
            .hear("a rejection", |message| !message.rejected.is_empty())
            .await?;
        ensure!(
            refused.rejected[0]
                .reason
                .contains("was never given to worker \"other\""),
            "{refused:?}"
        );
        own.hear("a rejection", |message| !message.rejected.is_empty()).await?;
        let shown = cluster.json(&["get", &run]).await?;
        ensure!(shown["state"] == "RUNNING" && shown["stale_reports"] == 0, "{shown}");
        ensure!(counted(cluster, "sched_reports_refused_total").await? == 2);

        // Its own, and again.
        for _ in 0..2 {
            own.complete(attempt).await?;
            let answer = own.hear("a record", |message| !message.recorded.is_empty()).await?;
            ensure!(answer.recorded == [attempt], "{answer:?}");
        }
        let shown = cluster.json(&["get", &run]).await?;
        ensure!(shown["state"] == "FINISHED" && shown["stale_reports"] == 0, "{shown}");
        Ok(())
    });
}

#[test]
fn an_old_attempt_is_recorded_as_stale_and_shown() {
    scenario(Plan::nodes(1), LIMIT, async |cluster| {
        let address = cluster.nodes[0].client.clone();
        let mut worker = Impostor::welcomed(&address, hello("own", 1, 1, &[1])).await?;
        let id = cluster
            .enqueue(&["--require", "impostor=own", "--sample", "ok"])
            .await?;
        let heard = worker.hear("a run", |message| !message.runs.is_empty()).await?;
        let old = heard.runs[0].attempt.context("a run names its attempt")?;
        // No sign of life: its lease ends, and the run waits for another worker.
        worker.refused().await?;
        let mut worker = Impostor::welcomed(&address, hello("own", 1, 2, &[1, 2])).await?;
        worker.complete(old).await?;
        worker.hear("a record", |message| !message.recorded.is_empty()).await?;
        let run = format!("{id}:1");
        let shown = cluster.json(&["get", &run]).await?;
        ensure!(shown["stale_reports"] == 1, "{shown}");
        let said = cluster.cli(&["explain", &id.to_string()]).await?.done()?;
        ensure!(said.contains("after the attempt had been given up"), "{said}");
        ensure!(counted(cluster, "sched_reports_stale_total").await? == 1);
        Ok(())
    });
}

#[test]
fn restored_and_copied_journals_and_second_workers_of_one_name_are_refused() {
    scenario(Plan::nodes(1), LIMIT, async |cluster| {
        let address = cluster.nodes[0].client.clone();
        let first = Impostor::welcomed(&address, hello("w", 1, 10, &[1])).await?;
        first.live();
        // Another worker of the same name, while the first is connected.
        let (reason, new_journal) = Impostor::connect(&address, hello("w", 2, 1, &[1]))
            .await?
            .refused()
            .await?;
        ensure!(
            reason.contains("another worker named \"w\"") && !new_journal,
            "{reason}"
        );
        // Restored: shorter than the session knows. Copied: another copy has opened the session since.
        let second = Impostor::welcomed(&address, hello("w", 1, 12, &[1, 2])).await?;
        second.live();
        for (records, openings, problem) in [
            (11, &[1, 2][..], "has 11 records, and had 12 before"),
            (13, &[1, 3], "does not know the newest opening"),
        ] {
            let mut copy = Impostor::connect(&address, hello("w", 1, records, openings)).await?;
            let (reason, new_journal) = copy.refused().await?;
            ensure!(reason.contains(problem) && new_journal, "{reason}");
        }
        ensure!(counted(cluster, "sched_journals_refused_total").await? == 2);
        ensure!(counted(cluster, "sched_workers_refused_total").await? == 1);
        let log = cluster.nodes[0].log()?;
        ensure!(log.contains("a worker's journal is refused"), "{log}");
        drop((first, second));
        Ok(())
    });
}

#[test]
fn a_worker_of_another_cluster_is_refused() {
    scenario(Plan::nodes(1), LIMIT, async |cluster| {
        let address = cluster.nodes[0].client.clone();
        let own = cluster.nodes[0].status().await?.cluster;
        let of = |cluster: &str| pb::Hello {
            cluster: cluster.to_owned(),
            ..hello("w", 1, 1, &[1])
        };
        // Whatever it says; a long one does not come back whole.
        for other in [
            "00112233445566778899aabbccddeeff".to_owned(),
            "no cluster".to_owned(),
            "x".repeat(1 << 20),
        ] {
            let (reason, new_journal) = Impostor::connect(&address, of(&other)).await?.refused().await?;
            for part in [own.as_str(), &other[..10], "its own cluster", "empty folder"] {
                ensure!(reason.contains(part), "expected {part:?} in: {reason:.2000}");
            }
            ensure!(reason.len() < 100_000 && !new_journal, "{} bytes", reason.len());
        }
        ensure!(counted(cluster, "sched_workers_refused_total").await? == 3);
        ensure!(
            cluster.nodes[0]
                .log()?
                .contains("a worker of another cluster is refused")
        );
        let workers = cluster.json(&["workers"]).await?;
        ensure!(
            workers
                .as_array()
                .is_some_and(|all| all.iter().all(|w| w["name"] != "w")),
            "{workers}"
        );
        Impostor::welcomed(&address, of(&own)).await.map(drop)
    });
}

/// A folder that was copied to another place with everything in it: its worker joins as a new one.
#[test]
fn a_node_whose_worker_folder_was_copied_has_a_new_worker() {
    scenario(Plan::nodes(1), LIMIT, async |cluster| {
        cluster.cli(&["enqueue", "--sample", "ok", "--wait"]).await?.done()?;
        let status = cluster.sigterm(0).await?;
        ensure!(status.success(), "stopped with {status}");
        let folder = cluster.nodes[0].data.join("worker");
        let (journal, copy) = (folder.join("journal"), folder.join("copy"));
        std::fs::copy(&journal, &copy)?;
        std::fs::rename(&copy, &journal)?;
        cluster.start(0)?;
        cluster.ready().await?;
        cluster.cli(&["enqueue", "--sample", "ok", "--wait"]).await?.done()?;
        ensure!(folder.join("journal.refused").exists());
        ensure!(cluster.nodes[0].log()?.contains("was copied or restored"));
        // Damage in the middle keeps it away, and says what to do.
        let status = cluster.sigterm(0).await?;
        ensure!(status.success(), "stopped with {status}");
        let mut bytes = std::fs::read(&journal)?;
        bytes[40] ^= 1;
        let file = std::fs::OpenOptions::new().write(true).open(&journal)?;
        std::os::unix::fs::FileExt::write_all_at(&file, &bytes, 0)?;
        cluster.start(0)?;
        cluster.ready().await?;
        let log = cluster.nodes[0].log()?;
        ensure!(
            log.contains("is damaged at byte") && log.contains("move the file away"),
            "{log}"
        );
        Ok(())
    });
}
