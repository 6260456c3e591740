//! What a node is started with: file, then environment, then flags; printed at start.
//!
//! [`Settings`] is what one source says; [`Config`] is what came of all of them, checked and with every default filled in.

mod agent;
mod mail;
mod print;
mod settings;

pub use agent::{AgentConfig, AgentSettings, unknown_agent_variables};
pub use print::{to_json, to_toml, unknown_variables};
pub use settings::Settings;

use crate::worker::executors::SmtpTls;
use crate::worker::supervisor::Containment;
use sched_core::limits::{LABELS_MAX, NAME_BYTES_MAX, WORKER_SLOTS_MAX};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};

/// Where clients are served when nothing else is said.
pub const LISTEN_DEFAULT: &str = "127.0.0.1:7400";
/// Where peers are served when nothing else is said.
pub const PEER_LISTEN_DEFAULT: &str = "127.0.0.1:7500";
/// Runs a node's worker takes at once: most tasks wait for something else than the processor.
const SLOTS_DEFAULT: u32 = 64;
/// Each connection costs some tens of KiB.
const CONNECTIONS_DEFAULT: u32 = 4096;
/// The proposer's own queue takes more; a call in progress costs at most its 64 KiB payload several times over.
const CALLS_DEFAULT: u32 = 4096;
/// Some write buffers of log and tables, a compaction of the tables of a million tasks, and a day of runs that end.
const DISK_RESERVE_MIB_DEFAULT: u64 = 512;
/// More than any disk has.
const DISK_RESERVE_MIB_MAX: u64 = 1 << 40;
/// What is logged when nothing else is said: the consensus library tells every step of every election, the database its whole set-up.
const LOG_DEFAULT: &str = "info,openraft=error,sched_storage::rocks=error";
/// Larger files are none of ours.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// Form of the log.
#[derive(clap::ValueEnum, Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// For machines.
    Json,
}

/// A setting that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("config file {path}: {problem}")]
    File {
        /// Which.
        path: PathBuf,
        /// What is wrong with it, with line and column.
        problem: String,
    },
    /// Something that has no default is missing.
    #[error("{setting} is not set and has no default: {hint}")]
    Missing {
        /// Which.
        setting: &'static str,
        /// How to set it.
        hint: &'static str,
    },
    /// A value is not acceptable.
    #[error("{setting} = {value:?}: {problem}")]
    Bad {
        /// Which.
        setting: &'static str,
        /// As given.
        value: String,
        /// What is wrong, and what would be accepted.
        problem: String,
    },
}

/// The effective configuration.
#[derive(Clone, Debug, Serialize, PartialEq)]
pub struct Config {
    /// See [`Settings::data_dir`].
    pub data_dir: PathBuf,
    /// See [`Settings::name`].
    pub name: String,
    /// See [`Settings::listen`].
    pub listen: SocketAddr,
    /// See [`Settings::peer_listen`].
    pub peer_listen: SocketAddr,
    /// See [`Settings::advertise`].
    pub advertise: String,
    /// See [`Settings::peer_advertise`].
    pub peer_advertise: String,
    /// See [`Settings::initial_cluster`].
    pub initial_cluster: Vec<String>,
    /// See [`Settings::join`].
    pub join: Vec<String>,
    /// See [`Settings::insecure`].
    pub insecure: bool,
    /// See [`Settings::slots`].
    pub slots: u32,
    /// See [`Settings::labels`].
    #[serde(serialize_with = "print::labels")]
    pub labels: BTreeMap<String, String>,
    /// See [`Settings::containment`].
    pub containment: Containment,
    /// See [`Settings::heartbeat_ms`].
    pub heartbeat_ms: u64,
    /// See [`Settings::election_timeout_ms_min`].
    pub election_timeout_ms_min: u64,
    /// See [`Settings::election_timeout_ms_max`].
    pub election_timeout_ms_max: u64,
    /// See [`Settings::snapshot_entries`].
    pub snapshot_entries: u64,
    /// See [`Settings::disk_reserve_mib`].
    pub disk_reserve_mib: u64,
    /// See [`Settings::connections_max`].
    pub connections_max: u32,
    /// See [`Settings::calls_max`].
    pub calls_max: u32,
    /// See [`Settings::smtp_relay`]; empty for none.
    pub smtp_relay: String,
    /// See [`Settings::smtp_tls`].
    pub smtp_tls: SmtpTls,
    /// See [`Settings::smtp_user`]; empty for none.
    pub smtp_user: String,
    /// See [`Settings::smtp_password_file`]; empty for none.
    pub smtp_password_file: PathBuf,
    /// See [`Settings::smtp_ca`]; empty for none.
    pub smtp_ca: PathBuf,
    /// See [`Settings::smtp_from`]; empty for none.
    pub smtp_from: String,
    /// See [`Settings::log`].
    pub log: String,
    /// See [`Settings::log_format`].
    pub log_format: LogFormat,
}

