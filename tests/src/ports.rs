//! Ports that are free now and stay free while a node is down.

use anyhow::{Result, bail};
use rand::Rng;
use std::collections::BTreeSet;
use std::net::TcpListener;
use std::ops::Range;
use std::sync::Mutex;

/// Below the range from which Linux takes the local ports of outgoing connections (32768 and up): a node that was killed must find its
/// port free when it comes back, and not in use by a client that happened to get it.
const RANGE: Range<u16> = 12_000..32_000;
/// A machine on which so many are taken in a row has another problem.
const TRIES_MAX: usize = 1000;

/// What this process has given out: two clusters of one test must not meet.
static TAKEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());

/// Returns `count` different ports of 127.0.0.1 on which nobody listens.
///
/// Another program may take one before it is used; starting a node on it then fails, visibly.
///
/// # Errors
/// None was found in many tries.
pub fn free(count: usize) -> Result<Vec<u16>> {
    let mut taken = TAKEN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let mut found = Vec::with_capacity(count);
    for _ in 0..TRIES_MAX {
        if found.len() == count {
            return Ok(found);
        }
        let port = rand::rng().random_range(RANGE);
        if !taken.contains(&port) && TcpListener::bind(("127.0.0.1", port)).is_ok() {
            taken.insert(port);
            found.push(port);
        }
    }
    bail!("no {count} free ports in {RANGE:?} on 127.0.0.1 after {TRIES_MAX} tries")
}
