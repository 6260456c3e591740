use super::*;
use crate::worker::journal::Recovered;
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

/// Lets the journal write what is waiting for it, and returns what comes next.
fn journal(held: &mut Held) -> Vec<Step> {
    let records = held.take_records();
    let marks = records.iter().filter_map(Record::mark);
    marks
        .filter_map(|mark| held.journalled(mark, Phase::Good, NOW))
        .collect()
}

fn start(held: &mut Held) -> Stopper {
    held.begin_waiting();
    match journal(held).pop() {
        Some(Step::Start { stopper, .. }) => stopper,
        _ => panic!("nothing starts"),
    }
}

fn end(held: &mut Held, n: u64) -> bool {
    held.ended(token(n), finished());
    matches!(journal(held).as_slice(), [Step::Report(reported)] if *reported == token(n))
}

#[test]
fn slots_are_counted_through_every_way_in_and_out() {
    let mut held = Held::new(2);
    for n in 1..=3 {
        assert_eq!(held.offer(job(n)), Offer::Taken);
    }
    held.begin_waiting();
    assert_eq!((held.free_slots(), held.parked(), held.unrecorded()), (0, 1, 0));
    assert_eq!(journal(&mut held).len(), 2, "both share a sync");
    assert_eq!((held.free_slots(), held.parked(), held.unrecorded()), (0, 1, 0));
    assert!(end(&mut held, 1));
    assert!(!end(&mut held, 1), "once");
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
    assert!(end(&mut held, 1));
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
    assert!(end(&mut held, 1));
    let at = Duration::from_secs;
    assert_eq!(held.unreported(Duration::ZERO), [token(1)], "never sent");
    assert!(held.report(token(1), at(5)).is_some());
    assert!(held.unreported(at(5)).is_empty());
    assert_eq!(held.unreported(at(6)), [token(1)], "sent before");
    held.forget_sent();
    assert_eq!(held.unreported(Duration::ZERO), [token(1)]);
    assert!(held.report(token(2), at(5)).is_none());
}

#[test]
fn nothing_starts_and_nothing_is_reported_before_the_journal_has_it() {
    let mut held = Held::new(2);
    held.offer(job(1));
    held.begin_waiting();
    let started = held.take_records();
    assert_eq!(
        started,
        [Record::Started {
            run: run(1),
            token: token(1)
        }]
    );
    assert_eq!(held.hello()[0].state(), pb::HeldState::Waiting, "not on disk");
    assert!(
        held.journalled(Mark::Ended(token(1)), Phase::Good, NOW).is_none(),
        "another record"
    );
    assert!(matches!(
        held.journalled(Mark::Started(token(1)), Phase::Good, NOW),
        Some(Step::Start { .. })
    ));
    held.ended(token(1), finished());
    assert!(held.unreported(Duration::MAX).is_empty() && held.report(token(1), Duration::ZERO).is_none());
    assert_eq!(journal(&mut held).len(), 1);
    assert_eq!(held.unreported(Duration::MAX), [token(1)]);
}

#[test]
fn contact_lost_while_the_start_is_written_refuses_it_behind_its_record() {
    let mut held = Held::new(1);
    held.offer(job(1));
    held.begin_waiting();
    held.take_records();
    assert!(held.journalled(Mark::Started(token(1)), Phase::NoStarts, NOW).is_none());
    assert!(matches!(held.take_records().as_slice(), [Record::Refused { .. }]));
    assert!(
        held.journalled(Mark::Started(token(1)), Phase::Good, NOW).is_none(),
        "it never will"
    );
    assert!(matches!(
        held.journalled(Mark::Refused(token(1)), Phase::Good, NOW),
        Some(Step::Report(_))
    ));
    assert_eq!(held.free_slots(), 1);
}

#[test]
fn a_start_killed_while_it_is_written_never_happens() {
    let mut held = Held::new(1);
    held.offer(job(1));
    held.begin_waiting();
    assert_eq!(held.kill(run(1), token(1)), Offer::Report);
    let steps = journal(&mut held);
    assert!(
        matches!(steps.as_slice(), [Step::Report(_)]),
        "the start first, then its refusal"
    );
    assert_eq!(held.free_slots(), 1);
}

#[test]
fn without_a_journal_nothing_starts_and_what_ends_is_still_reported() {
    let mut held = Held::new(3);
    for n in 1..=3 {
        held.offer(job(n));
    }
    let mut once = job(4);
    once.delivery = Delivery::AtMostOnce;
    start(&mut held);
    held.offer(job(5));
    held.begin_waiting();
    assert_eq!(held.journal_failed("disk"), [token(5)]);
    assert!(held.take_records().is_empty());
    assert!(matches!(held.offer(once), Offer::Report));
    let (_, report) = held.report(token(4), Duration::ZERO).unwrap();
    assert!(matches!(
        report,
        Report::Refused {
            code: pb::NackCode::Journal,
            journalled: false,
            ..
        }
    ));
    held.ended(token(1), finished());
    assert!(held.unreported(Duration::MAX).contains(&token(1)));
    assert_eq!(held.free_slots(), 1);
}

#[test]
fn a_restarted_worker_reports_what_ended_and_gives_up_what_ran() {
    let recovered = Recovered {
        open: vec![
            Record::Started {
                run: run(1),
                token: token(1),
            },
            Record::ended(run(2), token(2), &finished()),
            Record::Refused {
                run: run(3),
                token: token(3),
                code: pb::NackCode::NoContact.into(),
                reason: "no contact".into(),
            },
        ],
        settled: [token(4)].into(),
        forgotten: Some(token(0)),
    };
    let mut held = Held::recover(2, recovered, NOW);
    assert_eq!((held.free_slots(), held.unrecorded()), (2, 3));
    assert_eq!(
        held.unreported(Duration::MAX),
        [token(2), token(3)],
        "the other is still to be written"
    );
    assert!(matches!(
        held.take_records().as_slice(),
        [Record::Ended { result, .. }] if matches!(result.verdict, Verdict::Lost { .. })
    ));
    for n in 1..=3 {
        assert_ne!(held.offer(job(n)), Offer::Taken, "in the journal");
    }
    assert_eq!(held.offer(job(4)), Offer::Known, "recorded before");
    assert_eq!(held.offer(job(0)), Offer::Report, "too old to tell");
    assert_eq!(held.offer(job(5)), Offer::Taken);
}

#[test]
fn what_is_disowned_is_killed_and_never_spoken_of() {
    let mut held = Held::new(2);
    held.offer(job(1));
    let stopper = start(&mut held);
    for n in 2..=4 {
        held.offer(job(n));
    }
    held.begin_waiting();
    held.disown();
    assert_eq!(stopper.cause(), Some(Cause::Stale));
    assert!(held.take_records().is_empty());
    assert_eq!((held.free_slots(), held.parked(), held.hello().len()), (1, 0, 1));
    held.ended(token(1), finished());
    held.own_again();
    assert!(held.is_empty() && held.take_records().is_empty());
    assert_eq!(held.free_slots(), 2);
    assert_eq!(held.offer(job(1)), Offer::Known, "it ran here");
}
