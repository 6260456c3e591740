//! Loss of contact: nothing new after 4 s, SIGTERM after 6 s, SIGKILL after 8 s, everything given up after 10 s.

use super::support::{Play, Said, command, job, sample};
use crate::worker::wire::OnDisconnect;
use sched_core::task::Delivery;
use sched_proto::worker as pb;
use std::time::Duration;
use tokio::time::{Instant, advance, sleep};

const SECOND: Duration = Duration::from_secs(1);

/// As precise as heartbeats and timers are.
fn about(at: Duration, seconds: u64) -> bool {
    at.abs_diff(Duration::from_secs(seconds)) < Duration::from_millis(200)
}

#[tokio::test(start_paused = true)]
async fn heartbeats_keep_what_runs_alive() {
    let mut play = Play::new(4);
    let mut stream = play.welcomed().await;
    stream.run(&sample(1, 60 * SECOND)).await;
    assert_eq!(stream.report().await, Said::Completed(1, pb::Verdict::Success));
    assert!((30..=32).contains(&stream.heartbeats.len()), "{:?}", stream.heartbeats);
}

#[tokio::test(start_paused = true)]
async fn without_acknowledgements_nothing_starts_after_4_s_and_what_runs_is_ended_after_6_s() {
    let mut play = Play::new(4);
    let mut stream = play.welcomed().await;
    let begin = Instant::now();
    stream.confirm = false;
    stream.run(&sample(1, 1000 * SECOND)).await;
    play.until(|s| s.running == 1).await;
    advance(4 * SECOND).await;
    stream.run(&sample(2, SECOND)).await;
    assert_eq!(play.until(|s| s.waiting == 1).await.started, 1);
    // The stream is of no use any more: the worker ends it and dials again.
    while stream.reports().await.is_some() {}
    assert!(about(begin.elapsed(), 6), "{:?}", begin.elapsed());
    play.until(|s| s.running == 0).await;
    assert!(about(begin.elapsed(), 6), "{:?}", begin.elapsed());
    let mut stream = play.welcomed().await;
    assert_eq!(stream.report().await, Said::Completed(1, pb::Verdict::Abandoned));
    assert_eq!(
        stream.report().await,
        Said::Completed(2, pb::Verdict::Success),
        "contact is back"
    );
}

#[tokio::test(start_paused = true)]
async fn an_acknowledgement_counts_from_when_its_heartbeat_was_sent() {
    let mut play = Play::new(4);
    let mut stream = play.welcomed().await;
    let begin = Instant::now();
    stream.confirm = false;
    stream.run(&sample(1, 1000 * SECOND)).await;
    // The heartbeat of the second second is answered in the fifth.
    while begin.elapsed() < 2 * SECOND {
        let batch = stream.rx.recv().await.unwrap();
        stream.heartbeats.extend(batch.heartbeat.map(|heartbeat| heartbeat.seq));
    }
    sleep(3 * SECOND).await;
    stream.acknowledge(*stream.heartbeats.last().unwrap()).await;
    play.until(|s| s.running == 0).await;
    assert!(about(begin.elapsed(), 8), "2 + 6: {:?}", begin.elapsed());
}

#[tokio::test(start_paused = true)]
async fn what_ignores_the_request_to_end_is_killed_after_8_s_before_its_own_grace_is_over() {
    let mut play = Play::new(4);
    let mut stream = play.welcomed().await;
    let begin = Instant::now();
    stream.confirm = false;
    let ready = play.dir.path().join("ready");
    rustix::fs::mknodat(rustix::fs::CWD, &ready, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    let stubborn = format!(
        "trap '' TERM; echo ready > {}; while :; do sleep 1000; done",
        ready.display()
    );
    stream.run(&job(1, command(&["/bin/sh", "-c", &stubborn]))).await;
    // Time stands still meanwhile.
    tokio::fs::read(ready).await.unwrap();
    play.leader.send_replace(Some("nobody:1".to_owned()));
    play.until(|s| s.running == 0).await;
    assert!(begin.elapsed() >= 8 * SECOND, "{:?}", begin.elapsed());
    let mut stream = play.stream_at("b:1").await;
    stream.welcome(pb::DispositionKind::Continue).await;
    assert_eq!(stream.report().await, Said::Completed(1, pb::Verdict::Abandoned));
}

#[tokio::test(start_paused = true)]
async fn after_10_s_what_never_started_is_refused_and_what_may_go_on_does() {
    let mut play = Play::new(2);
    let mut stream = play.welcomed().await;
    stream.confirm = false;
    let mut lasting = sample(1, 100 * SECOND);
    lasting.on_disconnect = OnDisconnect::Continue;
    let mut granted = sample(2, SECOND);
    granted.delivery = Delivery::AtMostOnce;
    stream.runs(&[lasting, granted, sample(3, SECOND)]).await;
    assert_eq!(stream.report().await, Said::WantsGrant(2));
    drop(stream);
    let begin = Instant::now();
    play.leader.send_replace(Some("nobody:1".to_owned()));
    play.until(|s| s.session.is_none()).await;
    assert!(about(begin.elapsed(), 10), "{:?}", begin.elapsed());
    let mut stream = play.stream_at("b:1").await;
    use pb::HeldState::{Refused, Running};
    assert_eq!(
        stream.hello.held.iter().map(pb::Held::state).collect::<Vec<_>>(),
        [Running, Refused, Refused]
    );
    stream.welcome(pb::DispositionKind::Continue).await;
    let refused = [
        Said::Nack(2, pb::NackCode::NoContact),
        Said::Nack(3, pb::NackCode::NoContact),
    ];
    assert_eq!(stream.reports().await.unwrap(), refused);
    stream.grant(2).await;
    assert_eq!(
        stream.report().await,
        Said::Nack(2, pb::NackCode::NoContact),
        "a late grant starts nothing"
    );
    stream.recorded(2).await;
    stream.recorded(3).await;
    assert_eq!(stream.report().await, Said::Completed(1, pb::Verdict::Success));
    assert!(begin.elapsed() > 99 * SECOND);
    assert_eq!(play.until(|_| true).await.started, 1);
}
