//! The sessions of workers as this leader sees them: who is connected, who has room, whose lease ends when.
//!
//! All of it is rebuilt from the tables at the start of a term. The lock is held for a few map operations, never across an await.

use super::link::Link;
use crate::clock;
use crate::state;
use sched_core::Fault;
use sched_core::command::AssignItem;
use sched_core::ids::{RunId, SessionId, Token};
use sched_core::plan::{Candidate, Room, plan_assign};
use sched_core::session::serves;
use sched_core::tables::View;
use sched_core::task::Placement;
use sched_proto::v1::Progress;
use sched_proto::worker::{HeartbeatAck, Redirect, Refused, ToWorker};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;

/// The lease as workers are told it: they have given up everything when it is over.
pub(crate) const LEASE: Duration = Duration::from_secs(10);
/// How often workers give a sign of life.
pub(crate) const HEARTBEAT: Duration = Duration::from_secs(2);
/// The lease as the leader counts it: longer by what clocks may differ in rate (1 %), and a margin.
const LEASE_COUNTED: Duration = Duration::from_secs(11);

/// What only the leader knows of a session.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct SessionContact {
    /// Its worker has a stream.
    pub(crate) connected: bool,
    /// It takes no more by itself.
    pub(crate) leaving: bool,
    /// Its lease counts from then, in time since boot.
    pub(crate) since: Duration,
}

fn names_of_drained(view: &impl View) -> Result<BTreeSet<String>, Fault> {
    Ok(state::drained(view)?
        .into_iter()
        .map(|drained| drained.worker)
        .collect())
}

/// A session as it was just opened.
pub(crate) struct Opened {
    pub(crate) worker: String,
    pub(crate) journal: u128,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) slots: u32,
    pub(crate) queues: BTreeSet<String>,
    /// Takes no new runs.
    pub(crate) draining: bool,
    /// The log position of the opening.
    pub(crate) bound: Token,
}

struct Entry {
    worker: Arc<str>,
    journal: u128,
    labels: Arc<BTreeMap<String, String>>,
    /// The queues it serves.
    queues: Arc<BTreeSet<String>>,
    /// The log position of its newest opening: an expiry names it.
    bound: Token,
    slots: u32,
    /// Runs it holds or is about to be given.
    held: HashSet<RunId>,
    /// What attempts of those runs said last.
    progress: HashMap<RunId, (Token, Progress)>,
    /// Takes no new runs.
    draining: bool,
    /// Its lease was over and it is being ended.
    expiring: bool,
    /// When its lease is over, in time since boot.
    deadline: Duration,
    link: Option<Arc<Link>>,
}

/// A sign of life that no quorum has confirmed yet.
struct Beat {
    link: Arc<Link>,
    seq: u64,
    received: Duration,
}

#[derive(Default)]
struct State {
    /// Names of workers that get no new runs, whatever session they open.
    drained: BTreeSet<String>,
    // Ordered, so that plans do not depend on chance.
    sessions: BTreeMap<SessionId, Entry>,
    beats: BTreeMap<SessionId, Beat>,
    /// Set when the term is over: the address of the next leader, or nothing when it is not known.
    closed: Option<String>,
}

/// See the module.
pub(crate) struct Hub {
    state: Mutex<State>,
    /// A sign of life waits to be confirmed.
    pub(crate) beat: Notify,
}

