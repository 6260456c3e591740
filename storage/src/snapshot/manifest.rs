//! What a snapshot consists of.

use super::SnapshotInfo;
use crate::error::{DROP_SNAPSHOT, Result, StorageError};
use crate::record::Applied;
use sched_core::codec::{self, Kind};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::Path;

/// Files of one snapshot: RocksDB makes them of megabytes, so that this is far more than a node can hold.
const FILES_MAX: usize = 100_000;
/// Longest name of a snapshot or of a file in it.
const NAME_BYTES_MAX: usize = 96;
/// The file that holds the manifest, in the snapshot's folder.
pub(super) const MANIFEST_FILE: &str = "SNAPSHOT";

/// One file of a snapshot.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ManifestFile {
    /// Its name, without any folder.
    pub name: String,
    /// Its length in bytes.
    pub size: u64,
    /// Its hash.
    pub sha256: [u8; 32],
}

/// What a snapshot consists of: enough to fetch it and to know that it is whole.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Manifest {
    /// The snapshot's name.
    pub id: String,
    /// How far its tables go.
    pub applied: Applied,
    /// Its files.
    pub files: Vec<ManifestFile>,
}

impl Manifest {
    /// Returns its bytes for disk and wire.
    pub fn encode(&self) -> Vec<u8> {
        codec::encode(Kind::Manifest, self)
    }

    /// Reads and checks the bytes of a manifest, which may come from a peer.
    ///
    /// # Errors
    /// The bytes are damaged, or name files that no snapshot has.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        Self::read(bytes).map_err(|problem| StorageError::damaged(Path::new(MANIFEST_FILE), problem, DROP_SNAPSHOT))
    }

    pub(super) fn read(bytes: &[u8]) -> std::result::Result<Self, String> {
        let manifest: Self = codec::decode(Kind::Manifest, bytes).map_err(|e| e.to_string())?;
        manifest.check()?;
        Ok(manifest)
    }

    /// Says what is wrong with names and sizes: they become paths, and room on the disk.
    pub(super) fn check(&self) -> std::result::Result<(), String> {
        if !is_plain_name(&self.id) {
            return Err(format!("{:?} is not the name of a snapshot", self.id));
        }
        if self.files.len() > FILES_MAX {
            return Err(format!("{} files are more than {FILES_MAX}", self.files.len()));
        }
        let mut seen = BTreeSet::new();
        let mut total = 0u64;
        for file in &self.files {
            let name = file.name.as_str();
            if !is_plain_name(name) || name == MANIFEST_FILE || name == "LOCK" {
                return Err(format!("{name:?} is not the name of a file of a snapshot"));
            }
            if !seen.insert(name) {
                return Err(format!("file {name:?} is named twice"));
            }
            total = total
                .checked_add(file.size)
                .ok_or("the files are larger than any disk")?;
        }
        Ok(())
    }

    /// Returns the bytes of all files together.
    pub fn total_bytes(&self) -> u64 {
        self.files.iter().map(|f| f.size).sum()
    }

    /// Returns what the snapshot is called and how far it goes.
    pub fn info(&self) -> SnapshotInfo {
        SnapshotInfo {
            id: self.id.clone(),
            applied: self.applied.clone(),
            total_bytes: self.total_bytes(),
        }
    }

    /// Returns what is known of one of its files.
    pub(super) fn file(&self, name: &str) -> Option<&ManifestFile> {
        self.files.iter().find(|f| f.name == name)
    }
}

impl ManifestFile {
    /// Describes a file.
    pub(super) fn of(path: &Path, name: String) -> Result<Self> {
        let (size, sha256) = hash(path)?;
        Ok(Self { name, size, sha256 })
    }

    /// Compares a file with its description.
    pub(super) fn verify(&self, path: &Path, remedy: &'static str) -> Result<()> {
        let (size, sha256) = hash(path)?;
        let problem = if size != self.size {
            format!("{size} bytes instead of {}", self.size)
        } else if sha256 != self.sha256 {
            "its hash is not the one in the snapshot's manifest".to_owned()
        } else {
            return Ok(());
        };
        Err(StorageError::damaged(path, problem, remedy))
    }
}

