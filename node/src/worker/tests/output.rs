//! Output files: bounded, readable while they grow, found again after a restart, pruned oldest first.

use super::support::{clock, store};
use crate::worker::output::{OutputLimits, OutputStore, OutputWriter, Piece, ReadError};
use sched_core::{RunId, TaskId};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

fn run(task: u64, number: u64) -> RunId {
    RunId {
        task: TaskId(task),
        number,
    }
}

fn limits(attempt_bytes_max: u64) -> OutputLimits {
    OutputLimits {
        attempt_bytes_max,
        ..OutputLimits::default()
    }
}

async fn read(store: &Arc<OutputStore>, run: RunId, attempt: u32, offset: u64) -> Piece {
    store.read(run, attempt, offset, 0, Duration::ZERO).await.unwrap()
}

/// Everything that is left, with the offset each part begins at.
async fn read_all(store: &Arc<OutputStore>, run: RunId) -> Vec<(u64, Vec<u8>)> {
    let mut parts = Vec::new();
    let mut offset = 0;
    loop {
        let piece = read(store, run, 0, offset).await;
        offset = piece.next_offset;
        if !piece.data.is_empty() {
            parts.push((piece.offset, piece.data.to_vec()));
        }
        if piece.end {
            return parts;
        }
    }
}

async fn write(store: &Arc<OutputStore>, run: RunId, attempt: u32, bytes: &[u8]) -> Vec<u8> {
    let mut writer = OutputWriter::new(store, run, attempt);
    for part in bytes.chunks(1000) {
        writer.write(part).await;
    }
    writer.finish().await
}

/// All files below a folder. What is deleted meanwhile is not among them.
fn files(dir: &Path) -> Vec<String> {
    let mut names = Vec::new();
    let entries = match std::fs::read_dir(dir) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return names,
        entries => entries.unwrap(),
    };
    for entry in entries.map(Result::unwrap) {
        match entry.file_type().unwrap().is_dir() {
            true => names.extend(files(&entry.path())),
            false => names.push(entry.path().display().to_string()),
        }
    }
    names.sort();
    names
}

#[tokio::test]
async fn too_much_output_keeps_its_beginning_and_its_end() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path(), limits(8000));
    let all: Vec<u8> = (0..100_500u32).flat_map(|i| i.to_le_bytes()).take(100_500).collect();
    let tail = write(&store, run(1, 1), 1, &all).await;
    assert_eq!(tail, all[all.len() - 16 * 1024..]);
    let parts = read_all(&store, run(1, 1)).await;
    assert_eq!(
        parts.iter().map(|(offset, _)| *offset).collect::<Vec<_>>(),
        [0, 98_000, 100_000]
    );
    for (offset, part) in &parts {
        let offset = *offset as usize;
        assert_eq!(*part, all[offset..offset + part.len()], "at {offset}");
    }
    assert_eq!(parts[0].1.len(), 4000);
    let gap = read(&store, run(1, 1), 1, 50_000).await;
    assert_eq!(
        (gap.offset, gap.next_offset, gap.end),
        (98_000, 100_000, false),
        "reading goes on after the gap"
    );
    assert_eq!(store.bytes_kept(), 4000 + 2500);
    assert_eq!(files(dir.path()).len(), 3);
}

#[tokio::test]
async fn silence_makes_no_file() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path(), limits(8000));
    assert!(write(&store, run(1, 1), 1, b"").await.is_empty());
    assert!(files(dir.path()).is_empty());
    assert!(matches!(
        store.read(run(1, 1), 1, 0, 0, Duration::ZERO).await,
        Err(ReadError::NotFound)
    ));
}

#[tokio::test]
async fn output_is_followed_while_it_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path(), limits(8000));
    let mut writer = OutputWriter::new(&store, run(1, 1), 2);
    let follow = |offset| {
        let store = store.clone();
        tokio::spawn(async move {
            store
                .read(run(1, 1), 0, offset, 0, Duration::from_secs(30))
                .await
                .unwrap()
        })
    };
    let first = follow(0);
    writer.write(b"one ").await;
    let first = first.await.unwrap();
    assert_eq!(
        (first.attempt, &first.data[..], first.next_offset, first.end),
        (2, &b"one "[..], 4, false)
    );
    let second = follow(4);
    writer.write(b"two").await;
    assert_eq!(&second.await.unwrap().data[..], b"two");
    let last = follow(7);
    writer.finish().await;
    let last = last.await.unwrap();
    assert_eq!((last.data.len(), last.next_offset, last.end), (0, 7, true));
}

