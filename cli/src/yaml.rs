//! YAML in which every text is quoted: run `1:2` would be the number 62 to a reader of YAML 1.1, and `NO` would be false.

use serde::Serialize;
use serde_norway::Value;
use std::fmt::Write as _;

/// Writes a value as one YAML document.
pub(crate) fn to_string<T: Serialize>(value: &T) -> Result<String, serde_norway::Error> {
    let mut text = String::new();
    match serde_norway::to_value(value)? {
        Value::Mapping(map) if map.is_empty() => text.push_str("{}\n"),
        Value::Sequence(list) if list.is_empty() => text.push_str("[]\n"),
        value => block(&mut text, &value, 0),
    }
    Ok(text)
}

/// Writes a value that begins on a line of its own.
fn block(text: &mut String, value: &Value, depth: usize) {
    match value {
        Value::Mapping(map) => {
            for (key, value) in map {
                indent(text, depth);
                text.push_str(key.as_str().unwrap_or_default());
                text.push(':');
                after_key(text, value, depth + 1);
            }
        }
        Value::Sequence(list) => {
            for value in list {
                indent(text, depth);
                text.push('-');
                after_key(text, value, depth + 1);
            }
        }
        scalar => {
            text.push_str(&plain(scalar));
            text.push('\n');
        }
    }
}

/// Writes a value behind a key or a dash: scalars on the same line, the rest below.
fn after_key(text: &mut String, value: &Value, depth: usize) {
    match value {
        Value::Mapping(map) if !map.is_empty() => {
            text.push('\n');
            block(text, value, depth);
        }
        Value::Sequence(list) if !list.is_empty() => {
            text.push('\n');
            block(text, value, depth);
        }
        Value::Mapping(_) => text.push_str(" {}\n"),
        Value::Sequence(_) => text.push_str(" []\n"),
        scalar => {
            text.push(' ');
            block(text, scalar, depth);
        }
    }
}

fn indent(text: &mut String, depth: usize) {
    for _ in 0..depth {
        text.push_str("  ");
    }
}

fn plain(scalar: &Value) -> String {
    match scalar {
        Value::Null => "null".to_owned(),
        Value::Bool(flag) => flag.to_string(),
        Value::Number(number) => number.to_string(),
        other => quoted(other.as_str().unwrap_or_default()),
    }
}

/// Quotes a text so that it stays on one line, with the escapes that JSON and YAML share.
fn quoted(text: &str) -> String {
    let mut shown = String::with_capacity(text.len() + 2);
    shown.push('"');
    for c in text.chars() {
        match c {
            '"' => shown.push_str("\\\""),
            '\\' => shown.push_str("\\\\"),
            '\n' => shown.push_str("\\n"),
            '\t' => shown.push_str("\\t"),
            c if crate::table::is_harmless(c) => shown.push(c),
            // The rest fits four digits. Writing into a String cannot fail.
            c => {
                let _ = write!(shown, "\\u{:04x}", u32::from(c));
            }
        }
    }
    shown.push('"');
    shown
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_written_is_read_back() {
        for value in [
            json!({"run": "1:2", "no": "NO", "at": "2027-01-15T08:00:00.000Z", "n": -3, "f": 1.5, "b": true, "z": null}),
            json!([{"a": [], "b": {}, "c": [1, [2, {"d": "x"}]]}, "x", []]),
            json!({"text": "two\nlines \"quoted\" \\ \u{1b}[31m \u{202e} ä 漢 😀 # no: comment"}),
            json!([]),
            json!({}),
            json!("x"),
            json!(18_446_744_073_709_551_615_u64),
        ] {
            let text = to_string(&value).expect("writes");
            let read: serde_json::Value =
                serde_norway::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
            assert_eq!(read, value, "{text}");
            assert!(text.ends_with('\n') && !text.contains('\u{1b}'), "{text}");
        }
    }
}
