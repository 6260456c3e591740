//! Networks that fall apart, lose and delay.

use crate::chaos::net::{Link, between};
use crate::chaos::world::World;
use crate::checker::{EvidenceKind, FaultKind};
use anyhow::{Context, Result};
use std::time::Duration;
use tokio::time::Instant;

/// A network that is cut stays so for this long.
const CUT_MS: (u64, u64) = (2500, 6000);
/// Now and then for longer than a lease.
const LONG_MS: (u64, u64) = (13_000, 15_000);

/// One of the shapes in which a network falls apart.
pub(super) async fn partition(world: &mut World) -> Result<()> {
    let leader = world.cluster.leader().await?;
    let others: Vec<usize> = (0..world.cluster.nodes.len()).filter(|node| *node != leader).collect();
    let (shape, links, deposed): (&str, Vec<Link>, bool) = match world.draw(9) {
        0..=2 => ("the leader alone", between(&[leader], &others), true),
        3 => {
            let minority = [leader, others[0]];
            (
                "halves, the leader in the minority",
                between(&minority, &others[1..]),
                true,
            )
        }
        4 => {
            let minority = [others[0], others[1]];
            let majority = [&[leader], &others[2..]].concat();
            (
                "halves, the leader in the majority",
                between(&minority, &majority),
                false,
            )
        }
        5 => (
            "one-way, the leader is not heard",
            others.iter().map(|other| (leader, *other)).collect(),
            true,
        ),
        6 => (
            "one-way, the leader does not hear",
            others.iter().map(|other| (*other, leader)).collect(),
            false,
        ),
        7 => ("a ring", ring(world.cluster.nodes.len()), false),
        _ => {
            // The node in common hears and is heard by everybody.
            let (left, right) = ([leader, others[1]], [others[2], others[3]]);
            ("two groups with one node in common", between(&left, &right), false)
        }
    };
    let long = world.draw(6) == 0;
    let (fault, since) = world.cut(shape, &links)?;
    if deposed {
        // With the leader in the minority: who is left there cannot be elected.
        world.leaderless("partition", &[leader], since).await?;
    }
    let (from, to) = if long { LONG_MS } else { CUT_MS };
    world.pause(from, to).await;
    world.mend(fault).await
}

/// Everybody hears two neighbours and nobody else.
fn ring(nodes: usize) -> Vec<Link> {
    let all: Vec<usize> = (0..nodes).collect();
    let pairs = between(&all, &all);
    let near = |a: usize, b: usize| (a + 1) % nodes == b || (b + 1) % nodes == a;
    pairs.into_iter().filter(|(a, b)| a != b && !near(*a, *b)).collect()
}

/// Loss, delay, both, and a leader that dies meanwhile.
pub(super) async fn lossy_and_slow(world: &mut World) -> Result<()> {
    // The first time both, so that neither is left out.
    let what = if world.turn() == 0 { 2 } else { world.draw(4) };
    let (lossy, slow) = (what != 1, what != 0);
    let kill = world.draw(3) == 0;
    let loss = lossy.then(|| world.begin(FaultKind::Loss, "all nodes"));
    if lossy {
        let share = [0.02, 0.05, 0.1][usize::try_from(world.draw(3))?];
        world.network.lose(share)?;
    }
    let delay = slow.then(|| world.begin(FaultKind::Delay, "all links"));
    let proxies = world.proxies.as_ref().context("this scenario has proxies")?;
    let held = proxies.held_bytes();
    if slow {
        proxies.delay(Duration::from_millis(40), Duration::from_millis(60));
    }
    world.pause(3000, 6000).await;
    if kill {
        let leader = world.cluster.leader().await?;
        let (fault, _) = world.kill(&[leader], leader).await?;
        world.pause(1000, 3000).await;
        world.restart(fault, &[leader]).await?;
    }
    if let Some(fault) = delay {
        let proxies = world.proxies.as_ref().context("this scenario has proxies")?;
        let bytes = proxies.held_bytes() - held;
        proxies.delay(Duration::ZERO, Duration::ZERO);
        if bytes > 0 {
            world.seen(fault, EvidenceKind::TrafficDelayed, format!("{bytes} bytes held back"));
        }
    }
    if let Some(fault) = loss {
        let packets = world.network.lost_packets()?;
        if packets > 0 {
            world.seen(fault, EvidenceKind::TrafficLost, format!("{packets} packets lost"));
        }
        world.network.lose(0.0)?;
        settled(world).await?;
        world.healed(fault);
    }
    if let Some(fault) = delay {
        settled(world).await?;
        world.healed(fault);
    }
    Ok(())
}

async fn settled(world: &mut World) -> Result<()> {
    let start = Instant::now();
    world
        .cluster
        .ready()
        .await
        .with_context(|| format!("{:?} after the network was whole", start.elapsed()))
}
