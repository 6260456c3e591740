//! Which tokens are over and done with, in bounded memory.

use sched_core::Token;
use std::collections::BTreeSet;

/// At some thousand runs a second, this is half a minute: far longer than any message is under way.
const REMEMBERED_MAX: usize = 100_000;

/// Tokens that must never be started (again). When there are too many, the lowest go, and what is not above them can no longer be
/// told from new.
#[derive(Debug, Default)]
pub struct Settled {
    tokens: BTreeSet<Token>,
    /// The highest that was forgotten.
    forgotten: Option<Token>,
}

impl Settled {
    /// Returns what a journal remembers.
    pub fn recover(tokens: BTreeSet<Token>, forgotten: Option<Token>) -> Self {
        Self { tokens, forgotten }
    }

    /// Remembers a token.
    pub fn insert(&mut self, token: Token) {
        self.tokens.insert(token);
        if self.tokens.len() > REMEMBERED_MAX {
            self.forgotten = self.forgotten.max(self.tokens.pop_first());
        }
    }

    /// Whether the token is over for certain.
    pub fn contains(&self, token: Token) -> bool {
        self.tokens.contains(&token)
    }

    /// Whether the token may have been forgotten.
    pub fn may_have_forgotten(&self, token: Token) -> bool {
        self.forgotten.is_some_and(|forgotten| token <= forgotten)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_forgotten_is_never_taken_for_new() {
        let mut settled = Settled::default();
        let token = |index| Token { index, position: 0 };
        assert!(!settled.may_have_forgotten(token(0)));
        for index in 0..REMEMBERED_MAX as u64 + 10 {
            settled.insert(token(index * 2));
        }
        assert!(settled.contains(token(20)) && !settled.contains(token(18)));
        assert!(settled.may_have_forgotten(token(18)) && settled.may_have_forgotten(token(17)));
        assert!(
            !settled.may_have_forgotten(token(19)),
            "never seen, and above all that was forgotten"
        );
    }
}
