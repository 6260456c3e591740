//! Looks for what is wrong with the cluster, and says what to do about it.

use super::errors;
use super::overview::{leader_elsewhere, passed_on};
use crate::leader::clocks;
use crate::shared::{OrStop, Shared, aside};
use crate::state::{self, END};
use sched_core::tables::{Key, Meta, Table, View, Waiting, decode_ready, decode_waiting};
use sched_core::task::NextRun;
use sched_core::{Fault, Timestamp};
use sched_proto::metadata::is_forwarded;
use sched_proto::v1::{CheckReply, CheckRequest, Finding, Severity};
use sched_raft::Formation;
use std::time::Duration;
use tokio::time::timeout;
use tonic::Status;
use tonic::metadata::MetadataMap;

/// For the leader's answer: it reads its tables.
const LEADER_TIMEOUT: Duration = Duration::from_secs(20);
/// Records read at most: more would take the leader's processor and memory for too long.
const RECORDS_MAX: u64 = 200_000;
/// A run that has been ready for longer than this has no worker.
const READY_MS_MAX: i64 = 60_000;
/// Clocks further apart than this are worth knowing; five times as far, nothing is fired.
const CLOCK_MS_NOTE: i64 = 100;
/// How long entries of a follower may be behind.
const LAG_ENTRIES_MAX: u64 = 10_000;
/// Findings about one area; the rest is counted.
const FINDINGS_PER_AREA_MAX: usize = 20;
/// Running runs looked at.
const RUNNING_READ_MAX: usize = 20_000;
/// How long a run may go on after its time limit: its tree is killed, and its session's lease may have to end first.
const OVERTIME_MS_MAX: i64 = 30_000;

/// Free space below which the disk will be a problem.
const DISK_WARNING_BYTES: u64 = 2 * 1024 * 1024 * 1024;

pub(super) async fn check(shared: &Shared, metadata: &MetadataMap) -> Result<CheckReply, Status> {
    let mut findings = Findings::default();
    if let Some(mut leader) = leader_elsewhere(shared, metadata) {
        let asked = timeout(LEADER_TIMEOUT, leader.check(passed_on(shared, CheckRequest {}))).await;
        if let Ok(Ok(reply)) = asked {
            // The leader does not see this node's disk.
            disk(shared, &mut findings);
            let mut reply = reply.into_inner();
            reply.findings.extend(findings.0);
            reply
                .findings
                .sort_by_key(|finding| std::cmp::Reverse(finding.severity));
            return Ok(reply);
        }
        let text = "the leader did not answer a check";
        findings.add(
            Severity::Error,
            "quorum",
            text.to_owned(),
            "look at the leader's log; try again",
        );
    } else if is_forwarded(metadata) && !shared.replica.roles().borrow().leading {
        return Err(errors::refuse(&sched_raft::ProposeError::NotLeader { leader: None }));
    }
    quorum(shared, &mut findings).await;
    members(shared, &mut findings);
    clock_differences(shared, &mut findings).await;
    disk(shared, &mut findings);
    let view = shared.replica.view();
    let meta = state::meta(&view).or_stop();
    workers(shared, &meta, &mut findings);
    let now = shared.clock.now();
    let (runs, complete) = aside(move || {
        let mut found = Findings::default();
        let complete = runs(&view, &meta, now, &mut found).or_stop();
        searches(&view, &meta, &mut found).or_stop();
        let all = invariants(&view, &meta, &mut found).or_stop();
        (found, complete && all)
    })
    .await?;
    findings.0.extend(runs.0);
    findings.0.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    let meta = state::meta(&shared.replica.view()).or_stop();
    let kept = meta.ready + meta.running + meta.delayed + meta.lost + meta.finished + meta.failed;
    let nodes = shared.replica.members().len();
    let summary = format!(
        "{} tasks, {kept} runs, {} operations in the spool, {nodes} nodes",
        meta.tasks,
        meta.spooled()
    );
    Ok(CheckReply {
        findings: findings.0,
        summary,
        complete,
    })
}

#[derive(Default)]
struct Findings(Vec<Finding>);

impl Findings {
    fn add(&mut self, severity: Severity, area: &str, text: String, advice: &str) {
        let finding = Finding {
            severity: severity.into(),
            area: area.into(),
            text,
            advice: advice.into(),
        };
        self.0.push(finding);
    }

