//! What the parts of one replica share: counters, how far the tables are, and the sign to stop.

use crate::role::Metrics;
use sched_core::command::Effect;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::{broadcast, watch};

/// Batches of hints a slow receiver may lag behind before it misses some.
const EFFECT_BATCHES_MAX: usize = 1024;

/// How far the tables of this node are.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct AppliedTo {
    /// Index of the last entry.
    pub(crate) index: u64,
    /// Its term.
    pub(crate) term: u64,
}

/// A counter of the metrics page.
#[derive(Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, n: usize) {
        // Only ever read for people; no other memory hangs on it.
        self.0.fetch_add(n as u64, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// All counters of one replica.
#[derive(Default)]
pub(crate) struct Counters {
    pub(crate) proposed_items: Counter,
    pub(crate) proposed_entries: Counter,
    pub(crate) overloaded: Counter,
    pub(crate) unknown: Counter,
    pub(crate) applied_entries: Counter,
    pub(crate) applied_items: Counter,
    pub(crate) applied_batches: Counter,
    pub(crate) elections_won: Counter,
    pub(crate) snapshots_built: Counter,
    pub(crate) snapshots_sent: Counter,
    pub(crate) snapshots_installed: Counter,
    pub(crate) peer_refused: Counter,
    pub(crate) refused_by_peers: Counter,
}

impl Counters {
    /// Fills in what is counted here.
    pub(crate) fn fill(&self, metrics: &mut Metrics) {
        metrics.proposed_items = self.proposed_items.get();
        metrics.proposed_entries = self.proposed_entries.get();
        metrics.overloaded = self.overloaded.get();
        metrics.unknown = self.unknown.get();
        metrics.applied_entries = self.applied_entries.get();
        metrics.applied_items = self.applied_items.get();
        metrics.applied_batches = self.applied_batches.get();
        metrics.elections_won = self.elections_won.get();
        metrics.snapshots_built = self.snapshots_built.get();
        metrics.snapshots_sent = self.snapshots_sent.get();
        metrics.snapshots_installed = self.snapshots_installed.get();
        metrics.peer_refused = self.peer_refused.get();
        metrics.refused_by_peers = self.refused_by_peers.get();
    }
}

/// Where the apply tells the rest of the replica what happened.
#[derive(Clone)]
pub(crate) struct Board {
    pub(crate) applied: Arc<watch::Sender<AppliedTo>>,
    pub(crate) effects: broadcast::Sender<Arc<[Effect]>>,
    pub(crate) counters: Arc<Counters>,
}

impl Board {
    pub(crate) fn new() -> Self {
        Self {
            applied: Arc::new(watch::Sender::new(AppliedTo::default())),
            effects: broadcast::Sender::new(EFFECT_BATCHES_MAX),
            counters: Arc::new(Counters::default()),
        }
    }

    /// Returns how far the tables are.
    pub(crate) fn applied(&self) -> AppliedTo {
        *self.applied.borrow()
    }
}
