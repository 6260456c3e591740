//! The users of this machine, as far as a process needs to know its own.

use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;

/// Read at most: larger lists of users are kept elsewhere.
const PASSWD_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// A user as `/etc/passwd` has it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct User {
    pub(super) name: String,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) home: PathBuf,
}

/// Looks a user up by name. Users that only a directory service knows are not found.
///
/// # Errors
/// Says why the worker cannot run a process as this user.
pub(super) fn find(name: &str) -> Result<User, String> {
    if !rustix::process::geteuid().is_root() {
        return Err(format!(
            "the task is to run as user {name:?}, for which the worker must run as root; it does not"
        ));
    }
    let file = std::fs::File::open("/etc/passwd").map_err(|e| format!("/etc/passwd: {e}"))?;
    let lines = BufReader::new(file.take(PASSWD_BYTES_MAX))
        .lines()
        .map_while(Result::ok);
    find_in(lines, name).ok_or_else(|| format!("user {name:?} is not in /etc/passwd of this worker"))
}

fn find_in(mut lines: impl Iterator<Item = String>, name: &str) -> Option<User> {
    lines.find_map(|line| {
        let mut fields = line.split(':');
        let found = fields.next().filter(|found| *found == name)?.to_owned();
        let (_password, uid, gid) = (
            fields.next()?,
            fields.next()?.parse().ok()?,
            fields.next()?.parse().ok()?,
        );
        let (_comment, home) = (fields.next()?, fields.next()?.into());
        Some(User {
            name: found,
            uid,
            gid,
            home,
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_found_by_their_whole_name() {
        let lines = || {
            [
                "root:x:0:0::/root:/bin/sh",
                "bad:x:y:1::/:",
                "backup:x:34:35:b:/var/backups:/x",
            ]
            .map(str::to_owned)
        };
        let backup = find_in(lines().into_iter(), "backup").unwrap();
        assert_eq!((backup.uid, backup.gid), (34, 35));
        assert_eq!(backup.home, PathBuf::from("/var/backups"));
        assert_eq!(find_in(lines().into_iter(), "back"), None);
        assert_eq!(find_in(lines().into_iter(), "bad"), None);
    }
}
