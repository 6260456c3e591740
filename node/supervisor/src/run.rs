//! The supervisor itself: what `main` does when it is given [`SUPERVISOR_ARG`](crate::SUPERVISOR_ARG).
//!
//! Two threads: one starts the process and takes the statuses of all that end below it, the other listens to the agent, watches the clock and
//! kills. The process ends when the kernel says that it has no children: nothing is left, and nothing more can come.

use crate::Lease;
use crate::birth;
use crate::clock;
use crate::spec::{Spec, without_prefix};
use crate::tree::Tree;
use rustix::io::Errno;
use rustix::process::{Pid, WaitOptions, getpid, set_child_subreaper, wait};
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

/// Between asking the tree of a dead agent to end and killing it: the lease of the dead worker runs on.
const ABANDONED_GRACE: Duration = Duration::from_secs(2);
/// Longest sleep: timers stand still while the machine is suspended, and what is overdue is seen then.
const SLEEP_MAX: Duration = Duration::from_secs(1);
/// Between two rounds of killing, at first and at last.
const KILL_AGAIN: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(50));
/// Longer orders are none of ours.
const ORDER_BYTES_MAX: u64 = 128;

/// Supervises the process that the arguments describe, to its end and that of everything it started.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    // The socket comes in place of standard error: nothing else of the agent is open here.
    let agent = match io::stderr().as_fd().try_clone_to_owned() {
        Ok(fd) => UnixStream::from(fd),
        Err(_) => return ExitCode::FAILURE,
    };
    let done = Spec::decode(args)
        .ok_or_else(|| io::Error::from(Errno::INVAL))
        .and_then(|spec| supervise(spec, &agent));
    if let Err(e) = done {
        tell(
            &agent,
            &format!("failed {}", e.raw_os_error().unwrap_or(Errno::IO.raw_os_error())),
        );
    }
    ExitCode::SUCCESS
}

/// Says something to the agent. One that is gone need not hear it.
fn tell(mut agent: &UnixStream, what: &str) {
    let _ = agent.write_all(format!("{what}\n").as_bytes());
}

fn supervise(spec: Spec, agent: &UnixStream) -> io::Result<()> {
    // Until this process ends.
    let lock = File::options().create(true).append(true).open(&spec.lock)?;
    lock.lock_shared()?;
    set_child_subreaper(Some(getpid()))?;
    let tree = Arc::new(Tree::below_this_process(spec.leaf.clone()));
    if spec.starts_by.is_some_and(|by| by <= clock::boot()) {
        // The agent was stopped between its decision and this moment.
        return Err(Errno::TIME.into());
    }
    let started = clock::boot();
    let main = start(&spec, agent, &tree).inspect_err(|_| {
        if let Some(leaf) = tree.leaf() {
            leaf.remove();
        }
    })?;
    tell(agent, &format!("started {}", main.as_raw_pid()));
    let watch = Watch {
        tree: tree.clone(),
        agent: agent.try_clone()?,
        lease: spec.lease,
        limit: spec.time_limit.map(|limit| started + limit),
        grace: spec.grace,
        told: None,
    };
    // Ends with this process.
    thread::spawn(move || watch.run());
    reap(main, agent);
    if let Some(leaf) = tree.leaf() {
        leaf.kill_all();
    }
    Ok(())
}

/// Starts the process, and lets go of what is its own: whoever reads its output shall see the end of it.
fn start(spec: &Spec, agent: &UnixStream, tree: &Tree) -> io::Result<Pid> {
    let joins = match tree.leaf().map(crate::leaf::Leaf::create) {
        Some(Ok(file)) => Some(file),
        Some(Err(e)) => {
            tell(agent, &format!("warning no cgroup: {e}"));
            None
        }
        None => None,
    };
    let (program, args) = spec.argv.split_first().ok_or(Errno::INVAL)?;
    let mut command = Command::new(program);
    command
        .args(args)
        .current_dir(&spec.dir)
        .env_clear()
        .envs(std::env::vars_os().filter_map(|(name, value)| Some((without_prefix(&name)?.to_owned(), value))));
    if let Some((uid, gid)) = spec.user {
        // Without other groups: the standard library leaves those of root behind.
        command.uid(uid).gid(gid);
    }
    let errors = io::stdout().as_fd().try_clone_to_owned()?;
    command
        .process_group(0)
        .stdin(Stdio::inherit())
        .stdout(Stdio::inherit())
        .stderr(errors);
    birth::at_birth(
        &mut command,
        birth::Birth::supervised(joins.map(Into::into), spec.limits),
    );
    let child = command.spawn()?;
    drop(command);
    birth::let_go_of_stdio()?;
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    // Its status is taken below, with those of all others.
    pid.ok_or_else(|| Errno::CHILD.into())
}

