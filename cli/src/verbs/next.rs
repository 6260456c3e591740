//! `next`: when a schedule occurs. Works here, without a cluster, with this machine's zone data.

use super::{builder, instant};
use crate::args::{Format, Next};
use crate::error::{CliError, REFUSED};
use crate::input::ScheduleInput;
use crate::{output, when};
use sched_core::schedule::{Next as Found, Recurrence};

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
    let mut after = match &args.after {
        Some(after) => instant("--after", after, args.tz.as_deref())?,
        None => builder.now,
    };
    let mut times = Vec::new();
    let mut gave_up = None;
    for _ in 0..args.count {
        match recurrence.next_after(after) {
            Found::At(at) => {
                times.push(at.to_string());
                after = at;
            }
            Found::Exhausted => break,
            Found::GaveUp { searched_until } => {
                gave_up = Some(searched_until);
                break;
            }
        }
    }
    output::data(format, &times, |times| {
        times.iter().map(|time| format!("{time}\n")).collect()
    })?;
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
