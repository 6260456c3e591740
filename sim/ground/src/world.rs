//! One seed's world: what its hosts share without knowing it, and what is watched.

use crate::chance::Chance;
use crate::mutants::Mutant;
use crate::net::Net;
use crate::tables::Image;
use sched_core::check::Checker;
use sched_core::tables::Change;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// True time when a world begins: the first of January 2026, in milliseconds.
pub const EPOCH_MS: i64 = 1_767_225_600_000;
/// Lines of the event log that are kept.
const LINES_MAX: usize = 20_000;
/// Findings after which a world is not asked for more.
const FINDINGS_MAX: usize = 20;
/// Of the states that are checked one in so many is read as a whole.
const REREAD: u64 = 50;
/// How much faster the leader's time since boot runs when it does not wait for leases.
const IMPATIENCE: u32 = 30;

thread_local! {
    static WORLD: RefCell<Option<Arc<World>>> = const { RefCell::new(None) };
}

/// Returns the world of this thread.
///
/// # Panics
/// Outside a simulation.
#[allow(clippy::expect_used, reason = "nothing of the simulation runs outside a world")]
pub fn world() -> Arc<World> {
    WORLD
        .with(|world| world.borrow().clone())
        .expect("a world on this thread")
}

/// See the module.
pub struct World {
    /// What all chance comes from.
    pub seed: u64,
    /// The fault of the product that is switched on.
    pub mutant: Option<Mutant>,
    began: Instant,
    chance: Mutex<Chance>,
    pub(crate) net: Net,
    watched: Mutex<Watched>,
    /// Wall clocks that are wrong, by host, in milliseconds.
    offsets: Mutex<BTreeMap<String, i64>>,
    watcher: Mutex<Option<Watcher>>,
}

/// Looks at the changes of each state that is new.
type Watcher = Arc<dyn Fn(&World, &[Change]) + Send + Sync>;

