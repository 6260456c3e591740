//! The parts of a task as people write them: the same structures are flags of `enqueue` and fields of a task document.
//!
//! They hold text; [`build`](crate::build) turns it into a task and says what is wrong with it.

use clap::{Args, ValueEnum};
use serde::de::{self, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::ser::{SerializeMap as _, Serializer};
use serde::{Deserialize, Serialize};
use std::fmt;

/// When.
#[derive(Args, Serialize, Deserialize, Clone, PartialEq, Debug, Default)]
#[command(next_help_heading = "Schedule (one of them; none means now)")]
#[serde(default, deny_unknown_fields)]
pub(crate) struct ScheduleInput {
    /// Once, at an instant: RFC 3339, or a local time in --tz
    #[arg(long, value_name = "T")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) at: Option<String>,
    /// Once, after a delay: 500ms, 1s, 90m, 1h30m, 2d, PT5M
    #[arg(long = "in", value_name = "D")]
    #[serde(rename = "in", skip_serializing_if = "Option::is_none")]
    pub(crate) in_: Option<String>,
    /// At a fixed interval of absolute time, counted from --anchor
    #[arg(long, value_name = "D")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) every: Option<String>,
    /// The occurrence from which --every counts [default: 1970-01-01T00:00:00Z]
    #[arg(long, value_name = "T")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) anchor: Option<String>,
    /// By a cron expression: 5 or 6 fields, names, L W # H, @daily and friends
    #[arg(long, value_name = "E")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) cron: Option<String>,
    /// By an RFC 5545 rule; repeat the flag for several
    #[arg(long, value_name = "R")]
    #[serde(deserialize_with = "one_or_many", skip_serializing_if = "Vec::is_empty")]
    pub(crate) rrule: Vec<String>,
    /// Where the rules begin [default: when the task is accepted]
    #[arg(long, value_name = "T")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) dtstart: Option<String>,
    /// Add an instant to the rules; may be repeated
    #[arg(long, value_name = "T")]
    #[serde(deserialize_with = "one_or_many", skip_serializing_if = "Vec::is_empty")]
    pub(crate) rdate: Vec<String>,
    /// Take an instant out of the rules; may be repeated
    #[arg(long, value_name = "T")]
    #[serde(deserialize_with = "one_or_many", skip_serializing_if = "Vec::is_empty")]
    pub(crate) exdate: Vec<String>,
    /// Once, when these tasks have ended: ids or names, separated by commas
    #[arg(long, value_name = "ID|NAME,…", value_delimiter = ',')]
    #[serde(deserialize_with = "one_or_many", skip_serializing_if = "Vec::is_empty")]
    pub(crate) after: Vec<String>,
    /// How the tasks of --after must have ended [default: success]
    #[arg(long, value_enum, value_name = "END")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) on: Option<EndingWord>,
    /// No occurrence before this instant
    #[arg(long, value_name = "T")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) not_before: Option<String>,
    /// No occurrence after this instant
    #[arg(long, value_name = "T")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) until: Option<String>,
    /// The last start of a task that occurs once; after it, it fails
    #[arg(long, value_name = "T")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) expires: Option<String>,
    /// At most so many occurrences, whether they run or not
    #[arg(long, value_name = "N", value_parser = whole::<u64>)]
    #[serde(deserialize_with = "whole_number", skip_serializing_if = "Option::is_none")]
    pub(crate) count: Option<u64>,
    /// Put each occurrence off by less than this, always by the same, never past the next one
    #[arg(long, value_name = "D")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) jitter: Option<String>,
    /// Not in the times that this calendar closes (see `schedcli calendar`); may be repeated
    #[arg(id = "calendars", long = "calendar", value_name = "NAME")]
    #[serde(deserialize_with = "one_or_many", skip_serializing_if = "Vec::is_empty")]
    pub(crate) calendars: Vec<String>,
    /// Only when triggered by `schedcli run`
    #[arg(long)]
    #[serde(skip_serializing_if = "is_false")]
    pub(crate) manual: bool,
    /// Zone of cron, rules and local times, by its IANA name [default: UTC]
    #[arg(long, value_name = "Z")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tz: Option<String>,
    /// What a gap of the local clock does to a wall-clock occurrence
    #[arg(long, value_enum, value_name = "POLICY")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) dst: Option<DstWord>,
    /// Run so long before --at: a reminder of an event, which `schedcli move` moves with the event
    #[arg(long, value_name = "D")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) before: Option<String>,
}

/// See [`ScheduleInput::dst`].
#[derive(ValueEnum, Serialize, Deserialize, Clone, Copy, PartialEq, Eq, Debug)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum DstWord {
    /// Run at the first instant after the gap (default)
    Shift,
    /// Do not run
    Skip,
}

