//! Definitions, history and settings, over the wire.

use super::one_node::{One, by_id, key, shell};
use sched_proto::v1::{self, schedule::Form};
use tonic::Code;

fn manual() -> Form {
    Form::Manual(v1::ManualSchedule {})
}

impl One {
    async fn task(&mut self, id: u64) -> v1::Task {
        let request = v1::GetTaskRequest { task: by_id(id) };
        self.client.get_task(request).await.unwrap().into_inner().task.unwrap()
    }

    async fn set(&mut self, pairs: &[(&str, &str)], unset: &[&str]) -> Result<v1::ConfigReply, tonic::Status> {
        let param = |(key, value): &(&str, &str)| v1::Param {
            key: (*key).to_owned(),
            value: (*value).to_owned(),
        };
        let request = v1::SetConfigRequest {
            request: key(),
            set: pairs.iter().map(param).collect(),
            unset: unset.iter().map(|key| (*key).to_owned()).collect(),
        };
        self.client.set_config(request).await.map(|reply| reply.into_inner())
    }

    /// Triggers a run and waits for its end.
    async fn run_once(&mut self, id: u64, number: u64) -> v1::Run {
        let trigger = v1::TriggerRequest {
            request: key(),
            task: by_id(id),
            params: Vec::new(),
        };
        self.client.trigger(trigger).await.unwrap();
        self.wait_run(id, number).await
    }
}

