use super::*;
use sched_core::run::Verdict;
use sched_core::task::Action;
use sched_core::{TaskId, Timestamp};

fn token(index: u64) -> Token {
    Token { index, position: 0 }
}

fn run(number: u64) -> RunId {
    RunId {
        task: TaskId(7),
        number,
    }
}

fn job(index: u64, delivery: Delivery) -> Job {
    Job {
        run: run(index),
        token: token(index),
        namespace: "default".into(),
        task_name: None,
        scheduled_at: Timestamp::EPOCH,
        attempt_number: 1,
        action: Action::Worker {
            queue: "q".into(),
            payload: Vec::new(),
            progress_timeout_ms: None,
        },
        time_limit: None,
        params: Vec::new(),
        delivery,
        on_disconnect: OnDisconnect::Kill,
    }
}

fn begin(held: &mut Held, step: Option<Step>) -> (Token, Stopper) {
    let Some(Step::Begin(job)) = step else {
        panic!("nothing begins")
    };
    let stopper = Stopper::new();
    let said = Arc::new(Said::new(job.token, Arc::default()));
    held.begun(&job, stopper.clone(), said);
    (job.token, stopper)
}

fn done() -> Finished {
    let mut finished = Finished::failed(String::new());
    finished.result.verdict = Verdict::Success;
    finished
}

#[test]
fn a_token_is_begun_once_however_often_it_comes() {
    let mut held = Held::new(1);
    assert_eq!(held.offer(job(1, Delivery::AtLeastOnce)), Offer::Known);
    let step = held.next_step();
    let (first, _) = begin(&mut held, step);
    assert_eq!(held.offer(job(1, Delivery::AtLeastOnce)), Offer::Known);
    assert!(held.next_step().is_none(), "the only slot is taken");
    assert!(held.ended(first, done()) && !held.ended(first, done()));
    assert_eq!(
        held.offer(job(1, Delivery::AtLeastOnce)),
        Offer::Report,
        "ended, not recorded"
    );
    assert!(held.next_step().is_none());
    held.recorded(first);
    assert_eq!(held.offer(job(1, Delivery::AtLeastOnce)), Offer::Known, "recorded");
    assert!(held.next_step().is_none() && held.is_empty());
}

#[test]
fn reports_are_repeated_until_they_are_recorded() {
    let mut held = Held::new(2);
    held.offer(job(1, Delivery::AtLeastOnce));
    let step = held.next_step();
    let (one, _) = begin(&mut held, step);
    held.ended(one, done());
    let second = Duration::from_secs(1);
    assert_eq!(held.unreported(Duration::ZERO), [one]);
    let mut batch = pb::FromWorker::default();
    assert!(held.report(one, second, &mut batch) > 0);
    assert_eq!(batch.completed.len(), 1);
    assert_eq!(held.unreported(second), [], "on its way");
    assert_eq!(held.unreported(2 * second), [one], "too long on its way");
    held.forget_sent();
    assert_eq!(held.unreported(Duration::ZERO), [one], "the stream broke");
    assert!(held.has_unrecorded());
    held.recorded(one);
    assert!(!held.has_unrecorded());
}

#[test]
fn what_was_killed_before_it_came_does_not_begin() {
    let mut held = Held::new(1);
    assert_eq!(held.kill(run(5), token(5)), Offer::Report);
    assert_eq!(held.offer(job(5, Delivery::AtLeastOnce)), Offer::Report);
    assert!(held.next_step().is_none());
    let mut batch = pb::FromWorker::default();
    held.report(token(5), Duration::ZERO, &mut batch);
    assert_eq!(batch.nacks[0].code(), pb::NackCode::Killed);
}

#[test]
fn at_most_once_begins_with_a_grant_and_good_contact_only() {
    let mut held = Held::new(2);
    held.offer(job(1, Delivery::AtMostOnce));
    held.offer(job(2, Delivery::AtMostOnce));
    for _ in 0..2 {
        assert!(matches!(held.next_step(), Some(Step::AskForGrant(_))));
    }
    assert_eq!(held.waiting_for_grant(), [token(1), token(2)]);
    let step = held.granted(token(1), Phase::Good);
    let (one, _) = begin(&mut held, step);
    assert!(held.granted(one, Phase::Good).is_none(), "granted twice");
    assert!(held.granted(token(2), Phase::NoStarts).is_none());
    assert_eq!(held.unreported(Duration::MAX), [token(2)]);
}

#[test]
fn more_than_twice_the_slots_are_refused_and_so_is_everything_while_leaving() {
    let mut held = Held::new(1);
    let offers: Vec<Offer> = (1..=3).map(|n| held.offer(job(n, Delivery::AtLeastOnce))).collect();
    assert_eq!(offers, [Offer::Known, Offer::Known, Offer::Report]);
    let step = held.next_step();
    begin(&mut held, step);
    held.drain();
    assert_eq!(held.unreported(Duration::MAX), [token(2), token(3)]);
    assert_eq!(held.offer(job(9, Delivery::AtLeastOnce)), Offer::Report);
    assert_eq!(held.running(), [token(1)]);
}

#[test]
fn the_leader_says_what_becomes_of_what_is_held() {
    let mut held = Held::new(4);
    for index in 1..=3 {
        held.offer(job(index, Delivery::AtLeastOnce));
    }
    let stoppers: Vec<Stopper> = (0..3)
        .map(|_| {
            let step = held.next_step();
            begin(&mut held, step).1
        })
        .collect();
    let (named, tokens) = held.hello();
    assert_eq!((named.len(), tokens.len()), (3, 3));
    held.dispose(token(1), Disposition::Continue);
    held.dispose(token(2), Disposition::Kill);
    held.dispose(token(3), Disposition::Stale);
    let causes: Vec<Option<Cause>> = stoppers.iter().map(Stopper::cause).collect();
    assert_eq!(causes, [None, Some(Cause::Cancelled), Some(Cause::Stale)]);
}
