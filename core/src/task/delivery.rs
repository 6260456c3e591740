//! What an unknown outcome means, and what follows from it.

use super::{Action, Policy, PolicyField, TaskSpec};
use serde::{Deserialize, Serialize};

/// How long a LOST run keeps its place unless said otherwise: most tasks that ran on without contact have told by then.
pub const LOST_HOLD_MS_DEFAULT: u64 = 3_600_000;

/// What an unknown outcome means.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Delivery {
    /// Try again: two starts are better than none.
    AtLeastOnce,
    /// Never start twice: an unknown outcome is shown as LOST.
    AtMostOnce,
}

/// What becomes of a run whose worker loses contact with the cluster.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub enum OnDisconnect {
    /// It is killed before its session is over: it can run elsewhere.
    #[default]
    Kill,
    /// It runs on, and is reported when contact is back.
    Continue,
}

impl TaskSpec {
    /// Returns what an unknown outcome of its runs means: what the policy says, else what goes with the action.
    ///
    /// A task that asks for several tries says with it that starting again does no harm.
    pub fn delivery(&self) -> Delivery {
        match self.policy.delivery {
            Some(delivery) => delivery,
            None if self.policy.asks_for_tries() => Delivery::AtLeastOnce,
            None => self.action.delivery_default(),
        }
    }

    /// Returns the policy with everything filled in that depends on the action: what a task's state keeps.
    pub fn settled_policy(&self) -> Policy {
        Policy {
            delivery: Some(self.delivery()),
            ..self.policy.clone()
        }
    }
}

impl Action {
    /// Returns what an unknown outcome means for it unless its task says otherwise: what can be done twice without harm is tried
    /// again, a mail and an HTTP request that changes something are not.
    pub fn delivery_default(&self) -> Delivery {
        match self {
            Action::Mail { .. } => Delivery::AtMostOnce,
            Action::Http { method, headers, .. } => {
                // RFC 9110, 9.2.2. A key that the caller gives says that the other side knows a repeat.
                let idempotent = matches!(method.as_str(), "GET" | "HEAD" | "OPTIONS" | "TRACE" | "PUT" | "DELETE");
                let keyed = headers
                    .iter()
                    .any(|(name, _)| name.eq_ignore_ascii_case("idempotency-key"));
                if idempotent || keyed {
                    Delivery::AtLeastOnce
                } else {
                    Delivery::AtMostOnce
                }
            }
            _ => Delivery::AtLeastOnce,
        }
    }
}

impl Policy {
    /// Whether the task itself asks for more than one try.
    pub fn asks_for_tries(&self) -> bool {
        self.tries.max > 1 && self.stated.contains(PolicyField::Tries)
    }

    /// Returns what becomes of runs whose worker loses contact.
    pub fn on_disconnect(&self) -> OnDisconnect {
        self.on_disconnect.unwrap_or(match self.delivery {
            Some(Delivery::AtMostOnce) => OnDisconnect::Continue,
            Some(Delivery::AtLeastOnce) | None => OnDisconnect::Kill,
        })
    }
}
