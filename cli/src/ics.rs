//! iCalendar (RFC 5545), as far as it says when something is: the times of events. What says anything else about time and is not
//! understood is refused with its line; what says nothing about time is passed over.

mod line;

#[cfg(test)]
mod tests;

use jiff::civil::{Date, DateTime, Time};
use jiff::tz::TimeZone;
use jiff::{Span, Unit};
use line::{Line, lines};
use sched_core::Timestamp;
use sched_core::calendar::Interval;
use sched_core::limits::CALENDAR_ENTRIES_MAX;
use sched_core::schedule::{DstPolicy, Next, Recurrence, Schedule, Zones};

/// Largest file, in bytes: some ten thousand events.
pub(crate) const FILE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Properties of an event that say nothing about when it is.
const TIMELESS: [&str; 24] = [
    "ATTACH",
    "ATTENDEE",
    "CATEGORIES",
    "CLASS",
    "COLOR",
    "COMMENT",
    "CONFERENCE",
    "CONTACT",
    "CREATED",
    "DESCRIPTION",
    "DTSTAMP",
    "GEO",
    "IMAGE",
    "LAST-MODIFIED",
    "LOCATION",
    "ORGANIZER",
    "PRIORITY",
    "RELATED-TO",
    "RESOURCES",
    "SEQUENCE",
    "SUMMARY",
    "TRANSP",
    "UID",
    "URL",
];

/// The times of a file's events.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Events {
    pub(crate) days: Vec<i32>,
    pub(crate) intervals: Vec<Interval>,
    /// How many events the file has.
    pub(crate) count: usize,
}

/// What events are read with.
struct Reader<'a> {
    zones: &'a dyn Zones,
    /// Of times that name none.
    zone: (&'a str, &'a TimeZone),
    until: Timestamp,
}

/// Reads the events of a file. Those that recur are written out up to `until`.
///
/// # Errors
/// Says in which line what is not understood.
pub(crate) fn read(text: &str, zones: &dyn Zones, zone: (&str, &TimeZone), until: Timestamp) -> Result<Events, String> {
    let reader = Reader { zones, zone, until };
    let mut events = Events::default();
    let mut open: Vec<(String, usize)> = Vec::new();
    let mut event = Event::default();
    for line in lines(text)? {
        match (line.name.as_str(), open.last().map(|(name, _)| name.as_str())) {
            ("BEGIN", inside) => {
                let component = line.value.to_ascii_uppercase();
                if !may_begin(inside, &component) {
                    let place = inside.map_or("at the top".to_owned(), |inside| format!("inside {inside}"));
                    let what = format!("BEGIN:{component} {place} is not understood; expected VCALENDAR with VEVENTs");
                    return Err(line.problem(what));
                }
                if component == "VEVENT" {
                    event = Event::default();
                    event.line = line.number;
                }
                open.push((component, line.number));
            }
            ("END", Some(inside)) if line.value.eq_ignore_ascii_case(inside) => {
                if inside == "VEVENT" {
                    reader.add(std::mem::take(&mut event), &mut events)?;
                }
                open.pop();
            }
            (_, None) => return Err(line.problem(format!("{} stands outside BEGIN:VCALENDAR", line.name))),
            ("END", Some(inside)) => return Err(line.problem(format!("END:{} inside {inside}", line.value))),
            (_, Some("VEVENT")) => event.take(line)?,
            // Of the calendar itself, of zones, whose data is the system's, and of alarms.
            _ => {}
        }
    }
    if let Some((component, number)) = open.pop() {
        return Err(format!("line {number}: {component} has no END; the file is cut off"));
    }
    if events.count == 0 {
        return Err("line 1: holds no VEVENT".to_owned());
    }
    Ok(events)
}

fn may_begin(inside: Option<&str>, component: &str) -> bool {
    match inside {
        None => component == "VCALENDAR",
        Some("VCALENDAR") => matches!(component, "VEVENT" | "VTIMEZONE"),
        Some("VTIMEZONE") => matches!(component, "STANDARD" | "DAYLIGHT"),
        Some("VEVENT") => component == "VALARM",
        Some(_) => false,
    }
}

