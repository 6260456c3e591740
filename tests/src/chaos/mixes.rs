//! The scenarios: which faults meet, and in which order they are drawn.

mod clocks;
mod damage;
mod disks;
mod members;
mod network;
mod nodes;
mod power;

use super::figures::Outcome;
use super::workload::Rates;
use super::world::{self, Setting, World};
use crate::checker::{self, FaultKind};
use anyhow::{Context, Result};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;
use tokio::time::Instant;

/// A scenario that is not done so long after its load was to end is not going to be.
const PATIENCE: Duration = Duration::from_secs(240);

/// One scenario.
#[derive(Clone, Copy, Debug)]
pub struct Mix {
    /// Its name.
    pub name: &'static str,
    /// What is done in it.
    pub about: &'static str,
    intended: &'static [FaultKind],
    setting: Setting,
}

const USUAL: Setting = Setting::USUAL;
const DISKS: Setting = Setting {
    disks: true,
    // Low, but not so low that a disk of this size is full before.
    arguments: &["--disk-reserve-mib", "128"],
    ..USUAL
};
/// Five nodes share the two cores of three.
const FIVE: Setting = Setting {
    nodes: 5,
    rates: Rates {
        periodic: 12,
        one_shots: 8.0,
        submits: 150.0,
        ..Rates::USUAL
    },
    ..USUAL
};

/// All of them.
pub const MIXES: [Mix; 9] = [
    Mix {
        name: "kill",
        about: "SIGKILL of the leader, of a follower, of all nodes",
        intended: &[FaultKind::Kill],
        setting: USUAL,
    },
    Mix {
        name: "stop",
        about: "SIGSTOP of the leader and of followers, for less and for more than a lease",
        intended: &[FaultKind::Stop],
        setting: USUAL,
    },
    Mix {
        name: "partition",
        about: "five nodes: the leader alone, halves, one-way, a ring, two groups with one node in common",
        intended: &[FaultKind::Partition],
        setting: FIVE,
    },
    Mix {
        name: "network",
        about: "loss of packets, delay by proxies, and a killed leader under both",
        intended: &[FaultKind::Loss, FaultKind::Delay],
        setting: Setting { proxies: true, ..USUAL },
    },
    Mix {
        name: "clock",
        about: "the wall clock of one node jumps by an hour, and elections meanwhile",
        intended: &[FaultKind::ClockJump],
        setting: USUAL,
    },
    Mix {
        name: "disk",
        about: "disks that are low, full, or fail to sync",
        intended: &[FaultKind::DiskFull, FaultKind::SyncError],
        setting: DISKS,
    },
    Mix {
        name: "power",
        about: "all nodes lose their power, and what was not synced",
        intended: &[FaultKind::PowerCut],
        setting: DISKS,
    },
    Mix {
        name: "members",
        about: "newcomers take the place of members, of the leader too",
        intended: &[FaultKind::Membership],
        setting: Setting { spares: 1, ..USUAL },
    },
    Mix {
        name: "damage",
        about: "bits turned over and files cut short in the folder of a minority",
        intended: &[FaultKind::Damage],
        setting: USUAL,
    },
];

/// Runs a scenario with a load of this length, and leaves its history, and on failure the logs, in a folder.
///
/// # Errors
/// The machine cannot do it, or the cluster did not come back from a fault. What the cluster did wrong is in the outcome.
pub async fn run(mix: &Mix, length: Duration, seed: u64, folder: &Path) -> Result<Outcome> {
    let start = Instant::now();
    let mut world = World::new(mix.setting, length, seed)
        .await
        .with_context(|| format!("{}: the start", mix.name))?;
    let driven = tokio::time::timeout(length + PATIENCE, async {
        while world.goes_on() {
            drive(mix, &mut world).await?;
        }
        world.finish(mix.name, mix.intended).await
    });
    let driven = driven
        .await
        .with_context(|| format!("not done within {:?}", length + PATIENCE));
    let (history, measured) = match driven.and_then(|driven| driven) {
        Ok(driven) => driven,
        Err(error) => {
            world.keep_logs(folder, mix.name)?;
            return Err(error.context(format!(
                "{} with seed {seed}; the logs are in {}",
                mix.name,
                folder.display()
            )));
        }
    };
    let report = checker::check(&history);
    let (restarted_ms, restarted_with_leader_ms) =
        world::restarts(&history.processes, &measured.deaths, &history.faults);
    let outcome = Outcome {
        mix: mix.name.to_owned(),
        seed,
        seconds: start.elapsed().as_secs(),
        report,
        wrongs: measured.wrongs,
        leaderless_ms: named(measured.leaderless_ms),
        restarted_ms,
        restarted_with_leader_ms,
        serving_ms: measured.serving_ms,
        damages: named(measured.damages),
        refused_for_room: measured.refused_for_room,
    };
    let file = folder.join(format!("{}-{seed}.history.json", mix.name));
    if outcome.passed() {
        // Some ten megabytes each: only what may be looked at again is kept.
        let _ = std::fs::remove_file(&file);
    } else {
        std::fs::write(&file, serde_json::to_vec(&history)?)?;
        world.keep_logs(folder, mix.name)?;
    }
    Ok(outcome)
}

fn named<T>(map: BTreeMap<&'static str, T>) -> BTreeMap<String, T> {
    map.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// Does the next thing to the cluster, and waits until it is over.
async fn drive(mix: &Mix, world: &mut World) -> Result<()> {
    world.works().await?;
    match mix.name {
        "kill" => nodes::kill(world).await,
        "stop" => nodes::stop(world).await,
        "partition" => network::partition(world).await,
        "network" => network::lossy_and_slow(world).await,
        "clock" => clocks::jump(world).await,
        "disk" => disks::trouble(world).await,
        "power" => power::cut(world).await,
        "members" => members::change(world).await,
        _ => damage::one(world).await,
    }
}
