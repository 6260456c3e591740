//! What the journal does to the table: brings it back after a restart, fails, or turns out to be another worker's.

use super::{Entry, Held, State, ended_at};
use crate::worker::attempt::Finished;
use crate::worker::journal::{Record, Recovered};
use crate::worker::report::Report;
use crate::worker::settled::Settled;
use crate::worker::stop::{Cause, Urgency};
use sched_core::run::Verdict;
use sched_core::{Timestamp, Token};
use sched_proto::worker as pb;
use std::time::Duration;

impl Held {
    /// Returns the table of a worker that was restarted: ends and refusals are reported, and of what was started or about to be nothing
    /// is left to say how it ended.
    pub(crate) fn recover(slots: u32, recovered: Recovered, now: Timestamp) -> Self {
        let mut held = Self::new(slots);
        held.settled = Settled::recover(recovered.settled, recovered.forgotten);
        for record in recovered.open {
            let (run, token, report) = match record {
                Record::Started { run, token } => {
                    let reason = "its worker was restarted while it ran".to_owned();
                    let finished = ended_at(now, Verdict::Lost { reason });
                    held.close(run, token, Report::Completed(Box::new(finished)));
                    continue;
                }
                Record::Ended {
                    run,
                    token,
                    result,
                    reason,
                } => {
                    let finished = Finished {
                        result: *result,
                        reason,
                    };
                    (run, token, Report::Completed(Box::new(finished)))
                }
                Record::Refused {
                    run,
                    token,
                    code,
                    reason,
                } => {
                    let code = pb::NackCode::try_from(code).unwrap_or_default();
                    let journalled = true;
                    let report = Report::Refused {
                        code,
                        reason,
                        journalled,
                    };
                    (run, token, report)
                }
                Record::Recorded { .. } | Record::Opening { .. } | Record::Opened { .. } => continue,
            };
            let state = State::Over { report, sent: None };
            held.entries.insert(token, Entry { run, state });
        }
        held
    }

    /// The journal cannot be written any more: nothing starts, and what is over is reported without it. Returns what there is to report.
    ///
    /// A report without a record is harmless: should this worker be restarted before it is recorded, it reports something weaker.
    pub(crate) fn journal_failed(&mut self, reason: &str) -> Vec<Token> {
        self.unwritable = Some(reason.to_owned());
        self.records.clear();
        for entry in self.entries.values_mut() {
            if let State::Closing(report) = &entry.state {
                let mut report = report.clone();
                if let Report::Refused { journalled, .. } = &mut report {
                    *journalled = false;
                }
                entry.state = State::Over { report, sent: None };
            }
        }
        self.refuse_waiting(pb::NackCode::Journal, "the worker cannot write its journal");
        self.unreported(Duration::MAX)
    }

    /// Nothing that is held is this worker's: what runs is killed, and nothing is reported.
    pub(crate) fn disown(&mut self) {
        self.disowned = true;
        self.records.clear();
        self.parked.clear();
        self.stop_all(Urgency::Kill, Cause::Stale);
        let gone: Vec<Token> = self
            .entries
            .iter()
            .filter(|(_, entry)| !matches!(entry.state, State::Running { .. }))
            .map(|(token, _)| *token)
            .collect();
        for token in gone {
            self.entries.remove(&token);
            self.settled.insert(token);
        }
        self.busy = self.entries.len();
    }

    /// What was disowned has ended, and a new journal was begun.
    pub(crate) fn own_again(&mut self) {
        self.disowned = false;
    }
}
