//! Which folder holds the tables: a number in the file CURRENT, replaced at once when other tables take over.

use crate::error::{REBUILD, Result, StorageError};
use crate::files;
use std::path::{Path, PathBuf};

const FILE: &str = "CURRENT";

/// The number of the folder in use; every folder gets a higher one.
pub(crate) struct Current {
    state: PathBuf,
    number: Option<u64>,
}

impl Current {
    pub(crate) fn read(state: &Path) -> Result<Self> {
        let path = state.join(FILE);
        let number = match files::read_if_there(&path)? {
            None => None,
            Some(bytes) => {
                let damaged = || {
                    let text = String::from_utf8_lossy(&bytes);
                    StorageError::damaged(&path, format!("{text:?} is not a number with its checksum"), REBUILD)
                };
                Some(parse(&bytes).ok_or_else(damaged)?)
            }
        };
        Ok(Self {
            state: state.to_owned(),
            number,
        })
    }

    /// Returns the number in use; `None` when there never was one, or the tables were removed to have them rebuilt.
    pub(crate) fn number(&self) -> Option<u64> {
        self.number
    }

    /// Returns the folder in use.
    pub(crate) fn folder(&self) -> PathBuf {
        self.state.join(self.number.unwrap_or(0).to_string())
    }

    /// Returns the number and the folder for the next tables.
    pub(crate) fn next(&self) -> (u64, PathBuf) {
        let number = self.number.unwrap_or(0) + 1;
        (number, self.state.join(number.to_string()))
    }

    /// Makes the folder `number` the one in use, durably.
    pub(crate) fn switch(&mut self, number: u64) -> Result<()> {
        files::sync_dir(&self.state)?;
        files::replace(&self.state.join(FILE), text(number).as_bytes())?;
        self.number = Some(number);
        Ok(())
    }

    /// Removes every other folder: tables that were replaced, or never finished.
    pub(crate) fn remove_others(&self) -> Result<()> {
        let own = self.number.map(|n| n.to_string());
        for name in files::names(&self.state)? {
            if name.parse::<u64>().is_ok() && Some(&name) != own.as_ref() {
                files::remove_tree(&self.state.join(&name))?;
            }
        }
        Ok(())
    }
}

fn text(number: u64) -> String {
    let number = number.to_string();
    format!("{number} {:08x}\n", crc32c::crc32c(number.as_bytes()))
}

fn parse(bytes: &[u8]) -> Option<u64> {
    let (number, _) = std::str::from_utf8(bytes).ok()?.split_once(' ')?;
    let number = number.parse().ok()?;
    (text(number).as_bytes() == bytes).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flipped_or_missing_byte_is_found() {
        let whole = text(17).into_bytes();
        assert_eq!(parse(&whole), Some(17));
        for i in 0..whole.len() {
            assert_eq!(parse(&whole[..i]), None, "length {i}");
            for bit in 0..8 {
                let mut bad = whole.clone();
                bad[i] ^= 1 << bit;
                assert_eq!(parse(&bad), None, "byte {i}, bit {bit}");
            }
        }
    }
}
