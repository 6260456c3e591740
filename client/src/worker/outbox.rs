//! What waits to be sent to the leader, gathered into batches: under load few large messages, otherwise each thing at once.

use super::contact::Contact;
use super::held::Held;
use sched_core::Token;
use sched_proto::worker as pb;
use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

/// About how large a batch gets: the leader's limit for a message is 4 MiB.
const BATCH_BYTES: usize = 1024 * 1024;
/// Entries of one batch of each kind that has no size to speak of.
const BATCH_ENTRIES: usize = 2048;

/// What waits to be sent. Attempts are only named, each once: what there is to say of them stays in the table.
#[derive(Default)]
pub(super) struct Outbox {
    pub(super) reports: BTreeSet<Token>,
    pub(super) grant_requests: BTreeSet<Token>,
    /// Refusals that are not in the table.
    nacks: Vec<pb::Nack>,
    pub(super) progress: BTreeSet<Token>,
    /// Progress may be sent now.
    pub(super) progress_due: bool,
    pub(super) output: VecDeque<pb::OutputChunk>,
    pub(super) goodbye: Option<pb::Goodbye>,
    pub(super) heartbeat: bool,
}

impl Outbox {
    /// Queues a refusal that is not in the table. It is dropped when the leader reads too slowly: the leader asks again.
    pub(super) fn refuse_once(&mut self, nack: pb::Nack) {
        if self.nacks.len() < BATCH_ENTRIES {
            self.nacks.push(nack);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        let reports = self.reports.is_empty() && self.grant_requests.is_empty() && self.nacks.is_empty();
        let words = self.output.is_empty() && (self.progress.is_empty() || !self.progress_due);
        reports && words && self.goodbye.is_none() && !self.heartbeat
    }

    /// Takes a batch out; nothing when all that waited has become needless.
    pub(super) fn batch(&mut self, held: &mut Held, contact: &mut Contact, now: Duration) -> Option<pb::FromWorker> {
        let mut batch = pb::FromWorker {
            nacks: std::mem::take(&mut self.nacks),
            ..Default::default()
        };
        let mut bytes = batch.nacks.len() * 64;
        while bytes < BATCH_BYTES && batch.completed.len() + batch.nacks.len() < BATCH_ENTRIES {
            let Some(token) = self.reports.pop_first() else { break };
            bytes += held.report(token, now, &mut batch);
        }
        while batch.grant_requests.len() < BATCH_ENTRIES {
            let Some(token) = self.grant_requests.pop_first() else {
                break;
            };
            let attempt = held.attempt(token);
            batch.grant_requests.extend(attempt.map(|attempt| pb::GrantRequest {
                attempt: Some(attempt),
                journal_position: None,
            }));
        }
        while self.progress_due && bytes < BATCH_BYTES {
            let Some(token) = self.progress.pop_first() else {
                self.progress_due = false;
                break;
            };
            let progress = held.progress(token);
            bytes += progress.as_ref().map_or(0, |progress| progress.message.len() + 48);
            batch.progress.extend(progress);
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
            batch.heartbeat = Some(pb::Heartbeat {
                seq: contact.send(now),
                free_slots: held.free_slots(),
            });
        }
        (batch != pb::FromWorker::default()).then_some(batch)
    }
}
