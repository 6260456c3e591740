//! Name spaces of its own for one scenario: network, mounts and processes. Whatever is left in them ends with it.

use anyhow::{Context, Result, bail};
use std::path::Path;
use std::process::{Command, ExitStatus};

/// Tells the program that it runs inside.
const INSIDE: &str = "CHAOS_SANDBOX";
/// What the faults are made with, and the Debian package it comes from.
const TOOLS: [(&str, &str); 8] = [
    ("unshare", "util-linux"),
    ("nsenter", "util-linux"),
    ("ip", "iproute2"),
    ("iptables-restore", "iptables"),
    ("mount", "mount"),
    ("mkfs.xfs", "xfsprogs"),
    ("xfs_io", "xfsprogs"),
    ("cc", "build-essential"),
];

/// Whether this program runs inside already.
pub fn is_inside() -> bool {
    std::env::var_os(INSIDE).is_some()
}

/// Says what is missing for it on this machine.
///
/// # Errors
/// Names the first thing that is missing and how to get it.
pub fn possible() -> Result<()> {
    if !rustix::process::geteuid().is_root() {
        bail!("the faults need root: name spaces, a firewall, loop devices");
    }
    for (tool, package) in TOOLS {
        let found = std::env::var_os("PATH").is_some_and(|path| {
            std::env::split_paths(&path)
                .chain(["/usr/sbin".into(), "/sbin".into()])
                .any(|folder| folder.join(tool).exists())
        });
        if !found {
            bail!("{tool} is missing: install {package} (`scripts/setup.sh test` does)");
        }
    }
    if !Path::new("/dev/loop-control").exists() {
        bail!("there are no loop devices (/dev/loop-control)");
    }
    Ok(())
}

/// Runs this program again, inside a new one, with these arguments; returns how it ended.
///
/// # Errors
/// It cannot be started.
pub fn enter(arguments: &[String]) -> Result<ExitStatus> {
    let program = std::env::current_exe().context("the path of the running program")?;
    // A shell as the first process of the name space: it reaps what loses its parent, which the program would not. It mounts a /run in
    // which the names of name spaces and the mounts of disks are nobody else's.
    let script = r#"mount -t tmpfs -o mode=755 chaos /run && mkdir -p /run/netns && "$@"; exit $?"#;
    let mut command = Command::new("unshare");
    command
        .args([
            "--net",
            "--mount",
            "--pid",
            "--fork",
            "--mount-proc",
            "--kill-child",
            "--propagation",
            "private",
        ])
        .args(["--", "/bin/sh", "-c", script, "sandbox"])
        .arg(program)
        .args(arguments)
        .env(INSIDE, "1");
    command.status().context("starting unshare")
}