/// Reads a file of settings.
///
/// # Errors
/// It cannot be read, or has a key that is not known or a value of another type; the message has the line.
pub fn read_file(path: &Path) -> Result<Settings, ConfigError> {
    read_toml(path, FILE_BYTES_MAX)
}

fn read_toml<T: DeserializeOwned>(path: &Path, bytes_max: u64) -> Result<T, ConfigError> {
    let bad = |problem: String| ConfigError::File {
        path: path.to_owned(),
        problem,
    };
    let size = std::fs::metadata(path).map_err(|e| bad(e.to_string()))?.len();
    if size > bytes_max {
        return Err(bad(format!("has {size} bytes, the limit is {bytes_max}")));
    }
    let text = std::fs::read_to_string(path).map_err(|e| bad(e.to_string()))?;
    toml::from_str(&text).map_err(|e| bad(e.to_string().trim_end().to_owned()))
}

impl Config {
    /// Checks settings and fills in what they do not say.
    ///
    /// # Errors
    /// Names the first setting that is missing or not acceptable, and says what would be accepted.
    pub fn resolve(mut settings: Settings) -> Result<Self, ConfigError> {
        let mail = mail::Mail::resolve(mail::MailSettings {
            relay: settings.smtp_relay.take(),
            tls: settings.smtp_tls,
            user: settings.smtp_user.take(),
            password_file: settings.smtp_password_file.take(),
            ca: settings.smtp_ca.take(),
            from: settings.smtp_from.take(),
        })?;
        let data_dir = settings
            .data_dir
            .filter(|d| !d.as_os_str().is_empty())
            .ok_or(ConfigError::Missing {
                setting: "data_dir",
                hint: "give --data-dir FOLDER, or set SCHED_DATA_DIR",
            })?;
        let insecure = settings.insecure.unwrap_or(false);
        let listen = bind_address("listen", settings.listen.as_deref().unwrap_or(LISTEN_DEFAULT), insecure)?;
        let peer_listen = bind_address(
            "peer_listen",
            settings.peer_listen.as_deref().unwrap_or(PEER_LISTEN_DEFAULT),
            insecure,
        )?;
        if listen == peer_listen && listen.port() != 0 {
            return Err(bad(
                "peer_listen",
                &peer_listen,
                "is the same as listen; each needs a port of its own",
            ));
        }
        let advertise = advertised("advertise", settings.advertise, listen)?;
        let peer_advertise = advertised("peer_advertise", settings.peer_advertise, peer_listen)?;
        let initial_cluster = members("initial_cluster", settings.initial_cluster)?;
        let join = members("join", settings.join)?;
        if !initial_cluster.is_empty() && !join.is_empty() {
            let problem = "excludes initial_cluster: a new node either forms a cluster or joins one";
            return Err(bad("join", &join.join(","), problem));
        }
        if !initial_cluster.is_empty() && peer_listen.port() != 0 && !initial_cluster.contains(&peer_advertise) {
            let problem = format!("does not contain this node, which is {peer_advertise} (peer_advertise)");
            return Err(bad("initial_cluster", &initial_cluster.join(","), problem));
        }
        let config = Self {
            name: name(settings.name, &advertise)?,
            data_dir,
            listen,
            peer_listen,
            advertise,
            peer_advertise,
            initial_cluster,
            join,
            insecure,
            slots: at_most("slots", settings.slots.unwrap_or(SLOTS_DEFAULT), WORKER_SLOTS_MAX)?,
            labels: labels(settings.labels.unwrap_or_default())?,
            containment: settings.containment.unwrap_or_default(),
            heartbeat_ms: settings.heartbeat_ms.unwrap_or(sched_raft::HEARTBEAT_MS_DEFAULT),
            election_timeout_ms_min: settings
                .election_timeout_ms_min
                .unwrap_or(sched_raft::ELECTION_TIMEOUT_MS_DEFAULT.start),
            election_timeout_ms_max: settings
                .election_timeout_ms_max
                .unwrap_or(sched_raft::ELECTION_TIMEOUT_MS_DEFAULT.end),
            snapshot_entries: settings.snapshot_entries.unwrap_or(20_000),
            disk_reserve_mib: disk_reserve(settings.disk_reserve_mib.unwrap_or(DISK_RESERVE_MIB_DEFAULT))?,
            connections_max: at_least_1(
                "connections_max",
                settings.connections_max.unwrap_or(CONNECTIONS_DEFAULT),
            )?,
            calls_max: at_least_1("calls_max", settings.calls_max.unwrap_or(CALLS_DEFAULT))?,
            smtp_relay: mail.relay,
            smtp_tls: mail.tls,
            smtp_user: mail.user,
            smtp_password_file: mail.password_file,
            smtp_ca: mail.ca,
            smtp_from: mail.from,
            log: log_filter(settings.log.unwrap_or_else(|| LOG_DEFAULT.to_owned()))?,
            log_format: settings.log_format.unwrap_or_default(),
        };
        config.check_timing()?;
        Ok(config)
    }

