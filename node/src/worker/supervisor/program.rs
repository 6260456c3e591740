//! Which program supervises.

use sched_supervisor::PROGRAM;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::sync::OnceLock;

/// This program itself, which can do it too, at the cost of some milliseconds of processor time for each command. Not by its name: that
/// may be a newer one's by now.
const THIS_ONE: &str = "/proc/self/exe";

/// Returns the program of supervisors: the small one, when it lies beside this one, else this one. It is looked for once and held open, so that
/// an upgrade of the files does not change the program of a daemon that runs.
pub fn program() -> PathBuf {
    static BESIDE: OnceLock<Option<File>> = OnceLock::new();
    match BESIDE.get_or_init(beside) {
        Some(file) => PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd())),
        None => THIS_ONE.into(),
    }
}

fn beside() -> Option<File> {
    let path = std::env::current_exe().ok()?.with_file_name(PROGRAM);
    match File::open(&path) {
        Ok(file) => Some(file),
        Err(e) => {
            tracing::info!(path = %path.display(), error = %e, "no program for supervisors; this one does it, which makes commands dearer");
            None
        }
    }
}
