//! Regular expressions that tasks bring along: compiled the same way by who accepts them and by who uses them.

pub use regex::bytes::Regex;

use regex::bytes::RegexBuilder;

/// Memory of a compiled expression: a short text can ask for very much.
const COMPILED_BYTES_MAX: usize = 1024 * 1024;

/// Compiles an expression. Matching takes time in proportion to what is searched, whatever the expression is.
///
/// # Errors
/// Says what is wrong with it, and what would be accepted.
pub fn pattern(text: &str) -> Result<Regex, String> {
    let compiled = RegexBuilder::new(text)
        .size_limit(COMPILED_BYTES_MAX)
        .dfa_size_limit(COMPILED_BYTES_MAX)
        .build();
    compiled.map_err(|error| {
        // The library draws a picture over several lines; its last one says what is wrong.
        let whole = error.to_string();
        let last = whole.lines().last().unwrap_or_default().trim_start_matches("error: ");
        format!("{text:?} is not a regular expression: {last}; expected for example ok|done")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_match_bytes_and_are_bounded() {
        let ok = pattern("(?i)status: *ok").expect("compiles");
        assert!(ok.is_match(b"\xff Status:  OK"));
        assert!(!ok.is_match(b"status: bad"));
        for bad in ["(", "a{1000}{1000}", "[z-a]"] {
            let problem = pattern(bad).expect_err(bad);
            assert!(
                problem.contains(bad) && problem.contains("ok|done") && !problem.contains('\n'),
                "{problem}"
            );
        }
    }
}