    fn check_timing(&self) -> Result<(), ConfigError> {
        if !(10..=10_000).contains(&self.heartbeat_ms) {
            return Err(bad("heartbeat_ms", &self.heartbeat_ms, "must be from 10 to 10000"));
        }
        if self.election_timeout_ms_min < 3 * self.heartbeat_ms || self.election_timeout_ms_min > 60_000 {
            let problem = format!("must be from {} (three heartbeats) to 60000", 3 * self.heartbeat_ms);
            return Err(bad("election_timeout_ms_min", &self.election_timeout_ms_min, problem));
        }
        if self.election_timeout_ms_max <= self.election_timeout_ms_min || self.election_timeout_ms_max > 120_000 {
            let problem = format!(
                "must be more than {} (the shortest) and at most 120000",
                self.election_timeout_ms_min
            );
            return Err(bad("election_timeout_ms_max", &self.election_timeout_ms_max, problem));
        }
        if self.snapshot_entries == 0 {
            return Err(bad("snapshot_entries", &self.snapshot_entries, "must be at least 1"));
        }
        Ok(())
    }

    /// Fills in the ports the system chose, when port 0 was asked for.
    pub fn bound(&mut self, listen: SocketAddr, peer_listen: SocketAddr) {
        for (configured, bound, advertised) in [
            (&mut self.listen, listen, &mut self.advertise),
            (&mut self.peer_listen, peer_listen, &mut self.peer_advertise),
        ] {
            if *advertised == configured.to_string() {
                if self.name == *advertised {
                    self.name = bound.to_string();
                }
                *advertised = bound.to_string();
            }
            *configured = bound;
        }
    }
}

fn bad(setting: &'static str, value: &dyn ToString, problem: impl Into<String>) -> ConfigError {
    ConfigError::Bad {
        setting,
        value: value.to_string(),
        problem: problem.into(),
    }
}

fn bind_address(setting: &'static str, value: &str, insecure: bool) -> Result<SocketAddr, ConfigError> {
    let expected = "expected host:port, for example 127.0.0.1:7400";
    let found = value
        .to_socket_addrs()
        .map_err(|e| bad(setting, &value, format!("{e}; {expected}")))?
        .next();
    let address = found.ok_or_else(|| bad(setting, &value, format!("resolves to no address; {expected}")))?;
    if !address.ip().is_loopback() && !insecure {
        let problem = "is not a loopback address, and without TLS whoever reaches it can run commands; \
                       bind 127.0.0.1, or give --insecure when the network itself keeps others away";
        return Err(bad(setting, &value, problem));
    }
    Ok(address)
}

fn advertised(setting: &'static str, value: Option<String>, bound: SocketAddr) -> Result<String, ConfigError> {
    match value {
        Some(value) => member_address(setting, value),
        None if bound.ip().is_unspecified() => Err(ConfigError::Missing {
            setting,
            hint: "the node listens on every address, so it cannot know by which name the others reach it; give host:port",
        }),
        None => Ok(bound.to_string()),
    }
}