/// See [`ScheduleInput::on`].
#[derive(ValueEnum, Serialize, Deserialize, Clone, Copy, PartialEq, Eq, Debug)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum EndingWord {
    /// They finished (default)
    Success,
    /// They failed, were missed or cancelled
    Failure,
    /// Either
    Any,
}

/// What to do.
#[derive(Args, Serialize, Deserialize, Clone, PartialEq, Debug, Default)]
#[command(next_help_heading = "Action (one of -- CMD, --http, --mail-to, --queue, --sample)")]
#[serde(default, deny_unknown_fields)]
pub(crate) struct ActionInput {
    /// Program and arguments, started without a shell
    #[arg(last = true, value_name = "CMD ARG")]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) command: Vec<String>,
    /// Folder in which CMD runs, on the worker; a relative one counts from here [default: the worker's work folder]
    #[arg(long, value_name = "PATH")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) dir: Option<String>,
    /// Set an environment variable for CMD; may be repeated
    #[arg(long, value_name = "K=V", value_parser = pair)]
    #[serde(
        deserialize_with = "pairs",
        serialize_with = "pairs_as_map",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub(crate) env: Vec<(String, String)>,
    /// Text for CMD's standard input; @FILE reads it from a file here
    #[arg(long, value_name = "TEXT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) stdin: Option<String>,
    /// An exit code of CMD that counts as success; may be repeated [default: 0]
    #[arg(long, value_name = "N", allow_hyphen_values = true, value_parser = whole::<i32>)]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) success_code: Vec<i32>,
    /// User that CMD runs as, where the worker runs as root [default: the worker's own]
    #[arg(long, value_name = "NAME")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) user: Option<String>,
    /// Processor time that each process of CMD may use, in whole seconds [default: none]
    #[arg(long, value_name = "D")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) limit_cpu: Option<String>,
    /// Memory that each process of CMD may use: 512M, 2G, or bytes [default: none]
    #[arg(long, value_name = "SIZE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) limit_memory: Option<String>,
    /// Files that each process of CMD may have open [default: none]
    #[arg(long, value_name = "N", value_parser = whole::<u32>)]
    #[serde(deserialize_with = "whole_number", skip_serializing_if = "Option::is_none")]
    pub(crate) limit_files: Option<u32>,
    /// Send an HTTP request: "POST https://host/path", or the address alone for GET; redirects are not followed
    #[arg(long, value_name = "METHOD URL")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) http: Option<String>,
    /// A header of the request, "Name: value"; may be repeated
    #[arg(long, value_name = "H")]
    #[serde(deserialize_with = "one_or_many", skip_serializing_if = "Vec::is_empty")]
    pub(crate) header: Vec<String>,
    /// Body of the request; @FILE reads it from a file here
    #[arg(long, value_name = "TEXT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) body: Option<String>,
    /// A status that counts as success; may be repeated [default: 200 to 299]
    #[arg(long, value_name = "N", value_parser = whole::<u16>)]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) http_status: Vec<u16>,
    /// How long the whole exchange may take [default: 30s]
    #[arg(long, value_name = "D")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) http_timeout: Option<String>,
    /// A regular expression that the body of a successful answer must match somewhere: ok|done
    #[arg(long, value_name = "RE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) expect: Option<String>,
    /// A header that a successful answer must have, and a regular expression for its value: "Content-Type: json"; may be repeated
    #[arg(long, value_name = "H")]
    #[serde(deserialize_with = "one_or_many", skip_serializing_if = "Vec::is_empty")]
    pub(crate) expect_header: Vec<String>,
    /// Leave it to the remote workers that serve this queue
    #[arg(long, value_name = "Q")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) queue: Option<String>,
    /// What the remote worker gets: JSON, or @FILE for the bytes of a file here
    #[arg(long, value_name = "JSON")]
    #[serde(
        deserialize_with = "json_text",
        serialize_with = "json_value",
        skip_serializing_if = "Option::is_none"
    )]
    pub(crate) payload: Option<String>,
    /// Longest silence of the remote worker's handler: when it has not told its progress for so long, the attempt has failed [default: none]
    #[arg(long, value_name = "D")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) progress_timeout: Option<String>,
    /// Sleep MS milliseconds, then succeed or fail: ok, fail, ok,500
    #[arg(long, value_name = "ok|fail[,MS]")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) sample: Option<String>,
    #[command(flatten)]
    #[serde(skip_serializing_if = "MailInput::is_empty")]
    pub(crate) mail: MailInput,
}

