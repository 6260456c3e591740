//! Nothing that a test started outlives it, also when the test itself is killed.

use anyhow::{Context, Result};
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};

/// Reads `+ GROUP` and `- GROUP` lines. When the pipe closes, which the kernel does however the test ends, it kills those groups, then
/// every process that works in the cluster's folder (tasks have process groups of their own), then removes the folder.
const SCRIPT: &str = r#"
groups=' '
keep=
while read -r op group; do
    case $op in
        +) groups="$groups$group " ;;
        -) groups="${groups%% $group *} ${groups#* $group }" ;;
        keep) keep=1 ;;
    esac
done
for group in $groups; do kill -KILL -- "-$group"; done
for process in /proc/[0-9]*; do
    case $(readlink "$process/cwd") in "$1" | "$1"/*) kill -KILL "${process#/proc/}" ;; esac
done
[ -n "$keep" ] || rm -rf -- "$1"
"#;

/// A shell that cleans up after one cluster. Dropping it cleans up now.
#[derive(Debug)]
pub struct Guard {
    shell: Child,
    /// Taken by drop, which closes it.
    pipe: Option<ChildStdin>,
}

impl Guard {
    /// Starts watching over a folder.
    ///
    /// # Errors
    /// The shell cannot be started.
    pub fn over(folder: &Path) -> Result<Self> {
        let mut shell = Command::new("/bin/sh")
            .args(["-c", SCRIPT, "guard"])
            .arg(folder)
            // Away from the terminal's group: an interrupt there must end the test, not the one who cleans up after it.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("starting /bin/sh")?;
        let pipe = shell.stdin.take();
        Ok(Self { shell, pipe })
    }

    /// Adds a process group.
    ///
    /// # Errors
    /// The shell is gone.
    pub fn add(&mut self, group: u32) -> Result<()> {
        self.tell(&format!("+ {group}\n"))
    }

    /// Takes out a process group that has ended: its number may be given to another.
    ///
    /// # Errors
    /// The shell is gone.
    pub fn remove(&mut self, group: u32) -> Result<()> {
        self.tell(&format!("- {group}\n"))
    }

    /// Keeps the folder.
    ///
    /// # Errors
    /// The shell is gone.
    pub fn keep(&mut self) -> Result<()> {
        self.tell("keep\n")
    }

    fn tell(&mut self, line: &str) -> Result<()> {
        let pipe = self.pipe.as_mut().context("the guard has been dismissed")?;
        pipe.write_all(line.as_bytes())
            .context("the guard is gone: something killed a shell of the test")
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        drop(self.pipe.take());
        // Nothing can be done about a shell that cannot be waited for, and a panic here would hide the test's own.
        let _ = self.shell.wait();
    }
}
