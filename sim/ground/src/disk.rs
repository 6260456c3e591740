//! What a crash leaves of a node: what was synced, and perhaps a little more, never less.

use crate::log::Image as LogImage;
use crate::record::Identity;
use crate::snapshots::Stored;
use crate::tables::Image;
use sched_core::NodeId;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The layout of a data folder; of no meaning here.
const FORMAT: u32 = 1;

/// A node's disk, which outlives its processes.
pub struct Disk {
    pub(crate) node: u64,
    /// Handles of an older life can do nothing any more.
    life: AtomicU64,
    /// The newest life that has read the disk.
    read_by: AtomicU64,
    kept: Mutex<Kept>,
    weather: Mutex<DiskWeather>,
}

/// What survives.
pub(crate) struct Kept {
    pub(crate) identity: Identity,
    pub(crate) formation: Option<Vec<u8>>,
    pub(crate) log: LogImage,
    pub(crate) tables: Arc<Image>,
    /// Oldest first.
    pub(crate) snapshots: Vec<Arc<Stored>>,
}

#[derive(Clone, Copy, Default)]
struct DiskWeather {
    slow_ms: u64,
    sync_fails: bool,
}

impl Disk {
    /// Returns the empty disk of a node.
    pub fn new(node: u64) -> Arc<Self> {
        Arc::new(Self {
            node,
            life: AtomicU64::new(0),
            read_by: AtomicU64::new(0),
            kept: Mutex::new(Kept {
                identity: Identity {
                    format: FORMAT,
                    node: NodeId(node),
                    cluster: None,
                },
                formation: None,
                log: LogImage::default(),
                tables: Arc::new(Image::default()),
                snapshots: Vec::new(),
            }),
            weather: Mutex::default(),
        })
    }

    pub(crate) fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends the life of the process that uses the disk: what it does from now on reaches nothing.
    pub fn crash(&self) {
        self.life.fetch_add(1, Ordering::SeqCst);
        let mut weather = self.weather.lock().unwrap_or_else(PoisonError::into_inner);
        weather.sync_fails = false;
    }

    /// A life reads what is on the disk: nothing of an older one reaches it any more.
    pub(crate) fn read_by(&self, life: u64) {
        self.read_by.fetch_max(life, Ordering::SeqCst);
    }

    /// Whether what a life was writing when it ended may still have reached the disk.
    pub(crate) fn may_have_kept(&self, life: u64) -> bool {
        self.read_by.load(Ordering::SeqCst) == life
    }

    pub(crate) fn life(&self) -> u64 {
        self.life.load(Ordering::SeqCst)
    }

    /// Makes every sync take about so long.
    pub fn slow_down(&self, slow_ms: u64) {
        self.weather.lock().unwrap_or_else(PoisonError::into_inner).slow_ms = slow_ms;
    }

    /// Makes the next sync fail.
    pub fn fail_sync(&self) {
        self.weather.lock().unwrap_or_else(PoisonError::into_inner).sync_fails = true;
    }

    /// Makes syncs succeed again.
    pub fn calm(&self) {
        self.weather.lock().unwrap_or_else(PoisonError::into_inner).sync_fails = false;
    }

    pub(crate) fn sync_time(&self) -> Duration {
        let slow = self.weather.lock().unwrap_or_else(PoisonError::into_inner).slow_ms;
        let micros = crate::world().draw(|chance| chance.range(200, 3_000));
        Duration::from_micros(micros) + Duration::from_millis(slow)
    }

    pub(crate) fn take_sync_failure(&self) -> bool {
        let mut weather = self.weather.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut weather.sync_fails)
    }
}