#[derive(Default)]
struct Watched {
    trace: u64,
    events: u64,
    lines: Vec<String>,
    findings: Vec<String>,
    /// By index of the log: the hash of the tables, and on which node it was seen first.
    states: BTreeMap<u64, (u64, u64)>,
    leaders: BTreeMap<u64, u64>,
    checks: u64,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl World {
    /// Begins a world on this thread, in a runtime whose clock is paused.
    pub fn begin(seed: u64, mutant: Option<Mutant>) -> Arc<Self> {
        let world = Arc::new(Self {
            seed,
            mutant,
            began: Instant::now(),
            chance: Mutex::new(Chance::new(seed)),
            net: Net::default(),
            watched: Mutex::default(),
            offsets: Mutex::default(),
            watcher: Mutex::default(),
        });
        WORLD.with(|slot| *slot.borrow_mut() = Some(world.clone()));
        world
    }

    /// Ends the world of this thread.
    pub fn end() {
        WORLD.with(|slot| slot.borrow_mut().take());
    }

    /// Whether a fault of the product is switched on.
    pub fn is(&self, mutant: Mutant) -> bool {
        self.mutant == Some(mutant)
    }

    /// Draws from the world's chance.
    pub fn draw<T>(&self, with: impl FnOnce(&mut Chance) -> T) -> T {
        with(&mut locked(&self.chance))
    }

    /// Returns a stream of chance of its own, so that one host's draws do not depend on another's.
    pub fn split(&self) -> Chance {
        Chance::new(self.draw(Chance::number))
    }

    /// Returns the time since the world began.
    pub fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    /// Returns true time in milliseconds since 1970.
    pub fn now_ms(&self) -> i64 {
        EPOCH_MS + i64::try_from(self.elapsed().as_millis()).unwrap_or(i64::MAX)
    }

    /// Returns a host's wall clock.
    pub fn wall_ms(&self, host: &str) -> i64 {
        self.now_ms() + locked(&self.offsets).get(host).copied().unwrap_or(0)
    }

    /// Sets how wrong a host's wall clock is.
    pub fn set_wall_offset(&self, host: &str, offset_ms: i64) {
        locked(&self.offsets).insert(host.to_owned(), offset_ms);
    }

    /// Returns the time since boot, which leases are counted in.
    pub fn boot(&self) -> Duration {
        // Machines do not boot together with the world.
        let since = Duration::from_secs(3600) + self.elapsed();
        if self.is(Mutant::LeaseNotAwaited) {
            since * IMPATIENCE
        } else {
            since
        }
    }

    /// Adds an event to the trace, for comparison with a replay.
    pub fn event(&self, kind: &str, a: u64, b: u64) {
        let mut watched = locked(&self.watched);
        let at = u64::try_from(self.elapsed().as_micros()).unwrap_or(u64::MAX);
        let mut hash = watched.trace;
        for part in [at, a, b] {
            hash = (hash ^ part).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(23);
        }
        for byte in kind.bytes() {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
        watched.trace = hash;
        watched.events += 1;
    }

    /// Adds a line to the event log.
    pub fn note(&self, line: impl AsRef<str>) {
        let line = line.as_ref();
        self.event(line, 0, 0);
        let at = self.elapsed();
        let mut watched = locked(&self.watched);
        if watched.lines.len() < LINES_MAX {
            watched.lines.push(format!("{:>9.3} {line}", at.as_secs_f64()));
        }
    }

    /// Notes that something is wrong.
    pub fn finding(&self, what: impl AsRef<str>) {
        self.note(format!("FINDING {}", what.as_ref()));
        let mut watched = locked(&self.watched);
        if watched.findings.len() < FINDINGS_MAX {
            watched.findings.push(what.as_ref().to_owned());
        }
    }

    /// Whether nothing was found so far.
    pub fn is_sound(&self) -> bool {
        locked(&self.watched).findings.is_empty()
    }

    /// Returns what was found.
    pub fn findings(&self) -> Vec<String> {
        locked(&self.watched).findings.clone()
    }

    /// Returns the hash of the trace, and how many events it has.
    pub fn trace(&self) -> (u64, u64) {
        let watched = locked(&self.watched);
        (watched.trace, watched.events)
    }

    /// Returns how many states were checked.
    pub fn checks(&self) -> u64 {
        locked(&self.watched).checks
    }

    /// Returns the event log.
    pub fn log(&self) -> String {
        locked(&self.watched)
            .lines
            .iter()
            .fold(String::new(), |mut text, line| {
                // Writing into a string cannot fail.
                let _ = writeln!(text, "{line}");
                text
            })
    }

    /// A node leads a term: no other may.
    pub fn leads(&self, node: u64, term: u64) {
        let other = *locked(&self.watched).leaders.entry(term).or_insert(node);
        if other != node {
            self.finding(format!("nodes {other} and {node} both lead term {term}"));
        }
    }

    /// Sets who looks at the changes of each state that no node has had before.
    pub fn watch(&self, watcher: impl Fn(&Self, &[Change]) + Send + Sync + 'static) {
        *locked(&self.watcher) = Some(Arc::new(watcher));
    }

    /// A node's tables are about to go to an index with these changes.
    pub(crate) fn changes(&self, index: u64, changes: &[Change]) {
        if locked(&self.watched).states.contains_key(&index) {
            return;
        }
        let watcher = locked(&self.watcher).clone();
        if let Some(watcher) = watcher {
            watcher(self, changes);
        }
    }

    /// Returns the hash of the tables at an index, if a node was there.
    pub fn hash_at(&self, index: u64) -> Option<u64> {
        locked(&self.watched).states.get(&index).map(|(hash, _)| *hash)
    }

    /// Notes a panic, from wherever it happens.
    pub fn panicked(what: &str) {
        let world = WORLD.with(|world| world.try_borrow().ok().and_then(|world| world.clone()));
        if let Some(world) = world
            && let Ok(mut watched) = world.watched.try_lock()
        {
            watched.findings.push(format!("panic: {what}"));
        }
    }

    /// A node's tables have come to an index: they must be what they are everywhere, and sound.
    pub(crate) fn applied(&self, node: u64, image: &Image, checker: &Checker) {
        let index = image.applied.index().unwrap_or(0);
        self.event("applied", node, index);
        self.event("state", index, image.hash());
        let known = locked(&self.watched).states.get(&index).copied();
        match known {
            Some((hash, first)) => {
                if hash != image.hash() {
                    self.finding(format!("nodes {first} and {node} differ at index {index}"));
                }
            }
            None => {
                let checks = {
                    let mut watched = locked(&self.watched);
                    watched.states.insert(index, (image.hash(), node));
                    watched.checks += 1;
                    watched.checks
                };
                // What is checked is what the changes say. Now and then all of it is read.
                if checks.is_multiple_of(REREAD) && Checker::read(image.tables()).ok().as_ref() != Some(checker) {
                    self.finding(format!(
                        "node {node} at index {index}: the tables do not hold what was written"
                    ));
                }
                for finding in checker.findings().iter().take(3) {
                    self.finding(format!("node {node} at index {index}: {finding}"));
                }
            }
        }
    }
}
