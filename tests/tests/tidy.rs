//! Checks of our own, for what no tool has a rule: the folders' one direction, what is absent on purpose, and what must not be left behind.
//!
//! A rule that must be broken is changed here, with its reason, and not worked around.

use anyhow::{Context, Result, ensure};
use sched_tests::binaries;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// A file that does not fit is two files.
const LINES_MAX: usize = 600;
/// Everything that is built or tried out is elsewhere.
const FOLDERS: [&str; 15] = [
    "core", "storage", "proto", "raft", "client", "clients", "node", "cli", "deploy", "tests", "fuzz", "sim",
    "scripts", "docs", ".ci",
];

/// A text file of the repository.
struct Source {
    /// Relative to the top, with `/`.
    path: String,
    text: String,
}

impl Source {
    fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    /// Lines with their numbers, without comments; a mention in prose breaks no rule.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        let lines = self.text.lines().enumerate().map(|(index, line)| (index + 1, line));
        lines.map(|(number, line)| (number, line.split("//").next().unwrap_or_default()))
    }

    /// Where one of these words is in the code.
    fn places(&self, words: &[&str]) -> Vec<String> {
        let hit = |line: &str| words.iter().any(|word| line.contains(word));
        let place = |(number, line): (usize, &str)| format!("{}:{number}: {}", self.path, line.trim());
        self.code().filter(|(_, line)| hit(line)).map(place).collect()
    }
}

/// Reads every text file of the repository.
fn sources() -> Vec<Source> {
    let top = binaries::repository();
    let mut found = Vec::new();
    for folder in FOLDERS {
        read(&top, &top.join(folder), &mut found).unwrap_or_else(|error| panic!("{folder}: {error:?}"));
    }
    let files = std::fs::read_dir(&top).expect("the repository can be listed");
    for path in files
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.is_file())
    {
        read(&top, &path, &mut found).unwrap_or_else(|error| panic!("{}: {error:?}", path.display()));
    }
    assert!(
        found.len() > 50,
        "only {} files found in {}",
        found.len(),
        top.display()
    );
    found
}

fn read(top: &Path, path: &Path, found: &mut Vec<Source>) -> Result<()> {
    if path.is_dir() {
        for entry in std::fs::read_dir(path)? {
            read(top, &entry?.path(), found)?;
        }
    } else if path.exists() {
        // What is not UTF-8 is data.
        if let Ok(text) = String::from_utf8(std::fs::read(path)?) {
            let path = path
                .strip_prefix(top)?
                .to_str()
                .context("a file name that is not UTF-8")?
                .to_owned();
            found.push(Source { path, text });
        }
    }
    Ok(())
}

/// Fails with all places, so that one run shows all there is to mend.
fn none(rule: &str, places: impl IntoIterator<Item = String>) {
    let places: Vec<String> = places.into_iter().collect();
    assert!(places.is_empty(), "{rule}:\n  {}", places.join("\n  "));
}

/// Fails when one of `words` is in the code of a Rust file that `applies` picks.
fn banned(rule: &str, words: &[&str], applies: impl Fn(&str) -> bool) {
    let sources = sources();
    none(
        rule,
        sources
            .iter()
            .filter(|s| s.is_rust() && applies(&s.path))
            .flat_map(|s| s.places(words)),
    );
}

#[test]
fn files_are_short() {
    let long = sources().into_iter().filter(|s| s.is_rust()).filter_map(|source| {
        let lines = source.text.lines().count();
        (lines > LINES_MAX).then(|| format!("{}: {lines} lines", source.path))
    });
    none(&format!("a file has at most {LINES_MAX} lines"), long);
}

#[test]
fn nothing_is_left_for_later() {
    // In pieces: this file is read too.
    let words = [
        concat!("todo", "!"),
        concat!("unimplemented", "!"),
        concat!("#[ign", "ore"),
        concat!("dbg", "!("),
    ];
    banned("no stub, no ignored test", &words, |_| true);
    let words = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X:")];
    let sources = sources();
    let marks = sources.iter().filter(|s| s.is_rust()).flat_map(|source| {
        let lines = source
            .text
            .lines()
            .enumerate()
            .filter(|(_, line)| words.iter().any(|word| line.contains(word)));
        lines.map(|(index, line)| format!("{}:{}: {}", source.path, index + 1, line.trim()))
    });
    none("what is to be done is an issue, not a remark", marks);
}

