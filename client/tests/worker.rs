//! A remote worker keeps its promises while its leader changes, falls silent, repeats itself or takes its time.

use sched_client::testing::{FakeLeader, WorkerStream};
use sched_client::worker::stop::Cause;
use sched_client::{Answer, ClientError, Job, Worker};
use sched_core::Timestamp;
use sched_core::ids::{RunId, TaskId, Token};
use sched_core::task::{Action, Delivery};
use sched_proto::convert::worker::{self as wire, OnDisconnect, attempt_to_wire, job_to_wire};
use sched_proto::worker::{self as pb, ToWorker, Verdict};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot};

/// The lease when it does not matter, and the shortest that a worker takes.
const LONG: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_secs(1);

fn id(number: u64) -> RunId {
    RunId {
        task: TaskId(7),
        number,
    }
}

fn token(index: u64) -> Token {
    Token { index, position: 0 }
}

/// A run of queue `q` whose token is its number.
fn job(number: u64, payload: &str) -> wire::Job {
    wire::Job {
        run: id(number),
        token: token(number),
        namespace: "default".into(),
        task_name: Some("t".into()),
        scheduled_at: Timestamp::from_millis(5),
        attempt_number: 2,
        action: Action::Worker {
            queue: "q".into(),
            payload: payload.into(),
            progress_timeout_ms: None,
        },
        time_limit: None,
        params: vec![("k".into(), "v".into())],
        delivery: Delivery::AtLeastOnce,
        on_disconnect: OnDisconnect::Kill,
    }
}

fn run(number: u64) -> pb::Run {
    job_to_wire(&job(number, ""))
}

fn worker(leader: &FakeLeader) -> Worker {
    Worker::new("q")
        .endpoints([leader.address()])
        .name("w")
        .slots(2)
        .grace(Duration::from_millis(200))
}

fn verdict(completed: &pb::Completed) -> Verdict {
    completed.result.as_ref().expect("a result").verdict()
}

fn said(completed: pb::Completed) -> (Verdict, String, Vec<u8>) {
    let result = completed.result.expect("a result");
    (result.verdict(), result.reason, result.result.to_vec())
}

#[tokio::test]
async fn a_handler_gets_its_job_and_its_answer_is_reported() {
    let mut leader = FakeLeader::start().await;
    let worker = worker(&leader)
        .queue("r")
        .label("zone", "a")
        .run(|job: Job| async move {
            let facts = (
                job.queue(),
                job.run(),
                job.attempt(),
                job.token(),
                job.scheduled_at().as_millis(),
            );
            assert_eq!(facts, ("q", id(1), 2, token(1), 5));
            assert_eq!(
                (job.params()[0].0.as_str(), job.task_name(), job.deadline()),
                ("k", Some("t"), None)
            );
            let numbers: Vec<u32> = job.json()?;
            Answer::json(&numbers.iter().sum::<u32>())
        });
    let worker = tokio::spawn(worker);
    let mut stream = leader.welcome(LONG).await;
    let hello = &stream.hello;
    assert_eq!(
        (hello.worker.as_str(), hello.slots, &hello.queues[..]),
        ("w", 2, &["q".to_owned(), "r".into()][..])
    );
    assert_eq!(hello.labels["zone"], "a");
    stream.run(vec![job_to_wire(&job(1, "[1, 2, 39]"))]).await;
    assert_eq!(
        said(stream.completed().await),
        (Verdict::Success, String::new(), b"42".to_vec())
    );
    worker.abort();
}

