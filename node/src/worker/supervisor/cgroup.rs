//! Cgroups of runs, where there are some that this process may write: version 2 with `cgroup.kill`, or the freezer of version 1.

use sched_core::hash;
use sched_supervisor::{Leaf, Version};
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

/// How the processes of a run are held together.
#[derive(clap::ValueEnum, Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Containment {
    /// The strongest there is.
    Auto,
    /// Cgroups of version 2.
    Cgroup2,
    /// The freezer cgroup of version 1.
    Cgroup1,
    /// No cgroups: the supervisor alone. The default: making, entering and removing a cgroup takes locks of the whole system, and
    /// two hundred starts at once, the backlog after a fault, were seen to stand in their queue for half a minute.
    #[default]
    Subreaper,
}

/// The cgroup below which a worker's runs have theirs.
#[derive(Debug)]
pub(super) struct Cgroups {
    version: Version,
    dir: PathBuf,
}

impl Cgroups {
    /// Makes the worker's cgroup below the one this process is in. The name is that of the worker's folder: the next life finds it again.
    ///
    /// # Errors
    /// What is asked for cannot be used; says why.
    pub(super) fn find(containment: Containment, worker_dir: &Path) -> Result<Option<Self>, String> {
        let versions: &[Version] = match containment {
            Containment::Auto => &[Version::V2, Version::V1],
            Containment::Cgroup2 => &[Version::V2],
            Containment::Cgroup1 => &[Version::V1],
            Containment::Subreaper => &[],
        };
        let name = format!("sched-{:016x}", folder_hash(worker_dir));
        let mut reasons = Vec::new();
        for version in versions {
            match usable(*version, &name) {
                Ok(dir) => return Ok(Some(Self { version: *version, dir })),
                Err(reason) => reasons.push(format!("{}: {reason}", version.name())),
            }
        }
        if matches!(containment, Containment::Auto | Containment::Subreaper) {
            for reason in reasons {
                tracing::debug!(reason, "cgroups cannot be used");
            }
            return Ok(None);
        }
        Err(format!(
            "containment {}; delegate the cgroup to this process, or choose auto or subreaper",
            reasons.join(", ")
        ))
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Returns the cgroup of one run; its supervisor makes it.
    pub(super) fn leaf(&self, name: &str) -> Leaf {
        Leaf::new(self.version, self.dir.join(name))
    }

    /// Kills and removes what a former life has left: its supervisors did not come to it.
    pub(super) fn clear(&self) {
        let Ok(entries) = fs::read_dir(&self.dir) else { return };
        for entry in entries.flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                let leaf = Leaf::new(self.version, entry.path());
                leaf.kill_all();
                tracing::info!(cgroup = %leaf.dir().display(), "cleared what was left of a former life");
            }
        }
    }
}

impl Drop for Cgroups {
    fn drop(&mut self) {
        // Stays while runs are in it.
        let _ = fs::remove_dir(&self.dir);
    }
}

fn folder_hash(dir: &Path) -> u64 {
    use std::os::unix::ffi::OsStrExt;
    let dir = fs::canonicalize(dir).unwrap_or_else(|_| dir.to_owned());
    hash::stable(dir.as_os_str().as_bytes())
}

/// Makes the cgroup and looks whether it has what is needed.
fn usable(version: Version, name: &str) -> Result<PathBuf, String> {
    let read = |path: &str| fs::read_to_string(path).map_err(|e| format!("{path}: {e}"));
    let own = own_dir(version, &read("/proc/self/mountinfo")?, &read("/proc/self/cgroup")?)?;
    let dir = own.join(name);
    let failed = |path: &Path, e: io::Error| format!("{}: {e}", path.display());
    match fs::create_dir(&dir) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(failed(&dir, e)),
        _ => {}
    }
    // Moving a process needs the right to write where it goes, and in version 2 where both come from.
    for file in [
        dir.join(version.join_file()),
        dir.join(version.kill_file()),
        own.join(version.join_file()),
    ] {
        File::options().write(true).open(&file).map_err(|e| failed(&file, e))?;
    }
    Ok(dir)
}

/// Returns the folder of the cgroup this process is in.
fn own_dir(version: Version, mounts: &str, memberships: &str) -> Result<PathBuf, String> {
    let path = memberships
        .lines()
        .filter_map(|line| {
            let (_, rest) = line.split_once(':')?;
            rest.split_once(':')
        })
        .find(|(controllers, _)| match version {
            Version::V1 => controllers.split(',').any(|controller| controller == "freezer"),
            Version::V2 => controllers.is_empty(),
        })
        .map(|(_, path)| path)
        .ok_or("this process is in none")?;
    let (root, mounted) = mounts
        .lines()
        .find_map(|line| mount_of(version, line))
        .ok_or("none is mounted")?;
    let outside = || format!("the cgroup {path} of this process is not below the mount {mounted}");
    let below = path.strip_prefix(root.trim_end_matches('/')).ok_or_else(outside)?;
    if below.split('/').any(|part| part == "..") {
        return Err(outside());
    }
    Ok(Path::new(&mounted).join(below.trim_start_matches('/')))
}

/// Reads `id parent device root mountpoint options … - type source options`.
fn mount_of(version: Version, line: &str) -> Option<(String, String)> {
    let (front, back) = line.split_once(" - ")?;
    let mut back = back.split(' ');
    let fits = match version {
        Version::V1 => back.next()? == "cgroup" && back.nth(1)?.split(',').any(|option| option == "freezer"),
        Version::V2 => back.next()? == "cgroup2",
    };
    let mut front = front.split(' ').skip(3);
    let (root, mounted) = (front.next()?, front.next()?);
    // Spaces and the like are escaped; nobody mounts cgroups there.
    (fits && !mounted.contains('\\')).then(|| (root.to_owned(), mounted.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "\
23 1 8:1 / / rw - ext4 /dev/root rw
37 31 0:34 / /sys/fs/cgroup/freezer rw,relatime shared:9 - cgroup cgroup rw,freezer
38 31 0:35 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu
41 31 0:38 /box /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
";

    #[test]
    fn the_cgroup_of_this_process_is_found_below_its_mount() {
        let member = "9:name=systemd:/\n6:cpu,freezer:/a/b\n0::/box/c.service\n";
        let found = |version, memberships| own_dir(version, MOUNTS, memberships);
        assert_eq!(
            found(Version::V1, member).unwrap(),
            Path::new("/sys/fs/cgroup/freezer/a/b")
        );
        assert_eq!(
            found(Version::V2, member).unwrap(),
            Path::new("/sys/fs/cgroup/unified/c.service")
        );
        assert_eq!(
            found(Version::V2, "0::/box\n").unwrap(),
            Path::new("/sys/fs/cgroup/unified")
        );
        for memberships in ["0::/elsewhere\n", "0::/box/../x\n", "0::/../x\n", "6:freezer:/\n", ""] {
            assert!(found(Version::V2, memberships).is_err(), "{memberships:?}");
        }
        assert!(
            own_dir(Version::V2, "", member)
                .unwrap_err()
                .contains("none is mounted")
        );
    }
}
