//! The protocol of one occurrence, step by step; see `docs/proof.md` for what is in it and what is not.

use crate::state::{Agent, Attempt, Beat, Process, Record, Run, State, TOKENS, Token, WORKERS, Worker};
use stateright::{Model, Property};

/// Time comes in ticks, of which only the order of deadlines matters: after two without contact the worker has killed every process
/// (8 s in the protocol), after three the leader may expire the session (11 s). That nothing is started after 4 s is left out: it is
/// only there so that less is killed.
const KILLED: u8 = 2;
const EXPIRED: u8 = 3;

/// What an unknown outcome means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Delivery {
    /// No assumption on time: sessions expire whenever it pleases, processes run on without contact.
    AtMostOnce,
    /// The lease rule: all clocks run at one rate.
    AtLeastOnce,
}

/// One rule left out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Mutant {
    None,
    /// A worker that comes back remembers nothing.
    NoJournal,
    /// The leader expires a session whenever it pleases.
    NoLease,
    /// A completion counts whatever its token.
    NoToken,
    /// Processes live on without contact.
    NoKill,
    /// Contact counts from the arrival of the acknowledgement.
    NoSendTime,
}

/// What is explored.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Protocol {
    pub(crate) delivery: Delivery,
    pub(crate) mutant: Mutant,
    /// Attempts at most; up to [`TOKENS`].
    pub(crate) tokens: usize,
    /// Sessions at most, of both workers together.
    pub(crate) sessions: u8,
    /// Crashes of workers at most, together.
    pub(crate) crashes: u8,
    /// Changes of the leader at most.
    pub(crate) elections: u8,
}

/// A step of anybody.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Step {
    /// Committed: `Assign`.
    Assign(Worker),
    /// Committed: `Start`, asked for by the worker at some time.
    Grant(Token),
    /// Committed: `Complete`, sent from the journal, for the first time or again.
    Complete(Token),
    /// Committed: `Nack` or `NotStarted`, after `R` is on disk.
    Nack(Token),
    /// Committed: `SessionExpire`.
    Expire(Worker),
    /// A new leader starts every lease anew.
    Elect,
    /// `Run` (at-least-once) or `Granted` (at-most-once) arrives, and `S` is written.
    Accept(Token),
    /// The worker writes `R`: it will not start this one.
    Refuse(Token),
    /// The process is made.
    Start(Token),
    /// The process ends, well or not, and the worker writes `X`.
    End(Token, bool),
    /// The agent dies; its processes stay, under their supervisor.
    Crash(Worker),
    /// The agent starts again, kills what it left, and reads its journal.
    Restart(Worker),
    /// A heartbeat or `Hello` is sent, and a quorum round begun after its receipt confirms it; without a live session this is
    /// `SessionOpen`.
    Beat(Worker),
    /// The acknowledgement arrives.
    Acknowledge(Worker),
    /// Time passes, for everybody.
    Tick,
}

impl Protocol {
    pub(crate) fn new(delivery: Delivery, mutant: Mutant) -> Self {
        // As much as can be explored in some seconds: time makes the states of at-least-once many.
        let (tokens, crashes) = match delivery {
            Delivery::AtMostOnce => (TOKENS, 2),
            Delivery::AtLeastOnce => (TOKENS - 1, 1),
        };
        Self {
            delivery,
            mutant,
            tokens,
            sessions: 3,
            crashes,
            elections: 1,
        }
    }

    fn timed(&self) -> bool {
        self.delivery == Delivery::AtLeastOnce
    }

    /// The worker an attempt was given to, if its agent runs.
    fn owner(state: &State, token: Token) -> Option<(Worker, &Agent)> {
        let (worker, _) = state.attempts[token].to?;
        let agent = &state.agents[worker];
        (!agent.down).then_some((worker, agent))
    }

    fn may_assign(&self, state: &State, worker: Worker) -> bool {
        let fresh = state
            .attempts
            .iter()
            .take(self.tokens)
            .any(|attempt| attempt.to.is_none());
        state.run == Run::Pending && state.sessions[worker].live && fresh
    }

    /// The fact is committed, the worker is in that session and has never heard of the attempt.
    fn may_accept(&self, state: &State, token: Token) -> bool {
        let Attempt { to, granted, .. } = state.attempts[token];
        let Some((_, session)) = to else { return false };
        let stated = self.timed() || granted;
        Self::owner(state, token).is_some_and(|(_, agent)| {
            stated
                && agent.session == session
                && agent.journal[token] == Record::None
                && agent.processes[token] != Process::Coming
                && (!self.timed() || agent.contact < KILLED)
        })
    }

    fn may_expire(&self, state: &State, worker: Worker) -> bool {
        let session = &state.sessions[worker];
        let over = !self.timed() || self.mutant == Mutant::NoLease || session.silence >= EXPIRED;
        session.live && over
    }

    fn may_complete(&self, state: &State, token: Token) -> bool {
        Self::owner(state, token)
            .is_some_and(|(_, agent)| matches!(agent.journal[token], Record::Succeeded | Record::Failed))
    }

