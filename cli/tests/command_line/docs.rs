//! The examples of `docs/schedules.md`, as printed there.

use crate::support::run_alone;

const PAGE: &str = include_str!("../../../docs/schedules.md");

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
    for block in PAGE.split("```console\n").skip(1) {
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
