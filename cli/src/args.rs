//! The command line as it is parsed; the texts here are its help.

mod definitions;
mod members;
mod resolve;
mod runs;

pub(crate) use definitions::{Config, ConfigWhat, DeleteHistory, EndedWord, Update};
pub(crate) use members::{ClusterVerb, Replace};
pub(crate) use resolve::{ResolutionWord, Resolve};
pub(crate) use runs::{Backfill, Explain, Ledger, ListRuns, Logs, RunNow, RunStateWord, Runs, Wait};

use crate::input::{ActionInput, PolicyInput, ScheduleInput, pair, whole};
use clap::{Args, Parser, Subcommand, ValueEnum};
use std::path::PathBuf;

/// Enqueues, watches and manages tasks of a scheduler cluster
#[derive(Parser, Debug)]
#[command(
    name = "schedcli",
    version,
    max_term_width = 110,
    subcommand_required = true,
    arg_required_else_help = true,
    disable_help_subcommand = true,
    after_help = "Data goes to standard output, talk to standard error.\n\
                  Exit codes: 0 done, 1 refused, 2 wrong usage, 3 nobody answered, 4 no such task or run.\n\n\
                  Example:\n  schedcli enqueue --in 1s --sample ok --wait"
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

/// Where a node listens unless it is told otherwise.
pub(crate) const ENDPOINT: &str = "http://127.0.0.1:7400";

/// The variable that stands for `--endpoint`.
pub(crate) const ENDPOINT_VARIABLE: &str = "SCHED_ENDPOINT";

/// What every verb takes.
#[derive(Args, Debug, Clone)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Global {
    /// Addresses of nodes, separated by commas; any of them will do
    #[arg(
        long,
        global = true,
        env = ENDPOINT_VARIABLE,
        hide_env_values = true,
        value_name = "URL",
        value_delimiter = ',',
        default_value = ENDPOINT
    )]
    pub(crate) endpoint: Vec<String>,
    /// How data is written
    #[arg(
        long,
        short,
        global = true,
        env = "SCHED_OUTPUT",
        hide_env_values = true,
        value_enum,
        value_name = "FORMAT",
        default_value = "table"
    )]
    pub(crate) output: Format,
    /// Namespace of names and new tasks [default: default; for lists: all]
    #[arg(
        long,
        global = true,
        env = "SCHED_NAMESPACE",
        hide_env_values = true,
        value_name = "N"
    )]
    pub(crate) namespace: Option<String>,
    /// How long a call may take, retries included
    #[arg(long, global = true, value_name = "D", default_value = "5s")]
    pub(crate) deadline: String,
}

impl Global {
    /// Returns the namespace of names and new tasks.
    pub(crate) fn namespace(&self) -> &str {
        self.namespace.as_deref().unwrap_or("default")
    }
}

/// How data is written.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Format {
    /// For people
    Table,
    /// For programs
    Json,
    /// For both
    Yaml,
}

#[derive(Subcommand, Debug)]
pub(crate) enum Verb {
    /// Submit a task, or a file of tasks
    Enqueue(Box<Enqueue>),
    /// Take tasks out of the queue: they do not come back
    Dequeue(Dequeue),
    /// Give a task a new start
    Move(MoveTask),
    /// Change a task's definition
    Update(Box<Update>),
    /// Run a task now
    Run(RunNow),
    /// Give failed or cancelled runs a new round of tries
    #[command(after_help = "Example:\n  schedcli retry 42:3")]
    Retry(Runs),
    /// Say what became of LOST runs, whose workers do not tell
    Resolve(Resolve),
    /// Cancel runs that have not ended
    #[command(after_help = "Example:\n  schedcli cancel 42:4 43:1")]
    Cancel(Runs),
    /// Stop firing tasks
    Pause(Pause),
    /// Fire paused tasks again
    Resume(Tasks),
    /// Run the occurrences of a range that has passed
    Backfill(Backfill),
    /// Say why a task or run is where it is, what comes next, and what could prevent it
    Explain(Explain),
    /// Show what became of each occurrence of a task, newest first: ran, missed, skipped, expired
    Ledger(Ledger),
    /// Show one task or one run
    Get(Get),
    /// List tasks
    List(List),
    /// List runs, newest first
    Runs(ListRuns),
    /// Delete ended runs and ledger lines of a task
    DeleteHistory(DeleteHistory),
    /// Show the output of a run
    Logs(Logs),
    /// Wait until a task or a run has ended
    Wait(Wait),
    /// Show when a schedule occurs; needs no cluster
    Next(Next),
    /// Show how the cluster is
    Status(Nothing),
    /// Show parts of the scheduler
    Show(Show),
    /// Remove everything from the spool
    ClearSpool(ClearSpool),
    /// Shut the scheduler down: nothing is fired until `start`; the nodes go on running
    Shutdown(Shutdown),
    /// Start the scheduler again
    Start(StartAgain),
    /// Show and change the settings of the cluster
    Config(Config),
    /// Take back the time of the state, which a node with a wrong clock has set far ahead
    #[command(
        after_help = "Refused unless the time is ahead of the clocks of a majority; `schedcli check` says so. Kept with who asked."
    )]
    ResetClock(Nothing),
    /// Look for what is wrong
    Check(Check),
    /// List the nodes
    Nodes(Nodes),
    /// Change who belongs to the cluster, who votes, and who leads
    #[command(subcommand, after_help = members::HELP)]
    Cluster(ClusterVerb),
    /// Set, import, show and delete calendars: times in which tasks do not run
    Calendar(calendar::CalendarArgs),
    /// List the workers; drain and undrain them
    Workers(Workers),
    /// Print a completion script for a shell
    Completions(Completions),
}

