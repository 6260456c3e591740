//! The calendars of tasks, looked up in the tables and compiled with this machine's zone data.

use crate::recurrences::guarded;
use crate::state;
use sched_core::apply::read_record;
use sched_core::calendar::{Calendar, CalendarSpec, Calendars, ClosedTimes};
use sched_core::codec::Kind;
use sched_core::command::Fault;
use sched_core::schedule::Zones;
use sched_core::tables::{Key, View};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Compiled calendars kept: some tens of KiB each at most.
const KEPT_MAX: usize = 512;

/// Compiled calendars, for as long as none changes.
#[derive(Debug, Default)]
pub(crate) struct Compiled {
    /// The newest change of any calendar when these were read.
    generation: u64,
    kept: BTreeMap<(String, String), Arc<ClosedTimes>>,
}

impl Compiled {
    /// Returns the calendars of a task, in the order in which it names them.
    pub(crate) fn of(
        &mut self,
        view: &impl View,
        zones: &dyn Zones,
        namespace: &str,
        names: &[String],
    ) -> Result<Calendars, Fault> {
        if names.is_empty() {
            return Ok(Calendars::default());
        }
        let generation = state::meta(view)?.calendar_generation;
        if generation != self.generation || self.kept.len() + names.len() > KEPT_MAX {
            self.kept.clear();
            self.generation = generation;
        }
        let mut named = Vec::with_capacity(names.len());
        for name in names {
            let key = (namespace.to_owned(), name.clone());
            let closed = match self.kept.get(&key) {
                Some(closed) => closed.clone(),
                None => {
                    let closed = Arc::new(compiled(view, zones, namespace, name)?);
                    self.kept.insert(key, closed.clone());
                    closed
                }
            };
            named.push((name.clone(), closed));
        }
        Ok(Calendars::new(named, generation))
    }
}

/// A calendar that does not exist closes nothing: only a task that has no occurrence left can name one.
fn compiled(view: &impl View, zones: &dyn Zones, namespace: &str, name: &str) -> Result<ClosedTimes, Fault> {
    let calendar: Option<Calendar> = read_record(view, &Key::Calendar(namespace, name), Kind::Calendar)?;
    let Some(Calendar { spec, .. }) = calendar else {
        return Ok(ClosedTimes::default());
    };
    if let Some(Ok(closed)) = guarded(|| ClosedTimes::compile(&spec, zones)) {
        return Ok(closed);
    }
    // The zone was known where the calendar was accepted. A day that is hours off is better than no holidays, or than no runs.
    tracing::error!(calendar = name, zone = %spec.zone, "the zone of a calendar is not known here, its days are taken as UTC");
    let utc = CalendarSpec {
        zone: "UTC".to_owned(),
        ..spec
    };
    Ok(guarded(|| ClosedTimes::compile(&utc, zones))
        .and_then(Result::ok)
        .unwrap_or_default())
}
