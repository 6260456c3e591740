//! A file system of its own for each node, in a file: it can be full, it can lose its power, and what was not synced is then gone.

use super::net::output;
use anyhow::{Context, Result};
use rustix::fs::{FallocateFlags, fallocate};
use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::Command;

/// XFS does not come smaller than 300 MiB; sparse, so that it costs what is written.
const SIZE_BYTES: u64 = 3 << 30;
/// What a balloon leaves when it is to fill a disk: less than anything the node writes at once.
const LEFT_BYTES: u64 = 64 << 10;

/// A mounted file system.
#[derive(Debug)]
pub(super) struct Disk {
    image: PathBuf,
    mount: PathBuf,
}

impl Disk {
    /// Makes it and mounts it under `/run`, which is the sandbox's own.
    ///
    /// # Errors
    /// A tool is missing, or the kernel refuses.
    pub(super) fn new(folder: &Path, name: &str) -> Result<Self> {
        let image = folder.join(format!("{name}.xfs"));
        File::create(&image)?.set_len(SIZE_BYTES)?;
        let mut mkfs = Command::new("mkfs.xfs");
        mkfs.args(["-q", "-f"]).arg(&image);
        output(mkfs)?;
        let mount = PathBuf::from("/run/disks").join(name);
        std::fs::create_dir_all(&mount)?;
        let disk = Self { image, mount };
        disk.mount()?;
        Ok(disk)
    }

    /// Where a node keeps its data on it.
    pub(super) fn data(&self) -> PathBuf {
        self.mount.join("data")
    }

    fn mount(&self) -> Result<()> {
        let mut mount = Command::new("mount");
        mount.args(["-o", "loop"]).arg(&self.image).arg(&self.mount);
        output(mount).map(drop)
    }

    /// Cuts the power: nothing that is not on the disk gets there any more, and nothing can be read.
    ///
    /// # Errors
    /// The file system does not go down.
    pub(super) fn cut_power(&self) -> Result<()> {
        let mut shut = Command::new("xfs_io");
        shut.args(["-x", "-c", "shutdown"]).arg(&self.mount);
        output(shut).map(drop)
    }

    /// Whether it answers no more.
    pub(super) fn is_down(&self) -> bool {
        std::fs::read_dir(&self.mount).is_err()
    }

    /// Mounts it again, with what was on the disk when the power went. No process may use it.
    ///
    /// # Errors
    /// It is in use, or damaged.
    pub(super) fn power_on(&self) -> Result<()> {
        let mut umount = Command::new("umount");
        umount.arg(&self.mount);
        output(umount)?;
        self.mount()
    }

    /// Fills it up but for `left_bytes`.
    ///
    /// # Errors
    /// The system does not tell what is free, or does not give it.
    pub(super) fn fill(&self, left_bytes: u64) -> Result<()> {
        let free = self.free_bytes()?;
        let balloon = OpenOptions::new().create(true).append(true).open(self.balloon())?;
        let size = balloon.metadata()?.len();
        // The file system keeps a little for its own records: it may refuse the last of what it calls free.
        let mut more = free.saturating_sub(left_bytes.max(LEFT_BYTES));
        while more > LEFT_BYTES {
            match fallocate(&balloon, FallocateFlags::empty(), size, more) {
                Ok(()) => return Ok(()),
                Err(_) => more = more / 8 * 7,
            }
        }
        Ok(())
    }

    /// What is free on it.
    ///
    /// # Errors
    /// The system does not tell.
    pub(super) fn free_bytes(&self) -> Result<u64> {
        let stat = rustix::fs::statvfs(&self.mount).context("free space")?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    /// Gives back what the balloon took.
    ///
    /// # Errors
    /// There is no balloon.
    pub(super) fn empty(&self) -> Result<()> {
        std::fs::remove_file(self.balloon()).context("the balloon")
    }

    fn balloon(&self) -> PathBuf {
        self.mount.join("balloon")
    }
}
