//! What is written to the journal, and the blocks it is written in.
//!
//! ```text
//! file  = block*
//! block = "SJNL" | length u32 le | !length u32 le | envelope of `Block` (kind, version, body, crc)
//! ```
//!
//! A block is what one sync makes durable, and the next one is written only after that: so at most the last block of a file can be torn.

use crate::worker::attempt::Finished;
use crate::worker::journal::JournalError;
use sched_core::codec::{self, Kind};
use sched_core::run::RunResult;
use sched_core::session::JournalPosition;
use sched_core::{RunId, Token};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::path::Path;

const MAGIC: [u8; 4] = *b"SJNL";
const HEADER: usize = 12;
/// About how large a block gets: a result has up to 16 KiB of output.
pub(super) const BLOCK_BYTES: usize = 1024 * 1024;
/// No block is larger: it ends with the first record that fills it.
const BLOCK_BYTES_MAX: usize = 2 * BLOCK_BYTES;

/// One line of the journal. The order of the variants is on disk: new ones go to the end.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) enum Record {
    /// `S`: from here on the attempt may have started, whatever happens.
    Started { run: RunId, token: Token },
    /// `X`: the attempt has ended.
    Ended {
        run: RunId,
        token: Token,
        result: Box<RunResult>,
        reason: String,
    },
    /// `R`: the attempt has not started and never will. `code` is that of the refusal.
    Refused {
        run: RunId,
        token: Token,
        code: i32,
        reason: String,
    },
    /// The leader has recorded the end of the attempt.
    Recorded { token: Token },
    /// A session is about to be opened under this random number.
    Opening { number: u64 },
    /// The session was opened under this number: earlier ones are answered.
    Opened { number: u64 },
}

/// What has become durable, for the agent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Mark {
    Started(Token),
    Ended(Token),
    Refused(Token),
    Opening(u64),
}

impl Record {
    /// Returns what the agent waits for before it goes on; nothing for what may be lost without harm.
    pub(crate) fn mark(&self) -> Option<Mark> {
        match self {
            Record::Started { token, .. } => Some(Mark::Started(*token)),
            Record::Ended { token, .. } => Some(Mark::Ended(*token)),
            Record::Refused { token, .. } => Some(Mark::Refused(*token)),
            Record::Opening { number } => Some(Mark::Opening(*number)),
            Record::Recorded { .. } | Record::Opened { .. } => None,
        }
    }

    /// Returns the record of an end.
    pub(crate) fn ended(run: RunId, token: Token, finished: &Finished) -> Self {
        Record::Ended {
            run,
            token,
            result: Box::new(finished.result.clone()),
            reason: finished.reason.clone(),
        }
    }

    /// Returns about how many bytes it takes.
    pub(super) fn size(&self) -> usize {
        64 + match self {
            Record::Ended { result, reason, .. } => result.output_tail.len() + reason.len() + 1024,
            Record::Refused { reason, .. } => reason.len(),
            _ => 0,
        }
    }
}

/// What one sync makes durable.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(super) enum Block {
    /// The first of a file.
    Head(Head),
    /// What a file takes over from the one before it; not counted again.
    Carried(Vec<Record>),
    /// New records, after those that the chain had then.
    Records {
        length: u64,
        head: [u8; 16],
        records: Vec<Record>,
    },
}

/// The beginning of a file.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(super) struct Head {
    pub(super) journal: u128,
    /// Of the file itself: a copy has another one.
    pub(super) inode: u64,
    /// Where the chain stood.
    pub(super) length: u64,
    pub(super) head: [u8; 16],
    /// The highest attempt that was recorded and is no longer remembered one by one.
    pub(super) forgotten: Option<Token>,
    /// How many blocks of what is carried over follow.
    pub(super) carried: u32,
}

