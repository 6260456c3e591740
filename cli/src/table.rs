//! Tables for people: columns as wide as their content, control characters made visible.

use std::fmt::Write as _;

/// Widest cell of a column that is not the last, in characters; longer ones are cut.
const CELL_CHARS_MAX: usize = 60;

/// A table under construction.
#[derive(Debug)]
pub(crate) struct Table {
    header: Vec<&'static str>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// Begins a table with these columns.
    pub(crate) fn new(header: &[&'static str]) -> Self {
        Self {
            header: header.to_vec(),
            rows: Vec::new(),
        }
    }

    /// Adds a row.
    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        let cells = cells.into_iter().map(|cell| shortened(&printable(&cell))).collect();
        self.rows.push(cells);
    }

    /// Returns the text, one line per row.
    pub(crate) fn render(&self) -> String {
        let width_of = |column: usize| {
            let cells = self
                .rows
                .iter()
                .filter_map(|row| row.get(column))
                .map(|cell| cell.chars().count());
            cells.chain([self.header[column].len()]).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..self.header.len()).map(width_of).collect();
        let mut text = String::new();
        let header: Vec<String> = self.header.iter().map(|name| (*name).to_owned()).collect();
        for row in std::iter::once(&header).chain(&self.rows) {
            let mut line = String::new();
            for (cell, width) in row.iter().zip(&widths) {
                // Writing into a String cannot fail.
                let _ = write!(line, "{cell:<width$}  ");
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}

fn shortened(cell: &str) -> String {
    match cell.char_indices().nth(CELL_CHARS_MAX) {
        Some((cut, _)) => format!("{}…", &cell[..cut]),
        None => cell.to_owned(),
    }
}

/// Makes control characters visible, so that no text of a task can drive the terminal: `\x1b`, `\n`, `\u{202e}`.
pub(crate) fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if is_harmless(c) {
            shown.push(c);
        } else {
            // Writing into a String cannot fail.
            let _ = write!(shown, "{}", c.escape_default());
        }
    }
    shown
}

/// Whether a character is only what it looks like. Bidirectional controls reorder what stands around them, line and paragraph
/// separators break lines, zero-width characters hide.
pub(crate) fn is_harmless(c: char) -> bool {
    !(c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_cut() {
        let mut table = Table::new(&["ID", "NAME"]);
        table.row(["1".to_owned(), "ä".to_owned()]);
        table.row(["1000".to_owned(), "x".repeat(100)]);
        let expected = format!("ID    NAME\n1     ä\n1000  {}…\n", "x".repeat(60));
        assert_eq!(table.render(), expected);
    }

    #[test]
    fn no_text_drives_the_terminal() {
        for (text, shown) in [
            ("plain ä 漢", "plain ä 漢"),
            ("\x1b[31mred\x07", "\\u{1b}[31mred\\u{7}"),
            ("two\nlines\t\r", "two\\nlines\\t\\r"),
            ("\u{202e}evil\u{9b}", "\\u{202e}evil\\u{9b}"),
        ] {
            assert_eq!(printable(text), shown);
        }
    }
}
