//! The workers.

use super::{instant, or_dash, printable, word};
use crate::table::Table;
use sched_client::v1;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// A worker.
#[derive(Serialize, Debug)]
pub(crate) struct WorkerView {
    name: String,
    /// `CONNECTED`, `DISCONNECTED`, `LEAVING`, `GONE` or `FAULTY`.
    state: String,
    drained: bool,
    drained_since: Option<String>,
    drain_note: Option<String>,
    slots: u32,
    running: u32,
    /// Of an agent there is none.
    node: Option<u64>,
    labels: BTreeMap<String, String>,
    session: Option<String>,
    last_contact_ms: Option<u64>,
    /// What is wrong with it.
    fault: Option<String>,
}

impl WorkerView {
    pub(crate) fn new(worker: v1::Worker) -> Self {
        let state = word(worker.state().as_str_name(), "WORKER_STATE_");
        let drain = worker.drain.as_ref();
        Self {
            state,
            drained: drain.is_some(),
            drained_since: drain.map(|drain| instant(drain.since_unix_ms)),
            drain_note: drain.map(|drain| drain.note.clone()).filter(|note| !note.is_empty()),
            name: worker.name,
            slots: worker.slots,
            running: worker.running,
            node: worker.node,
            labels: worker.labels.into_iter().collect(),
            session: Some(worker.session).filter(|session| !session.is_empty()),
            last_contact_ms: worker.last_contact_ms,
            fault: Some(worker.fault).filter(|fault| !fault.is_empty()),
        }
    }
}

/// Lists workers.
pub(crate) fn workers(workers: &[WorkerView]) -> String {
    let mut table = Table::new(&[
        "WORKER", "STATE", "DRAINED", "RUNNING", "SLOTS", "NODE", "CONTACT", "SESSION", "LABELS",
    ]);
    for worker in workers {
        let labels: Vec<String> = worker
            .labels
            .iter()
            .map(|(key, value)| format!("{key}={value}"))
            .collect();
        let contact = worker
            .last_contact_ms
            .map(|ms| format!("{}.{} s ago", ms / 1000, ms % 1000 / 100));
        table.row([
            worker.name.clone(),
            worker.state.clone(),
            match &worker.drain_note {
                Some(note) => format!("yes: {note}"),
                None if worker.drained => "yes".to_owned(),
                None => "no".to_owned(),
            },
            worker.running.to_string(),
            worker.slots.to_string(),
            or_dash(worker.node.map(|node| node.to_string()).as_deref()),
            or_dash(contact.as_deref()),
            or_dash(worker.session.as_deref()),
            or_dash(Some(labels.join(" ")).filter(|labels| !labels.is_empty()).as_deref()),
        ]);
    }
    let mut text = table.render();
    for worker in workers {
        if let Some(fault) = &worker.fault {
            // Below the table: it is a sentence. Writing into a String cannot fail.
            let _ = writeln!(text, "\n{}: {}", printable(&worker.name), printable(fault));
        }
    }
    text
}
