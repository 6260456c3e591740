//! Reports of workers: proposed in batches, on the lane that clients cannot fill, and answered once they are committed.

use super::link::Link;
use super::sessions::other_journal;
use super::{RETRY, Term};
use crate::shared::Shared;
use crate::worker::wire::attempt_to_wire;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use sched_core::command::{Command, Item, Reject, Reply};
use sched_core::ids::{RunId, SessionId, Token};
use sched_proto::worker::{Rejected, ToWorker};
use sched_raft::ProposeError;
use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::mpsc;

/// Reports that wait to be proposed. More are dropped: a worker repeats each until it is answered.
const QUEUE_MAX: usize = 64 * 1024;
/// Reports of one proposal: a small part of an entry, so that several proposals share the cost of one sync and none waits long.
const BATCH_MAX: usize = 256;
/// Proposals of reports in flight.
const IN_FLIGHT_MAX: usize = 8;

/// What a report says about its attempt.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(super) enum Kind {
    /// It ended.
    Ended,
    /// It was not and will not be started.
    Refused,
    /// It waits for the permission to start.
    GrantWanted,
}

/// A report and where its answer goes.
pub(super) struct Report {
    pub(super) kind: Kind,
    pub(super) session: SessionId,
    pub(super) link: Arc<Link>,
    pub(super) run: RunId,
    pub(super) token: Token,
    pub(super) command: Command,
}

type Id = (Kind, RunId, Token);

/// Where connections put reports.
pub(super) struct Queue {
    tx: mpsc::Sender<Report>,
    /// Reports not yet answered: a repeat of one of them is dropped.
    open: Mutex<HashSet<Id>>,
}

/// Returns a queue and its end.
pub(super) fn queue() -> (Queue, mpsc::Receiver<Report>) {
    let (tx, rx) = mpsc::channel(QUEUE_MAX);
    (
        Queue {
            tx,
            open: Mutex::default(),
        },
        rx,
    )
}

impl Queue {
    fn open(&self) -> MutexGuard<'_, HashSet<Id>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a report. Never waits: a heartbeat may stand behind it.
    pub(super) fn push(&self, report: Report) {
        let id = (report.kind, report.run, report.token);
        if self.open().insert(id) && self.tx.try_send(report).is_err() {
            self.open().remove(&id);
        }
    }
}

/// Proposes reports until the term is over.
pub(super) async fn run(shared: Arc<Shared>, term: Arc<Term>, mut queue: mpsc::Receiver<Report>) {
    let mut in_flight = FuturesUnordered::new();
    loop {
        let mut batch = Vec::with_capacity(BATCH_MAX);
        tokio::select! {
            // The queue's other end is in the term, so that it does not close before this duty is stopped.
            _ = queue.recv_many(&mut batch, BATCH_MAX), if in_flight.len() < IN_FLIGHT_MAX => {
                in_flight.push(record(&shared, &term, batch));
            }
            Some(()) = in_flight.next() => {}
        }
    }
}

async fn record(shared: &Shared, term: &Term, mut batch: Vec<Report>) {
    while !batch.is_empty() {
        let items = batch
            .iter()
            .map(|report| Item::internal(report.command.clone()))
            .collect();
        let results = shared.replica.propose_internal(items).await;
        let mut again = Vec::new();
        let mut answers: BTreeMap<SessionId, (Arc<Link>, ToWorker)> = BTreeMap::new();
        for (report, result) in batch.into_iter().zip(results) {
            match result {
                Err(e) if is_worth_another_try(&e) => again.push(report),
                // Another node leads: the worker finds it and reports there.
                Err(ProposeError::NotLeader { .. } | ProposeError::Stopped) => close(term, &report),
                result => answer(shared, term, &report, result, &mut answers),
            }
        }
        for (link, message) in answers.into_values() {
            link.send(message);
        }
        batch = again;
        if !batch.is_empty() {
            tokio::time::sleep(RETRY).await;
        }
    }
}

/// A report is checked against its token: proposing it again is harmless.
fn is_worth_another_try(e: &ProposeError) -> bool {
    matches!(
        e,
        ProposeError::Unknown { .. } | ProposeError::Overloaded { .. } | ProposeError::Reject(Reject::WrongTerm { .. })
    )
}

fn close(term: &Term, report: &Report) {
    term.reports.open().remove(&(report.kind, report.run, report.token));
}

fn answer(
    shared: &Shared,
    term: &Term,
    report: &Report,
    result: Result<Reply, ProposeError>,
    answers: &mut BTreeMap<SessionId, (Arc<Link>, ToWorker)>,
) {
    close(term, report);
    let (run, token) = (report.run, report.token);
    let (_, message) = answers
        .entry(report.session)
        .or_insert_with(|| (report.link.clone(), ToWorker::default()));
    match (report.kind, result) {
        (_, Err(ProposeError::Reject(reject @ Reject::OtherJournal { .. }))) => {
            // Nothing else of this batch matters to it any more.
            report.link.send_last(other_journal(shared, &reject));
        }
        (Kind::GrantWanted, Ok(_)) => message.granted.push(attempt_to_wire(run, token)),
        (Kind::GrantWanted, Err(e)) => {
            tracing::info!(%run, attempt = %token, error = %e, "start not granted");
            message.kills.push(attempt_to_wire(run, token));
        }
        (kind, Ok(reply)) => {
            message.recorded.push(attempt_to_wire(run, token));
            term.hub.release(report.session, run);
            term.dispatch.notify_one();
            match kind {
                Kind::Refused => shared.counters.nacked.add(1),
                _ => shared.counters.completed.add(1),
            }
            if reply == (Reply::Completed { current: false }) {
                shared.counters.stale.add(1);
                tracing::info!(%run, attempt = %token, "report of an attempt that is not current");
            }
        }
        // Its session is over: the worker finds out, opens another and reports there.
        (_, Err(ProposeError::Reject(Reject::NoSession { .. }))) => {}
        // Answered, so that the worker does not repeat it for ever.
        (_, Err(e)) => {
            shared.counters.reports_refused.add(1);
            tracing::error!(%run, attempt = %token, session = %report.session, error = %e, "report refused");
            message.rejected.push(Rejected {
                attempt: Some(attempt_to_wire(run, token)),
                reason: e.to_string(),
            });
        }
    }
}
