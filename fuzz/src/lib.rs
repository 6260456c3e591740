//! Feeds parsers with what nobody would write, on the stable toolchain, inside ordinary tests.
//!
//! A target is a function from bytes to a word that says what came of them. [`run`] gives it the saved corpus (`fuzz/corpus/TARGET/`,
//! one input per file), then inputs made from it by chance, under a seed that is printed. An input with a new outcome joins the others
//! for the rest of the run, which takes the place of the coverage that an instrumented build would measure: the words of an error say
//! which branch refused. No input may panic, and none may take longer than [`CPU_MAX`]; one that does is saved, and belongs into the
//! corpus once its cause is mended.
//!
//! `FUZZ_SECONDS=n` goes on for so long, `SEED=n` replays.
#![forbid(unsafe_code)]

mod mutate;

use mutate::{Chance, mutate};
use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

/// Processor time that one input may take. The slowest rules are promised 10 ms when compiled with optimisation.
pub const CPU_MAX: Duration = Duration::from_secs(1);
/// After this by the wall clock an input is taken for one that never ends.
const HANG: Duration = Duration::from_secs(60);
/// Inputs made by chance when no time is given: seconds for the slowest target.
const INPUTS: u64 = 20_000;
/// Longest input that is made: long enough for every bound but those on whole files, which have tests of their own.
const BYTES_MAX: usize = 4096;

/// The folder of a target's corpus.
pub fn corpus(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target)
}

/// Feeds `target`: the corpus and `seeds` as they are, then what chance makes of them, with `words` strewn in.
///
/// # Panics
/// An input made the target panic, or took too long: the message says where it is saved and how to replay it.
pub fn run(name: &str, seeds: &[Vec<u8>], words: &[&str], target: impl Fn(&[u8]) -> String) {
    let seed = std::env::var("SEED")
        .ok()
        .and_then(|seed| seed.parse().ok())
        .unwrap_or_else(fresh);
    let seconds: Option<u64> = std::env::var("FUZZ_SECONDS")
        .ok()
        .and_then(|seconds| seconds.parse().ok());
    let mut inputs = saved(name);
    let kept = inputs.len();
    assert!(kept > 0, "no corpus in {}", corpus(name).display());
    inputs.extend_from_slice(seeds);
    let watch = Watch::new(name);
    let mut outcomes = BTreeSet::new();
    for input in &inputs {
        outcomes.insert(shape(&feed(name, input, &watch, &target), input));
    }
    let begun = Instant::now();
    let mut chance = Chance(seed);
    let mut made = 0;
    while seconds.map_or(made < INPUTS, |seconds| begun.elapsed().as_secs() < seconds) {
        let input = mutate(&mut chance, &inputs, words, BYTES_MAX);
        if outcomes.insert(shape(&feed(name, &input, &watch, &target), &input)) {
            inputs.push(input);
        }
        made += 1;
    }
    if std::env::var_os("FUZZ_SHOW").is_some() {
        outcomes.iter().for_each(|outcome| println!("fuzz: {name}: {outcome}"));
    }
    println!(
        "fuzz: {name}: {kept} saved and {made} made inputs, {} outcomes; SEED={seed}",
        outcomes.len()
    );
}

fn fresh() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or(0, |now| now.as_micros() as u64)
}

fn saved(name: &str) -> Vec<Vec<u8>> {
    let Ok(folder) = std::fs::read_dir(corpus(name)) else {
        return Vec::new();
    };
    let mut files: Vec<PathBuf> = folder.filter_map(|entry| Some(entry.ok()?.path())).collect();
    files.sort();
    files.iter().filter_map(|file| std::fs::read(file).ok()).collect()
}