/// A mail. Its fields have names of their own as flags, and stand under `mail` in a document.
#[derive(Args, Serialize, Deserialize, Clone, PartialEq, Debug, Default)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct MailInput {
    /// Send a mail to this address, through the relay of the worker's node; may be repeated. Sent at most once unless
    /// --delivery says otherwise
    #[arg(id = "mail_to", long = "mail-to", value_name = "A")]
    #[serde(deserialize_with = "one_or_many", skip_serializing_if = "Vec::is_empty")]
    pub(crate) to: Vec<String>,
    /// Send a copy of the mail to this address; may be repeated
    #[arg(id = "mail_cc", long = "mail-cc", value_name = "A")]
    #[serde(deserialize_with = "one_or_many", skip_serializing_if = "Vec::is_empty")]
    pub(crate) cc: Vec<String>,
    /// Sender of the mail [default: the worker's --smtp-from]
    #[arg(id = "mail_from", long = "mail-from", value_name = "A")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) from: Option<String>,
    /// Subject of the mail
    #[arg(id = "mail_subject", long = "subject", value_name = "S")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) subject: Option<String>,
    /// Text of the mail; @FILE reads it from a file here
    #[arg(id = "mail_text", long = "text", value_name = "TEXT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) text: Option<String>,
}

impl MailInput {
    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// How its runs are treated.
#[derive(Args, Serialize, Deserialize, Clone, PartialEq, Debug, Default)]
#[command(next_help_heading = "Policies (defaults as built in; a cluster may have others: schedcli config list)")]
#[serde(default, deny_unknown_fields)]
pub(crate) struct PolicyInput {
    /// An occurrence that comes due while a run of the task is alive [default: skip]
    #[arg(long, value_enum, value_name = "POLICY")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) overlap: Option<OverlapWord>,
    /// Occurrences missed within the grace: skip, latest, all:N [default: latest]
    #[arg(long, value_name = "POLICY")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) missed: Option<String>,
    /// Start runs of --missed all at least so far apart; without it one after the other
    #[arg(long, value_name = "D")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) catch_up_every: Option<String>,
    /// How late an occurrence may start [default: 1h]
    #[arg(long, value_name = "D")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) grace: Option<String>,
    /// Tries in all, the first included [default: 1]
    #[arg(long, value_name = "N", value_parser = whole::<u32>)]
    #[serde(deserialize_with = "whole_number", skip_serializing_if = "Option::is_none")]
    pub(crate) tries: Option<u32>,
    /// Delay before the second try [default: 10s]
    #[arg(long, value_name = "D")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) retry_delay: Option<String>,
    /// Each further delay is so many times the one before [default: 2]
    #[arg(long, value_name = "F", value_parser = factor)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) retry_factor: Option<f64>,
    /// No delay between tries is longer [default: 1h]
    #[arg(long, value_name = "D")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) retry_delay_max: Option<String>,
    /// How long a run may put itself off in all, by exit code 75 or Retry-After; then it fails [default: 1d]
    #[arg(long, value_name = "D")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) put_off_max: Option<String>,
    /// What an unknown outcome means [default: by action]
    #[arg(long, value_enum, value_name = "POLICY")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) delivery: Option<DeliveryWord>,
    /// Runs whose worker loses contact [default: kill; continue when at-most-once]
    #[arg(long, value_enum, value_name = "POLICY")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) on_disconnect: Option<OnDisconnectWord>,
    /// How long a LOST run keeps its place in overlap and group limits [default: 1h]
    #[arg(long, value_name = "D")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) lost_hold: Option<String>,
    /// Longest run; after it the whole process tree is killed; none says that there is no limit [default: none]
    #[arg(long, value_name = "D")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) time_limit: Option<String>,
    /// Among due runs higher first, then older: -100 to 100 [default: 0]
    #[arg(long, value_name = "N", allow_hyphen_values = true, value_parser = whole::<i8>)]
    #[serde(deserialize_with = "whole_number", skip_serializing_if = "Option::is_none")]
    pub(crate) priority: Option<i8>,
    /// At most LIMIT runs of the tasks of this group at once; the others wait
    #[arg(long, value_name = "NAME:LIMIT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) group: Option<String>,
    /// Only on workers with this label; may be repeated
    #[arg(long, value_name = "K=V", value_parser = pair)]
    #[serde(
        deserialize_with = "pairs",
        serialize_with = "pairs_as_map",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub(crate) require: Vec<(String, String)>,
    /// Rather on workers with this label; may be repeated
    #[arg(long, value_name = "K=V", value_parser = pair)]
    #[serde(
        deserialize_with = "pairs",
        serialize_with = "pairs_as_map",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub(crate) prefer: Vec<(String, String)>,
    /// Finished runs kept [default: 100]
    #[arg(long, value_name = "N", value_parser = whole::<u32>)]
    #[serde(deserialize_with = "whole_number", skip_serializing_if = "Option::is_none")]
    pub(crate) keep_finished: Option<u32>,
    /// Failed runs kept [default: 100]
    #[arg(long, value_name = "N", value_parser = whole::<u32>)]
    #[serde(deserialize_with = "whole_number", skip_serializing_if = "Option::is_none")]
    pub(crate) keep_failed: Option<u32>,
    /// Age at which ended runs go [default: 7d]
    #[arg(long, value_name = "D")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) keep_for: Option<String>,
    /// Age at which failed runs go [default: --keep-for]
    #[arg(long, value_name = "D")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) keep_failed_for: Option<String>,
    /// Tell somebody: failure=https://host/path, recovery=mailto:ann@example.org; also miss and end; may be repeated
    #[arg(long, value_name = "EVENT=TO")]
    #[serde(deserialize_with = "one_or_many", skip_serializing_if = "Vec::is_empty")]
    pub(crate) notify: Vec<String>,
}

/// See [`PolicyInput::overlap`].
#[derive(ValueEnum, Serialize, Deserialize, Clone, Copy, PartialEq, Eq, Debug)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum OverlapWord {
    /// Both run
    Allow,
    /// The new one is skipped
    Skip,
    /// One waits, further ones are skipped
    QueueOne,
    /// All wait, in order
    QueueAll,
    /// The running one is cancelled, the new one follows it
    Replace,
}