#[tokio::test(start_paused = true)]
async fn a_wait_for_more_ends_with_what_there_is() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path(), limits(8000));
    let mut writer = OutputWriter::new(&store, run(1, 1), 1);
    writer.write(b"one").await;
    let begin = tokio::time::Instant::now();
    let piece = store.read(run(1, 1), 1, 3, 0, Duration::from_secs(5)).await.unwrap();
    assert_eq!(
        (
            begin.elapsed().as_secs(),
            piece.data.len(),
            piece.next_offset,
            piece.end
        ),
        (5, 0, 3, false)
    );
    drop(writer);
    assert!(
        read(&store, run(1, 1), 1, 3).await.end,
        "a writer that was dropped has ended too"
    );
}

#[tokio::test]
async fn the_newest_attempt_is_read_unless_another_is_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path(), limits(8000));
    for attempt in [1, 3] {
        write(&store, run(1, 1), attempt, format!("attempt {attempt}").as_bytes()).await;
    }
    let mut live = OutputWriter::new(&store, run(1, 1), 4);
    live.write(b"attempt 4").await;
    assert_eq!(&read(&store, run(1, 1), 0, 0).await.data[..], b"attempt 4");
    assert_eq!(&read(&store, run(1, 1), 1, 0).await.data[..], b"attempt 1");
    assert!(matches!(
        store.read(run(1, 1), 2, 0, 0, Duration::ZERO).await,
        Err(ReadError::NotFound)
    ));
}

#[tokio::test]
async fn output_is_found_again_after_a_restart_and_the_oldest_goes_first() {
    let dir = tempfile::tempdir().unwrap();
    let first = store(dir.path(), limits(8000));
    for n in 1..=5 {
        write(&first, run(n, 1), 1, &[b'x'; 10_000]).await;
        let age = Duration::from_secs(100 - n);
        let then = std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(1_699_999_000) - age;
        for name in files(&dir.path().join(format!("output/{n}"))) {
            std::fs::File::options()
                .append(true)
                .open(name)
                .unwrap()
                .set_modified(then)
                .unwrap();
        }
    }
    std::fs::write(dir.path().join("output/README"), "not ours").unwrap();
    drop(first);
    let second = store(
        dir.path(),
        OutputLimits {
            total_bytes_max: 25_000,
            ..limits(8000)
        },
    );
    // Waits for the scan; what is over the limit goes right after it.
    let left = read_all(&second, run(5, 1)).await;
    assert_eq!(left.len(), 3);
    until(|| files(dir.path()).len() == 3 * 3 + 1).await;
    let names = files(dir.path()).join(" ");
    assert!(
        names.contains("/output/3/1.1.log") && !names.contains("/output/2"),
        "{names}"
    );
    // The folder of a task goes with its last output, after the files.
    until(|| !dir.path().join("output/1").exists()).await;
    assert_eq!(second.bytes_kept(), 3 * 8_000);
}

#[tokio::test]
async fn old_output_goes_by_itself() {
    let dir = tempfile::tempdir().unwrap();
    let limits = OutputLimits {
        age_max: Duration::ZERO,
        ..limits(8000)
    };
    let store = OutputStore::open(dir.path().join("output"), limits, clock()).unwrap();
    write(&store, run(1, 1), 1, b"x").await;
    until(|| files(dir.path()).is_empty()).await;
}

#[tokio::test]
async fn a_disk_that_refuses_costs_the_files_not_the_run() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path(), limits(8000));
    // A file where the folder of the task should be.
    std::fs::write(dir.path().join("output/1"), "in the way").unwrap();
    let tail = write(&store, run(1, 1), 1, b"still reported").await;
    assert_eq!(tail, b"still reported");
}

/// Waits for what the background does to files, of which no event tells.
async fn until(mut done: impl FnMut() -> bool) {
    let patience = async {
        while !done() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), patience)
        .await
        .expect("not within 30 s");
}
