//! `schednode`: parse, start, stop; nothing else.
#![forbid(unsafe_code)]

use clap::{Parser, Subcommand};
use schednode::agent::{Agent, AgentError};
use schednode::config::{self, AgentConfig, AgentSettings, Config, ConfigError, LogFormat, Settings};
use schednode::inspect;
use schednode::node::{Listeners, Node, StartError};
use std::io::IsTerminal;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Also RocksDB's: the system's spends an eighth of the processor time of a busy node, and holds on to more memory.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// A mistake in what was asked for.
const USAGE: u8 = 2;
/// What was asked for could not be done.
const FAILED: u8 = 1;
/// Where `dev` keeps its data when nothing else is said.
const DEV_FOLDER: &str = "sched-dev";
/// Ports that `dev` tries before it gives up.
const DEV_PORTS: u16 = 100;

/// The daemon of sched: a replicated task scheduler.
#[derive(Parser)]
#[command(name = "schednode", version, about, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs a node of a cluster: voter and worker.
    #[command(after_help = "Example, each on its own terminal or machine:\n  \
        schednode run --data-dir D --initial-cluster 127.0.0.1:7500,127.0.0.1:7501,127.0.0.1:7502 \\\n    \
        --listen 127.0.0.1:7400 --peer-listen 127.0.0.1:7500")]
    Run(Source),
    /// Runs a cluster of one node, to try things out; needs no flags.
    #[command(after_help = "Example:\n  schednode dev\n\n\
        Its data is in ./sched-dev unless --data-dir says otherwise; delete the folder to start afresh.")]
    Dev(Source),
    /// Runs an agent: a worker alone, which takes runs from a cluster and has no voice in it.
    #[command(after_help = "Example:\n  \
        schednode agent --data-dir /var/lib/sched-agent --join 127.0.0.1:7400,127.0.0.1:7401 --slots 16 --labels gpu=yes")]
    Agent {
        /// File of settings, TOML; see `--show-config`.
        #[arg(long = "config", env = "SCHED_CONFIG", value_name = "FILE")]
        file: Option<PathBuf>,
        #[command(flatten)]
        settings: Box<AgentSettings>,
        /// Prints the configuration that file, environment and flags give together, and ends: `toml`, each setting with its
        /// documentation, or `json`.
        #[arg(long, value_name = "FORM", num_args = 0..=1, require_equals = true, default_missing_value = "toml")]
        show_config: Option<Form>,
    },
    /// Prints the configuration that file, environment and flags give together, each setting with its documentation.
    #[command(after_help = "Example:\n  schednode config --data-dir /var/lib/sched > /etc/sched/node.toml")]
    Config {
        #[command(flatten)]
        source: Source,
        /// Prints JSON instead of TOML.
        #[arg(long)]
        json: bool,
    },
    /// Checks the data folder of a node that does not run, and prints what is wrong with it.
    #[command(after_help = "Example:\n  schednode check --data-dir /var/lib/sched")]
    Check {
        /// The data folder.
        #[arg(long, env = "SCHED_DATA_DIR", value_name = "FOLDER")]
        data_dir: PathBuf,
    },
}

/// Forms of a configuration.
#[derive(clap::ValueEnum, Clone, Copy)]
enum Form {
    Toml,
    Json,
}

#[derive(clap::Args)]
struct Source {
    /// File of settings, TOML; see `schednode config`.
    #[arg(long = "config", env = "SCHED_CONFIG", value_name = "FILE")]
    file: Option<PathBuf>,
    #[command(flatten)]
    settings: Settings,
}

impl Source {
    fn settings(self) -> Result<Settings, ConfigError> {
        match &self.file {
            Some(path) => Ok(self.settings.or(config::read_file(path)?)),
            None => Ok(self.settings),
        }
    }
}

/// Why the process ends, and with which code.
struct Failure(u8, String);

impl From<ConfigError> for Failure {
    fn from(e: ConfigError) -> Self {
        Self(USAGE, e.to_string())
    }
}

impl From<StartError> for Failure {
    fn from(e: StartError) -> Self {
        let code = if matches!(e, StartError::NoCluster { .. }) {
            USAGE
        } else {
            FAILED
        };
        Self(code, e.to_string())
    }
}

