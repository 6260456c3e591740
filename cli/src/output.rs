//! Data to standard output, talk to standard error.

use crate::args::Format;
use crate::error::CliError;
use serde::Serialize;
use std::io::{IsTerminal as _, Write as _};

/// Writes data in the format asked for: a table for people, or what it is made of for programs.
pub(crate) fn data<T: Serialize>(format: Format, value: &T, table: impl FnOnce(&T) -> String) -> Result<(), CliError> {
    let text = match format {
        Format::Table => table(value),
        Format::Json => {
            let json = serde_json::to_string_pretty(value).map_err(std::io::Error::other)?;
            format!("{json}\n")
        }
        Format::Yaml => crate::yaml::to_string(value).map_err(std::io::Error::other)?,
    };
    write(text.as_bytes())
}

/// Writes bytes as they are.
pub(crate) fn write(bytes: &[u8]) -> Result<(), CliError> {
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(bytes)?;
    stdout.flush()?;
    Ok(())
}

/// Whether a person reads the data as it comes.
pub(crate) fn is_terminal() -> bool {
    std::io::stdout().is_terminal()
}

/// Says something beside the data.
pub(crate) fn talk(text: &str) {
    eprintln!("{text}");
}

/// Says something that only a person wants to know.
pub(crate) fn hint(text: &str) {
    if std::io::stderr().is_terminal() {
        eprintln!("{text}");
    }
}

/// Makes the output of a task safe for a terminal: colours and all other control sequences become visible text, lines stay lines.
///
/// Bytes come in pieces; what a piece leaves of a character is kept for the next.
#[derive(Debug, Default)]
pub(crate) struct TerminalFilter {
    rest: Vec<u8>,
}

impl TerminalFilter {
    /// Returns a filter for a terminal, unless its owner wants what was written as it was written.
    pub(crate) fn wanted(is_terminal: bool, raw: bool) -> Option<Self> {
        (is_terminal && !raw).then(Self::default)
    }

    /// Returns what can be shown after this piece.
    pub(crate) fn piece(&mut self, bytes: &[u8]) -> String {
        self.rest.extend_from_slice(bytes);
        let mut shown = String::with_capacity(self.rest.len());
        let mut at = 0;
        while at < self.rest.len() {
            match std::str::from_utf8(&self.rest[at..]) {
                Ok(text) => {
                    shown.push_str(&visible(text));
                    at = self.rest.len();
                }
                Err(error) => {
                    let good = at + error.valid_up_to();
                    shown.push_str(&visible(&String::from_utf8_lossy(&self.rest[at..good])));
                    at = good;
                    match error.error_len() {
                        Some(bad) => {
                            shown.push('\u{fffd}');
                            at += bad;
                        }
                        // The beginning of a character: its end is in the next piece.
                        None => break,
                    }
                }
            }
        }
        self.rest.drain(..at);
        shown
    }

    /// Returns what is left when nothing more comes.
    pub(crate) fn end(&mut self) -> &'static str {
        if std::mem::take(&mut self.rest).is_empty() {
            ""
        } else {
            "\u{fffd}"
        }
    }
}

/// Makes control characters visible, except those that end a line or make a column.
pub(crate) fn visible(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' | '\t' => shown.push(c),
            c if crate::table::is_harmless(c) => shown.push(c),
            c => shown.extend(c.escape_default()),
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_cannot_drive_the_terminal() {
        let mut filter = TerminalFilter::default();
        assert_eq!(filter.piece(b"a\tb\n\x1b]0;title\x07"), "a\tb\n\\u{1b}]0;title\\u{7}");
        assert_eq!(filter.piece(b"over\rwrite"), "over\\rwrite");
    }

    #[test]
    fn only_a_terminal_is_kept_from_raw_output_and_only_unless_asked() {
        assert!(TerminalFilter::wanted(true, false).is_some());
        for (is_terminal, raw) in [(true, true), (false, false), (false, true)] {
            assert!(TerminalFilter::wanted(is_terminal, raw).is_none());
        }
    }

    #[test]
    fn characters_cut_by_a_piece_are_put_together() {
        let mut filter = TerminalFilter::default();
        let text = "ä漢😀";
        let shown: String = text.as_bytes().chunks(1).map(|byte| filter.piece(byte)).collect();
        assert_eq!(shown, text);
        assert_eq!(filter.piece(b"\xff!\xe6"), "\u{fffd}!");
        assert_eq!(filter.end(), "\u{fffd}");
        assert_eq!(filter.end(), "");
    }
}
