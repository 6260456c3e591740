//! A witness outside the cluster: every start of a command task, as it happened.

use anyhow::{Context, Result, ensure};
use rustix::fs::{CWD, FileType, Mode, mknodat};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::unix::pipe;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

/// One start, told by the started process itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Start {
    /// `task:number`.
    pub run: String,
    /// From 1.
    pub attempt: u32,
    /// The fencing token.
    pub token: String,
    /// When it was due, as the process was told.
    pub scheduled_at: String,
    /// What the task was told to say.
    pub note: String,
    /// When it was heard, by this process's clock.
    pub heard: Instant,
}

/// Listens at a named pipe, into which each run writes one line: shorter than the kernel's atomic write, so lines never mix, and
/// heard the moment it is written, so that a test waits for starts and not for time.
#[derive(Debug)]
pub struct Recorder {
    pipe: PathBuf,
    starts: Arc<Mutex<Vec<Start>>>,
    count: watch::Receiver<usize>,
    listener: JoinHandle<()>,
}

impl Recorder {
    /// Makes the pipe and listens.
    ///
    /// # Errors
    /// The pipe cannot be made.
    pub fn at(pipe: PathBuf) -> Result<Self> {
        mknodat(CWD, &pipe, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)
            .with_context(|| format!("pipe {}", pipe.display()))?;
        // Open for writing too: otherwise the pipe is at its end whenever no run happens to be writing.
        let receiver = pipe::OpenOptions::new().read_write(true).open_receiver(&pipe)?;
        let starts = Arc::new(Mutex::new(Vec::new()));
        let (counted, count) = watch::channel(0);
        let listener = tokio::spawn(listen(receiver, Arc::clone(&starts), counted));
        Ok(Self {
            pipe,
            starts,
            count,
            listener,
        })
    }

    /// The command line of a task that tells of its start, with a note without blanks.
    pub fn argv(&self, note: &str) -> Vec<String> {
        self.argv_then(note, "")
    }

    /// As [`Recorder::argv`], followed by more shell.
    pub fn argv_then(&self, note: &str, more: &str) -> Vec<String> {
        let script = format!(
            "printf '%s %s %s %s %s\\n' \"$SCHED_RUN\" \"$SCHED_ATTEMPT\" \"$SCHED_TOKEN\" \"$SCHED_SCHEDULED_AT\" '{note}' >'{}'\n{more}",
            self.pipe.display()
        );
        vec!["/bin/sh".to_owned(), "-c".to_owned(), script]
    }

    /// The pipe, for scripts of a test's own; see [`Start`] for the fields of a line.
    pub fn path(&self) -> &Path {
        &self.pipe
    }

    /// Everything heard so far.
    pub fn starts(&self) -> Vec<Start> {
        lock(&self.starts).clone()
    }

    /// Everything heard so far, by note.
    pub fn by_note(&self) -> BTreeMap<String, Vec<Start>> {
        let mut by_note: BTreeMap<String, Vec<Start>> = BTreeMap::new();
        for start in self.starts() {
            by_note.entry(start.note.clone()).or_default().push(start);
        }
        by_note
    }

    /// Waits until something heard satisfies a condition, and returns what that gave.
    ///
    /// # Errors
    /// Nothing does within the limit.
    pub async fn until<T>(
        &self,
        what: &str,
        limit: Duration,
        mut found: impl FnMut(&[Start]) -> Option<T>,
    ) -> Result<T> {
        let mut count = self.count.clone();
        let wait = async {
            loop {
                // Before the look: what comes during the look wakes us again.
                count.borrow_and_update();
                if let Some(value) = found(&lock(&self.starts)) {
                    return Ok(value);
                }
                count.changed().await.context("the recorder has stopped listening")?;
            }
        };
        timeout(limit, wait)
            .await
            .with_context(|| format!("{what}: not within {limit:?}; {} starts heard", *self.count.borrow()))?
    }

    /// Waits for a number of starts with this note.
    ///
    /// # Errors
    /// They do not come within the limit.
    pub async fn hear(&self, note: &str, number: usize, limit: Duration) -> Result<Vec<Start>> {
        self.until(&format!("{number} starts of {note}"), limit, |starts| {
            let found: Vec<Start> = starts.iter().filter(|start| start.note == note).cloned().collect();
            (found.len() >= number).then_some(found)
        })
        .await
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.listener.abort();
    }
}

async fn listen(pipe: pipe::Receiver, starts: Arc<Mutex<Vec<Start>>>, count: watch::Sender<usize>) {
    let mut lines = BufReader::new(pipe).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        let heard = Instant::now();
        match parse(&line, heard) {
            Ok(start) => lock(&starts).push(start),
            // Kept as a start of nothing, so that a test that counts starts sees it.
            Err(error) => eprintln!("recorder: {line:?}: {error:#}"),
        }
        count.send_modify(|count| *count += 1);
    }
}

fn parse(line: &str, heard: Instant) -> Result<Start> {
    let fields: Vec<&str> = line.split(' ').collect();
    ensure!(fields.len() == 5, "expected run, attempt, token, due time and note");
    Ok(Start {
        run: fields[0].to_owned(),
        attempt: fields[1].parse().with_context(|| format!("attempt {:?}", fields[1]))?,
        token: fields[2].to_owned(),
        scheduled_at: fields[3].to_owned(),
        note: fields[4].to_owned(),
        heard,
    })
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
