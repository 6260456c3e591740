//! Collects ended processes that nobody waits for, where this process is init: in a container without one.
//!
//! What a run leaves behind loses its parent, becomes a child of init, and once it has ended stays in the process table until init
//! asks for its status. A process that is ours is asked by its own attempt within seconds; what is still there at two looks in a
//! row, far enough apart, is nobody's.

use rustix::process::{Pid, WaitOptions, getpid, waitpid};
use sched_supervisor::{Stat, processes};
use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::sleep;

/// Between two looks: several times as long as an attempt leaves its own ended process unasked.
const BETWEEN_LOOKS: Duration = Duration::from_secs(10);

/// Collects orphans until dropped; does nothing unless this process is init.
#[derive(Debug)]
pub(crate) struct Orphans(Option<JoinHandle<()>>);

impl Orphans {
    /// Starts collecting. Must be called within a runtime.
    pub(crate) fn collect() -> Self {
        if !getpid().is_init() {
            return Self(None);
        }
        match signal(SignalKind::child()) {
            Ok(child_ended) => Self(Some(tokio::spawn(keep_collecting(child_ended)))),
            Err(e) => {
                tracing::warn!(error = %e, "orphans are not collected; run an init above this process");
                Self(None)
            }
        }
    }
}

impl Drop for Orphans {
    fn drop(&mut self) {
        if let Some(task) = &self.0 {
            task.abort();
        }
    }
}

async fn keep_collecting(mut child_ended: Signal) {
    // Ends of children come in bursts; one look serves all that came before it.
    while child_ended.recv().await.is_some() {
        let mut seen = BTreeSet::new();
        loop {
            sleep(BETWEEN_LOOKS).await;
            let look = spawn_blocking(|| ended_children(Path::new("/proc"), getpid())).await;
            let now = match look {
                Ok(Ok(now)) => now,
                Ok(Err(e)) => {
                    tracing::warn!(error = %e, "the process table cannot be read; orphans are not collected");
                    return;
                }
                // The runtime is shutting down.
                Err(_) => return,
            };
            for orphan in now.intersection(&seen).copied().filter_map(Pid::from_raw) {
                // Gone already is as good.
                let _ = waitpid(Some(orphan), WaitOptions::NOHANG);
            }
            if now.is_empty() {
                break;
            }
            seen = now;
        }
    }
}

/// Returns the children of `parent` that have ended and were not asked for their status.
fn ended_children(proc: &Path, parent: Pid) -> io::Result<BTreeSet<i32>> {
    let ended = |stat: &Stat| stat.ended && stat.parent == parent.as_raw_pid();
    Ok(processes(proc)?.filter(ended).map(|stat| stat.pid).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn only_ended_children_of_ours_are_seen() {
        let dir = tempfile::tempdir().unwrap();
        let table = [
            ("10", "10 (sh) Z 7 10 10 0"),
            ("11", "11 (a) b) Z 1 (x) Z 7 11"),
            ("12", "12 (sh) S 7 12 12 0"),
            ("13", "13 (sh) Z 8 13 13 0"),
            ("14", "nonsense"),
            ("self", "15 (sh) Z 7 15"),
        ];
        for (name, stat) in table {
            fs::create_dir(dir.path().join(name)).unwrap();
            fs::write(dir.path().join(name).join("stat"), stat).unwrap();
        }
        fs::create_dir(dir.path().join("16")).unwrap();
        let ended = ended_children(dir.path(), Pid::from_raw(7).unwrap()).unwrap();
        assert_eq!(ended.into_iter().collect::<Vec<_>>(), [10, 11]);
    }
}