/// Longest address: a DNS name has at most 253 bytes, a port five digits.
const ADDRESS_BYTES_MAX: usize = 260;

/// Checks the form only: names are resolved at each dial.
fn member_address(setting: &'static str, value: String) -> Result<String, ConfigError> {
    let value = value.trim().to_owned();
    let fine = value.len() <= ADDRESS_BYTES_MAX
        && value.rsplit_once(':').is_some_and(|(host, port)| {
            !host.is_empty()
                && port.parse::<u16>().is_ok_and(|port| port > 0)
                && (host.starts_with('[') && host.ends_with(']')
                    || host.chars().all(|c| c.is_ascii_alphanumeric() || ".-_".contains(c)))
        });
    if fine {
        Ok(value)
    } else {
        Err(bad(
            setting,
            &value,
            "expected host:port, for example node1.example.org:7500",
        ))
    }
}

fn members(setting: &'static str, values: Option<Vec<String>>) -> Result<Vec<String>, ConfigError> {
    let mut found: Vec<String> = Vec::new();
    // A variable that is set but empty says nothing.
    for value in values
        .unwrap_or_default()
        .into_iter()
        .filter(|value| !value.trim().is_empty())
    {
        let value = member_address(setting, value)?;
        if found.contains(&value) {
            return Err(bad(setting, &value, "is listed twice"));
        }
        found.push(value);
    }
    if found.len() > 9 {
        return Err(bad(
            setting,
            &found.len(),
            "members are too many; three or five vote well, nine are the limit",
        ));
    }
    Ok(found)
}

fn name(value: Option<String>, advertise: &str) -> Result<String, ConfigError> {
    let value = value.filter(|v| !v.is_empty()).unwrap_or_else(|| advertise.to_owned());
    check_name(&value)?;
    Ok(value)
}

fn check_name(value: &str) -> Result<(), ConfigError> {
    if value.len() > NAME_BYTES_MAX || value.chars().any(char::is_control) {
        return Err(bad(
            "name",
            &value,
            format!("must have at most {NAME_BYTES_MAX} bytes and no control characters"),
        ));
    }
    Ok(())
}

fn labels(values: Vec<String>) -> Result<BTreeMap<String, String>, ConfigError> {
    let mut found = BTreeMap::new();
    for value in values.into_iter().filter(|value| !value.is_empty()) {
        let Some((key, label)) = value.split_once('=').filter(|(key, _)| !key.is_empty()) else {
            return Err(bad("labels", &value, "expected key=value"));
        };
        if key.len() > NAME_BYTES_MAX || label.len() > NAME_BYTES_MAX || value.chars().any(char::is_control) {
            let problem = format!("key and value have at most {NAME_BYTES_MAX} bytes each and no control characters");
            return Err(bad("labels", &value, problem));
        }
        if found.insert(key.to_owned(), label.to_owned()).is_some() {
            return Err(bad("labels", &value, "the key is given twice"));
        }
    }
    if found.len() > LABELS_MAX {
        return Err(bad(
            "labels",
            &found.len(),
            format!("labels are too many; the limit is {LABELS_MAX}"),
        ));
    }
    Ok(found)
}

fn at_most(setting: &'static str, value: u32, most: u32) -> Result<u32, ConfigError> {
    if value <= most {
        Ok(value)
    } else {
        Err(bad(setting, &value, format!("must be at most {most}")))
    }
}

fn disk_reserve(mib: u64) -> Result<u64, ConfigError> {
    if mib <= DISK_RESERVE_MIB_MAX {
        Ok(mib)
    } else {
        Err(bad(
            "disk_reserve_mib",
            &mib,
            format!("must be at most {DISK_RESERVE_MIB_MAX}"),
        ))
    }
}

fn at_least_1(setting: &'static str, value: u32) -> Result<u32, ConfigError> {
    if value >= 1 {
        Ok(value)
    } else {
        Err(bad(setting, &value, "must be at least 1"))
    }
}

fn log_filter(value: String) -> Result<String, ConfigError> {
    match value.parse::<tracing_subscriber::filter::Targets>() {
        Ok(_) => Ok(value),
        Err(e) => Err(bad(
            "log",
            &value,
            format!("{e}; expected for example info or schednode=debug,sched_raft=info"),
        )),
    }
}

#[cfg(test)]
mod tests;
