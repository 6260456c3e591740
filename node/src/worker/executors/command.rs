//! `command`: a process, its user and limits, its input and output, and its whole group killed when it is over.

use super::process::{Grouped, Process};
use super::user::{self, User};
use super::{Executor, Outcome};
use crate::worker::output::OutputWriter;
use crate::worker::stop::{Cause, StopSignal, Urgency};
use crate::worker::supervisor::{Birth, End, Leave, Overruled, Supervision};
use crate::worker::wire::Job;
use futures::FutureExt;
use futures::future::BoxFuture;
use rustix::process::Signal;
use sched_core::task::{Action, ProcessLimits};
use sched_supervisor::birth;
use std::ffi::OsString;
use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::pipe;
use tokio::process::Command;
use tokio::time::timeout;

/// `EX_TEMPFAIL`: the process asks to be run again later.
const DELAY_ME_CODE: i32 = 75;
/// For how long, as an exit code cannot say.
const DELAY_ME_MS: u64 = 60_000;
/// When this machine has no process, memory or file handle left for a start.
const NO_RESOURCES_DELAY_MS: u64 = 5_000;
/// When the lease was too old for a start by the time it would have begun.
const TOO_LATE_DELAY_MS: u64 = 1_000;
/// After the end of a process, others that hold its output have this long to write their last words.
const LAST_WORDS: Duration = Duration::from_millis(1000);
/// As much as a pipe holds.
const READ_BYTES: usize = 64 * 1024;

/// What every process of a worker finds around it. Nothing else of the daemon's environment is passed on.
#[derive(Clone, Debug)]
pub struct Surroundings {
    /// Working directory unless the task names one; a relative one is taken from here.
    pub work_dir: PathBuf,
    /// `PATH`.
    pub path: OsString,
    /// `HOME`.
    pub home: OsString,
    /// `LANG`.
    pub lang: OsString,
}

impl Surroundings {
    /// Takes `PATH`, `HOME` and `LANG` from the daemon's own environment, with a default for each.
    pub fn from_environment(work_dir: PathBuf) -> Self {
        let get = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        Self {
            path: get("PATH").unwrap_or_else(|| "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".into()),
            home: get("HOME").unwrap_or_else(|| work_dir.clone().into()),
            lang: get("LANG").unwrap_or_else(|| "C.UTF-8".into()),
            work_dir,
        }
    }
}

/// Starts processes.
pub struct CommandExecutor {
    surroundings: Surroundings,
    /// Holds what runs, whatever becomes of the daemon.
    supervision: Option<Supervision>,
}

impl CommandExecutor {
    /// Returns an executor whose processes, with supervision, do not outlive the daemon, their lease or their time limit.
    pub fn new(surroundings: Surroundings, supervision: Option<Supervision>) -> Self {
        Self {
            surroundings,
            supervision,
        }
    }

    async fn run(&self, job: &Job, stop: &mut StopSignal, output: &mut OutputWriter) -> Outcome {
        let Action::Command {
            stdin,
            success_codes,
            dir,
            argv,
            user,
            limits,
            ..
        } = &job.action
        else {
            return Outcome::failure(format!("not a command: {}", job.action.kind()));
        };
        let user = match user.as_deref().map(user::find).transpose() {
            Ok(user) => user,
            Err(reason) => return Outcome::failure(reason),
        };
        let dir = self.dir(dir.as_deref(), user.as_ref());
        if !tokio::fs::metadata(&dir).await.is_ok_and(|meta| meta.is_dir()) {
            return Outcome::failure(format!(
                "the working directory {} does not exist on this worker",
                dir.display()
            ));
        }
        let program = argv.first().map_or("", String::as_str);
        let hold = match &self.supervision {
            None => None,
            Some(supervision) => tokio::select! {
                leave = supervision.leave() => Some((supervision, leave)),
                () = stop.reached(Urgency::Terminate) => return Outcome::stopped(),
            },
        };
        let (mut process, pipe, input) = match self.start(job, dir, user.as_ref(), hold) {
            Ok(started) => started,
            Err(e) => return not_started(program, &e),
        };
        let told = attend(&mut process, pipe, feed(input, stdin), stop, output).await;
        match process.reap().await {
            (End::NotStarted(e), _) => not_started(program, &e),
            (End::Unknown, _) => {
                Outcome::failure("the exit code is not known: the supervisor of the process was killed, and it with it")
            }
            (End::Exited(status), _) if told => Outcome::stopped().with_code(code_of(status)),
            (End::Exited(status), Some(overruled)) => {
                Outcome::ended_for(cause(overruled, job.time_limit)).with_code(code_of(status))
            }
            (End::Exited(status), None) => judge(status, success_codes, limits),
        }
    }

