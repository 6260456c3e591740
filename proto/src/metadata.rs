//! The metadata that travels beside the messages: who leads, and which call was already passed on.

use tonic::metadata::{Ascii, MetadataMap, MetadataValue};

/// Response metadata: the leader's client address, `host:port`.
pub const LEADER: &str = "sched-leader";
/// Request metadata: the node that passed the call on and its term, `node,term`. Such a call is never passed on again.
pub const FORWARDED_FOR: &str = "sched-forwarded-for";
/// Request metadata of a call that was passed on: a number that stands for the client it came from.
pub const ORIGIN: &str = "sched-origin";
/// Request metadata, whatever its value: a read of runs is answered by the node that is asked. It is as fresh as any, but only the
/// leader knows what a run under way says of its progress. Who compares the nodes asks so.
pub const HERE: &str = "sched-here";
/// Longest address taken from metadata, in bytes: a DNS name and a port.
const ADDRESS_BYTES_MAX: usize = 262;

/// States the leader's client address; leaves the metadata alone when the address cannot stand in a header.
pub fn set_leader(metadata: &mut MetadataMap, client_address: &str) {
    if let Ok(value) = MetadataValue::<Ascii>::try_from(client_address) {
        metadata.insert(LEADER, value);
    }
}

/// Returns the leader's client address, unless it is absent or is no address.
pub fn leader(metadata: &MetadataMap) -> Option<&str> {
    let text = metadata.get(LEADER)?.to_str().ok()?;
    is_address(text).then_some(text)
}

/// Whether the text has the form `host:port`; a bracketed IPv6 host is fine.
pub fn is_address(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else {
        return false;
    };
    let host_byte = |b: u8| b.is_ascii_alphanumeric() || b"-._[]:%".contains(&b);
    text.len() <= ADDRESS_BYTES_MAX
        && !host.is_empty()
        && host.bytes().all(host_byte)
        && port.parse::<u16>().is_ok_and(|port| port != 0)
}

/// Marks a call as passed on.
pub fn set_forwarded_for(metadata: &mut MetadataMap, node: u64, term: u64) {
    if let Ok(value) = MetadataValue::<Ascii>::try_from(format!("{node},{term}")) {
        metadata.insert(FORWARDED_FOR, value);
    }
}

/// Whether a call was passed on already.
pub fn is_forwarded(metadata: &MetadataMap) -> bool {
    metadata.contains_key(FORWARDED_FOR)
}

/// Asks for the answer of the node that the call goes to.
pub fn set_here(metadata: &mut MetadataMap) {
    metadata.insert(HERE, MetadataValue::from_static("1"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_told_from_garbage() {
        for good in ["127.0.0.1:7400", "node-1.sched:7400", "[::1]:7400", "localhost:1"] {
            assert!(is_address(good), "{good}");
        }
        for bad in [
            "",
            ":1",
            "host",
            "host:",
            "host:0",
            "host:65536",
            "a b:1",
            "http://a:1",
            "a/b:1",
            "a@b:1",
        ] {
            assert!(!is_address(bad), "{bad}");
        }
        assert!(!is_address(&format!("{}:1", "a".repeat(300))));
    }

    #[test]
    fn the_leader_travels() {
        let mut metadata = MetadataMap::new();
        assert_eq!(leader(&metadata), None);
        set_leader(&mut metadata, "node-2:7400");
        assert_eq!(leader(&metadata), Some("node-2:7400"));
        set_leader(&mut metadata, "bad\naddress");
        assert_eq!(leader(&metadata), Some("node-2:7400"));
    }

    #[test]
    fn a_forwarded_call_is_known() {
        let mut metadata = MetadataMap::new();
        assert!(!is_forwarded(&metadata));
        set_forwarded_for(&mut metadata, 7, 3);
        assert!(is_forwarded(&metadata));
        assert_eq!(metadata.get(FORWARDED_FOR).and_then(|v| v.to_str().ok()), Some("7,3"));
    }
}