fn main() -> ExitCode {
    // The worker starts this program once more for each process of a run, to supervise it.
    if std::env::args_os()
        .nth(1)
        .is_some_and(|arg| arg == sched_supervisor::SUPERVISOR_ARG)
    {
        return sched_supervisor::main(std::env::args_os().skip(2));
    }
    // Before anything opens a connection: there is one provider in the process, and it is this one.
    if rustls::crypto::ring::default_provider().install_default().is_err() {
        eprintln!("schednode: a TLS provider is installed already");
        return ExitCode::from(FAILED);
    }
    match run(Cli::parse().command) {
        Ok(code) => code,
        Err(Failure(code, text)) => {
            eprintln!("schednode: {text}");
            ExitCode::from(code)
        }
    }
}

fn run(command: Command) -> Result<ExitCode, Failure> {
    match command {
        Command::Run(source) => {
            let mut config = Config::resolve(source.settings()?)?;
            let listeners = Listeners::bind(&mut config)?;
            serve(config, listeners, false)
        }
        Command::Dev(source) => {
            let (config, listeners) = dev(source.settings()?)?;
            serve(config, listeners, true)
        }
        Command::Config { source, json } => {
            let config = Config::resolve(source.settings()?)?;
            if json {
                println!("{}", config::to_json(&config));
            } else {
                print!("{}", config::to_toml(&config));
            }
            Ok(ExitCode::SUCCESS)
        }
        Command::Agent {
            file,
            settings,
            show_config,
        } => {
            let settings = match file {
                Some(path) => settings.or(AgentSettings::read_file(&path)?),
                None => *settings,
            };
            let config = AgentConfig::resolve(settings)?;
            match show_config {
                Some(Form::Toml) => print!("{}", config.to_toml()),
                Some(Form::Json) => println!("{}", config.to_json()),
                None => return run_agent(config),
            }
            Ok(ExitCode::SUCCESS)
        }
        Command::Check { data_dir } => check(&data_dir),
    }
}

fn run_agent(config: AgentConfig) -> Result<ExitCode, Failure> {
    log(&config.log, config.log_format);
    let failed = |e: AgentError| Failure(FAILED, e.to_string());
    runtime()?.block_on(async {
        let mut signals = signals()?;
        let agent = Agent::open(config).map_err(failed)?;
        let config = agent.config();
        tracing::info!(config = config.to_json(), "configuration");
        let names = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
        for name in config::unknown_agent_variables(names) {
            tracing::warn!(name, "environment variable is no setting of an agent of this release");
        }
        println!("schednode {}, agent {}", env!("CARGO_PKG_VERSION"), config.name);
        println!("  data     {}", config.data_dir.display());
        println!("  join     {}", config.join.join(","));
        println!("  worker   {} slots", config.slots);
        let agent = tokio::select! {
            agent = agent.start() => agent.map_err(failed)?,
            // Nothing runs yet.
            () = wait_for(&mut signals) => return Ok(ExitCode::SUCCESS),
        };
        let mut status = agent.status();
        tokio::select! {
            () = wait_for(&mut signals) => {}
            () = async {
                if status.wait_for(|status| status.leader.is_some()).await.is_ok() {
                    println!("ready: a leader has taken it");
                }
                std::future::pending().await
            } => {}
        }
        stop_at_once_on(signals);
        agent.stop().await;
        Ok(ExitCode::SUCCESS)
    })
}

fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("sched")
        .build()
        .map_err(|e| Failure(FAILED, format!("the runtime could not be started: {e}")))
}

fn signals() -> Result<[Signal; 2], Failure> {
    let failed = |e: std::io::Error| Failure(FAILED, format!("signals cannot be received: {e}"));
    Ok([
        signal(SignalKind::terminate()).map_err(failed)?,
        signal(SignalKind::interrupt()).map_err(failed)?,
    ])
}

/// From now on a signal ends the process.
fn stop_at_once_on(mut signals: [Signal; 2]) {
    eprintln!("schednode: stopping; a second signal stops at once");
    tokio::spawn(async move {
        wait_for(&mut signals).await;
        eprintln!("schednode: second signal, stopping at once");
        std::process::exit(FAILED.into());
    });
}

fn check(data_dir: &Path) -> Result<ExitCode, Failure> {
    if !data_dir.join("IDENTITY").exists() {
        return Err(Failure(
            USAGE,
            format!("{}: is not a data folder, it has no IDENTITY", data_dir.display()),
        ));
    }
    let report = inspect::inspect(data_dir).map_err(|e| Failure(FAILED, e.to_string()))?;
    print!("{}", report.text);
    Ok(if report.sound {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(FAILED)
    })
}