    /// The work folder is the worker's own: another user begins at home.
    fn dir(&self, dir: Option<&str>, user: Option<&User>) -> PathBuf {
        match (dir, user) {
            (None, Some(user)) => user.home.clone(),
            (dir, _) => self.surroundings.work_dir.join(dir.unwrap_or_default()),
        }
    }

    /// Starts the process, and returns the pipe that its output and its errors share, so that their order is kept, and the one for its
    /// input.
    fn start(
        &self,
        job: &Job,
        dir: PathBuf,
        user: Option<&User>,
        hold: Option<(&Supervision, Leave)>,
    ) -> io::Result<(Process, pipe::Receiver, Option<pipe::Sender>)> {
        let Action::Command {
            argv, stdin, limits, ..
        } = &job.action
        else {
            return Err(io::Error::new(ErrorKind::InvalidInput, "not a command"));
        };
        if argv.is_empty() {
            return Err(io::Error::new(ErrorKind::InvalidInput, "no program is named"));
        }
        let (reader, writer) = io::pipe()?;
        let (input, theirs) = if stdin.is_empty() {
            (None, Stdio::null())
        } else {
            let (theirs, ours) = io::pipe()?;
            (Some(pipe::Sender::from_owned_fd(ours.into())?), Stdio::from(theirs))
        };
        let env = self.environment(job, user);
        let birth = Birth {
            argv: argv.clone(),
            env,
            dir,
            user: user.map(|user| (user.uid, user.gid)),
            limits: *limits,
            stdin: theirs,
            output: writer,
        };
        let process = match hold {
            Some((supervision, leave)) => Process::Supervised(supervision.start(job, birth, leave)?),
            None => Process::Grouped(grouped(birth)?),
        };
        Ok((process, pipe::Receiver::from_owned_fd(OwnedFd::from(reader))?, input))
    }

    /// The task's own stands above the worker's, and what says which run it is above both.
    fn environment(&self, job: &Job, user: Option<&User>) -> Vec<(OsString, OsString)> {
        let Action::Command { env, .. } = &job.action else {
            return Vec::new();
        };
        let Surroundings { path, home, lang, .. } = &self.surroundings;
        let mut all: Vec<(OsString, OsString)> = vec![("PATH".into(), path.clone()), ("LANG".into(), lang.clone())];
        match user {
            Some(user) => {
                all.push(("HOME".into(), user.home.clone().into()));
                all.push(("USER".into(), user.name.clone().into()));
                all.push(("LOGNAME".into(), user.name.clone().into()));
            }
            None => all.push(("HOME".into(), home.clone())),
        }
        let owned = |(name, value): (String, String)| (name.into(), value.into());
        all.extend(env.clone().into_iter().map(owned));
        all.extend(identity(job).into_iter().map(owned));
        all
    }
}

/// Starts a process without a supervisor.
fn grouped(birth: Birth) -> io::Result<Grouped> {
    let errors = birth.output.try_clone()?;
    let (program, args) = birth.argv.split_first().ok_or(ErrorKind::InvalidInput)?;
    let mut command = Command::new(program);
    command.args(args).current_dir(birth.dir).env_clear().envs(birth.env);
    if let Some((uid, gid)) = birth.user {
        // Without other groups: the standard library leaves those of root behind.
        command.uid(uid).gid(gid);
    }
    command.stdin(birth.stdin).stdout(birth.output).stderr(errors);
    birth::at_birth(command.as_std_mut(), birth::Birth::limited(birth.limits));
    Grouped::spawn(&mut command)
}

impl Executor for CommandExecutor {
    fn execute<'a>(
        &'a self,
        job: &'a Job,
        stop: &'a mut StopSignal,
        output: &'a mut OutputWriter,
    ) -> BoxFuture<'a, Outcome> {
        self.run(job, stop, output).boxed()
    }
}

/// What tells a process who it is. It stands above the task's own environment.
fn identity(job: &Job) -> Vec<(String, String)> {
    let mut identity = vec![
        ("SCHED_TASK".to_owned(), job.run.task.to_string()),
        ("SCHED_RUN".to_owned(), job.run.to_string()),
        ("SCHED_ATTEMPT".to_owned(), job.attempt_number.to_string()),
        ("SCHED_TOKEN".to_owned(), job.token.to_string()),
        ("SCHED_SCHEDULED_AT".to_owned(), job.scheduled_at.to_string()),
    ];
    identity.extend(
        job.params
            .iter()
            .map(|(name, value)| (format!("SCHED_PARAM_{name}"), value.clone())),
    );
    identity
}

