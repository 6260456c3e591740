//! What output of ended attempts there is, so that the oldest can go and nothing is searched for on disk.

use super::{OutputId, OutputLimits};
use sched_core::{RunId, TaskId, Timestamp};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{DirEntry, Metadata};
use std::io;
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

/// The output of ended attempts, by name and by age.
#[derive(Debug, Default)]
pub(super) struct Index {
    by_id: BTreeMap<OutputId, Kept>,
    by_age: BTreeSet<(Timestamp, OutputId)>,
    bytes: u64,
}

/// One of them.
#[derive(Clone, Copy, Debug)]
struct Kept {
    ended: Timestamp,
    bytes: u64,
}

impl Index {
    /// Adds what ended then; an earlier entry of the same name is replaced.
    pub(super) fn insert(&mut self, id: OutputId, bytes: u64, ended: Timestamp) {
        self.remove(id);
        self.by_id.insert(id, Kept { ended, bytes });
        self.by_age.insert((ended, id));
        self.bytes += bytes;
    }

    /// Forgets one.
    pub(super) fn remove(&mut self, id: OutputId) {
        if let Some(kept) = self.by_id.remove(&id) {
            self.by_age.remove(&(kept.ended, id));
            self.bytes -= kept.bytes;
        }
    }

    /// Whether there is output of this attempt.
    pub(super) fn contains(&self, id: OutputId) -> bool {
        self.by_id.contains_key(&id)
    }

    /// Returns the newest attempt of a run with output.
    pub(super) fn newest(&self, run: RunId) -> Option<OutputId> {
        let range = OutputId { run, attempt: 0 }..=OutputId { run, attempt: u32::MAX };
        self.by_id.range(range).next_back().map(|(id, _)| *id)
    }

    /// Takes out what is over the limits, oldest first, at most `max` of them. The caller deletes the files.
    pub(super) fn take_excess(&mut self, limits: &OutputLimits, now: Timestamp, max: usize) -> Vec<OutputId> {
        let mut excess = Vec::new();
        while let Some(&(ended, id)) = self.by_age.first() {
            let too_old = age(ended, now) > limits.age_max;
            let too_many = self.bytes > limits.total_bytes_max || self.by_id.len() > limits.attempts_max;
            if excess.len() == max || !(too_old || too_many) {
                break;
            }
            self.remove(id);
            excess.push(id);
        }
        excess
    }

    /// Returns how long until the oldest is too old.
    pub(super) fn until_too_old(&self, limits: &OutputLimits, now: Timestamp) -> Option<Duration> {
        let (ended, _) = self.by_age.first()?;
        Some(limits.age_max.saturating_sub(age(*ended, now)))
    }

    #[cfg(test)]
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }
}

/// Reads what is on disk from an earlier life of the worker. Names that are not ours are left alone; what cannot be read is skipped.
pub(super) fn scan(root: &Path) -> io::Result<Vec<(OutputId, u64, Timestamp)>> {
    let mut found = Vec::new();
    for task_dir in entries(root)? {
        let Some(task) = task_dir
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
            .map(TaskId)
        else {
            continue;
        };
        for entry in entries(&task_dir.path()).unwrap_or_default() {
            let name = entry.file_name();
            let Some(id) = name.to_str().and_then(|name| parse(task, name)) else {
                continue;
            };
            let Ok(meta) = entry.metadata() else { continue };
            let mut bytes = meta.len();
            let mut ended = modified(&meta);
            for piece in entries(&id.more_dir(root)).unwrap_or_default() {
                if let Ok(meta) = piece.metadata() {
                    bytes += meta.len();
                    ended = ended.max(modified(&meta));
                }
            }
            found.push((id, bytes, ended));
        }
    }
    Ok(found)
}

fn entries(dir: &Path) -> io::Result<Vec<DirEntry>> {
    Ok(std::fs::read_dir(dir)?.filter_map(Result::ok).collect())
}

/// When a file was last written; files whose age is not known are the first to go.
fn modified(meta: &Metadata) -> Timestamp {
    let since = meta
        .modified()
        .ok()
        .and_then(|time| time.duration_since(UNIX_EPOCH).ok())
        .unwrap_or_default();
    Timestamp::from_millis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

fn age(ended: Timestamp, now: Timestamp) -> Duration {
    Duration::from_millis(u64::try_from(now.millis_since(ended)).unwrap_or(0))
}

/// Reads `<run>.<attempt>.log`.
fn parse(task: TaskId, name: &str) -> Option<OutputId> {
    let (run, attempt) = name.strip_suffix(".log")?.split_once('.')?;
    Some(OutputId {
        run: RunId {
            task,
            number: run.parse().ok()?,
        },
        attempt: attempt.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u64, attempt: u32) -> OutputId {
        OutputId {
            run: RunId {
                task: TaskId(1),
                number,
            },
            attempt,
        }
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_millis(seconds * 1000)
    }

    #[test]
    fn the_oldest_go_first_by_bytes_by_number_and_by_age() {
        let limits = OutputLimits {
            total_bytes_max: 100,
            attempts_max: 3,
            age_max: Duration::from_secs(1000),
            ..OutputLimits::default()
        };
        let mut index = Index::default();
        for n in 1..=3 {
            index.insert(id(n, 1), 30, at(n as i64));
        }
        assert!(index.take_excess(&limits, at(10), 9).is_empty());
        index.insert(id(4, 1), 1, at(4));
        assert_eq!(index.take_excess(&limits, at(10), 9), [id(1, 1)], "one too many");
        index.insert(id(2, 1), 95, at(5));
        assert_eq!(
            index.take_excess(&limits, at(10), 9),
            [id(3, 1)],
            "replaced, and too many bytes"
        );
        assert_eq!(index.until_too_old(&limits, at(10)), Some(Duration::from_secs(994)));
        assert_eq!(
            index.take_excess(&limits, at(2000), 1),
            [id(4, 1)],
            "too old, one at a time"
        );
        assert_eq!(index.take_excess(&limits, at(2000), 1), [id(2, 1)]);
        assert_eq!((index.bytes(), index.until_too_old(&limits, at(0))), (0, None));
    }

    #[test]
    fn the_newest_attempt_of_a_run_is_found() {
        let mut index = Index::default();
        for (number, attempt) in [(1, 1), (2, 1), (2, 10), (2, 9), (3, 1)] {
            index.insert(id(number, attempt), 1, at(1));
        }
        assert_eq!(index.newest(id(2, 0).run), Some(id(2, 10)));
        assert_eq!(index.newest(id(9, 0).run), None);
    }

    #[test]
    fn names_that_are_not_ours_are_left_alone() {
        assert_eq!(parse(TaskId(1), "2.3.log"), Some(id(2, 3)));
        for name in ["2.log", "2.3", "2.3.more", ".3.log", "a.b.log", "-1.2.log"] {
            assert_eq!(parse(TaskId(1), name), None, "{name}");
        }
    }
}
