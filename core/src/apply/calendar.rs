//! `SetCalendar` and `DeleteCalendar`. What a change means for occurrences is decided when they are due: no cursor moves here.

use super::ctx::{Ctx, Stop};
use crate::calendar::{Calendar, CalendarSpec, too_many};
use crate::codec::Kind;
use crate::command::{Fault, Reject, Reply};
use crate::limits;
use crate::tables::{Key, Table, View, decode_label_task};
use crate::task::Bounds;

pub(super) fn set<V: View>(
    ctx: &mut Ctx<'_, V>,
    (namespace, name): (&str, &str),
    spec: &CalendarSpec,
    generation: Option<u64>,
) -> Result<Reply, Stop> {
    let old = ctx.calendar(namespace, name)?;
    refuse_changed(name, old.as_ref(), generation)?;
    if old.is_none() {
        count(ctx, namespace, 1)?;
    }
    let calendar = Calendar {
        spec: spec.clone(),
        generation: next_generation(ctx),
        changed_at: ctx.now(),
    };
    ctx.put(&Key::Calendar(namespace, name), Kind::Calendar, &calendar);
    Ok(Reply::Calendar {
        generation: calendar.generation,
    })
}

pub(super) fn delete<V: View>(
    ctx: &mut Ctx<'_, V>,
    namespace: &str,
    name: &str,
    generation: Option<u64>,
) -> Result<Reply, Stop> {
    let Some(old) = ctx.calendar(namespace, name)? else {
        return Err(Reject::NotFound {
            what: format!("calendar {name:?} in namespace {namespace:?}"),
        }
        .into());
    };
    refuse_changed(name, Some(&old), generation)?;
    refuse_used(ctx, namespace, name)?;
    ctx.delete(&Key::Calendar(namespace, name));
    count(ctx, namespace, -1)?;
    next_generation(ctx);
    Ok(Reply::Done)
}

/// Every change has a number of its own: an item of `Fire` that was planned before it is refused.
fn next_generation<V: View>(ctx: &mut Ctx<'_, V>) -> u64 {
    ctx.meta.calendar_generation += 1;
    ctx.meta.calendar_generation
}

fn refuse_changed(name: &str, old: Option<&Calendar>, expected: Option<u64>) -> Result<(), Reject> {
    let actual = old.map_or(0, |old| old.generation);
    match expected {
        Some(expected) if expected != actual => Err(Reject::Changed {
            what: format!("calendar {name:?}"),
            expected,
            actual,
        }),
        _ => Ok(()),
    }
}

fn refuse_used<V: View>(ctx: &Ctx<'_, V>, namespace: &str, name: &str) -> Result<(), Stop> {
    let (from, to) = Key::calendar_uses(namespace, name);
    let most = limits::CALENDAR_USERS_NAMED_MAX;
    let users = ctx.staged.scan(Table::Calendars, &from, &to, most + 1)?;
    if users.is_empty() {
        return Ok(());
    }
    let ids = users
        .iter()
        .take(most)
        .map(|(key, _)| decode_label_task(key).map(|id| id.to_string()));
    let ids: Option<Vec<String>> = ids.collect();
    let ids = ids.ok_or_else(|| Fault::Inconsistent("key of a calendar's user".into()))?;
    let others = if users.len() > most { " and others" } else { "" };
    Err(Reject::WrongState {
        what: format!("calendar {name:?}"),
        state: format!("in use by task {}{others}", ids.join(", ")),
        expected: "dequeue them, or set the calendar without days and intervals".into(),
    }
    .into())
}

/// Counts a calendar more or less.
fn count<V: View>(ctx: &mut Ctx<'_, V>, namespace: &str, change: i64) -> Result<(), Stop> {
    let key = Key::CalendarCount(namespace);
    let before: u64 = ctx.get(&key, Kind::CalendarCount)?.unwrap_or(0);
    if change > 0 && (before >= limits::CALENDARS_MAX || ctx.meta.calendars >= limits::CALENDARS_TOTAL_MAX) {
        return Err(Reject::Invalid {
            field: "name".into(),
            problem: too_many(before >= limits::CALENDARS_MAX),
        }
        .into());
    }
    let after = before.saturating_add_signed(change);
    ctx.meta.calendars = ctx.meta.calendars.saturating_add_signed(change);
    if after == 0 {
        ctx.delete(&key);
    } else {
        ctx.put(&key, Kind::CalendarCount, &after);
    }
    Ok(())
}

impl<V: View> Ctx<'_, V> {
    fn calendar(&self, namespace: &str, name: &str) -> Result<Option<Calendar>, Fault> {
        self.get(&Key::Calendar(namespace, name), Kind::Calendar)
    }

    /// Refuses a task that names a calendar which does not exist.
    pub(super) fn require_calendars(&self, namespace: &str, bounds: &Bounds) -> Result<(), Stop> {
        for name in &bounds.calendars {
            if self.calendar(namespace, name)?.is_none() {
                let problem = format!(
                    "there is no calendar {name:?} in namespace {namespace:?}; make it first, \
                     for example: schedcli calendar set {name} --day 2027-01-01"
                );
                return Err(Reject::Invalid {
                    field: "bounds.calendars".into(),
                    problem,
                }
                .into());
            }
        }
        Ok(())
    }
}
