//! What waits to be sent to the leader, gathered into batches: under load few large messages, otherwise each thing at once.

use super::contact::Contact;
use super::held::Held;
use super::wire::position_to_wire;
use sched_core::Token;
use sched_core::session::JournalPosition;
use sched_proto::worker as pb;
use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

/// About how large a batch gets: a report has up to 16 KiB of output, and the leader's limit for a message is 4 MiB.
const BATCH_BYTES: usize = 1024 * 1024;
/// Entries of one batch of each kind that has no size to speak of.
const BATCH_ENTRIES: usize = 2048;

/// What waits to be sent. Reports are only named, each once: their content stays in the table until it is recorded.
#[derive(Default)]
pub(crate) struct Outbox {
    reports: BTreeSet<Token>,
    grant_requests: BTreeSet<Token>,
    nacks: Vec<pb::Nack>,
    output: VecDeque<pb::OutputChunk>,
    goodbye: Option<pb::Goodbye>,
    heartbeat: bool,
}

impl Outbox {
    /// Queues the report of an attempt that is over.
    pub(crate) fn report(&mut self, token: Token) {
        self.reports.insert(token);
    }

    /// Queues a request for a grant.
    pub(crate) fn ask_for_grant(&mut self, token: Token) {
        self.grant_requests.insert(token);
    }

    /// Queues a refusal that is not in the table. It is dropped when the leader reads too slowly: the leader asks again.
    pub(crate) fn refuse_once(&mut self, nack: pb::Nack) {
        if self.nacks.len() < BATCH_ENTRIES {
            self.nacks.push(nack);
        }
    }

    /// Queues a piece of output. Their number is bounded by that of the requests.
    pub(crate) fn output(&mut self, chunk: pb::OutputChunk) {
        self.output.push_back(chunk);
    }

    /// Queues the farewell.
    pub(crate) fn goodbye(&mut self, goodbye: pb::Goodbye) {
        self.goodbye = Some(goodbye);
    }

    /// A heartbeat is due.
    pub(crate) fn heartbeat(&mut self) {
        self.heartbeat = true;
    }

    /// Forgets everything, as the stream is gone.
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    pub(crate) fn is_empty(&self) -> bool {
        let Self {
            reports,
            grant_requests,
            nacks,
            output,
            goodbye,
            heartbeat,
        } = self;
        let nothing = reports.is_empty() && grant_requests.is_empty() && nacks.is_empty() && output.is_empty();
        nothing && goodbye.is_none() && !heartbeat
    }

    /// Takes a batch out; nothing when all that waited has become needless. `position` is where the journal ends.
    pub(crate) fn batch(
        &mut self,
        held: &mut Held,
        contact: &mut Contact,
        position: Option<JournalPosition>,
        now: Duration,
    ) -> Option<pb::FromWorker> {
        let mut batch = pb::FromWorker {
            nacks: std::mem::take(&mut self.nacks),
            ..Default::default()
        };
        let mut bytes = batch.nacks.len() * 64;
        while bytes < BATCH_BYTES && batch.completed.len() + batch.nacks.len() < BATCH_ENTRIES {
            let Some(token) = self.reports.pop_first() else { break };
            if let Some((attempt, report)) = held.report(token, now) {
                bytes += report.add_to(&mut batch, attempt, position);
            }
        }
        while bytes < BATCH_BYTES && batch.grant_requests.len() < BATCH_ENTRIES {
            let Some(token) = self.grant_requests.pop_first() else {
                break;
            };
            bytes += 48;
            let attempt = held.attempt(token);
            batch.grant_requests.extend(attempt.map(|attempt| pb::GrantRequest {
                attempt: Some(attempt),
                journal_position: position.map(position_to_wire),
            }));
        }
        while bytes < BATCH_BYTES {
            let Some(chunk) = self.output.pop_front() else { break };
            bytes += chunk.data.len() + 64;
            batch.output.push(chunk);
        }
        // The farewell follows all reports.
        if self.reports.is_empty() {
            batch.goodbye = self.goodbye.take();
        }
        if std::mem::take(&mut self.heartbeat) {
            batch.started = held.announce(BATCH_ENTRIES);
            batch.heartbeat = Some(pb::Heartbeat {
                seq: contact.send(now),
                free_slots: held.free_slots(),
            });
        }
        (batch != pb::FromWorker::default()).then_some(batch)
    }
}

#[cfg(test)]
#[path = "tests/outbox.rs"]
mod tests;
