//! How a worker leaves.

use super::support::{Play, Said, sample};
use sched_proto::worker as pb;
use std::time::Duration;
use tokio::time::Instant;

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn a_worker_that_leaves_takes_nothing_new_ends_what_runs_and_says_goodbye() {
    let mut play = Play::new(4);
    let mut stream = play.welcomed().await;
    stream.run(&sample(1, 20 * SECOND)).await;
    play.until(|s| s.running == 1).await;
    play.worker.begin_drain(60 * SECOND);
    assert_eq!(stream.report().await, Said::Goodbye { empty: false });
    stream.run(&sample(2, SECOND)).await;
    assert_eq!(stream.report().await, Said::Nack(2, pb::NackCode::Draining));
    stream.recorded(2).await;
    assert_eq!(stream.report().await, Said::Completed(1, pb::Verdict::Success));
    stream.recorded(1).await;
    assert_eq!(stream.report().await, Said::Goodbye { empty: true });
    assert_eq!(stream.reports().await, None, "and ends the stream");
    drop(stream);
    play.worker.drain(Duration::ZERO).await;
    let status = play.until(|_| true).await;
    assert!(status.gone && status.leader.is_none(), "{status:?}");
}

#[tokio::test(start_paused = true)]
async fn what_runs_longer_than_the_patience_is_ended_and_reported() {
    let mut play = Play::new(4);
    let mut stream = play.welcomed().await;
    stream.run(&sample(1, 1000 * SECOND)).await;
    play.until(|s| s.running == 1).await;
    let begin = Instant::now();
    play.worker.begin_drain(100 * SECOND);
    play.worker.begin_drain(10 * SECOND);
    assert_eq!(stream.report().await, Said::Goodbye { empty: false });
    assert_eq!(stream.report().await, Said::Completed(1, pb::Verdict::Stopped));
    assert_eq!(begin.elapsed().as_secs(), 10, "the shorter patience counts");
    stream.recorded(1).await;
    assert_eq!(stream.report().await, Said::Goodbye { empty: true });
}

#[tokio::test(start_paused = true)]
async fn without_a_leader_leaving_takes_some_seconds_not_for_ever() {
    let mut play = Play::new(4);
    let stream = play.welcomed().await;
    stream.run(&sample(1, 1000 * SECOND)).await;
    play.until(|s| s.running == 1).await;
    play.leader.send_replace(Some("nobody:1".to_owned()));
    drop(stream);
    let begin = Instant::now();
    play.worker.shutdown().await;
    assert!(begin.elapsed() <= 4 * SECOND, "{:?}", begin.elapsed());
    assert_eq!(play.until(|s| s.gone).await.unrecorded, 1);
}

#[tokio::test(start_paused = true)]
async fn a_worker_says_in_its_hello_that_it_is_leaving() {
    let mut play = Play::new(4);
    let stream = play.welcomed().await;
    stream.run(&sample(1, 20 * SECOND)).await;
    play.until(|s| s.running == 1).await;
    play.worker.begin_drain(60 * SECOND);
    play.until(|s| s.draining).await;
    drop(stream);
    let mut stream = play.welcomed().await;
    assert!(stream.hello.draining);
    assert_eq!(stream.report().await, Said::Goodbye { empty: false });
}

#[tokio::test(start_paused = true)]
async fn dropping_the_handle_ends_the_worker() {
    let mut play = Play::new(4);
    let mut stream = play.welcomed().await;
    stream.run(&sample(1, 1000 * SECOND)).await;
    let mut status = play.worker.status();
    play.until(|s| s.running == 1).await;
    drop(play);
    status.wait_for(|s| s.gone).await.unwrap();
    assert_eq!(stream.reports().await, None);
}
