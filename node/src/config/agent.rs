//! What an agent is started with: the same sources as for a node, fewer settings.

use super::mail::{Mail, MailSettings};
use super::{
    ConfigError, FILE_BYTES_MAX, LOG_DEFAULT, LogFormat, SLOTS_DEFAULT, at_least_1, at_most, bad, check_name, labels,
    log_filter, members, print, read_toml,
};
use crate::worker::executors::{Relay, SmtpTls};
use crate::worker::supervisor::Containment;
use clap::Args as _;
use sched_core::limits::WORKER_SLOTS_MAX;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// For runs to end by themselves when the agent is told to leave, unless said otherwise.
const DRAIN_MS_DEFAULT: u64 = 10_000;
/// A day: what takes longer is drained by `schedcli workers drain` first.
const DRAIN_MS_MAX: u64 = 24 * 60 * 60 * 1000;

/// The settings of one source. What a source does not say is `None`.
///
/// The file is TOML with the same names in `snake_case`; the environment has `SCHED_` before them in capitals. A flag wins over the
/// environment, the environment over the file.
#[derive(clap::Args, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub struct AgentSettings {
    /// Folder of everything this agent keeps: its name, files and output of runs. No default: losing it by mistake must not be easy.
    #[arg(long, env = "SCHED_DATA_DIR", value_name = "FOLDER")]
    pub data_dir: Option<PathBuf>,

    /// Client addresses of nodes of the cluster, any of them, `host:port`; names are resolved at each dial. Anything but loopback needs
    /// `insecure`.
    #[arg(long, env = "SCHED_JOIN", value_name = "HOST:PORT,…", value_delimiter = ',')]
    pub join: Option<Vec<String>>,

    /// Name of the worker, unique in the cluster. Default: the host's and eight characters made with the folder.
    #[arg(long, env = "SCHED_NAME", value_name = "NAME")]
    pub name: Option<String>,

    /// Join over other addresses than loopback without TLS: whoever answers in a node's place can run commands here.
    #[arg(long, env = "SCHED_INSECURE", value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true",
        value_parser = clap::builder::BoolishValueParser::new())]
    pub insecure: Option<bool>,

    /// Runs it takes at once.
    #[arg(long, env = "SCHED_SLOTS", value_name = "N")]
    pub slots: Option<u32>,

    /// Labels, `key=value`, for tasks to select by.
    #[arg(long, env = "SCHED_LABELS", value_name = "KEY=VALUE,…", value_delimiter = ',')]
    pub labels: Option<Vec<String>>,

    /// How the processes of a run are held together, so that none outlives it: `subreaper`, the default, by their supervisor alone;
    /// `cgroup2` and `cgroup1` (the freezer) in a cgroup too, for workers that start few; `auto` takes the strongest that there is.
    #[arg(long, env = "SCHED_CONTAINMENT", value_name = "HOW")]
    pub containment: Option<Containment>,

    /// How long runs may go on when the agent is told to leave, in milliseconds; what is left then is asked to end.
    #[arg(long, env = "SCHED_DRAIN_MS", value_name = "MS")]
    pub drain_ms: Option<u64>,

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
    pub log_format: Option<LogFormat>,
}

impl AgentSettings {
    /// Reads a file of settings.
    ///
    /// # Errors
    /// As [`read_file`](super::read_file).
    pub fn read_file(path: &Path) -> Result<Self, ConfigError> {
        read_toml(path, FILE_BYTES_MAX)
    }

