use super::*;

#[test]
fn what_has_become_needless_makes_no_batch() {
    let (mut outbox, mut held, mut contact) = (Outbox::default(), Held::new(1), Contact::new());
    assert!(outbox.is_empty());
    outbox.report(Token { index: 1, position: 0 });
    outbox.ask_for_grant(Token { index: 2, position: 0 });
    assert!(!outbox.is_empty());
    assert_eq!(outbox.batch(&mut held, &mut contact, None, Duration::ZERO), None);
    assert!(outbox.is_empty());
}

#[test]
fn output_is_spread_over_batches_and_a_heartbeat_never_waits_behind_it() {
    let (mut outbox, mut held, mut contact) = (Outbox::default(), Held::new(1), Contact::new());
    for request in 0..10 {
        let data = vec![0; 256 * 1024].into();
        outbox.output(pb::OutputChunk {
            request,
            data,
            ..Default::default()
        });
    }
    outbox.heartbeat();
    let first = outbox.batch(&mut held, &mut contact, None, Duration::ZERO).unwrap();
    assert_eq!(
        (first.output.len(), first.heartbeat.map(|heartbeat| heartbeat.seq)),
        (4, Some(1))
    );
    let rest: Vec<usize> = std::iter::from_fn(|| outbox.batch(&mut held, &mut contact, None, Duration::ZERO))
        .map(|batch| batch.output.len())
        .collect();
    assert_eq!(rest, [4, 2]);
}

#[test]
fn refusals_that_nobody_reads_stay_few() {
    let mut outbox = Outbox::default();
    for _ in 0..10_000 {
        outbox.refuse_once(pb::Nack::default());
    }
    assert_eq!(outbox.nacks.len(), BATCH_ENTRIES);
}