#[test]
fn nothing_sleeps_on_a_thread() {
    let rule = "wait for an event, or with tokio's timer for a point in time";
    // The supervisor of a run's processes is a process of its own with nothing else to do.
    banned(rule, &[concat!("thread::", "sleep")], |path| {
        !path.starts_with("node/supervisor/src/")
    });
    // A test that sleeps for a duration is slow when it is right and fails when the machine is slow.
    banned(
        rule,
        &[concat!("sleep", "(Duration"), concat!("time::", "sleep(")],
        |path| path.starts_with("tests/tests/"),
    );
}

#[test]
fn core_reads_no_clock_no_chance_and_no_files() {
    let words = [
        "SystemTime",
        "Instant::now",
        "Utc::now",
        "Local::now",
        "std::fs",
        "std::env",
        "std::net",
        "std::thread",
        "rand::",
        "getrandom",
    ];
    banned("core is a function of what it is given", &words, |path| {
        path.starts_with("core/src/")
    });
    banned("core is ordered", &["HashMap", "HashSet"], |path| {
        path.starts_with("core/src/")
    });
}

#[test]
fn one_file_of_a_node_reads_the_wall_clock() {
    let rule = "node/src/clock.rs is the one place of a node that reads the wall clock";
    banned(
        rule,
        &[
            "SystemTime::now",
            "UNIX_EPOCH.elapsed",
            "Utc::now",
            "Local::now",
            "Timestamp::now",
        ],
        |path| {
            let daemon = ["storage/src/", "proto/src/", "raft/src/", "node/src/"]
                .iter()
                .any(|folder| path.starts_with(folder));
            daemon && path != "node/src/clock.rs" && !path.contains("/tests/")
        },
    );
}

#[test]
fn each_foreign_thing_is_seen_by_one_part() {
    let outside = |folder: &'static str| move |path: &str| !path.starts_with(folder) && path != "tests/tests/tidy.rs";
    banned(
        "openraft is seen by raft/ only, and by the simulation of it",
        &["openraft::", "use openraft"],
        |path| outside("raft/")(path) && !path.starts_with("sim/raft/"),
    );
    banned("RocksDB is seen by storage/ only", &["rocksdb::"], outside("storage/"));
    banned(
        "bincode is seen by one module",
        &["bincode"],
        outside("core/src/codec.rs"),
    );
}

/// What each crate of ours may depend on among ours; tests of a crate may use more.
fn allowed() -> BTreeMap<&'static str, BTreeSet<&'static str>> {
    BTreeMap::from([
        ("core", BTreeSet::from([])),
        ("storage", BTreeSet::from(["sched-core"])),
        ("proto", BTreeSet::from(["sched-core"])),
        ("raft", BTreeSet::from(["sched-core", "sched-storage", "sched-proto"])),
        ("client", BTreeSet::from(["sched-core", "sched-proto"])),
        (
            "node",
            BTreeSet::from([
                "sched-core",
                "sched-storage",
                "sched-proto",
                "sched-raft",
                "sched-client",
                "sched-supervisor",
            ]),
        ),
        ("node/supervisor", BTreeSet::from(["sched-core"])),
        ("cli", BTreeSet::from(["sched-core", "sched-proto", "sched-client"])),
        ("fuzz", BTreeSet::from([])),
        ("tests", BTreeSet::from(["sched-core", "sched-proto", "sched-client"])),
    ])
}

#[test]
fn crates_point_one_way() {
    let sources = sources();
    for (folder, allowed) in allowed() {
        let path = format!("{folder}/Cargo.toml");
        let manifest = sources
            .iter()
            .find(|s| s.path == path)
            .unwrap_or_else(|| panic!("no {path}"));
        let found = dependencies(&manifest.text);
        let wrong: Vec<_> = found
            .iter()
            .filter(|name| name.starts_with("sched-") && !allowed.contains(name.as_str()))
            .collect();
        assert!(wrong.is_empty(), "{path} may not depend on {wrong:?}");
    }
}

