//! Verbs on calendars.

use super::{Cluster, each};
use crate::args::calendar::{CalendarName, CalendarVerb, Change, Delete, Import, Set};
use crate::error::CliError;
use crate::ics::{self, FILE_BYTES_MAX};
use crate::view::calendar::{self as view, CalendarHandle, CalendarSummary, CalendarView};
use crate::{output, when};
use jiff::civil::Date;
use jiff::tz::TimeZone;
use sched_core::calendar::{CalendarSpec, Interval};
use sched_core::schedule::Zones as _;
use sched_core::validate;
use std::io::Read as _;

/// How far repeated events are written out unless the command says so.
const HORIZON_MS: i64 = 2 * 366 * 86_400_000;
/// Days that one range may name: more than a calendar can hold, so that nothing giant is made first.
const RANGE_DAYS_MAX: i32 = 10_000;

pub(super) async fn calendar(cluster: &Cluster, verb: &CalendarVerb) -> Result<(), CliError> {
    match verb {
        CalendarVerb::Set(args) => set(cluster, args).await,
        CalendarVerb::Import(args) => import(cluster, args).await,
        CalendarVerb::Get(args) => get(cluster, args).await,
        CalendarVerb::List(_) => list(cluster).await,
        CalendarVerb::Delete(args) => delete(cluster, args).await,
    }
}

/// Zones and the one that the flags name.
fn zone(zones: &when::SystemZones, tz: Option<&str>) -> Result<(String, TimeZone), CliError> {
    let name = tz.unwrap_or("UTC");
    let zone = zones.zone(name).ok_or_else(|| {
        CliError::Usage(format!(
            "--tz: {name:?} is no known time zone; expected an IANA name such as Europe/Zurich"
        ))
    })?;
    Ok((name.to_owned(), zone))
}

async fn set(cluster: &Cluster, args: &Set) -> Result<(), CliError> {
    let (name, zone) = zone(&when::SystemZones::open(), args.change.tz.as_deref())?;
    let (mut days, mut intervals) = (Vec::new(), Vec::new());
    for text in &args.day {
        days.extend(days_of(text)?);
    }
    for text in &args.interval {
        intervals.push(interval(text, &zone)?);
    }
    let spec = CalendarSpec::new(args.change.description.clone(), name, days, intervals);
    send(cluster, &args.name, &spec, &args.change).await
}

fn days_of(text: &str) -> Result<std::ops::RangeInclusive<i32>, CliError> {
    let problem = |what: &str| CliError::Usage(format!("--day: {text:?} {what}"));
    let day = |text: &str| text.trim().parse::<Date>().ok().map(ics::days_since_epoch);
    let (first, last) = text.split_once("..").unwrap_or((text, text));
    let (Some(first), Some(last)) = (day(first), day(last)) else {
        return Err(problem(
            "is no day; expected for example 2027-01-01, or 2027-12-24..2027-12-26",
        ));
    };
    if first > last {
        return Err(problem(
            "ends before it begins; expected for example 2027-12-24..2027-12-26",
        ));
    }
    if last - first >= RANGE_DAYS_MAX {
        return Err(problem(
            "is longer than a calendar may be; expected for example 2027-12-24..2027-12-26",
        ));
    }
    Ok(first..=last)
}

fn interval(text: &str, zone: &TimeZone) -> Result<Interval, CliError> {
    let problem = |what: &str| {
        CliError::Usage(format!(
            "--interval: {text:?} {what}; expected for example 2027-03-01T18:00:00Z/2027-03-02T06:00:00Z"
        ))
    };
    let (from, to) = text.split_once('/').ok_or_else(|| problem("is not FROM/TO"))?;
    let instant = |text: &str| when::instant(text, zone).map_err(|what| problem(&format!("does not read: {what}")));
    let (from, to) = (instant(from)?, instant(to)?);
    if from >= to {
        return Err(problem("ends before it begins"));
    }
    Ok(Interval { from, to })
}

async fn import(cluster: &Cluster, args: &Import) -> Result<(), CliError> {
    let zones = when::SystemZones::open();
    let (name, zone) = zone(&zones, args.change.tz.as_deref())?;
    let until = match &args.until {
        Some(text) => when::instant(text, &zone).map_err(|what| CliError::Usage(format!("--until: {what}")))?,
        None => when::now().plus_millis(HORIZON_MS),
    };
    let (file, text) = read(&args.file)?;
    let events = ics::read(&text, &zones, (&name, &zone), until)
        .map_err(|problem| CliError::Usage(format!("{file}, {problem}")))?;
    let count = events.count;
    let spec = CalendarSpec::new(args.change.description.clone(), name, events.days, events.intervals);
    send(cluster, &args.name, &spec, &args.change).await?;
    output::hint(&format!("{count} events, written out up to {until}"));
    Ok(())
}

fn read(file: &std::path::Path) -> Result<(String, String), CliError> {
    let is_stdin = file.as_os_str() == "-";
    let name = if is_stdin {
        "standard input".to_owned()
    } else {
        file.display().to_string()
    };
    let problem = |what: String| CliError::Usage(format!("{name}: {what}"));
    let source: Box<dyn std::io::Read> = if is_stdin {
        Box::new(std::io::stdin())
    } else {
        Box::new(std::fs::File::open(file).map_err(|error| problem(error.to_string()))?)
    };
    let mut bytes = Vec::new();
    let bounded = source.take(FILE_BYTES_MAX as u64 + 1).read_to_end(&mut bytes);
    bounded.map_err(|error| problem(error.to_string()))?;
    if bytes.len() > FILE_BYTES_MAX {
        return Err(problem(format!(
            "is larger than {FILE_BYTES_MAX} bytes; split it into several calendars"
        )));
    }
    let text = String::from_utf8(bytes).map_err(|error| problem(format!("is not UTF-8: {error}")))?;
    Ok((name, text))
}

async fn send(cluster: &Cluster, name: &str, spec: &CalendarSpec, change: &Change) -> Result<(), CliError> {
    let refused = |reject: sched_core::Reject| CliError::Usage(reject.to_string());
    validate::name("name", name).map_err(refused)?;
    validate::calendar(spec).map_err(refused)?;
    let namespace = cluster.global.namespace();
    let generation = cluster
        .client
        .set_calendar(namespace, name, spec, change.generation)
        .await?;
    let handle = CalendarHandle {
        name: name.to_owned(),
        generation,
        days: spec.days.len(),
        intervals: spec.intervals.len(),
    };
    output::data(cluster.global.output, &handle, view::handle)
}

async fn get(cluster: &Cluster, args: &CalendarName) -> Result<(), CliError> {
    let reply = cluster.client.calendar(cluster.global.namespace(), &args.name).await?;
    let calendar = CalendarView::new(&args.name, reply);
    output::data(cluster.global.output, &calendar, view::calendar)
}

async fn list(cluster: &Cluster) -> Result<(), CliError> {
    let calendars = cluster.client.calendars(cluster.global.namespace()).await?;
    let calendars: Vec<_> = calendars.into_iter().map(CalendarSummary::from).collect();
    output::data(cluster.global.output, &calendars, |calendars| view::list(calendars))
}

async fn delete(cluster: &Cluster, args: &Delete) -> Result<(), CliError> {
    let (client, namespace) = (&cluster.client, cluster.global.namespace());
    let names = args.names.iter().map(|name| (name.as_str(), name.as_str()));
    let one = |name: &str| {
        let name = name.to_owned();
        async move { client.delete_calendar(namespace, &name, args.generation).await }
    };
    let (_, outcome) = each(names, one).await;
    outcome
}
