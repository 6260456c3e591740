//! Runs every script in `testscripts/` and compares with what it says below the line. `make golden` rewrites them: read the diff.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "what is banned from the state machine is not from its tests"
)]

mod script;

use std::path::PathBuf;

#[test]
fn every_script_does_what_it_says() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("testscripts");
    let update = std::env::var_os("UPDATE_GOLDEN").is_some();
    let mut files: Vec<PathBuf> = std::fs::read_dir(&folder)
        .expect("testscripts")
        .map(|entry| entry.expect("entry").path())
        .collect();
    files.sort();
    assert!(
        files.len() >= 40,
        "only {} scripts in {}",
        files.len(),
        folder.display()
    );
    let mut wrong = Vec::new();
    for file in files {
        let text = std::fs::read_to_string(&file).expect("readable script");
        assert!(
            text.starts_with("# "),
            "{}: the first line says what the script shows",
            file.display()
        );
        let (commands, expected) = text.split_once("---\n").unwrap_or((&text, ""));
        let actual = script::Machine::new().run(commands);
        if update {
            std::fs::write(&file, format!("{}\n---\n{actual}", commands.trim_end())).expect("writable script");
        } else if actual != expected {
            wrong.push(format!("{}\nexpected:\n{expected}\nactual:\n{actual}", file.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
