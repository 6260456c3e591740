//! All nodes lose their power at once, and with it whatever was not synced.

use crate::chaos::world::World;
use crate::checker::{EvidenceKind, FaultKind};
use crate::eventually;
use anyhow::{Result, ensure};
use std::time::Duration;
use tokio::time::Instant;

/// For the last processes that hold a file open to be gone.
const UNUSED_LIMIT: Duration = Duration::from_secs(20);

/// Cuts the power under load, and waits until the cluster serves again.
pub(super) async fn cut(world: &mut World) -> Result<()> {
    let nodes = [0, 1, 2];
    let leader = world.cluster.leader().await?;
    let before = world.accepted();
    world.pause(500, 2500).await;
    let fault = world.begin(FaultKind::PowerCut, world.names(&nodes));
    // The programs first, for nobody sees a disk without power: one that still ran would find its disk failing, and could tell the
    // others, whose disks still worked, that it cannot start what it was given.
    for node in nodes {
        world.cluster.nodes[node].signal(rustix::process::Signal::STOP)?;
    }
    // All at once: what one disk still took, the others must not have lost long before.
    std::thread::scope(|scope| {
        let cuts: Vec<_> = world
            .disks
            .iter()
            .map(|disk| scope.spawn(|| disk.cut_power()))
            .collect();
        cuts.into_iter()
            .try_for_each(|cut| cut.join().map_err(|_| anyhow::anyhow!("a thread panicked"))?)
    })?;
    let down = world.disks.iter().filter(|disk| disk.is_down()).count();
    ensure!(
        down == world.disks.len(),
        "{down} of {} file systems are down",
        world.disks.len()
    );
    world.seen(
        fault,
        EvidenceKind::FilesystemDown,
        format!("{down} file systems answer no more"),
    );
    for node in nodes {
        world.cluster.nodes[node].signal(rustix::process::Signal::KILL)?;
        world.cluster.ended(node, UNUSED_LIMIT).await?;
    }
    for disk in &world.disks {
        eventually("the file system is free", UNUSED_LIMIT, async || disk.power_on()).await?;
    }
    let on = Instant::now();
    for node in nodes {
        world.cluster.start(node)?;
    }
    serves(world, leader).await?;
    world.measured.serving_ms.push(u64::try_from(on.elapsed().as_millis())?);
    world.cluster.ready().await?;
    world.healed(fault);
    ensure!(world.accepted() > before, "nothing was accepted since the last cut");
    Ok(())
}

/// Waits until a node answers a read that a quorum has confirmed.
async fn serves(world: &World, node: usize) -> Result<()> {
    eventually("a call is answered", Duration::from_secs(60), async || {
        let status = world.cluster.nodes[node].status().await?;
        ensure!(status.confirmed && status.leader.is_some(), "no leader is confirmed");
        Ok(())
    })
    .await
}
