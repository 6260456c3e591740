//! A client keeps its promises while leaders change, answers are lost, and nodes hang or talk nonsense.

use futures::StreamExt as _;
use sched_client::testing::{FakeCluster, Fault};
use sched_client::{Client, ClientError, LogsOf, Options, Submission, task, v1};
use sched_core::ids::{RunId, TaskId};
use sched_core::schedule::Schedule;
use sched_core::task::{Action, TaskRef};
use sched_proto::convert::failure;
use std::time::Duration;

/// Short, so that a test of the deadline is quick; the order of the limits is that of the defaults.
fn options() -> Options {
    Options {
        deadline: Duration::from_millis(1500),
        attempt_timeout: Duration::from_millis(200),
        backoff: Duration::from_millis(5),
        backoff_max: Duration::from_millis(20),
    }
}

fn client(cluster: &FakeCluster) -> Client {
    Client::with_options(cluster.endpoints(), options()).expect("addresses")
}

fn sample() -> Submission {
    let action = Action::Sample {
        succeed: true,
        duration_ms: 0,
        payload: Vec::new(),
    };
    Submission::new(task(Schedule::Manual, action))
}

fn named(name: &str) -> Submission {
    let mut submission = sample();
    submission.spec.name = Some(name.to_owned());
    submission
}

#[tokio::test]
async fn the_leader_is_found_and_gone_to_directly() {
    let cluster = FakeCluster::start(3).await;
    cluster.elect(Some(2));
    let client = client(&cluster);
    client.submit(sample()).await.expect("accepted");
    // The first node named the third: two calls, not three.
    assert_eq!(cluster.state().received.len(), 2);
    client.submit(sample()).await.expect("accepted");
    assert_eq!(cluster.state().received.len(), 3);
    cluster.elect(Some(1));
    client.submit(sample()).await.expect("accepted");
    assert_eq!(cluster.state().carried_out, ["submit 1", "submit 2", "submit 3"]);
}

#[tokio::test]
async fn a_leader_that_was_not_given_is_learned() {
    let cluster = FakeCluster::start(3).await;
    cluster.elect(Some(1));
    let first = &cluster.endpoints()[..1];
    let client = Client::with_options(first, options()).expect("address");
    client.submit(sample()).await.expect("accepted");
}

#[tokio::test]
async fn a_leader_only_the_cluster_can_reach_does_not_stand_in_the_way() {
    let cluster = FakeCluster::start(1).await;
    let unreachable = v1::Failure {
        leader: "127.0.0.1:1".to_owned(),
        ..failure(v1::FailureKind::NotLeader, "not me")
    };
    cluster.fault(0, [Fault::Refuse(unreachable.clone()), Fault::Refuse(unreachable)]);
    client(&cluster).submit(sample()).await.expect("accepted");
}

#[tokio::test]
async fn an_answer_that_is_lost_does_not_make_a_second_task() {
    for fault in [Fault::AnswerLost, Fault::AnswerBroken] {
        let cluster = FakeCluster::start(3).await;
        cluster.fault(0, [fault.clone(), fault]);
        let reply = client(&cluster).submit(sample()).await.expect("accepted");
        assert_eq!(reply.id, 1);
        assert_eq!(cluster.state().carried_out, ["submit 1"]);
        assert!(cluster.state().received.len() >= 2);
    }
}

/// A batch whose answer was lost meets a node that leads no more, which says so of each item: none of them is refused.
#[tokio::test]
async fn an_item_that_a_node_cannot_decide_about_is_not_refused() {
    let cluster = FakeCluster::start(3).await;
    cluster.fault(0, [Fault::AnswerBroken]);
    cluster
        .state()
        .item_refusals
        .push_back(failure(v1::FailureKind::NotLeader, "not me"));
    let results = client(&cluster)
        .submit_many(&[named("a"), named("b")])
        .await
        .expect("answered");
    let ids: Vec<u64> = results.into_iter().map(|result| result.expect("accepted").id).collect();
    assert_eq!(ids, [1, 2]);
    assert_eq!(cluster.state().carried_out, ["submit 1", "submit 2"], "each once");

    // When time is up, it is not known what became of them, and that is said.
    let cluster = FakeCluster::start(1).await;
    cluster.fault(0, [Fault::AnswerBroken]);
    let elected = vec![failure(v1::FailureKind::NotLeader, "not me"); 1000];
    cluster.state().item_refusals.extend(elected);
    let error = client(&cluster)
        .submit_many(&[named("a")])
        .await
        .expect("answered")
        .remove(0)
        .expect_err("no answer");
    assert!(
        matches!(
            error,
            ClientError::Unreachable {
                outcome_unknown: true,
                ..
            }
        ),
        "{error:?}"
    );
}

