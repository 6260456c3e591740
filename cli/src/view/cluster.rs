//! The cluster as a whole.

use super::{instant, lines, or_dash, word};
use crate::table::Table;
use sched_client::v1;
use serde::Serialize;

/// A clock that is further from leader time than this cannot confirm it.
const CLOCK_MS_MAX: u64 = 500;

/// How the cluster is.
#[derive(Serialize, Debug)]
pub(crate) struct StatusView {
    /// `RUNNING` or `SHUTDOWN`.
    state: String,
    shutdown_message: Option<String>,
    /// A node's id.
    leader: Option<u64>,
    term: u64,
    nodes: Vec<NodeView>,
    spooled: u64,
    waiting: u64,
    ready: u64,
    running: u64,
    failed: u64,
    finished: u64,
    /// Wait for a delay, for an earlier run, or for room in their group.
    delayed: u64,
    lost: u64,
    missed: u64,
    skipped: u64,
    stale_reports: u64,
    /// Too few nodes have room on their disks.
    refuses_work: bool,
    /// The clocks of no majority confirm leader time: nothing that waits for a time is started.
    clocks_apart: bool,
    lateness: Vec<LatenessView>,
    workers: u32,
    slots: u32,
    /// False: no quorum confirmed it.
    pub(crate) confirmed: bool,
    cluster: String,
    /// The node that answered.
    node: u64,
    version: String,
    zone_data: String,
    now: String,
}

/// Runs that were so late.
#[derive(Serialize, Debug)]
pub(crate) struct LatenessView {
    /// The longest lateness of them; nothing for those that were later than all bounds.
    late_ms_max: Option<u64>,
    runs: u64,
}

/// A node.
#[derive(Serialize, Debug)]
pub(crate) struct NodeView {
    /// Has up to 19 digits: more than a reader of JSON keeps that takes numbers for floating-point ones.
    id: u64,
    /// `LEADER`, `FOLLOWER`, `LEARNER` or `CANDIDATE`.
    role: String,
    client_address: String,
    peer_address: String,
    reachable: bool,
    lag_entries: Option<u64>,
    disk_low: bool,
    /// Why its own worker takes no runs.
    worker_fault: Option<String>,
    clock_ahead_ms: Option<i64>,
}

impl NodeView {
    pub(crate) fn new(node: v1::Node) -> Self {
        Self {
            id: node.id,
            role: word(node.role().as_str_name(), "NODE_ROLE_"),
            client_address: node.client_address,
            peer_address: node.peer_address,
            reachable: node.reachable,
            lag_entries: node.lag_entries,
            disk_low: node.disk_low,
            worker_fault: node.worker_fault.map(|fault| fault.reason),
            clock_ahead_ms: node.clock_ahead_ms,
        }
    }
}

impl StatusView {
    pub(crate) fn new(reply: v1::StatusReply) -> Self {
        Self {
            state: word(reply.state().as_str_name(), "SCHEDULER_STATE_"),
            shutdown_message: Some(reply.shutdown_message).filter(|message| !message.is_empty()),
            leader: reply.leader,
            term: reply.term,
            nodes: reply.nodes.into_iter().map(NodeView::new).collect(),
            spooled: reply.spooled,
            waiting: reply.waiting,
            ready: reply.ready,
            running: reply.running,
            failed: reply.failed,
            finished: reply.finished,
            delayed: reply.delayed,
            lost: reply.lost,
            missed: reply.missed,
            skipped: reply.skipped,
            stale_reports: reply.stale_reports,
            refuses_work: reply.refuses_work,
            clocks_apart: reply.clocks_apart,
            lateness: reply
                .lateness
                .into_iter()
                .map(|bucket| LatenessView {
                    late_ms_max: bucket.late_ms_max,
                    runs: bucket.runs,
                })
                .collect(),
            workers: reply.workers,
            slots: reply.slots,
            confirmed: reply.confirmed,
            cluster: reply.cluster,
            node: reply.node,
            version: reply.version,
            zone_data: reply.zone_data,
            now: instant(reply.now_unix_ms),
        }
    }
}