#[derive(Args, Debug)]
#[command(
    group(clap::ArgGroup::new("when").args(["at", "in_", "every", "cron", "rrule", "manual", "after"])),
    group(clap::ArgGroup::new("what").args(["command", "http", "mail_to", "queue", "sample", "file"]).required(true)),
    after_help = "Without a schedule the task runs at once. With a name it can be enqueued only once.\n\n\
        Examples:\n  \
        schedcli enqueue --in 1s --sample ok\n  \
        schedcli enqueue --cron '0 9 * * 1-5' --tz Europe/Zurich --name report -- /usr/bin/report --daily\n  \
        schedcli enqueue --rrule 'FREQ=MINUTELY;BYSECOND=40' -- /bin/sh -c 'date >> out.txt'\n  \
        schedcli enqueue --every 5m --http 'GET http://127.0.0.1:8080/health'\n  \
        schedcli enqueue --queue images --payload '{\"width\": 640}' --tries 3\n  \
        schedcli enqueue --after 42,fetch --on success --group reports:2 --require gpu=yes -- /usr/bin/report\n  \
        schedcli enqueue --at 2027-03-01T09:00:00Z --before 15m --mail-to ann@example.org --subject 'The books are closed at 9'\n  \
        schedcli enqueue -f tasks.yaml"
)]
pub(crate) struct Enqueue {
    /// Submit the tasks of a YAML or JSON file, - for standard input; a named task that is there already is changed if it differs
    #[arg(long, short, value_name = "FILE", conflicts_with_all = ["when", "ScheduleInput", "ActionInput", "MailInput", "PolicyInput", "TaskFlags"])]
    pub(crate) file: Option<PathBuf>,
    /// Wait until the task has ended; exit with 1 when it failed
    #[arg(long)]
    pub(crate) wait: bool,
    #[command(flatten)]
    pub(crate) schedule: ScheduleInput,
    #[command(flatten)]
    pub(crate) action: ActionInput,
    #[command(flatten)]
    pub(crate) task: TaskFlags,
    #[command(flatten)]
    pub(crate) policy: PolicyInput,
}

/// The rest of a task.
#[derive(Args, Debug, Default)]
#[command(next_help_heading = "Task")]
pub(crate) struct TaskFlags {
    /// A name, unique in its namespace
    #[arg(long, value_name = "N")]
    pub(crate) name: Option<String>,
    /// A label to select by; may be repeated
    #[arg(long, value_name = "K=V", value_parser = pair)]
    pub(crate) label: Vec<(String, String)>,
    /// Who asks for it
    #[arg(long, value_name = "S")]
    pub(crate) owner: Option<String>,
    /// For people
    #[arg(long, value_name = "S")]
    pub(crate) description: Option<String>,
    /// Accept an instant that is past, and run at once
    #[arg(long)]
    pub(crate) late_ok: bool,
    /// Makes a repeat of this command harmless for 24 hours: the same id gets the first answer
    #[arg(long, value_name = "ID")]
    pub(crate) request_id: Option<String>,
}

#[derive(Args, Debug)]
#[command(after_help = "Example:\n  schedcli dequeue 42 nightly-backup --kill")]
pub(crate) struct Dequeue {
    #[command(flatten)]
    pub(crate) tasks: TaskNames,
    /// Cancel their live runs too, instead of leaving them
    #[arg(long)]
    pub(crate) kill: bool,
}