impl Block {
    /// Returns the bytes of the block.
    pub(super) fn encode(&self) -> Vec<u8> {
        let envelope = codec::encode(Kind::JournalBlock, self);
        // A block ends with the first record that fills it, far below 4 GiB.
        let length = u32::try_from(envelope.len()).unwrap_or(u32::MAX);
        let mut bytes = Vec::with_capacity(HEADER + envelope.len());
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&length.to_le_bytes());
        bytes.extend_from_slice(&(!length).to_le_bytes());
        bytes.extend_from_slice(&envelope);
        bytes
    }

    /// Reads the block at the beginning of `bytes`, and how long it is.
    fn decode(bytes: &[u8]) -> Result<(Self, usize), String> {
        let header = bytes.get(..HEADER).ok_or("is cut short")?;
        let number = |at: usize| u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
        if header[..4] != MAGIC || number(4) != !number(8) {
            return Err("does not begin as one".to_owned());
        }
        let length = usize::try_from(number(4)).unwrap_or(usize::MAX);
        if length > BLOCK_BYTES_MAX {
            return Err(format!(
                "says that it has {length} bytes, and at most {BLOCK_BYTES_MAX} are written"
            ));
        }
        let envelope = bytes.get(HEADER..HEADER + length).ok_or("is cut short")?;
        let block = codec::decode(Kind::JournalBlock, envelope).map_err(|e| e.to_string())?;
        Ok((block, HEADER + length))
    }
}

/// Returns the hash over a chain that a record is added to.
fn link(head: [u8; 16], record: &Record) -> [u8; 16] {
    let mut hash = Sha256::new();
    hash.update(head);
    hash.update(codec::encode(Kind::JournalBlock, record));
    let mut short = [0; 16];
    short.copy_from_slice(&hash.finalize()[..16]);
    short
}

/// Returns where a chain ends once records are added to it.
pub(super) fn extend(mut position: JournalPosition, records: &[Record]) -> JournalPosition {
    for record in records {
        position = JournalPosition {
            length: position.length.saturating_add(1),
            head: link(position.head, record),
        };
    }
    position
}

/// A file as it was read.
pub(super) struct Contents {
    pub(super) head: Head,
    pub(super) carried: Vec<Record>,
    pub(super) records: Vec<Record>,
    pub(super) position: JournalPosition,
    /// Where the file ends; behind it lies what a loss of power left of a block that nobody was told about.
    pub(super) end: u64,
}

/// Reads a file. A torn last block is left out; any other damage is an error.
pub(super) fn read(path: &Path, bytes: &[u8]) -> Result<Contents, JournalError> {
    let damaged = |offset: usize, problem: &str| JournalError::Damaged {
        path: path.to_owned(),
        offset: offset as u64,
        problem: problem.to_owned(),
    };
    // Complete since before the file got its name, as is what follows up to the last carried block.
    let (head, mut at) = match Block::decode(bytes) {
        Ok((Block::Head(head), size)) => (head, size),
        Ok(_) => return Err(damaged(0, "the first block is not the head of a file")),
        Err(problem) => return Err(damaged(0, &format!("the first block {problem}"))),
    };
    let mut carried = Vec::new();
    for _ in 0..head.carried {
        match Block::decode(&bytes[at..]) {
            Ok((Block::Carried(records), size)) => {
                carried.extend(records);
                at += size;
            }
            Ok(_) => {
                return Err(damaged(
                    at,
                    "a block of another kind where carried records are expected",
                ));
            }
            Err(problem) => return Err(damaged(at, &format!("a block {problem}"))),
        }
    }
    let mut position = JournalPosition {
        length: head.length,
        head: head.head,
    };
    let mut all = Vec::new();
    while at < bytes.len() {
        let rest = &bytes[at..];
        match Block::decode(rest) {
            Ok((Block::Records { length, head, records }, size)) => {
                if (JournalPosition { length, head }) != position {
                    return Err(damaged(at, "a block does not follow the one before it"));
                }
                position = extend(position, &records);
                all.extend(records);
                at += size;
            }
            Ok(_) => return Err(damaged(at, "a block of another kind where records are expected")),
            // Nothing is written after a block that is not on disk.
            Err(_) if is_torn(rest) => break,
            Err(problem) => return Err(damaged(at, &format!("a block {problem}, and others follow it"))),
        }
    }
    Ok(Contents {
        head,
        carried,
        records: all,
        position,
        end: at as u64,
    })
}

/// Whether bytes that do not begin with a block can be what is left of one: no block follows in them, and they are no more than one.
fn is_torn(rest: &[u8]) -> bool {
    if rest.len() > HEADER + BLOCK_BYTES_MAX {
        return false;
    }
    let mut starts = rest.windows(MAGIC.len()).enumerate().skip(1);
    !starts.any(|(at, window)| window == MAGIC && Block::decode(&rest[at..]).is_ok())
}
