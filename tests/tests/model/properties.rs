//! What must hold in every state, and what must be possible, lest the rest hold for lack of anything happening.

use crate::protocol::{Delivery, Protocol};
use crate::state::{Agent, Process, Record, Run, Session, State, Token};
use stateright::Property;

pub(crate) const ONE_START: &str = "an at-most-once occurrence is started at most once";
pub(crate) const NO_OVERLAP: &str = "no two attempts of an at-least-once run are alive at once";
pub(crate) const COUNTS_ONCE: &str = "the completion of a token counts at most once";
pub(crate) const TRUE_SUCCESS: &str = "a run that is finished has an attempt that ended well and counted";

pub(crate) fn of(protocol: &Protocol) -> Vec<Property<Protocol>> {
    let mut properties = vec![
        always(COUNTS_ONCE, |_, state| {
            state.attempts.iter().all(|attempt| attempt.counted <= 1)
        }),
        always(TRUE_SUCCESS, |_, state| {
            state.run != Run::Finished || counted_success(state)
        }),
        sometimes("the run finishes", |_, state| state.run == Run::Finished),
        sometimes(
            "an attempt that was refused is followed by another, which finishes",
            |_, state| state.run == Run::Finished && journals(state).any(|record| record == Record::Refused),
        ),
        sometimes("both workers have started it or refused it", |_, state| {
            state
                .agents
                .iter()
                .all(|agent| agent.journal.iter().any(|record| *record != Record::None))
        }),
        sometimes("a session is opened again and the run finishes under it", |_, state| {
            state.run == Run::Finished && state.sessions.iter().any(|session| session.live && session.opened > 1)
        }),
        sometimes("it finishes after crashes and a change of leader", |protocol, state| {
            let elected = protocol.delivery == Delivery::AtMostOnce || state.elections == protocol.elections;
            state.run == Run::Finished && state.crashes == protocol.crashes && elected
        }),
    ];
    match protocol.delivery {
        Delivery::AtMostOnce => properties.extend([
            always(ONE_START, |_, state| state.starts <= 1),
            sometimes("it is lost", |_, state| matches!(state.run, Run::Lost(_))),
            sometimes("a lost run is told of late", |_, state| {
                outstanding(state).any(|token| state.run == Run::Lost(token))
            }),
            sometimes("it is started by the last attempt there is", |protocol, state| {
                state.starts == 1 && state.attempts[protocol.tokens - 1].granted && state.run == Run::Finished
            }),
        ]),
        Delivery::AtLeastOnce => properties.extend([
            always(NO_OVERLAP, |_, state| state.alive() <= 1),
            sometimes("a completion is stale", |_, state| {
                outstanding(state).any(|token| state.run.holder() != Some(token) && state.run != Run::Lost(token))
            }),
            sometimes(
                "a process is alive whose session the leader may soon expire",
                |_, state| {
                    let silent = |(agent, session): (&Agent, &Session)| {
                        session.silence > 0 && agent.processes.contains(&Process::Alive)
                    };
                    state.agents.iter().zip(&state.sessions).any(silent)
                },
            ),
            sometimes("it is started again, and finishes", |_, state| {
                state.starts > 1 && state.run == Run::Finished
            }),
        ]),
    }
    properties
}

type Holds = fn(&Protocol, &State) -> bool;

fn always(name: &'static str, holds: Holds) -> Property<Protocol> {
    Property::always(name, holds)
}

fn sometimes(name: &'static str, holds: Holds) -> Property<Protocol> {
    Property::sometimes(name, holds)
}

fn journals(state: &State) -> impl Iterator<Item = Record> {
    state.agents.iter().flat_map(|agent| agent.journal)
}

/// Attempts whose end is on disk and did not count.
fn outstanding(state: &State) -> impl Iterator<Item = Token> {
    state.attempts.iter().enumerate().filter_map(|(token, attempt)| {
        let (worker, _) = attempt.to?;
        let agent = &state.agents[worker];
        let told = !agent.down && matches!(agent.journal[token], Record::Succeeded | Record::Failed);
        (told && attempt.counted == 0).then_some(token)
    })
}

fn counted_success(state: &State) -> bool {
    state.attempts.iter().enumerate().any(|(token, attempt)| {
        attempt.counted == 1
            && attempt
                .to
                .is_some_and(|(worker, _)| state.agents[worker].journal[token] == Record::Succeeded)
    })
}
