//! The file: what survives a crash, what is cut off, what is refused; and a worker that is killed at each step.

use super::*;
use crate::worker::attempt::Finished;
use crate::worker::tests::{Play, Said, sample, token};
use sched_core::run::{RunResult, Verdict};
use sched_core::task::Delivery;
use sched_core::{RunId, TaskId, Timestamp};
use sched_proto::worker as pb;
use std::fs;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use tempfile::TempDir;

fn run(number: u64) -> RunId {
    RunId {
        task: TaskId(7),
        number,
    }
}

fn started(n: u64) -> Record {
    Record::Started {
        run: run(n),
        token: token(n),
    }
}

fn ended(n: u64, output: usize) -> Record {
    let result = RunResult {
        verdict: Verdict::Success,
        exit_code: Some(0),
        started_at: Timestamp::EPOCH,
        ended_at: Timestamp::EPOCH,
        output_tail: vec![b'x'; output],
        result: Vec::new(),
    };
    let finished = Finished {
        result,
        reason: String::new(),
    };
    Record::ended(run(n), token(n), &finished)
}

fn inline() -> JournalOptions {
    crate::worker::tests::inline()
}

fn open(dir: &TempDir) -> (Journal, Recovered) {
    Journal::open(dir.path(), inline()).unwrap()
}

fn path(dir: &TempDir) -> PathBuf {
    dir.path().join("journal")
}

fn write(journal: &mut Journal, records: impl IntoIterator<Item = Record>) {
    records.into_iter().for_each(|record| journal.write(record));
    while let Ok(event) = journal.events.try_recv() {
        journal.note(&event);
    }
}

#[test]
fn what_was_written_is_there_after_a_restart_and_the_chain_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let (mut journal, recovered) = open(&dir);
    assert!(recovered.open.is_empty());
    let (id, first) = (journal.id(), journal.openings().to_vec());
    assert_eq!(first.len(), 1);
    write(
        &mut journal,
        [
            started(1),
            started(2),
            ended(1, 10),
            started(3),
            Record::Recorded { token: token(3) },
        ],
    );
    let position = journal.position();
    assert_eq!(position.length, 6);
    drop(journal);
    let (mut journal, recovered) = open(&dir);
    assert_eq!(journal.id(), id);
    assert_eq!(recovered.open, [ended(1, 10), started(2)]);
    assert_eq!(recovered.settled, [token(3)].into());
    assert_eq!(journal.position().length, 7, "and the new opening");
    assert_eq!(journal.openings()[..1], first, "it was not answered");
    journal.opened();
    write(&mut journal, []);
    assert_eq!(journal.openings().len(), 2, "the one that was answered, and the next");
    drop(journal);
    assert_eq!(open(&dir).0.openings().len(), 3);
}

#[test]
fn every_torn_end_is_cut_off_and_every_damage_before_it_stops_the_worker() {
    let dir = tempfile::tempdir().unwrap();
    let (mut journal, _) = open(&dir);
    write(&mut journal, [started(1)]);
    let before = fs::metadata(path(&dir)).unwrap().len() as usize;
    write(&mut journal, [started(2)]);
    drop(journal);
    let whole = fs::read(path(&dir)).unwrap();
    let position = read(&whole).unwrap().position.length;
    for end in before..whole.len() {
        let torn = read(&whole[..end]).unwrap();
        assert_eq!(
            (torn.end as usize, torn.position.length),
            (before, position - 1),
            "cut at {end}"
        );
        // A file system may have made room that it did not fill.
        let zeros = [&whole[..end], &vec![0; whole.len() - end][..]].concat();
        assert!(
            read(&zeros).is_ok_and(|read| read.end as usize == before),
            "zeros from {end}"
        );
    }
    for at in 0..before {
        let mut bad = whole.clone();
        bad[at] ^= 0x40;
        let Err(JournalError::Damaged { offset, .. }) = read(&bad) else {
            panic!("byte {at} of {before} is not missed");
        };
        assert!(offset as usize <= at, "byte {at} is found at {offset}");
    }
    for at in before..whole.len() {
        let mut bad = whole.clone();
        bad[at] ^= 0x40;
        assert!(
            read(&bad).is_ok_and(|read| read.end as usize == before),
            "the last block, byte {at}"
        );
    }
    // A block that is gone from the middle breaks the chain.
    let head = whole
        .windows(4)
        .enumerate()
        .skip(1)
        .find(|(_, window)| *window == b"SJNL")
        .unwrap()
        .0;
    let second = whole
        .windows(4)
        .enumerate()
        .skip(head + 1)
        .find(|(_, window)| *window == b"SJNL")
        .unwrap()
        .0;
    let spliced = [&whole[..head], &whole[second..]].concat();
    assert!(matches!(read(&spliced), Err(JournalError::Damaged { .. })));
}

