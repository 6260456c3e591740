//! Members that come and go while there is work: each time a newcomer takes the place of one that leaves, the leader too.

use crate::chaos::world::World;
use crate::checker::{EvidenceKind, FaultKind};
use crate::eventually;
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::time::Duration;

/// For a newcomer to be taken in, and for a replacement to be committed.
const CHANGE_LIMIT: Duration = Duration::from_secs(40);

/// Starts the node that is no member, lets it take the place of another, and wipes that one.
pub(super) async fn change(world: &mut World) -> Result<()> {
    let (out, within): (Vec<usize>, Vec<usize>) =
        (0..world.cluster.nodes.len()).partition(|node| !world.cluster.nodes[*node].runs());
    let new = *out.first().context("one node is no member")?;
    let old = within[usize::try_from(world.draw(within.len() as u64))?];
    let names = format!("{} for {}", world.names(&[new]), world.names(&[old]));
    let old_id = eventually("the one that leaves", CHANGE_LIMIT, async || {
        member(world, old).await?.0["id"].as_u64().context("no id")
    })
    .await?;
    let fault = world.begin(FaultKind::Membership, names);
    world.cluster.start(new)?;
    let new_id = eventually("the newcomer is taken in", CHANGE_LIMIT, async || {
        member(world, new).await?.0["id"].as_u64().context("no id")
    })
    .await?;
    let (old_id, new_id) = (old_id.to_string(), new_id.to_string());
    let nodes = eventually("the newcomer votes", CHANGE_LIMIT, async || {
        world.cluster.json(&["cluster", "replace", &old_id, &new_id]).await?;
        let (node, nodes) = member(world, new).await?;
        ensure!(node["role"] != "LEARNER", "{nodes}");
        ensure!(member(world, old).await.is_err(), "{nodes}");
        Ok(nodes)
    })
    .await?;
    world.seen(fault, EvidenceKind::MembersChanged, nodes.to_string());
    // Its number is never used again: it comes back as another.
    world.cluster.kill9(old).await?;
    let data = world.cluster.nodes[old].data.clone();
    std::fs::remove_dir_all(&data).with_context(|| data.display().to_string())?;
    let peers: Vec<_> = within
        .iter()
        .chain([&new])
        .filter(|node| **node != old)
        .map(|node| world.cluster.nodes[*node].peer.clone())
        .collect();
    let arguments = ["--join".to_owned(), peers.join(","), "--insecure".to_owned()];
    world.cluster.nodes[old].set_arguments(arguments.into());
    world.cluster.ready().await?;
    world.healed(fault);
    Ok(())
}

/// A node as the cluster lists it, and the whole list.
async fn member(world: &World, index: usize) -> Result<(Value, Value)> {
    let address = &world.cluster.nodes[index].client;
    let nodes = world.cluster.json(&["nodes"]).await?;
    let rows = nodes.as_array().context("no list of nodes")?;
    let node = rows.iter().find(|node| node["client_address"] == **address);
    let node = node
        .with_context(|| format!("no member at {address}: {nodes}"))?
        .clone();
    Ok((node, nodes))
}
