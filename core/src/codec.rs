//! The one module that encodes: an envelope of kind, version, bincode body and checksum.
//!
//! ```text
//! kind u8 | version u8 | body (bincode 2, standard config, limited) | crc32c u32 little-endian over all before it
//! ```
//!
//! The body is positional: a struct that was released under a (kind, version) is never edited, only superseded.

use crate::command::Item;
use crate::limits::RECORD_BYTES_MAX;
use crate::time::Timestamp;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// What an envelope holds. The numbers are on disk and on the wire and never change meaning.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Kind {
    /// [`crate::command::Entry`].
    Entry = 1,
    /// [`crate::task::Task`].
    Task = 2,
    /// [`crate::task::TaskStatus`].
    TaskStatus = 3,
    /// [`crate::run::Run`].
    Run = 4,
    /// [`crate::command::SpoolOp`].
    SpoolOp = 5,
    /// [`crate::session::Session`].
    Session = 6,
    /// [`crate::command::Remembered`], under a request key.
    Reply = 7,
    /// [`crate::tables::Meta`].
    Meta = 8,
    /// [`crate::run::LedgerLine`].
    LedgerLine = 9,
    /// A task id in the index of names.
    NameEntry = 10,
    /// The session a worker's name belongs to.
    WorkerEntry = 11,
    /// A remembered answer's place in time.
    RequestExpiry = 12,
    /// [`crate::tables::GroupRoom`].
    GroupRoom = 13,
    /// [`crate::config::Config`].
    Config = 14,
    /// [`crate::calendar::Calendar`].
    Calendar = 15,
    /// How many calendars a namespace has.
    CalendarCount = 16,
    /// [`crate::session::Drained`].
    Drained = 17,
    /// The session a worker's journal belongs to.
    JournalEntry = 18,
    /// Consensus: a vote.
    Vote = 32,
    /// Consensus: a log entry's header and payload.
    LogEntry = 33,
    /// Consensus: a log position.
    LogPosition = 34,
    /// Consensus: what the state tables have applied.
    Applied = 35,
    /// Storage: a snapshot's manifest.
    Manifest = 36,
    /// Storage: the identity of a data folder.
    Identity = 37,
    /// Storage: where the log stands after a write.
    LogStanding = 38,
    /// Storage: what the members of a forming cluster agreed on.
    Formation = 39,
    /// Worker: a block of records of its journal.
    JournalBlock = 48,
}

/// Bytes that are not what they should be.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum DecodeError {
    /// Fewer bytes than an envelope has.
    #[error("{0} bytes are too few for an envelope")]
    TooShort(usize),
    /// More bytes than any record may have.
    #[error("{0} bytes exceed the limit of {RECORD_BYTES_MAX}")]
    TooLong(usize),
    /// The checksum does not match: damaged.
    #[error("checksum is {actual:08x}, expected {expected:08x}")]
    Checksum {
        /// As stored.
        expected: u32,
        /// As computed.
        actual: u32,
    },
    /// Another kind of record.
    #[error("kind is {actual}, expected {expected}")]
    Kind {
        /// As asked for.
        expected: u8,
        /// As stored.
        actual: u8,
    },
    /// Written by a newer release.
    #[error("version {0} is not known to this release")]
    Version(u8),
    /// The body does not decode.
    #[error("body: {0}")]
    Body(String),
    /// The body decodes but does not end where the envelope does.
    #[error("{0} bytes follow the body")]
    Trailing(usize),
}

const VERSION: u8 = 1;
const OVERHEAD: usize = 2 + 4;

/// Returns the envelope of `value`.
pub fn encode<T: Serialize>(kind: Kind, value: &T) -> Vec<u8> {
    let mut bytes = begin(kind, 128);
    append(value, &mut bytes);
    seal(bytes)
}

fn begin(kind: Kind, capacity: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(capacity);
    bytes.push(kind as u8);
    bytes.push(VERSION);
    bytes
}

fn append<T: Serialize + ?Sized>(value: &T, bytes: &mut Vec<u8>) {
    // Encoding our own plain data into memory: bincode only fails on I/O errors or sequences of unknown length, of which there are none.
    let written = bincode::serde::encode_into_std_write(value, bytes, bincode::config::standard());
    debug_assert!(written.is_ok(), "plain data encodes");
}

fn seal(mut bytes: Vec<u8>) -> Vec<u8> {
    let crc = crc32c::crc32c(&bytes);
    bytes.extend_from_slice(&crc.to_le_bytes());
    bytes
}

