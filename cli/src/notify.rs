//! `EVENT=TO`, as people write who hears of a task's runs.

use sched_core::task::{Notify, NotifyOn, NotifyTo};

/// Reads one; nothing when it is none. Whether the address is one is looked at with the rest of the task.
pub(crate) fn read(text: &str) -> Option<Notify> {
    let (event, to) = text.split_once('=')?;
    let (event, to) = (event.trim(), to.trim());
    let on = NotifyOn::ALL.into_iter().find(|on| on.as_str() == event)?;
    let to = match to.strip_prefix("mailto:") {
        Some(address) => NotifyTo::Mail { to: address.to_owned() },
        None if to.contains("://") => NotifyTo::Webhook { url: to.to_owned() },
        None => return None,
    };
    Some(Notify { on, to })
}

/// Says what is wrong with what [`read`] did not take.
pub(crate) fn expected(text: &str) -> String {
    let events = NotifyOn::ALL.map(NotifyOn::as_str).join(", ");
    format!(
        "{text:?} is not EVENT=TO; expected one of {events} and an address, for example failure=https://example.org/hook \
         or end=mailto:ann@example.org"
    )
}

/// Writes one as [`read`] reads it.
pub(crate) fn write(notify: &Notify) -> String {
    let event = notify.on.as_str();
    match &notify.to {
        NotifyTo::Webhook { url } => format!("{event}={url}"),
        NotifyTo::Mail { to } => format!("{event}=mailto:{to}"),
    }
}
