//! Our own bytes for everything that consensus keeps: entries of the log, votes, positions, memberships.
//!
//! ```text
//! entry = length of the header u16 little-endian | header (envelope of kind LogEntry) | commands (envelope of kind Entry, or nothing)
//! ```
//!
//! The header carries its own checksum and that of the commands behind it. The same bytes lie on the disk of every member
//! and travel between them: what arrives is checked once, on receipt, and once more whenever it is read from disk.

use crate::types::{Commands, LogEntry, LogId, Membership, Payload, Place, StoredMembership, Vote, log_id, term_of};
use bytes::{BufMut, Bytes, BytesMut};
use openraft::EntryPayload;
use sched_core::codec::{self, DecodeError, Kind};
use sched_core::limits::RECORD_BYTES_MAX;
use sched_storage::LogPosition;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Longest record of an entry: the largest envelope of commands and the largest header.
pub(crate) const ENTRY_RECORD_BYTES_MAX: usize = RECORD_BYTES_MAX + 2 + u16::MAX as usize;
/// Most members of a cluster, learners included. Bounds a membership and thereby the header that carries it.
pub(crate) const MEMBERS_MAX: usize = 64;

/// Bytes that are not a record.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum RecordError {
    /// Fewer bytes than the length says.
    #[error("the record of {0} bytes is cut off")]
    CutOff(usize),
    /// More bytes than any entry has.
    #[error("{0} bytes exceed the limit of {ENTRY_RECORD_BYTES_MAX}")]
    TooLong(usize),
    /// The header is damaged.
    #[error("header: {0}")]
    Header(DecodeError),
    /// The commands are not those the header was written for.
    #[error("the commands are damaged: {0}")]
    Commands(&'static str),
    /// The membership cannot be one.
    #[error("membership: {0}")]
    Membership(String),
}

/// Version 1 of an entry's header. Never edited, only superseded.
#[derive(Serialize, Deserialize)]
struct HeaderV1 {
    term: u64,
    index: u64,
    body: BodyV1,
}

#[derive(Serialize, Deserialize)]
enum BodyV1 {
    Blank,
    Commands { len: u32, crc: u32 },
    Membership(MembershipV1),
}

/// Version 1 of a membership.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
struct MembershipV1 {
    /// The voters; two sets while the cluster is between two.
    configs: Vec<Vec<u64>>,
    /// Every member, voters and learners: number, address for peers, address for clients.
    nodes: Vec<(u64, String, String)>,
}

/// Version 1 of a vote.
#[derive(Serialize, Deserialize)]
struct VoteV1 {
    term: u64,
    node: u64,
    committed: bool,
}

/// Returns the record of an entry.
pub(crate) fn encode_entry(id: &LogId, payload: &Payload) -> Bytes {
    let nothing = Bytes::new();
    let (body, commands) = match payload {
        EntryPayload::Blank => (BodyV1::Blank, &nothing),
        EntryPayload::Normal(Commands(bytes)) => {
            // The proposer bounds an entry far below 4 GiB.
            let len = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
            (
                BodyV1::Commands {
                    len,
                    crc: crc32c::crc32c(bytes),
                },
                bytes,
            )
        }
        EntryPayload::Membership(membership) => (BodyV1::Membership(membership_to_v1(membership)), &nothing),
    };
    let header = codec::encode(
        Kind::LogEntry,
        &HeaderV1 {
            term: term_of(id),
            index: id.index(),
            body,
        },
    );
    // `MEMBERS_MAX` and the length of an address bound the largest header to some 36 KiB.
    debug_assert!(header.len() <= usize::from(u16::MAX), "a header fits its length field");
    let mut record = BytesMut::with_capacity(2 + header.len() + commands.len());
    record.put_u16_le(u16::try_from(header.len()).unwrap_or(u16::MAX));
    record.put_slice(&header);
    record.put_slice(commands);
    record.freeze()
}

/// Reads the record of an entry. The commands are not copied: they share the record's memory.
pub(crate) fn decode_entry(record: Bytes) -> Result<LogEntry, RecordError> {
    if record.len() > ENTRY_RECORD_BYTES_MAX {
        return Err(RecordError::TooLong(record.len()));
    }
    let cut_off = RecordError::CutOff(record.len());
    let [low, high, ..] = record[..] else {
        return Err(cut_off);
    };
    let start = 2 + usize::from(u16::from_le_bytes([low, high]));
    let Some(header) = record.get(2..start) else {
        return Err(cut_off);
    };
    let header: HeaderV1 = codec::decode(Kind::LogEntry, header).map_err(RecordError::Header)?;
    let commands = record.slice(start..);
    let payload = match header.body {
        BodyV1::Commands { len, crc } => {
            if commands.len() as u64 != u64::from(len) {
                return Err(RecordError::Commands("another length than the header says"));
            }
            if crc32c::crc32c(&commands) != crc {
                return Err(RecordError::Commands("another checksum than the header says"));
            }
            EntryPayload::Normal(Commands(commands))
        }
        BodyV1::Blank | BodyV1::Membership(_) if !commands.is_empty() => {
            return Err(RecordError::Commands("none are expected"));
        }
        BodyV1::Blank => EntryPayload::Blank,
        BodyV1::Membership(membership) => EntryPayload::Membership(membership_from_v1(membership)?),
    };
    Ok(LogEntry::from_record(
        log_id(header.term, header.index),
        payload,
        record,
    ))
}