    fn error(&mut self, area: &str, text: String, advice: &str) {
        self.add(Severity::Error, area, text, advice);
    }

    fn warn(&mut self, area: &str, text: String, advice: &str) {
        self.add(Severity::Warning, area, text, advice);
    }

    fn note(&mut self, area: &str, text: String, advice: &str) {
        self.add(Severity::Note, area, text, advice);
    }
}

async fn quorum(shared: &Shared, findings: &mut Findings) {
    match &*shared.replica.formation().borrow() {
        Formation::Formed { .. } => {}
        Formation::Forming { waiting } => {
            let text = format!("the cluster is not formed yet: {}", waiting.join("; "));
            findings.error(
                "quorum",
                text,
                "start every initial member with the same --initial-cluster",
            );
        }
        Formation::Refused { reason } => {
            findings.error(
                "quorum",
                format!("the cluster is not formed: {reason}"),
                "see the node's log",
            );
        }
    }
    if let Err(e) = shared.replica.read_barrier().await {
        let advice = "start enough nodes that more than half of the voters run and reach each other";
        findings.error("quorum", format!("no quorum confirmed this node: {e}"), advice);
    }
}

fn members(shared: &Shared, findings: &mut Findings) {
    for member in shared.replica.members() {
        let (node, address) = (member.node, &member.peer_address);
        if let Some(why) = &member.refuses {
            let text = format!("node {node} at {address} refuses this node's messages: {why}");
            findings.error("nodes", text, "start each node with its own data folder and address");
        } else if member.reachable == Some(false) {
            let advice = "start it, or check the network between the nodes";
            findings.error(
                "nodes",
                format!("node {node} at {address} does not answer the leader"),
                advice,
            );
        } else if let Some(lag) = member.lag_entries.filter(|lag| *lag > LAG_ENTRIES_MAX) {
            let advice = "it catches up by itself; when it does not, look at its disk and network";
            findings.warn(
                "nodes",
                format!("node {node} at {address} is {lag} entries behind"),
                advice,
            );
        }
    }
    let voters = shared.replica.members().iter().filter(|member| member.voter).count();
    if voters == 2 {
        let text = "two voters: the loss of either stops the cluster".to_owned();
        findings.warn("nodes", text, "use one, three or five");
    }
}

async fn clock_differences(shared: &Shared, findings: &mut Findings) {
    if shared.terms.current().is_some_and(|term| term.clocks_apart()) {
        let text =
            "the clocks of no majority of the voters confirm leader time: nothing that waits for a time is started"
                .to_owned();
        findings.error(
            "clock",
            text,
            "set the clocks that are off (NTP), or start the voters that are away",
        );
    }
    for difference in clocks::compare(shared, usize::MAX).await {
        let ms = difference.ahead_ms;
        if ms.saturating_abs() > CLOCK_MS_NOTE {
            let text = format!(
                "the clock of node {} at {} is {} ms {}",
                difference.node,
                difference.address,
                ms.unsigned_abs(),
                ahead(ms)
            );
            let severity = if ms.saturating_abs() > 5 * CLOCK_MS_NOTE {
                Severity::Error
            } else {
                Severity::Warning
            };
            findings.add(severity, "clock", text, "let NTP set the clocks of all nodes");
        }
    }
}

fn ahead(ms: i64) -> &'static str {
    if ms > 0 {
        "ahead of leader time"
    } else {
        "behind leader time"
    }
}

fn disk(shared: &Shared, findings: &mut Findings) {
    let folder = &shared.config.data_dir;
    let path = folder.display();
    match rustix::fs::statvfs(folder) {
        Ok(stat) => {
            let free = stat.f_bavail.saturating_mul(stat.f_frsize);
            let (text, advice) = (
                format!(
                    "{path}: {} MiB free, {} MiB are the reserve",
                    free >> 20,
                    shared.disk.reserve_bytes() >> 20
                ),
                "make room: a full disk stops the node, and without a majority that has its reserve new work is refused",
            );
            if free < shared.disk.reserve_bytes() {
                findings.error("disk", text, advice);
            } else if free < DISK_WARNING_BYTES {
                findings.warn("disk", text, advice);
            }
            if stat.f_files > 0 && stat.f_favail < 1000 {
                findings.warn("disk", format!("{path}: {} inodes free", stat.f_favail), advice);
            }
        }
        Err(e) => findings.warn(
            "disk",
            format!("{path}: free space unknown: {e}"),
            "check the data folder",
        ),
    }
}

