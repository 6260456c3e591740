//! Flags of `enqueue` that exclude those tested with the verb, and that none is forgotten.

use crate::docs::flags_of_enqueue;
use crate::verbs::enqueued;
use sched_client::testing::FakeCluster;
use sched_core::task::{Action, Delivery, NotifyOn, NotifyTo, OnDisconnect, ProcessLimits};

#[tokio::test]
async fn flags_that_go_with_others_reach_the_cluster_too() {
    let cluster = FakeCluster::start(1).await;
    let line = "--rrule FREQ=DAILY --exdate 2027-01-06T00:00:00Z --calendar holidays --calendar freeze \
                --put-off-max 4h --catch-up-every 30s --keep-failed-for 4d --delivery at-most-once --on-disconnect continue \
                --lost-hold 10m --notify failure=https://x.org/y --notify end=mailto:a@x.org \
                --user backup --limit-cpu 90s --limit-memory 64M --limit-files 100 -- ls";
    let flags: Vec<&str> = line.split_whitespace().collect();
    let spec = enqueued(&cluster, &flags).await;
    assert!(spec.schedule.to_string().contains(" -1 dates"), "{}", spec.schedule);
    assert_eq!(spec.bounds.calendars, ["holidays", "freeze"]);
    let policy = &spec.policy;
    assert_eq!(
        (policy.tries.put_off_ms_max, policy.catch_up_every_ms),
        (14_400_000, 30_000)
    );
    assert_eq!(policy.retention.failed_age_ms_max, 345_600_000);
    assert_eq!(
        (policy.delivery, policy.on_disconnect, policy.lost_hold_ms),
        (Some(Delivery::AtMostOnce), Some(OnDisconnect::Continue), 600_000)
    );
    let [failure, end] = &policy.notify[..] else {
        panic!("{:?}", policy.notify);
    };
    let (webhook, mail) = (
        NotifyTo::Webhook {
            url: "https://x.org/y".into(),
        },
        NotifyTo::Mail { to: "a@x.org".into() },
    );
    assert_eq!((failure.on, &failure.to), (NotifyOn::Failure, &webhook));
    assert_eq!((end.on, &end.to), (NotifyOn::End, &mail));
    let Action::Command { user, limits, .. } = &spec.action else {
        panic!("{:?}", spec.action);
    };
    let expected = ProcessLimits {
        cpu_s: Some(90),
        memory_bytes: Some(64 << 20),
        files: Some(100),
    };
    assert_eq!((user.as_deref(), *limits), (Some("backup"), expected));
}

/// A flag that nobody tests is one that may reach nothing.
#[test]
fn no_flag_of_enqueue_is_forgotten() {
    let tests = [
        include_str!("enqueue.rs"),
        include_str!("verbs.rs"),
        include_str!("messages.rs"),
    ]
    .concat();
    let used = |flag: &String| {
        let rest = tests.split(flag.as_str()).skip(1);
        rest.map(|rest| rest.chars().next())
            .any(|next| next.is_none_or(|c| c != '-' && !c.is_alphanumeric()))
    };
    let flags = flags_of_enqueue();
    assert!(flags.len() > 70, "{} flags", flags.len());
    let forgotten: Vec<String> = flags.into_iter().filter(|flag| !used(flag)).collect();
    assert!(forgotten.is_empty(), "{forgotten:?}");
}
