//! Who hears of a task's runs: addresses that can be reached, and not too many.

use super::action::shortened;
use super::{invalid, mail_address};
use crate::command::Reject;
use crate::limits;
use crate::task::{Notify, NotifyTo};

/// Checks an address to send requests to.
pub(super) fn http_url(field: &str, url: &str) -> Result<(), Reject> {
    let rest = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"));
    let has_host = rest.is_some_and(|rest| !rest.is_empty() && !rest.starts_with(['/', '?', '#']));
    if !has_host || url.chars().any(|c| c.is_control() || c == ' ') {
        let text = shortened(url);
        return Err(invalid(
            field,
            format!(
                "{text:?} is not an absolute http or https address; expected one, for example https://example.org/hook"
            ),
        ));
    }
    Ok(())
}

pub(super) fn notify(notify: &[Notify]) -> Result<(), Reject> {
    let most = limits::NOTIFY_MAX;
    if notify.len() > most {
        return Err(invalid(
            "policy.notify",
            format!(
                "{} given, at most {most}; for more receivers name one that passes it on, for example a list: \
                 failure=mailto:ops@example.org",
                notify.len()
            ),
        ));
    }
    notify.iter().try_for_each(|notify| match &notify.to {
        NotifyTo::Mail { to } => mail_address("policy.notify", to),
        NotifyTo::Webhook { url } => webhook(url),
    })
}

fn webhook(url: &str) -> Result<(), Reject> {
    let most = limits::NOTIFY_URL_BYTES_MAX;
    if url.len() > most {
        let (text, size) = (shortened(url), url.len());
        return Err(invalid(
            "policy.notify",
            format!("{text:?} has {size} bytes, at most {most}; expected an address like https://example.org/hook"),
        ));
    }
    http_url("policy.notify", url)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::NotifyOn;

    fn to(url: &str) -> Notify {
        Notify {
            on: NotifyOn::End,
            to: NotifyTo::Webhook { url: url.into() },
        }
    }

    #[test]
    fn a_refusal_names_field_value_and_example() {
        let long = format!("https://x/{}", "a".repeat(limits::NOTIFY_URL_BYTES_MAX));
        for (given, value) in [
            (vec![to("https://x"); 5], "5 given"),
            (vec![to("ftp://x")], "\"ftp://x\""),
            (vec![to("https://")], "\"https://\""),
            (vec![to("https://a b")], "\"https://a b\""),
            (vec![to(&long)], "1034 bytes"),
        ] {
            let told = notify(&given).unwrap_err().to_string();
            assert!(told.starts_with("policy.notify: ") && told.contains(value), "{told}");
            assert!(told.contains("example.org"), "{told}");
        }
        assert_eq!(notify(&vec![to("https://x"); 4]), Ok(()));
    }
}