fn read(bytes: &[u8]) -> Result<record::Contents, JournalError> {
    record::read(Path::new("journal"), bytes)
}

#[test]
fn a_torn_file_is_written_on_and_a_damaged_one_says_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let (mut journal, _) = open(&dir);
    write(&mut journal, [started(1), started(2)]);
    drop(journal);
    let mut bytes = fs::read(path(&dir)).unwrap();
    let file = OpenOptions::new().write(true).open(path(&dir)).unwrap();
    file.set_len(bytes.len() as u64 - 3).unwrap();
    let (mut journal, recovered) = open(&dir);
    assert_eq!(recovered.open, [started(1)]);
    write(&mut journal, [started(3)]);
    drop(journal);
    assert_eq!(open(&dir).1.open, [started(1), started(3)]);
    bytes = fs::read(path(&dir)).unwrap();
    bytes[100] ^= 1;
    let file = OpenOptions::new().write(true).open(path(&dir)).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &bytes, 0).unwrap();
    let error = Journal::open(dir.path(), inline()).err().unwrap().to_string();
    for word in ["damaged at byte", "move the file away", "joins as a new one"] {
        assert!(error.contains(word), "{error}");
    }
}

#[test]
fn recorded_attempts_are_forgotten_the_file_stays_small_and_the_chain_unbroken() {
    let dir = tempfile::tempdir().unwrap();
    let (mut journal, _) = open(&dir);
    let id = journal.id();
    write(&mut journal, [started(1), started(2), ended(2, 100)]);
    for n in 10..2000 {
        write(
            &mut journal,
            [started(n), ended(n, 16 * 1024), Record::Recorded { token: token(n) }],
        );
    }
    let position = journal.position();
    drop(journal);
    let size = fs::metadata(path(&dir)).unwrap().len();
    assert!(size < 10 * 1024 * 1024, "{size} bytes, of 32 MiB written");
    let (journal, recovered) = open(&dir);
    assert_eq!((journal.id(), journal.position().length), (id, position.length + 1));
    assert_eq!(recovered.open, [started(1), ended(2, 100)]);
    assert!(recovered.settled.contains(&token(1999)) && recovered.forgotten.is_none());
}

#[test]
fn a_copied_folder_is_a_new_worker() {
    let (dir, copy) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (mut journal, _) = open(&dir);
    write(&mut journal, [started(1)]);
    fs::copy(path(&dir), path(&copy)).unwrap();
    let (other, recovered) = open(&copy);
    assert_ne!(other.id(), journal.id());
    assert!(recovered.open.is_empty(), "it may claim nothing");
    assert!(
        copy.path().join("journal.refused").exists(),
        "and is kept for whoever looks into it"
    );
}

#[test]
fn two_agents_cannot_have_one_journal() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = open(&dir);
    let second = std::thread::spawn({
        let dir = dir.path().to_owned();
        move || Journal::open(&dir, inline()).map(|_| ())
    });
    assert!(!second.is_finished(), "the first one still has it");
    drop(journal);
    second.join().unwrap().unwrap();
    let _held = open(&dir);
    let error = Journal::open(dir.path(), inline()).err().unwrap();
    assert!(matches!(error, JournalError::InUse { .. }) && error.to_string().contains("in use by another process"));
}