#[tokio::test]
async fn errors_panics_and_delays_are_answers() {
    let mut leader = FakeLeader::start().await;
    let worker = tokio::spawn(worker(&leader).run(|job: Job| async move {
        match job.payload() {
            b"fail" => Err("no disk".to_owned()),
            b"panic" => panic!("a slip"),
            b"later" => Ok(Answer::delay_me(Duration::from_secs(90), "busy")),
            b"huge" => Ok(Answer::Done(vec![0; 16 * 1024 + 1])),
            _ => Ok(Answer::done()),
        }
    }));
    let mut stream = leader.welcome(LONG).await;
    // payload -> verdict, reason
    let table = [
        ("fail", Verdict::Failure, "no disk"),
        ("panic", Verdict::Failure, "a slip"),
        ("later", Verdict::DelayMe, "busy"),
        ("huge", Verdict::Failure, "16385 bytes"),
        ("", Verdict::Success, ""),
    ];
    for (number, (payload, expected, why)) in (1..).zip(table) {
        stream.run(vec![job_to_wire(&job(number, payload))]).await;
        let completed = stream.completed().await;
        let delay_ms = completed.result.as_ref().expect("a result").delay_ms;
        assert_eq!(delay_ms, if payload == "later" { 90_000 } else { 0 });
        let (verdict, reason, _) = said(completed);
        assert_eq!(verdict, expected, "{payload}");
        assert!(reason.contains(why), "{payload}: {reason}");
        stream.record(id(number), token(number)).await;
    }
    // Of another queue, or no work for a remote worker: it fails visibly.
    let mut other = job(8, "");
    other.action = Action::Worker {
        queue: "z".into(),
        payload: Vec::new(),
        progress_timeout_ms: None,
    };
    let sample = Action::Sample {
        succeed: true,
        duration_ms: 0,
        payload: Vec::new(),
    };
    for (wrong, why) in [
        (other, "queue z"),
        (
            wire::Job {
                action: sample,
                token: token(9),
                ..job(9, "")
            },
            "sample",
        ),
    ] {
        stream.run(vec![job_to_wire(&wrong)]).await;
        let (verdict, reason, _) = said(stream.completed().await);
        assert!(verdict == Verdict::Failure && reason.contains(why), "{reason}");
    }
    worker.abort();
}

#[tokio::test]
async fn a_token_is_begun_once_and_its_end_told_until_it_is_recorded() {
    let mut leader = FakeLeader::start().await;
    let begun = Arc::new(AtomicUsize::new(0));
    let count = begun.clone();
    let worker = tokio::spawn(worker(&leader).run(move |_| {
        count.fetch_add(1, Ordering::SeqCst);
        async {}
    }));
    let mut first = leader.welcome(LONG).await;
    let journal = (first.hello.journal_high, first.hello.journal_low);
    first.run(vec![run(1)]).await;
    assert_eq!(verdict(&first.completed().await), Verdict::Success);
    // Not recorded: the stream breaks, and it is told again, by the same worker.
    drop(first);
    let mut second = leader.welcome(LONG).await;
    assert_eq!((second.hello.journal_high, second.hello.journal_low), journal);
    assert_eq!(second.hello.held[0].state(), pb::HeldState::Ended);
    second.run(vec![run(1), run(1)]).await;
    assert_eq!(verdict(&second.completed().await), Verdict::Success);
    second.record(id(1), token(1)).await;
    drop(second);
    let mut third = leader.welcome(LONG).await;
    assert!(third.hello.held.is_empty(), "recorded and forgotten");
    third.run(vec![run(1), run(2)]).await;
    assert_eq!(third.completed().await.attempt, Some(attempt_to_wire(id(2), token(2))));
    assert_eq!(begun.load(Ordering::SeqCst), 2, "the first once, the second once");
    worker.abort();
}

#[tokio::test]
async fn a_job_goes_on_while_the_leader_changes() {
    let (mut old, mut new) = (FakeLeader::start().await, FakeLeader::start().await);
    let (go_on, gone_on) = oneshot::channel::<()>();
    let gone_on = Arc::new(tokio::sync::Mutex::new(Some(gone_on)));
    let worker = tokio::spawn(worker(&old).run(move |job: Job| {
        let gone_on = gone_on.clone();
        async move {
            job.progress(40, "half");
            let wait = gone_on.lock().await.take().expect("it is begun once");
            tokio::select! {
                _ = wait => Ok(()),
                why = job.stopped() => Err(why.describe()),
            }
        }
    }));
    let mut stream = old.welcome(LONG).await;
    stream.run(vec![run(1)]).await;
    let progress = progress(&mut stream).await;
    assert_eq!((progress.percent, progress.message.as_str()), (Some(40), "half"));
    stream
        .send(ToWorker {
            redirect: Some(pb::Redirect { leader: new.address() }),
            ..ToWorker::default()
        })
        .await;
    let mut stream = new.welcome(LONG).await;
    assert_eq!(stream.hello.held[0].state(), pb::HeldState::Running);
    assert_eq!(
        self::progress(&mut stream).await.message,
        "half",
        "the new leader hears it, too"
    );
    go_on.send(()).expect("the handler waits");
    assert_eq!(verdict(&stream.completed().await), Verdict::Success);
    worker.abort();
}