/// Takes the statuses of all that end, tells the agent that of the process itself, and returns when nothing is left.
fn reap(main: Pid, agent: &UnixStream) {
    loop {
        match wait(WaitOptions::empty()) {
            Ok(Some((pid, status))) if pid == main => tell(agent, &format!("ended {}", status.as_raw())),
            Ok(_) | Err(Errno::INTR) => {}
            // No children. There is no other error.
            Err(_) => return,
        }
    }
}

/// How urgently the tree is to end.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Urgency {
    Terminate,
    Kill,
}

/// Listens to the agent and watches the clock.
struct Watch {
    tree: Arc<Tree>,
    agent: UnixStream,
    /// Without one it needs no contact.
    lease: Option<Lease>,
    /// When the time limit is over.
    limit: Option<Duration>,
    grace: Duration,
    told: Option<Urgency>,
}

impl Watch {
    fn run(mut self) {
        let Ok(orders) = self.agent.try_clone() else {
            // Without orders there would be no end.
            return self.kill();
        };
        let mut orders = BufReader::new(orders);
        let mut line = Vec::new();
        loop {
            let now = clock::boot();
            match self.due(now) {
                Some((Urgency::Kill, why)) => {
                    self.overrule(why);
                    return self.kill();
                }
                Some((Urgency::Terminate, why)) => {
                    self.overrule(why);
                    self.terminate();
                }
                _ => {}
            }
            let patience = self.next_deadline(now).saturating_sub(now).min(SLEEP_MAX);
            if self
                .agent
                .set_read_timeout(Some(patience.max(Duration::from_millis(1))))
                .is_err()
            {
                return self.kill();
            }
            match (&mut orders).take(ORDER_BYTES_MAX).read_until(b'\n', &mut line) {
                Ok(_) if line.ends_with(b"\n") => {
                    let over = self.obey(&line);
                    line.clear();
                    if over {
                        return self.kill();
                    }
                }
                // The end, perhaps within a line: the agent is gone. So is one that makes no sense.
                Ok(_) => return self.abandoned(),
                Err(e)
                    if matches!(
                        e.kind(),
                        ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted
                    ) => {}
                Err(_) => return self.abandoned(),
            }
        }
    }

    /// Returns what the clock asks for.
    fn due(&self, now: Duration) -> Option<(Urgency, &'static str)> {
        let lease = self
            .lease
            .and_then(|lease| step(now, lease.terminate_at(), lease.kill_at()));
        let limit = self.limit.and_then(|at| step(now, at, at + self.grace));
        let lease = lease.map(|urgency| (urgency, "contact"));
        let limit = limit.map(|urgency| (urgency, "limit"));
        match (lease, limit) {
            (Some(a), Some(b)) => Some(if b.0 > a.0 { b } else { a }),
            (a, b) => a.or(b),
        }
    }

    fn next_deadline(&self, now: Duration) -> Duration {
        let lease = self.lease.map(|lease| [lease.terminate_at(), lease.kill_at()]);
        let limit = self.limit.map(|at| [at, at + self.grace]);
        let later = lease.into_iter().chain(limit).flatten().filter(|at| *at > now);
        later.fold(now + SLEEP_MAX, Duration::min)
    }

    /// Tells the agent that its order was not waited for.
    fn overrule(&self, why: &str) {
        if self.told.is_none() {
            tell(&self.agent, &format!("overruled {why}"));
        }
    }

    /// Does what the agent says. Returns whether all is to be killed.
    fn obey(&mut self, line: &[u8]) -> bool {
        let line = String::from_utf8_lossy(line);
        let mut words = line.split_ascii_whitespace();
        match words.next() {
            Some("lease") => {
                let mut millis = || Some(Duration::from_millis(words.next()?.parse().ok()?));
                if let (Some(lease), Some(since), Some(length)) = (&mut self.lease, millis(), millis()) {
                    *lease = Lease { since, length };
                }
            }
            Some("terminate") => self.terminate(),
            Some("kill") => return true,
            // Of a newer version; it does without.
            _ => {}
        }
        false
    }