#[test]
fn the_first_error_of_a_sync_is_the_last_write() {
    let dir = tempfile::tempdir().unwrap();
    let (broken, syncs) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let sync = {
        let (broken, syncs) = (broken.clone(), syncs.clone());
        move |file: &File| {
            syncs.fetch_add(1, Ordering::Relaxed);
            if broken.load(Ordering::Relaxed) {
                return Err(io::Error::other("no space left on device"));
            }
            file.sync_data()
        }
    };
    let options = JournalOptions {
        sync: Arc::new(sync),
        inline: true,
    };
    let (mut journal, _) = Journal::open(dir.path(), options).unwrap();
    write(&mut journal, [started(1)]);
    let (position, before) = (journal.position(), syncs.load(Ordering::Relaxed));
    broken.store(true, Ordering::Relaxed);
    write(&mut journal, [started(2)]);
    assert_eq!(journal.failure(), Some("no space left on device"));
    broken.store(false, Ordering::Relaxed);
    write(&mut journal, [started(3)]);
    assert_eq!(syncs.load(Ordering::Relaxed), before + 1, "not one more");
    assert_eq!(journal.position(), position);
}

#[tokio::test]
async fn runs_that_start_together_share_a_sync() {
    let dir = tempfile::tempdir().unwrap();
    let (gate, syncs) = (Arc::new(std::sync::Mutex::new(())), Arc::new(AtomicUsize::new(0)));
    let sync = {
        let (gate, syncs) = (gate.clone(), syncs.clone());
        move |file: &File| {
            syncs.fetch_add(1, Ordering::Relaxed);
            drop(gate.lock().unwrap());
            file.sync_data()
        }
    };
    let options = JournalOptions {
        sync: Arc::new(sync),
        inline: false,
    };
    let (mut journal, _) = Journal::open(dir.path(), options).unwrap();
    let before = syncs.load(Ordering::Relaxed);
    let closed = gate.lock().unwrap();
    (1..=1000).for_each(|n| journal.write(started(n)));
    drop(closed);
    let mut durable = 0;
    while durable < 1000 {
        match journal.next().await {
            Event::Durable { marks, .. } => durable += marks.len(),
            other => panic!("{other:?}"),
        }
    }
    assert!(
        syncs.load(Ordering::Relaxed) <= before + 2,
        "one for what was there first, one for all others"
    );
    drop(journal);
    assert_eq!(open(&dir).1.open.len(), 1000);
}

/// A journal whose sync fails from the moment it is told to.
fn breakable() -> (JournalOptions, Arc<AtomicBool>) {
    let broken = Arc::new(AtomicBool::new(false));
    let fails = broken.clone();
    let sync = move |file: &File| match fails.load(Ordering::Relaxed) {
        true => Err(io::Error::other("input/output error")),
        false => file.sync_data(),
    };
    let options = JournalOptions {
        sync: Arc::new(sync),
        inline: true,
    };
    (options, broken)
}

#[tokio::test(start_paused = true)]
async fn a_worker_whose_journal_fails_takes_no_more_work_and_says_so() {
    let (options, broken) = breakable();
    let mut play = Play::in_folder(4, tempfile::tempdir().unwrap(), options).ok().unwrap();
    let mut stream = play.welcomed().await;
    stream.run(&sample(1, Duration::from_secs(2))).await;
    play.until(|s| s.running == 1).await;
    broken.store(true, Ordering::Relaxed);
    stream.run(&sample(2, Duration::from_secs(1))).await;
    assert_eq!(
        stream.report().await,
        Said::Nack(2, pb::NackCode::Journal),
        "its start is not on disk"
    );
    let status = play.until(|s| s.journal_failure.is_some()).await;
    assert_eq!((status.started, status.running), (1, 1));
    broken.store(false, Ordering::Relaxed);
    stream.run(&sample(3, Duration::from_secs(1))).await;
    assert_eq!(stream.report().await, Said::Nack(3, pb::NackCode::Journal), "for good");
    assert_eq!(
        stream.report().await,
        Said::Completed(1, pb::Verdict::Success),
        "what ran is still told"
    );
    drop(stream);
    assert!(play.stream().await.hello.draining);
}