async fn progress(stream: &mut WorkerStream) -> pb::Progress {
    loop {
        let mut batch = stream.next().await.expect("the stream goes on");
        if let Some(progress) = batch.progress.pop() {
            return progress;
        }
    }
}

#[tokio::test]
async fn output_is_read_and_followed_and_ends_with_the_job() {
    let mut leader = FakeLeader::start().await;
    let (tx, rx) = mpsc::channel::<String>(4);
    let rx = Arc::new(tokio::sync::Mutex::new(rx));
    let worker = tokio::spawn(worker(&leader).run(move |job: Job| {
        let rx = rx.clone();
        async move {
            while let Some(line) = rx.lock().await.recv().await {
                job.log(line);
            }
        }
    }));
    let mut stream = leader.welcome(LONG).await;
    stream.run(vec![run(1)]).await;
    let ask = |request, offset| ToWorker {
        output_requests: vec![pb::OutputRequest {
            request,
            run: Some(pb::RunId { task: 7, number: 1 }),
            offset,
            wait_ms: 30_000,
            ..Default::default()
        }],
        ..ToWorker::default()
    };
    let mut offset = 0;
    let mut tx = Some(tx);
    for (request, line) in [(1, Some("one")), (2, Some("two")), (3, None)] {
        stream.send(ask(request, offset)).await;
        match line {
            Some(line) => tx
                .as_ref()
                .expect("open")
                .send(line.to_owned())
                .await
                .expect("the handler reads"),
            None => drop(tx.take()),
        }
        let chunk = loop {
            if let Some(chunk) = stream.next().await.expect("the stream goes on").output.pop() {
                break chunk;
            }
        };
        assert_eq!(chunk.request, request);
        assert_eq!(chunk.data, line.map(|line| format!("{line}\n")).unwrap_or_default());
        assert_eq!(chunk.end, line.is_none());
        offset = chunk.next_offset;
    }
    worker.abort();
}

#[tokio::test]
async fn a_cancelled_handler_is_told_and_then_dropped() {
    let mut leader = FakeLeader::start().await;
    let (tx, mut dropped) = mpsc::channel::<()>(1);
    let worker = tokio::spawn(worker(&leader).run(move |job: Job| {
        let held = tx.clone();
        async move {
            let _held = held;
            job.progress(None, "begun");
            if job.payload() == b"obeys" {
                return Err(format!("tidied up: {:?}", job.stopped().await));
            }
            std::future::pending::<()>().await;
            Ok(())
        }
    }));
    let mut stream = leader.welcome(LONG).await;
    for (number, payload, expected) in [(1, "obeys", Verdict::Failure), (2, "", Verdict::Cancelled)] {
        stream.run(vec![job_to_wire(&job(number, payload))]).await;
        progress(&mut stream).await;
        stream.kill(id(number), token(number)).await;
        let (verdict, reason, _) = said(stream.completed().await);
        assert_eq!(verdict, expected);
        assert!(reason.to_lowercase().contains("cancelled"), "{reason}");
        stream.record(id(number), token(number)).await;
    }
    // Killed before it came: it does not begin.
    stream.kill(id(3), token(3)).await;
    stream.run(vec![run(3)]).await;
    let nack = loop {
        if let Some(nack) = stream.next().await.expect("the stream goes on").nacks.pop() {
            break nack;
        }
    };
    assert_eq!(nack.code(), pb::NackCode::Killed);
    worker.abort();
    assert!(worker.await.is_err_and(|e| e.is_cancelled()));
    assert_eq!(dropped.recv().await, None, "nothing of the handlers is left");
}

