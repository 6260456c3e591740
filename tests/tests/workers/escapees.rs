//! Processes that do everything to outlive the run that started them, and the witness that hears when none is left.

use anyhow::{Context, Result, bail, ensure};
use rustix::fs::{CWD, FileType, Mode, mknodat};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncBufReadExt, BufReader, Interest};
use tokio::net::unix::pipe;
use tokio::time::{timeout, timeout_at};

/// Escape tries of one run: one process each.
pub(crate) const TRIES: usize = 5;
/// Between the close of a dying process's files and its end.
const DYING: Duration = Duration::from_millis(500);

/// What a process does first to get away, in shell; it ignores being asked to end in any case. All leave the group, the session and their
/// parent twice.
const WAYS: [&str; TRIES] = [
    "",
    "cd /;",
    // Stopped: only a kill reaches it.
    "kill -STOP $$;",
    // Nothing of the run's environment is left.
    "[ -n \"$BARE\" ] || exec env -i BARE=1 PATH=/usr/bin:/bin sh -c \"$SELF\" sh \"$SELF\";",
    // Its children are orphans at once, and new ones come all the time.
    "while :; do (sleep 0.3 &) ; sleep 0.1; done;",
];

/// Listens to the processes of one run: each tells its number, then holds the pipe open as long as it lives.
pub(crate) struct Witness {
    path: PathBuf,
    pipe: BufReader<pipe::Receiver>,
    /// Holds the pipe open until the processes do.
    until_then: Option<pipe::Sender>,
}

impl Witness {
    /// Makes the pipe and listens.
    pub(crate) fn at(path: PathBuf) -> Result<Self> {
        mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)
            .with_context(|| format!("pipe {}", path.display()))?;
        let pipe = BufReader::new(pipe::OpenOptions::new().open_receiver(&path)?);
        let until_then = Some(pipe::OpenOptions::new().open_sender(&path)?);
        Ok(Self { path, pipe, until_then })
    }

    /// The command line of a run that starts a chain of processes, each of which starts the next and ends.
    pub(crate) fn chain(&self) -> Vec<String> {
        let script = format!(
            "trap '' TERM HUP; exec 9>'{}'; echo $$ >&9; (setsid sh -c 'f() {{ f & }}; f' &); while :; do sleep 1000; done",
            self.path.display()
        );
        vec!["/bin/sh".to_owned(), "-c".to_owned(), script]
    }

    /// Waits until a run has told a process's number.
    pub(crate) async fn one_there(&mut self, limit: Duration) -> Result<()> {
        let mut line = String::new();
        timeout(limit, self.pipe.read_line(&mut line))
            .await
            .context("the run has not started")??;
        self.until_then = None;
        Ok(())
    }

    /// The command line of a run that starts the processes and goes on itself.
    pub(crate) fn argv(&self) -> Vec<String> {
        let mut script = format!("trap '' TERM HUP; exec 9>'{}'\n", self.path.display());
        for way in WAYS {
            let process =
                format!("trap '' TERM HUP; echo $$ >&9; SELF=$1; export SELF; {way} while :; do sleep 1000; done");
            script.push_str(&format!("body={}\n", quoted(&process)));
            script.push_str("(setsid sh -c '(setsid sh -c \"$1\" sh \"$1\" &)' sh \"$body\" &)\n");
        }
        script.push_str("while :; do sleep 1000; done\n");
        vec!["/bin/sh".to_owned(), "-c".to_owned(), script]
    }

    /// Waits until all processes of a run are there, and returns what notices their end.
    pub(crate) async fn all_there(&mut self, limit: Duration) -> Result<Vec<(i32, AsyncFd<std::os::fd::OwnedFd>)>> {
        let mut there = Vec::new();
        let mut line = String::new();
        while there.len() < TRIES {
            line.clear();
            let read = timeout(limit, self.pipe.read_line(&mut line)).await;
            let read = read.with_context(|| format!("{} of {TRIES} processes are there", there.len()))??;
            ensure!(
                read > 0,
                "the run ended with {} of {TRIES} processes there",
                there.len()
            );
            let number: i32 = line
                .trim()
                .parse()
                .with_context(|| format!("a process's number: {line:?}"))?;
            // The one that starts itself anew tells its number again.
            if there.iter().any(|(known, _)| *known == number) {
                continue;
            }
            let pid = Pid::from_raw(number).context("a number is positive")?;
            let fd = pidfd_open(pid, PidfdFlags::empty()).with_context(|| format!("process {number}"))?;
            #[expect(deprecated, reason = "its successor is unsafe; an `OwnedFd` owns its descriptor")]
            let fd = AsyncFd::with_interest(fd, Interest::READABLE)?;
            there.push((number, fd));
        }
        self.until_then = None;
        Ok(there)
    }

    /// Waits until nobody holds the pipe any more: neither the run nor any of its descendants. Returns when that was.
    pub(crate) async fn all_gone(&mut self, limit: Duration) -> Result<Instant> {
        let end = async {
            let mut line = Vec::new();
            while self.pipe.read_until(b'\n', &mut line).await? > 0 {
                line.clear();
            }
            std::io::Result::Ok(())
        };
        match timeout(limit, end).await {
            Ok(read) => read?,
            Err(_) => bail!("not all were gone within {limit:?}; left: {:?}", holders(&self.path)),
        }
        Ok(Instant::now())
    }
}

/// Waits until processes have ended: each has its own witness in the kernel. One that dies lets go of the pipe a moment before it has ended.
pub(crate) async fn ended(processes: &[(i32, AsyncFd<std::os::fd::OwnedFd>)]) -> Result<()> {
    let end = tokio::time::Instant::now() + DYING;
    let mut alive = Vec::new();
    for (pid, process) in processes {
        match timeout_at(end, process.readable()).await {
            Ok(ended) => drop(ended?),
            Err(_) => alive.push(*pid),
        }
    }
    ensure!(alive.is_empty(), "survivors: {alive:?}");
    Ok(())
}

/// The command lines of those who hold a pipe.
fn holders(path: &std::path::Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let fds = fs::read_dir(entry.path().join("fd")).into_iter().flatten().flatten();
        if fds
            .filter_map(|fd| fs::read_link(fd.path()).ok())
            .any(|target| target == path)
        {
            let line = fs::read_to_string(entry.path().join("cmdline")).unwrap_or_default();
            found.push(format!(
                "{} {:.200}",
                entry.file_name().to_string_lossy(),
                line.replace('\0', " ")
            ));
        }
    }
    found
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}
