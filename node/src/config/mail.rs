//! The settings of mail: a relay, how to log in to it, and a default sender.

use super::{Config, ConfigError, bad, member_address};
use crate::worker::executors::{Relay, SmtpTls, certificates};
use sched_core::validate;
use serde::Serialize;
use std::path::{Path, PathBuf};

/// What the sources say of it.
#[derive(Debug, Default)]
pub(super) struct MailSettings {
    pub(super) relay: Option<String>,
    pub(super) tls: Option<SmtpTls>,
    pub(super) user: Option<String>,
    pub(super) password_file: Option<PathBuf>,
    pub(super) ca: Option<PathBuf>,
    pub(super) from: Option<String>,
}

/// What is set of it; empty where nothing is.
#[derive(Clone, PartialEq, Serialize, Debug, Default)]
pub(super) struct Mail {
    #[serde(rename = "smtp_relay")]
    pub(super) relay: String,
    #[serde(rename = "smtp_tls")]
    pub(super) tls: SmtpTls,
    #[serde(rename = "smtp_user")]
    pub(super) user: String,
    #[serde(rename = "smtp_password_file")]
    pub(super) password_file: PathBuf,
    #[serde(rename = "smtp_ca")]
    pub(super) ca: PathBuf,
    #[serde(rename = "smtp_from")]
    pub(super) from: String,
}

impl Mail {
    /// Checks the settings of mail.
    pub(super) fn resolve(settings: MailSettings) -> Result<Self, ConfigError> {
        let mail = Self {
            relay: settings.relay.unwrap_or_default(),
            tls: settings.tls.unwrap_or_default(),
            user: settings.user.unwrap_or_default(),
            password_file: settings.password_file.unwrap_or_default(),
            ca: settings.ca.unwrap_or_default(),
            from: settings.from.unwrap_or_default(),
        };
        if mail.relay.is_empty() {
            mail.needs_a_relay()?;
        } else {
            member_address("smtp_relay", mail.relay.clone())?;
            mail.check_login()?;
            mail.check_ca()?;
        }
        if !mail.from.is_empty() {
            validate::mail_address("smtp_from", &mail.from).map_err(|_| {
                bad(
                    "smtp_from",
                    &mail.from,
                    "expected a plain address, for example sched@example.org",
                )
            })?;
        }
        Ok(mail)
    }

    /// Returns the relay that takes mails, if one is set.
    pub(super) fn to_relay(&self) -> Option<Relay> {
        if self.relay.is_empty() {
            return None;
        }
        let (host, port) = host_and_port(&self.relay);
        Some(Relay {
            host: host.to_owned(),
            port,
            tls: self.tls,
            ca: Some(self.ca.clone()).filter(|ca| !ca.as_os_str().is_empty()),
            login: (!self.user.is_empty()).then(|| (self.user.clone(), self.password_file.clone())),
        })
    }

    /// Returns the sender of mails whose task names none, if one is set.
    pub(super) fn to_sender(&self) -> Option<String> {
        Some(self.from.clone()).filter(|from| !from.is_empty())
    }

    /// A login without a relay is a mistake that would show only when the first mail fails.
    fn needs_a_relay(&self) -> Result<(), ConfigError> {
        let problem = "means something only together with smtp_relay, for example mail.example.org:587";
        if !self.user.is_empty() {
            return Err(bad("smtp_user", &self.user, problem));
        }
        if !self.password_file.as_os_str().is_empty() {
            return Err(bad("smtp_password_file", &self.password_file.display(), problem));
        }
        if !self.ca.as_os_str().is_empty() {
            return Err(bad("smtp_ca", &self.ca.display(), problem));
        }
        Ok(())
    }

    fn check_ca(&self) -> Result<(), ConfigError> {
        let file = &self.ca;
        if file.as_os_str().is_empty() {
            return Ok(());
        }
        if self.tls == SmtpTls::None {
            let problem = "means something only with smtp_tls, starttls or tls";
            return Err(bad("smtp_ca", &file.display(), problem));
        }
        readable("smtp_ca", file)?;
        certificates(file)
            .map(drop)
            .map_err(|e| bad("smtp_ca", &file.display(), e))
    }

    fn check_login(&self) -> Result<(), ConfigError> {
        let file = &self.password_file;
        match (self.user.is_empty(), file.as_os_str().is_empty()) {
            (true, true) => return Ok(()),
            (false, false) => {}
            (false, true) => {
                let problem = "needs smtp_password_file, a file that holds the password and nothing else";
                return Err(bad("smtp_user", &self.user, problem));
            }
            (true, false) => {
                let problem = "needs smtp_user, the name that the password belongs to";
                return Err(bad("smtp_password_file", &file.display(), problem));
            }
        }
        if self.tls == SmtpTls::None && !is_loopback(&self.relay) {
            let problem = "would send the password of smtp_user in the clear; expected starttls or tls for a relay on another machine";
            return Err(bad("smtp_tls", &"none", problem));
        }
        readable("smtp_password_file", file)
    }
}

fn readable(field: &'static str, file: &Path) -> Result<(), ConfigError> {
    match std::fs::File::open(file).and_then(|file| file.metadata()) {
        Ok(meta) if meta.is_file() => Ok(()),
        Ok(_) => Err(bad(field, &file.display(), "is no file")),
        Err(e) => Err(bad(
            field,
            &file.display(),
            format!("{e}; expected a file that this process can read"),
        )),
    }
}

fn is_loopback(relay: &str) -> bool {
    let (host, _) = host_and_port(relay);
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// Splits a checked address; an IPv6 address loses its brackets.
fn host_and_port(relay: &str) -> (&str, u16) {
    let (host, port) = relay.rsplit_once(':').unwrap_or((relay, ""));
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    (bare.unwrap_or(host), port.parse().unwrap_or(0))
}

impl Config {
    fn mail(&self) -> Mail {
        Mail {
            relay: self.smtp_relay.clone(),
            tls: self.smtp_tls,
            user: self.smtp_user.clone(),
            password_file: self.smtp_password_file.clone(),
            ca: self.smtp_ca.clone(),
            from: self.smtp_from.clone(),
        }
    }

    /// Returns the relay that takes mails, if one is set.
    pub fn mail_relay(&self) -> Option<Relay> {
        self.mail().to_relay()
    }

    /// Returns the sender of mails whose task names none, if one is set.
    pub fn mail_from(&self) -> Option<String> {
        self.mail().to_sender()
    }
}
