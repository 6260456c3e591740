//! Disks that are low, full, or fail to sync.

use crate::chaos::workload::CALLS_PREFIX;
use crate::chaos::world::World;
use crate::checker::{EvidenceKind, FaultKind};
use crate::{eventually, http, tasks};
use anyhow::{Context, Result, bail, ensure};
use sched_client::{Client, Options};
use sched_proto::v1::FailureKind;
use std::time::Duration;
use tokio::time::Instant;

/// Below the reserve of this scenario, and far from full.
const LOW_LEFT_BYTES: u64 = 96 << 20;
/// A change of the disks is known to the leader within this.
const NOTICED: Duration = Duration::from_secs(15);

/// For a disk without room to stop its node: the log's files have up to 100 MiB of room of their own.
const FILL_LIMIT: Duration = Duration::from_secs(120);

/// One of the three.
pub(super) async fn trouble(world: &mut World) -> Result<()> {
    match world.turn() % 3 {
        0 => low(world).await,
        1 => sync_fails(world).await,
        _ => full(world).await,
    }
}

/// A majority is below its reserve: new work is refused, what is due runs, and all is well when there is room again.
async fn low(world: &mut World) -> Result<()> {
    let fault = world.begin(FaultKind::DiskFull, "low on n1,n2");
    let free = world.disks[0].free_bytes()? >> 20;
    for disk in &world.disks[..2] {
        disk.fill(LOW_LEFT_BYTES)?;
    }
    let options = Options {
        deadline: Duration::from_millis(1200),
        ..Options::default()
    };
    let client = Client::with_options(world.cluster.endpoints().into_iter().take(3), options)?;
    let said = eventually("new work is refused", NOTICED, async || {
        let mut task = tasks::task(tasks::at(tasks::now_ms() + 24 * 3600 * 1000), tasks::sample(0, 0));
        // No part of the history, as those are not that are only called.
        task.name = Some(format!("{CALLS_PREFIX}room-{}", world.clock.now_us()));
        match client.submit(tasks::submission(task)?).await {
            Err(error) if error.refusal() == Some(FailureKind::Overloaded) => Ok(error.to_string()),
            Err(error) => Err(error.into()),
            Ok(reply) => bail!("accepted as task {}", reply.id),
        }
    })
    .await
    .with_context(|| format!("{free} MiB were free before"))?;
    world.measured.refused_for_room += 1;
    world.seen(fault, EvidenceKind::WriteRefused, said);
    let status = world.cluster.nodes[world.cluster.leader().await?].status().await?;
    let low = status.nodes.iter().filter(|node| node.disk_low).count();
    ensure!(
        status.refuses_work && low == 2,
        "status says {} low, refuses {}",
        low,
        status.refuses_work
    );
    // What is due runs out of the reserve.
    world.works().await?;
    for disk in &world.disks[..2] {
        disk.empty()?;
    }
    eventually("new work is taken again", NOTICED, async || {
        let status = world.cluster.nodes[world.cluster.leader().await?].status().await?;
        ensure!(!status.refuses_work, "it is still refused");
        Ok(())
    })
    .await?;
    world.healed(fault);
    Ok(())
}

/// One disk is full to the last: its node stops and says so; the others go on.
async fn full(world: &mut World) -> Result<()> {
    let node = usize::try_from(world.draw(3))?;
    let log_from = world.cluster.nodes[node].log()?.len();
    let fault = world.begin(FaultKind::DiskFull, world.names(&[node]));
    world.disks[node].fill(0)?;
    // The log's files have their room before they are written: what is left of it is written first.
    write_until_it_ends(world, node).await?;
    let (status, said) = world
        .stops_itself(node, log_from, &["No space left on device", "os error 28"])
        .await?;
    let line = said
        .lines()
        .find(|line| line.contains("space"))
        .unwrap_or_default()
        .to_owned();
    world.seen(fault, EvidenceKind::WriteRefused, format!("{status}: {line}"));
    world.works().await?;
    world.disks[node].empty()?;
    world.restart(fault, &[node]).await
}

/// Submits large tasks until a node has ended. They are called as those are whose tasks are no part of the history.
async fn write_until_it_ends(world: &mut World, node: usize) -> Result<()> {
    let client = Client::connect(world.cluster.endpoints().into_iter().take(3))?;
    let start = Instant::now();
    for batch in 0.. {
        if world.cluster.nodes[node].still_runs().is_err() {
            return Ok(());
        }
        ensure!(
            start.elapsed() < FILL_LIMIT,
            "the node goes on, its disk has {} bytes free",
            world.disks[node].free_bytes()?
        );
        let large = |number| {
            let mut task = tasks::task(
                tasks::at(tasks::now_ms() + 24 * 3600 * 1000),
                tasks::sample(0, 56 * 1024),
            );
            task.name = Some(format!("{CALLS_PREFIX}large-{}-{batch}-{number}", world.clock.now_us()));
            tasks::submission(task)
        };
        let batch: Vec<_> = (0..16).map(large).collect::<Result<_>>()?;
        // Whether they were accepted is not what this is about.
        let _ = client.submit_many(&batch).await;
    }
    Ok(())
}

/// A sync fails once: nothing after it can be trusted, and the node stops.
async fn sync_fails(world: &mut World) -> Result<()> {
    let node = usize::try_from(world.draw(3))?;
    let log_from = world.cluster.nodes[node].log()?.len();
    let before = world.shims[node].failed_syncs()?;
    let fault = world.begin(FaultKind::SyncError, world.names(&[node]));
    world.shims[node].fail_syncs(true)?;
    let (status, _) = world
        .stops_itself(node, log_from, &["Input/output error", "os error 5", "IO error"])
        .await?;
    let failed = world.shims[node].failed_syncs()? - before;
    if failed > 0 {
        world.seen(
            fault,
            EvidenceKind::WriteRefused,
            format!("{failed} syncs failed; {status}"),
        );
    }
    world.shims[node].fail_syncs(false)?;
    world.works().await?;
    world.restart(fault, &[node]).await?;
    let (ready, _) = http::get(&world.cluster.nodes[node].client, "/readyz").await?;
    ensure!(ready == 200, "{ready} at /readyz after the restart");
    Ok(())
}