#[tokio::test]
async fn a_time_limit_is_a_failure() {
    let mut leader = FakeLeader::start().await;
    let worker = tokio::spawn(worker(&leader).run(|job: Job| async move {
        assert!(job.deadline().is_some());
        std::future::pending::<()>().await
    }));
    let mut stream = leader.welcome(LONG).await;
    let limited = wire::Job {
        time_limit: Some(Duration::from_millis(50)),
        ..job(1, "")
    };
    stream.run(vec![job_to_wire(&limited)]).await;
    let (verdict, reason, _) = said(stream.completed().await);
    assert!(
        verdict == Verdict::Failure && reason.contains("time limit of 50 ms"),
        "{reason}"
    );
    worker.abort();
}

/// A run of queue `q` whose handler has promised progress.
fn promising(number: u64, payload: &str, progress_timeout_ms: u64) -> pb::Run {
    job_to_wire(&wire::Job {
        action: Action::Worker {
            queue: "q".into(),
            payload: payload.into(),
            progress_timeout_ms: Some(progress_timeout_ms),
        },
        ..job(number, "")
    })
}

#[tokio::test]
async fn one_that_promised_progress_and_tells_none_has_failed() {
    let mut leader = FakeLeader::start().await;
    let (tx, mut told) = mpsc::unbounded_channel();
    let worker = tokio::spawn(worker(&leader).run(move |job: Job| {
        let tx = tx.clone();
        async move {
            if job.payload() == b"diligent" {
                assert_eq!(job.progress_timeout(), Some(SHORT));
                // Together longer than the timeout.
                for step in 0..4 {
                    tokio::time::sleep(SHORT * 4 / 10).await;
                    job.progress(step * 25, "on it");
                }
                return;
            }
            job.progress(10, "begun");
            // What is logged is no progress.
            loop {
                job.log("still here");
                tokio::select! {
                    why = job.stopped() => {
                        tx.send(why).expect("the test listens");
                        std::future::pending::<()>().await
                    }
                    () = tokio::time::sleep(Duration::from_millis(5)) => {}
                }
            }
        }
    }));
    let mut stream = leader.welcome(LONG).await;
    stream.run(vec![promising(1, "diligent", 1000)]).await;
    let (verdict, reason, _) = said(stream.completed().await);
    assert!(verdict == Verdict::Success, "{reason}");
    stream.record(id(1), token(1)).await;
    stream.run(vec![promising(2, "lazy", 50)]).await;
    let (verdict, reason, _) = said(stream.completed().await);
    assert_eq!(told.recv().await, Some(Cause::NoProgress(Duration::from_millis(50))));
    assert!(
        verdict == Verdict::Failure && reason.contains("no progress for 50 ms"),
        "{reason}"
    );
    worker.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn one_that_blocks_its_thread_is_left_behind() {
    let mut leader = FakeLeader::start().await;
    let (tx, rx) = std::sync::mpsc::channel::<()>();
    let rx = Arc::new(std::sync::Mutex::new(rx));
    let worker = tokio::spawn(worker(&leader).slots(1).run(move |job: Job| {
        let rx = rx.clone();
        async move {
            if job.payload() == b"stuck" {
                // Until the test lets go.
                let _ = rx.lock().expect("one handler has it").recv();
            }
        }
    }));
    let mut stream = leader.welcome(LONG).await;
    stream.run(vec![promising(1, "stuck", 50)]).await;
    let (verdict, reason, _) = said(stream.completed().await);
    assert!(
        verdict == Verdict::Failure && reason.contains("no progress for 50 ms") && reason.contains("left behind"),
        "{reason}"
    );
    stream.record(id(1), token(1)).await;
    stream.run(vec![promising(2, "", 1000)]).await;
    assert_eq!(verdict_of_next(&mut stream).await, Verdict::Success, "its slot is free");
    drop(tx);
    worker.abort();
}

async fn verdict_of_next(stream: &mut WorkerStream) -> Verdict {
    verdict(&stream.completed().await)
}

#[tokio::test]
async fn without_contact_nothing_begins_and_what_runs_is_given_up_in_time() {
    let mut leader = FakeLeader::start().await;
    let (tx, mut told) = mpsc::channel(1);
    let worker = tokio::spawn(worker(&leader).grace(LONG).run(move |job: Job| {
        let tx = tx.clone();
        async move {
            let why = job.stopped().await;
            // Gone with the handler.
            let (_held, dropped) = oneshot::channel::<()>();
            tx.send((why, Instant::now(), dropped)).await.expect("the test listens");
            std::future::pending::<()>().await
        }
    }));
    let began = Instant::now();
    let mut stream = leader.welcome(SHORT).await;
    stream.acknowledges = false;
    stream.run(vec![run(1)]).await;
    let (why, at, dropped) = told.recv().await.expect("the handler is told");
    assert_eq!(why, Cause::ContactLost);
    let after = at.duration_since(began);
    assert!(after >= SHORT * 5 / 10, "told after {after:?} of a lease of {SHORT:?}");
    assert!(dropped.await.is_err());
    let after = began.elapsed();
    assert!(
        (SHORT * 7 / 10..2 * SHORT).contains(&after),
        "dropped after {after:?} of a lease of {SHORT:?}"
    );
    // It looks for another leader from the fourth tenth on, and has found this one again.
    let mut stream = leader.welcome(LONG).await;
    let (verdict, reason, _) = said(stream.completed().await);
    assert_eq!(verdict, Verdict::Cancelled);
    assert!(reason.contains("lost contact"), "{reason}");
    worker.abort();
}

#[tokio::test]
async fn a_leaving_worker_takes_nothing_new_and_reports_before_it_goes() {
    let mut leader = FakeLeader::start().await;
    let (leave, left) = oneshot::channel::<()>();
    let (go_on, gone_on) = oneshot::channel::<()>();
    let gone_on = Arc::new(tokio::sync::Mutex::new(Some(gone_on)));
    let leaving = async move { drop(left.await) };
    let worker = tokio::spawn(worker(&leader).run_until(leaving, move |job: Job| {
        let gone_on = gone_on.clone();
        async move {
            job.progress(1, "begun");
            let wait = gone_on.lock().await.take().expect("only the first begins");
            drop(wait.await);
        }
    }));
    let mut stream = leader.welcome(LONG).await;
    stream.run(vec![run(1)]).await;
    progress(&mut stream).await;
    leave.send(()).expect("the worker listens");
    let goodbye = stream
        .next()
        .await
        .expect("the stream goes on")
        .goodbye
        .expect("it says that it leaves");
    assert!(!goodbye.empty);
    stream.run(vec![run(2)]).await;
    let nack = stream
        .next()
        .await
        .expect("the stream goes on")
        .nacks
        .pop()
        .expect("a refusal");
    assert_eq!(nack.code(), pb::NackCode::Draining);
    stream.record(id(2), token(2)).await;
    go_on.send(()).expect("the handler waits");
    assert_eq!(verdict(&stream.completed().await), Verdict::Success);
    assert!(!worker.is_finished(), "not before it is recorded");
    stream.record(id(1), token(1)).await;
    let goodbye = stream
        .next()
        .await
        .expect("the stream goes on")
        .goodbye
        .expect("its last word");
    assert!(goodbye.empty);
    drop(stream);
    worker.await.expect("no panic").expect("it has left");
}

#[tokio::test]
async fn what_cannot_work_is_refused_at_once() {
    let refused = |worker: Worker| async move { worker.run(|_| async {}).await.expect_err("refused") };
    let at = |worker: Worker| worker.endpoints(["127.0.0.1:1"]);
    for (worker, field) in [
        (at(Worker::new("")), "queue"),
        (at(Worker::new("q").slots(0)), "slots"),
        (at(Worker::new("q").name("")), "worker"),
        (at(Worker::new("q").label("", "x")), "labels"),
    ] {
        let error = refused(worker).await;
        assert!(
            matches!(error, ClientError::Invalid(_)) && error.to_string().contains(field),
            "{error}"
        );
    }
    let many = (0..33).fold(Worker::new("q"), |worker, n| worker.queue(n.to_string()));
    assert!(refused(at(many)).await.to_string().contains("at most 32"));
    for endpoints in [vec![], vec!["https://x"]] {
        let error = refused(Worker::new("q").endpoints(endpoints)).await;
        assert!(matches!(error, ClientError::Endpoint { .. }), "{error}");
    }
}
