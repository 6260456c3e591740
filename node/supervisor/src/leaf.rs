//! The cgroup of one run: version 2 with `cgroup.kill`, or the freezer of version 1.

use rustix::process::{Pid, Signal, kill_process};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// For a frozen cgroup to stand still; what does not is killed on the next round.
const FREEZE_LOOKS: u32 = 100;
/// Between two looks.
const LOOK_AGAIN: Duration = Duration::from_millis(2);
/// A cgroup whose last process has ended is free for removal a moment later.
const REMOVE_LOOKS: u32 = 100;

/// Of cgroups.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Version {
    /// With the freezer.
    V1,
    /// With `cgroup.kill`.
    V2,
}

impl Version {
    /// The name, as settings and supervisors have it.
    pub fn name(self) -> &'static str {
        match self {
            Version::V1 => "cgroup1",
            Version::V2 => "cgroup2",
        }
    }

    /// The version of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Version::V1, Version::V2]
            .into_iter()
            .find(|version| version.name() == name)
    }

    /// The file that moves the writer. Of version 1 the one that moves a single thread, which waits for nobody else's.
    pub fn join_file(self) -> &'static str {
        match self {
            Version::V1 => "tasks",
            Version::V2 => "cgroup.procs",
        }
    }

    /// The file without which it is of no use here.
    pub fn kill_file(self) -> &'static str {
        match self {
            Version::V1 => "freezer.state",
            Version::V2 => "cgroup.kill",
        }
    }
}

/// The cgroup of one run.
#[derive(Clone, PartialEq, Debug)]
pub struct Leaf {
    version: Version,
    dir: PathBuf,
}

impl Leaf {
    /// The cgroup at a folder, there or not.
    pub fn new(version: Version, dir: PathBuf) -> Self {
        Self { version, dir }
    }

    /// Of cgroups.
    pub fn version(&self) -> Version {
        self.version
    }

    /// Where it is.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Makes it, and opens the file into which a process writes `0` to move into it.
    pub fn create(&self) -> io::Result<File> {
        // With the worker's own, which another life on the same folder may just have removed.
        fs::create_dir_all(&self.dir)?;
        File::options()
            .write(true)
            .open(self.dir.join(self.version.join_file()))
    }

    /// Whether nobody is in it.
    fn is_empty(&self) -> bool {
        let mut any = false;
        self.each(&mut |_| any = true);
        !any
    }

    /// Kills whoever is in it, once. That it is gone is no error.
    pub fn kill(&self) -> io::Result<()> {
        let done = match self.version {
            Version::V2 => fs::write(self.dir.join("cgroup.kill"), "1"),
            Version::V1 => self.kill_frozen(),
        };
        match done {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            done => done,
        }
    }

    /// Nobody in a frozen cgroup forks: the list is complete.
    fn kill_frozen(&self) -> io::Result<()> {
        let state = self.dir.join("freezer.state");
        fs::write(&state, "FROZEN")?;
        for _ in 0..FREEZE_LOOKS {
            if fs::read_to_string(&state).is_ok_and(|state| state.trim() == "FROZEN") {
                break;
            }
            std::thread::sleep(LOOK_AGAIN);
        }
        self.each(&mut |pid| {
            // Gone already is as good.
            let _ = kill_process(pid, Signal::KILL);
        });
        // They die when they thaw.
        fs::write(&state, "THAWED")
    }

    /// Calls `what` with every process in it and below it.
    fn each(&self, what: &mut impl FnMut(Pid)) {
        let mut dirs = vec![self.dir.clone()];
        while let Some(dir) = dirs.pop() {
            let list = fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
            list.lines()
                .filter_map(|line| Pid::from_raw(line.trim().parse().ok()?))
                .for_each(&mut *what);
            dirs.extend(below(&dir));
        }
    }

    /// Kills until nobody is left, or it seems that this is not possible, and removes it.
    pub fn kill_all(&self) {
        for _ in 0..REMOVE_LOOKS {
            if self.is_empty() {
                break;
            }
            if let Err(e) = self.kill() {
                tracing::warn!(cgroup = %self.dir.display(), error = %e, "processes could not be killed");
            }
            std::thread::sleep(LOOK_AGAIN);
        }
        self.remove();
    }

    /// Removes it, with what its processes have made below it, once nobody is in it any more.
    pub fn remove(&self) {
        for _ in 0..REMOVE_LOOKS {
            match remove_below(&self.dir) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => std::thread::sleep(LOOK_AGAIN),
                _ => return,
            }
        }
    }
}

fn below(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let dirs = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    dirs.map(|entry| entry.path()).collect()
}

fn remove_below(dir: &Path) -> io::Result<()> {
    for inner in below(dir) {
        remove_below(&inner)?;
    }
    fs::remove_dir(dir)
}