/// See [`PolicyInput::delivery`].
#[derive(ValueEnum, Serialize, Deserialize, Clone, Copy, PartialEq, Eq, Debug)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum DeliveryWord {
    /// Try again: two starts are better than none
    AtLeastOnce,
    /// Never start twice
    AtMostOnce,
}

/// See [`PolicyInput::on_disconnect`].
#[derive(ValueEnum, Serialize, Deserialize, Clone, Copy, PartialEq, Eq, Debug)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum OnDisconnectWord {
    /// Killed, so that they can run elsewhere
    Kill,
    /// They run on, and are reported when contact is back; only at-most-once
    Continue,
}

fn is_false(flag: &bool) -> bool {
    !flag
}

/// Reads `K=V`.
pub(crate) fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err(format!("{text:?} is not KEY=VALUE, for example gpu=yes")),
    }
}

fn not_whole(text: impl fmt::Display) -> String {
    format!("{text} is not a whole number within its bounds; expected for example 10")
}

/// Reads a whole number.
pub(crate) fn whole<T: std::str::FromStr>(text: &str) -> Result<T, String> {
    text.parse().map_err(|_| not_whole(format_args!("{text:?}")))
}

fn factor(text: &str) -> Result<f64, String> {
    text.parse()
        .map_err(|_| format!("{text:?} is not a number within 1 to 100; expected for example 1.5"))
}