fn workers(shared: &Shared, meta: &Meta, findings: &mut Findings) {
    for (node, fault) in super::workers::faults(shared) {
        let text = format!(
            "worker {:?} of node {node} takes no runs: {}",
            fault.worker, fault.reason
        );
        findings.error(
            "workers",
            text,
            "do as it says; `schedcli runs --state lost` lists the runs that need `schedcli resolve`",
        );
    }
    let Some(term) = shared.terms.current() else { return };
    let (workers, slots, free) = term.hub.capacity();
    if workers == 0 {
        let text = "no worker is connected: nothing can run".to_owned();
        findings.error("workers", text, "start a node with slots, and look at its log");
    } else if free == 0 && meta.ready > 0 {
        let text = format!("all {slots} slots are taken and {} runs wait", meta.ready);
        findings.warn("workers", text, "add workers or slots, or let the tasks run less often");
    }
}

/// Runs that should not be where they are. False: not all of them were looked at.
fn runs(view: &impl View, meta: &Meta, now: Timestamp, findings: &mut Findings) -> Result<bool, Fault> {
    if let Some(message) = &meta.shutdown {
        let text = format!("the scheduler is shut down: {message:?}");
        findings.note("scheduler", text, "start it with `schedcli start`");
    } else if let Some((key, _)) = view.scan(Table::Ready, &[], &END, 1)?.first()
        && let Some((_, _, scheduled_at, run)) = decode_ready(key)
        && now.millis_since(scheduled_at) > READY_MS_MAX
    {
        let late = now.millis_since(scheduled_at);
        findings.warn(
            "runs",
            format!("run {run} has been ready for {late} ms"),
            "see the findings about workers",
        );
    }
    if meta.lost > 0 {
        let text = format!("{} runs are LOST: their workers vanished after the start", meta.lost);
        let advice = "find out what became of each (`schedcli runs --state lost`), then say it with `schedcli resolve`";
        findings.warn("runs", text, advice);
    }
    if meta.stale_reports > 0 {
        let text = format!(
            "{} reports came under a token that was no longer current, ever",
            meta.stale_reports
        );
        findings.note(
            "runs",
            text,
            "such attempts may have overlapped; see stale_reports of the runs",
        );
    }
    let (from, to) = Key::running_all();
    let running = view.scan(Table::Running, &from, &to, RUNNING_READ_MAX)?;
    let complete = running.len() < RUNNING_READ_MAX;
    let mut stuck = 0;
    for (key, _) in running {
        let id = state::run_in(&key)?;
        let (Some(run), Some(status)) = (state::run(view, id)?, state::status(view, id.task)?) else {
            continue;
        };
        let since = run.attempts.last().map(|attempt| attempt.assigned_at);
        let limit = status.policy.time_limit_ms.and_then(|ms| i64::try_from(ms).ok());
        let (Some(since), Some(limit)) = (since, limit) else {
            continue;
        };
        let over = now.millis_since(since) - limit;
        if over > OVERTIME_MS_MAX {
            stuck += 1;
            if stuck <= FINDINGS_PER_AREA_MAX {
                let worker = run
                    .attempts
                    .last()
                    .map(|attempt| attempt.worker.as_str())
                    .unwrap_or_default();
                let text = format!("run {id} on {worker} is {over} ms over its time limit");
                findings.error("runs", text, "look at the worker; cancel the run");
            }
        }
    }
    if stuck > FINDINGS_PER_AREA_MAX {
        findings.error(
            "runs",
            format!("{} more runs are over their time limit", stuck - FINDINGS_PER_AREA_MAX),
            "",
        );
    }
    Ok(complete)
}

