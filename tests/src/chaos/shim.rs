//! Another wall clock and failing syncs for one node, by a library that is loaded into it.

use anyhow::{Context, Result};
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// The sources, compiled when a run begins: what a machine needs to build the project, it has.
const SHIM: &str = include_str!("tools/shim.c");
const WITNESS: &str = include_str!("tools/witness.c");

/// The compiled tools.
#[derive(Clone, Debug)]
pub(super) struct Tools {
    /// The library.
    pub(super) shim: PathBuf,
    /// The program of the tasks.
    pub(super) witness: PathBuf,
}

impl Tools {
    /// Compiles them into a folder.
    ///
    /// # Errors
    /// There is no C compiler, or no static C library.
    pub(super) fn compile(folder: &Path) -> Result<Self> {
        let (shim, witness) = (library(folder)?, folder.join("witness"));
        compile(folder, WITNESS, &witness, &["-static"])?;
        Ok(Self { shim, witness })
    }
}

/// Compiles the library into a folder.
///
/// # Errors
/// There is no C compiler.
pub fn library(folder: &Path) -> Result<PathBuf> {
    let shim = folder.join("shim.so");
    compile(folder, SHIM, &shim, &["-shared", "-fPIC"])?;
    Ok(shim)
}

fn compile(folder: &Path, source: &str, to: &Path, flags: &[&str]) -> Result<()> {
    let path = folder.join("tool.c");
    std::fs::write(&path, source)?;
    let mut command = Command::new("cc");
    command
        .args(["-O2", "-Wall"])
        .args(flags)
        .arg("-o")
        .arg(to)
        .arg(&path)
        .arg("-ldl");
    super::net::output(command).with_context(|| format!("compiling {}", to.display()))?;
    Ok(())
}

/// What one node is told, and what it says it did.
#[derive(Debug)]
pub struct Shim {
    path: PathBuf,
    file: File,
}

impl Shim {
    /// Makes the file, with nothing to do.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn new(path: PathBuf) -> Result<Self> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(&path)?;
        file.set_len(32)?;
        Ok(Self { path, file })
    }

    /// The environment of the node.
    pub fn environment(&self, library: &Path) -> Vec<(String, PathBuf)> {
        vec![
            ("CHAOS_SHIM".to_owned(), self.path.clone()),
            ("LD_PRELOAD".to_owned(), library.to_owned()),
        ]
    }

    /// Sets the wall clock ahead; negative: behind.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn set_clock(&self, ahead: i64) -> Result<()> {
        self.put(
            0,
            ahead.saturating_mul(i64::try_from(Duration::from_millis(1).as_nanos())?),
        )
    }

    /// Makes syncs fail, or succeed again.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn fail_syncs(&self, fail: bool) -> Result<()> {
        self.put(1, fail.into())
    }

    /// How often the node has read the other clock.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn clock_reads(&self) -> Result<i64> {
        self.get(2)
    }

    /// How often a sync was failed.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn failed_syncs(&self) -> Result<i64> {
        self.get(3)
    }

    fn put(&self, place: u64, value: i64) -> Result<()> {
        Ok(self.file.write_all_at(&value.to_le_bytes(), place * 8)?)
    }

    fn get(&self, place: u64) -> Result<i64> {
        let mut bytes = [0; 8];
        self.file.read_exact_at(&mut bytes, place * 8)?;
        Ok(i64::from_le_bytes(bytes))
    }
}
