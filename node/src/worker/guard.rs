//! Kills what a worker runs when the worker itself dies: a second process of the same program that watches a pipe.
//!
//! The worker writes `+<group>` when a process group starts and `-<group>` when it is over. When the pipe ends, because the worker is gone
//! in whatever way, the groups that are left are asked to end and soon killed: before the worker's lease is over and their runs
//! start elsewhere. The guard is no parent of theirs, so it can itself die and be started again without harm.

use rustix::process::{Pid, Signal, kill_process_group};
use std::collections::BTreeSet;
use std::io::{self, BufRead};
use std::path::PathBuf;
use std::process::{ExitCode, Stdio};
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::mpsc;

/// The argument with which the daemon becomes a guard, instead of any other.
pub const GUARD_ARG: &str = "guard-process-groups";
/// Between asking groups to end and killing them: the lease of the dead worker runs on.
const GRACE: Duration = Duration::from_secs(2);
/// Before a guard that has died is started again.
const RESTART_DELAY: Duration = Duration::from_secs(1);
/// Changes on their way to the guard. Beyond it a group goes unguarded, with a line in the log.
const QUEUE: usize = 4096;

/// The worker's end. Clones feed the same guard; it ends when the last is dropped.
#[derive(Clone, Debug)]
pub struct Guard {
    changes: mpsc::Sender<Change>,
}

#[derive(Clone, Copy, Debug)]
enum Change {
    Started(Pid),
    Ended(Pid),
}

impl Guard {
    /// Starts `program` as a guard, and again whenever it dies. Must be called within a runtime.
    pub fn start(program: PathBuf) -> Self {
        let (changes, rx) = mpsc::channel(QUEUE);
        // Ends when the last sender is dropped; the guard itself ends with its pipe.
        tokio::spawn(keep_guard(program, rx));
        Self { changes }
    }

    /// Watches a group until the answer is dropped.
    pub fn watch(&self, group: Pid) -> Guarded {
        self.tell(Change::Started(group));
        Guarded {
            guard: self.clone(),
            group,
        }
    }

    fn tell(&self, change: Change) {
        if let Err(e) = self.changes.try_send(change) {
            tracing::warn!(?change, error = %e, "the guard of processes was not told");
        }
    }
}

/// A group under guard.
#[derive(Debug)]
pub struct Guarded {
    guard: Guard,
    group: Pid,
}

impl Drop for Guarded {
    fn drop(&mut self) {
        self.guard.tell(Change::Ended(self.group));
    }
}

async fn keep_guard(program: PathBuf, mut changes: mpsc::Receiver<Change>) {
    let mut groups = BTreeSet::new();
    while !changes.is_closed() {
        match start(&program) {
            Ok((mut child, pipe)) => {
                let gone = tokio::select! {
                    passed = pass_on(&mut groups, pipe, &mut changes) => passed.map_err(|e| e.to_string()),
                    status = child.wait() => Err(status.map_or_else(|e| e.to_string(), |status| status.to_string())),
                };
                if let Err(reason) = gone {
                    tracing::warn!(reason, "the guard of processes is gone; starting another");
                }
            }
            Err(e) => tracing::warn!(program = %program.display(), error = %e, "no guard of processes"),
        }
        // Meanwhile the set stays right, so that nothing is forgotten when the next guard starts.
        let pause = tokio::time::sleep(RESTART_DELAY);
        tokio::pin!(pause);
        loop {
            tokio::select! {
                () = &mut pause => break,
                change = changes.recv() => match change {
                    Some(change) => { note(&mut groups, change); }
                    None => return,
                },
            }
        }
    }
}

fn start(program: &PathBuf) -> io::Result<(Child, ChildStdin)> {
    let mut command = Command::new(program);
    // A group of its own: what the terminal sends to the worker is not for the guard.
    command.arg(GUARD_ARG).process_group(0);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::inherit())
        .spawn()?;
    let pipe = child
        .stdin
        .take()
        .ok_or_else(|| io::Error::other("the guard has no pipe"))?;
    Ok((child, pipe))
}

/// Passes changes on until the worker has no more (`Ok`) or the guard is gone.
async fn pass_on(
    groups: &mut BTreeSet<i32>,
    mut pipe: ChildStdin,
    changes: &mut mpsc::Receiver<Change>,
) -> io::Result<()> {
    let known: String = groups.iter().map(|group| format!("+{group}\n")).collect();
    pipe.write_all(known.as_bytes()).await?;
    while let Some(change) = changes.recv().await {
        // Noted first: when the writing is cut short, the next guard is told.
        let line = note(groups, change);
        pipe.write_all(line.as_bytes()).await?;
    }
    Ok(())
}

fn note(groups: &mut BTreeSet<i32>, change: Change) -> String {
    match change {
        Change::Started(group) => {
            groups.insert(group.as_raw_pid());
            format!("+{}\n", group.as_raw_pid())
        }
        Change::Ended(group) => {
            groups.remove(&group.as_raw_pid());
            format!("-{}\n", group.as_raw_pid())
        }
    }
}

/// Is the guard: what `main` does when it is given [`GUARD_ARG`].
pub fn main() -> ExitCode {
    let left = groups_left(io::stdin().lock());
    for signal in [Signal::TERM, Signal::KILL] {
        let mut any = false;
        for group in &left {
            any |= kill_process_group(*group, signal).is_ok();
        }
        if any && signal == Signal::TERM {
            std::thread::sleep(GRACE);
        }
    }
    ExitCode::SUCCESS
}

/// Reads changes to their end and returns the groups that have not ended. Lines that make no sense are left out.
fn groups_left(input: impl BufRead) -> Vec<Pid> {
    let mut groups = BTreeSet::new();
    for line in input.split(b'\n').map_while(Result::ok) {
        let Some((sign, number)) = std::str::from_utf8(&line)
            .ok()
            .and_then(|line| line.split_at_checked(1))
        else {
            continue;
        };
        // Numbers below 2 are "my own group" and init to the system, and never what was meant.
        let Some(group) = number.parse::<i32>().ok().filter(|group| *group > 1) else {
            continue;
        };
        match sign {
            "+" => drop(groups.insert(group)),
            "-" => drop(groups.remove(&group)),
            _ => {}
        }
    }
    groups.into_iter().filter_map(Pid::from_raw).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn groups_that_did_not_end_are_left_and_nonsense_is_not() {
        let input = b"+10\n+11\n-10\n\n+0\n+1\n+-5\n+x\n?12\n+\xff\n+99999999999\n+13";
        let left: Vec<i32> = groups_left(input.as_slice()).into_iter().map(Pid::as_raw_pid).collect();
        assert_eq!(left, [11, 13]);
    }

    #[tokio::test]
    async fn a_guard_that_dies_is_replaced_and_told_everything_again() {
        let dir = tempfile::tempdir().unwrap();
        let (program, pipe) = (dir.path().join("guard"), dir.path().join("told"));
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        // Dies after its first line; says which that was.
        let script = format!("#!/bin/sh\nread line\necho \"$line\" > '{}'\n", pipe.display());
        std::fs::write(&program, script).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o700)).unwrap();
        let guard = Guard::start(program);
        let told = || async { tokio::fs::read_to_string(&pipe).await.unwrap() };
        let _first = guard.watch(Pid::from_raw(101).unwrap());
        assert_eq!(told().await, "+101\n");
        let second = guard.watch(Pid::from_raw(102).unwrap());
        drop(second);
        assert_eq!(told().await, "+101\n", "the next guard hears of what still runs");
    }
}
