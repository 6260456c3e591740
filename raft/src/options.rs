//! What a replica is started with.

use crate::error::{Fatal, RaftError};
use crate::transport::Listener;
use sched_core::Timestamp;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

/// Leader time, read from outside: this crate reads no clock of its own for it.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// Called once when the replica can no longer go on.
pub type FatalHook = Arc<dyn Fn(&Fatal) + Send + Sync>;

/// The exit code of a process whose replica failed: "internal software error" of sysexits.
pub const FATAL_EXIT_CODE: i32 = 70;

/// How often a leader sends a heartbeat when nothing else is said. A heartbeat is some hundred bytes and costs tens of microseconds.
pub const HEARTBEAT_MS_DEFAULT: u64 = 50;
/// The bounds of the election timeout when nothing else is said.
///
/// A follower waits out the lease (the longer bound) and then its own random timeout: an election begins 750 to 1000 ms after the last
/// heartbeat, half of them before 850 ms, and takes some tens of milliseconds. 15 heartbeats fit in, while on two busy cores single ones
/// are late by 100 ms and more; and a follower that missed them all deposes nobody, because a majority must have missed them (pre-vote).
/// The spread keeps two followers from standing at once, which costs another timeout.
pub const ELECTION_TIMEOUT_MS_DEFAULT: Range<u64> = 250..500;

/// What a replica is started with. Made by [`Options::new`], then changed field by field.
#[derive(Clone)]
#[non_exhaustive]
pub struct Options {
    /// The bound socket on which peers are served. Bound by the caller, so that a taken port is told before anything is opened.
    pub peer_listener: Arc<Listener>,
    /// Where the other members reach this node: `host:port`, resolved at each dial.
    pub peer_advertise: String,
    /// Where clients reach this node; travels in the membership so that every node can name the leader to clients.
    pub client_advertise: String,
    /// Peer addresses of all initial members, the same set on each of them. Ignored when the data folder belongs to a cluster.
    pub initial_cluster: Vec<String>,
    /// Peer addresses of members of an existing cluster that this pristine node shall join as a learner. Excludes `initial_cluster`.
    pub join: Vec<String>,
    /// Leader time for the stamp of each entry.
    pub clock: Clock,
    /// Called once when the replica can no longer go on; the default logs and ends the process with [`FATAL_EXIT_CODE`].
    pub on_fatal: FatalHook,
    /// A leader sends a heartbeat this often.
    pub heartbeat_ms: u64,
    /// A follower whose lease is over waits a random time between this …
    pub election_timeout_ms_min: u64,
    /// … and this before it asks for votes. The longer one is also the lease, counted from the last word of the leader.
    pub election_timeout_ms_max: u64,
    /// A snapshot is built after this many entries since the last one. An entry holds up to 1024 commands.
    pub snapshot_entries: u64,
    /// A snapshot is also built after this many bytes of log since the last one.
    pub snapshot_bytes: u64,
    /// Entries kept in the log behind a snapshot, so that a node that was away shortly needs none …
    pub log_keep_entries: u64,
    /// … as long as they take no more than this many bytes.
    pub log_keep_bytes: u64,
    /// Commands that may wait to be proposed; more are refused as overloaded.
    pub queue_items_max: usize,
    /// Bytes of commands that may wait to be proposed.
    pub queue_bytes_max: usize,
    /// Entries proposed and not yet applied. More in flight hide the latency of the disk; fewer make larger groups.
    pub in_flight_entries_max: usize,
    /// Commands of clients proposed and not yet applied, about: what a command may find before it. A call with many is cut into halves of it.
    /// More carry further when peers are far away (512 every 10 ms are 51,000 a second); fewer let those who ask for little wait less for
    /// those who ask for much.
    pub in_flight_items_max: usize,
    /// A proposal without an outcome after this time is reported as unknown, or as refused when it was still waiting.
    pub propose_timeout_ms: u64,
    /// A read barrier without an answer after this time fails.
    pub read_timeout_ms: u64,
}

