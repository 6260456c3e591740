//! What pages under `docs/` promise: examples as printed there, and tests that they name.

use crate::support::run_alone;
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
