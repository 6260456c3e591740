//! Streams, leaders and attempts: what is started once, reported until recorded, and survives a reconnect.

use super::support::{Play, Said, job, sample};
use crate::worker::wire::job_to_wire;
use sched_core::task::Delivery;
use sched_proto::worker as pb;
use std::time::Duration;
use tokio::time::Instant;

const SOON: Duration = Duration::from_millis(10);
const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn an_attempt_is_run_reported_and_forgotten_once_recorded() {
    let mut play = Play::new(4);
    let mut stream = play.stream().await;
    assert_eq!(
        (
            stream.hello.worker.as_str(),
            stream.hello.slots,
            stream.hello.held.len()
        ),
        ("w", 4, 0)
    );
    assert_eq!(stream.hello.labels.get("zone").map(String::as_str), Some("x"));
    stream.welcome(pb::DispositionKind::Continue).await;
    stream.run(&sample(1, SECOND)).await;
    assert_eq!(stream.report().await, Said::Completed(1, pb::Verdict::Success));
    assert_eq!(play.until(|s| s.unrecorded == 1).await.started, 1);
    stream.recorded(1).await;
    play.until(|s| s.unrecorded == 0).await;
}

#[tokio::test(start_paused = true)]
async fn a_run_that_comes_again_starts_nothing() {
    let mut play = Play::new(4);
    let mut stream = play.welcomed().await;
    let first = sample(1, SECOND);
    stream.runs(&[first.clone(), first.clone()]).await;
    stream.run(&first).await;
    assert_eq!(stream.report().await, Said::Completed(1, pb::Verdict::Success));
    stream.run(&first).await;
    assert_eq!(
        stream.report().await,
        Said::Completed(1, pb::Verdict::Success),
        "over: its report is repeated"
    );
    stream.recorded(1).await;
    stream.run(&first).await;
    stream.run(&sample(2, SECOND)).await;
    assert_eq!(
        stream.report().await,
        Said::Completed(2, pb::Verdict::Success),
        "recorded: not a word"
    );
    assert_eq!(play.until(|_| true).await.started, 2);
}

#[tokio::test(start_paused = true)]
async fn what_runs_goes_on_across_streams_and_leaders() {
    let mut play = Play::new(4);
    let stream = play.welcomed().await;
    let journal = (stream.hello.journal_high, stream.hello.journal_low);
    stream.runs(&[sample(1, 3 * SECOND), sample(2, 2 * SECOND)]).await;
    play.until(|s| s.running == 2).await;
    drop(stream);
    let broken = play.stream().await;
    assert_eq!((broken.hello.journal_high, broken.hello.journal_low), journal);
    assert_eq!(
        broken.hello.held.iter().map(pb::Held::state).collect::<Vec<_>>(),
        [pb::HeldState::Running; 2]
    );
    play.leader.send_replace(Some("b:1".to_owned()));
    let mut stream = play.stream().await;
    assert_eq!(stream.address, "b:1");
    stream.welcome(pb::DispositionKind::Continue).await;
    assert_eq!(stream.report().await, Said::Completed(2, pb::Verdict::Success));
    assert_eq!(stream.report().await, Said::Completed(1, pb::Verdict::Success));
    drop(stream);
    let mut stream = play.stream().await;
    assert_eq!(
        stream.hello.held.iter().map(pb::Held::state).collect::<Vec<_>>(),
        [pb::HeldState::Ended; 2]
    );
    stream.welcome(pb::DispositionKind::Continue).await;
    let again = stream.reports().await.unwrap();
    let expected = [
        Said::Completed(1, pb::Verdict::Success),
        Said::Completed(2, pb::Verdict::Success),
    ];
    assert_eq!(again, expected, "not recorded: told again");
    assert_eq!(play.until(|_| true).await.started, 2);
}

