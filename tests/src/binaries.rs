//! The binaries under test: those that `cargo build --workspace --bins` put beside the test itself.

use anyhow::{Context, Result, bail, ensure};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Names another folder to take `schednode` and `schedcli` from; their age is then not looked at.
pub const FOLDER_VARIABLE: &str = "SCHED_TEST_BINARIES";

/// Returns the repository's top folder.
pub fn repository() -> PathBuf {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests.parent().unwrap_or(tests).to_path_buf()
}

/// Returns the folder of this build, `target/debug` unless told otherwise.
///
/// # Errors
/// The running program has no path, or is not where cargo puts programs.
pub fn folder() -> Result<PathBuf> {
    if let Some(folder) = std::env::var_os(FOLDER_VARIABLE) {
        return Ok(folder.into());
    }
    let program = std::env::current_exe().context("the path of the running program")?;
    let mut folder = program.parent().context("the running program has no folder")?;
    // Tests are in `deps`, one below; load generators are beside the binaries.
    if folder.ends_with("deps") {
        folder = folder.parent().context("`deps` has no parent")?;
    }
    Ok(folder.to_owned())
}

/// Returns the folder in which clusters keep their data: on the disk of the build, because `/tmp` may be memory, where a sync costs nothing.
///
/// # Errors
/// As [`folder`], or the folder cannot be made.
pub fn scratch() -> Result<PathBuf> {
    let scratch = folder()?.join("clusters");
    std::fs::create_dir_all(&scratch).with_context(|| format!("making {}", scratch.display()))?;
    Ok(scratch)
}

/// Returns the path of one of the workspace's programs.
///
/// # Errors
/// It is missing, or older than one of its sources: a test that passes on last week's binary proves nothing.
pub fn path(name: &str) -> Result<PathBuf> {
    let path = folder()?.join(name);
    let advice = "run `cargo build --workspace --bins` first (`make test` does)";
    let built = std::fs::metadata(&path).and_then(|meta| meta.modified());
    let built = built.with_context(|| format!("{} is missing: {advice}", path.display()))?;
    if std::env::var_os(FOLDER_VARIABLE).is_none()
        && let Some(newer) = newer_source(&path, built)?
    {
        bail!("{} is older than its source {newer}: {advice}", path.display());
    }
    Ok(path)
}

/// Cargo writes beside each binary a make rule that lists every source it was built from.
fn newer_source(binary: &Path, built: SystemTime) -> Result<Option<String>> {
    let list = binary.with_extension("d");
    let rule = match std::fs::read_to_string(&list) {
        Ok(rule) => rule,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e).with_context(|| format!("reading {}", list.display())),
    };
    let (_, sources) = rule
        .split_once(": ")
        .with_context(|| format!("{} is not a make rule", list.display()))?;
    ensure!(
        !sources.contains("\\ "),
        "{}: paths with spaces are not understood",
        list.display()
    );
    let newer = sources.split_whitespace().find(|source| {
        // A source that is gone was renamed since; cargo would rebuild, so the binary is stale too.
        std::fs::metadata(source)
            .and_then(|meta| meta.modified())
            .map_or(true, |changed| changed > built)
    });
    Ok(newer.map(str::to_owned))
}
