//! What an operator says of LOST runs.

use super::Runs;
use clap::{Args, ValueEnum};

#[derive(Args, Debug)]
#[command(
    after_help = "A run that was started at most once and whose worker vanished is LOST: nobody knows how it ended. Should the worker\n\
                  come back and tell, that is noted as a stale report.\n\n\
                  Example:\n  schedcli resolve 42:3 --as failed"
)]
pub(crate) struct Resolve {
    #[command(flatten)]
    pub(crate) runs: Runs,
    /// What became of them
    #[arg(long = "as", value_enum, value_name = "HOW")]
    pub(crate) how: ResolutionWord,
}

/// See [`Resolve::how`].
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum ResolutionWord {
    /// They failed
    Failed,
    /// They succeeded
    Finished,
    /// Start them again, whatever became of them
    Retry,
}
