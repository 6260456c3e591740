//! What workers do, and what others pretend that they did.

use super::World;
use crate::rng::Rng;
use sched_core::command::Command;
use sched_core::run::{RunResult, Verdict};
use sched_core::session::JournalPosition;
use sched_core::{RunId, SessionId, Timestamp, Token};
use std::collections::BTreeMap;

impl World {
    /// A current token most of the time, an old or invented one sometimes.
    pub(super) fn attempt(&mut self) -> (RunId, Token, SessionId) {
        let runs = self.runs();
        let held: Vec<(RunId, Token, SessionId)> = runs
            .iter()
            .filter_map(|run| run.state.holder().map(|(t, s)| (run.id, t, s)))
            .collect();
        let old: Vec<(RunId, Token)> = runs
            .iter()
            .flat_map(|run| run.attempts.iter().map(|a| (run.id, a.token)))
            .collect();
        let invented = SessionId(Token {
            index: self.rng.below(50),
            position: 0,
        });
        match (self.rng.below(6), self.rng.pick(&held), self.rng.pick(&old)) {
            (0, _, Some((run, token))) => (run, token, SessionId::default()),
            (1, ..) | (_, None, _) => (self.run_id(), invented.0, invented),
            (_, Some(held), _) => held,
        }
    }

    pub(super) fn result(&mut self) -> RunResult {
        let verdict = match self.rng.below(10) {
            0 | 1 => Verdict::Failure { reason: "no".into() },
            2 => Verdict::DelayMe {
                delay_ms: self.rng.below(500),
                reason: "later".into(),
            },
            3 => Verdict::Cancelled,
            4 => Verdict::Abandoned {
                reason: "stopped".into(),
                stopping: self.rng.one_in(2),
            },
            5 => Verdict::Lost { reason: "gone".into() },
            _ => Verdict::Success,
        };
        let now = Timestamp::from_millis(self.now);
        RunResult {
            verdict,
            exit_code: None,
            started_at: now,
            ended_at: now,
            output_tail: vec![b'x'; 3],
            result: vec![b'r'; 2],
        }
    }

    pub(super) fn session(&mut self) -> SessionId {
        let sessions = self.sessions.clone();
        self.rng.pick(&sessions).unwrap_or_default()
    }

    pub(super) fn position(&mut self) -> Option<JournalPosition> {
        self.rng.one_in(2).then(|| JournalPosition {
            length: self.rng.below(50),
            head: [self.rng.below(2) as u8; 16],
        })
    }

    /// Whoever was given an attempt, mostly.
    pub(super) fn reporter(&mut self, holder: SessionId) -> SessionId {
        if holder == SessionId::default() || self.rng.one_in(4) {
            self.session()
        } else {
            holder
        }
    }

    pub(super) fn open(&mut self) -> Command {
        let mut held = Vec::new();
        for _ in 0..self.rng.below(4) {
            let (run, token, _) = self.attempt();
            held.push((run, token));
        }
        Command::SessionOpen {
            worker: format!("w{}", self.rng.below(3)),
            journal: u128::from(self.rng.below(3)),
            node: None,
            slots: 4,
            labels: BTreeMap::from([("l".to_owned(), self.rng.below(2).to_string())]),
            held,
            queues: [format!("q{}", self.rng.below(2))].into(),
            position: self.position(),
            openings: (0..self.rng.below(3)).map(|_| self.rng.below(3)).collect(),
        }
    }
}

/// Drains a worker or undrains one, which may not be there.
pub(crate) fn drained(rng: &mut Rng) -> Command {
    let (worker, note) = (format!("w{}", rng.below(4)), String::new());
    if rng.one_in(2) {
        Command::DrainWorker { worker, note }
    } else {
        Command::UndrainWorker { worker }
    }
}
