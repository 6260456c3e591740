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
    let fault = world.begin(FaultKind::Membership, names);
    let old_id = id(world, old).await?;
    let nodes = replace(world, old_id, new).await?;
    world.seen(fault, EvidenceKind::MembersChanged, nodes.to_string());
    world.cluster.kill9(old).await?;
    empty(world, old, &[within.as_slice(), &[new]].concat())?;
    world.cluster.ready().await?;
    world.healed(fault);
    Ok(())
}

/// The number of a member.
///
/// # Errors
/// It is none.
pub(super) async fn id(world: &World, index: usize) -> Result<u64> {
    eventually("the number of a member", CHANGE_LIMIT, async || {
        member(world, index).await?.0["id"].as_u64().context("no id")
    })
    .await
}

/// Starts a node that is no member, and lets it take the place of the one with that number. Returns the members after it.
///
/// # Errors
/// It is not taken in, or the change is not made.
pub(super) async fn replace(world: &mut World, old_id: u64, new: usize) -> Result<Value> {
    world.cluster.start(new)?;
    // One that comes back as another may have the address of the one that it was.
    let new_id = eventually("the newcomer is taken in", CHANGE_LIMIT, async || {
        let nodes = world.cluster.json(&["nodes"]).await?;
        let rows = nodes.as_array().context("no list of nodes")?;
        let at = |row: &&Value| row["client_address"] == *world.cluster.nodes[new].client && row["id"] != old_id;
        rows.iter()
            .find(at)
            .and_then(|row| row["id"].as_u64())
            .with_context(|| format!("not yet: {nodes}"))
    })
    .await?;
    let (old_id, new_id) = (old_id.to_string(), new_id.to_string());
    eventually("the newcomer votes", CHANGE_LIMIT, async || {
        world.cluster.json(&["cluster", "replace", &old_id, &new_id]).await?;
        let nodes = world.cluster.json(&["nodes"]).await?;
        ensure!(!nodes.to_string().contains(&old_id), "{nodes}");
        let (node, nodes) = member(world, new).await?;
        ensure!(node["role"] != "LEARNER", "{nodes}");
        Ok(nodes)
    })
    .await
}

/// Takes its folder from a node that does not run: its number is never used again, and it comes back as another that joins `members`.
///
/// # Errors
/// The folder cannot be removed.
pub(super) fn empty(world: &mut World, node: usize, members: &[usize]) -> Result<()> {
    let data = world.cluster.nodes[node].data.clone();
    std::fs::remove_dir_all(&data).with_context(|| data.display().to_string())?;
    let others = members.iter().filter(|member| **member != node);
    let peers: Vec<_> = others.map(|member| world.cluster.nodes[*member].peer.clone()).collect();
    let arguments = ["--join".to_owned(), peers.join(","), "--insecure".to_owned()];
    world.cluster.nodes[node].set_arguments(arguments.into());
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
