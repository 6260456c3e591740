//! What pages under `docs/` promise: examples as printed there, and tests that they name.

use crate::support::run_alone;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

const TOP: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

fn page(name: &str) -> String {
    let path = Path::new(TOP).join("docs").join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A command line and what follows it.
struct Example {
    words: Vec<String>,
    output: String,
}

/// Splits a command line at spaces, except within single quotes.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    for (index, piece) in line.split('\'').enumerate() {
        if index % 2 == 1 {
            words.push(piece.to_owned());
        } else {
            words.extend(piece.split_whitespace().map(str::to_owned));
        }
    }
    words
}

fn examples() -> Vec<Example> {
    let mut examples: Vec<Example> = Vec::new();
    for block in page("schedules.md").split("```console\n").skip(1) {
        let (block, _) = block.split_once("```").expect("a block ends");
        for line in block.lines() {
            match line.strip_prefix("$ schedcli ") {
                Some(command) => examples.push(Example {
                    words: words(command),
                    output: String::new(),
                }),
                None => {
                    let example = examples.last_mut().expect("a block begins with a command");
                    example.output.push_str(line);
                    example.output.push('\n');
                }
            }
        }
    }
    examples
}

#[tokio::test]
async fn schedules_are_as_the_page_says() {
    let examples = examples();
    assert!(examples.len() > 10, "{} examples", examples.len());
    for Example { words, output } in examples {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let ran = run_alone(&words).await;
        match output.strip_prefix("exit 2: ") {
            Some(part) => ran.failed(2, &[part.trim()]),
            None => assert_eq!(ran.done(), output, "{words:?}"),
        }
    }
}

/// Puts the text of all Rust files below a folder together.
fn sources(folder: &Path, text: &mut String) {
    for entry in std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            sources(&path, text);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            text.push_str(&std::fs::read_to_string(&path).expect("a Rust file is text"));
        }
    }
}

#[test]
fn every_test_that_a_page_names_exists() {
    let mut tests = String::new();
    for folder in ["core/tests", "cli/tests", "tests/tests", "node/src/worker/tests"] {
        sources(&Path::new(TOP).join(folder), &mut tests);
    }
    let page = page("from-indico.md");
    let cells = page
        .lines()
        .filter_map(|line| line.strip_suffix(" |")?.rsplit_once("| "));
    let mut named = 0;
    for (_, cell) in cells {
        let Some(name) = cell.strip_prefix('`').and_then(|cell| cell.strip_suffix('`')) else {
            continue;
        };
        named += 1;
        let exists = match name.ends_with(".txt") {
            true => Path::new(TOP).join("core/testscripts").join(name).exists(),
            false => tests.contains(&format!("fn {name}(")),
        };
        assert!(exists, "docs/from-indico.md names {name}, which does not exist");
    }
    assert!(named > 40, "{named} tests named");
}

/// A row of a table: its cells under the heads of their columns.
type Row = BTreeMap<String, String>;

/// Reads the cells of a line, if it is one of a table.
fn cells(line: &str) -> Option<Vec<String>> {
    let inner = line.strip_prefix('|')?.strip_suffix('|')?.replace("\\|", "\0");
    let cell = |cell: &str| cell.trim().replace('\0', "|");
    Some(inner.split('|').map(cell).collect())
}

/// Reads the tables of a page.
fn rows(name: &str) -> Vec<Row> {
    let (mut rows, mut heads) = (Vec::new(), Vec::new());
    for line in page(name).lines() {
        match cells(line) {
            None => heads.clear(),
            Some(cells) if cells.iter().all(|cell| cell.trim_matches('-').is_empty()) && !heads.is_empty() => {}
            Some(cells) if heads.is_empty() => heads = cells,
            Some(cells) => {
                assert_eq!(cells.len(), heads.len(), "docs/{name}: {line}");
                rows.push(heads.iter().cloned().zip(cells).collect());
            }
        }
    }
    rows
}

/// Returns what stands between backticks in a column of a row.
fn quoted<'a>(row: &'a Row, head: &str) -> Vec<&'a str> {
    let cell = row.get(head).map(String::as_str).unwrap_or_default();
    cell.split('`').skip(1).step_by(2).collect()
}

/// Returns every verb that does something, from the page that is made from the program itself.
pub(crate) fn verbs() -> Vec<String> {
    let rows = rows("commands.md");
    rows.iter()
        .flat_map(|row| quoted(row, "verb"))
        .map(str::to_owned)
        .collect()
}

