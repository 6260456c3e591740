//! Calendars: set and deleted on the leader, read anywhere.

use super::changes::{change, other_call, wire};
use super::errors;
use super::reads::barrier;
use crate::leader::room;
use crate::shared::{OrStop, Shared};
use sched_core::apply::{decode_record, read_record};
use sched_core::calendar::{Calendar, ClosedTimes};
use sched_core::codec::Kind;
use sched_core::command::{Command, Reject};
use sched_core::limits::CALENDARS_MAX;
use sched_core::tables::{Key, Table, View, decode_calendar, decode_label_task};
use sched_core::validate;
use sched_proto::convert::{from_wire, to_wire};
use sched_proto::v1::{
    DeleteCalendarReply, DeleteCalendarRequest, GetCalendarReply, GetCalendarRequest, ListCalendarsReply,
    ListCalendarsRequest, SetCalendarReply, SetCalendarRequest,
};
use tonic::Status;

/// Users of a calendar that are named.
const USERS_MAX: usize = 100;

pub(super) async fn set(shared: &Shared, call: SetCalendarRequest) -> Result<SetCalendarReply, Status> {
    wire(room::check(shared))?;
    let key = wire(from_wire::request_key(call.request))?;
    let (namespace, name) = wire(from_wire::calendar_name(call.namespace, call.name))?;
    let calendar = wire(from_wire::calendar(call.calendar))?;
    wire(validate::calendar(&calendar))?;
    wire(
        ClosedTimes::compile(&calendar, &*shared.zones).map_err(|e| Reject::Invalid {
            field: "calendar.zone".into(),
            problem: e.to_string(),
        }),
    )?;
    let command = Command::SetCalendar {
        namespace,
        name,
        calendar: Box::new(calendar),
        generation: call.generation,
    };
    let reply = change(shared, key, command).await?;
    to_wire::set_calendar_reply(&reply).ok_or_else(other_call)
}

pub(super) async fn delete(shared: &Shared, call: DeleteCalendarRequest) -> Result<DeleteCalendarReply, Status> {
    let key = wire(from_wire::request_key(call.request))?;
    let (namespace, name) = wire(from_wire::calendar_name(call.namespace, call.name))?;
    let command = Command::DeleteCalendar {
        namespace,
        name,
        generation: call.generation,
    };
    change(shared, key, command).await?;
    Ok(DeleteCalendarReply {})
}

pub(super) async fn get(shared: &Shared, call: GetCalendarRequest) -> Result<GetCalendarReply, Status> {
    let (namespace, name) = wire(from_wire::calendar_name(call.namespace, call.name))?;
    barrier(shared).await?;
    let view = shared.replica.view();
    let key = Key::Calendar(&namespace, &name);
    let found: Option<Calendar> = read_record(&view, &key, Kind::Calendar).or_stop();
    let calendar = found.ok_or_else(|| errors::not_found(format!("calendar {name:?} in namespace {namespace:?}")))?;
    let (from, to) = Key::calendar_uses(&namespace, &name);
    let users = view.scan(Table::Calendars, &from, &to, USERS_MAX).or_stop();
    Ok(GetCalendarReply {
        calendar: Some(to_wire::calendar(&calendar.spec)),
        generation: calendar.generation,
        changed_at_unix_ms: calendar.changed_at.as_millis(),
        used_by: users
            .iter()
            .filter_map(|(key, _)| decode_label_task(key))
            .map(|id| id.0)
            .collect(),
    })
}

pub(super) async fn list(shared: &Shared, call: ListCalendarsRequest) -> Result<ListCalendarsReply, Status> {
    // The name only stands where one must.
    let (namespace, _) = wire(from_wire::calendar_name(call.namespace, "any".to_owned()))?;
    barrier(shared).await?;
    let view = shared.replica.view();
    let (from, to) = Key::calendars_of(&namespace);
    let most = usize::try_from(CALENDARS_MAX).unwrap_or(usize::MAX);
    let mut calendars = Vec::new();
    for (key, value) in view.scan(Table::Calendars, &from, &to, most).or_stop() {
        let calendar: Calendar = decode_record(Table::Calendars, &key, Kind::Calendar, &value).or_stop();
        let (_, name) = decode_calendar(&key).unwrap_or_default();
        calendars.push(to_wire::calendar_summary(name, &calendar));
    }
    Ok(ListCalendarsReply { calendars })
}
