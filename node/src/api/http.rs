//! Health and metrics, over plain HTTP.

use crate::counters::metric;
use crate::leader::Term;
use crate::shared::{OrStop, Shared};
use crate::state;
use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use sched_raft::Formation;
use std::fmt::Write;
use std::sync::Arc;

/// Returns the paths.
pub(super) fn router(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/livez", get(live))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .with_state(shared)
}

/// Answers a path that is none, in the language of the caller: gRPC has a status of its own.
pub(super) async fn nothing_here(request: Request) -> Response {
    let content = request.headers().get(header::CONTENT_TYPE).map(HeaderValue::as_bytes);
    if content.is_some_and(|content| content.starts_with(b"application/grpc")) {
        return tonic::Status::unimplemented(format!("there is no method {}", request.uri().path())).into_http();
    }
    let text = "nothing is here: GET /livez, /readyz or /metrics, or call gRPC\n";
    (StatusCode::NOT_FOUND, text).into_response()
}

/// Alive, with or without a quorum: restarting a node does not bring its peers back.
async fn live() -> &'static str {
    "alive\n"
}

/// Ready means that calls can be answered: it belongs to a cluster and knows a leader.
async fn ready(State(shared): State<Arc<Shared>>) -> Response {
    if let Formation::Forming { waiting } = &*shared.replica.formation().borrow() {
        let text = format!("the cluster is forming\n{}\n", waiting.join("\n"));
        return (StatusCode::SERVICE_UNAVAILABLE, text).into_response();
    }
    // A node that was restarted remembers its last leader.
    let leader = shared.replica.roles().borrow().leader.clone();
    match leader.filter(|leader| !shared.is_refused_by(leader.node)) {
        Some(leader) => format!("ready, node {} leads\n", leader.node).into_response(),
        None => {
            let refusals = shared.replica.members().into_iter().filter_map(|member| {
                let why = member.refuses?;
                Some(format!(
                    "node {} at {} refuses this node: {why}\n",
                    member.node, member.peer_address
                ))
            });
            let text = format!("no leader is known\n{}", refusals.collect::<String>());
            (StatusCode::SERVICE_UNAVAILABLE, text).into_response()
        }
    }
}

/// Prometheus text.
async fn metrics(State(shared): State<Arc<Shared>>) -> Response {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], render(&shared)).into_response()
}

fn render(shared: &Shared) -> String {
    let mut text = String::with_capacity(8 * 1024);
    let role = shared.replica.roles().borrow().clone();
    let name = "sched_node_info";
    let _ = writeln!(text, "# HELP {name} Who this is.\n# TYPE {name} gauge");
    let version = env!("CARGO_PKG_VERSION");
    let _ = writeln!(
        text,
        "{name}{{node=\"{}\",version=\"{version}\"}} 1",
        shared.replica.node()
    );
    let mut gauge = |name: &str, help: &str, value: u64| metric(&mut text, name, "gauge", help, value);
    gauge("sched_leader", "1 while this node leads.", role.leading.into());
    gauge(
        "sched_leader_known",
        "1 while this node knows a leader.",
        role.leader.is_some().into(),
    );
    gauge("sched_term", "Newest term heard of.", role.term);
    let meta = state::meta(&shared.replica.view()).or_stop();
    gauge("sched_spooled", "Operations in the spool.", meta.spooled());
    gauge("sched_waiting", "Tasks with a future due time.", meta.waiting);
    gauge("sched_ready", "Runs that are due and have no worker yet.", meta.ready);
    gauge("sched_running", "Runs under way.", meta.running);
    gauge(
        "sched_delayed",
        "Runs that wait for a delay or for an earlier run.",
        meta.delayed,
    );
    gauge("sched_lost", "Runs whose outcome is unknown.", meta.lost);
    gauge("sched_finished", "Finished runs kept.", meta.finished);
    gauge("sched_failed", "Failed runs kept.", meta.failed);
    gauge("sched_tasks", "Tasks kept.", meta.tasks);
    gauge(
        "sched_shutdown",
        "1 while the scheduler is shut down.",
        meta.shutdown.is_some().into(),
    );
    if let Some(free) = shared.disk.free_bytes() {
        gauge("sched_disk_free_bytes", "Free on the disk of the data folder.", free);
    }
    gauge(
        "sched_disk_reserve_bytes",
        "What should stay free on it.",
        shared.disk.reserve_bytes(),
    );
    gauge(
        "sched_disk_low",
        "1 while less than the reserve is free.",
        shared.disk.is_low().into(),
    );
    gauge(
        "sched_worker_faulty",
        "1 while this node's own worker takes no runs because its journal cannot be read or written.",
        shared.worker_fault.get().is_some().into(),
    );
    if let Some(term) = shared.terms.current() {
        gauge(
            "sched_clocks_apart",
            "1 while this leader starts nothing because the clocks of no majority confirm its own.",
            term.clocks_apart().into(),
        );
        gauge(
            "sched_work_refused",
            "1 while this leader refuses new work because too few voters have room on their disks.",
            term.refuses_work().into(),
        );
        let (workers, slots, free) = term.hub.capacity();
        gauge("sched_workers", "Workers connected to this leader.", workers.into());
        gauge("sched_slots", "Runs they take at once.", slots);
        gauge("sched_slots_free", "Of those, free.", free);
        clocks(&term, &mut text);
    }
    replica(shared, &mut text);
    shared.counters.render(&mut text);
    text
}