/// The process is killed between `S` and the start, while it runs, after its end and before `X`, after `X` and before the report:
/// the worker that follows never starts the attempt again, and says as much as the journal does.
#[tokio::test(start_paused = true)]
async fn a_worker_killed_at_any_step_starts_nothing_twice() {
    let ends = |n, verdict| vec![Said::Completed(n, verdict)];
    for delivery in [Delivery::AtLeastOnce, Delivery::AtMostOnce] {
        // Between S and the start (or the grant): the record is there, and nothing else of it.
        let dir = tempfile::tempdir().unwrap();
        let (mut journal, _) = open(&dir);
        write(&mut journal, [started(1)]);
        drop(journal);
        let mut play = Play::in_folder(4, dir, inline()).ok().unwrap();
        let mut stream = play.stream().await;
        assert_eq!(stream.hello.held.len(), 1);
        let mut job = sample(1, Duration::from_secs(1));
        job.delivery = delivery;
        stream.welcome(pb::DispositionKind::Continue).await;
        stream.run(&job).await;
        assert_eq!(stream.reports().await.unwrap(), ends(1, pb::Verdict::Lost));
        assert_eq!(play.until(|_| true).await.started, 0);

        // While it runs.
        let mut play = Play::new(4);
        let mut stream = play.welcomed().await;
        job = sample(1, Duration::from_secs(1000));
        job.delivery = delivery;
        stream.run(&job).await;
        if delivery == Delivery::AtMostOnce {
            assert_eq!(stream.report().await, Said::WantsGrant(1));
            stream.grant(1).await;
        }
        play.until(|s| s.running == 1).await;
        let journal = (stream.hello.journal_high, stream.hello.journal_low);
        let dir = play.crash().await;
        let mut play = Play::in_folder(4, dir, inline()).ok().unwrap();
        let mut stream = play.stream().await;
        assert_eq!(
            (stream.hello.journal_high, stream.hello.journal_low),
            journal,
            "the same worker"
        );
        stream.welcome(pb::DispositionKind::Continue).await;
        stream.run(&job).await;
        assert_eq!(stream.reports().await.unwrap(), ends(1, pb::Verdict::Lost));
        assert_eq!(play.until(|_| true).await.started, 0);
    }

    // After its end and before X is on disk.
    let (options, broken) = breakable();
    let mut play = Play::in_folder(4, tempfile::tempdir().unwrap(), options).ok().unwrap();
    let stream = play.welcomed().await;
    stream.run(&sample(1, Duration::from_secs(1))).await;
    play.until(|s| s.running == 1).await;
    broken.store(true, Ordering::Relaxed);
    play.until(|s| s.running == 0).await;
    let dir = play.crash().await;
    // The block reached the file, and was never synced: a loss of power takes it.
    let bytes = fs::read(path(&dir)).unwrap();
    let file = OpenOptions::new().write(true).open(path(&dir)).unwrap();
    file.set_len(bytes.len() as u64 - 1).unwrap();
    let mut play = Play::in_folder(4, dir, inline()).ok().unwrap();
    let mut stream = play.welcomed().await;
    assert_eq!(stream.reports().await.unwrap(), ends(1, pb::Verdict::Lost));

    // After X and before the report, or before its record arrives.
    let mut play = Play::new(4);
    let stream = play.welcomed().await;
    stream.run(&sample(1, Duration::from_secs(1))).await;
    play.until(|s| s.unrecorded == 1).await;
    let dir = play.crash().await;
    let mut play = Play::in_folder(4, dir, inline()).ok().unwrap();
    let mut stream = play.welcomed().await;
    assert_eq!(stream.hello.held[0].state(), pb::HeldState::Ended);
    assert_eq!(stream.reports().await.unwrap(), ends(1, pb::Verdict::Success));
    stream.recorded(1).await;
    play.until(|s| s.unrecorded == 0).await;
    let dir = play.crash().await;
    let mut play = Play::in_folder(4, dir, inline()).ok().unwrap();
    let mut stream = play.stream().await;
    assert!(stream.hello.held.is_empty(), "recorded and forgotten");
    stream.welcome(pb::DispositionKind::Continue).await;
    stream
        .runs(&[sample(1, Duration::from_secs(1)), sample(2, Duration::from_secs(1))])
        .await;
    assert_eq!(
        stream.report().await,
        Said::Completed(2, pb::Verdict::Success),
        "the first is not new"
    );
    assert_eq!(play.until(|_| true).await.started, 1);
}

