//! The ways out of LOST that an operator has.

use serde::{Deserialize, Serialize};

/// What an operator says became of a lost run.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Resolution {
    /// It failed.
    Failed,
    /// It succeeded.
    Finished,
    /// It is to be started again, whatever became of it.
    Retry,
}

impl Resolution {
    /// Returns the word used by API and command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Resolution::Failed => "failed",
            Resolution::Finished => "finished",
            Resolution::Retry => "retry",
        }
    }
}
