//! Which call a command carries out, and the answers that are remembered under request keys.

use super::{Command, Reject, Reply};
use serde::{Deserialize, Serialize};

/// The calls of clients, to tell the answers under their request keys apart. The numbers are on disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Call {
    /// [`Command::Submit`].
    Submit,
    /// [`Command::Dequeue`].
    Dequeue,
    /// [`Command::Move`].
    Move,
    /// [`Command::Trigger`].
    Trigger,
    /// [`Command::Retry`].
    Retry,
    /// [`Command::Cancel`].
    Cancel,
    /// [`Command::Pause`].
    Pause,
    /// [`Command::Resume`].
    Resume,
    /// [`Command::ClearSpool`].
    ClearSpool,
    /// [`Command::Shutdown`].
    Shutdown,
    /// [`Command::Start`].
    Start,
    /// [`Command::Backfill`].
    Backfill,
    /// A command of the leader's own.
    Internal,
    /// [`Command::Update`].
    Update,
    /// [`Command::Configure`].
    Configure,
    /// [`Command::DeleteHistory`].
    DeleteHistory,
    /// [`Command::SetCalendar`].
    SetCalendar,
    /// [`Command::DeleteCalendar`].
    DeleteCalendar,
    /// [`Command::DrainWorker`].
    DrainWorker,
    /// [`Command::UndrainWorker`].
    UndrainWorker,
    /// [`Command::Resolve`].
    Resolve,
    /// [`Command::ResetClock`].
    ResetClock,
}

impl Command {
    /// Returns the call it carries out.
    pub fn call(&self) -> Call {
        match self {
            Command::Submit { .. } => Call::Submit,
            Command::Dequeue { .. } => Call::Dequeue,
            Command::Move { .. } => Call::Move,
            Command::Trigger { .. } => Call::Trigger,
            Command::Retry { .. } => Call::Retry,
            Command::Cancel { .. } => Call::Cancel,
            Command::Pause { .. } => Call::Pause,
            Command::Resume { .. } => Call::Resume,
            Command::ClearSpool { .. } => Call::ClearSpool,
            Command::Shutdown { .. } => Call::Shutdown,
            Command::Start => Call::Start,
            Command::Backfill { .. } => Call::Backfill,
            Command::Update { .. } => Call::Update,
            Command::Configure { .. } => Call::Configure,
            Command::DeleteHistory { .. } => Call::DeleteHistory,
            Command::SetCalendar { .. } => Call::SetCalendar,
            Command::DeleteCalendar { .. } => Call::DeleteCalendar,
            Command::DrainWorker { .. } => Call::DrainWorker,
            Command::UndrainWorker { .. } => Call::UndrainWorker,
            Command::Resolve { .. } => Call::Resolve,
            Command::ResetClock { .. } => Call::ResetClock,
            Command::Drain { .. }
            | Command::Fire { .. }
            | Command::Due { .. }
            | Command::Assign { .. }
            | Command::Grant { .. }
            | Command::Complete { .. }
            | Command::Nack { .. }
            | Command::NotStarted { .. }
            | Command::SessionOpen { .. }
            | Command::SessionExpire { .. }
            | Command::SessionClose { .. }
            | Command::Retain { .. }
            | Command::SearchedAgain { .. } => Call::Internal,
        }
    }
}

/// An answer that is remembered under a request key.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Remembered {
    /// To which call.
    pub call: Call,
    /// What.
    pub reply: Reply,
}

impl Remembered {
    /// Returns the answer, when the call is the one it was given to.
    ///
    /// # Errors
    /// The key was used for another call: that one's answer would say that this one was carried out.
    pub fn for_call(self, call: Call) -> Result<Reply, Reject> {
        if self.call == call {
            return Ok(self.reply);
        }
        Err(Reject::Invalid {
            field: "request".into(),
            problem: "this request key was used for another call; use a new one".into(),
        })
    }
}
