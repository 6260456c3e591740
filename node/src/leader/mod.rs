//! The duties of a leader: started when this node leads and its tables are complete, stopped when it no longer does.
//!
//! [`watch`] is their only owner. It stops the duties of one term before it starts those of the next, and whatever a duty holds dies with its
//! [`Term`], so that nothing late from an old term can touch a newer one. No duty keeps anything that a new leader could not rebuild from
//! the tables.

pub(crate) mod clocks;
mod dispatcher;
mod drain;
mod effects;
pub(crate) mod hub;
mod janitor;
mod leases;
mod link;
mod notify;
mod reports;
pub(crate) mod room;
mod sessions;
mod ticker;

pub(crate) use link::OutputError;
pub(crate) use sessions::Gateway;

use crate::shared::{OrStop, Shared};
use hub::Hub;
use sched_core::Timestamp;
use sched_core::command::{Command, Item, Reply};
use sched_proto::v1::WorkerFault;
use sched_raft::ProposeError;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Before a duty tries again what could not be proposed.
const RETRY: Duration = Duration::from_millis(50);

/// One term of this node as leader.
pub(crate) struct Term {
    pub(crate) number: u64,
    /// Leader time at its start: what was due before fell into a time without a leader, or with another one.
    pub(crate) since: Timestamp,
    /// When it began.
    pub(crate) began: Instant,
    /// The sessions of workers.
    pub(crate) hub: Hub,
    ticker: ticker::Wake,
    dispatch: Notify,
    drain: Notify,
    reports: reports::Queue,
    /// This node's clock, or the state's, is too far from the majority's: nothing is fired.
    clock_apart: AtomicBool,
    /// A majority's clocks confirm leader time, and the state's time is too far ahead of them.
    state_ahead: AtomicBool,
    /// Too few voters have room on their disks: work that would fill them further is refused.
    no_room: AtomicBool,
    /// The voters whose disks are low.
    low_disks: Mutex<BTreeSet<u64>>,
    /// The other members whose own workers take no runs, by number.
    faulty_workers: Mutex<BTreeMap<u64, WorkerFault>>,
    /// The clocks of the other voters, as they were compared last.
    clocks: Mutex<Vec<clocks::Difference>>,
}

impl Term {
    /// The voters whose disks are low, as far as they have told.
    pub(crate) fn low_disks(&self) -> MutexGuard<'_, BTreeSet<u64>> {
        self.low_disks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The other members whose own workers take no runs, as far as they have told.
    pub(crate) fn faulty_workers(&self) -> MutexGuard<'_, BTreeMap<u64, WorkerFault>> {
        self.faulty_workers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The clocks of the other voters, as they were compared last.
    pub(crate) fn clocks(&self) -> MutexGuard<'_, Vec<clocks::Difference>> {
        self.clocks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether nothing is fired because of clocks.
    pub(crate) fn clocks_apart(&self) -> bool {
        self.clock_apart.load(Ordering::Relaxed)
    }

    /// Whether work that would fill the disks further is refused.
    pub(crate) fn refuses_work(&self) -> bool {
        self.no_room.load(Ordering::Relaxed)
    }
}

/// The term this node leads now, if it does.
#[derive(Default)]
pub(crate) struct Terms {
    current: Mutex<Option<Arc<Term>>>,
}

impl Terms {
    /// Returns the current term.
    pub(crate) fn current(&self) -> Option<Arc<Term>> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, term: Option<Arc<Term>>) {
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = term;
    }
}

