//! `next`: when a schedule occurs. Works here, without a cluster, with this machine's zone data.

use super::{builder, instant};
use crate::args::{Format, Next};
use crate::error::{CliError, REFUSED};
use crate::input::ScheduleInput;
use crate::{output, when};
use sched_core::Timestamp;
use sched_core::schedule::{Clock, Next as Found, Recurrence, Schedule, explain};
use serde::Serialize;

/// How far ahead changes of the local clock are told.
const CHANGES_MS: i64 = 2 * 366 * 86_400_000;

/// What `--explain` prints.
#[derive(Serialize)]
struct Explained {
    /// What the schedule means.
    meaning: String,
    /// What changes of the local clock do in general: `untouched`, `wall` or `absolute`.
    clock: &'static str,
    times: Vec<String>,
    clock_changes: Vec<Change>,
}

/// A change of the local clock that touches the schedule.
#[derive(Serialize)]
struct Change {
    at: String,
    /// `gap` or `fold`.
    kind: &'static str,
    runs_at: Option<String>,
    text: String,
}

pub(super) fn next(format: Format, args: &Next) -> Result<(), CliError> {
    let input = ScheduleInput {
        every: args.every.clone(),
        anchor: args.anchor.clone(),
        cron: args.cron.clone(),
        rrule: args.rrule.clone(),
        dtstart: args.dtstart.clone(),
        rdate: args.rdate.clone(),
        exdate: args.exdate.clone(),
        tz: args.tz.clone(),
        dst: args.dst,
        ..ScheduleInput::default()
    };
    let zones = when::SystemZones::open();
    let builder = builder(&zones, std::path::Path::new(""), "default");
    let usage = |what: String| CliError::Usage(what);
    let schedule = builder
        .schedule(&input, &args.name)
        .map_err(|problem| usage(problem.to_string()))?
        .schedule;
    let recurrence = Recurrence::compile(&schedule, &args.name, &zones).map_err(|error| usage(error.to_string()))?;
    let after = match &args.after {
        Some(after) => instant("--after", after, args.tz.as_deref())?,
        None => builder.now,
    };
    let (times, gave_up) = occurrences(&recurrence, after, args.count);
    if args.explain {
        let meaning = explain(&schedule, &args.name, &zones).map_err(|error| usage(error.to_string()))?;
        let explained = explained(&schedule, &recurrence, after, meaning, times.clone());
        output::data(format, &explained, Explained::table)?;
    } else {
        output::data(format, &times, |times| lines(times))?;
    }
    match gave_up {
        Some(until) => {
            output::talk(&format!(
                "schedcli: no further occurrence was found up to {until}; there may be one later"
            ));
            Err(CliError::Said(REFUSED))
        }
        None if times.is_empty() => {
            output::talk(&format!("schedcli: {schedule} does not occur after {after}"));
            Ok(())
        }
        None => Ok(()),
    }
}

/// Returns the first occurrences, and up to where there is none when the search gave up.
fn occurrences(recurrence: &Recurrence, after: Timestamp, most: u32) -> (Vec<String>, Option<Timestamp>) {
    let mut after = after;
    let mut times = Vec::new();
    for _ in 0..most {
        match recurrence.next_after(after) {
            Found::At(at) => {
                times.push(at.to_string());
                after = at;
            }
            Found::Exhausted => break,
            Found::GaveUp { searched_until } => return (times, Some(searched_until)),
        }
    }
    (times, None)
}

fn explained(
    schedule: &Schedule,
    recurrence: &Recurrence,
    after: Timestamp,
    meaning: String,
    times: Vec<String>,
) -> Explained {
    let zone = match schedule {
        Schedule::Cron { zone, .. } | Schedule::Rrule { zone, .. } => zone.as_str(),
        _ => "UTC",
    };
    let until = after.plus_millis(CHANGES_MS);
    let changes = recurrence.clock_changes(after, until, zone).into_iter();
    Explained {
        meaning,
        clock: match recurrence.clock(after, until) {
            Clock::Untouched => "untouched",
            Clock::Wall => "wall",
            Clock::Absolute => "absolute",
        },
        times,
        clock_changes: changes
            .map(|change| Change {
                at: change.at.to_string(),
                kind: if change.gap { "gap" } else { "fold" },
                runs_at: change.runs_at.map(|at| at.to_string()),
                text: change.text,
            })
            .collect(),
    }
}

fn lines(lines: &[String]) -> String {
    lines.iter().map(|line| format!("{line}\n")).collect()
}

impl Explained {
    fn table(&self) -> String {
        let note = match self.clock {
            "absolute" => {
                "absolute time: runs in both passes of an hour that the clock repeats, and not in one it leaves out\n"
            }
            _ => "",
        };
        let changes: Vec<String> = self.clock_changes.iter().map(|change| change.text.clone()).collect();
        format!("{}\n{}{}{note}", self.meaning, lines(&self.times), lines(&changes))
    }
}