/// One line for each other voter that has told its clock.
fn clocks(term: &Term, text: &mut String) {
    let name = "sched_voter_clock_ahead_milliseconds";
    let _ = writeln!(
        text,
        "# HELP {name} How far a voter's clock is ahead of leader time, negative when behind.\n# TYPE {name} gauge"
    );
    for clock in term.clocks().iter() {
        let _ = writeln!(text, "{name}{{node=\"{}\"}} {}", clock.node, clock.ahead_ms);
    }
}

fn replica(shared: &Shared, text: &mut String) {
    let m = shared.replica.metrics();
    for (name, help, value) in [
        ("sched_log_last_index", "Newest entry of the log.", m.last_log_index),
        (
            "sched_log_committed_index",
            "Newest entry known to be on a quorum.",
            m.committed_index,
        ),
        (
            "sched_log_applied_index",
            "Newest entry the tables hold.",
            m.applied_index,
        ),
        (
            "sched_log_snapshot_index",
            "Newest entry in a snapshot.",
            m.snapshot_index,
        ),
        (
            "sched_log_purged_index",
            "Newest entry that is no longer in the log.",
            m.purged_index,
        ),
        (
            "sched_proposals_waiting",
            "Commands that wait to be proposed.",
            m.waiting_items,
        ),
    ] {
        metric(text, name, "gauge", help, value);
    }
    for (name, help, value) in [
        (
            "sched_proposed_commands_total",
            "Commands taken by the proposer.",
            m.proposed_items,
        ),
        (
            "sched_proposed_entries_total",
            "Log entries proposed for them.",
            m.proposed_entries,
        ),
        (
            "sched_proposals_overloaded_total",
            "Calls refused because the proposer's queue was full.",
            m.overloaded,
        ),
        (
            "sched_proposals_unknown_total",
            "Commands whose outcome remained unknown.",
            m.unknown,
        ),
        ("sched_applied_entries_total", "Entries applied.", m.applied_entries),
        ("sched_applied_commands_total", "Commands applied.", m.applied_items),
        (
            "sched_elections_won_total",
            "Elections this node has won.",
            m.elections_won,
        ),
        ("sched_snapshots_built_total", "Snapshots built.", m.snapshots_built),
        (
            "sched_snapshots_sent_total",
            "Snapshots sent to others.",
            m.snapshots_sent,
        ),
        (
            "sched_snapshots_installed_total",
            "Snapshots installed from others.",
            m.snapshots_installed,
        ),
        (
            "sched_peer_messages_refused_total",
            "Messages of peers that were refused.",
            m.peer_refused,
        ),
        (
            "sched_refused_by_peers_total",
            "Messages of this node that peers refused: of another cluster, or meant for another node.",
            m.refused_by_peers,
        ),
        ("sched_log_syncs_total", "Synced writes of the log.", m.log_syncs),
    ] {
        metric(text, name, "counter", help, value);
    }
    let name = "sched_log_sync_seconds_total";
    let _ = writeln!(
        text,
        "# HELP {name} Time spent in synced writes of the log.\n# TYPE {name} counter"
    );
    let _ = writeln!(
        text,
        "{name} {}.{:09}",
        m.log_sync_ns / 1_000_000_000,
        m.log_sync_ns % 1_000_000_000
    );
}