    /// Returns these settings, completed by those of a source that counts less.
    pub fn or(self, less: Self) -> Self {
        Self {
            data_dir: self.data_dir.or(less.data_dir),
            join: self.join.or(less.join),
            name: self.name.or(less.name),
            insecure: self.insecure.or(less.insecure),
            slots: self.slots.or(less.slots),
            labels: self.labels.or(less.labels),
            containment: self.containment.or(less.containment),
            drain_ms: self.drain_ms.or(less.drain_ms),
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

/// The effective configuration of an agent.
#[derive(Clone, Debug, Serialize, PartialEq)]
pub struct AgentConfig {
    /// See [`AgentSettings::data_dir`].
    pub data_dir: PathBuf,
    /// See [`AgentSettings::join`].
    pub join: Vec<String>,
    /// See [`AgentSettings::name`]; empty until the folder has given one.
    pub name: String,
    /// See [`AgentSettings::insecure`].
    pub insecure: bool,
    /// See [`AgentSettings::slots`].
    pub slots: u32,
    /// See [`AgentSettings::labels`].
    #[serde(serialize_with = "print::labels")]
    pub labels: BTreeMap<String, String>,
    /// See [`AgentSettings::containment`].
    pub containment: Containment,
    /// See [`AgentSettings::drain_ms`].
    pub drain_ms: u64,
    /// See [`AgentSettings::smtp_relay`] and what follows it.
    #[serde(flatten)]
    mail: Mail,
    /// See [`AgentSettings::log`].
    pub log: String,
    /// See [`AgentSettings::log_format`].
    pub log_format: LogFormat,
}

impl AgentConfig {
    /// Checks settings and fills in what they do not say.
    ///
    /// # Errors
    /// Names the first setting that is missing or not acceptable, and says what would be accepted.
    pub fn resolve(settings: AgentSettings) -> Result<Self, ConfigError> {
        let mail = Mail::resolve(MailSettings {
            relay: settings.smtp_relay,
            tls: settings.smtp_tls,
            user: settings.smtp_user,
            password_file: settings.smtp_password_file,
            ca: settings.smtp_ca,
            from: settings.smtp_from,
        })?;
        let data_dir = settings
            .data_dir
            .filter(|dir| !dir.as_os_str().is_empty())
            .ok_or(ConfigError::Missing {
                setting: "data_dir",
                hint: "give --data-dir FOLDER, or set SCHED_DATA_DIR",
            })?;
        let insecure = settings.insecure.unwrap_or(false);
        let join = members("join", settings.join)?;
        if join.is_empty() {
            return Err(ConfigError::Missing {
                setting: "join",
                hint: "give --join HOST:PORT,…, the client addresses of nodes of the cluster",
            });
        }
        if let Some(far) = join.iter().find(|address| !is_loopback(address)).filter(|_| !insecure) {
            let problem = "is not a loopback address, and without TLS whoever answers there can run commands on this machine; \
                           join over 127.0.0.1, or give --insecure when the network itself keeps others away";
            return Err(bad("join", far, problem));
        }
        let drain_ms = settings.drain_ms.unwrap_or(DRAIN_MS_DEFAULT);
        if drain_ms > DRAIN_MS_MAX {
            return Err(bad(
                "drain_ms",
                &drain_ms,
                format!("must be at most {DRAIN_MS_MAX}, which is a day"),
            ));
        }
        let name = settings.name.unwrap_or_default();
        check_name(&name)?;
        let slots = at_most("slots", settings.slots.unwrap_or(SLOTS_DEFAULT), WORKER_SLOTS_MAX)?;
        Ok(Self {
            data_dir,
            join,
            name,
            insecure,
            slots: at_least_1("slots", slots)?,
            labels: labels(settings.labels.unwrap_or_default())?,
            containment: settings.containment.unwrap_or_default(),
            drain_ms,
            mail,
            log: log_filter(settings.log.unwrap_or_else(|| LOG_DEFAULT.to_owned()))?,
            log_format: settings.log_format.unwrap_or_default(),
        })
    }

    /// Returns how long runs may go on when the agent leaves.
    pub fn drain(&self) -> Duration {
        Duration::from_millis(self.drain_ms)
    }

    /// Returns the relay that takes mails, if one is set.
    pub fn mail_relay(&self) -> Option<Relay> {
        self.mail.to_relay()
    }

    /// Returns the sender of mails whose task names none, if one is set.
    pub fn mail_from(&self) -> Option<String> {
        self.mail.to_sender()
    }

    /// Returns the configuration as TOML that can be used as a file, each setting below its documentation.
    pub fn to_toml(&self) -> String {
        print::toml_of(documented(), &toml::Table::try_from(self).unwrap_or_default())
    }

    /// Returns the configuration as JSON, one line.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}

fn documented() -> clap::Command {
    AgentSettings::augment_args(clap::Command::new("schednode agent"))
}

/// Returns the environment variables that look like a setting of an agent and are none.
pub fn unknown_agent_variables(names: impl Iterator<Item = String>) -> Vec<String> {
    print::unknown_of(&documented(), names)
}

fn is_loopback(address: &str) -> bool {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(join: &str) -> AgentSettings {
        AgentSettings {
            data_dir: Some("/d".into()),
            join: Some(join.split(',').map(str::to_owned).collect()),
            ..AgentSettings::default()
        }
    }

    fn refused(settings: AgentSettings) -> String {
        AgentConfig::resolve(settings).unwrap_err().to_string()
    }

    #[test]
    fn folder_and_nodes_have_no_default_and_the_rest_has() {
        let config = AgentConfig::resolve(settings("127.0.0.1:7400,[::1]:7400,localhost:1")).unwrap();
        assert_eq!(
            (config.slots, config.drain_ms, config.name.as_str()),
            (SLOTS_DEFAULT, 10_000, "")
        );
        let no_dir = AgentSettings {
            data_dir: None,
            ..settings("127.0.0.1:1")
        };
        assert!(refused(no_dir).contains("data_dir is not set"));
        assert!(refused(settings("")).contains("join is not set"));
        assert!(refused(settings("nonsense")).contains("expected host:port"));
    }

    #[test]
    fn another_machine_is_joined_only_when_the_network_is_said_to_be_safe() {
        let far = || settings("127.0.0.1:7400,node1.example.org:7400");
        assert!(refused(far()).contains("--insecure"));
        let insecure = AgentSettings {
            insecure: Some(true),
            ..far()
        };
        assert_eq!(AgentConfig::resolve(insecure).unwrap().join.len(), 2);
    }

    #[test]
    fn numbers_have_bounds() {
        let none = AgentSettings {
            slots: Some(0),
            ..settings("127.0.0.1:1")
        };
        assert!(refused(none).contains("slots"));
        let long = AgentSettings {
            drain_ms: Some(DRAIN_MS_MAX + 1),
            ..settings("127.0.0.1:1")
        };
        assert!(refused(long).contains("drain_ms"));
    }

    #[test]
    fn what_is_printed_is_read_again() {
        let mut settings = settings("127.0.0.1:7400");
        settings.name = Some("a".into());
        settings.labels = Some(vec!["gpu=yes".into()]);
        let config = AgentConfig::resolve(settings).unwrap();
        let text = config.to_toml();
        assert!(text.contains("# --drain-ms, SCHED_DRAIN_MS"), "{text}");
        let again: AgentSettings = toml::from_str(&text).unwrap();
        assert_eq!(AgentConfig::resolve(again).unwrap(), config);
        let unknown = unknown_agent_variables(["SCHED_SLOTS", "SCHED_LISTEN", "PATH"].map(str::to_owned).into_iter());
        assert_eq!(unknown, ["SCHED_LISTEN"], "a setting of nodes means nothing here");
    }
}