/// Says within what half and 99 of 100 runs were handed over, as far as the buckets tell.
fn lateness(buckets: &[LatenessView]) -> Option<String> {
    let all: u64 = buckets.iter().map(|bucket| bucket.runs).sum();
    let within = |share: u64| {
        let mut left = (all * share).div_ceil(100);
        let found = buckets.iter().find(|bucket| {
            left = left.saturating_sub(bucket.runs);
            left == 0
        });
        match found.and_then(|bucket| bucket.late_ms_max) {
            Some(ms) => format!("within {ms} ms"),
            None => "later than all bounds".to_owned(),
        }
    };
    let (half, most) = (within(50), within(99));
    (all > 0).then(|| format!("half {half}, 99 % {most}, of {all} runs by this leader"))
}

/// Shows how the cluster is.
pub(crate) fn status(status: &StatusView) -> String {
    let leader = status
        .leader
        .map_or_else(|| "none".to_owned(), |leader| leader.to_string());
    let some = |text: &str| Some(text.to_owned());
    let mut text = lines(&[
        ("state", some(&status.state)),
        ("message", status.shutdown_message.clone()),
        ("cluster", some(&status.cluster)),
        ("leader", Some(format!("{leader}, term {}", status.term))),
        ("ALARM", disk_alarm(status)),
        ("ALARM", clock_alarm(status)),
        ("ALARM", worker_alarm(status)),
        (
            "tasks",
            Some(format!("{} spooled, {} waiting", status.spooled, status.waiting)),
        ),
        (
            "runs",
            Some(format!(
                "{} ready, {} waiting, {} running, {} finished, {} failed, {} lost",
                status.ready, status.delayed, status.running, status.finished, status.failed, status.lost
            )),
        ),
        (
            "occurrences",
            Some(format!("{} missed, {} skipped", status.missed, status.skipped)),
        ),
        ("lateness", lateness(&status.lateness)),
        ("workers", Some(format!("{}, {} slots", status.workers, status.slots))),
        ("time", some(&status.now)),
        (
            "answered by",
            Some(format!(
                "node {}, version {}, zone data {}",
                status.node, status.version, status.zone_data
            )),
        ),
    ]);
    text.push('\n');
    text.push_str(&nodes(&status.nodes));
    text
}

/// Says whose disks are low, and what follows.
fn disk_alarm(status: &StatusView) -> Option<String> {
    let low: Vec<String> = status
        .nodes
        .iter()
        .filter(|node| node.disk_low)
        .map(|node| node.id.to_string())
        .collect();
    let what = if status.refuses_work {
        "new work is refused"
    } else {
        "make room"
    };
    (status.refuses_work || !low.is_empty()).then(|| format!("{what}: low disk on node {}", low.join(", ")))
}

/// Says whose clocks are off, and what follows.
fn clock_alarm(status: &StatusView) -> Option<String> {
    let off = status.nodes.iter().filter_map(|node| {
        let ms = node.clock_ahead_ms.filter(|ms| ms.unsigned_abs() > CLOCK_MS_MAX)?;
        let way = if ms > 0 { "ahead" } else { "behind" };
        Some(format!(
            "the clock of node {} is {} {way}",
            node.id,
            span(ms.unsigned_abs())
        ))
    });
    let nothing = "the clocks of no majority confirm leader time, nothing that waits for a time is started";
    let parts: Vec<String> = status
        .clocks_apart
        .then(|| nothing.to_owned())
        .into_iter()
        .chain(off)
        .collect();
    (!parts.is_empty()).then(|| format!("set the clocks: {}", parts.join("; ")))
}

/// The largest unit that it is at least two of: nobody reads hours in milliseconds.
fn span(ms: u64) -> String {
    let units = [
        (86_400_000, "days"),
        (3_600_000, "hours"),
        (60_000, "minutes"),
        (1000, "s"),
    ];
    match units.into_iter().find(|(unit, _)| ms >= 2 * unit) {
        Some((unit, name)) => format!("{} {name}", ms / unit),
        None => format!("{ms} ms"),
    }
}