#[test]
fn core_depends_on_no_runtime_no_database_and_no_rpc() {
    let known = BTreeSet::from([
        "bincode",
        "chrono",
        "crc32c",
        "jiff",
        "serde",
        "serde_bytes",
        "thiserror",
    ]);
    let sources = sources();
    let manifest = sources
        .iter()
        .find(|s| s.path == "core/Cargo.toml")
        .expect("core has a manifest");
    let new: Vec<_> = dependencies(&manifest.text)
        .into_iter()
        .filter(|name| !known.contains(name.as_str()))
        .collect();
    assert!(new.is_empty(), "a new dependency of core is a design change: {new:?}");
}

/// The names under `[dependencies]`.
fn dependencies(manifest: &str) -> Vec<String> {
    let lines = manifest
        .lines()
        .skip_while(|line| line.trim() != "[dependencies]")
        .skip(1);
    let lines = lines
        .take_while(|line| !line.starts_with('['))
        .filter(|line| !line.starts_with('#'));
    lines
        .filter_map(|line| line.split_once('='))
        .map(|(name, _)| name.trim().trim_end_matches(".workspace").to_owned())
        .collect()
}

#[test]
fn versions_are_stated_once() {
    let is_number = |value: &str| value.starts_with(|c: char| c.is_ascii_digit() || "=^~<>*".contains(c));
    let states = |line: &&str| {
        let value = line.split_once(" = \"").or_else(|| line.split_once("version = \""));
        value.is_some_and(|(_, value)| is_number(value))
    };
    let wrong = sources().into_iter().filter(|s| s.path.ends_with("/Cargo.toml"));
    let wrong = wrong.flat_map(|source| {
        let lines = source.text.lines().filter(states);
        lines.map(|line| format!("{}: {line}", source.path)).collect::<Vec<_>>()
    });
    none("a version belongs into the workspace's Cargo.toml", wrong);
}

#[test]
fn nothing_knows_the_machine_it_was_written_on() {
    let words = [
        concat!("/ro", "ot/"),
        concat!("/wo", "rk/"),
        concat!("/ho", "me/"),
        concat!("/Us", "ers/"),
    ];
    let sources = sources();
    let places = sources.iter().filter(|s| s.path != "Cargo.lock").flat_map(|source| {
        let lines = source.text.lines().enumerate();
        // A folder of that name inside another one is somebody else's.
        let hit = |line: &str| {
            words.iter().any(|word| {
                line.match_indices(word)
                    .any(|(at, _)| !line[..at].ends_with(|c: char| c.is_alphanumeric() || "_}\")".contains(c)))
            })
        };
        lines
            .filter(move |(_, line)| hit(line))
            .map(|(index, line)| format!("{}:{}: {}", source.path, index + 1, line.trim()))
    });
    none("no path of one machine", places);
}

#[test]
fn packages_come_from_where_the_user_says() {
    let words = [
        concat!("replace", "-with"),
        concat!("spar", "se+"),
        concat!("index", "-url"),
        concat!("static.", "crates.io"),
        concat!("index.", "crates.io"),
    ];
    let sources = sources();
    let places = sources
        .iter()
        .filter(|s| !s.path.ends_with(".lock"))
        .flat_map(|source| {
            let lines = source
                .text
                .lines()
                .enumerate()
                .filter(|(_, line)| words.iter().any(|word| line.contains(word)));
            lines.map(|(index, line)| format!("{}:{}: {}", source.path, index + 1, line.trim()))
        });
    none("no registry of one machine", places);
    let lock = sources
        .iter()
        .find(|s| s.path == "Cargo.lock")
        .expect("Cargo.lock is committed");
    let other = lock
        .text
        .lines()
        .filter(|line| line.starts_with("source = ") && !line.contains("github.com/rust-lang/crates.io-index"));
    none("everything is from crates.io", other.map(str::to_owned));
}

#[test]
fn every_crate_refuses_unsafe_code() {
    let sources = sources();
    let roots = sources.iter().filter(|s| {
        ["/src/lib.rs", "/src/main.rs"]
            .iter()
            .any(|root| s.path.ends_with(root))
    });
    // The workspace denies it; a root says how strictly.
    let wrong =
        roots.filter(|s| !s.text.contains("#![forbid(unsafe_code)]") && !s.text.contains("#![deny(unsafe_code)]"));
    none("#![forbid(unsafe_code)]", wrong.map(|s| s.path.clone()));
    let holes = sources
        .iter()
        .filter(|s| s.is_rust() && s.path != "tests/tests/tidy.rs")
        .flat_map(|s| s.places(&["allow(unsafe_code"]));
    let holes: Vec<String> = holes
        .filter(|place| !place.starts_with("node/supervisor/src/birth.rs"))
        .collect();
    none("unsafe code is in node/supervisor/src/birth.rs or nowhere", holes);
}