/// Looks after a process until it has ended, passing on its output and what it is told. Returns whether it was told to end.
async fn attend(
    process: &mut Process,
    pipe: pipe::Receiver,
    feed: impl Future<Output = ()>,
    stop: &mut StopSignal,
    output: &mut OutputWriter,
) -> bool {
    let mut told = Urgency::None;
    let (mut open, mut feeding) = (true, true);
    let mut pump = std::pin::pin!(pump(pipe, output));
    let mut feed = std::pin::pin!(feed);
    loop {
        let next = if told == Urgency::None {
            Urgency::Terminate
        } else {
            Urgency::Kill
        };
        tokio::select! {
            () = process.ended() => break,
            () = stop.reached(next), if told < Urgency::Kill => {
                told = stop.urgency();
                if told == Urgency::Kill {
                    process.kill();
                } else {
                    process.terminate();
                }
            }
            () = &mut pump, if open => open = false,
            () = &mut feed, if feeding => feeding = false,
        }
    }
    // Others may hold the pipe: they get a moment and are killed.
    if open && timeout(LAST_WORDS, &mut pump).await.is_err() {
        process.kill();
        let _ = timeout(LAST_WORDS, &mut pump).await;
    }
    told > Urgency::None
}

async fn pump(mut pipe: pipe::Receiver, output: &mut OutputWriter) {
    let mut buffer = Vec::with_capacity(4096);
    loop {
        match pipe.read_buf(&mut buffer).await {
            Ok(0) => return,
            Ok(_) => output.write(&buffer).await,
            Err(e) => {
                tracing::warn!(error = %e, "output of a process cannot be read");
                return;
            }
        }
        // Grown only for processes that write much.
        if buffer.len() == buffer.capacity() && buffer.capacity() < READ_BYTES {
            buffer = Vec::with_capacity(buffer.capacity() * 2);
        }
        buffer.clear();
    }
}

/// Writes the input. A process that does not read it, or not to its end, does nothing wrong.
async fn feed(stdin: Option<pipe::Sender>, bytes: &[u8]) {
    if let Some(mut stdin) = stdin {
        let _ = stdin.write_all(bytes).await;
    }
}

fn cause(overruled: Overruled, time_limit: Option<Duration>) -> Cause {
    match overruled {
        Overruled::Contact => Cause::ContactLost,
        Overruled::TimeLimit => Cause::TimeLimit(time_limit.unwrap_or_default()),
    }
}

fn judge(status: ExitStatus, success_codes: &[i32], limits: &ProcessLimits) -> Outcome {
    let code = code_of(status);
    let outcome = if let (Some(seconds), true) = (limits.cpu_s, status.signal() == Some(Signal::XCPU.as_raw())) {
        Outcome::failure(format!("used up its {seconds} s of processor time"))
    } else if let Some(signal) = status.signal() {
        Outcome::failure(format!("ended by signal {signal}"))
    } else if success_codes.contains(&code) || (success_codes.is_empty() && code == 0) {
        Outcome::success()
    } else if code == DELAY_ME_CODE {
        Outcome::delay_me(DELAY_ME_MS, format!("exit code {DELAY_ME_CODE}"))
    } else {
        Outcome::failure(format!("exit code {code}"))
    };
    outcome.with_code(code)
}

/// The exit code, or 128 and the signal, as shells count.
fn code_of(status: ExitStatus) -> i32 {
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
}

fn not_started(program: &str, error: &io::Error) -> Outcome {
    use rustix::io::Errno;
    let passing = [Errno::AGAIN, Errno::NOMEM, Errno::MFILE, Errno::NFILE, Errno::TXTBSY];
    let reason = format!("{program:?} cannot be started: {error}");
    match error.raw_os_error() {
        // Its supervisor's word. Nothing was tried that could have failed.
        Some(code) if code == Errno::TIME.raw_os_error() => {
            let reason = format!("{program:?} was not started: the last sign of life was acknowledged too long before");
            Outcome::delay_me(TOO_LATE_DELAY_MS, reason)
        }
        Some(code) if passing.iter().any(|errno| errno.raw_os_error() == code) => {
            Outcome::delay_me(NO_RESOURCES_DELAY_MS, reason)
        }
        _ => Outcome::failure(reason),
    }
}

#[cfg(test)]
#[path = "../tests/command.rs"]
mod tests;
