//! The calls about calendars.

use super::Client;
use crate::error::ClientError;
use sched_core::calendar::CalendarSpec;
use sched_core::validate;
use sched_proto::convert::to_wire;
use sched_proto::v1;

impl Client {
    /// Creates or replaces a calendar; returns its generation. With `generation` only when it is at that one, 0 standing for a
    /// calendar that does not exist.
    ///
    /// # Errors
    ///
    /// When the calendar is not acceptable, it is at another generation, there are too many, or nobody answers.
    pub async fn set_calendar(
        &self,
        namespace: &str,
        name: &str,
        calendar: &CalendarSpec,
        generation: Option<u64>,
    ) -> Result<u64, ClientError> {
        validate::name("name", name)?;
        validate::calendar(calendar)?;
        let request = v1::SetCalendarRequest {
            request: self.fresh(),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            calendar: Some(to_wire::calendar(calendar)),
            generation,
        };
        let reply = call!(self, self.change(), set_calendar, request)?;
        Ok(reply.generation)
    }

    /// Deletes a calendar that no task uses.
    ///
    /// # Errors
    ///
    /// When there is no such calendar, it is at another generation, tasks use it, or nobody answers.
    pub async fn delete_calendar(
        &self,
        namespace: &str,
        name: &str,
        generation: Option<u64>,
    ) -> Result<(), ClientError> {
        let request = v1::DeleteCalendarRequest {
            request: self.fresh(),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            generation,
        };
        call!(self, self.change(), delete_calendar, request)?;
        Ok(())
    }

    /// Reads one calendar.
    ///
    /// # Errors
    ///
    /// When there is no such calendar, or nobody answers.
    pub async fn calendar(&self, namespace: &str, name: &str) -> Result<v1::GetCalendarReply, ClientError> {
        let (namespace, name) = (namespace.to_owned(), name.to_owned());
        call!(
            self,
            self.read(),
            get_calendar,
            v1::GetCalendarRequest { namespace, name }
        )
    }

    /// Lists the calendars of a namespace, by name.
    ///
    /// # Errors
    ///
    /// When nobody answers.
    pub async fn calendars(&self, namespace: &str) -> Result<Vec<v1::CalendarSummary>, ClientError> {
        let namespace = namespace.to_owned();
        let reply: v1::ListCalendarsReply = call!(
            self,
            self.read(),
            list_calendars,
            v1::ListCalendarsRequest { namespace }
        )?;
        Ok(reply.calendars)
    }
}
