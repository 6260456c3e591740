use super::*;
use crate::worker::tests::sample;
use sched_core::{RunId, TaskId};

const NOW: Timestamp = Timestamp::EPOCH;

fn token(index: u64) -> Token {
    Token { index, position: 0 }
}

fn run(number: u64) -> RunId {
    RunId {
        task: TaskId(7),
        number,
    }
}

fn job(n: u64) -> Job {
    sample(n, Duration::from_secs(1))
}

fn finished() -> Finished {
    let result = RunResult {
        verdict: Verdict::Success,
        exit_code: None,
        started_at: NOW,
        ended_at: NOW,
        output_tail: Vec::new(),
        result: Vec::new(),
    };
    Finished {
        result,
        reason: String::new(),
    }
}

fn start(held: &mut Held) -> Stopper {
    match held.next_step(NOW) {
        Some(Step::Start { stopper, .. }) => stopper,
        _ => panic!("nothing starts"),
    }
}

#[test]
fn slots_are_counted_through_every_way_in_and_out() {
    let mut held = Held::new(2);
    for n in 1..=3 {
        assert_eq!(held.offer(job(n)), Offer::Taken);
    }
    start(&mut held);
    start(&mut held);
    assert!(held.next_step(NOW).is_none());
    assert_eq!((held.free_slots(), held.parked(), held.unrecorded()), (0, 1, 0));
    assert!(held.ended(token(1), finished()));
    assert!(!held.ended(token(1), finished()), "once");
    assert_eq!((held.free_slots(), held.unrecorded()), (1, 1));
    assert_eq!(held.kill(run(3), token(3)), Offer::Report);
    assert_eq!((held.free_slots(), held.parked(), held.unrecorded()), (1, 0, 2));
    for n in [1, 3] {
        held.recorded(token(n));
    }
    assert_eq!((held.unrecorded(), held.is_empty()), (0, false));
    held.ended(token(2), finished());
    held.recorded(token(2));
    assert!(held.is_empty());
}

#[test]
fn a_kill_must_name_the_run_of_its_attempt() {
    let mut held = Held::new(1);
    held.offer(job(1));
    let stopper = start(&mut held);
    assert_eq!(held.kill(run(2), token(1)), Offer::Known);
    assert_eq!(stopper.cause(), None);
    assert_eq!(held.kill(run(1), token(1)), Offer::Known);
    assert_eq!(stopper.cause(), Some(Cause::Cancelled));
}

#[test]
fn an_attempt_recorded_while_it_runs_is_ended_and_its_own_report_still_sent() {
    let mut held = Held::new(1);
    held.offer(job(1));
    let stopper = start(&mut held);
    held.recorded(token(1));
    assert_eq!(stopper.cause(), Some(Cause::Stale));
    assert!(held.ended(token(1), finished()));
    assert_eq!(held.unreported(Duration::MAX), [token(1)]);
}

#[test]
fn a_full_table_refuses_without_growing_and_hello_keeps_what_matters() {
    let mut held = Held::new(10_000);
    held.offer(job(1));
    start(&mut held);
    for n in 2..HELD_TOKENS_MAX as u64 + 1 {
        held.kill(run(n), token(n));
    }
    let refused = |offer| matches!(offer, Offer::RefuseOnce { .. });
    assert!(refused(held.offer(job(20_001))));
    assert!(refused(held.kill(run(20_002), token(20_002))));
    assert_eq!(
        held.not_understood(run(20_003), token(20_003), String::new(), NOW),
        Offer::Known
    );
    let hello = held.hello();
    assert_eq!(
        (hello.len(), hello[0].state()),
        (HELD_TOKENS_MAX, pb::HeldState::Running)
    );
}

#[test]
fn reports_are_due_until_they_are_sent_and_again_on_a_new_stream() {
    let mut held = Held::new(1);
    held.offer(job(1));
    start(&mut held);
    assert_eq!(held.announce(10).len(), 1);
    assert_eq!(held.announce(10).len(), 0);
    held.ended(token(1), finished());
    let at = Duration::from_secs;
    assert_eq!(held.unreported(Duration::ZERO), [token(1)], "never sent");
    assert!(held.report(token(1), at(5)).is_some());
    assert!(held.unreported(at(5)).is_empty());
    assert_eq!(held.unreported(at(6)), [token(1)], "sent before");
    held.forget_sent();
    assert_eq!(held.unreported(Duration::ZERO), [token(1)]);
    assert!(held.report(token(2), at(5)).is_none());
}
