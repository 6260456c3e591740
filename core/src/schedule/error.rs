//! Why a schedule is refused.

/// A schedule that is refused, before anything is stored.
///
/// Each message says what is wrong, where, and what would be accepted.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ScheduleError {
    /// A part of the schedule does not read as what it should be.
    #[error("{form}: {part} {value:?} is not valid: expected {expected}")]
    Invalid {
        /// Which form of schedule: `cron`, `rrule`, `every`, `duration`.
        form: &'static str,
        /// Which part of it, e.g. `BYMONTH` or `hour`.
        part: String,
        /// The value as given, shortened when it is long.
        value: String,
        /// What would be accepted, with an example.
        expected: String,
    },
    /// A part is missing.
    #[error("{form}: {part} is missing: expected {expected}")]
    Missing {
        /// Which form of schedule.
        form: &'static str,
        /// What is missing.
        part: &'static str,
        /// What would be accepted, with an example.
        expected: &'static str,
    },
    /// Parts that are fine by themselves do not go together.
    #[error("{form}: {what}: {instead}")]
    Contradiction {
        /// Which form of schedule.
        form: &'static str,
        /// Which parts contradict each other.
        what: String,
        /// What to write instead.
        instead: String,
    },
    /// A bound is exceeded.
    #[error("{form}: {what} is {size}, at most {most} are accepted")]
    TooBig {
        /// Which form of schedule.
        form: &'static str,
        /// What is too big, with its unit.
        what: &'static str,
        /// How big it is.
        size: u64,
        /// The bound.
        most: u64,
    },
    /// The zone is in no zone database of this node.
    #[error("time zone {zone:?} is not known: expected an IANA name such as \"UTC\" or \"Europe/Zurich\"")]
    UnknownZone {
        /// The name as given, shortened when it is long.
        zone: String,
    },
    /// The rule has no occurrence, now or ever.
    #[error("{form}: {rule:?} never occurs: {why}")]
    Impossible {
        /// Which form of schedule.
        form: &'static str,
        /// The rule as given, shortened when it is long.
        rule: String,
        /// Why, as far as it can be said.
        why: String,
    },
    /// No occurrence was found within the bounds of a search, or COUNT could not be counted within them.
    #[error("{form}: {rule:?} is too sparse or too large to evaluate: {why}")]
    TooCostly {
        /// Which form of schedule.
        form: &'static str,
        /// The rule as given, shortened when it is long.
        rule: String,
        /// Which bound was met, and what to write instead.
        why: String,
    },
}

/// Longest piece of the caller's text repeated in a message.
const QUOTED_CHARS_MAX: usize = 60;

/// Returns `text`, cut to what fits into a message.
pub(crate) fn quoted(text: &str) -> String {
    match text.char_indices().nth(QUOTED_CHARS_MAX) {
        Some((cut, _)) => format!("{}…", &text[..cut]),
        None => text.to_owned(),
    }
}

impl ScheduleError {
    /// A part that does not read as what it should be.
    pub(crate) fn invalid(
        form: &'static str,
        part: impl Into<String>,
        value: &str,
        expected: impl Into<String>,
    ) -> Self {
        Self::Invalid {
            form,
            part: part.into(),
            value: quoted(value),
            expected: expected.into(),
        }
    }
}
