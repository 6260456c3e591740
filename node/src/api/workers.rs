//! The workers: what the tables say of them, and what the leader knows besides.

use super::errors;
use super::lists::page_size;
use super::reads::barrier;
use crate::clock;
use crate::leader::hub::SessionContact;
use crate::shared::{OrStop, Shared};
use crate::state;
use sched_core::ids::SessionId;
use sched_core::session::{Drained, Session};
use sched_proto::limits::CURSOR_BYTES_MAX;
use sched_proto::v1::{Drain, Worker, WorkerFault, WorkerState, WorkersReply, WorkersRequest};
use std::collections::BTreeMap;
use tonic::Status;

/// Lists workers by name. Those of a cluster are few enough to be sorted at each call; a page has a bound all the same.
pub(super) async fn list(shared: &Shared, call: WorkersRequest) -> Result<WorkersReply, Status> {
    let limit = page_size(call.limit)?;
    if call.cursor.len() > CURSOR_BYTES_MAX {
        return Err(errors::invalid(
            "cursor",
            "is none that this call has given; begin without one",
        ));
    }
    barrier(shared).await?;
    let view = shared.replica.view();
    let mut found: BTreeMap<String, Worker> = BTreeMap::new();
    for (id, session) in state::sessions(&view).or_stop() {
        let contact = shared.terms.current().and_then(|term| term.hub.contact(id));
        let running = state::held_by(&view, id).or_stop().len();
        let worker = worker(id, session, running, contact);
        // Of two sessions under one name the newer one counts, which comes later.
        found.insert(worker.name.clone(), worker);
    }
    for drained in state::drained(&view).or_stop() {
        let gone = || Worker {
            name: drained.worker.clone(),
            state: WorkerState::Gone.into(),
            ..Worker::default()
        };
        let worker = found.entry(drained.worker.clone()).or_insert_with(gone);
        worker.drain = Some(drain(drained));
    }
    for (node, fault) in faults(shared) {
        let named = || Worker {
            name: fault.worker.clone(),
            node: Some(node),
            ..Worker::default()
        };
        let worker = found.entry(fault.worker.clone()).or_insert_with(named);
        // A worker of the same name elsewhere is sound. One that could not write its journal may still report what ran.
        if worker.node != Some(node) && worker.state() != WorkerState::Gone {
            continue;
        }
        if worker.state() != WorkerState::Connected {
            worker.state = WorkerState::Faulty.into();
        }
        worker.node = Some(node);
        worker.fault = fault.reason;
    }
    let mut workers: Vec<Worker> = found.into_values().filter(|worker| worker.name > call.cursor).collect();
    let cursor = match workers.get(limit.saturating_sub(1)) {
        Some(last) if workers.len() > limit => last.name.clone(),
        _ => String::new(),
    };
    workers.truncate(limit);
    Ok(WorkersReply { workers, cursor })
}

/// The members' own workers that take no runs, by the number of the node.
pub(super) fn faults(shared: &Shared) -> BTreeMap<u64, WorkerFault> {
    let term = shared.terms.current();
    let mut faults = term.map(|term| term.faulty_workers().clone()).unwrap_or_default();
    faults.extend(shared.worker_fault().map(|fault| (shared.replica.node().0, fault)));
    faults
}

fn worker(id: SessionId, session: Session, running: usize, contact: Option<SessionContact>) -> Worker {
    let state = match contact {
        Some(SessionContact { leaving: true, .. }) => WorkerState::Leaving,
        _ if session.closing => WorkerState::Leaving,
        Some(SessionContact { connected: true, .. }) => WorkerState::Connected,
        _ => WorkerState::Disconnected,
    };
    let ago = contact.map(|contact| clock::boot().saturating_sub(contact.since));
    Worker {
        name: session.worker,
        state: state.into(),
        node: session.node.map(|node| node.0),
        session: id.to_string(),
        slots: session.slots,
        running: u32::try_from(running).unwrap_or(u32::MAX),
        labels: session.labels.into_iter().collect(),
        last_contact_ms: ago.map(|ago| u64::try_from(ago.as_millis()).unwrap_or(u64::MAX)),
        drain: None,
        fault: String::new(),
    }
}

fn drain(drained: Drained) -> Drain {
    Drain {
        since_unix_ms: drained.since.as_millis(),
        principal: drained.by,
        note: drained.note,
    }
}