/// Returns the record of a vote.
pub(crate) fn encode_vote(vote: &Vote) -> Bytes {
    let leader = vote.leader_id();
    let vote = VoteV1 {
        term: leader.term,
        node: leader.voted_for,
        committed: vote.is_committed(),
    };
    codec::encode(Kind::Vote, &vote).into()
}

/// Reads the record of a vote.
pub(crate) fn decode_vote(bytes: &[u8]) -> Result<Vote, DecodeError> {
    let VoteV1 { term, node, committed } = codec::decode(Kind::Vote, bytes)?;
    Ok(vote_of(term, node, committed))
}

/// Returns openraft's name for a vote.
pub(crate) fn vote_of(term: u64, node: u64, committed: bool) -> Vote {
    if committed {
        Vote::new_committed(term, node)
    } else {
        Vote::new(term, node)
    }
}

/// Returns storage's name for a place in the log. A term has one leader, so that it needs no node.
pub(crate) fn position_of(id: &LogId) -> LogPosition {
    LogPosition {
        term: term_of(id),
        node: 0,
        index: id.index(),
    }
}

/// Returns openraft's name for a place in the log.
pub(crate) fn id_of(position: &LogPosition) -> LogId {
    log_id(position.term, position.index)
}

/// Returns the bytes that stand beside the tables for the membership in force: the record of the entry that made it.
pub(crate) fn encode_membership(stored: &StoredMembership) -> Vec<u8> {
    match stored.log_id() {
        Some(id) => encode_entry(id, &EntryPayload::Membership(stored.membership().clone())).to_vec(),
        None => Vec::new(),
    }
}

/// Reads what [`encode_membership`] wrote.
pub(crate) fn decode_membership(bytes: &[u8]) -> Result<StoredMembership, RecordError> {
    if bytes.is_empty() {
        return Ok(StoredMembership::default());
    }
    let entry = decode_entry(Bytes::copy_from_slice(bytes))?;
    let id = entry.id();
    match entry.payload {
        EntryPayload::Membership(membership) => Ok(StoredMembership::new(Some(id), membership)),
        EntryPayload::Blank | EntryPayload::Normal(_) => Err(RecordError::Membership(
            "the entry named by the tables is no membership".to_owned(),
        )),
    }
}

fn membership_to_v1(membership: &Membership) -> MembershipV1 {
    MembershipV1 {
        configs: membership
            .get_joint_config()
            .iter()
            .map(|voters| voters.iter().copied().collect())
            .collect(),
        nodes: membership
            .nodes()
            .map(|(node, place)| (*node, place.peer_address.clone(), place.client_address.clone()))
            .collect(),
    }
}