    fn committed(&self, state: &State, steps: &mut Vec<Step>) {
        steps.extend((0..WORKERS).filter(|w| self.may_assign(state, *w)).map(Step::Assign));
        steps.extend((0..WORKERS).filter(|w| self.may_expire(state, *w)).map(Step::Expire));
        for token in 0..self.tokens {
            if state.run == Run::Assigned(token) && state.held(token) {
                steps.push(Step::Grant(token));
            }
            if self.may_complete(state, token) {
                steps.push(Step::Complete(token));
            }
            if Self::owner(state, token).is_some_and(|(_, agent)| agent.journal[token] == Record::Refused) {
                steps.push(Step::Nack(token));
            }
        }
        // Without lease timers a change of leader changes nothing here.
        if self.timed() && state.elections < self.elections {
            steps.push(Step::Elect);
        }
    }

    fn of_workers(&self, state: &State, steps: &mut Vec<Step>) {
        for token in 0..self.tokens {
            let Some((worker, _)) = state.attempts[token].to else {
                continue;
            };
            if self.may_accept(state, token) {
                steps.push(Step::Accept(token));
            }
            let agent = &state.agents[worker];
            if !agent.down && agent.journal[token] == Record::None && agent.processes[token] == Process::None {
                steps.push(Step::Refuse(token));
            }
            match agent.processes[token] {
                Process::Coming if !agent.down && (!self.timed() || agent.contact < KILLED) => {
                    steps.push(Step::Start(token));
                }
                // Under the supervisor, whether the agent lives or not.
                Process::Alive => steps.extend([Step::End(token, true), Step::End(token, false)]),
                _ => {}
            }
        }
        for (worker, agent) in state.agents.iter().enumerate() {
            if agent.down {
                steps.push(Step::Restart(worker));
            } else if state.crashes < self.crashes {
                steps.push(Step::Crash(worker));
            }
            match agent.beat {
                Beat::None if !agent.down && self.may_open(state, worker) => steps.push(Step::Beat(worker)),
                Beat::None => {}
                Beat::Confirmed(..) if !agent.down => steps.push(Step::Acknowledge(worker)),
                Beat::Confirmed(..) => {}
            }
        }
        if self.timed() {
            steps.push(Step::Tick);
        }
    }

    /// The bound on sessions is that of the exploration, not of the protocol.
    fn may_open(&self, state: &State, worker: Worker) -> bool {
        let opened: u8 = state.sessions.iter().map(|session| session.opened).sum();
        state.sessions[worker].live || opened < self.sessions
    }
}

impl Model for Protocol {
    type State = State;
    type Action = Step;

    fn init_states(&self) -> Vec<State> {
        vec![State::new()]
    }

    fn actions(&self, state: &State, steps: &mut Vec<Step>) {
        self.committed(state, steps);
        self.of_workers(state, steps);
    }

    fn next_state(&self, last: &State, step: Step) -> Option<State> {
        let mut state = last.clone();
        match step {
            Step::Assign(worker) => self.assign(&mut state, worker),
            Step::Grant(token) => {
                state.run = Run::Running(token);
                state.attempts[token].granted = true;
            }
            Step::Complete(token) => self.complete(&mut state, token),
            Step::Nack(token) => {
                if state.run.holder() == Some(token) || state.run == Run::Lost(token) {
                    state.run = Run::Pending;
                }
            }
            Step::Expire(worker) => self.expire(&mut state, worker),
            Step::Elect => {
                state.elections += 1;
                for session in &mut state.sessions {
                    session.silence = 0;
                }
            }
            Step::Accept(token) => {
                let (worker, _) = state.attempts[token].to?;
                let agent = &mut state.agents[worker];
                if self.mutant != Mutant::NoJournal {
                    agent.journal[token] = Record::Started;
                }
                agent.forgotten += u8::from(agent.processes[token] == Process::Alive);
                agent.processes[token] = Process::Coming;
            }
            Step::Refuse(token) => {
                let (worker, _) = state.attempts[token].to?;
                state.agents[worker].journal[token] = Record::Refused;
            }
            Step::Start(token) => {
                let (worker, _) = state.attempts[token].to?;
                state.agents[worker].processes[token] = Process::Alive;
                state.starts = (state.starts + 1).min(2);
                if self.mutant == Mutant::NoJournal {
                    // It knows what it has started while it lives, and only then.
                    state.agents[worker].journal[token] = Record::Started;
                }
            }
            Step::End(token, well) => {
                let (worker, _) = state.attempts[token].to?;
                ended(&mut state.agents[worker], token, well);
            }
            Step::Crash(worker) => {
                state.crashes += 1;
                self.crash(&mut state.agents[worker]);
            }
            Step::Restart(worker) => self.restart(&mut state.agents[worker]),
            Step::Beat(worker) => confirm(&mut state, worker),
            Step::Acknowledge(worker) => self.acknowledge(&mut state.agents[worker])?,
            Step::Tick => tick(&mut state, self.mutant),
        }
        if self.mutant == Mutant::None {
            // Workers are alike: one of two states that differ in their names is enough. A counterexample keeps the names apart.
            state = state.canonical();
        }
        (state != *last).then_some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        crate::properties::of(self)
    }
}