#[tokio::test]
async fn calls_without_answer_are_not_confused_with_each_other() {
    let cluster = FakeCluster::start(1).await;
    let client = client(&cluster);
    for _ in 0..2 {
        client.submit(sample()).await.expect("accepted");
    }
    assert_eq!(cluster.state().carried_out.len(), 2, "each call has a key of its own");
    let mut keyed = sample();
    keyed.key = Some("order-7".into());
    let first = client.submit(keyed.clone()).await.expect("accepted");
    let again = client.submit(keyed).await.expect("accepted");
    assert_eq!(first.id, again.id, "the caller's key is kept");
}

#[tokio::test]
async fn an_election_is_waited_for() {
    let cluster = FakeCluster::start(3).await;
    cluster.elect(None);
    let client = client(&cluster);
    let submitting = tokio::spawn(async move { client.submit(sample()).await });
    while cluster.state().received.len() < 3 {
        tokio::task::yield_now().await;
    }
    cluster.elect(Some(1));
    submitting.await.expect("no panic").expect("accepted");
    assert_eq!(cluster.state().carried_out, ["submit 1"]);
}

#[tokio::test]
async fn a_node_that_hangs_is_passed_over() {
    let cluster = FakeCluster::start(3).await;
    let client = client(&cluster);
    client.submit(sample()).await.expect("accepted");
    cluster.fault(0, [Fault::Hang]);
    cluster.elect(Some(1));
    client.submit(sample()).await.expect("accepted");
}

#[tokio::test]
async fn a_refusal_is_final_and_keeps_its_kind() {
    let cluster = FakeCluster::start(3).await;
    let client = client(&cluster);
    client.submit(named("backup")).await.expect("accepted");
    let error = client.submit(named("backup")).await.expect_err("taken");
    assert_eq!(error.refusal(), Some(v1::FailureKind::NameTaken));
    assert!(matches!(&error, ClientError::Refused(failure) if failure.existing_task == Some(1)));
    let missing = client.task(&TaskRef::Id(TaskId(9))).await.expect_err("missing");
    assert!(missing.is_not_found());
}

#[tokio::test]
async fn nonsense_is_found_before_anything_is_sent() {
    let cluster = FakeCluster::start(1).await;
    let mut submission = sample();
    submission.spec.name = Some("x".repeat(257));
    let error = client(&cluster).submit(submission).await.expect_err("too long");
    assert!(error.to_string().starts_with("name: "), "{error}");
    assert!(cluster.state().received.is_empty());
}

#[tokio::test]
async fn when_nobody_answers_the_error_says_what_each_node_said() {
    let mut cluster = FakeCluster::start(3).await;
    cluster.elect(None);
    cluster.fault(1, vec![Fault::Hang; 50]);
    cluster.stop(2).await;
    let began = std::time::Instant::now();
    let error = client(&cluster).submit(sample()).await.expect_err("nobody leads");
    assert!(
        began.elapsed() < options().deadline + Duration::from_millis(500),
        "{:?}",
        began.elapsed()
    );
    let text = error.to_string();
    let endpoints = cluster.endpoints();
    for (endpoint, words) in endpoints.iter().zip(["knows none", "no answer within", "refused"]) {
        let line = text
            .lines()
            .find(|line| line.contains(endpoint.as_str()))
            .expect(endpoint);
        assert!(line.contains(words), "{line}");
    }
    assert!(
        text.contains("not known"),
        "one of them may have carried it out: {text}"
    );
    assert!(error.is_unreachable());
}

