//! Every setting, once: its flag, its environment variable, its key in the file, and its documentation.

use crate::worker::executors::SmtpTls;
use crate::worker::supervisor::Containment;
use serde::Deserialize;
use std::path::PathBuf;

/// The settings of one source. What a source does not say is `None`.
///
/// The file is TOML with the same names in `snake_case`; the environment has `SCHED_` before them in capitals. A flag wins over the
/// environment, the environment over the file.
#[derive(clap::Args, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Folder of everything this node keeps: its identity, the log, the tables, snapshots, output of tasks. Needs a disk that keeps what
    /// it has synced. No default: losing it by mistake must not be easy.
    #[arg(long, env = "SCHED_DATA_DIR", value_name = "FOLDER")]
    pub data_dir: Option<PathBuf>,

    /// Name of this node and of its worker, unique in the cluster. Default: the address it advertises to clients.
    #[arg(long, env = "SCHED_NAME", value_name = "NAME")]
    pub name: Option<String>,

    /// Where clients and workers are served, `host:port`. Anything but loopback needs `insecure`.
    #[arg(long, env = "SCHED_LISTEN", value_name = "HOST:PORT")]
    pub listen: Option<String>,

    /// Where the other nodes are served, `host:port`. Anything but loopback needs `insecure`.
    #[arg(long, env = "SCHED_PEER_LISTEN", value_name = "HOST:PORT")]
    pub peer_listen: Option<String>,

    /// How clients, workers and other nodes reach `listen`: a name, resolved at each dial. Default: the address bound.
    #[arg(long, env = "SCHED_ADVERTISE", value_name = "HOST:PORT")]
    pub advertise: Option<String>,

    /// How the other nodes reach `peer_listen`: a name, resolved at each dial. Default: the address bound.
    #[arg(long, env = "SCHED_PEER_ADVERTISE", value_name = "HOST:PORT")]
    pub peer_advertise: Option<String>,

    /// Peer addresses of all initial members, the same list on each of them. Read only while the data folder belongs to no cluster.
    #[arg(
        long,
        env = "SCHED_INITIAL_CLUSTER",
        value_name = "HOST:PORT,…",
        value_delimiter = ','
    )]
    pub initial_cluster: Option<Vec<String>>,

    /// Peer addresses of members of an existing cluster that this new node shall join. Excludes `initial_cluster`.
    #[arg(long, env = "SCHED_JOIN", value_name = "HOST:PORT,…", value_delimiter = ',')]
    pub join: Option<Vec<String>>,

    /// Serve other addresses than loopback without TLS: whoever reaches the ports can run commands on the workers.
    #[arg(long, env = "SCHED_INSECURE", value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true",
        value_parser = clap::builder::BoolishValueParser::new())]
    pub insecure: Option<bool>,

    /// Runs the worker of this node takes at once; 0 means that it has none.
    #[arg(long, env = "SCHED_SLOTS", value_name = "N")]
    pub slots: Option<u32>,

    /// Labels of the worker, `key=value`, for tasks to select by.
    #[arg(long, env = "SCHED_LABELS", value_name = "KEY=VALUE,…", value_delimiter = ',')]
    pub labels: Option<Vec<String>>,

    /// How the processes of a run are held together, so that none outlives it: `subreaper`, the default, by their supervisor alone;
    /// `cgroup2` and `cgroup1` (the freezer) in a cgroup too, for workers that start few; `auto` takes the strongest that there is.
    #[arg(long, env = "SCHED_CONTAINMENT", value_name = "HOW")]
    pub containment: Option<Containment>,

    /// A leader gives a sign of life this often, in milliseconds.
    #[arg(long, env = "SCHED_HEARTBEAT_MS", value_name = "MS")]
    pub heartbeat_ms: Option<u64>,

    /// Shortest time without a leader after which a node stands for election, in milliseconds. Too short, and a busy machine deposes
    /// its leader; longer delays the work after a leader died.
    #[arg(long, env = "SCHED_ELECTION_TIMEOUT_MS_MIN", value_name = "MS")]
    pub election_timeout_ms_min: Option<u64>,

    /// Longest such time, in milliseconds. The spread keeps two nodes from standing at the same moment.
    #[arg(long, env = "SCHED_ELECTION_TIMEOUT_MS_MAX", value_name = "MS")]
    pub election_timeout_ms_max: Option<u64>,

    /// Log entries after which the tables are saved as a snapshot and the log before it goes.
    #[arg(long, env = "SCHED_SNAPSHOT_ENTRIES", value_name = "N")]
    pub snapshot_entries: Option<u64>,

    /// Free space that the data folder's disk should keep, in MiB. While too few voters have it, new work is refused, and what ends or
    /// deletes something goes on out of it: a disk that is full stops its node. 0 means none.
    #[arg(long, env = "SCHED_DISK_RESERVE_MIB", value_name = "MIB")]
    pub disk_reserve_mib: Option<u64>,

    /// Connections of clients and workers at once; more wait to be accepted.
    #[arg(long, env = "SCHED_CONNECTIONS_MAX", value_name = "N")]
    pub connections_max: Option<u32>,

    /// Calls of clients in progress at once; more are refused with a delay to try again. A connection gets no more than it leaves to others:
    /// one alone half of them.
    #[arg(long, env = "SCHED_CALLS_MAX", value_name = "N")]
    pub calls_max: Option<u32>,

    /// The mail server that takes mails of tasks run here, `host:port`. Without one they fail.
    #[arg(long, env = "SCHED_SMTP_RELAY", value_name = "HOST:PORT")]
    pub smtp_relay: Option<String>,

    /// How the connection to it is protected: `none`, `starttls` (nothing is sent without it) or `tls` from the first byte.
    #[arg(long, env = "SCHED_SMTP_TLS", value_name = "HOW")]
    pub smtp_tls: Option<SmtpTls>,

    /// The name to log in to it with. Needs `smtp_password_file`.
    #[arg(long, env = "SCHED_SMTP_USER", value_name = "NAME")]
    pub smtp_user: Option<String>,

    /// File that holds the password and nothing else; read for each mail, so that it can be changed.
    #[arg(long, env = "SCHED_SMTP_PASSWORD_FILE", value_name = "FILE")]
    pub smtp_password_file: Option<PathBuf>,

    /// File of certificates, PEM, that are trusted beside those of the system when the relay shows its own; read for each mail.
    #[arg(long, env = "SCHED_SMTP_CA", value_name = "FILE")]
    pub smtp_ca: Option<PathBuf>,

    /// Sender of mails whose task names none.
    #[arg(long, env = "SCHED_SMTP_FROM", value_name = "ADDRESS")]
    pub smtp_from: Option<String>,

    /// What is logged, as `level` or `target=level,…`.
    #[arg(long, env = "SCHED_LOG", value_name = "FILTER")]
    pub log: Option<String>,

    /// Form of the log: `text` or `json`, one line each, on standard error.
    #[arg(long, env = "SCHED_LOG_FORMAT", value_name = "FORM")]
    pub log_format: Option<super::LogFormat>,
}