fn membership_from_v1(membership: MembershipV1) -> Result<Membership, RecordError> {
    let members = membership.nodes.len();
    if members > MEMBERS_MAX {
        return Err(RecordError::Membership(format!(
            "{members} members exceed the limit of {MEMBERS_MAX}"
        )));
    }
    let configs: Vec<BTreeSet<u64>> = membership.configs.into_iter().map(BTreeSet::from_iter).collect();
    let nodes: BTreeMap<u64, Place> = membership
        .nodes
        .into_iter()
        .map(|(node, peer_address, client_address)| {
            (
                node,
                Place {
                    peer_address,
                    client_address,
                },
            )
        })
        .collect();
    // Some members are voters without a place only in bytes that nobody of us wrote: openraft would panic on them later.
    Membership::new(configs, nodes).map_err(|e| RecordError::Membership(e.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOLDEN_ENTRIES: [&str; 4] = [
        "09002101072a004b72a40a",
        "0f002101072a010dfcf6d6b0b3eb97f41e736f6d6520636f6d6d616e6473",
        "0b002101072a010000d7666792",
        "77002101072a0202030102030302030404010b6e6f64652d313a373530300b6e6f64652d313a37343030020b6e6f64652d323a37\
         3530300b6e6f64652d323a37343030030b6e6f64652d333a373530300b6e6f64652d333a37343030040b6e6f64652d343a373530300b6e6f64652d343a3734303004315e53",
    ];
    const GOLDEN_VOTE: &str = "200103090066f207e7";

    fn place(n: u64) -> Place {
        Place {
            peer_address: format!("node-{n}:7500"),
            client_address: format!("node-{n}:7400"),
        }
    }

    fn payloads() -> Vec<Payload> {
        let nodes: BTreeMap<u64, Place> = (1..=4).map(|n| (n, place(n))).collect();
        let joint = Membership::new(vec![BTreeSet::from([1, 2, 3]), BTreeSet::from([2, 3, 4])], nodes).unwrap();
        vec![
            EntryPayload::Blank,
            EntryPayload::Normal(Commands(Bytes::from_static(b"some commands"))),
            EntryPayload::Normal(Commands(Bytes::new())),
            EntryPayload::Membership(joint),
        ]
    }

    #[test]
    fn entries_read_back_and_every_damage_is_found() {
        for payload in payloads() {
            let record = encode_entry(&log_id(7, 42), &payload);
            let entry = decode_entry(record.clone()).unwrap();
            assert_eq!((entry.id(), &entry.payload), (log_id(7, 42), &payload));
            assert_eq!(entry.record(), record);
            for i in 0..record.len() {
                let mut bad = record.to_vec();
                bad[i] ^= 0x40;
                assert!(decode_entry(bad.into()).is_err(), "{payload}: byte {i}");
                assert!(decode_entry(record.slice(..i)).is_err(), "{payload}: length {i}");
            }
            let longer: Bytes = [&record[..], b"x"].concat().into();
            assert!(decode_entry(longer).is_err(), "{payload}: longer");
        }
    }

    /// The bytes on the disks of released versions: a difference here is a new version of the record, never an edit.
    #[test]
    fn records_are_what_they_were() {
        let hex = |bytes: &[u8]| crate::formation::hex(bytes);
        let entries: Vec<String> = payloads()
            .iter()
            .map(|p| hex(&encode_entry(&log_id(7, 42), p)))
            .collect();
        assert_eq!(entries, GOLDEN_ENTRIES);
        assert_eq!(hex(&encode_vote(&Vote::new(3, 9))), GOLDEN_VOTE);
    }

    #[test]
    fn hostile_bytes_are_refused_without_a_panic() {
        let mut state: u64 = 1;
        let mut next = move || {
            // Knuth's constants: any seed will do, the same one each time.
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as usize
        };
        for payload in payloads() {
            let record = encode_entry(&log_id(7, 42), &payload);
            for _ in 0..5_000 {
                let mut bad = record.to_vec();
                for _ in 0..1 + next() % 4 {
                    let at = next() % bad.len();
                    bad[at] = next() as u8;
                }
                bad.truncate(next() % (bad.len() + 1));
                if bad != record {
                    assert!(decode_entry(bad.into()).is_err());
                }
            }
        }
        for _ in 0..5_000 {
            let bad: Vec<u8> = (0..next() % 64).map(|_| next() as u8).collect();
            assert!(decode_vote(&bad).is_err());
            assert!(decode_entry(bad.into()).is_err());
        }
    }

    #[test]
    fn a_changed_place_is_encoded_anew() {
        use openraft::entry::RaftEntry;
        let mut entry = LogEntry::new(log_id(1, 1), EntryPayload::Blank);
        let first = entry.record();
        entry.set_log_id(log_id(2, 9));
        assert_ne!(entry.record(), first);
        assert_eq!(decode_entry(entry.record()).unwrap().id(), log_id(2, 9));
    }

    #[test]
    fn votes_and_memberships_read_back() {
        for vote in [Vote::new(3, 9), Vote::new_committed(3, 9)] {
            assert_eq!(decode_vote(&encode_vote(&vote)), Ok(vote));
        }
        let membership = Membership::new(vec![BTreeSet::from([1])], BTreeMap::from([(1, place(1))])).unwrap();
        for stored in [
            StoredMembership::default(),
            StoredMembership::new(Some(log_id(1, 0)), membership),
        ] {
            assert_eq!(decode_membership(&encode_membership(&stored)), Ok(stored));
        }
        let blank = encode_entry(&log_id(1, 1), &EntryPayload::Blank);
        assert!(matches!(decode_membership(&blank), Err(RecordError::Membership(_))));
    }

    #[test]
    fn a_membership_that_cannot_be_is_refused() {
        let nodes = |n: u64| {
            (0..n)
                .map(|n| (n, String::from("h:1"), String::from("h:2")))
                .collect::<Vec<_>>()
        };
        for bad in [
            MembershipV1 {
                configs: vec![vec![1, 2]],
                nodes: nodes(2),
            },
            MembershipV1 {
                configs: vec![vec![]],
                nodes: nodes(2),
            },
            MembershipV1 {
                configs: vec![vec![1]],
                nodes: nodes(65),
            },
        ] {
            let header = HeaderV1 {
                term: 1,
                index: 1,
                body: BodyV1::Membership(bad.clone()),
            };
            let header = codec::encode(Kind::LogEntry, &header);
            let mut record = (header.len() as u16).to_le_bytes().to_vec();
            record.extend_from_slice(&header);
            assert!(
                matches!(decode_entry(record.into()), Err(RecordError::Membership(_))),
                "{bad:?}"
            );
        }
    }
}
