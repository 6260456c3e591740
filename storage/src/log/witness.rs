//! How much of the log was ever synced, kept apart from the log.
//!
//! RocksDB cannot tell a log cut short by damage from one cut short by a crash: both end in a record that does not
//! check. So every write of the log carries a number, and after each sync the number goes into this file, over the
//! older of two slots. It is not synced: after a power cut it is older than the log, never newer. A log that ends
//! before its witness has lost what it acknowledged, and the node must not vote or serve on it.
//!
//! ```text
//! two slots, at 0 and 512: magic 8 bytes | number u64 little-endian | crc32c u32 little-endian of the 16 bytes before
//! ```

use crate::error::{REJOIN, Result, StorageError};
use crate::files;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

const MAGIC: [u8; 8] = *b"SYNCEDV1";
const SLOT_BYTES: usize = 20;
/// The slots lie in two sectors: a torn write spoils one of them.
const SLOT_OFFSETS: [u64; 2] = [0, 512];

pub(crate) struct Witness {
    file: File,
    path: PathBuf,
    /// The slot the next number goes into: the one that holds the older number.
    next: usize,
}

impl Witness {
    /// Opens the witness, if there is one, and returns the number it saw last.
    pub(crate) fn open(path: &Path) -> Result<Option<(Self, u64)>> {
        if files::read_if_there(path)?.is_none() {
            return Ok(None);
        }
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(path)
            .map_err(|e| StorageError::io(path, "open", e))?;
        let slots = SLOT_OFFSETS.map(|offset| read_slot(&file, offset));
        let (seen, next) = match slots {
            [Some(a), Some(b)] if a >= b => (a, 1),
            [_, Some(b)] => (b, 0),
            [Some(a), None] => (a, 1),
            [None, None] => return Err(StorageError::damaged(path, "neither of its two records checks", REJOIN)),
        };
        Ok(Some((
            Self {
                file,
                path: path.to_owned(),
                next,
            },
            seen,
        )))
    }

    /// Makes the witness of an empty log, durably.
    pub(crate) fn create(path: &Path) -> Result<Self> {
        let mut bytes = vec![0; SLOT_OFFSETS[1] as usize + SLOT_BYTES];
        for offset in SLOT_OFFSETS {
            bytes[offset as usize..][..SLOT_BYTES].copy_from_slice(&slot(0));
        }
        files::replace(path, &bytes)?;
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(path)
            .map_err(|e| StorageError::io(path, "open", e))?;
        Ok(Self {
            file,
            path: path.to_owned(),
            next: 0,
        })
    }

    /// Notes that everything up to `number` is durable.
    pub(crate) fn note(&mut self, number: u64) -> Result<()> {
        let written = self.file.write_all_at(&slot(number), SLOT_OFFSETS[self.next]);
        written.map_err(|e| StorageError::io(&self.path, "write", e))?;
        self.next ^= 1;
        Ok(())
    }
}

fn slot(number: u64) -> [u8; SLOT_BYTES] {
    let mut bytes = [0; SLOT_BYTES];
    bytes[..8].copy_from_slice(&MAGIC);
    bytes[8..16].copy_from_slice(&number.to_le_bytes());
    let crc = crc32c::crc32c(&bytes[..16]);
    bytes[16..].copy_from_slice(&crc.to_le_bytes());
    bytes
}

fn read_slot(file: &File, offset: u64) -> Option<u64> {
    let mut bytes = [0; SLOT_BYTES];
    file.read_exact_at(&mut bytes, offset).ok()?;
    let number = u64::from_le_bytes(bytes[8..16].try_into().ok()?);
    (bytes == slot(number)).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_number_is_read_back_and_one_spoilt_slot_costs_one_step() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("SYNCED");
        assert!(Witness::open(&path).unwrap().is_none());
        let mut witness = Witness::create(&path).unwrap();
        for number in [1, 2, 7] {
            witness.note(number).unwrap();
        }
        assert_eq!(Witness::open(&path).unwrap().unwrap().1, 7);
        let whole = std::fs::read(&path).unwrap();
        for i in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[i] ^= 4;
            std::fs::write(&path, &bytes).unwrap();
            let (mut witness, seen) = Witness::open(&path).unwrap().unwrap();
            assert!(seen == 7 || seen == 2, "byte {i}: {seen}");
            witness.note(8).unwrap();
            assert_eq!(Witness::open(&path).unwrap().unwrap().1, 8, "byte {i}");
        }
    }

    #[test]
    fn a_witness_without_a_whole_slot_is_damaged() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("SYNCED");
        Witness::create(&path).unwrap();
        for bytes in [vec![], vec![0; 600], vec![1; 19]] {
            std::fs::write(&path, bytes).unwrap();
            assert!(Witness::open(&path).is_err_and(|e| e.is_damage()));
        }
    }
}
