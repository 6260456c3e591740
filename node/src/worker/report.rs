//! What the leader is told about an attempt until it has recorded it.

use super::attempt::Finished;
use super::wire::{position_to_wire, result_to_wire};
use sched_core::session::JournalPosition;
use sched_proto::worker as pb;

/// See the module.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Report {
    /// The attempt ended.
    Completed(Box<Finished>),
    /// It never started and never will. `journalled`: the journal says so, too.
    Refused {
        code: pb::NackCode,
        reason: String,
        journalled: bool,
    },
}

impl Report {
    /// Adds the report to a batch, and returns about how many bytes it takes there. `position` is where the journal ends.
    pub(crate) fn add_to(
        self,
        batch: &mut pb::FromWorker,
        attempt: pb::Attempt,
        position: Option<JournalPosition>,
    ) -> usize {
        let attempt = Some(attempt);
        match self {
            Report::Completed(finished) => {
                let result = result_to_wire(&finished.result, &finished.reason);
                let bytes = 96 + result.output_tail.len() + result.reason.len();
                batch.completed.push(pb::Completed {
                    attempt,
                    result: Some(result),
                    journal_position: position.map(position_to_wire),
                });
                bytes
            }
            Report::Refused {
                code,
                reason,
                journalled,
            } => {
                let bytes = 80 + reason.len();
                batch.nacks.push(pb::Nack {
                    attempt,
                    code: code.into(),
                    reason,
                    journal_position: position.filter(|_| journalled).map(position_to_wire),
                });
                bytes
            }
        }
    }
}