/// What an event says about when it is.
#[derive(Default)]
struct Event {
    line: usize,
    start: Option<Line>,
    end: Option<Line>,
    duration: Option<Line>,
    rules: Vec<Line>,
    rdates: Vec<Line>,
    exdates: Vec<Line>,
    cancelled: bool,
}

impl Event {
    fn take(&mut self, line: Line) -> Result<(), String> {
        let once = |slot: &mut Option<Line>, line: Line| match slot {
            Some(first) => Err(line.problem(format!("{} stands in line {} already", line.name, first.number))),
            None => {
                *slot = Some(line);
                Ok(())
            }
        };
        match line.name.as_str() {
            "DTSTART" => once(&mut self.start, line),
            "DTEND" => once(&mut self.end, line),
            "DURATION" => once(&mut self.duration, line),
            "RRULE" => {
                self.rules.push(line);
                Ok(())
            }
            "RDATE" => {
                self.rdates.push(line);
                Ok(())
            }
            "EXDATE" => {
                self.exdates.push(line);
                Ok(())
            }
            "STATUS" => {
                self.cancelled = line.value.eq_ignore_ascii_case("CANCELLED");
                Ok(())
            }
            name if name.starts_with("X-") || TIMELESS.contains(&name) => Ok(()),
            name => {
                let what = format!("{name} is not understood; write the event without it, or leave the event out");
                Err(line.problem(what))
            }
        }
    }
}

/// A point in time as a file says it.
#[derive(Clone, Copy)]
enum Point {
    Day(Date),
    Instant(Timestamp),
}