impl Protocol {
    fn assign(&self, state: &mut State, worker: Worker) {
        let session = state.sessions[worker].opened;
        if let Some(token) = state.attempts.iter().position(|attempt| attempt.to.is_none()) {
            state.attempts[token].to = Some((worker, session));
            state.run = if self.timed() {
                Run::Running(token)
            } else {
                Run::Assigned(token)
            };
        }
    }

    /// Counts for the current attempt, or one that is lost; else it is stale, and changes nothing.
    fn complete(&self, state: &mut State, token: Token) {
        let Some((worker, _)) = state.attempts[token].to else {
            return;
        };
        let well = state.agents[worker].journal[token] == Record::Succeeded;
        let current = state.run.holder() == Some(token) || state.run == Run::Lost(token);
        let under_way = matches!(state.run, Run::Assigned(_) | Run::Running(_) | Run::Lost(_));
        if !(current || self.mutant == Mutant::NoToken && under_way) {
            return;
        }
        state.attempts[token].counted += 1;
        state.run = match (well, self.delivery) {
            (true, _) => Run::Finished,
            // With tries left: at-least-once tries again.
            (false, Delivery::AtLeastOnce) => Run::Pending,
            (false, Delivery::AtMostOnce) => Run::Failed,
        };
    }

    fn expire(&self, state: &mut State, worker: Worker) {
        let held = state.run.holder().filter(|token| {
            let to = state.attempts[*token].to;
            to == Some((worker, state.sessions[worker].opened))
        });
        state.sessions[worker].live = false;
        state.sessions[worker].silence = 0;
        let Some(token) = held else { return };
        state.run = match (state.run, self.delivery) {
            (Run::Running(_), Delivery::AtMostOnce) => Run::Lost(token),
            _ => Run::Pending,
        };
    }

    /// Contact counts from the sending of what is acknowledged.
    fn acknowledge(&self, agent: &mut Agent) -> Option<()> {
        let Beat::Confirmed(age, session) = agent.beat else {
            return None;
        };
        let age = if self.mutant == Mutant::NoSendTime { 0 } else { age };
        agent.beat = Beat::None;
        agent.contact = if agent.session == session {
            agent.contact.min(age)
        } else {
            age
        };
        agent.session = session;
        Some(())
    }

    /// What is in memory is gone. Of an exit that was not written down nobody knows.
    fn crash(&self, agent: &mut Agent) {
        agent.down = true;
        agent.session = 0;
        agent.beat = Beat::None;
        for token in 0..TOKENS {
            if agent.processes[token] != Process::Alive {
                agent.processes[token] = Process::None;
            }
            if self.mutant == Mutant::NoJournal {
                agent.journal[token] = Record::None;
            }
        }
    }

    /// What the journal says has started and does not say has ended, is killed and written down as failed.
    fn restart(&self, agent: &mut Agent) {
        agent.down = false;
        for token in 0..TOKENS {
            if agent.journal[token] == Record::Started {
                agent.processes[token] = Process::None;
                agent.journal[token] = Record::Failed;
            }
        }
    }
}

/// A process has ended. A worker that dies before it has written `X` is one that died before the process ended: the outcome is
/// unknown either way.
fn ended(agent: &mut Agent, token: Token, well: bool) {
    agent.processes[token] = Process::None;
    if !agent.down {
        agent.journal[token] = if well { Record::Succeeded } else { Record::Failed };
    }
}

fn confirm(state: &mut State, worker: Worker) {
    let session = &mut state.sessions[worker];
    if !session.live {
        session.live = true;
        session.opened += 1;
    }
    session.silence = 0;
    state.agents[worker].beat = Beat::Confirmed(0, session.opened);
}

/// Time passes for all. The supervisor keeps the deadline, whether the agent lives, is frozen or is dead.
fn tick(state: &mut State, mutant: Mutant) {
    for session in state.sessions.iter_mut().filter(|session| session.live) {
        session.silence = (session.silence + 1).min(EXPIRED);
    }
    for agent in &mut state.agents {
        agent.contact = (agent.contact + 1).min(KILLED);
        agent.beat = match agent.beat {
            // An older one brings no contact that is of use; unless contact counts from its arrival.
            Beat::Confirmed(age, session) if age + 1 < KILLED || mutant == Mutant::NoSendTime => {
                Beat::Confirmed((age + 1).min(EXPIRED), session)
            }
            Beat::None | Beat::Confirmed(..) => Beat::None,
        };
        if agent.contact < KILLED {
            continue;
        }
        // The session is given up at 10 s; nothing but an acknowledgement can happen between.
        agent.session = 0;
        if mutant != Mutant::NoKill {
            agent.forgotten = 0;
            for token in 0..TOKENS {
                if agent.processes[token] != Process::None {
                    ended(agent, token, false);
                }
            }
        }
    }
}
