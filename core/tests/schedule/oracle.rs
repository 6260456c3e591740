//! The recurrence engine against python-dateutil: a corpus of random rules with their answers, in UTC.
//!
//! `SCHED_RRULE_CASES=FILE` runs another file of cases, plain or gzipped, as `rrule_oracle.py` prints them.

use crate::support::{Bundled, after};
use sched_core::Timestamp;
use sched_core::schedule::{DstPolicy, Next, Recurrence, Schedule, ScheduleError};
use serde_json::Value;
use std::io::Read;

/// The corpus says `null` for "nothing before this".
const HORIZON: &str = "2200-01-01T00:00:00Z";

fn instant(value: &Value) -> Timestamp {
    value
        .as_str()
        .and_then(|text| text.parse().ok())
        .unwrap_or_else(|| panic!("{value} is no instant"))
}

fn instants(value: &Value) -> Vec<Timestamp> {
    value.as_array().expect("a list").iter().map(instant).collect()
}

fn schedule(case: &Value) -> Schedule {
    Schedule::Rrule {
        rules: vec![case["rrule"].as_str().expect("a rule").to_owned()],
        dtstart: instant(&case["dtstart"]),
        rdates: instants(&case["rdate"]),
        exdates: instants(&case["exdate"]),
        zone: "UTC".to_owned(),
        dst: DstPolicy::Shift,
    }
}

/// Returns the occurrence, unless it is beyond what the corpus looks at.
fn within(next: Next) -> Option<Timestamp> {
    assert!(!matches!(next, Next::GaveUp { .. }), "gave up");
    next.at().filter(|at| *at <= HORIZON.parse().expect("an instant"))
}

/// Returns what is wrong with our answers, if anything.
fn difference(case: &Value, zones: &Bundled) -> Option<String> {
    let compiled = Recurrence::compile(&schedule(case), "", zones);
    let recurrence = match (compiled, case["verdict"].as_str()) {
        // A search that ends at its bound when the rule is compiled is a refusal too.
        (Err(ScheduleError::Impossible { .. } | ScheduleError::TooCostly { .. }), Some("impossible")) => return None,
        (_, Some("slow")) => return None,
        (Ok(recurrence), Some("impossible")) => {
            let first = within(recurrence.next_after(instant(&case["dtstart"]).plus_millis(-1)));
            return first.map(|first| format!("impossible, but we found {first}"));
        }
        (Ok(recurrence), _) => recurrence,
        (Err(error), _) => return Some(format!("refused: {error}")),
    };
    let mut after = Timestamp::MIN;
    for (number, expected) in instants(&case["first"]).into_iter().enumerate() {
        let found = within(recurrence.next_after(after));
        if found != Some(expected) {
            return Some(format!("occurrence {number} is {expected}, we found {found:?}"));
        }
        after = expected;
    }
    case["after"].as_array().expect("a list").iter().find_map(|pair| {
        let expected = if pair[1].is_null() {
            None
        } else {
            Some(instant(&pair[1]))
        };
        let found = recurrence.next_after(instant(&pair[0]));
        // An answer beyond the horizon is given for some points only.
        let found = if expected.is_some() { found.at() } else { within(found) };
        (found != expected).then(|| format!("after {} comes {expected:?}, we found {found:?}", pair[0]))
    })
}

fn read_cases() -> (String, String) {
    let default = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/rrule-6k.jsonl.gz").to_owned();
    let path = std::env::var("SCHED_RRULE_CASES").unwrap_or(default);
    let bytes = std::fs::read(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    let mut text = String::new();
    if bytes.starts_with(&[0x1f, 0x8b]) {
        flate2::read::GzDecoder::new(&bytes[..])
            .read_to_string(&mut text)
            .expect("gzipped text");
    } else {
        text = String::from_utf8(bytes).expect("text");
    }
    (path, text)
}

/// What holding cases against the engine gave.
#[derive(Default)]
pub(crate) struct Compared {
    /// Cases with an answer.
    pub(crate) answered: usize,
    /// Where the engine's answers are others.
    pub(crate) differences: Vec<String>,
}

/// Holds cases, one per line, against the engine.
pub(crate) fn compare(lines: &str, zones: &Bundled) -> Compared {
    let mut compared = Compared::default();
    for line in lines.lines() {
        let case: Value = serde_json::from_str(line).expect("a case per line");
        compared.answered += usize::from(case["verdict"] != "slow");
        if let Some(difference) = difference(&case, zones) {
            let rule = format!("{} from {}: {difference}", case["rrule"], case["dtstart"]);
            compared.differences.push(rule);
        }
    }
    compared
}

/// Fails when there are differences, and shows the first of them.
pub(crate) fn assert_none(differences: &[String], cases: usize, source: &str) {
    assert!(
        differences.is_empty(),
        "{} differences in {cases} cases of {source}:\n{}",
        differences.len(),
        differences[..differences.len().min(20)].join("\n")
    );
}

#[test]
fn equals_python_dateutil() {
    let (path, text) = read_cases();
    let compared = compare(&text, &Bundled::new());
    assert!(compared.answered > 0, "{path} has no cases");
    assert_none(&compared.differences, compared.answered, &path);
}

/// The rrule crate walks and has its gaps, but decides calendar rules by its own code.
#[test]
fn the_rrule_crate_agrees_on_calendar_rules() {
    let zones = Bundled::new();
    let mut compared = 0;
    for line in read_cases().1.lines() {
        let case: Value = serde_json::from_str(line).expect("a case per line");
        let rule = case["rrule"].as_str().expect("a rule");
        let on_calendar = ["YEARLY", "MONTHLY", "WEEKLY", "DAILY"]
            .iter()
            .any(|freq| rule.contains(freq));
        if !on_calendar || case["verdict"] != "ok" || case["first"].as_array().is_none_or(|first| first.len() < 8) {
            continue;
        }
        let dates = |name: &str, key: &str| -> String {
            instants(&case[key])
                .iter()
                .map(|at| format!("\n{name}:{}", basic(*at)))
                .collect()
        };
        let start = basic(instant(&case["dtstart"]));
        let text = format!(
            "DTSTART:{start}\nRRULE:{rule}{}{}",
            dates("RDATE", "rdate"),
            dates("EXDATE", "exdate")
        );
        // It refuses ordinals below -4 and BYEASTER.
        let Ok(theirs) = text.parse::<rrule::RRuleSet>() else {
            continue;
        };
        let expected: Vec<i64> = theirs
            .all(8)
            .dates
            .into_iter()
            .map(|at| at.timestamp_millis())
            .collect();
        let recurrence = Recurrence::compile(&schedule(&case), "", &zones).unwrap_or_else(|error| panic!("{error}"));
        let found: Vec<i64> = after(&recurrence, Timestamp::MIN, 8)
            .into_iter()
            .map(|at| at.as_millis())
            .collect();
        assert_eq!(found, expected, "{text}");
        compared += 1;
    }
    assert!(compared > 1000, "{compared} rules compared");
}

/// Writes an instant as iCalendar does.
fn basic(at: Timestamp) -> String {
    at.to_string().replace(".000", "").replace(['-', ':'], "")
}
