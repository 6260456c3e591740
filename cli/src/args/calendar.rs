//! `calendar` and its verbs.

use crate::input::whole;
use clap::{Args, Subcommand};
use std::path::PathBuf;

#[derive(Args, Debug)]
#[command(arg_required_else_help = true)]
pub(crate) struct CalendarArgs {
    #[command(subcommand)]
    pub(crate) verb: CalendarVerb,
}

#[derive(Subcommand, Debug)]
pub(crate) enum CalendarVerb {
    /// Create a calendar, or replace all of it
    Set(Set),
    /// Create or replace a calendar from an iCalendar file
    Import(Import),
    /// Show a calendar
    Get(CalendarName),
    /// List the calendars of a namespace
    List(ListCalendars),
    /// Delete calendars that no task uses
    Delete(Delete),
}

/// One calendar.
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  schedcli calendar get holidays")]
pub(crate) struct CalendarName {
    /// The calendar
    #[arg(value_name = "NAME")]
    pub(crate) name: String,
}

/// What goes with any change of a calendar.
#[derive(Args, Debug)]
pub(crate) struct Change {
    /// Zone of days and local times, by its IANA name [default: UTC]
    #[arg(long, value_name = "Z")]
    pub(crate) tz: Option<String>,
    /// For people
    #[arg(long, value_name = "S", default_value = "", hide_default_value = true)]
    pub(crate) description: String,
    /// Refuse unless the calendar is at this generation; 0 for one that must not exist
    #[arg(long, value_name = "N", value_parser = whole::<u64>)]
    pub(crate) generation: Option<u64>,
}

#[derive(Args, Debug)]
#[command(after_help = "Without days and intervals the calendar closes nothing.\n\n\
                  Examples:\n  \
                  schedcli calendar set holidays --tz Europe/Zurich --day 2027-01-01 --day 2027-12-24..2027-12-26\n  \
                  schedcli calendar set freeze --interval 2027-03-01T18:00/2027-03-02T06:00 --tz Europe/Zurich")]
pub(crate) struct Set {
    /// Its name
    #[arg(value_name = "NAME")]
    pub(crate) name: String,
    /// A whole local day, or the days from one to another, both included; may be repeated
    #[arg(long, value_name = "DAY[..DAY]")]
    pub(crate) day: Vec<String>,
    /// A stretch of time from one instant to another, the end not included; may be repeated
    #[arg(long, value_name = "T/T")]
    pub(crate) interval: Vec<String>,
    #[command(flatten)]
    pub(crate) change: Change,
}

#[derive(Args, Debug)]
#[command(
    after_help = "Every event closes its time: all-day events whole days, others from DTSTART to DTEND or for DURATION. Repeated events \
                  are written out as far as --until. What is not understood is refused with its line.\n\n\
                  Example:\n  schedcli calendar import holidays public-holidays.ics --tz Europe/Zurich --until 2029-12-31"
)]
pub(crate) struct Import {
    /// Its name
    #[arg(value_name = "NAME")]
    pub(crate) name: String,
    /// The iCalendar file, - for standard input
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// Write repeated events out up to this instant [default: two years from now]
    #[arg(long, value_name = "T")]
    pub(crate) until: Option<String>,
    #[command(flatten)]
    pub(crate) change: Change,
}

#[derive(Args, Debug)]
#[command(after_help = "Example:\n  schedcli calendar list")]
pub(crate) struct ListCalendars {}

#[derive(Args, Debug)]
#[command(after_help = "Example:\n  schedcli calendar delete holidays")]
pub(crate) struct Delete {
    /// The calendars
    #[arg(value_name = "NAME", required = true)]
    pub(crate) names: Vec<String>,
    /// Refuse unless the calendar is at this generation
    #[arg(long, value_name = "N", value_parser = whole::<u64>)]
    pub(crate) generation: Option<u64>,
}
