//! What each verb does.

mod apply;
mod calendar;
mod cluster;
mod config;
mod enqueue;
mod members;
mod next;
mod runs;
mod tasks;
mod update;
mod workers;

use crate::args::{Cli, ENDPOINT, ENDPOINT_VARIABLE, Global, Paging, Verb};
use crate::build::{Builder, Origin};
use crate::error::CliError;
use crate::{output, when};
use sched_client::{Client, ClientError, Options, Page, RunFilter, v1};
use sched_core::Timestamp;
use sched_core::ids::{RunId, TaskId};
use sched_core::schedule::{Zones as _, parse_duration};
use sched_core::task::TaskRef;
use std::future::Future;
use std::io::{BufRead as _, IsTerminal as _, Write as _};
use std::time::Duration;

/// Entries of one page that is asked of the cluster.
const PAGE_ITEMS: u32 = sched_proto::limits::PAGE_ITEMS_MAX;

/// What a verb works with.
struct Cluster {
    client: Client,
    global: Global,
}

/// Does what the command line says.
pub(crate) fn carry_out(args: Cli) -> Result<(), CliError> {
    let global = args.global;
    match args.verb {
        Verb::Next(next) => next::next(global.output, &next),
        Verb::Completions(completions) => self::completions(completions.shell),
        verb => {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .map_err(|error| CliError::Usage(format!("this process cannot do network I/O: {error}")))?;
            runtime.block_on(with_cluster(global, verb))
        }
    }
}

async fn with_cluster(global: Global, verb: Verb) -> Result<(), CliError> {
    let deadline = duration("--deadline", &global.deadline)?;
    let options = Options {
        deadline,
        ..Options::default()
    };
    let mut endpoints: Vec<&str> = global.endpoint.iter().map(|endpoint| endpoint.trim()).collect();
    endpoints.retain(|endpoint| !endpoint.is_empty());
    // A variable that is set to nothing counts as not set, as everywhere. A flag that says nothing is a mistake.
    if endpoints.is_empty() && std::env::var_os(ENDPOINT_VARIABLE).is_some_and(|value| value.is_empty()) {
        endpoints.push(ENDPOINT);
    }
    let cluster = Cluster {
        client: Client::with_options(endpoints, options)?,
        global,
    };
    match verb {
        Verb::Enqueue(enqueue) => enqueue::enqueue(&cluster, *enqueue).await,
        Verb::Dequeue(dequeue) => tasks::dequeue(&cluster, &dequeue).await,
        Verb::Move(to) => tasks::move_task(&cluster, &to).await,
        Verb::Update(change) => update::update(&cluster, &change).await,
        Verb::Run(run) => runs::run(&cluster, &run).await,
        Verb::Retry(runs) => runs::retry(&cluster, &runs).await,
        Verb::Resolve(resolve) => runs::resolve(&cluster, &resolve).await,
        Verb::Cancel(runs) => runs::cancel(&cluster, &runs).await,
        Verb::Backfill(backfill) => runs::backfill(&cluster, &backfill).await,
        Verb::Explain(explain) => tasks::explain(&cluster, &explain).await,
        Verb::Ledger(ledger) => tasks::ledger(&cluster, &ledger).await,
        Verb::Pause(pause) => tasks::pause(&cluster, &pause).await,
        Verb::Resume(resume) => tasks::resume(&cluster, &resume).await,
        Verb::Get(get) => tasks::get(&cluster, &get).await,
        Verb::List(list) => tasks::list(&cluster, &list).await,
        Verb::Runs(list) => runs::list(&cluster, &list).await,
        Verb::DeleteHistory(delete) => runs::delete_history(&cluster, &delete).await,
        Verb::Logs(logs) => runs::logs(&cluster, &logs).await,
        Verb::Wait(wait) => runs::wait(&cluster, &wait).await,
        Verb::Status(_) => cluster::status(&cluster).await,
        Verb::Show(show) => cluster::show(&cluster, &show).await,
        Verb::ClearSpool(clear) => cluster::clear_spool(&cluster, &clear).await,
        Verb::Shutdown(shutdown) => cluster::shutdown(&cluster, &shutdown).await,
        Verb::Start(_) => cluster::start(&cluster).await,
        Verb::Config(config) => config::config(&cluster, &config).await,
        Verb::ResetClock(_) => cluster::reset_clock(&cluster).await,
        Verb::Check(_) => cluster::check(&cluster).await,
        Verb::Nodes(_) => cluster::nodes(&cluster).await,
        Verb::Cluster(verb) => members::change(&cluster, &verb, deadline).await,
        Verb::Calendar(args) => calendar::calendar(&cluster, &args.verb).await,
        Verb::Workers(workers) => workers::workers(&cluster, &workers).await,
        Verb::Next(_) | Verb::Completions(_) => Ok(()),
    }
}

fn completions(shell: clap_complete::Shell) -> Result<(), CliError> {
    let mut command = <Cli as clap::CommandFactory>::command();
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command, "schedcli", &mut script);
    output::write(&script)
}

/// Whether a person is at the terminal who can be asked.
fn is_somebody_there() -> bool {
    std::io::stdin().is_terminal()
}

