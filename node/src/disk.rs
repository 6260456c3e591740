//! How much room the data folder has.
//!
//! A node whose disk is full can append nothing and stops, and disks of one size that hold one log fill up together: without a bound
//! before that, the whole cluster stops at once, and cannot even be told to delete something. So each node watches its own disk, and
//! below a reserve it says so. The leader refuses work that would fill the disks further while too few voters have room
//! ([`crate::leader`]); what ends, moves or deletes something goes on, out of the reserve.

use crate::shared::{Shared, aside};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// Between two looks. At 200 MiB/s, which is more than a log is written with, a second takes less than half of the default reserve.
const PERIOD: Duration = Duration::from_secs(1);
/// A disk has room again when an eighth more than the reserve is free: what wavers about one bound would be refused and taken in turns.
const BACK_SHARE: u64 = 8;

/// The data folder's disk, as it was seen last.
#[derive(Debug)]
pub(crate) struct Disk {
    reserve_bytes: u64,
    /// [`u64::MAX`] before the first look, and when the system does not tell.
    free_bytes: AtomicU64,
    low: AtomicBool,
}

impl Disk {
    /// A disk of which nothing is known yet. A reserve of 0 is never gone below.
    pub(crate) fn new(reserve_bytes: u64) -> Self {
        Self {
            reserve_bytes,
            free_bytes: AtomicU64::new(u64::MAX),
            low: AtomicBool::new(false),
        }
    }

    /// Whether less than the reserve is free.
    pub(crate) fn is_low(&self) -> bool {
        self.low.load(Ordering::Relaxed)
    }

    /// Returns what is free, when that is known.
    pub(crate) fn free_bytes(&self) -> Option<u64> {
        Some(self.free_bytes.load(Ordering::Relaxed)).filter(|free| *free != u64::MAX)
    }

    /// Returns what should stay free.
    pub(crate) fn reserve_bytes(&self) -> u64 {
        self.reserve_bytes
    }

    /// Takes down what is free. Returns whether the disk is low when that has changed.
    fn note(&self, free_bytes: u64) -> Option<bool> {
        self.free_bytes.store(free_bytes, Ordering::Relaxed);
        let before = self.is_low();
        let bound = match before {
            false => self.reserve_bytes,
            true => self.reserve_bytes.saturating_add(self.reserve_bytes / BACK_SHARE),
        };
        let low = free_bytes < bound;
        self.low.store(low, Ordering::Relaxed);
        (low != before).then_some(low)
    }
}

/// Returns the free bytes of the disk that holds a folder, as far as an ordinary user may take them.
pub(crate) fn free_bytes(folder: &Path) -> std::io::Result<u64> {
    let stat = rustix::fs::statvfs(folder)?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}

/// Looks at the disk until the node ends.
pub(crate) async fn watch(shared: Arc<Shared>) {
    let folder = shared.config.data_dir.clone();
    loop {
        // Off the threads that serve: a disk that hangs answers nothing.
        let looked = folder.clone();
        match aside(move || free_bytes(&looked)).await {
            Ok(Ok(free)) => told(&shared.disk, free, &folder),
            Ok(Err(e)) => {
                tracing::warn!(error = %e, folder = %folder.display(), "free space of the data folder is unknown")
            }
            Err(_) => {}
        }
        tokio::time::sleep(PERIOD).await;
    }
}

fn told(disk: &Disk, free_bytes: u64, folder: &Path) {
    let (free_mib, reserve_mib) = (free_bytes >> 20, disk.reserve_bytes >> 20);
    let folder = folder.display();
    match disk.note(free_bytes) {
        Some(true) => {
            tracing::error!(%folder, free_mib, reserve_mib, "less than the reserve is free: make room on this disk")
        }
        Some(false) => tracing::info!(%folder, free_mib, reserve_mib, "the disk has room again"),
        None => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_is_low_below_the_reserve_and_has_room_an_eighth_above_it() {
        let disk = Disk::new(800);
        assert_eq!((disk.free_bytes(), disk.is_low()), (None, false));
        for (free, changed) in [
            (1000, None),
            (800, None),
            (799, Some(true)),
            (899, None),
            (900, Some(false)),
            (800, None),
        ] {
            assert_eq!(disk.note(free), changed, "{free}");
            assert_eq!(disk.free_bytes(), Some(free));
        }
        let never = Disk::new(0);
        assert_eq!((never.note(0), never.is_low()), (None, false));
    }
}
