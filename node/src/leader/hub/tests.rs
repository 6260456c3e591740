use super::*;
use sched_core::ids::TaskId;
use sched_core::tables::MemTables;

fn run(n: u64) -> RunId {
    RunId {
        task: TaskId(n),
        number: 1,
    }
}

fn anywhere(n: u64) -> Candidate {
    Candidate::anywhere(run(n))
}

fn opened(worker: &str, slots: u32) -> Opened {
    Opened {
        worker: worker.into(),
        journal: worker.bytes().map(u128::from).sum(),
        labels: BTreeMap::new(),
        slots,
        queues: BTreeSet::new(),
        draining: false,
        bound: Token { index: 1, position: 0 },
    }
}

fn session(index: u64) -> SessionId {
    SessionId(Token { index, position: 0 })
}

#[test]
fn runs_go_to_connected_workers_with_room_and_slots_come_back() {
    let hub = Hub::load(&MemTables::new()).unwrap();
    assert!(hub.place(&[anywhere(1)]).is_empty());
    let (a, _rx_a) = Link::new();
    let (b, _rx_b) = Link::new();
    assert!(hub.link(session(1), opened("a", 1), &a) && hub.link(session(2), opened("b", 2), &b));
    let placed = hub.place(&[1, 2, 3, 4].map(anywhere));
    assert_eq!(placed.len(), 3, "no more than there are slots");
    assert_eq!(hub.free(), 0);
    hub.release(placed[0].session, placed[0].run);
    assert_eq!(hub.free(), 1);
    assert!(hub.is_name_taken("a", 1) && !hub.is_name_taken("a", u128::from(b'a')));
    hub.unlink(session(1), &a);
    assert!(
        !hub.is_name_taken("a", 1),
        "it may be the same worker, with a new journal"
    );
    hub.unlink(session(2), &a);
    assert_eq!(hub.capacity().0, 1, "another connection's end changes nothing");
    hub.drain(session(2));
    assert_eq!(hub.free(), 0);
}

#[test]
fn leases_end_unless_a_quorum_confirmed_a_sign_of_life() {
    let hub = Hub::load(&MemTables::new()).unwrap();
    let (link, mut rx) = Link::new();
    hub.link(session(1), opened("a", 1), &link);
    let end = hub.first_deadline().unwrap();
    hub.heartbeat(session(1), &link, 7);
    let beats = hub.take_beats();
    assert!(!beats.is_empty() && hub.take_beats().is_empty());
    assert_eq!(hub.first_deadline(), Some(end), "not yet confirmed");
    hub.confirm(beats);
    assert!(hub.first_deadline() > Some(end));
    assert_eq!(rx.try_recv().unwrap().unwrap().heartbeat_ack.unwrap().seq, 7);
    assert!(hub.expired(end).is_empty());
    assert_eq!(hub.expired(end + LEASE).len(), 1);
    // Opened again meanwhile, by a connection that broke: its lease ends again later, under the newer opening.
    let newer = Token { index: 9, position: 0 };
    hub.opened_again(session(1), newer);
    assert!(hub.expired(clock::boot()).is_empty());
    let over: Vec<Token> = hub
        .expired(end + 3 * LEASE)
        .into_iter()
        .map(|(_, bound, _)| bound)
        .collect();
    assert_eq!(over, [newer]);
}

#[tokio::test]
async fn the_end_of_a_term_sends_workers_on_and_takes_no_more() {
    let hub = Hub::load(&MemTables::new()).unwrap();
    let (link, mut rx) = Link::new();
    hub.link(session(1), opened("a", 1), &link);
    hub.close("n2:7400".into());
    assert_eq!(rx.try_recv().unwrap().unwrap().redirect.unwrap().leader, "n2:7400");
    link.gone().await;
    let (late, mut rx) = Link::new();
    assert!(!hub.link(session(2), opened("b", 1), &late));
    assert!(rx.try_recv().unwrap().unwrap().redirect.is_some());
}

#[test]
fn progress_is_that_of_the_attempt_and_ends_with_it() {
    let hub = Hub::load(&MemTables::new()).unwrap();
    let (link, _rx) = Link::new();
    hub.link(session(1), opened("a", 2), &link);
    let token = |index| Token { index, position: 0 };
    let said = |message: &str| Progress {
        message: message.into(),
        ..Progress::default()
    };
    hub.note_progress(session(1), run(1), token(5), said("not held"));
    hub.holds(session(1), [run(1)]);
    assert_eq!(hub.progress(run(1), token(5), session(1)), None);
    hub.note_progress(session(1), run(1), token(5), said("half"));
    hub.link(session(1), opened("a", 2), &link);
    assert_eq!(
        hub.progress(run(1), token(5), session(1)),
        Some(said("half")),
        "over streams"
    );
    assert_eq!(hub.progress(run(1), token(6), session(1)), None, "another attempt's");
    hub.release(session(1), run(1));
    assert_eq!(hub.progress(run(1), token(5), session(1)), None);
}