/// Asks the person at the terminal.
fn ask(question: &str) -> Result<bool, CliError> {
    eprint!("{question} [y/N] ");
    std::io::stderr().flush()?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    Ok(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
}

/// What a word names.
enum Named {
    Task(TaskRef),
    Run(RunId),
}

impl Cluster {
    /// Reads a task: digits are an id, everything else is a name.
    fn task(&self, word: &str) -> TaskRef {
        match word.parse() {
            Ok(id) => TaskRef::Id(TaskId(id)),
            Err(_) => TaskRef::Name {
                namespace: self.global.namespace().to_owned(),
                name: word.to_owned(),
            },
        }
    }

    /// Reads several tasks, each beside its word.
    fn tasks<'a>(&self, words: &'a [String]) -> impl ExactSizeIterator<Item = (&'a str, TaskRef)> {
        words.iter().map(|word| (word.as_str(), self.task(word)))
    }

    /// Reads a run, or else a task.
    fn named(&self, word: &str) -> Named {
        match word.parse() {
            Ok(run) => Named::Run(run),
            Err(_) => Named::Task(self.task(word)),
        }
    }
}

fn run_id(word: &str) -> Result<RunId, CliError> {
    word.parse()
        .map_err(|error: sched_core::ids::NotARunId| CliError::Usage(error.to_string()))
}

fn duration(flag: &str, text: &str) -> Result<Duration, CliError> {
    match parse_duration(text) {
        Ok(ms) => Ok(Duration::from_millis(ms)),
        Err(error) => Err(CliError::Usage(format!("{flag}: {error}"))),
    }
}

/// Reads the instant of a flag, in the zone of `--tz`.
fn instant(flag: &str, text: &str, tz: Option<&str>) -> Result<Timestamp, CliError> {
    let name = tz.unwrap_or("UTC");
    let zone = when::SystemZones::open().zone(name).ok_or_else(|| {
        CliError::Usage(format!(
            "--tz: {name:?} is no known time zone; expected an IANA name such as Europe/Zurich"
        ))
    })?;
    when::instant(text, &zone).map_err(|problem| CliError::Usage(format!("{flag}: {problem}")))
}

/// Does the same to each of several things. A failure of one does not keep the others from being tried; each is said, and the first
/// decides the exit code.
async fn each<'a, N, T, F: Future<Output = Result<T, ClientError>>>(
    named: impl ExactSizeIterator<Item = (&'a str, N)>,
    done: impl Fn(N) -> F,
) -> (Vec<T>, Result<(), CliError>) {
    let is_single = named.len() == 1;
    let mut results = Vec::with_capacity(named.len());
    let mut outcome = Ok(());
    for (word, name) in named {
        match done(name).await {
            Ok(result) => results.push(result),
            Err(error) => {
                let error = CliError::About(word.to_owned(), Box::new(error));
                if is_single {
                    return (results, Err(error));
                }
                output::talk(&format!("schedcli: {}", output::visible(&error.to_string())));
                outcome = outcome.and(Err(CliError::Said(error.code())));
            }
        }
    }
    (results, outcome)
}

/// Reads a list page by page, up to its limit, and says how to go on when there is more.
async fn pages<T, F>(paging: &Paging, read: impl Fn(Page) -> F) -> Result<Vec<T>, ClientError>
where
    F: Future<Output = Result<(Vec<T>, String), ClientError>>,
{
    let (list, cursor) = pages_up_to(paging.limit, paging.cursor.clone(), read).await?;
    if !cursor.is_empty() {
        output::talk(&format!("more: --cursor {}", output::visible(&cursor)));
    }
    Ok(list)
}

/// Reads a page of runs.
async fn page_of_runs(client: &Client, filter: &RunFilter, page: Page) -> Result<(Vec<v1::Run>, String), ClientError> {
    let reply = client.runs(filter, &page).await?;
    Ok((reply.runs, reply.cursor))
}

/// Reads pages until there are so many items, 0 for all, and returns where the rest begins; nothing when there is none.
async fn pages_up_to<T, F>(
    limit: u32,
    mut cursor: String,
    read: impl Fn(Page) -> F,
) -> Result<(Vec<T>, String), ClientError>
where
    F: Future<Output = Result<(Vec<T>, String), ClientError>>,
{
    let mut list: Vec<T> = Vec::new();
    loop {
        let left = match limit {
            0 => PAGE_ITEMS,
            limit => limit - u32::try_from(list.len()).unwrap_or(limit).min(limit),
        };
        if left == 0 {
            return Ok((list, cursor));
        }
        let page = Page {
            limit: left.min(PAGE_ITEMS),
            cursor,
        };
        let (items, next) = read(page).await?;
        list.extend(items);
        if next.is_empty() {
            return Ok((list, next));
        }
        cursor = next;
    }
}

/// Returns a reader of flags.
fn builder<'a>(zones: &'a when::SystemZones, folder: &'a std::path::Path, namespace: &'a str) -> Builder<'a> {
    Builder {
        origin: Origin::Flags,
        zones,
        now: when::now(),
        folder,
        namespace,
    }
}
