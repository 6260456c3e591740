//! The settings of mail: a relay, how to log in to it, and a default sender.

use super::{Config, ConfigError, Settings, bad, member_address};
use crate::worker::executors::{Relay, SmtpTls, certificates};
use sched_core::validate;
use std::path::{Path, PathBuf};

/// What is set of it; empty where nothing is.
#[derive(Debug, Default)]
pub(super) struct Mail {
    pub(super) relay: String,
    pub(super) tls: SmtpTls,
    pub(super) user: String,
    pub(super) password_file: PathBuf,
    pub(super) ca: PathBuf,
    pub(super) from: String,
}

impl Mail {
    /// Takes the settings of mail out of all, and checks them.
    pub(super) fn resolve(settings: &mut Settings) -> Result<Self, ConfigError> {
        let text = |value: &mut Option<String>| value.take().unwrap_or_default();
        let mail = Self {
            relay: text(&mut settings.smtp_relay),
            tls: settings.smtp_tls.unwrap_or_default(),
            user: text(&mut settings.smtp_user),
            password_file: settings.smtp_password_file.take().unwrap_or_default(),
            ca: settings.smtp_ca.take().unwrap_or_default(),
            from: text(&mut settings.smtp_from),
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
    /// Returns the relay that takes mails, if one is set.
    pub fn mail_relay(&self) -> Option<Relay> {
        if self.smtp_relay.is_empty() {
            return None;
        }
        let (host, port) = host_and_port(&self.smtp_relay);
        Some(Relay {
            host: host.to_owned(),
            port,
            tls: self.smtp_tls,
            ca: Some(self.smtp_ca.clone()).filter(|ca| !ca.as_os_str().is_empty()),
            login: (!self.smtp_user.is_empty()).then(|| (self.smtp_user.clone(), self.smtp_password_file.clone())),
        })
    }

    /// Returns the sender of mails whose task names none, if one is set.
    pub fn mail_from(&self) -> Option<String> {
        Some(self.smtp_from.clone()).filter(|from| !from.is_empty())
    }
}
