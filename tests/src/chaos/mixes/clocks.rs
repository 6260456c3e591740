//! A node whose wall clock is an hour off, and elections while it is.

use crate::chaos::world::World;
use anyhow::Result;

const HOUR_MS: i64 = 3_600_000;

/// Sets the clock of the leader or of a follower, lets leaders die meanwhile, and sets it right.
pub(super) async fn jump(world: &mut World) -> Result<()> {
    let leader = world.cluster.leader().await?;
    let node = match world.draw(3) {
        0 => leader,
        _ => world.cluster.follower().await?,
    };
    let ahead_ms = if world.draw(2) == 0 { HOUR_MS } else { -HOUR_MS };
    let jump = world.set_clock(node, ahead_ms).await?;
    world.pause(1500, 3000).await;
    // Whoever wins now may be the one whose clock is off. A leader's clock is that of the start of its term.
    for _ in 0..2 {
        let leader = world.cluster.leader().await?;
        if leader == node {
            continue;
        }
        let (kill, _) = world.kill(&[leader], leader).await?;
        world.pause(2500, 3500).await;
        world.restart(kill, &[leader]).await?;
    }
    world.works().await?;
    world.shims[node].set_clock(0)?;
    world.cluster.ready().await?;
    world.healed(jump);
    Ok(())
}
