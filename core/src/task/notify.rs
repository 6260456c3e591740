//! Who hears of what becomes of a task's runs.

use serde::{Deserialize, Serialize};

/// Of what somebody wants to hear.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum NotifyOn {
    /// A run failed, or is LOST: somebody may have to say what became of it.
    Failure,
    /// A run finished, the first one after one that failed or was LOST.
    Recovery,
    /// Occurrences were missed or skipped: each line of the ledger that says so.
    Miss,
    /// A run ended, however.
    End,
}

impl NotifyOn {
    /// Every one, in the order in which they are named.
    pub const ALL: [NotifyOn; 4] = [NotifyOn::Failure, NotifyOn::Recovery, NotifyOn::Miss, NotifyOn::End];

    /// Returns the word used by API, command line and messages.
    pub fn as_str(self) -> &'static str {
        match self {
            NotifyOn::Failure => "failure",
            NotifyOn::Recovery => "recovery",
            NotifyOn::Miss => "miss",
            NotifyOn::End => "end",
        }
    }
}

/// Where a notification goes.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum NotifyTo {
    /// A POST of JSON.
    Webhook {
        /// Absolute `http` or `https` address.
        url: String,
    },
    /// A mail through the relay of the leader's node.
    Mail {
        /// The address.
        to: String,
    },
}

/// Somebody who wants to hear of a task's runs.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Notify {
    /// Of what.
    pub on: NotifyOn,
    /// Where.
    pub to: NotifyTo,
}