impl Reader<'_> {
    fn add(&self, event: Event, events: &mut Events) -> Result<(), String> {
        events.count += 1;
        if event.cancelled {
            return Ok(());
        }
        let Some(start) = &event.start else {
            return Err(format!("line {}: the event has no DTSTART", event.line));
        };
        match self.point(start, &start.value)? {
            Point::Day(first) => self.add_days(&event, start, first, events),
            Point::Instant(first) => self.add_intervals(&event, start, first, events),
        }
    }

    fn add_days(&self, event: &Event, start: &Line, first: Date, events: &mut Events) -> Result<(), String> {
        let length = match (&event.end, &event.duration) {
            (Some(end), None) => match self.point(end, &end.value)? {
                Point::Day(end) => days_since_epoch(end) - days_since_epoch(first),
                Point::Instant(_) => return Err(end.problem("is a time, but DTSTART is a day".to_owned())),
            },
            (None, Some(duration)) => {
                let span = span(duration)?;
                let whole = span.get_weeks() * 7 + span.get_days();
                if span.fieldwise() != Span::new().days(span.get_days()).weeks(span.get_weeks()).fieldwise() {
                    let what = "is not a number of whole days, but DTSTART is a day; expected for example P1D";
                    return Err(duration.problem(what.to_owned()));
                }
                whole
            }
            (None, None) => 1,
            (Some(_), Some(duration)) => return Err(duration.problem("stands beside DTEND".to_owned())),
        };
        if length < 1 {
            let line = event.end.as_ref().or(event.duration.as_ref()).unwrap_or(start);
            return Err(line.problem("the event ends before it begins, or is empty".to_owned()));
        }
        let midnight = |date: Date| Timestamp::from_millis(i64::from(days_since_epoch(date)) * 86_400_000);
        for at in self.occurrences(event, start, midnight(first), "UTC")? {
            // An occurrence is a midnight in UTC, which stands for the day.
            let day = i32::try_from(at.as_millis().div_euclid(86_400_000)).unwrap_or(i32::MAX);
            if usize::try_from(length).unwrap_or(usize::MAX) + events.days.len() > CALENDAR_ENTRIES_MAX {
                return Err(self.too_many(start));
            }
            events.days.extend(day..day.saturating_add(length));
        }
        Ok(())
    }

    fn add_intervals(&self, event: &Event, start: &Line, first: Timestamp, events: &mut Events) -> Result<(), String> {
        let (name, zone) = self.zone_of(start)?;
        // With DTEND all have the same length; with DURATION a day is one of the local clock.
        let end_of: Box<dyn Fn(Timestamp) -> Option<Timestamp>> = match (&event.end, &event.duration) {
            (Some(end), None) => match self.point(end, &end.value)? {
                Point::Instant(end) => {
                    let length = end.millis_since(first);
                    Box::new(move |at| Some(at.plus_millis(length)))
                }
                Point::Day(_) => return Err(end.problem("is a day, but DTSTART is a time".to_owned())),
            },
            (None, Some(duration)) => {
                let span = span(duration)?;
                let zone = zone.clone();
                Box::new(move |at| {
                    let start = jiff::Timestamp::from_millisecond(at.as_millis()).ok()?;
                    let end = start.to_zoned(zone.clone()).checked_add(span).ok()?;
                    Some(Timestamp::from_millis(end.timestamp().as_millisecond()))
                })
            }
            (None, None) => {
                return Err(start.problem("the event has neither DTEND nor DURATION, so no length".to_owned()));
            }
            (Some(_), Some(duration)) => return Err(duration.problem("stands beside DTEND".to_owned())),
        };
        let ends = event.end.as_ref().or(event.duration.as_ref()).unwrap_or(start);
        for from in self.occurrences(event, start, first, &name)? {
            let to = end_of(from).filter(|to| *to > from);
            let to = to.ok_or_else(|| ends.problem("the event ends before it begins, or is empty".to_owned()))?;
            if events.intervals.len() >= CALENDAR_ENTRIES_MAX {
                return Err(self.too_many(start));
            }
            events.intervals.push(Interval { from, to });
        }
        Ok(())
    }

    fn too_many(&self, line: &Line) -> String {
        line.problem(format!(
            "with this event there are more than {CALENDAR_ENTRIES_MAX} days or intervals up to {}; \
             give an earlier --until, or split the file into several calendars",
            self.until
        ))
    }

    /// Returns when the event begins, each time. The first time counts whether the rules have it or not.
    fn occurrences(&self, event: &Event, start: &Line, first: Timestamp, zone: &str) -> Result<Vec<Timestamp>, String> {
        if event.rules.is_empty() && event.rdates.is_empty() {
            return Ok(vec![first]);
        }
        let mut rdates = self.dates(&event.rdates)?;
        rdates.push(first);
        let last_line = event.rules.last().or(event.rdates.last()).unwrap_or(start);
        // Dates alone need no rule: one that occurs once, at the start, stands for none.
        let none = "FREQ=DAILY;COUNT=1".to_owned();
        let rules: Vec<String> = match event.rules.is_empty() {
            true => vec![none],
            false => event.rules.iter().map(|line| line.value.clone()).collect(),
        };
        let schedule = Schedule::Rrule {
            rules,
            dtstart: first,
            rdates,
            exdates: self.dates(&event.exdates)?,
            zone: zone.to_owned(),
            dst: DstPolicy::Shift,
        };
        let recurrence =
            Recurrence::compile(&schedule, "", self.zones).map_err(|error| last_line.problem(error.to_string()))?;
        let mut found = Vec::new();
        let mut next = recurrence.next_after(first.plus_millis(-1));
        loop {
            match next {
                Next::At(at) if at <= self.until => {
                    if found.len() > CALENDAR_ENTRIES_MAX {
                        return Err(self.too_many(last_line));
                    }
                    found.push(at);
                    next = recurrence.next_after(at);
                }
                Next::GaveUp { searched_until } if searched_until < self.until => {
                    let what = format!("the rule is too sparse: nothing was found from there to {searched_until}");
                    return Err(last_line.problem(what));
                }
                _ => return Ok(found),
            }
        }
    }

    fn dates(&self, lines: &[Line]) -> Result<Vec<Timestamp>, String> {
        let mut dates = Vec::new();
        for line in lines {
            for text in line.value.split(',') {
                dates.push(match self.point(line, text)? {
                    Point::Instant(at) => at,
                    Point::Day(date) => Timestamp::from_millis(i64::from(days_since_epoch(date)) * 86_400_000),
                });
            }
        }
        Ok(dates)
    }

    /// Returns the zone of a line: the one it names, or the one of times that name none.
    fn zone_of(&self, line: &Line) -> Result<(String, TimeZone), String> {
        if line.value.ends_with('Z') {
            return Ok(("UTC".to_owned(), TimeZone::UTC));
        }
        match line.parameter("TZID") {
            None => Ok((self.zone.0.to_owned(), self.zone.1.clone())),
            Some(name) => match self.zones.zone(name) {
                Some(zone) => Ok((name.to_owned(), zone)),
                None => {
                    let what = format!("TZID {name:?} is no IANA name; expected for example Europe/Zurich");
                    Err(line.problem(what))
                }
            },
        }
    }

    fn point(&self, line: &Line, text: &str) -> Result<Point, String> {
        let kind = line.parameter("VALUE").unwrap_or("DATE-TIME").to_ascii_uppercase();
        match kind.as_str() {
            "DATE" => match date(text) {
                Some(date) => Ok(Point::Day(date)),
                None => Err(line.problem(format!("{text:?} is no date; expected for example 20270101"))),
            },
            "DATE-TIME" => {
                let bad = || line.problem(format!("{text:?} is no time; expected for example 20270101T090000Z"));
                let (local, is_utc) = match text.strip_suffix('Z') {
                    Some(local) => (local, true),
                    None => (text, false),
                };
                let local = date_time(local).ok_or_else(bad)?;
                let zone = if is_utc { TimeZone::UTC } else { self.zone_of(line)?.1 };
                let zoned = zone.to_ambiguous_zoned(local).compatible().map_err(|_| bad())?;
                Ok(Point::Instant(Timestamp::from_millis(
                    zoned.timestamp().as_millisecond(),
                )))
            }
            kind => Err(line.problem(format!("VALUE={kind} is not understood; expected DATE or DATE-TIME"))),
        }
    }
}

