//! Instants as people write them, and the zones to read them in.

use jiff::civil::DateTime;
use jiff::tz::{TimeZone, TimeZoneDatabase};
use sched_core::Timestamp;
use sched_core::schedule::Zones;
use std::path::Path;
use std::time::SystemTime;

/// Where systems keep compiled zone data.
const FOLDERS: [&str; 3] = ["/usr/share/zoneinfo", "/usr/lib/zoneinfo", "/etc/zoneinfo"];

/// Zone data of this machine, with an embedded copy as fallback.
#[derive(Debug)]
pub(crate) struct SystemZones {
    system: Option<TimeZoneDatabase>,
    embedded: TimeZoneDatabase,
}

impl SystemZones {
    /// Opens the system's data, where there is any.
    pub(crate) fn open() -> Self {
        let open = |folder: &&str| TimeZoneDatabase::from_dir(Path::new(folder)).ok();
        let usable = |db: &TimeZoneDatabase| !db.is_definitively_empty();
        Self {
            system: FOLDERS.iter().filter_map(open).find(usable),
            embedded: TimeZoneDatabase::bundled(),
        }
    }
}

impl Zones for SystemZones {
    fn zone(&self, name: &str) -> Option<TimeZone> {
        // UTC needs no data, and works when there is none.
        if name.eq_ignore_ascii_case("UTC") {
            return Some(TimeZone::UTC);
        }
        let system = self.system.as_ref().and_then(|db| db.get(name).ok());
        system.or_else(|| self.embedded.get(name).ok())
    }
}

/// Reads RFC 3339 with an offset, or a date with or without a time in `zone`.
///
/// A local time in a gap moves behind it, one that occurs twice is the first: as schedules do.
pub(crate) fn instant(text: &str, zone: &TimeZone) -> Result<Timestamp, String> {
    let trimmed = text.trim();
    let at = match trimmed.parse::<jiff::Timestamp>() {
        Ok(at) => at.as_millisecond(),
        Err(_) => {
            let local: DateTime = trimmed.parse().map_err(|_| not_an_instant(text))?;
            let zoned = zone
                .to_ambiguous_zoned(local)
                .compatible()
                .map_err(|_| not_an_instant(text))?;
            zoned.timestamp().as_millisecond()
        }
    };
    let instant = Timestamp::from_millis(at);
    if instant.as_millis() == at {
        Ok(instant)
    } else {
        Err(format!("{text:?} is outside the years 1 to 9999"))
    }
}

fn not_an_instant(text: &str) -> String {
    let shown: String = text.chars().take(60).collect();
    format!(
        "{shown:?} is no instant; expected RFC 3339 such as 2027-03-01T09:00:00Z, or a local 2027-03-01T09:00 with a zone"
    )
}

/// Returns this machine's time.
pub(crate) fn now() -> Timestamp {
    let since_epoch = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    Timestamp::from_millis(i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_are_read_in_their_zone() {
        let zones = SystemZones::open();
        let zurich = zones.zone("Europe/Zurich").expect("embedded");
        for (text, expected) in [
            ("2027-03-01T09:00:00Z", "2027-03-01T09:00:00.000Z"),
            ("2027-03-01T09:00:00.5+02:00", "2027-03-01T07:00:00.500Z"),
            ("2027-03-01T09:00", "2027-03-01T08:00:00.000Z"),
            ("2027-07-01 09:00:30", "2027-07-01T07:00:30.000Z"),
            ("2027-07-01", "2027-06-30T22:00:00.000Z"),
            // In the gap of the last Sunday of March, and in the fold of the last of October.
            ("2027-03-28T02:30", "2027-03-28T01:30:00.000Z"),
            ("2027-10-31T02:30", "2027-10-31T00:30:00.000Z"),
        ] {
            assert_eq!(instant(text, &zurich).expect(text).to_string(), expected, "{text}");
        }
    }

    #[test]
    fn what_is_no_instant_is_refused_with_an_example() {
        for text in [
            "",
            "tomorrow",
            "2027-02-30T00:00",
            "2027-03-01T25:00:00Z",
            "12:00",
            "1700000000",
        ] {
            let problem = instant(text, &TimeZone::UTC).expect_err(text);
            assert!(problem.contains("2027-03-01T09:00:00Z"), "{problem}");
        }
    }

    #[test]
    fn zones_are_known_and_nonsense_is_not() {
        let zones = SystemZones::open();
        for name in ["UTC", "utc", "Europe/Zurich", "America/New_York"] {
            assert!(zones.zone(name).is_some(), "{name}");
        }
        for name in ["", "Mars/Olympus", "../../etc/passwd", "Europe/Zurich\0"] {
            assert!(zones.zone(name).is_none(), "{name:?}");
        }
    }
}