    /// Asks once: many programs take a second time for impatience.
    fn terminate(&mut self) {
        if self.told.replace(Urgency::Terminate).is_some() {
            return;
        }
        if let Err(e) = self.tree.terminate() {
            tell(
                &self.agent,
                &format!("warning not all processes were asked to end: {e}"),
            );
        }
    }

    /// Nobody is there any more who could give an order.
    fn abandoned(mut self) {
        self.terminate();
        // Less when the lease or the limit say so.
        let end = clock::boot() + ABANDONED_GRACE;
        loop {
            let now = clock::boot();
            if now >= end || matches!(self.due(now), Some((Urgency::Kill, _))) {
                return self.kill();
            }
            thread::sleep((end - now).min(KILL_AGAIN.1));
        }
    }

    /// Kills, again and again, until this process ends because it has no children any more.
    fn kill(self) {
        let mut pause = KILL_AGAIN.0;
        let mut failed = false;
        loop {
            if let Err(e) = self.tree.kill()
                && !std::mem::replace(&mut failed, true)
            {
                tell(
                    &self.agent,
                    &format!("warning not all processes were killed at once: {e}"),
                );
            }
            thread::sleep(pause);
            pause = (pause * 2).min(KILL_AGAIN.1);
        }
    }
}

fn step(now: Duration, terminate_at: Duration, kill_at: Duration) -> Option<Urgency> {
    if now >= kill_at {
        Some(Urgency::Kill)
    } else {
        (now >= terminate_at).then_some(Urgency::Terminate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn watch(lease: Option<Lease>, limit: Option<Duration>) -> (Watch, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let watch = Watch {
            tree: Arc::new(Tree::below_this_process(None)),
            agent: ours,
            lease,
            limit,
            grace: s(5),
            told: None,
        };
        (watch, theirs)
    }

    #[test]
    fn lease_and_limit_are_watched_and_the_more_urgent_counts() {
        let lease = Lease {
            since: s(100),
            length: s(10),
        };
        let table = [
            (Some(lease), None, 105, None, 106),
            (Some(lease), None, 106, Some((Urgency::Terminate, "contact")), 107),
            (Some(lease), None, 108, Some((Urgency::Kill, "contact")), 109),
            (None, Some(s(105)), 104, None, 105),
            (None, Some(s(105)), 105, Some((Urgency::Terminate, "limit")), 106),
            (None, Some(s(105)), 110, Some((Urgency::Kill, "limit")), 111),
            (Some(lease), Some(s(103)), 108, Some((Urgency::Kill, "contact")), 109),
            (Some(lease), Some(s(101)), 106, Some((Urgency::Kill, "limit")), 107),
            (None, None, 1_000_000, None, 1_000_001),
        ];
        for (lease, limit, now, due, next) in table {
            let (watch, _agent) = watch(lease, limit);
            assert!(watch.due(s(now)) == due, "{lease:?} {limit:?} at {now}");
            assert_eq!(watch.next_deadline(s(now)), s(next), "{lease:?} {limit:?} at {now}");
        }
    }

    #[test]
    fn orders_are_obeyed_and_nonsense_is_not() {
        let lease = Lease {
            since: s(100),
            length: s(10),
        };
        let (mut watch, _agent) = watch(Some(lease), None);
        for nonsense in [
            &b"\n"[..],
            b"lease\n",
            b"lease x 1\n",
            b"lease 1\n",
            b"what 1 2\n",
            b"\xff\n",
        ] {
            assert!(!watch.obey(nonsense));
            assert_eq!(watch.lease, Some(lease), "{nonsense:?}");
        }
        assert!(!watch.obey(b"lease 200000 9000\n"));
        assert_eq!(
            watch.lease,
            Some(Lease {
                since: s(200),
                length: s(9)
            })
        );
        assert!(watch.obey(b"kill\n"));
        watch.lease = None;
        watch.obey(b"lease 200000 9000\n");
        assert_eq!(
            watch.lease, None,
            "what goes on without contact is not bound by it later"
        );
    }
}
