//! Calendars as they are shown.

use super::{instant, lines};
use crate::ics::date_of;
use crate::table::Table;
use sched_client::v1;
use serde::Serialize;

/// A calendar after a change.
#[derive(Serialize, Debug)]
pub(crate) struct CalendarHandle {
    pub(crate) name: String,
    pub(crate) generation: u64,
    pub(crate) days: usize,
    pub(crate) intervals: usize,
}

/// Shows a calendar after a change.
pub(crate) fn handle(handle: &CalendarHandle) -> String {
    let mut table = Table::new(&["NAME", "GENERATION", "DAYS", "INTERVALS"]);
    table.row([
        handle.name.clone(),
        handle.generation.to_string(),
        handle.days.to_string(),
        handle.intervals.to_string(),
    ]);
    table.render()
}

/// A calendar with all there is to know.
#[derive(Serialize, Debug)]
pub(crate) struct CalendarView {
    name: String,
    generation: u64,
    description: String,
    tz: String,
    changed_at: String,
    days: Vec<String>,
    intervals: Vec<IntervalView>,
    /// Tasks; the first 100.
    used_by: Vec<u64>,
}

/// A stretch of time.
#[derive(Serialize, Debug)]
struct IntervalView {
    from: String,
    to: String,
}

impl CalendarView {
    pub(crate) fn new(name: &str, reply: v1::GetCalendarReply) -> Self {
        let calendar = reply.calendar.unwrap_or_default();
        Self {
            name: name.to_owned(),
            generation: reply.generation,
            description: calendar.description,
            tz: calendar.zone,
            changed_at: instant(reply.changed_at_unix_ms),
            days: calendar.days.iter().map(|day| date_of(*day)).collect(),
            intervals: calendar
                .intervals
                .iter()
                .map(|interval| IntervalView {
                    from: instant(interval.from_unix_ms),
                    to: instant(interval.to_unix_ms),
                })
                .collect(),
            used_by: reply.used_by,
        }
    }
}

/// Shows one calendar.
pub(crate) fn calendar(view: &CalendarView) -> String {
    let some = |text: &str| Some(text.to_owned());
    let users: Vec<String> = view.used_by.iter().map(u64::to_string).collect();
    let mut text = lines(&[
        ("name", some(&view.name)),
        ("description", some(&view.description)),
        ("tz", some(&view.tz)),
        ("generation", some(&view.generation.to_string())),
        ("changed", some(&view.changed_at)),
        ("used by", Some(users.join(" "))),
    ]);
    if view.days.is_empty() && view.intervals.is_empty() {
        return text;
    }
    let mut table = Table::new(&["FROM", "TO"]);
    for day in &view.days {
        table.row([day.clone(), "whole day".to_owned()]);
    }
    for interval in &view.intervals {
        table.row([interval.from.clone(), interval.to.clone()]);
    }
    text.push('\n');
    text.push_str(&table.render());
    text
}

/// A calendar in a list.
#[derive(Serialize, Debug)]
pub(crate) struct CalendarSummary {
    name: String,
    generation: u64,
    description: String,
    tz: String,
    changed_at: String,
    days: u32,
    intervals: u32,
}

impl From<v1::CalendarSummary> for CalendarSummary {
    fn from(summary: v1::CalendarSummary) -> Self {
        Self {
            name: summary.name,
            generation: summary.generation,
            description: summary.description,
            tz: summary.zone,
            changed_at: instant(summary.changed_at_unix_ms),
            days: summary.days,
            intervals: summary.intervals,
        }
    }
}

/// Lists calendars.
pub(crate) fn list(calendars: &[CalendarSummary]) -> String {
    let mut table = Table::new(&[
        "NAME",
        "GENERATION",
        "DAYS",
        "INTERVALS",
        "TZ",
        "CHANGED",
        "DESCRIPTION",
    ]);
    for calendar in calendars {
        table.row([
            calendar.name.clone(),
            calendar.generation.to_string(),
            calendar.days.to_string(),
            calendar.intervals.to_string(),
            calendar.tz.clone(),
            calendar.changed_at.clone(),
            calendar.description.clone(),
        ]);
    }
    table.render()
}