#[tokio::test]
async fn when_nothing_left_the_error_does_not_say_that_the_outcome_is_unknown() {
    let mut cluster = FakeCluster::start(2).await;
    cluster.stop(0).await;
    cluster.stop(1).await;
    let error = client(&cluster).submit(sample()).await.expect_err("nobody is there");
    assert!(
        matches!(
            error,
            ClientError::Unreachable {
                outcome_unknown: false,
                ..
            }
        ),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_server_of_another_kind_is_named_at_once() {
    let cluster = FakeCluster::start(1).await;
    cluster.fault(0, [Fault::Foreign(tonic::Code::Unimplemented)]);
    let began = std::time::Instant::now();
    let error = client(&cluster).status().await.expect_err("no scheduler");
    assert!(began.elapsed() < options().deadline / 2);
    assert!(error.to_string().contains("no scheduler node"), "{error}");
}

#[tokio::test]
async fn garbage_instead_of_a_server_ends_in_an_error() {
    use tokio::io::AsyncWriteExt as _;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(async move {
        while let Ok((mut peer, _)) = listener.accept().await {
            // The other side may hang up first.
            let _ = peer.write_all(b"SSH-2.0-OpenSSH_9.2\r\n").await;
        }
    });
    let client = Client::with_options([address.to_string()], options()).expect("address");
    let error = client.status().await.expect_err("no HTTP/2");
    assert!(error.is_unreachable(), "{error:?}");
    assert!(error.to_string().contains(&address.to_string()), "{error}");
}

#[tokio::test]
async fn a_full_cluster_is_given_time_and_then_believed() {
    let cluster = FakeCluster::start(1).await;
    let full = v1::Failure {
        retry_after_ms: 20,
        ..failure(v1::FailureKind::Overloaded, "too many requests")
    };
    cluster.fault(0, [Fault::Refuse(full.clone()), Fault::Refuse(full.clone())]);
    client(&cluster)
        .submit(sample())
        .await
        .expect("accepted at the third try");
    let patience = v1::Failure {
        retry_after_ms: 60_000,
        ..full
    };
    cluster.fault(0, [Fault::Refuse(patience)]);
    let error = client(&cluster)
        .submit(sample())
        .await
        .expect_err("a minute is too long");
    assert_eq!(error.refusal(), Some(v1::FailureKind::Overloaded));
}

#[tokio::test]
async fn a_batch_has_a_result_for_each_task_in_order() {
    let cluster = FakeCluster::start(2).await;
    cluster.fault(0, [Fault::AnswerLost]);
    let client = client(&cluster);
    let bad = named("");
    let batch = [named("a"), bad, named("a"), named("b")];
    let results = client.submit_many(&batch).await.expect("answered");
    let ids: Vec<_> = results
        .iter()
        .map(|result| result.as_ref().ok().map(|reply| reply.id))
        .collect();
    assert_eq!(ids, [Some(1), None, None, Some(2)]);
    assert!(matches!(results[1], Err(ClientError::Invalid(_))));
    assert_eq!(cluster.state().carried_out.len(), 2);
}

#[tokio::test]
async fn a_long_stream_of_tasks_is_submitted_in_order() {
    let cluster = FakeCluster::start(2).await;
    cluster.elect(Some(1));
    let many = futures::stream::iter((0..2500).map(|n| named(&format!("task-{n}"))));
    let replies: Vec<_> = client(&cluster).submit_all(many).collect().await;
    assert_eq!(replies.len(), 2500);
    for (n, reply) in replies.into_iter().enumerate() {
        assert_eq!(reply.expect("accepted").name, Some(format!("task-{n}")));
    }
    assert_eq!(cluster.state().carried_out.len(), 2500);
}

#[tokio::test]
async fn a_pipeline_answers_everybody_through_trouble() {
    let cluster = FakeCluster::start(3).await;
    cluster.elect(Some(1));
    let full = v1::Failure {
        retry_after_ms: 1,
        ..failure(v1::FailureKind::Overloaded, "full")
    };
    cluster.fault(1, [Fault::AnswerBroken, Fault::Refuse(full), Fault::AnswerLost]);
    let pipeline = client(&cluster).pipeline();
    let submitters = (0..200).map(|n| {
        let pipeline = pipeline.clone();
        async move {
            pipeline
                .submit(&named(&format!("task-{n}")))
                .await
                .map(|reply| reply.name)
        }
    });
    for (n, name) in futures::future::join_all(submitters).await.into_iter().enumerate() {
        assert_eq!(name.expect("accepted"), Some(format!("task-{n}")));
    }
    assert_eq!(cluster.state().carried_out.len(), 200);
    let taken = pipeline.submit(&named("task-7")).await.expect_err("taken");
    assert_eq!(taken.refusal(), Some(v1::FailureKind::NameTaken));
}

#[tokio::test]
async fn a_pipeline_gives_up_in_time() {
    let cluster = FakeCluster::start(2).await;
    cluster.elect(None);
    let pipeline = client(&cluster).pipeline();
    let began = std::time::Instant::now();
    let error = pipeline.submit(&sample()).await.expect_err("nobody leads");
    assert!(error.is_unreachable());
    assert!(error.to_string().contains("knows none"), "{error}");
    assert!(began.elapsed() < options().deadline * 2);
}

fn run_of_task_1(state: v1::RunState) -> v1::Run {
    v1::Run {
        id: Some(v1::RunId { task: 1, number: 1 }),
        state: state.into(),
        ..v1::Run::default()
    }
}

const RUN: RunId = RunId {
    task: TaskId(1),
    number: 1,
};

#[tokio::test]
async fn output_goes_on_where_it_broke() {
    let cluster = FakeCluster::start(2).await;
    let text = b"0123456789abcdef".to_vec();
    cluster
        .state()
        .runs
        .insert((1, 1), run_of_task_1(v1::RunState::Running));
    cluster.state().output = text.clone();
    cluster.state().output_breaks_at = Some(8);
    let mut logs = client(&cluster).logs(LogsOf {
        follow: true,
        ..LogsOf::run(RUN)
    });
    let mut read = Vec::new();
    while let Some(chunk) = logs.next().await {
        let chunk = chunk.expect("goes on");
        assert_eq!(chunk.offset as usize, read.len());
        read.extend_from_slice(&chunk.data);
    }
    assert_eq!(read, text);
    assert_eq!(cluster.state().received, ["logs", "logs"]);
}

#[tokio::test]
async fn output_of_an_unknown_run_is_refused_once() {
    let cluster = FakeCluster::start(1).await;
    let mut logs = client(&cluster).logs(LogsOf::run(RUN));
    assert!(
        logs.next()
            .await
            .expect("an answer")
            .expect_err("no such run")
            .is_not_found()
    );
    assert!(logs.next().await.is_none());
}

#[tokio::test]
async fn a_wait_ends_with_the_run() {
    let cluster = FakeCluster::start(1).await;
    cluster
        .state()
        .runs
        .insert((1, 1), run_of_task_1(v1::RunState::Running));
    let client = client(&cluster);
    let waited = client.wait_run(RUN, Some(Duration::ZERO)).await.expect("answered");
    assert!(!waited.ended);
    let waiting = tokio::spawn(async move { client.wait_run(RUN, None).await });
    while cluster.state().received.len() < 3 {
        tokio::task::yield_now().await;
    }
    cluster
        .state()
        .runs
        .insert((1, 1), run_of_task_1(v1::RunState::Finished));
    let waited = waiting.await.expect("no panic").expect("answered");
    assert!(waited.ended);
    assert_eq!(waited.run.expect("the run").state(), v1::RunState::Finished);
}

#[tokio::test]
async fn a_wait_ends_soon_after_the_cluster_is_gone() {
    let mut cluster = FakeCluster::start(1).await;
    cluster
        .state()
        .runs
        .insert((1, 1), run_of_task_1(v1::RunState::Running));
    let client = client(&cluster);
    client.wait_run(RUN, Some(Duration::ZERO)).await.expect("answered");
    cluster.stop(0).await;
    let began = std::time::Instant::now();
    let error = client.wait_run(RUN, None).await.expect_err("nobody is there");
    assert!(error.is_unreachable(), "{error:?}");
    assert!(began.elapsed() < options().deadline * 2, "{:?}", began.elapsed());
}

#[test]
fn a_client_needs_addresses() {
    assert!(Client::connect(Vec::<String>::new()).is_err());
    assert!(Client::connect(["https://node:7400"]).is_err());
    assert!(Client::connect(["http://node:7400", "not an address"]).is_err());
}