/// A command as it stands inside an entry: encoded once, by whoever makes it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EncodedItem(Vec<u8>);

impl EncodedItem {
    /// Encodes a command.
    pub fn new(item: &Item) -> Self {
        let mut bytes = Vec::with_capacity(128);
        append(item, &mut bytes);
        Self(bytes)
    }

    /// Returns how many bytes it takes in an entry.
    #[expect(clippy::len_without_is_empty, reason = "no command is empty")]
    pub fn len(&self) -> usize {
        self.0.len()
    }
}

/// Returns the envelope of the [`Entry`](crate::command::Entry) that has these commands: the same bytes as [`encode`] would write for it.
pub fn encode_entry(term: u64, now: Timestamp, items: &[EncodedItem]) -> Vec<u8> {
    /// The largest number that bincode writes takes as many bytes; there are three before the commands.
    const HEAD: usize = 2 + 3 * 9;
    let len: usize = items.iter().map(EncodedItem::len).sum();
    let mut bytes = begin(Kind::Entry, HEAD + len + 4);
    append(&(term, now, items.len() as u64), &mut bytes);
    for item in items {
        bytes.extend_from_slice(&item.0);
    }
    seal(bytes)
}

/// Reads the envelope of a `T`.
///
/// # Errors
/// Says what is wrong with the bytes: length, checksum, kind, version, body.
pub fn decode<T: DeserializeOwned>(kind: Kind, bytes: &[u8]) -> Result<T, DecodeError> {
    if bytes.len() < OVERHEAD {
        return Err(DecodeError::TooShort(bytes.len()));
    }
    if bytes.len() > RECORD_BYTES_MAX {
        return Err(DecodeError::TooLong(bytes.len()));
    }
    let (content, crc) = bytes.split_at(bytes.len() - 4);
    let expected = u32::from_le_bytes([crc[0], crc[1], crc[2], crc[3]]);
    let actual = crc32c::crc32c(content);
    if expected != actual {
        return Err(DecodeError::Checksum { expected, actual });
    }
    if content[0] != kind as u8 {
        return Err(DecodeError::Kind {
            expected: kind as u8,
            actual: content[0],
        });
    }
    if content[1] != VERSION {
        return Err(DecodeError::Version(content[1]));
    }
    let body = &content[2..];
    // The limit bounds what hostile lengths may make the decoder allocate.
    let config = bincode::config::standard().with_limit::<RECORD_BYTES_MAX>();
    let (value, used) =
        bincode::serde::decode_from_slice(body, config).map_err(|e| DecodeError::Body(e.to_string()))?;
    if used != body.len() {
        return Err(DecodeError::Trailing(body.len() - used));
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_damaged_byte_is_found() {
        let bytes = encode(Kind::NameEntry, &(7u64, "abc".to_owned()));
        assert_eq!(
            decode::<(u64, String)>(Kind::NameEntry, &bytes),
            Ok((7, "abc".to_owned()))
        );
        for i in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[i] ^= 0x10;
            assert!(decode::<(u64, String)>(Kind::NameEntry, &bad).is_err(), "byte {i}");
        }
        for len in 0..bytes.len() {
            assert!(
                decode::<(u64, String)>(Kind::NameEntry, &bytes[..len]).is_err(),
                "length {len}"
            );
        }
    }

    #[test]
    fn a_body_that_is_too_short_or_too_long_is_refused() {
        let bytes = encode(Kind::NameEntry, &(7u64, 8u64));
        assert!(matches!(
            decode::<u64>(Kind::NameEntry, &bytes),
            Err(DecodeError::Trailing(1))
        ));
        assert!(matches!(
            decode::<(u64, u64, u64)>(Kind::NameEntry, &bytes),
            Err(DecodeError::Body(_))
        ));
        assert!(matches!(
            decode::<(u64, u64)>(Kind::Task, &bytes),
            Err(DecodeError::Kind { .. })
        ));
    }

    #[test]
    fn hostile_lengths_do_not_allocate() {
        let mut bytes = vec![
            Kind::NameEntry as u8,
            VERSION,
            253,
            255,
            255,
            255,
            255,
            255,
            255,
            255,
            127,
        ];
        let crc = crc32c::crc32c(&bytes);
        bytes.extend_from_slice(&crc.to_le_bytes());
        assert!(decode::<Vec<u8>>(Kind::NameEntry, &bytes).is_err());
        assert!(decode::<String>(Kind::NameEntry, &bytes).is_err());
    }
}