impl Settings {
    /// Returns these settings, completed by those of a source that counts less.
    pub fn or(self, less: Self) -> Self {
        Self {
            data_dir: self.data_dir.or(less.data_dir),
            name: self.name.or(less.name),
            listen: self.listen.or(less.listen),
            peer_listen: self.peer_listen.or(less.peer_listen),
            advertise: self.advertise.or(less.advertise),
            peer_advertise: self.peer_advertise.or(less.peer_advertise),
            initial_cluster: self.initial_cluster.or(less.initial_cluster),
            join: self.join.or(less.join),
            insecure: self.insecure.or(less.insecure),
            slots: self.slots.or(less.slots),
            labels: self.labels.or(less.labels),
            containment: self.containment.or(less.containment),
            heartbeat_ms: self.heartbeat_ms.or(less.heartbeat_ms),
            election_timeout_ms_min: self.election_timeout_ms_min.or(less.election_timeout_ms_min),
            election_timeout_ms_max: self.election_timeout_ms_max.or(less.election_timeout_ms_max),
            snapshot_entries: self.snapshot_entries.or(less.snapshot_entries),
            disk_reserve_mib: self.disk_reserve_mib.or(less.disk_reserve_mib),
            connections_max: self.connections_max.or(less.connections_max),
            calls_max: self.calls_max.or(less.calls_max),
            smtp_relay: self.smtp_relay.or(less.smtp_relay),
            smtp_tls: self.smtp_tls.or(less.smtp_tls),
            smtp_user: self.smtp_user.or(less.smtp_user),
            smtp_password_file: self.smtp_password_file.or(less.smtp_password_file),
            smtp_ca: self.smtp_ca.or(less.smtp_ca),
            smtp_from: self.smtp_from.or(less.smtp_from),
            log: self.log.or(less.log),
            log_format: self.log_format.or(less.log_format),
        }
    }
}