impl Hub {
    /// Reads the live sessions; each gets its lease in full.
    pub(crate) fn load(view: &impl View) -> Result<Self, Fault> {
        let deadline = clock::boot() + LEASE_COUNTED;
        let mut state = State::default();
        for (id, session) in state::sessions(view)? {
            let held = state::held_by(view, id)?.into_iter().collect();
            let entry = Entry {
                worker: session.worker.into(),
                journal: session.journal,
                labels: Arc::new(session.labels),
                queues: Arc::new(session.queues),
                bound: session.bound,
                slots: session.slots,
                held,
                progress: HashMap::new(),
                draining: session.closing,
                expiring: false,
                deadline,
                link: None,
            };
            state.sessions.insert(id, entry);
        }
        state.drained = names_of_drained(view)?;
        Ok(Self {
            state: Mutex::new(state),
            beat: Notify::new(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the number of sessions.
    pub(crate) fn len(&self) -> usize {
        self.lock().sessions.len()
    }

    /// Binds a connection to a session that was just opened, in place of an older one. False: the term is over.
    pub(crate) fn link(&self, id: SessionId, opened: Opened, link: &Arc<Link>) -> bool {
        let mut state = self.lock();
        if let Some(leader) = &state.closed {
            link.send_last(redirect(leader.clone()));
            return false;
        }
        let deadline = clock::boot() + LEASE_COUNTED;
        let known = state.sessions.remove(&id);
        let (held, progress, old) =
            known.map_or_else(Default::default, |entry| (entry.held, entry.progress, entry.link));
        let entry = Entry {
            worker: opened.worker.into(),
            journal: opened.journal,
            labels: Arc::new(opened.labels),
            queues: Arc::new(opened.queues),
            bound: opened.bound,
            slots: opened.slots,
            held,
            progress,
            draining: opened.draining,
            expiring: false,
            deadline,
            link: Some(link.clone()),
        };
        state.sessions.insert(id, entry);
        if let Some(old) = old {
            old.end();
        }
        true
    }

    /// Whether another worker of this name is connected. One whose connection has ended may be this one with a new journal.
    pub(crate) fn is_name_taken(&self, worker: &str, journal: u128) -> bool {
        let state = self.lock();
        let mut linked = state.sessions.values().filter(|entry| entry.link.is_some());
        linked.any(|entry| &*entry.worker == worker && entry.journal != journal)
    }

    /// Notes runs that the tables say a session holds.
    pub(crate) fn holds(&self, id: SessionId, runs: impl IntoIterator<Item = RunId>) {
        if let Some(entry) = self.lock().sessions.get_mut(&id) {
            entry.held.extend(runs);
        }
    }

    /// Takes a connection away from its session, unless another one took its place.
    pub(crate) fn unlink(&self, id: SessionId, link: &Arc<Link>) {
        if let Some(entry) = self.lock().sessions.get_mut(&id)
            && entry.link.as_ref().is_some_and(|current| Arc::ptr_eq(current, link))
        {
            entry.link = None;
        }
    }

    /// Gives no new runs to a session.
    pub(crate) fn drain(&self, id: SessionId) {
        if let Some(entry) = self.lock().sessions.get_mut(&id) {
            entry.draining = true;
        }
    }

    /// Notes whether a worker gets new runs.
    pub(super) fn set_drained(&self, worker: &str, drained: bool) {
        let mut state = self.lock();
        if drained {
            state.drained.insert(worker.to_owned());
        } else {
            state.drained.remove(worker);
        }
    }

    /// Reads anew which workers get no new runs.
    pub(super) fn reload_drained(&self, view: &impl View) -> Result<(), Fault> {
        let drained = names_of_drained(view)?;
        self.lock().drained = drained;
        Ok(())
    }

    /// Returns what only the leader knows of a session: whether it is connected and gets no more by itself, and since when its lease runs.
    pub(crate) fn contact(&self, id: SessionId) -> Option<SessionContact> {
        let state = self.lock();
        let entry = state.sessions.get(&id)?;
        Some(SessionContact {
            connected: entry.link.is_some(),
            leaving: entry.draining,
            since: entry.deadline.saturating_sub(LEASE_COUNTED),
        })
    }

    /// Gives a session its lease in full that was opened again while it was being ended.
    pub(super) fn opened_again(&self, id: SessionId, bound: Token) {
        if let Some(entry) = self.lock().sessions.get_mut(&id)
            && entry.bound <= bound
        {
            entry.bound = bound;
            entry.expiring = false;
            entry.deadline = clock::boot() + LEASE_COUNTED;
        }
    }

    /// Forgets a session that is over, and tells its worker.
    pub(crate) fn remove(&self, id: SessionId, reason: &str) {
        let removed = self.lock().sessions.remove(&id);
        if let Some(link) = removed.and_then(|entry| entry.link) {
            // At once: the worker opens a new session.
            let refused = Refused {
                reason: reason.to_owned(),
                retry_after_ms: 1,
                new_journal: false,
            };
            link.send_last(ToWorker {
                refused: Some(refused),
                ..ToWorker::default()
            });
        }
    }

    /// Ends the term: every worker is told where to go.
    pub(crate) fn close(&self, leader: String) {
        let mut state = self.lock();
        for entry in state.sessions.values() {
            if let Some(link) = &entry.link {
                link.send_last(redirect(leader.clone()));
            }
        }
        state.sessions.clear();
        state.beats.clear();
        state.closed = Some(leader);
    }

    /// Returns the connection of a session.
    pub(crate) fn link_of(&self, id: SessionId) -> Option<Arc<Link>> {
        self.lock().sessions.get(&id)?.link.clone()
    }

    /// Returns the connection of a worker, for reading its output.
    pub(crate) fn link_of_worker(&self, worker: &str) -> Option<Arc<Link>> {
        let state = self.lock();
        state
            .sessions
            .values()
            .filter(|entry| &*entry.worker == worker)
            .find_map(|entry| entry.link.clone())
    }

    /// Returns every connected session.
    pub(crate) fn linked(&self) -> Vec<(SessionId, Arc<Link>)> {
        let state = self.lock();
        state
            .sessions
            .iter()
            .filter_map(|(id, entry)| Some((*id, entry.link.clone()?)))
            .collect()
    }

    /// Returns how many connected workers there are, and how many runs they can take at once and now.
    pub(crate) fn capacity(&self) -> (u32, u64, u64) {
        let state = self.lock();
        let linked = state.sessions.values().filter(|entry| entry.link.is_some());
        linked.fold((0, 0, 0), |(workers, slots, free), entry| {
            (
                workers + 1,
                slots + u64::from(entry.slots),
                free + u64::from(entry.free()),
            )
        })
    }

    /// Returns how many runs could be placed now.
    pub(crate) fn free(&self) -> usize {
        let state = self.lock();
        let free: u64 = state.takers().map(|entry| u64::from(entry.free())).sum();
        usize::try_from(free).unwrap_or(usize::MAX)
    }

    /// Whether some worker has room for a run of this queue, or of none, with these demands.
    pub(crate) fn fits(&self, queue: Option<&str>, placement: &Placement) -> bool {
        let state = self.lock();
        let mut rooms = state.takers().filter(|entry| entry.free() > 0);
        rooms.any(|entry| serves(&entry.queues, queue) && placement.allows(&entry.labels))
    }

    /// Places runs, in their order, and reserves a slot for each. Whoever calls it proposes them and calls [`Hub::release`] for those that
    /// were refused.
    pub(crate) fn place(&self, runs: &[Candidate]) -> Vec<AssignItem> {
        if runs.is_empty() {
            return Vec::new();
        }
        let mut state = self.lock();
        let rooms: Vec<Room> = state
            .sessions
            .iter()
            .filter(|(_, entry)| !state.drained.contains(&*entry.worker))
            .map(|(id, entry)| Room {
                session: *id,
                free: entry.free(),
                busy: entry.busy(),
                worker: entry.worker.clone(),
                labels: entry.labels.clone(),
                queues: entry.queues.clone(),
            })
            .collect();
        let items = plan_assign(runs, &rooms);
        for item in &items {
            if let Some(entry) = state.sessions.get_mut(&item.session) {
                entry.held.insert(item.run);
            }
        }
        items
    }

    /// Frees the slot of a run that its session does not hold, or no longer.
    pub(crate) fn release(&self, id: SessionId, run: RunId) {
        if let Some(entry) = self.lock().sessions.get_mut(&id) {
            entry.held.remove(&run);
            entry.progress.remove(&run);
        }
    }

    /// Notes what an attempt says of itself. Only of runs that the session holds, so that there is a bound on what is kept.
    pub(crate) fn note_progress(&self, id: SessionId, run: RunId, token: Token, progress: Progress) {
        if let Some(entry) = self.lock().sessions.get_mut(&id)
            && entry.held.contains(&run)
        {
            entry.progress.insert(run, (token, progress));
        }
    }

    /// Returns what an attempt said last.
    pub(crate) fn progress(&self, run: RunId, token: Token, id: SessionId) -> Option<Progress> {
        let state = self.lock();
        let (said_by, progress) = state.sessions.get(&id)?.progress.get(&run)?;
        (*said_by == token).then(|| progress.clone())
    }

    /// Notes a sign of life, to be confirmed by a quorum.
    pub(crate) fn heartbeat(&self, id: SessionId, link: &Arc<Link>, seq: u64) {
        let beat = Beat {
            link: link.clone(),
            seq,
            received: clock::boot(),
        };
        self.lock().beats.insert(id, beat);
        self.beat.notify_one();
    }

    /// Takes the signs of life that wait, each the newest of its session.
    pub(super) fn take_beats(&self) -> Beats {
        Beats(std::mem::take(&mut self.lock().beats))
    }

    /// Extends the leases of confirmed signs of life and tells the workers.
    pub(super) fn confirm(&self, beats: Beats) {
        let mut state = self.lock();
        for (id, beat) in beats.0 {
            // One whose lease was over is being ended: it may be told nothing that it could take for another lease.
            let Some(entry) = state.sessions.get_mut(&id).filter(|entry| !entry.expiring) else {
                continue;
            };
            entry.deadline = entry.deadline.max(beat.received + LEASE_COUNTED);
            let heartbeat_ack = Some(HeartbeatAck { seq: beat.seq });
            beat.link.send(ToWorker {
                heartbeat_ack,
                ..ToWorker::default()
            });
        }
    }

    /// Returns the end of the lease that ends first.
    pub(super) fn first_deadline(&self) -> Option<Duration> {
        self.lock().sessions.values().map(|entry| entry.deadline).min()
    }

    /// Returns the sessions whose lease is over; they get no new runs from now on.
    pub(super) fn expired(&self, now: Duration) -> Vec<(SessionId, Token, String)> {
        let mut state = self.lock();
        let over = state.sessions.iter_mut().filter(|(_, entry)| entry.deadline <= now);
        over.map(|(id, entry)| {
            entry.draining = true;
            entry.expiring = true;
            (*id, entry.bound, entry.worker.to_string())
        })
        .collect()
    }
}

/// Signs of life on their way to be confirmed.
pub(super) struct Beats(BTreeMap<SessionId, Beat>);

impl Beats {
    /// Whether there is none.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl State {
    /// The sessions of workers that are not drained.
    fn takers(&self) -> impl Iterator<Item = &Entry> {
        self.sessions
            .values()
            .filter(|entry| !self.drained.contains(&*entry.worker))
    }
}

impl Entry {
    fn busy(&self) -> u32 {
        u32::try_from(self.held.len()).unwrap_or(u32::MAX)
    }

    /// Room now: only a connected worker that is not leaving has any.
    fn free(&self) -> u32 {
        if self.draining || self.link.is_none() {
            0
        } else {
            self.slots.saturating_sub(self.busy())
        }
    }
}

/// Sends a worker elsewhere.
pub(crate) fn redirect(leader: String) -> ToWorker {
    ToWorker {
        redirect: Some(Redirect { leader }),
        ..ToWorker::default()
    }
}

#[cfg(test)]
mod tests;
