//! Verbs that change definitions and history: of a task as a whole, of what is kept of it, and of the cluster's settings.

use super::TaskFlags;
use crate::input::{ActionInput, PolicyInput, ScheduleInput, pair, whole};
use clap::{Args, Subcommand, ValueEnum};

#[derive(Args, Debug)]
#[command(
    group(clap::ArgGroup::new("when").args(["at", "in_", "every", "cron", "rrule", "manual", "after"])),
    group(clap::ArgGroup::new("what").args(["command", "http", "mail_to", "queue", "sample"])),
    after_help = "Only what is given changes; of labels, variables, --require and --prefer only those named. Runs under way go on as they \
                  were started; their next try, runs that wait, and occurrences to come are as the new definition says.\n\n\
                  Examples:\n  \
                  schedcli update report --cron '0 10 * * 1-5' --tries 3\n  \
                  schedcli update 42 --unset policy.group --unset labels.team -- /usr/bin/report --weekly"
)]
pub(crate) struct Update {
    /// The task
    #[arg(value_name = "ID|NAME")]
    pub(crate) id: String,
    /// Refuse unless the task is at this generation [default: the one it is read at]
    #[arg(long, value_name = "N", value_parser = whole::<u64>)]
    pub(crate) generation: Option<u64>,
    /// Leave a field out that the task states: policy.tries, schedule.until, labels.team; may be repeated
    #[arg(long, value_name = "FIELD")]
    pub(crate) unset: Vec<String>,
    #[command(flatten)]
    pub(crate) schedule: ScheduleInput,
    #[command(flatten)]
    pub(crate) action: ActionInput,
    #[command(flatten)]
    pub(crate) task: TaskFlags,
    #[command(flatten)]
    pub(crate) policy: PolicyInput,
}

#[derive(Args, Debug)]
#[command(
    after_help = "What has not ended stays, and so does the task.\n\nExample:\n  schedcli delete-history report --before 2027-03-01T00:00:00Z --state finished --yes"
)]
pub(crate) struct DeleteHistory {
    /// The task
    #[arg(value_name = "ID|NAME")]
    pub(crate) task: String,
    /// Only what is older: RFC 3339, or a local time in --tz [default: everything]
    #[arg(long, value_name = "T")]
    pub(crate) before: Option<String>,
    /// Zone of a local time [default: UTC]
    #[arg(long, value_name = "Z")]
    pub(crate) tz: Option<String>,
    /// Only runs that ended so, and no lines of the ledger
    #[arg(long, value_enum, value_name = "S", ignore_case = true)]
    pub(crate) state: Option<EndedWord>,
    /// Do not ask
    #[arg(long, short)]
    pub(crate) yes: bool,
}

/// See [`DeleteHistory::state`].
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum EndedWord {
    /// With success
    Finished,
    /// Failed or cancelled
    Failed,
}

#[derive(Args, Debug)]
#[command(arg_required_else_help = true)]
pub(crate) struct Config {
    #[command(subcommand)]
    pub(crate) what: ConfigWhat,
}

#[derive(Subcommand, Debug)]
pub(crate) enum ConfigWhat {
    /// List all settings
    #[command(after_help = "Example:\n  schedcli config list")]
    List,
    /// Show the value of a setting
    #[command(after_help = "Example:\n  schedcli config get tries")]
    Get {
        /// The setting
        #[arg(value_name = "KEY")]
        key: String,
    },
    /// Set defaults of policies, for tasks accepted from now on, and how much is kept
    #[command(
        after_help = "Keys and values are those of the policy in a task document; and keep_ended_tasks, how many ended tasks are kept. A \
                      task gets its defaults when it is accepted: what exists does not change.\n\n\
                      Example:\n  schedcli config set tries=3 retry_delay=30s time_limit=2h"
    )]
    Set {
        /// Settings with their new values
        #[arg(value_name = "KEY=VALUE", required = true, value_parser = pair)]
        settings: Vec<(String, String)>,
    },
    /// Give settings the value that is built in
    #[command(after_help = "Example:\n  schedcli config unset tries retry_delay")]
    Unset {
        /// The settings
        #[arg(value_name = "KEY", required = true)]
        keys: Vec<String>,
    },
}