/// Starts and stops duties as leadership comes and goes, until `stop`.
pub(crate) async fn watch(shared: Arc<Shared>, stop: CancellationToken) {
    let mut roles = shared.replica.roles();
    let mut duties: Option<Duties> = None;
    loop {
        let wanted = {
            let role = roles.borrow_and_update();
            role.leading.then_some(role.term)
        };
        if duties.as_ref().map(|duties| duties.term.number) != wanted {
            if let Some(old) = duties.take() {
                old.stop(&shared).await;
            }
            if let Some(number) = wanted {
                duties = Some(Duties::start(shared.clone(), number));
            }
        }
        tokio::select! {
            () = stop.cancelled() => break,
            changed = roles.changed() => if changed.is_err() { break },
            () = ended(duties.as_mut()) => {
                // A duty never returns by itself: it panicked. A leader that only does some of its duties is worse than none.
                eprintln!("schednode: a duty of the leader failed, see the log above; this node stops so that another one leads");
                std::process::exit(sched_raft::FATAL_EXIT_CODE);
            }
        }
    }
    if let Some(old) = duties.take() {
        old.stop(&shared).await;
    }
}

/// Waits until a duty ends by itself.
async fn ended(duties: Option<&mut Duties>) {
    match duties {
        Some(duties) => {
            if let Some(Err(e)) = duties.tasks.join_next().await {
                tracing::error!(error = %e, term = duties.term.number, "a duty of the leader failed");
            }
        }
        None => std::future::pending().await,
    }
}

struct Duties {
    term: Arc<Term>,
    tasks: JoinSet<()>,
}

impl Duties {
    fn start(shared: Arc<Shared>, number: u64) -> Self {
        // Effects are taken from before the tables are read, so that nothing falls between.
        let (effects, notices) = (shared.replica.effects(), shared.replica.effects());
        let (reports, queue) = reports::queue();
        let term = Arc::new(Term {
            number,
            since: shared.clock.begin_term(),
            began: Instant::now(),
            hub: Hub::load(&shared.replica.view()).or_stop(),
            ticker: ticker::Wake::default(),
            dispatch: Notify::new(),
            drain: Notify::new(),
            reports,
            // Until the clocks of a majority are known, nothing is fired.
            clock_apart: AtomicBool::new(true),
            no_room: AtomicBool::new(false),
            low_disks: Mutex::default(),
            faulty_workers: Mutex::default(),
            clocks: Mutex::default(),
            state_ahead: AtomicBool::new(false),
        });
        tracing::info!(node = %shared.replica.node(), term = number, workers = term.hub.len(), "leading");
        let mut tasks = JoinSet::new();
        tasks.spawn(effects::run(shared.clone(), term.clone(), effects));
        tasks.spawn(notify::run(shared.clone(), term.clone(), notices));
        tasks.spawn(ticker::run(shared.clone(), term.clone()));
        tasks.spawn(dispatcher::run(shared.clone(), term.clone()));
        tasks.spawn(drain::run(shared.clone(), term.clone()));
        tasks.spawn(reports::run(shared.clone(), term.clone(), queue));
        tasks.spawn(leases::confirm_heartbeats(shared.clone(), term.clone()));
        tasks.spawn(leases::expire_sessions(shared.clone(), term.clone()));
        tasks.spawn(janitor::run(shared.clone()));
        tasks.spawn(clocks::run(shared.clone(), term.clone()));
        tasks.spawn(room::run(shared.clone(), term.clone()));
        shared.terms.set(Some(term.clone()));
        Self { term, tasks }
    }

    /// Stops every duty. Each is at an await point when it is dropped: what it had proposed is committed or not, and the next leader finds
    /// out from the tables.
    async fn stop(mut self, shared: &Shared) {
        shared.terms.set(None);
        self.tasks.shutdown().await;
        self.term.hub.close(shared.leader_elsewhere().unwrap_or_default());
        shared.clock.end_term();
        tracing::info!(node = %shared.replica.node(), term = self.term.number, "no longer leading");
    }
}

/// Proposes one command of the leader's own.
async fn propose_one(shared: &Shared, command: Command) -> Result<Reply, ProposeError> {
    let mut replies = shared.replica.propose_internal(vec![Item::internal(command)]).await;
    replies.pop().unwrap_or(Err(ProposeError::Stopped))
}