/// Completes the settings of a cluster of one: its own folder, the first free ports.
fn dev(mut settings: Settings) -> Result<(Config, Listeners), Failure> {
    let folder = settings.data_dir.get_or_insert_with(|| PathBuf::from(DEV_FOLDER));
    if let Ok(absolute) = std::path::absolute(&*folder) {
        *folder = absolute;
    }
    settings.listen.get_or_insert_with(|| free_address(7400));
    settings.peer_listen.get_or_insert_with(|| free_address(7500));
    settings.initial_cluster = None;
    let mut config = Config::resolve(settings)?;
    let listeners = Listeners::bind(&mut config)?;
    config.initial_cluster = vec![config.peer_advertise.clone()];
    Ok((config, listeners))
}

/// Returns the first free port of loopback from one on; the node binds it anew, and says so when it was taken meanwhile.
fn free_address(first: u16) -> String {
    let is_free = |port: &u16| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok();
    let port = (first..first + DEV_PORTS).find(is_free).unwrap_or(first);
    SocketAddr::from((Ipv4Addr::LOCALHOST, port)).to_string()
}

fn serve(config: Config, listeners: Listeners, dev: bool) -> Result<ExitCode, Failure> {
    log(&config.log, config.log_format);
    runtime()?.block_on(async {
        let mut signals = signals()?;
        tracing::info!(config = config::to_json(&config), "configuration");
        for name in config::unknown_variables(std::env::vars_os().filter_map(|(name, _)| name.into_string().ok())) {
            tracing::warn!(name, "environment variable is no setting of this release");
        }
        let node = Node::start(config, listeners).await?;
        greet(&node, dev);
        tokio::select! {
            () = wait_for(&mut signals) => {}
            () = announce(&node, dev) => {}
        }
        stop_at_once_on(signals);
        node.stop().await;
        Ok(ExitCode::SUCCESS)
    })
}

async fn wait_for([terminate, interrupt]: &mut [Signal; 2]) {
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}

/// Says what this is, where its data is, where it is reached, and what to do next.
fn greet(node: &Node, dev: bool) {
    let config = node.config();
    println!(
        "schednode {}, node {}, name {}",
        env!("CARGO_PKG_VERSION"),
        node.id(),
        config.name
    );
    println!("  data     {}", config.data_dir.display());
    println!(
        "  clients  {}{}",
        config.listen,
        advertised(&config.listen, &config.advertise)
    );
    println!(
        "  peers    {}{}",
        config.peer_listen,
        advertised(&config.peer_listen, &config.peer_advertise)
    );
    println!(
        "  worker   {}",
        match node.worker_fault() {
            Some(fault) => format!("none: {fault}"),
            None if config.slots == 0 => "none".to_owned(),
            None => format!("{} slots", config.slots),
        }
    );
    println!("  zones    {}", node.zone_data());
    if !dev {
        println!("next: schedcli --endpoint http://{} status", config.advertise);
    }
}

fn advertised(bound: &SocketAddr, name: &str) -> String {
    if bound.to_string() == name {
        String::new()
    } else {
        format!(", known as {name}")
    }
}

/// Says when the node can be used, then waits for ever.
async fn announce(node: &Node, dev: bool) {
    node.ready().await;
    if dev {
        let endpoint = format!("http://{}", node.config().advertise);
        let prefix = if endpoint == "http://127.0.0.1:7400" {
            String::new()
        } else {
            format!(" --endpoint {endpoint}")
        };
        println!("\nready. Try, in another terminal:\n");
        println!("  schedcli{prefix} enqueue --in 1s --sample ok");
        println!("  schedcli{prefix} enqueue --rrule 'FREQ=MINUTELY;BYSECOND=40' -- /bin/sh -c 'date >> out.txt'");
        println!("  schedcli{prefix} list");
        println!("  schedcli{prefix} status\n");
        println!(
            "The second one writes {}.",
            node.config().data_dir.join("worker/work/out.txt").display()
        );
        println!(
            "Ctrl-C stops the node; its data stays in {}.",
            node.config().data_dir.display()
        );
    } else {
        println!("ready: a leader is known");
    }
    std::future::pending().await
}

fn log(filter: &str, form: LogFormat) {
    use tracing_subscriber::filter::Targets;
    use tracing_subscriber::layer::SubscriberExt;
    use tracing_subscriber::util::SubscriberInitExt;
    // Checked when the configuration was resolved.
    let filter: Targets = filter.parse().unwrap_or_default();
    let registry = tracing_subscriber::registry().with(filter);
    let layer = tracing_subscriber::fmt::layer()
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    match form {
        LogFormat::Text => registry.with(layer).init(),
        LogFormat::Json => registry.with(layer.json()).init(),
    }
}