/// Letters, digits, dots, dashes and underscores, not beginning with a dot: one path component, visible, the same everywhere.
fn is_plain_name(name: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
    !name.is_empty() && name.len() <= NAME_BYTES_MAX && !name.starts_with('.') && name.bytes().all(plain)
}

fn hash(path: &Path) -> Result<(u64, [u8; 32])> {
    let mut file = File::open(path).map_err(|e| StorageError::io(path, "open", e))?;
    let mut sha = Sha256::new();
    let mut buffer = vec![0; 256 << 10];
    let mut size = 0;
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok((size, sha.finalize().into())),
            Ok(n) => {
                size += n as u64;
                sha.update(&buffer[..n]);
            }
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) => return Err(StorageError::io(path, "read", e)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(id: &str, names: &[&str], size: u64) -> Manifest {
        let file = |name: &&str| ManifestFile {
            name: (*name).to_owned(),
            size,
            sha256: [0; 32],
        };
        Manifest {
            id: id.to_owned(),
            applied: Applied::default(),
            files: names.iter().map(file).collect(),
        }
    }

    #[test]
    fn names_that_are_not_one_plain_component_are_refused() {
        assert_eq!(
            manifest("7-1-ab", &["000012.sst", "MANIFEST-000005", "CURRENT"], 1).check(),
            Ok(())
        );
        for bad in [
            "",
            ".",
            "..",
            "a/b",
            "/etc/passwd",
            "..\\x",
            "a\0",
            "SNAPSHOT",
            "LOCK",
            ".hidden",
            &"x".repeat(97),
        ] {
            assert!(manifest("7", &[bad], 1).check().is_err(), "{bad:?}");
        }
        for bad in ["", "..", "a/b", ".x"] {
            assert!(manifest(bad, &["a"], 1).check().is_err(), "{bad:?}");
        }
        assert!(manifest("7", &["a", "a"], 1).check().is_err());
        assert!(manifest("7", &["a", "b"], u64::MAX).check().is_err());
    }

    #[test]
    fn damaged_bytes_are_found() {
        let whole = manifest("7", &["a"], 1);
        let bytes = whole.encode();
        assert_eq!(Manifest::decode(&bytes).unwrap(), whole);
        for i in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[i] ^= 1;
            assert!(Manifest::decode(&bad).is_err_and(|e| e.is_damage()), "byte {i}");
            assert!(
                Manifest::decode(&bytes[..i]).is_err_and(|e| e.is_damage()),
                "length {i}"
            );
        }
    }

    /// A manifest comes from a peer: whatever it holds is refused or names plain files, whose sizes add up.
    #[test]
    fn fuzz_manifest() {
        let seed = |names: &[&str]| {
            let bytes = manifest("7-1-ab", names, 1).encode();
            bytes[2..bytes.len() - 4].to_vec()
        };
        let seeds = [seed(&["000012.sst", "MANIFEST-000005", "CURRENT"]), seed(&[])];
        sched_fuzz::run(
            "manifest",
            &seeds,
            &["..", "/", "\0", "SNAPSHOT", "LOCK", "."],
            |body| {
                // In an envelope whose checksum is right, which chance would hardly ever hit.
                let mut bytes = [&[Kind::Manifest as u8, 1][..], body].concat();
                bytes.extend_from_slice(&crc32c::crc32c(&bytes).to_le_bytes());
                match Manifest::decode(&bytes) {
                    Ok(manifest) => {
                        let plain =
                            |name: &str| !name.is_empty() && !name.contains(['/', '\0']) && !name.starts_with('.');
                        assert!(plain(&manifest.id) && manifest.files.iter().all(|file| plain(&file.name)));
                        assert_eq!(Manifest::decode(&manifest.encode()).unwrap(), manifest);
                        format!("read, {} bytes", manifest.total_bytes())
                    }
                    Err(error) => error.to_string(),
                }
            },
        );
    }
}