impl Options {
    /// Returns options with every bound at its default.
    pub fn new(peer_listener: Listener, peer_advertise: String, client_advertise: String, clock: Clock) -> Self {
        Self {
            peer_listener: Arc::new(peer_listener),
            peer_advertise,
            client_advertise,
            initial_cluster: Vec::new(),
            join: Vec::new(),
            clock,
            on_fatal: Arc::new(end_process),
            heartbeat_ms: HEARTBEAT_MS_DEFAULT,
            election_timeout_ms_min: ELECTION_TIMEOUT_MS_DEFAULT.start,
            election_timeout_ms_max: ELECTION_TIMEOUT_MS_DEFAULT.end,
            snapshot_entries: 20_000,
            snapshot_bytes: 256 * 1024 * 1024,
            log_keep_entries: 20_000,
            log_keep_bytes: 64 * 1024 * 1024,
            queue_items_max: 32 * 1024,
            queue_bytes_max: 64 * 1024 * 1024,
            in_flight_entries_max: 4,
            in_flight_items_max: 512,
            propose_timeout_ms: 5_000,
            read_timeout_ms: 5_000,
        }
    }

    /// Checks what can be checked before anything is opened.
    ///
    /// # Errors
    /// Names the option and says what would be accepted.
    pub fn validate(&self) -> Result<(), RaftError> {
        let bad = |option, problem: &str| {
            Err(RaftError::Option {
                option,
                problem: problem.to_owned(),
            })
        };
        for (option, address) in [
            ("peer_advertise", &self.peer_advertise),
            ("client_advertise", &self.client_advertise),
        ]
        .into_iter()
        .chain(self.initial_cluster.iter().map(|a| ("initial_cluster", a)))
        .chain(self.join.iter().map(|a| ("join", a)))
        {
            check_address(option, address)?;
        }
        if self.heartbeat_ms == 0 || self.election_timeout_ms_min < 3 * self.heartbeat_ms {
            return bad(
                "election_timeout_ms_min",
                "must be at least three heartbeats, and a heartbeat at least 1 ms",
            );
        }
        if self.election_timeout_ms_max <= self.election_timeout_ms_min {
            return bad("election_timeout_ms_max", "must be more than election_timeout_ms_min");
        }
        if !self.join.is_empty() && !self.initial_cluster.is_empty() {
            return bad(
                "join",
                "excludes initial_cluster: a node either forms a cluster or joins one",
            );
        }
        if self.snapshot_entries == 0 || self.in_flight_entries_max == 0 || self.in_flight_items_max == 0 {
            return bad(
                "snapshot_entries, in_flight_entries_max, in_flight_items_max",
                "must be at least 1",
            );
        }
        if self.queue_items_max == 0 || self.queue_bytes_max < sched_core::limits::ENTRY_BYTES_MAX {
            return bad(
                "queue_items_max, queue_bytes_max",
                "must hold at least one whole entry of the log",
            );
        }
        Ok(())
    }
}

/// Longest address: a DNS name has at most 253 bytes, a port five digits.
const ADDRESS_BYTES_MAX: usize = 260;

pub(crate) fn check_address(option: &'static str, address: &str) -> Result<(), RaftError> {
    let bad = |problem: &str| {
        Err(RaftError::Option {
            option,
            problem: format!("{address:?} {problem}; expected host:port"),
        })
    };
    if address.len() > ADDRESS_BYTES_MAX {
        return bad("is longer than 260 bytes");
    }
    match address.rsplit_once(':') {
        Some((host, port)) if !host.is_empty() && port.parse::<u16>().is_ok_and(|p| p > 0) => {}
        _ => return bad("has no host or no port"),
    }
    // An address becomes the authority of a URI at each dial: what does not parse there would fail for ever.
    match format!("http://{address}").parse::<tonic::transport::Uri>() {
        Ok(uri) if uri.authority().is_some_and(|a| a.as_str() == address) => Ok(()),
        _ => bad("is not a network address"),
    }
}

fn end_process(fatal: &Fatal) {
    tracing::error!(node = fatal.node, group = fatal.group, "{fatal}");
    // The log line above may go to a file or a collector: the operator's terminal gets it too.
    #[allow(clippy::print_stderr, reason = "last words of the process")]
    {
        eprintln!("fatal: {fatal}");
    }
    std::process::exit(FATAL_EXIT_CODE);
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("peer_listener", &self.peer_listener)
            .field("peer_advertise", &self.peer_advertise)
            .field("client_advertise", &self.client_advertise)
            .field("initial_cluster", &self.initial_cluster)
            .field("join", &self.join)
            .field("heartbeat_ms", &self.heartbeat_ms)
            .field("election_timeout_ms_min", &self.election_timeout_ms_min)
            .field("election_timeout_ms_max", &self.election_timeout_ms_max)
            .field("snapshot_entries", &self.snapshot_entries)
            .field("in_flight_entries_max", &self.in_flight_entries_max)
            .field("in_flight_items_max", &self.in_flight_items_max)
            .finish_non_exhaustive()
    }
}