/// Returns every flag with which `enqueue` describes a task: `--at`.
pub(crate) fn flags_of_enqueue() -> Vec<String> {
    let rows = rows("tasks.md");
    let flags = rows.iter().flat_map(|row| quoted(row, "flag"));
    let first = |flag: &str| flag.split_whitespace().next().unwrap_or_default().to_owned();
    flags.map(first).collect()
}

/// What the program knows, from the pages that are made from it.
struct Known {
    /// Verbs, and their flags beside the global ones: `enqueue --at`, `pause --until`.
    verbs: BTreeSet<String>,
    flags: BTreeSet<String>,
    fields: BTreeSet<String>,
}

impl Known {
    fn read() -> Self {
        let first = |text: &str| text.split_whitespace().next().unwrap_or_default().to_owned();
        let (mut flags, mut fields) = (BTreeSet::new(), BTreeSet::new());
        for flag in flags_of_enqueue() {
            flags.extend(["enqueue", "update"].map(|verb| format!("{verb} {flag}")));
        }
        for row in rows("tasks.md") {
            fields.extend(quoted(&row, "field").into_iter().map(str::to_owned));
        }
        for row in rows("commands.md") {
            for verb in quoted(&row, "verb") {
                let own = quoted(&row, "arguments and flags").into_iter();
                let own = own.filter(|flag| flag.starts_with("--"));
                flags.extend(own.map(|flag| format!("{verb} {}", first(flag))));
            }
        }
        Self {
            verbs: verbs().into_iter().collect(),
            flags,
            fields,
        }
    }

    /// What a page means by a flag: alone it is one of `enqueue`.
    fn meant(flag: &str) -> String {
        match flag.strip_prefix("-- ") {
            Some(_) => "enqueue --".to_owned(),
            None if flag.starts_with("--") => format!("enqueue {flag}"),
            None => flag.to_owned(),
        }
    }
}

/// Whether a file has a test of that name.
fn has_test(path: &str, name: &str) -> bool {
    let Ok(text) = std::fs::read_to_string(Path::new(TOP).join(path)) else {
        return false;
    };
    if path.ends_with(".py") {
        return name.starts_with("test_") && text.contains(&format!("def {name}("));
    }
    let is_mark = |line: &str| line.trim_start().starts_with("#[") && line.contains("test");
    text.split_once(&format!("fn {name}("))
        // Its attributes are the lines above it.
        .is_some_and(|(before, _)| before.lines().rev().take(6).any(is_mark))
}

/// What docs/semantics.md names exists; and no verb, no flag of `enqueue` and no field of a document is missing there.
#[tokio::test]
async fn the_page_about_semantics_names_what_there_is_and_all_of_it() {
    let known = Known::read();
    let help = run_alone(&["--help"]).await.done();
    let (_, global) = help.split_once("Global options:").expect("global options");
    let global: BTreeSet<&str> = global
        .split_whitespace()
        .filter(|word| word.starts_with("--"))
        .collect();
    let (mut wrong, mut told, mut fields) = (Vec::new(), BTreeSet::new(), BTreeSet::new());
    let rows = rows("semantics.md");
    assert!(rows.len() > 100, "{} rows", rows.len());
    for row in &rows {
        for flag in quoted(row, "flag") {
            let meant = Known::meant(flag);
            let is_global = global.contains(flag);
            if !is_global && !known.flags.contains(&meant) && !known.verbs.contains(&meant) {
                wrong.push(format!("there is no flag or verb {flag}"));
            }
            let verb = meant.split(" --").next().unwrap_or_default().to_owned();
            told.extend([meant, verb]);
        }
        for field in quoted(row, "field") {
            if !known.fields.contains(field) {
                wrong.push(format!("there is no field {field}"));
            }
            fields.insert(field);
        }
        let tests = quoted(row, "test");
        if tests.is_empty() {
            wrong.push(format!("no test: {row:?}"));
        }
        for test in tests {
            let exists = match test.split_once("::") {
                Some((path, name)) => has_test(path, name),
                None => test.ends_with(".txt") && Path::new(TOP).join("core/testscripts").join(test).exists(),
            };
            if !exists {
                wrong.push(format!("there is no test {test}"));
            }
        }
    }
    let of_enqueue = known.flags.iter().filter(|flag| flag.starts_with("enqueue "));
    for missing in of_enqueue.chain(&known.verbs).filter(|known| !told.contains(*known)) {
        wrong.push(format!("{missing} is not told of"));
    }
    for missing in known.fields.iter().filter(|field| !fields.contains(field.as_str())) {
        wrong.push(format!("the field {missing} is not told of"));
    }
    assert!(wrong.is_empty(), "docs/semantics.md:\n{}", wrong.join("\n"));
}
