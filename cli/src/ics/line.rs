//! Content lines: unfolded, and taken apart into name, parameters and value.

/// Most lines of a file that count as one: folding a line more often is nothing that a program writes.
const FOLDS_MAX: usize = 10_000;

/// One content line.
#[derive(Debug)]
pub(super) struct Line {
    /// Where it begins in the file, from 1.
    pub(super) number: usize,
    /// In upper case.
    pub(super) name: String,
    parameters: Vec<(String, String)>,
    pub(super) value: String,
}

impl Line {
    /// Says what is wrong in this line.
    pub(super) fn problem(&self, what: String) -> String {
        let name = &self.name;
        let said = if what.starts_with(name.as_str()) || matches!(name.as_str(), "BEGIN" | "END") {
            what
        } else {
            format!("{name} {what}")
        };
        format!("line {}: {said}", self.number)
    }

    /// Returns the value of a parameter.
    pub(super) fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters
            .iter()
            .find(|(other, _)| other == name)
            .map(|(_, value)| value.as_str())
    }
}

/// Unfolds a text and takes its lines apart.
///
/// # Errors
/// Says which line is none.
pub(super) fn lines(text: &str) -> Result<Vec<Line>, String> {
    let mut unfolded: Vec<(usize, String, usize)> = Vec::new();
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    for (index, line) in text.split('\n').enumerate() {
        let line = line.strip_suffix('\r').unwrap_or(line);
        let number = index + 1;
        match (line.strip_prefix([' ', '\t']), unfolded.last_mut()) {
            (Some(rest), Some((_, last, folds))) => {
                *folds += 1;
                if *folds > FOLDS_MAX {
                    return Err(format!("line {number}: a line is folded more than {FOLDS_MAX} times"));
                }
                last.push_str(rest);
            }
            _ if line.is_empty() => {}
            (Some(_), None) => return Err(format!("line {number}: begins with a space, but continues no line")),
            (None, _) => unfolded.push((number, line.to_owned(), 0)),
        }
    }
    unfolded
        .into_iter()
        .map(|(number, line, _)| split(number, &line))
        .collect()
}

fn split(number: usize, line: &str) -> Result<Line, String> {
    let bad = || {
        let shown: String = line.chars().take(60).collect();
        format!("line {number}: {shown:?} is not NAME:VALUE; expected for example DTSTART;VALUE=DATE:20270101")
    };
    let name_end = line.find([':', ';']).ok_or_else(bad)?;
    let name = line[..name_end].to_ascii_uppercase();
    let is_name = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    if !is_name {
        return Err(bad());
    }
    let mut rest = &line[name_end..];
    let mut parameters = Vec::new();
    while let Some(after) = rest.strip_prefix(';') {
        let (parameter, after) = after.split_once('=').ok_or_else(bad)?;
        let (value, after) = match after.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').ok_or_else(bad)?,
            None => after.split_at(after.find([':', ';']).ok_or_else(bad)?),
        };
        parameters.push((parameter.to_ascii_uppercase(), value.to_owned()));
        rest = after;
    }
    let value = rest.strip_prefix(':').ok_or_else(bad)?.trim_end().to_owned();
    Ok(Line {
        number,
        name,
        parameters,
        value,
    })
}