fn feed(name: &str, input: &[u8], watch: &Watch, target: &impl Fn(&[u8]) -> String) -> String {
    watch.begins(input);
    let begun = cpu_time();
    let outcome = catch_unwind(AssertUnwindSafe(|| target(input)));
    let mut took = cpu_time() - begun;
    if outcome.is_ok() && took > CPU_MAX {
        // A page fault or a neighbour may be in it: the better of two counts.
        let begun = cpu_time();
        let _ = catch_unwind(AssertUnwindSafe(|| target(input)));
        took = took.min(cpu_time() - begun);
    }
    watch.ended();
    match outcome {
        Ok(word) if took <= CPU_MAX => word,
        Ok(_) => panic!(
            "{name}: an input took {took:?} of processor time; {}",
            keep(name, input)
        ),
        Err(_) => panic!("{name}: an input panicked; {}", keep(name, input)),
    }
}

/// The time this thread has had a processor for: what other work on the machine takes does not count.
fn cpu_time() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(now.tv_sec.unsigned_abs(), u32::try_from(now.tv_nsec).unwrap_or(0))
}

/// Saves an input and says where.
fn keep(name: &str, input: &[u8]) -> String {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in input {
        hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    }
    let file = std::env::temp_dir().join(format!("fuzz-{name}-{hash:016x}"));
    match std::fs::write(&file, input) {
        Ok(()) => format!(
            "it is in {}; put it into fuzz/corpus/{name}/ and mend the cause",
            file.display()
        ),
        Err(error) => format!("it could not be saved ({error}): {input:?}"),
    }
}

/// The words of an outcome that are not those of the input, without numbers: errors that differ in the rest came from the same
/// branch.
fn shape(outcome: &str, input: &[u8]) -> String {
    let input = String::from_utf8_lossy(input).to_lowercase();
    let words = outcome
        .split(|c: char| !c.is_ascii_alphabetic())
        .filter(|word| word.len() > 1)
        .take(60);
    let ours: Vec<&str> = words.filter(|word| !input.contains(&word.to_lowercase())).collect();
    ours.join(" ")
}

/// Ends the process when an input never ends, after saving it.
struct Watch(mpsc::Sender<Option<Vec<u8>>>);

impl Watch {
    fn new(name: &str) -> Self {
        let (sender, inputs) = mpsc::channel::<Option<Vec<u8>>>();
        let name = name.to_owned();
        std::thread::spawn(move || {
            let mut current: Option<Vec<u8>> = None;
            loop {
                match inputs.recv_timeout(HANG) {
                    Ok(input) => current = input,
                    Err(RecvTimeoutError::Disconnected) => return,
                    Err(RecvTimeoutError::Timeout) => {
                        if let Some(input) = &current {
                            eprintln!("{name}: an input has not ended within {HANG:?}; {}", keep(&name, input));
                            std::process::abort();
                        }
                    }
                }
            }
        });
        Self(sender)
    }

    // The watch lives as long as this; a failed send would only mean that nobody watches.
    fn begins(&self, input: &[u8]) {
        let _ = self.0.send(Some(input.to_vec()));
    }

    fn ended(&self) {
        let _ = self.0.send(None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_and_a_loop_are_found() {
        let watch = Watch::new("self");
        let panics = catch_unwind(|| feed("self", b"x", &watch, &|_| panic!("no")));
        assert!(panics.is_err());
        let slow = |_: &[u8]| {
            let begun = cpu_time();
            while cpu_time() - begun < CPU_MAX + Duration::from_millis(50) {}
            String::new()
        };
        assert!(catch_unwind(AssertUnwindSafe(|| feed("self", b"y", &watch, &slow))).is_err());
        assert_eq!(feed("self", b"z", &watch, &|input| format!("{input:?}")), "[122]");
    }

    #[test]
    fn shapes_tell_branches_apart() {
        assert_eq!(
            shape("line 12: \"abc\" is bad", b"abc"),
            shape("line 7: \"xyz\" is bad", b"xyz")
        );
        assert_ne!(shape("too long", b"abc"), shape("too short", b"abc"));
    }
}