fn digits<T: std::str::FromStr>(text: &str, from: usize, to: usize) -> Option<T> {
    let part = text.get(from..to)?;
    if !part.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    part.parse().ok()
}

fn date(text: &str) -> Option<Date> {
    if text.len() != 8 {
        return None;
    }
    // The calendar of this product begins with the year 1.
    let year: i16 = digits(text, 0, 4).filter(|year| *year > 0)?;
    Date::new(year, digits(text, 4, 6)?, digits(text, 6, 8)?).ok()
}

fn date_time(text: &str) -> Option<DateTime> {
    let (day, time) = text.split_once('T')?;
    if time.len() != 6 {
        return None;
    }
    // A leap second is the second before it.
    let second: i8 = digits(time, 4, 6)?;
    let time = Time::new(
        digits(time, 0, 2)?,
        digits(time, 2, 4)?,
        second.min(if second == 60 { 59 } else { second }),
        0,
    );
    Some(DateTime::from_parts(date(day)?, time.ok()?))
}

/// Reads a duration of weeks, days, hours, minutes and seconds.
fn span(line: &Line) -> Result<Span, String> {
    let bad = || {
        line.problem(format!(
            "{:?} is no duration; expected for example P1D or PT2H30M",
            line.value
        ))
    };
    // Other forms, which `Span` reads too, are not of this format.
    let span: Span = line.value.parse().map_err(|_| bad())?;
    if !line.value.starts_with('P') || span.is_negative() || span.get_years() != 0 || span.get_months() != 0 {
        return Err(bad());
    }
    Ok(span)
}

/// Returns the number of a day, counted from 1970-01-01.
pub(crate) fn days_since_epoch(date: Date) -> i32 {
    let epoch = jiff::civil::date(1970, 1, 1);
    // Both are within jiff's calendar, so that the difference is.
    date.since((Unit::Day, epoch)).map(|span| span.get_days()).unwrap_or(0)
}

/// Writes the day with this number.
pub(crate) fn date_of(day: i32) -> String {
    let epoch = jiff::civil::date(1970, 1, 1);
    match epoch.checked_add(Span::new().try_days(day).unwrap_or_default()) {
        Ok(date) => date.to_string(),
        Err(_) => format!("{day} days after 1970-01-01"),
    }
}