/// Says whose workers take no runs, and why.
fn worker_alarm(status: &StatusView) -> Option<String> {
    let faults = status.nodes.iter().filter_map(|node| {
        let fault = node.worker_fault.as_ref()?;
        Some(format!("the worker of node {} takes no runs: {fault}", node.id))
    });
    let faults: Vec<String> = faults.collect();
    (!faults.is_empty()).then(|| faults.join("; "))
}

/// Lists nodes.
pub(crate) fn nodes(nodes: &[NodeView]) -> String {
    let mut table = Table::new(&["NODE", "ROLE", "CLIENTS AT", "PEERS AT", "REACHABLE", "LAG"]);
    for node in nodes {
        table.row([
            node.id.to_string(),
            node.role.clone(),
            or_dash(Some(&node.client_address)),
            or_dash(Some(&node.peer_address)),
            if node.reachable { "yes" } else { "NO" }.to_owned(),
            node.lag_entries.map_or_else(|| "-".to_owned(), |lag| lag.to_string()),
        ]);
    }
    table.render()
}

/// An operation in the spool.
#[derive(Serialize, Debug)]
pub(crate) struct SpoolView {
    seq: u64,
    kind: String,
    task: u64,
    name: Option<String>,
    accepted_at: String,
    principal: String,
}

impl SpoolView {
    pub(crate) fn new(op: v1::SpoolOp) -> Self {
        Self {
            seq: op.seq,
            kind: op.kind,
            task: op.task,
            name: op.task_name,
            accepted_at: instant(op.accepted_at_unix_ms),
            principal: op.principal,
        }
    }
}

/// Lists the spool.
pub(crate) fn spool(ops: &[SpoolView]) -> String {
    let mut table = Table::new(&["SEQ", "OPERATION", "TASK", "NAME", "ACCEPTED"]);
    for op in ops {
        let (seq, task) = (op.seq.to_string(), op.task.to_string());
        table.row([
            seq,
            op.kind.clone(),
            task,
            or_dash(op.name.as_deref()),
            op.accepted_at.clone(),
        ]);
    }
    table.render()
}

/// What a check found.
#[derive(Serialize, Debug)]
pub(crate) struct CheckView {
    /// No error was found.
    pub(crate) ok: bool,
    summary: String,
    /// False: not everything was looked at.
    complete: bool,
    findings: Vec<FindingView>,
}

/// One thing that is wrong.
#[derive(Serialize, Debug)]
struct FindingView {
    /// `error`, `warning` or `note`.
    severity: String,
    area: String,
    text: String,
    advice: String,
}

impl CheckView {
    pub(crate) fn new(reply: v1::CheckReply) -> Self {
        // An unknown severity comes from a newer node and counts as an error: better one look too many.
        let harmless = |finding: &v1::Finding| {
            matches!(
                v1::Severity::try_from(finding.severity),
                Ok(v1::Severity::Note | v1::Severity::Warning)
            )
        };
        Self {
            ok: reply.findings.iter().all(harmless),
            summary: reply.summary,
            complete: reply.complete,
            findings: reply.findings.into_iter().map(finding).collect(),
        }
    }
}

fn finding(finding: v1::Finding) -> FindingView {
    FindingView {
        severity: match finding.severity() {
            v1::Severity::Unspecified => "error".to_owned(),
            severity => word(severity.as_str_name(), "SEVERITY_").to_ascii_lowercase(),
        },
        area: finding.area,
        text: finding.text,
        advice: finding.advice,
    }
}

/// Shows what a check found.
pub(crate) fn check(check: &CheckView) -> String {
    let incomplete = if check.complete {
        ""
    } else {
        "; a bound was met, not everything was looked at"
    };
    let mut text = lines(&[("looked at", Some(format!("{}{incomplete}", check.summary)))]);
    if check.findings.is_empty() {
        text.push_str("nothing wrong found\n");
        return text;
    }
    for finding in &check.findings {
        let severity = finding.severity.to_uppercase();
        text.push('\n');
        text.push_str(&lines(&[(
            severity.as_str(),
            Some(format!("{}: {}", finding.area, finding.text)),
        )]));
        text.push_str(&lines(&[("  do", Some(finding.advice.clone()))]));
    }
    text
}