/// Tasks whose next time was not found within the bound of a search: until it is found they do not run, which nobody else would notice.
fn searches(view: &impl View, meta: &Meta, findings: &mut Findings) -> Result<(), Fault> {
    let waiting = meta.waiting + meta.delayed + meta.lost;
    if waiting > RECORDS_MAX {
        // So many are not looked at; the finding about invariants says it.
        return Ok(());
    }
    let limit = usize::try_from(waiting).unwrap_or(usize::MAX);
    let mut given_up = 0;
    for (key, _) in view.scan(Table::Waiting, &[], &END, limit)? {
        let Some((_, Waiting::Task(id))) = decode_waiting(&key) else {
            continue;
        };
        let Some(NextRun::GaveUp { retry_at, .. }) = state::status(view, id)?.map(|status| status.next) else {
            continue;
        };
        given_up += 1;
        if given_up <= FINDINGS_PER_AREA_MAX {
            let text = format!("the search for the next time of task {id} met its bound; it is repeated at {retry_at}");
            findings.error(
                "schedules",
                text,
                "the task does not run until it is found; give it a simpler schedule",
            );
        }
    }
    if given_up > FINDINGS_PER_AREA_MAX {
        let text = format!("{} more searches met their bound", given_up - FINDINGS_PER_AREA_MAX);
        findings.error("schedules", text, "");
    }
    Ok(())
}

/// The invariants of the state. False: there is too much of it to look at all.
fn invariants(view: &impl View, meta: &Meta, findings: &mut Findings) -> Result<bool, Fault> {
    let runs = meta.ready + meta.running + meta.delayed + meta.lost + meta.finished + meta.failed;
    if meta.tasks + runs > RECORDS_MAX {
        let text = format!("the invariants were not checked: more than {RECORDS_MAX} records");
        findings.note(
            "invariant",
            text,
            "stop a follower and run `schednode check` on its data folder",
        );
        return Ok(false);
    }
    let broken = sched_core::check::check(view)?;
    for text in broken.iter().take(FINDINGS_PER_AREA_MAX) {
        let advice = "a fault in the program: keep the data folder and report it";
        findings.error("invariant", text.clone(), advice);
    }
    if broken.len() > FINDINGS_PER_AREA_MAX {
        findings.error(
            "invariant",
            format!("{} more", broken.len() - FINDINGS_PER_AREA_MAX),
            "",
        );
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use sched_core::apply::{Position, apply_entry};
    use sched_core::command::{Command, Entry, Item};
    use sched_core::schedule::Schedule;
    use sched_core::tables::{MemTables, Staged};
    use sched_core::task::{Action, Bounds, Policy, TaskSpec};

    #[test]
    fn a_search_that_gave_up_is_an_error() {
        let mut tables = MemTables::new();
        let spec = TaskSpec {
            namespace: "default".into(),
            name: None,
            labels: Default::default(),
            owner: String::new(),
            description: String::new(),
            schedule: Schedule::Every {
                every_ms: 1000,
                anchor: Timestamp::EPOCH,
            },
            action: Action::Sample {
                succeed: true,
                duration_ms: 0,
                payload: Vec::new(),
            },
            policy: Policy::default(),
            bounds: Bounds::default(),
        };
        let gave_up = NextRun::GaveUp {
            retry_at: Timestamp::from_millis(3_600_000),
            searched_until: Timestamp::EPOCH,
        };
        let firsts = [NextRun::At(Timestamp::from_millis(1000)), gave_up, NextRun::Never];
        let submit = |first: &NextRun| {
            let (spec, first) = (Box::new(spec.clone()), *first);
            Item::internal(Command::Submit { spec, first })
        };
        let entry = Entry {
            term: 1,
            now: Timestamp::EPOCH,
            items: firsts.iter().map(submit).collect(),
        };
        let mut staged = Staged::new(&tables);
        apply_entry(&mut staged, Position { index: 1, term: 1 }, &entry).unwrap();
        let changes = staged.into_changes();
        tables.write(changes);
        let mut findings = Findings::default();
        searches(&tables, &state::meta(&tables).unwrap(), &mut findings).unwrap();
        let [finding] = &findings.0[..] else {
            panic!("{:?}", findings.0);
        };
        assert_eq!(finding.severity(), Severity::Error);
        assert!(
            finding.text.contains("task 2 ") && finding.text.contains("01:00:00"),
            "{finding:?}"
        );
    }
}
