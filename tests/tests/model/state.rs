//! What the model knows: the replicated state, the two workers, and what their clocks say.
//!
//! There is no network in it, because every message of the protocol either states a committed fact (`Run`, `Granted`: may be sent
//! by any leader, also one deposed, at any time, in any order, any number of times) or repeats what is on a worker's disk
//! (`Completed`, `Nack`: the same). So a message may arrive at every moment after its fact: that covers delay, duplication,
//! reordering and re-sending; loss is a message that never arrives. Only acknowledgements age, and are kept: see [`Beat`].

/// Attempts that may be assigned: enough for an old one, a current one and a next one.
pub(crate) const TOKENS: usize = 3;
/// Workers.
pub(crate) const WORKERS: usize = 2;

/// Which attempt; the position of its `Assign`.
pub(crate) type Token = usize;
/// Which worker.
pub(crate) type Worker = usize;

/// Where the run is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) enum Run {
    Pending,
    /// At-most-once: given out, the start not granted.
    Assigned(Token),
    Running(Token),
    /// At-most-once: the session ended after the grant.
    Lost(Token),
    Finished,
    Failed,
}

impl Run {
    pub(crate) fn holder(self) -> Option<Token> {
        match self {
            Run::Assigned(token) | Run::Running(token) => Some(token),
            _ => None,
        }
    }
}

/// What the journal says of an attempt.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub(crate) enum Record {
    #[default]
    None,
    /// `S`: about to start.
    Started,
    /// `X`: ended well.
    Succeeded,
    /// `X`: failed, was killed, or is not known.
    Failed,
    /// `R`: refused; never started and never will be.
    Refused,
}

/// What became of an attempt's process.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub(crate) enum Process {
    #[default]
    None,
    /// The journal says `S`; the process is about to be made.
    Coming,
    Alive,
}

/// The acknowledgement of a heartbeat or `Hello`, on its way back. One at a time: an older one brings less contact than a newer one.
///
/// A heartbeat is sent and confirmed in one step. That it takes time to get to the leader only makes the leader wait longer than the
/// worker, which is on the safe side; what is dangerous is the way back, and how contact is counted after it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub(crate) enum Beat {
    #[default]
    None,
    /// Sent and confirmed so many ticks ago, in this session.
    Confirmed(u8, u8),
}

/// One worker and its machine.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub(crate) struct Agent {
    pub(crate) down: bool,
    /// The session as the worker knows it; 0: none.
    pub(crate) session: u8,
    /// Ticks since the sending of the last heartbeat that was acknowledged.
    pub(crate) contact: u8,
    pub(crate) beat: Beat,
    pub(crate) journal: [Record; TOKENS],
    /// Under the supervisor: they outlive the agent.
    pub(crate) processes: [Process; TOKENS],
    /// Processes that the agent has forgotten and made again; only without a journal.
    pub(crate) forgotten: u8,
}

/// A worker as the replicated state and its leader know it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub(crate) struct Session {
    /// Sessions ever; the newest one has this number.
    pub(crate) opened: u8,
    pub(crate) live: bool,
    /// Ticks since the leader confirmed a heartbeat, or came to lead.
    pub(crate) silence: u8,
}

/// An attempt as the log has it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub(crate) struct Attempt {
    /// The worker and its session.
    pub(crate) to: Option<(Worker, u8)>,
    pub(crate) granted: bool,
    /// Completions that changed the run.
    pub(crate) counted: u8,
}

/// Everything.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct State {
    pub(crate) run: Run,
    pub(crate) attempts: [Attempt; TOKENS],
    pub(crate) sessions: [Session; WORKERS],
    pub(crate) agents: [Agent; WORKERS],
    /// How often the process was made; counted up to two.
    pub(crate) starts: u8,
    /// Crashes and changes of leader so far.
    pub(crate) crashes: u8,
    pub(crate) elections: u8,
}

impl State {
    pub(crate) fn new() -> Self {
        Self {
            run: Run::Pending,
            attempts: Default::default(),
            sessions: Default::default(),
            agents: Default::default(),
            starts: 0,
            crashes: 0,
            elections: 0,
        }
    }

    /// Processes alive, on both machines.
    pub(crate) fn alive(&self) -> usize {
        let alive = |agent: &Agent| {
            agent
                .processes
                .iter()
                .filter(|process| **process == Process::Alive)
                .count()
        };
        self.agents
            .iter()
            .map(|agent| alive(agent) + usize::from(agent.forgotten))
            .sum()
    }

    /// Whether the session an attempt was given to is live.
    pub(crate) fn held(&self, token: Token) -> bool {
        self.attempts[token]
            .to
            .is_some_and(|(worker, session)| self.sessions[worker].live && self.sessions[worker].opened == session)
    }

    /// The state with the workers' names exchanged.
    fn exchanged(&self) -> Self {
        let mut other = self.clone();
        other.sessions.swap(0, 1);
        other.agents.swap(0, 1);
        for attempt in &mut other.attempts {
            attempt.to = attempt.to.map(|(worker, session)| (1 - worker, session));
        }
        other
    }

    /// The one of two states that differ in the workers' names only.
    pub(crate) fn canonical(self) -> Self {
        let other = self.exchanged();
        if other < self { other } else { self }
    }
}
