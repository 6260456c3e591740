//! Nodes that die, and nodes that stand still.

use crate::chaos::world::World;
use anyhow::Result;

/// Longer than a lease: the worker's runs are somebody else's meanwhile.
const LONG_MS: (u64, u64) = (13_000, 15_000);
const SHORT_MS: (u64, u64) = (300, 2500);

/// One of the leader, a follower, all.
pub(super) async fn kill(world: &mut World) -> Result<()> {
    let leader = world.cluster.leader().await?;
    let follower = world.cluster.follower().await?;
    let (nodes, long): (Vec<usize>, bool) = match world.draw(10) {
        0..=4 => (vec![leader], false),
        5 => (vec![leader], true),
        6 | 7 => (vec![follower], false),
        8 => (vec![follower], true),
        _ => ((0..world.cluster.nodes.len()).collect(), false),
    };
    let (fault, since) = world.kill(&nodes, leader).await?;
    if nodes == [leader] {
        world.leaderless("kill", &nodes, since).await?;
    }
    let (from, to) = if long { LONG_MS } else { SHORT_MS };
    world.pause(from, to).await;
    world.restart(fault, &nodes).await
}

/// One of the leader, a follower.
pub(super) async fn stop(world: &mut World) -> Result<()> {
    let leader = world.cluster.leader().await?;
    let (node, long) = match world.draw(10) {
        0..=5 => (leader, false),
        6 | 7 => (leader, true),
        8 => (world.cluster.follower().await?, false),
        _ => (world.cluster.follower().await?, true),
    };
    let (fault, since) = world.stop(node).await?;
    if node == leader {
        world.leaderless("SIGSTOP", &[node], since).await?;
    }
    let (from, to) = if long { LONG_MS } else { SHORT_MS };
    world.pause(from, to).await;
    world.thaw(fault, node).await
}