fn tries(task: &v1::Task) -> u32 {
    let policy = task.spec.as_ref().unwrap().policy.as_ref().unwrap();
    policy.tries.unwrap().max.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn defaults_are_resolved_when_a_task_is_accepted() {
    let mut one = One::start().await;
    let before = one.submit(shell(manual(), "true")).await.unwrap().id;
    let reply = one
        .set(&[("tries", "3"), ("priority", "7"), ("time_limit", "1h")], &[])
        .await
        .unwrap();
    let read = one
        .client
        .get_config(v1::GetConfigRequest {})
        .await
        .unwrap()
        .into_inner();
    assert_eq!(read, reply, "what was acknowledged is read");
    let after = one.submit(shell(manual(), "true")).await.unwrap().id;
    let mut own = shell(manual(), "true");
    own.policy = Some(v1::Policy {
        priority: Some(0),
        time_limit_ms: Some(0),
        ..v1::Policy::default()
    });
    let own = one.submit(own).await.unwrap().id;
    one.set(&[], &["tries", "priority"]).await.unwrap();
    let (before, after, own) = (one.task(before).await, one.task(after).await, one.task(own).await);
    assert_eq!(
        (tries(&before), tries(&after), tries(&own)),
        (1, 3, 3),
        "no task that exists is changed"
    );
    let policy = |task: &v1::Task| task.spec.clone().unwrap().policy.unwrap();
    assert_eq!((policy(&after).priority, policy(&own).priority), (Some(7), Some(0)));
    assert_eq!(policy(&after).time_limit_ms, Some(3_600_000));
    assert_eq!(policy(&own).time_limit_ms, Some(0), "none at all was asked for");
    assert!(policy(&own).defaulted.contains(&"tries".to_owned()));
    assert!(!policy(&own).defaulted.contains(&"priority".to_owned()));
    for (pairs, unset, part) in [
        (&[("task_max_tries", "3")][..], &[][..], "Known are"),
        (&[("tries", "0")], &[], "config.tries"),
        (&[], &[], "names no setting"),
        (&[("tries", "2")], &["tries"], "twice"),
    ] {
        let refused = one.set(pairs, unset).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument);
        assert!(refused.message().contains(part), "{refused}");
    }
    one.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_update_takes_the_generation_it_names_and_keeps_what_is_not_stated() {
    let mut one = One::start().await;
    one.set(&[("tries", "2")], &[]).await.unwrap();
    let id = one.submit(shell(manual(), "exit 1")).await.unwrap().id;
    one.set(&[("tries", "9"), ("retry_delay", "1ms")], &[]).await.unwrap();
    let update = |generation: u64, script: &str| {
        let mut spec = shell(manual(), script);
        spec.name = Some("mine".to_owned());
        v1::UpdateRequest {
            request: key(),
            task: by_id(id),
            generation,
            spec: Some(spec),
            late_ok: false,
        }
    };
    let first = update(1, "exit 0");
    one.client.update(first.clone()).await.unwrap();
    one.client.update(first).await.unwrap();
    for (request, code) in [
        (update(1, "exit 0"), Code::Aborted),
        (update(0, "exit 0"), Code::InvalidArgument),
        (
            v1::UpdateRequest {
                task: by_id(77),
                ..update(1, "")
            },
            Code::NotFound,
        ),
        (
            v1::UpdateRequest {
                spec: None,
                ..update(2, "")
            },
            Code::InvalidArgument,
        ),
    ] {
        assert_eq!(one.client.update(request).await.unwrap_err().code(), code);
    }
    let task = one.task(id).await;
    assert_eq!(
        (task.generation, tries(&task)),
        (2, 2),
        "a repeat was answered from memory; the default is the one of then"
    );
    assert_eq!(one.run_once(id, 1).await.state(), v1::RunState::Finished);
    // A schedule that recurs begins to run by itself.
    let mut recurring = update(2, "exit 0");
    recurring.spec.as_mut().unwrap().schedule = Some(v1::Schedule {
        form: Some(Form::Every(v1::EverySchedule {
            every_ms: 100,
            anchor_unix_ms: None,
        })),
    });
    one.client.update(recurring).await.unwrap();
    assert_eq!(one.wait_run(id, 2).await.state(), v1::RunState::Finished);
    one.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn history_is_deleted_by_age_and_outcome() {
    let mut one = One::start().await;
    let mut task = shell(manual(), "exit $SCHED_PARAM_CODE");
    task.policy = Some(v1::Policy {
        retention: Some(v1::Retention {
            finished_max: Some(10_000),
            ..v1::Retention::default()
        }),
        ..v1::Policy::default()
    });
    let id = one.submit(task).await.unwrap().id;
    let mut last = v1::Run::default();
    for (number, code) in [(1, "0"), (2, "1"), (3, "0"), (4, "1")] {
        let trigger = v1::TriggerRequest {
            request: key(),
            task: by_id(id),
            params: vec![v1::Param {
                key: "CODE".into(),
                value: code.into(),
            }],
        };
        one.client.trigger(trigger).await.unwrap();
        last = one.wait_run(id, number).await;
    }
    let delete = |before_unix_ms, state: v1::RunState| v1::DeleteHistoryRequest {
        request: key(),
        task: by_id(id),
        before_unix_ms,
        state: state.into(),
    };
    let finished = one
        .client
        .delete_history(delete(None, v1::RunState::Finished))
        .await
        .unwrap();
    assert_eq!(finished.into_inner().runs, 2);
    let older = delete(last.ended_at_unix_ms, v1::RunState::Unspecified);
    assert_eq!(one.client.delete_history(older).await.unwrap().into_inner().runs, 1);
    let refused = one
        .client
        .delete_history(delete(None, v1::RunState::Lost))
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    let request = v1::ListRunsRequest {
        task: by_id(id),
        ..v1::ListRunsRequest::default()
    };
    let runs = one.client.list_runs(request).await.unwrap().into_inner().runs;
    assert_eq!(runs.iter().map(|run| run.id.unwrap().number).collect::<Vec<_>>(), [4]);
    assert_eq!(one.task(id).await.finished, 2, "what was counted stays counted");
    one.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_so_many_ended_tasks_are_kept() {
    let mut one = One::start().await;
    one.set(&[("keep_ended_tasks", "3")], &[]).await.unwrap();
    let mut last = 0;
    for _ in 0..8 {
        last = one
            .submit(shell(Form::Now(v1::NowSchedule {}), "true"))
            .await
            .unwrap()
            .id;
        one.wait_run(last, 1).await;
    }
    let until = std::time::Instant::now() + super::one_node::PATIENCE;
    loop {
        let request = v1::ListTasksRequest::default();
        let tasks = one.client.list_tasks(request).await.unwrap().into_inner().tasks;
        assert!(tasks.len() >= 3, "{} tasks are left", tasks.len());
        if tasks.len() == 3 {
            assert!(
                tasks.iter().map(|task| task.id).eq(last - 2..=last),
                "the oldest go first"
            );
            break;
        }
        assert!(std::time::Instant::now() < until, "{} tasks are left", tasks.len());
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    one.node.stop().await;
}