/// Reads a whole number of a document.
fn whole_number<'de, D: Deserializer<'de>, T: TryFrom<i128>>(deserializer: D) -> Result<Option<T>, D::Error> {
    struct Whole<T>(std::marker::PhantomData<T>);
    impl<T: TryFrom<i128>> Visitor<'_> for Whole<T> {
        type Value = Option<T>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a whole number, for example 10")
        }

        fn visit_i64<E: de::Error>(self, number: i64) -> Result<Self::Value, E> {
            T::try_from(i128::from(number))
                .map(Some)
                .map_err(|_| E::custom(not_whole(number)))
        }

        fn visit_u64<E: de::Error>(self, number: u64) -> Result<Self::Value, E> {
            T::try_from(i128::from(number))
                .map(Some)
                .map_err(|_| E::custom(not_whole(number)))
        }

        fn visit_unit<E>(self) -> Result<Self::Value, E> {
            Ok(None)
        }
    }
    deserializer.deserialize_any(Whole(std::marker::PhantomData))
}

/// Reads a text, or a list of texts.
fn one_or_many<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    struct OneOrMany;
    impl<'de> Visitor<'de> for OneOrMany {
        type Value = Vec<String>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a text or a list of texts")
        }

        fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
            Ok(vec![text.to_owned()])
        }

        /// An id of a task.
        fn visit_u64<E: de::Error>(self, number: u64) -> Result<Self::Value, E> {
            Ok(vec![number.to_string()])
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
            let mut texts = Vec::new();
            while let Some(text) = list.next_element()? {
                texts.push(text);
            }
            Ok(texts)
        }
    }
    deserializer.deserialize_any(OneOrMany)
}

/// Reads any value, and keeps it as JSON text.
fn json_text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    Ok(Some(serde_json::Value::deserialize(deserializer)?.to_string()))
}

/// Writes JSON text as the value that it says.
fn json_value<S: Serializer>(text: &Option<String>, serializer: S) -> Result<S::Ok, S::Error> {
    let text = text.as_deref().unwrap_or("null");
    match serde_json::from_str::<serde_json::Value>(text) {
        Ok(value) => value.serialize(serializer),
        Err(_) => serializer.serialize_str(text),
    }
}

/// Reads a mapping in its own order; a key that comes twice is an error, not a surprise.
pub(crate) fn pairs<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<(String, String)>, D::Error> {
    struct Pairs;
    impl<'de> Visitor<'de> for Pairs {
        type Value = Vec<(String, String)>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a mapping of texts to texts")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut pairs: Vec<(String, String)> = Vec::new();
            while let Some((key, value)) = map.next_entry::<String, String>()? {
                if pairs.iter().any(|(other, _)| *other == key) {
                    return Err(de::Error::custom(format!("{key:?} stands here twice")));
                }
                pairs.push((key, value));
            }
            Ok(pairs)
        }
    }
    deserializer.deserialize_map(Pairs)
}

/// Writes a mapping.
pub(crate) fn pairs_as_map<S: Serializer>(pairs: &[(String, String)], serializer: S) -> Result<S::Ok, S::Error> {
    let mut map = serializer.serialize_map(Some(pairs.len()))?;
    for (key, value) in pairs {
        map.serialize_entry(key, value)?;
    }
    map.end()
}