#[tokio::test(start_paused = true)]
async fn a_worker_whose_journal_is_refused_ends_what_runs_and_joins_as_a_new_one() {
    let mut play = Play::new(4);
    let stream = play.welcomed().await;
    let old = (stream.hello.journal_high, stream.hello.journal_low);
    stream.run(&sample(1, Duration::from_secs(1000))).await;
    play.until(|s| s.running == 1).await;
    drop(stream);
    let stream = play.stream().await;
    let refused = Some(pb::Refused {
        reason: "the journal went backwards".to_owned(),
        retry_after_ms: 1,
        new_journal: true,
    });
    stream
        .send(pb::ToWorker {
            refused,
            ..Default::default()
        })
        .await;
    let mut stream = play.stream().await;
    assert_ne!((stream.hello.journal_high, stream.hello.journal_low), old);
    assert!(stream.hello.held.is_empty(), "it claims nothing");
    assert_eq!(play.until(|s| s.running == 0).await.unrecorded, 0);
    stream.welcome(pb::DispositionKind::Continue).await;
    stream.run(&sample(2, Duration::from_secs(1))).await;
    assert_eq!(stream.report().await, Said::Completed(2, pb::Verdict::Success));
}

#[tokio::test(start_paused = true)]
async fn a_report_that_is_refused_is_not_repeated() {
    let mut play = Play::new(4);
    let mut stream = play.welcomed().await;
    stream.run(&sample(1, Duration::from_secs(1))).await;
    assert_eq!(stream.report().await, Said::Completed(1, pb::Verdict::Success));
    let rejected = vec![pb::Rejected {
        attempt: Some(crate::worker::tests::attempt(1)),
        reason: "never given to this worker".to_owned(),
    }];
    stream
        .send(pb::ToWorker {
            rejected,
            ..Default::default()
        })
        .await;
    play.until(|s| s.unrecorded == 0).await;
}

/// Whatever stands in the file is read, cut off as torn, or refused.
///
/// An input is pieces of a length of two bytes and a body, each put into a block whose checksum is right, which chance would hardly ever
/// hit; what is left of it follows as it is.
#[test]
fn fuzz_journal() {
    use super::book::Book;
    use super::record::{Block, Head};

    let body = |block: &Block| {
        let bytes = block.encode();
        let body = &bytes[14..bytes.len() - 4];
        let length = u16::try_from(body.len()).unwrap();
        [&length.to_le_bytes()[..], body].concat()
    };
    let head = |length, carried| {
        Block::Head(Head {
            journal: 7,
            inode: 8,
            length,
            head: [0; 16],
            forgotten: Some(token(1)),
            carried,
        })
    };
    let records = |length| Block::Records {
        length,
        head: [0; 16],
        records: vec![
            started(3),
            ended(3, 2),
            Record::Refused {
                run: run(4),
                token: token(4),
                code: 1,
                reason: "full".to_owned(),
            },
            Record::Recorded { token: token(3) },
            Record::Opening { number: 5 },
            Record::Opened { number: 5 },
        ],
    };
    let carried = Block::Carried(vec![started(2)]);
    let seeds = [
        [body(&head(3, 1)), body(&carried), body(&records(3))].concat(),
        [body(&head(3, 0)), body(&records(3))].concat(),
        // A chain that is as long as can be counted.
        [body(&head(u64::MAX, 0)), body(&records(u64::MAX))].concat(),
        body(&head(3, 0)),
    ];
    sched_fuzz::run("journal", &seeds, &["SJNL"], |mut input| {
        let mut file = Vec::new();
        while let Some((length, rest)) = input.split_first_chunk::<2>() {
            let length = usize::from(u16::from_le_bytes(*length));
            let Some((body, rest)) = rest.split_at_checked(length) else {
                break;
            };
            let mut envelope = [&[sched_core::codec::Kind::JournalBlock as u8, 1][..], body].concat();
            envelope.extend_from_slice(&crc32c::crc32c(&envelope).to_le_bytes());
            let length = u32::try_from(envelope.len()).unwrap();
            file.extend_from_slice(b"SJNL");
            file.extend_from_slice(&length.to_le_bytes());
            file.extend_from_slice(&(!length).to_le_bytes());
            file.extend_from_slice(&envelope);
            input = rest;
        }
        file.extend_from_slice(input);
        match record::read(Path::new("journal"), &file) {
            Ok(contents) => {
                let mut book = Book::default();
                let known = contents.carried.iter().chain(&contents.records);
                known.for_each(|record| book.note(record));
                assert!(contents.end <= file.len() as u64);
                format!(
                    "{} records, torn: {}",
                    contents.records.len(),
                    contents.end < file.len() as u64
                )
            }
            Err(error) => error.to_string(),
        }
    });
}