#[tokio::test(start_paused = true)]
async fn a_report_without_an_answer_is_repeated_on_the_same_stream() {
    let mut play = Play::new(4);
    let mut stream = play.welcomed().await;
    stream.run(&sample(1, SOON)).await;
    let begin = Instant::now();
    for _ in 0..3 {
        assert_eq!(stream.report().await, Said::Completed(1, pb::Verdict::Success));
    }
    assert!((10..=22).contains(&begin.elapsed().as_secs()), "{:?}", begin.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_follower_sends_the_worker_on_and_a_refusal_makes_it_wait() {
    let mut play = Play::new(4);
    let stream = play.stream().await;
    let redirect = Some(pb::Redirect {
        leader: "c:1".to_owned(),
    });
    stream
        .send(pb::ToWorker {
            redirect,
            ..Default::default()
        })
        .await;
    let stream = play.stream().await;
    assert_eq!(stream.address, "c:1");
    let refused = Some(pb::Refused {
        reason: "not now".to_owned(),
        retry_after_ms: 7_000,
        new_journal: false,
    });
    stream
        .send(pb::ToWorker {
            refused,
            ..Default::default()
        })
        .await;
    let begin = Instant::now();
    let stream = play.welcomed().await;
    assert_eq!(
        (stream.address.as_str(), begin.elapsed().as_secs()),
        ("a:1", 7),
        "back to what the node believes"
    );
    assert_eq!(play.until(|s| s.session.is_some()).await.leader.as_deref(), Some("a:1"));
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_is_not_there_or_says_nothing_is_dialled_again() {
    let mut play = Play::new(4);
    let silent = play.stream().await;
    let begin = Instant::now();
    let _next = play.stream().await;
    assert!(
        (6..=9).contains(&begin.elapsed().as_secs()),
        "no welcome: {:?}",
        begin.elapsed()
    );
    drop(silent);
    play.leader.send_replace(Some("nobody:1".to_owned()));
    tokio::time::advance(Duration::from_secs(30)).await;
    play.leader.send_replace(None);
    play.leader.send_replace(Some("b:1".to_owned()));
    assert_eq!(play.stream().await.address, "b:1");
}

#[tokio::test(start_paused = true)]
async fn a_kill_ends_what_runs_and_forbids_what_has_not_come() {
    let mut play = Play::new(4);
    let mut stream = play.welcomed().await;
    stream.run(&sample(1, 1000 * SECOND)).await;
    play.until(|s| s.running == 1).await;
    stream.kill(1).await;
    assert_eq!(stream.report().await, Said::Completed(1, pb::Verdict::Cancelled));
    stream.kill(9).await;
    assert_eq!(stream.report().await, Said::Nack(9, pb::NackCode::Killed));
    stream.run(&sample(9, SOON)).await;
    assert_eq!(
        stream.report().await,
        Said::Nack(9, pb::NackCode::Killed),
        "late, and not started"
    );
    drop(stream);
    let mut stream = play.welcomed().await;
    let again = stream.reports().await.unwrap();
    assert_eq!(
        again,
        [
            Said::Completed(1, pb::Verdict::Cancelled),
            Said::Nack(9, pb::NackCode::Killed)
        ]
    );
    stream.recorded(9).await;
    stream.kill(9).await;
    stream.run(&sample(9, SOON)).await;
    stream.run(&sample(10, SOON)).await;
    assert_eq!(stream.report().await, Said::Completed(10, pb::Verdict::Success));
    assert_eq!(play.until(|_| true).await.started, 2);
}

#[tokio::test(start_paused = true)]
async fn attempts_wait_for_a_slot_in_order_and_are_refused_when_too_many_wait() {
    let mut play = Play::new(2);
    let mut stream = play.welcomed().await;
    let jobs: Vec<_> = (1..=5).map(|n| sample(n, n as u32 * SECOND)).collect();
    stream.runs(&jobs).await;
    assert_eq!(stream.report().await, Said::Nack(5, pb::NackCode::Full));
    assert_eq!(play.until(|s| s.running == 2).await.waiting, 2);
    let begin = Instant::now();
    for (n, at) in [(1, 1), (2, 2), (3, 4), (4, 6)] {
        assert_eq!(stream.report().await, Said::Completed(n, pb::Verdict::Success));
        assert_eq!(begin.elapsed().as_secs(), at, "run {n}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_at_most_once_attempt_starts_only_when_granted_and_once() {
    let mut play = Play::new(1);
    let mut stream = play.welcomed().await;
    let mut job = sample(1, SECOND);
    job.delivery = Delivery::AtMostOnce;
    stream.run(&job).await;
    assert_eq!(stream.report().await, Said::WantsGrant(1));
    drop(stream);
    let mut stream = play.stream().await;
    assert_eq!(stream.hello.held[0].state(), pb::HeldState::Waiting);
    stream.welcome(pb::DispositionKind::Continue).await;
    assert_eq!(stream.report().await, Said::WantsGrant(1), "asked again");
    stream.grant(1).await;
    stream.grant(1).await;
    assert_eq!(stream.report().await, Said::Completed(1, pb::Verdict::Success));
    stream.grant(1).await;
    assert_eq!(
        stream.report().await,
        Said::Completed(1, pb::Verdict::Success),
        "repeated, not run again"
    );
    assert_eq!(play.until(|_| true).await.started, 1);
}

#[tokio::test(start_paused = true)]
async fn stale_and_unmentioned_attempts_are_killed_and_still_reported() {
    let mut play = Play::new(4);
    let stream = play.welcomed().await;
    stream
        .runs(&[
            sample(1, 1000 * SECOND),
            sample(2, 1000 * SECOND),
            sample(3, 1000 * SECOND),
        ])
        .await;
    play.until(|s| s.running == 3).await;
    drop(stream);
    let mut stream = play.stream().await;
    let kinds = [pb::DispositionKind::Stale, pb::DispositionKind::Continue];
    let dispositions = stream.hello.held.iter().zip(kinds);
    let dispositions = dispositions.map(|(held, kind)| pb::Disposition {
        attempt: held.attempt,
        kind: kind.into(),
    });
    let welcome = pb::Welcome {
        lease_ms: 10_000,
        dispositions: dispositions.collect(),
        ..Default::default()
    };
    stream
        .send(pb::ToWorker {
            welcome: Some(welcome),
            ..Default::default()
        })
        .await;
    let reports = stream.several(2).await;
    assert_eq!(
        reports,
        [
            Said::Completed(1, pb::Verdict::Cancelled),
            Said::Completed(3, pb::Verdict::Cancelled)
        ]
    );
    assert_eq!(play.until(|s| s.running == 1).await.unrecorded, 2);
}

#[tokio::test(start_paused = true)]
async fn a_result_that_is_recorded_already_is_forgotten_at_the_welcome() {
    let mut play = Play::new(4);
    let mut stream = play.welcomed().await;
    stream.run(&sample(1, SOON)).await;
    assert_eq!(stream.report().await, Said::Completed(1, pb::Verdict::Success));
    drop(stream);
    let mut stream = play.stream().await;
    stream.welcome(pb::DispositionKind::Recorded).await;
    play.until(|s| s.session.is_some() && s.unrecorded == 0).await;
    stream.run(&sample(1, SOON)).await;
    stream.run(&sample(2, SOON)).await;
    assert_eq!(stream.report().await, Said::Completed(2, pb::Verdict::Success));
}

#[tokio::test(start_paused = true)]
async fn a_run_that_is_not_understood_fails_visibly_and_nonsense_changes_nothing() {
    let mut play = Play::new(4);
    let mut stream = play.welcomed().await;
    let mut strange = job_to_wire(&sample(1, SOON));
    strange.action = None;
    let nameless = pb::Run {
        attempt: None,
        ..strange.clone()
    };
    let empty = pb::Attempt { run: None, token: None };
    stream
        .send(pb::ToWorker {
            runs: vec![nameless, strange],
            ..Default::default()
        })
        .await;
    assert_eq!(stream.report().await, Said::Completed(1, pb::Verdict::Failure));
    stream.acknowledge(u64::MAX).await;
    let (granted, kills, recorded) = (vec![empty], vec![empty], vec![empty]);
    stream
        .send(pb::ToWorker {
            granted,
            kills,
            recorded,
            ..Default::default()
        })
        .await;
    stream.welcome(pb::DispositionKind::Stale).await;
    stream.run(&sample(2, SOON)).await;
    assert_eq!(stream.report().await, Said::Completed(2, pb::Verdict::Success));
}

#[tokio::test(start_paused = true)]
async fn a_burst_of_runs_is_reported_in_few_batches() {
    let mut play = Play::new(10_000);
    let mut stream = play.welcomed().await;
    let jobs: Vec<_> = (1..=5_000).map(|n| sample(n, Duration::ZERO)).collect();
    for jobs in jobs.chunks(500) {
        stream.runs(jobs).await;
    }
    let (mut batches, mut reports) = (0, 0);
    while reports < 5_000 {
        let said = stream.reports().await.unwrap();
        (batches, reports) = (batches + 1, reports + said.len());
    }
    assert!(batches < 200, "{batches} batches");
}

#[tokio::test(start_paused = true)]
async fn reports_with_long_tails_are_spread_over_batches_the_leader_can_take() {
    use prost::Message;
    let mut play = Play::new(200);
    let mut stream = play.welcomed().await;
    stream.confirm = false;
    // Over a megabyte of tails, gathered while the stream is not read.
    let script = "head -c 16384 /dev/zero";
    let jobs: Vec<_> = (1..=150)
        .map(|n| job(n, super::command(&["/bin/sh", "-c", script])))
        .collect();
    stream.runs(&jobs).await;
    play.until(|s| s.unrecorded == 150).await;
    let (mut largest, mut reports) = (0, 0);
    while reports < 150 {
        let batch = stream.rx.recv().await.unwrap();
        largest = largest.max(batch.encoded_len());
        reports += batch.completed.len();
    }
    assert!(largest < 1_200_000, "{largest} bytes");
}

#[tokio::test(start_paused = true)]
async fn output_is_read_through_the_stream() {
    let mut play = Play::new(4);
    let mut stream = play.welcomed().await;
    stream
        .run(&job(
            1,
            super::command(&["/bin/sh", "-c", "echo first; read line; echo never"]),
        ))
        .await;
    let request = |request, offset, wait_ms| pb::OutputRequest {
        request,
        run: Some(pb::RunId { task: 7, number: 1 }),
        attempt_number: 0,
        offset,
        limit: 0,
        wait_ms,
    };
    assert_eq!(stream.report().await, Said::Completed(1, pb::Verdict::Success));
    let output_requests = vec![request(1, 0, 0), request(2, 6, 1000), request(3, 12, 0)];
    stream
        .send(pb::ToWorker {
            output_requests,
            ..Default::default()
        })
        .await;
    let mut chunks = Vec::new();
    while chunks.len() < 3 {
        for said in stream.reports().await.unwrap() {
            let Said::Output(chunk) = said else { continue };
            chunks.push((
                chunk.request,
                chunk.status(),
                chunk.data.to_vec(),
                chunk.next_offset,
                chunk.end,
            ));
        }
    }
    chunks.sort_by_key(|chunk| chunk.0);
    let ok = pb::OutputStatus::Ok;
    let expected = [
        (1, ok, b"first\nnever\n".to_vec(), 12, true),
        (2, ok, b"never\n".to_vec(), 12, true),
        (3, ok, Vec::new(), 12, true),
    ];
    assert_eq!(chunks, expected);
    let mut unknown = request(4, 0, 0);
    unknown.run = Some(pb::RunId { task: 99, number: 1 });
    stream
        .send(pb::ToWorker {
            output_requests: vec![unknown],
            ..Default::default()
        })
        .await;
    let Said::Output(chunk) = stream.report().await else {
        panic!("no output")
    };
    assert_eq!((chunk.request, chunk.status()), (4, pb::OutputStatus::NotFound));
}
