//! Dialling a cluster of which some addresses are known, and not who leads it: any of them answers, or says who does.

use super::link::{Connection, Dial};
use futures::FutureExt;
use futures::future::BoxFuture;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Between addresses that are one to the agent: it dials the list, and one of it is taken.
pub(crate) const OR: char = ',';

/// Takes the addresses of a list in turns, each dial the next one: a node that does not answer is not asked twice in a row.
pub(crate) struct Anywhere<D> {
    dial: D,
    turn: AtomicUsize,
}

impl<D: Dial> Anywhere<D> {
    /// Dials single addresses with `dial`. The first turn is anybody's, so that agents that start together do not all ask the same node.
    pub(crate) fn new(dial: D) -> Self {
        Self {
            dial,
            turn: AtomicUsize::new(rand::random_range(0..1024)),
        }
    }
}

impl<D: Dial> Dial for Anywhere<D> {
    fn dial(&self, address: &str) -> BoxFuture<'static, Result<Box<dyn Connection>, String>> {
        if !address.contains(OR) {
            return self.dial.dial(address);
        }
        let all: Vec<&str> = address.split(OR).collect();
        let one = all[self.turn.fetch_add(1, Ordering::Relaxed) % all.len()].to_owned();
        let connection = self.dial.dial(&one);
        async move { connection.await.map_err(|reason| format!("{one}: {reason}")) }.boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    struct Refusing;

    impl Dial for Refusing {
        fn dial(&self, address: &str) -> BoxFuture<'static, Result<Box<dyn Connection>, String>> {
            let address = address.to_owned();
            async move { Err(format!("asked {address}")) }.boxed()
        }
    }

    #[tokio::test]
    async fn every_address_of_a_list_gets_its_turn() {
        let anywhere = Anywhere::new(Refusing);
        let mut asked = BTreeSet::new();
        for _ in 0..3 {
            asked.extend(anywhere.dial("a:1,b:2,c:3").await.err());
        }
        let expected = ["a:1: asked a:1", "b:2: asked b:2", "c:3: asked c:3"];
        assert_eq!(asked, expected.map(str::to_owned).into());
        assert_eq!(anywhere.dial("d:4").await.err(), Some("asked d:4".to_owned()));
    }
}