/// A command line in the documentation.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Shown {
    program: &'static str,
    verb: Vec<String>,
    flags: Vec<String>,
}

#[test]
fn every_flag_in_the_documentation_exists() {
    let mut places: BTreeMap<Shown, String> = BTreeMap::new();
    for source in sources().iter().filter(|s| s.path.ends_with(".md")) {
        for (index, line) in source.text.lines().enumerate() {
            for shown in commands(line) {
                places
                    .entry(shown)
                    .or_insert_with(|| format!("{}:{}", source.path, index + 1));
            }
        }
    }
    let mut wrong = Vec::new();
    for (shown, place) in places {
        let help = help(shown.program, &shown.verb).unwrap_or_else(|error| panic!("{place}: {error:?}"));
        wrong.extend(
            shown
                .flags
                .iter()
                .filter(|flag| !has_flag(&help, flag))
                .map(|flag| format!("{place}: `{} {}` has no {flag}", shown.program, shown.verb.join(" "))),
        );
    }
    none("a flag in the documentation exists", wrong);
}

/// The command lines of ours in one line of a document, with their long flags.
fn commands(line: &str) -> Vec<Shown> {
    let mut found = Vec::new();
    for program in ["schednode", "schedcli"] {
        for (at, _) in line.match_indices(&format!("{program} ")) {
            if line[..at].ends_with(|c: char| c.is_alphanumeric() || c == '-') {
                continue;
            }
            // Up to the end of the quotation, of the command, or to the task's own command line.
            let rest = line[at + program.len()..]
                .split(['`', '|', ';', '#'])
                .next()
                .unwrap_or_default();
            let words: Vec<&str> = rest
                .split_whitespace()
                .take_while(|word| *word != "--" && *word != "&&")
                .collect();
            let is_verb = |word: &str| {
                word.len() > 1 && word.chars().all(|c| c.is_ascii_lowercase() || c == '-') && !word.starts_with('-')
            };
            let Some(at) = words.iter().position(|word| is_verb(word)) else {
                continue;
            };
            // These have verbs of their own.
            let parts = if ["show", "calendar", "config", "cluster"].contains(&words[at]) {
                2
            } else {
                1
            };
            let verb = words[at..].iter().take(parts).take_while(|word| is_verb(word));
            let verb: Vec<String> = verb.map(|word| (*word).to_owned()).collect();
            let flags = words
                .iter()
                .filter(|word| word.starts_with("--"))
                .map(|word| word.split(['=', ']', ')', ',']).next().unwrap_or_default().to_owned());
            found.push(Shown {
                program,
                verb,
                flags: flags.collect(),
            });
        }
    }
    // Prose about a program shows no flag; without one there is nothing to check.
    found.retain(|shown| !shown.flags.is_empty());
    found
}

fn help(program: &str, verb: &[String]) -> Result<String> {
    let output = std::process::Command::new(binaries::path(program)?)
        .args(verb)
        .arg("--help")
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(
        output.status.success(),
        "`{program} {} --help`: {}",
        verb.join(" "),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(text)
}

fn has_flag(help: &str, flag: &str) -> bool {
    help.match_indices(flag)
        .any(|(at, _)| !help[at + flag.len()..].starts_with(|c: char| c.is_alphanumeric() || c == '-'))
}

#[test]
fn command_lines_are_found_in_documents() {
    let found = commands("`schednode run --data-dir D --listen=x`, then `schedcli enqueue --in 1s -- ls --all`");
    let shown = |program, verb: &str, flags: &[&str]| Shown {
        program,
        verb: vec![verb.to_owned()],
        flags: flags.iter().map(|flag| (*flag).to_owned()).collect(),
    };
    let expected = [
        shown("schednode", "run", &["--data-dir", "--listen"]),
        shown("schedcli", "enqueue", &["--in"]),
    ];
    assert_eq!(found, expected);
    assert!(has_flag("  --in <D>", "--in") && !has_flag("  --initial", "--in"));
}