#[derive(Args, Debug)]
#[command(
    group(clap::ArgGroup::new("start").args(["at", "in_"]).required(true)),
    after_help = "The start is the instant of a one-shot, the event of --before, the anchor of --every, the dtstart of --rrule.\n\n\
                  Example:\n  schedcli move 42 --at 2027-03-01T09:00:00Z"
)]
pub(crate) struct MoveTask {
    /// The task
    #[arg(value_name = "ID|NAME")]
    pub(crate) task: String,
    /// The new start: RFC 3339, or a local time in --tz
    #[arg(long, value_name = "T")]
    pub(crate) at: Option<String>,
    /// The new start, from now on
    #[arg(long = "in", value_name = "D")]
    pub(crate) in_: Option<String>,
    /// Zone of a local time [default: UTC]
    #[arg(long, value_name = "Z")]
    pub(crate) tz: Option<String>,
    /// Accept an instant that is past, and run at once
    #[arg(long)]
    pub(crate) late_ok: bool,
    /// Refuse unless the task is at this generation
    #[arg(long, value_name = "N", value_parser = whole::<u64>)]
    pub(crate) generation: Option<u64>,
}

#[derive(Args, Debug)]
#[command(after_help = "Example:\n  schedcli pause report --until 2027-03-01T09:00:00Z --note 'month end'")]
pub(crate) struct Pause {
    #[command(flatten)]
    pub(crate) tasks: TaskNames,
    /// Resume by itself then: RFC 3339, or a local time in --tz
    #[arg(long, value_name = "T")]
    pub(crate) until: Option<String>,
    /// Zone of a local time [default: UTC]
    #[arg(long, value_name = "Z")]
    pub(crate) tz: Option<String>,
    /// For people
    #[arg(long, value_name = "S", default_value = "", hide_default_value = true)]
    pub(crate) note: String,
}

#[derive(Args, Debug)]
#[command(after_help = "Example:\n  schedcli resume report")]
pub(crate) struct Tasks {
    #[command(flatten)]
    pub(crate) tasks: TaskNames,
}

/// Tasks by id or name.
#[derive(Args, Debug)]
pub(crate) struct TaskNames {
    /// The tasks
    #[arg(value_name = "ID|NAME", required = true)]
    pub(crate) tasks: Vec<String>,
}

#[derive(Args, Debug)]
#[command(after_help = "Example:\n  schedcli get report\n  schedcli get 42:3 --output json")]
pub(crate) struct Get {
    /// The task, or a run as TASK:NUMBER
    #[arg(value_name = "ID|NAME|RUN")]
    pub(crate) what: String,
}

#[derive(Args, Debug)]
#[command(after_help = "Example:\n  schedcli list --state QUEUED --label team=billing")]
pub(crate) struct List {
    /// Only in this state; may be repeated: SPOOLED, QUEUED, RUNNING, FAILED, FINISHED, TERMINATED
    #[arg(long, value_name = "S")]
    pub(crate) state: Vec<sched_core::task::TaskState>,
    /// Only with this label; may be repeated
    #[arg(long, value_name = "K=V", value_parser = pair)]
    pub(crate) label: Vec<(String, String)>,
    #[command(flatten)]
    pub(crate) page: Paging,
}

/// How much of a list.
#[derive(Args, Debug)]
pub(crate) struct Paging {
    /// At most so many; 0 for all
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = whole::<u32>)]
    pub(crate) limit: u32,
    /// Go on where the list before ended
    #[arg(long, value_name = "C", default_value = "", hide_default_value = true)]
    pub(crate) cursor: String,
}

