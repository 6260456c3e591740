//! Starting and stopping the servers of a peer.

use crate::{binaries, eventually};
use anyhow::{Context, Result};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

/// Servers of one peer and their folder; they end with it.
#[derive(Debug)]
pub(super) struct Servers {
    children: Vec<Child>,
    folder: TempDir,
}

impl Servers {
    pub(super) fn new(name: &str) -> Result<Self> {
        let folder = tempfile::Builder::new()
            .prefix(&format!("peer-{name}-"))
            .tempdir_in(binaries::scratch()?)?;
        Ok(Self {
            children: Vec::new(),
            folder,
        })
    }

    pub(super) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(super) fn start<S: AsRef<OsStr>>(&mut self, program: &Path, arguments: &[S]) -> Result<()> {
        let log = std::fs::File::create(self.folder.path().join(format!("{}.log", self.children.len())))?;
        let child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .kill_on_drop(true)
            .spawn();
        self.children
            .push(child.with_context(|| format!("starting {}", program.display()))?);
        Ok(())
    }

    pub(super) fn pids(&self) -> Vec<u32> {
        self.children.iter().filter_map(Child::id).collect()
    }
}

/// Waits until somebody listens.
pub(super) async fn listens(address: &str) -> Result<()> {
    eventually(&format!("{address} listens"), Duration::from_secs(30), async || {
        TcpStream::connect(address).await?;
        Ok(())
    })
    .await
}

/// Finds a program on the path, or nothing.
pub(super) fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/usr/local/sbin".into()])
        .map(|folder| folder.join(name))
        .find(|file| file.is_file())
}
