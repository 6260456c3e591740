use super::*;

fn rid(task: u64, number: u64) -> RunId {
    RunId {
        task: TaskId(task),
        number,
    }
}

#[test]
fn keys_sort_by_meaning() {
    let t = Timestamp::from_millis;
    let ready = [
        Key::Ready(0, 100, t(5), rid(9, 1)),
        Key::Ready(0, 0, t(-5), rid(9, 1)),
        Key::Ready(0, 0, t(3), rid(1, 1)),
        Key::Ready(0, 0, t(3), rid(1, 2)),
        Key::Ready(0, 0, t(4), rid(1, 1)),
        Key::Ready(0, -100, t(0), rid(1, 1)),
        Key::Ready(1, 100, t(0), rid(1, 1)),
    ];
    let bytes: Vec<_> = ready.iter().map(Key::encode).collect();
    assert!(bytes.is_sorted(), "{bytes:?}");
    let waiting = [
        Key::Waiting(t(-1), Waiting::Run(rid(1, 1))),
        Key::Waiting(t(0), Waiting::Task(TaskId(7))),
        Key::Waiting(t(0), Waiting::Run(rid(1, 1))),
        Key::Waiting(t(1), Waiting::Task(TaskId(1))),
    ];
    let bytes: Vec<_> = waiting.iter().map(Key::encode).collect();
    assert!(bytes.is_sorted());
    let (from, to) = Key::waiting_until(t(0));
    assert_eq!(bytes.iter().filter(|k| **k >= from && **k < to).count(), 3);
}

#[test]
fn keys_read_back() {
    let t = Timestamp::from_millis(-77);
    let key = Key::Ready(7, -100, t, rid(3, 4)).encode();
    assert_eq!(decode_ready(&key), Some((7, -100, t, rid(3, 4))));
    let (from, to) = Key::ready_of(7);
    assert!(from <= key && key < to);
    let key = Key::Blocked("n", "g", 0, t, rid(3, 4)).encode();
    let (from, to) = Key::blocked_of("n", "g");
    assert!(from <= key && key < to && decode_run(&key) == Some(rid(3, 4)));
    let other = Key::Blocked("n", "gg", 0, t, rid(3, 4)).encode();
    assert!(!(from <= other && other < to));
    let key = Key::Dependent(TaskId(3), TaskId(4)).encode();
    assert_eq!(decode_label_task(&key), Some(TaskId(4)));
    let key = Key::Waiting(t, Waiting::Run(rid(3, 4))).encode();
    assert_eq!(decode_waiting(&key), Some((t, Waiting::Run(rid(3, 4)))));
    let key = Key::Ended(TaskOutcome::Failed, t, rid(3, 4)).encode();
    assert_eq!(decode_ended(&key), Some((t, rid(3, 4))));
    let id = SessionId(Token { index: 5, position: 6 });
    assert_eq!(decode_session(&Key::Session(id).encode()), Some(id));
    assert_eq!(decode_run(&Key::Running(id, rid(3, 4)).encode()), Some(rid(3, 4)));
    let caller = RequestKey::Caller {
        namespace: "n".into(),
        key: "k".into(),
    };
    let expiry = Key::CallerKeyExpiry(t, "n", "k").encode();
    assert_eq!(
        Key::caller_request_of_expiry(&expiry),
        Some(Key::Request(&caller).encode())
    );
    for len in 0..30 {
        let junk = vec![1u8; len];
        let _ = (
            decode_ready(&junk),
            decode_waiting(&junk),
            decode_ended(&junk),
            decode_run(&junk),
            decode_session(&junk),
        );
    }
}
