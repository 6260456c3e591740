//! Verbs on runs: made by hand, listed, explained, read, waited for.

use super::{Paging, from_one};
use crate::input::{pair, whole};
use clap::{Args, ValueEnum};

#[derive(Args, Debug)]
#[command(
    after_help = "Parameters reach the process as SCHED_PARAM_K.\n\nExample:\n  schedcli run report --param DAY=2027-03-01 --wait"
)]
pub(crate) struct RunNow {
    /// The task
    #[arg(value_name = "ID|NAME")]
    pub(crate) task: String,
    /// A parameter of the run; may be repeated
    #[arg(long, value_name = "K=V", value_parser = pair)]
    pub(crate) param: Vec<(String, String)>,
    /// Wait until the run has ended; exit with 1 when it failed
    #[arg(long)]
    pub(crate) wait: bool,
    /// Makes a repeat of this command harmless for 24 hours: the same id gets the first answer
    #[arg(long, value_name = "ID")]
    pub(crate) request_id: Option<String>,
}

#[derive(Args, Debug)]
#[command(
    after_help = "Each run gets the time it stands for as SCHED_SCHEDULED_AT.\n\nExample:\n  schedcli backfill report --from 2027-03-01T00:00:00Z --to 2027-03-07T23:59:59Z"
)]
pub(crate) struct Backfill {
    /// The task
    #[arg(value_name = "ID|NAME")]
    pub(crate) task: String,
    /// Beginning of the range: RFC 3339, or a local time in --tz
    #[arg(long, value_name = "T")]
    pub(crate) from: String,
    /// End of the range, included; not later than now
    #[arg(long, value_name = "T")]
    pub(crate) to: String,
    /// Zone of local times [default: UTC]
    #[arg(long, value_name = "Z")]
    pub(crate) tz: Option<String>,
    /// Let all of them run at once, instead of one after the other
    #[arg(long)]
    pub(crate) at_once: bool,
}

#[derive(Args, Debug)]
#[command(after_help = "Example:\n  schedcli explain report\n  schedcli explain 42:3")]
pub(crate) struct Explain {
    /// The task, or a run as TASK:NUMBER
    #[arg(value_name = "ID|NAME|RUN")]
    pub(crate) what: String,
}

#[derive(Args, Debug)]
#[command(
    after_help = "Runs are listed as long as they are kept, of the other lines the newest 100.\n\nExample:\n  schedcli ledger report --limit 20"
)]
pub(crate) struct Ledger {
    /// The task
    #[arg(value_name = "ID|NAME")]
    pub(crate) task: String,
    /// At most so many lines
    #[arg(long, value_name = "N", default_value = "100", value_parser = from_one)]
    pub(crate) limit: u32,
}

#[derive(Args, Debug)]
pub(crate) struct Runs {
    /// The runs, TASK:NUMBER
    #[arg(value_name = "RUN", required = true)]
    pub(crate) runs: Vec<String>,
}

#[derive(Args, Debug)]
#[command(after_help = "Example:\n  schedcli runs report --limit 10\n  schedcli runs --state FAILED")]
pub(crate) struct ListRuns {
    /// Only of this task
    #[arg(value_name = "ID|NAME")]
    pub(crate) task: Option<String>,
    /// Only in this state; may be repeated
    #[arg(long, value_enum, value_name = "S", ignore_case = true)]
    pub(crate) state: Vec<RunStateWord>,
    #[command(flatten)]
    pub(crate) page: Paging,
}

/// A run's state.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
#[value(rename_all = "UPPER")]
pub(crate) enum RunStateWord {
    Pending,
    Assigned,
    Running,
    Lost,
    Finished,
    Failed,
    Terminated,
}

#[derive(Args, Debug)]
#[command(
    after_help = "Control characters are made visible on a terminal and passed on to a file or pipe. A worker keeps at most 16 MiB of one \
                  attempt, its beginning and its end, and 1 GiB or 7 days of all.\n\nExample:\n  schedcli logs 42:3 -f"
)]
pub(crate) struct Logs {
    /// The run as TASK:NUMBER; a task stands for its newest run
    #[arg(value_name = "RUN|ID|NAME")]
    pub(crate) run: String,
    /// Go on until the run has ended
    #[arg(long, short)]
    pub(crate) follow: bool,
    /// Which attempt, from 1 [default: the newest]
    #[arg(long, value_name = "N", value_parser = from_one)]
    pub(crate) attempt: Option<u32>,
    /// Only the last bytes
    #[arg(long, value_name = "BYTES", value_parser = whole::<u64>)]
    pub(crate) tail: Option<u64>,
    /// Pass control characters on to a terminal, too
    #[arg(long)]
    pub(crate) raw: bool,
}

#[derive(Args, Debug)]
#[command(
    after_help = "Exits with 0 when it finished, with 1 when it failed, was cancelled, or the time passed first.\n\n\
                        Example:\n  schedcli wait 42 --timeout 10m"
)]
pub(crate) struct Wait {
    /// The task, or a run as TASK:NUMBER
    #[arg(value_name = "ID|NAME|RUN")]
    pub(crate) what: String,
    /// At most so long [default: for ever]
    #[arg(long, value_name = "D")]
    pub(crate) timeout: Option<String>,
}
