//! A witness outside the cluster and outside every fault: each process of a task, from its start to its end, however it ends.

use crate::checker::Process;
use anyhow::{Context, Result, ensure};
use rustix::time::{ClockId, clock_gettime};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// The one clock of a history: read from the system once, monotonic from there, the same for this process and for the witnesses.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    wall_us: i64,
    boot_us: i64,
}

impl Clock {
    /// Reads the wall clock.
    pub(super) fn start() -> Self {
        Self {
            wall_us: micros(ClockId::Realtime),
            boot_us: micros(ClockId::Boottime),
        }
    }

    /// Now, in milliseconds since the Unix epoch.
    pub(super) fn now_ms(&self) -> i64 {
        self.now_us().div_euclid(1000)
    }

    /// Now, in microseconds.
    pub(super) fn now_us(&self) -> i64 {
        self.at_boot_us(micros(ClockId::Boottime))
    }

    /// The instant at which the machine had been up for so long.
    fn at_boot_us(&self, boot_us: i64) -> i64 {
        self.wall_us + (boot_us - self.boot_us)
    }
}

fn micros(clock: ClockId) -> i64 {
    let now = clock_gettime(clock);
    now.tv_sec.saturating_mul(1_000_000).saturating_add(now.tv_nsec / 1000)
}

/// Listens at a socket to which every task's process holds a connection for as long as it lives.
#[derive(Debug)]
pub(super) struct Recorder {
    socket: PathBuf,
    heard: Arc<Heard>,
    count: watch::Receiver<usize>,
    listener: JoinHandle<()>,
}

#[derive(Debug)]
struct Heard {
    clock: Clock,
    processes: Mutex<Vec<Process>>,
    /// What was not understood; each is a fault of the tests or of the product.
    garbage: Mutex<Vec<String>>,
    /// Started processes whose wall clock was not this machine's: a faked clock that was inherited.
    astray: Mutex<Vec<String>>,
    counted: watch::Sender<usize>,
}

impl Recorder {
    /// Makes the socket and listens.
    ///
    /// # Errors
    /// The socket cannot be made.
    pub(super) fn at(socket: PathBuf, clock: Clock) -> Result<Self> {
        let listener = UnixListener::bind(&socket).with_context(|| format!("socket {}", socket.display()))?;
        let (counted, count) = watch::channel(0);
        let heard = Arc::new(Heard {
            clock,
            processes: Mutex::default(),
            garbage: Mutex::default(),
            astray: Mutex::default(),
            counted,
        });
        let listener = tokio::spawn(listen(listener, heard.clone()));
        Ok(Self {
            socket,
            heard,
            count,
            listener,
        })
    }

    /// The command line of a task that holds for so long and ends with a code.
    pub(super) fn argv(&self, witness: &Path, key: &str, hold: Duration, code: u8) -> Vec<String> {
        [
            witness.display().to_string(),
            self.socket.display().to_string(),
            key.to_owned(),
            hold.as_millis().to_string(),
            code.to_string(),
        ]
        .into()
    }

    /// Every process heard so far.
    pub(super) fn processes(&self) -> Vec<Process> {
        lock(&self.heard.processes).clone()
    }

    /// What was heard and makes no sense.
    pub(super) fn nonsense(&self) -> Vec<String> {
        [lock(&self.heard.garbage).clone(), lock(&self.heard.astray).clone()].concat()
    }

    /// Waits for so many more starts.
    ///
    /// # Errors
    /// They do not come within the limit.
    pub(super) async fn further(&self, number: usize, limit: Duration) -> Result<()> {
        let mut count = self.count.clone();
        let goal = *count.borrow() + number;
        let waited = timeout(limit, count.wait_for(|count| *count >= goal)).await;
        waited.with_context(|| format!("{number} further starts: not within {limit:?}"))??;
        Ok(())
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.listener.abort();
    }
}

async fn listen(listener: UnixListener, heard: Arc<Heard>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                tokio::spawn(hear(stream, heard.clone()));
            }
            Err(error) => lock(&heard.garbage).push(format!("the socket: {error}")),
        }
    }
}

/// Follows one process from its first line to the end of its connection.
async fn hear(stream: UnixStream, heard: Arc<Heard>) {
    let mut lines = BufReader::new(stream).lines();
    let mut place = None;
    while let Ok(Some(line)) = lines.next_line().await {
        let understood = match place {
            None => begin(&line, &heard).map(|begun| place = Some(begun)),
            Some(place) => end(&line, &heard, place),
        };
        if let Err(error) = understood {
            lock(&heard.garbage).push(format!("{line:?}: {error:#}"));
        }
    }
    if let Some(place) = place {
        let now = heard.clock.now_ms();
        lock(&heard.processes)[place].ended_at_ms.get_or_insert(now);
    }
}

fn begin(line: &str, heard: &Heard) -> Result<usize> {
    let fields: Vec<&str> = line.split(' ').collect();
    ensure!(fields.len() == 9 && fields[0] == "S", "expected a start of nine fields");
    let boot_us = fields[7].parse::<i64>()? / 1000;
    let started_us = heard.clock.at_boot_us(boot_us);
    let wall_us = fields[8].parse::<i64>()? / 1000;
    // A task that sees another clock than its machine has: it inherited its node's.
    if (wall_us - started_us).abs() > 1_000_000 {
        lock(&heard.astray).push(format!(
            "run {} was started with a clock {} ms off",
            fields[2],
            (wall_us - started_us) / 1000
        ));
    }
    let process = Process {
        key: fields[1].to_owned(),
        run: fields[2].to_owned(),
        attempt: fields[3].parse().with_context(|| format!("attempt {:?}", fields[3]))?,
        token: fields[4].to_owned(),
        scheduled_at_ms: crate::tasks::instant_ms(fields[5]).with_context(|| format!("due time {:?}", fields[5]))?,
        started_at_ms: started_us.div_euclid(1000),
        ended_at_ms: None,
        exit_code: None,
        worker: String::new(),
    };
    let mut processes = lock(&heard.processes);
    processes.push(process);
    let place = processes.len() - 1;
    heard.counted.send_replace(place + 1);
    Ok(place)
}

fn end(line: &str, heard: &Heard, place: usize) -> Result<()> {
    let fields: Vec<&str> = line.split(' ').collect();
    ensure!(fields.len() == 3 && fields[0] == "E", "expected an end of three fields");
    let (code, boot_us) = (fields[1].parse()?, fields[2].parse::<i64>()? / 1000);
    let ended = heard.clock.at_boot_us(boot_us).div_euclid(1000);
    let process = &mut lock(&heard.processes)[place];
    process.exit_code = Some(code);
    process.ended_at_ms = Some(ended);
    Ok(())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
