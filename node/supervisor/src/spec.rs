//! What a supervisor is told on its command line, and the environment that goes through it.

use crate::Lease;
use crate::leaf::{Leaf, Version};
use sched_core::task::ProcessLimits;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;
use std::time::Duration;

/// Before each name in the supervisor's environment: the process's own environment means nothing to the supervisor, whose rights may be
/// greater.
const ENV_PREFIX: &str = "SCHED_CHILD_";
/// Between what is for the supervisor and the process's own arguments.
const ARGV_FOLLOWS: &str = "--";

/// What a supervisor has to know.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Spec {
    /// The process's program and arguments.
    pub argv: Vec<String>,
    /// Where it begins.
    pub dir: PathBuf,
    /// User and group, when they are not the supervisor's own.
    pub user: Option<(u32, u32)>,
    /// What it may use.
    pub limits: ProcessLimits,
    /// How long it may run.
    pub time_limit: Option<Duration>,
    /// Between asking it to end and killing it.
    pub grace: Duration,
    /// Since boot; it is not started later.
    pub starts_by: Option<Duration>,
    /// Without one it needs no contact.
    pub lease: Option<Lease>,
    /// Its cgroup.
    pub leaf: Option<Leaf>,
    /// A file of the worker: whoever holds it lives.
    pub lock: PathBuf,
}

impl Spec {
    /// Returns the arguments.
    pub fn encode(&self) -> Vec<OsString> {
        let mut args = Vec::new();
        let mut number = |name: &str, value: Option<u64>| {
            args.extend(value.map(|value| OsString::from(format!("{name}={value}"))));
        };
        let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        number("uid", self.user.map(|(uid, _)| uid.into()));
        number("gid", self.user.map(|(_, gid)| gid.into()));
        number("cpu_s", self.limits.cpu_s);
        number("memory_bytes", self.limits.memory_bytes);
        number("files", self.limits.files.map(u64::from));
        number("time_limit_ms", self.time_limit.map(millis));
        number("grace_ms", Some(millis(self.grace)));
        number("starts_by_ms", self.starts_by.map(millis));
        number("lease_since_ms", self.lease.map(|lease| millis(lease.since)));
        number("lease_ms", self.lease.map(|lease| millis(lease.length)));
        let mut path = |name: &str, path: &std::path::Path| {
            let mut arg = OsString::from(name);
            arg.push("=");
            arg.push(path);
            args.push(arg);
        };
        if let Some(leaf) = &self.leaf {
            path(leaf.version().name(), leaf.dir());
        }
        path("lock", &self.lock);
        path("dir", &self.dir);
        args.push(ARGV_FOLLOWS.into());
        args.extend(self.argv.iter().map(OsString::from));
        args
    }

    /// Reads the arguments; nothing when they are not those of this version.
    pub(crate) fn decode(args: impl IntoIterator<Item = OsString>) -> Option<Self> {
        let mut spec = Self::default();
        let (mut uid, mut gid, mut since, mut length) = (None, None, None, None);
        let mut args = args.into_iter();
        loop {
            let arg = args.next()?.into_vec();
            if arg == ARGV_FOLLOWS.as_bytes() {
                break;
            }
            let at = arg.iter().position(|byte| *byte == b'=')?;
            let (name, value) = (std::str::from_utf8(&arg[..at]).ok()?, OsStr::from_bytes(&arg[at + 1..]));
            let number = || value.to_str()?.parse::<u64>().ok();
            let millis = || Some(Duration::from_millis(number()?));
            match name {
                "uid" => uid = Some(u32::try_from(number()?).ok()?),
                "gid" => gid = Some(u32::try_from(number()?).ok()?),
                "cpu_s" => spec.limits.cpu_s = Some(number()?),
                "memory_bytes" => spec.limits.memory_bytes = Some(number()?),
                "files" => spec.limits.files = Some(u32::try_from(number()?).ok()?),
                "time_limit_ms" => spec.time_limit = Some(millis()?),
                "grace_ms" => spec.grace = millis()?,
                "starts_by_ms" => spec.starts_by = Some(millis()?),
                "lease_since_ms" => since = Some(millis()?),
                "lease_ms" => length = Some(millis()?),
                "lock" => spec.lock = value.into(),
                "dir" => spec.dir = value.into(),
                name => spec.leaf = Some(Leaf::new(Version::from_name(name)?, value.into())),
            }
        }
        spec.user = uid.zip(gid);
        spec.lease = since.zip(length).map(|(since, length)| Lease { since, length });
        spec.argv = args.map(|arg| arg.into_string().ok()).collect::<Option<_>>()?;
        (!spec.argv.is_empty()).then_some(spec)
    }
}

/// Returns a variable's name as the supervisor has it.
pub fn prefixed(name: &OsStr) -> OsString {
    let mut prefixed = OsString::from(ENV_PREFIX);
    prefixed.push(name);
    prefixed
}

/// Returns a variable's name as the process shall have it; nothing when it is not the process's.
pub(crate) fn without_prefix(name: &OsStr) -> Option<&OsStr> {
    name.as_bytes()
        .strip_prefix(ENV_PREFIX.as_bytes())
        .map(OsStr::from_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_is_understood() {
        let full = Spec {
            argv: vec!["/bin/sh".into(), "--".into(), "a=b".into(), String::new()],
            dir: "/a b/=c".into(),
            user: Some((34, 35)),
            limits: ProcessLimits {
                cpu_s: Some(1),
                memory_bytes: Some(u64::MAX),
                files: Some(3),
            },
            time_limit: Some(Duration::from_millis(1500)),
            grace: Duration::from_secs(5),
            starts_by: Some(Duration::from_secs(4)),
            lease: Some(Lease {
                since: Duration::from_secs(100),
                length: Duration::from_secs(10),
            }),
            leaf: Some(Leaf::new(Version::V2, "/sys/fs/cgroup/x".into())),
            lock: "/data/lock".into(),
        };
        let bare = Spec {
            argv: vec!["true".into()],
            ..Spec::default()
        };
        for spec in [full, bare] {
            assert_eq!(Spec::decode(spec.encode()), Some(spec));
        }
        for nonsense in [
            &["--"][..],
            &["dir=x"],
            &["what=1", "--", "x"],
            &["uid=-1", "--", "x"],
            &["x", "--", "y"],
        ] {
            assert_eq!(Spec::decode(nonsense.iter().map(OsString::from)), None, "{nonsense:?}");
        }
        assert_eq!(without_prefix(&prefixed("A".as_ref())), Some("A".as_ref()));
        assert_eq!(without_prefix("PATH".as_ref()), None);
    }
}
