//! Remembers the first failure below consensus, in our words: openraft hands it on as a text without its source.

use crate::error::Fatal;
use std::fmt::Display;
use std::io;
use std::sync::{Arc, OnceLock};

/// The first failure of log, tables or snapshots. Clones share it.
#[derive(Clone)]
pub(crate) struct FaultCell {
    node: u64,
    group: u32,
    folder: Arc<str>,
    first: Arc<OnceLock<String>>,
}

impl FaultCell {
    pub(crate) fn new(node: u64, group: u32, folder: String) -> Self {
        Self {
            node,
            group,
            folder: folder.into(),
            first: Arc::new(OnceLock::new()),
        }
    }

    /// Keeps the failure when it is the first one and returns it as openraft wants it.
    pub(crate) fn note(&self, error: impl Display) -> io::Error {
        let text = error.to_string();
        let _ = self.first.set(text.clone());
        io::Error::other(text)
    }

    /// Returns what to tell the operator; `reported` is what openraft says.
    pub(crate) fn fatal(&self, reported: &dyn Display) -> Fatal {
        let (problem, advice) = match self.first.get() {
            Some(first) => (first.clone(), "nothing acknowledged is lost as long as a quorum of the other nodes lives; repair what is named, or start this node anew with an empty folder and add it again".to_owned()),
            None => (
                format!("consensus stopped: {reported}"),
                "restart the node; if it stops again, keep the folder and report it".to_owned(),
            ),
        };
        Fatal {
            node: self.node,
            group: self.group,
            folder: self.folder.to_string(),
            problem,
            advice,
        }
    }
}
