//! The table of processes, as far as one needs it to find whose child a process is.

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use std::fs;
use std::io;
use std::path::Path;

/// A process as the table has it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stat {
    /// Its number.
    pub pid: i32,
    /// Its parent's.
    pub parent: i32,
    /// It has ended and was not asked for its status.
    pub ended: bool,
    /// When it started, in ticks since boot: together with the number it is never the same for two processes.
    started: u64,
}

impl Stat {
    /// Reads `pid (name) state parent …`. The name may contain anything, so the last parenthesis counts.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let text = String::from_utf8_lossy(text);
        let (front, rest) = text.rsplit_once(')')?;
        let (pid, _) = front.split_once(' ')?;
        let mut fields = rest.split_ascii_whitespace();
        let state = fields.next()?;
        let parent = fields.next()?.parse().ok()?;
        Some(Self {
            pid: pid.parse().ok()?,
            parent,
            ended: state == "Z" || state == "X",
            // Field 22 of the whole line, of which four are behind us.
            started: fields.nth(17).and_then(|field| field.parse().ok()).unwrap_or(0),
        })
    }

    /// Sends a signal to this process, and to no other that was given its number meanwhile. That it is gone is no error.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        let Some(pid) = Pid::from_raw(self.pid).filter(|pid| !pid.is_init()) else {
            return Ok(());
        };
        let gone_is_fine = |result: rustix::io::Result<()>| match result {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(e) => Err(io::Error::from(e)),
        };
        match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(process) => match read(Path::new("/proc"), self.pid) {
                Some(now) if now.started == self.started => gone_is_fine(pidfd_send_signal(&process, signal)),
                _ => Ok(()),
            },
            Err(rustix::io::Errno::SRCH) => Ok(()),
            // No pidfds here: the number was read a moment ago.
            Err(_) => gone_is_fine(rustix::process::kill_process(pid, signal)),
        }
    }
}

/// Reads the processes that `proc` lists, the newest number first, as they are asked for: what is young is what moves.
pub fn processes(proc: &Path) -> io::Result<impl Iterator<Item = Stat> + '_> {
    let mut pids: Vec<i32> = Vec::new();
    for entry in fs::read_dir(proc)? {
        pids.extend(entry?.file_name().to_str().and_then(|name| name.parse::<i32>().ok()));
    }
    pids.sort_unstable_by(|a, b| b.cmp(a));
    // A process may be gone since it was listed.
    Ok(pids.into_iter().filter_map(move |pid| read(proc, pid)))
}

fn read(proc: &Path, pid: i32) -> Option<Stat> {
    let text = fs::read(proc.join(pid.to_string()).join("stat")).ok()?;
    Stat::parse(&text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_whatever_the_name_is() {
        let line = |name: &str| format!("12 ({name}) S 7 1 1 0 -1 4194304 1 0 0 0 0 0 0 0 20 0 1 0 4711 1 1");
        for name in ["sh", "a) b", "x) Z 1 (y", ""] {
            let stat = Stat::parse(line(name).as_bytes()).unwrap();
            assert_eq!(
                (stat.pid, stat.parent, stat.ended, stat.started),
                (12, 7, false, 4711),
                "{name}"
            );
        }
        assert!(Stat::parse(b"13 (x) Z 7 0").is_some_and(|stat| stat.ended));
        for nonsense in [&b"14"[..], b"", b"x (y) S 1", b"15 (a) S", b"16 (a) S x"] {
            assert_eq!(Stat::parse(nonsense), None, "{}", String::from_utf8_lossy(nonsense));
        }
    }

    #[test]
    fn this_process_is_found_and_a_number_given_anew_is_not_signalled() {
        let this = rustix::process::getpid().as_raw_pid();
        let stat = processes(Path::new("/proc"))
            .unwrap()
            .find(|stat| stat.pid == this)
            .unwrap();
        assert!(!stat.ended && stat.started > 0);
        let other = Stat {
            started: stat.started + 1,
            ..stat
        };
        other.signal(Signal::KILL).unwrap();
    }
}