#[derive(Args, Debug)]
#[command(
    group(clap::ArgGroup::new("rule").args(["every", "cron", "rrule"]).required(true)),
    after_help = "Example:\n  schedcli next --cron '0 9 * * 1-5' --tz Europe/Zurich\n  schedcli next --rrule 'FREQ=MONTHLY;BYDAY=-1FR' --dtstart 2027-01-01T17:00:00Z -n 12"
)]
pub(crate) struct Next {
    /// At a fixed interval of absolute time, counted from --anchor
    #[arg(long, value_name = "D")]
    pub(crate) every: Option<String>,
    /// The occurrence from which --every counts [default: 1970-01-01T00:00:00Z]
    #[arg(long, value_name = "T")]
    pub(crate) anchor: Option<String>,
    /// A cron expression
    #[arg(long, value_name = "E")]
    pub(crate) cron: Option<String>,
    /// An RFC 5545 rule; repeat the flag for several
    #[arg(long, value_name = "R")]
    pub(crate) rrule: Vec<String>,
    /// Where the rules begin [default: now]
    #[arg(long, value_name = "T")]
    pub(crate) dtstart: Option<String>,
    /// Add an instant to the rules; may be repeated
    #[arg(long, value_name = "T")]
    pub(crate) rdate: Vec<String>,
    /// Take an instant out of the rules; may be repeated
    #[arg(long, value_name = "T")]
    pub(crate) exdate: Vec<String>,
    /// Zone of cron, rules and local times, by its IANA name [default: UTC]
    #[arg(long, value_name = "Z")]
    pub(crate) tz: Option<String>,
    /// What a gap of the local clock does to a wall-clock occurrence
    #[arg(long, value_enum, value_name = "POLICY")]
    pub(crate) dst: Option<crate::input::DstWord>,
    /// Only occurrences after this instant [default: now]
    #[arg(long, value_name = "T")]
    pub(crate) after: Option<String>,
    /// The task's name, on which H in a cron expression depends
    #[arg(long, value_name = "N", default_value = "", hide_default_value = true)]
    pub(crate) name: String,
    /// Say in words what the schedule means, and where changes of the local clock touch it within two years
    #[arg(long)]
    pub(crate) explain: bool,
    /// How many
    #[arg(short = 'n', long = "count", value_name = "N", default_value_t = 5, value_parser = up_to_10_000)]
    pub(crate) count: u32,
}

#[derive(Args, Debug)]
#[command(after_help = "Example:\n  schedcli status --output json")]
pub(crate) struct Nothing {}

#[derive(Args, Debug)]
#[command(arg_required_else_help = true)]
pub(crate) struct Show {
    #[command(subcommand)]
    pub(crate) what: ShowWhat,
}

#[derive(Subcommand, Debug)]
pub(crate) enum ShowWhat {
    /// Operations that were accepted and are not yet in the queue, oldest first
    #[command(after_help = "Example:\n  schedcli show spool --limit 0")]
    Spool(Paging),
}

#[derive(Args, Debug)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "Examples:\n  schedcli workers\n  schedcli workers drain agent-7 --note 'new disk'\n  schedcli workers undrain agent-7"
)]
pub(crate) struct Workers {
    #[command(subcommand)]
    pub(crate) what: Option<WorkersWhat>,
    #[command(flatten)]
    pub(crate) paging: Paging,
}

#[derive(Subcommand, Debug)]
pub(crate) enum WorkersWhat {
    /// Give a worker no new runs, also when it comes back; what it has goes on
    Drain {
        /// The worker's name
        worker: String,
        /// For people
        #[arg(long, value_name = "S", default_value = "", hide_default_value = true)]
        note: String,
    },
    /// Give a worker runs again
    Undrain {
        /// The worker's name
        worker: String,
    },
}

#[derive(Args, Debug)]
#[command(after_help = "Example:\n  schedcli clear-spool --yes")]
pub(crate) struct ClearSpool {
    /// Do not ask
    #[arg(long, short)]
    pub(crate) yes: bool,
}

#[derive(Args, Debug)]
#[command(after_help = "Example:\n  schedcli shutdown --message 'moving house until 14:00'")]
pub(crate) struct Shutdown {
    /// For people
    #[arg(long, value_name = "S", default_value = "", hide_default_value = true)]
    pub(crate) message: String,
}

#[derive(Args, Debug)]
#[command(after_help = "Example:\n  schedcli start")]
pub(crate) struct StartAgain {}

#[derive(Args, Debug)]
#[command(
    after_help = "Exits with 1 when something is wrong; what will become wrong is a warning.\n\nExample:\n  schedcli check"
)]
pub(crate) struct Check {}

#[derive(Args, Debug)]
#[command(after_help = "Example:\n  schedcli nodes")]
pub(crate) struct Nodes {}

#[derive(Args, Debug)]
#[command(after_help = "Example:\n  schedcli completions bash > /etc/bash_completion.d/schedcli")]
pub(crate) struct Completions {
    /// The shell
    #[arg(value_enum)]
    pub(crate) shell: clap_complete::Shell,
}

/// Reads a number of which there is no zeroth.
fn from_one(text: &str) -> Result<u32, String> {
    match whole(text)? {
        0 => Err(format!("{text:?} is less than 1; expected for example 10")),
        number => Ok(number),
    }
}

fn up_to_10_000(text: &str) -> Result<u32, String> {
    match from_one(text)? {
        10_001.. => Err(format!("{text:?} is more than 10000; expected for example 10")),
        number => Ok(number),
    }
}

pub(crate) mod calendar;

#[cfg(test)]
mod tests;
