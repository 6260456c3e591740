//! From what people wrote to a task: every field read, every contradiction named by the field it stands in.

mod policy;

use crate::input::{ActionInput, DstWord, EndingWord, MailInput, ScheduleInput};
use crate::when;
use jiff::tz::TimeZone;
use sched_core::schedule::{DstPolicy, Recurrence, Schedule, Zones, parse_duration};
use sched_core::task::{Action, Bounds, Ending, Jitter, ProcessLimits, TaskRef};
use sched_core::{TaskId, Timestamp};
use sched_proto::convert::from_wire::next_whole_second;
use sched_proto::limits::HTTP_TIMEOUT_MS_DEFAULT;
use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

/// What is wrong, and in which field or flag.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Problem {
    pub(crate) field: String,
    pub(crate) what: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.what)
    }
}

/// Where the input stands, so that a problem can name it as its writer does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Origin {
    /// Flags of the command line.
    Flags,
    /// A task document.
    Document,
}

impl Origin {
    /// Returns how a field is called there.
    pub(crate) fn name(self, part: &str, field: &str) -> String {
        match self {
            Origin::Flags if field == "command" => "CMD".to_owned(),
            Origin::Flags if field == "calendars" => "--calendar".to_owned(),
            Origin::Flags if field == "mail_subject" || field == "mail_text" => field.replace("mail_", "--"),
            Origin::Flags => format!("--{}", field.replace('_', "-")),
            Origin::Document => format!("{part}.{}", field.replace("mail_", "mail.")),
        }
    }
}

/// What the fields are read with.
pub(crate) struct Builder<'a> {
    pub(crate) origin: Origin,
    pub(crate) zones: &'a dyn Zones,
    /// Stands for a dtstart that is absent.
    pub(crate) now: Timestamp,
    /// Relative folders count from here.
    pub(crate) folder: &'a Path,
    /// Of the names of other tasks.
    pub(crate) namespace: &'a str,
}

/// Forms of a schedule that stand in a field; without any, it is `now`.
pub(crate) const FORMS: [&str; 7] = ["at", "in", "every", "cron", "rrule", "manual", "after"];

/// Returns the forms that a field makes sense with; nothing for a form itself.
pub(crate) fn forms_of(field: &str) -> Option<&'static [&'static str]> {
    Some(match field {
        "anchor" => &["every"],
        "dtstart" | "rdate" | "exdate" => &["rrule"],
        "on" => &["after"],
        "not_before" | "until" | "count" | "jitter" => &["every", "cron", "rrule"],
        "calendars" => &["at", "in", "every", "cron", "rrule"],
        "expires" => &["at", "in", "after", "now"],
        "tz" => &["cron", "rrule", "at", "every"],
        "dst" => &["cron", "rrule"],
        "before" => &["at"],
        _ => return None,
    })
}

/// A schedule, and whether its dtstart is only a stand-in for the moment of acceptance.
pub(crate) struct BuiltSchedule {
    pub(crate) schedule: Schedule,
    pub(crate) starts_when_accepted: bool,
}

impl Builder<'_> {
    fn problem(&self, part: &str, field: &str, what: impl Into<String>) -> Problem {
        Problem {
            field: self.origin.name(part, field),
            what: what.into(),
        }
    }

    fn duration(&self, part: &str, field: &str, text: &str) -> Result<u64, Problem> {
        parse_duration(text).map_err(|error| self.problem(part, field, error.to_string()))
    }

    fn instant(&self, field: &str, text: &str, zone: &TimeZone) -> Result<Timestamp, Problem> {
        when::instant(text, zone).map_err(|what| self.problem("schedule", field, what))
    }

    fn instants(&self, field: &str, texts: &[String], zone: &TimeZone) -> Result<Vec<Timestamp>, Problem> {
        texts.iter().map(|text| self.instant(field, text, zone)).collect()
    }

    /// Reads a schedule and compiles it, so that what can never occur is found here.
    pub(crate) fn schedule(&self, input: &ScheduleInput, hash_key: &str) -> Result<BuiltSchedule, Problem> {
        let form = self.form(input)?;
        self.check_companions(input, form)?;
        let zone = self.zone(input)?;
        let name = input.tz.clone().unwrap_or_else(|| "UTC".to_owned());
        let dst = match input.dst {
            Some(DstWord::Skip) => DstPolicy::Skip,
            Some(DstWord::Shift) | None => DstPolicy::Shift,
        };
        let text = |value: &Option<String>| value.clone().unwrap_or_default();
        let schedule = match form {
            "at" => self.at(input, &text(&input.at), &zone)?,
            "in" => Schedule::In {
                delay_ms: self.duration("schedule", "in", &text(&input.in_))?,
            },
            "every" => Schedule::Every {
                every_ms: self.duration("schedule", "every", &text(&input.every))?,
                anchor: match &input.anchor {
                    Some(anchor) => self.instant("anchor", anchor, &zone)?,
                    None => Timestamp::EPOCH,
                },
            },
            "cron" => Schedule::Cron {
                expr: text(&input.cron),
                zone: name,
                dst,
            },
            "rrule" => Schedule::Rrule {
                rules: input.rrule.clone(),
                dtstart: match &input.dtstart {
                    Some(dtstart) => self.instant("dtstart", dtstart, &zone)?,
                    None => next_whole_second(self.now),
                },
                rdates: self.instants("rdate", &input.rdate, &zone)?,
                exdates: self.instants("exdate", &input.exdate, &zone)?,
                zone: name,
                dst,
            },
            "manual" => Schedule::Manual,
            "after" => self.after(input)?,
            _ => Schedule::Now,
        };
        Recurrence::compile(&schedule, hash_key, self.zones)
            .map_err(|error| self.problem("schedule", form, error.to_string()))?;
        Ok(BuiltSchedule {
            schedule,
            starts_when_accepted: form == "rrule" && input.dtstart.is_none(),
        })
    }

    fn at(&self, input: &ScheduleInput, at: &str, zone: &TimeZone) -> Result<Schedule, Problem> {
        let at = self.instant("at", at, zone)?;
        match &input.before {
            None => Ok(Schedule::At(at)),
            Some(before) => Ok(Schedule::Before {
                event: at,
                before_ms: self.duration("schedule", "before", before)?,
            }),
        }
    }

    /// Returns the one form that is given.
    fn form(&self, input: &ScheduleInput) -> Result<&'static str, Problem> {
        let given = [
            ("at", input.at.is_some()),
            ("in", input.in_.is_some()),
            ("every", input.every.is_some()),
            ("cron", input.cron.is_some()),
            ("rrule", !input.rrule.is_empty()),
            ("manual", input.manual),
            ("after", !input.after.is_empty()),
        ];
        let mut forms = given.iter().filter(|(_, is_given)| *is_given).map(|(form, _)| *form);
        match (forms.next(), forms.next()) {
            (None, _) => Ok("now"),
            (Some(form), None) => Ok(form),
            (Some(first), Some(second)) => {
                let other = self.origin.name("schedule", first);
                Err(self.problem(
                    "schedule",
                    second,
                    format!("{other} is given too; a task has one schedule"),
                ))
            }
        }
    }

    /// Refuses what would be silently ignored.
    fn check_companions(&self, input: &ScheduleInput, form: &str) -> Result<(), Problem> {
        let given = [
            ("anchor", input.anchor.is_some()),
            ("dtstart", input.dtstart.is_some()),
            ("rdate", !input.rdate.is_empty()),
            ("exdate", !input.exdate.is_empty()),
            ("on", input.on.is_some()),
            ("not_before", input.not_before.is_some()),
            ("until", input.until.is_some()),
            ("count", input.count.is_some()),
            ("jitter", input.jitter.is_some()),
            ("calendars", !input.calendars.is_empty()),
            ("expires", input.expires.is_some()),
            ("tz", input.tz.is_some()),
            ("dst", input.dst.is_some()),
            ("before", input.before.is_some()),
        ];
        let companions = given
            .into_iter()
            .map(|(field, is_given)| (field, is_given, forms_of(field).unwrap_or_default()));
        for (field, is_given, forms) in companions {
            if is_given && !forms.contains(&form) {
                let named = forms.iter().filter(|form| **form != "now");
                let names: Vec<_> = named.map(|form| self.origin.name("schedule", form)).collect();
                let what = format!("means something only together with {}", names.join(" or "));
                return Err(self.problem("schedule", field, what));
            }
        }
        Ok(())
    }

    fn after(&self, input: &ScheduleInput) -> Result<Schedule, Problem> {
        let parent = |text: &String| match text.trim() {
            "" => {
                let what = "names no task; expected ids or names separated by commas, for example 42,nightly";
                Err(self.problem("schedule", "after", what))
            }
            text => Ok(match text.parse() {
                Ok(id) => TaskRef::Id(TaskId(id)),
                Err(_) => TaskRef::Name {
                    namespace: self.namespace.to_owned(),
                    name: text.to_owned(),
                },
            }),
        };
        Ok(Schedule::After {
            parents: input.after.iter().map(parent).collect::<Result<_, _>>()?,
            on: match input.on {
                None | Some(EndingWord::Success) => Ending::Success,
                Some(EndingWord::Failure) => Ending::Failure,
                Some(EndingWord::Any) => Ending::Any,
            },
        })
    }

    /// Reads what the schedule is cut down to.
    pub(crate) fn bounds(&self, input: &ScheduleInput) -> Result<Bounds, Problem> {
        let zone = self.zone(input)?;
        let instant =
            |field: &str, text: &Option<String>| text.as_ref().map(|text| self.instant(field, text, &zone)).transpose();
        Ok(Bounds {
            not_before: instant("not_before", &input.not_before)?,
            until: instant("until", &input.until)?,
            expires: instant("expires", &input.expires)?,
            count: input.count,
            calendars: input.calendars.clone(),
            jitter: match &input.jitter {
                Some(text) => Some(Jitter {
                    ms: self.duration("schedule", "jitter", text)?,
                    seed: 0,
                }),
                None => None,
            },
        })
    }

    fn zone(&self, input: &ScheduleInput) -> Result<TimeZone, Problem> {
        match &input.tz {
            None => Ok(TimeZone::UTC),
            Some(name) => self.zones.zone(name).ok_or_else(|| {
                let what = format!("{name:?} is no known time zone; expected an IANA name such as Europe/Zurich");
                self.problem("schedule", "tz", what)
            }),
        }
    }

    /// Reads an action.
    pub(crate) fn action(&self, input: &ActionInput) -> Result<Action, Problem> {
        let kind = self.kind(input)?;
        self.check_kind(input, kind)?;
        match kind {
            "command" => self.command(input),
            "http" => self.http(input),
            "mail_to" => self.mail(&input.mail),
            "queue" => self.worker(input),
            _ => self.sample(input.sample.as_deref().unwrap_or_default()),
        }
    }

    fn kind(&self, input: &ActionInput) -> Result<&'static str, Problem> {
        let given = [
            ("command", !input.command.is_empty()),
            ("http", input.http.is_some()),
            // A document says `mail`, whatever is in it; of flags, those beside --mail-to mean nothing without it.
            (
                "mail_to",
                !input.mail.to.is_empty() || self.origin == Origin::Document && !input.mail.is_empty(),
            ),
            ("queue", input.queue.is_some()),
            ("sample", input.sample.is_some()),
        ];
        let mut kinds = given.iter().filter(|(_, is_given)| *is_given).map(|(kind, _)| *kind);
        match (kinds.next(), kinds.next()) {
            (Some(kind), None) => Ok(kind),
            (None, _) => Err(Problem {
                field: "action".to_owned(),
                what: "is missing; expected one of command, http, mail, queue, sample".to_owned(),
            }),
            (Some(first), Some(second)) => {
                let other = self.origin.name("action", first);
                Err(self.problem("action", second, format!("{other} is given too; a task has one action")))
            }
        }
    }

    /// Refuses what would be silently ignored.
    fn check_kind(&self, input: &ActionInput, kind: &str) -> Result<(), Problem> {
        let companions = [
            ("dir", input.dir.is_some(), "command"),
            ("env", !input.env.is_empty(), "command"),
            ("stdin", input.stdin.is_some(), "command"),
            ("success_code", !input.success_code.is_empty(), "command"),
            ("user", input.user.is_some(), "command"),
            ("limit_cpu", input.limit_cpu.is_some(), "command"),
            ("limit_memory", input.limit_memory.is_some(), "command"),
            ("limit_files", input.limit_files.is_some(), "command"),
            ("header", !input.header.is_empty(), "http"),
            ("body", input.body.is_some(), "http"),
            ("http_status", !input.http_status.is_empty(), "http"),
            ("http_timeout", input.http_timeout.is_some(), "http"),
            ("expect", input.expect.is_some(), "http"),
            ("expect_header", !input.expect_header.is_empty(), "http"),
            ("mail_cc", !input.mail.cc.is_empty(), "mail_to"),
            ("mail_from", input.mail.from.is_some(), "mail_to"),
            ("mail_subject", input.mail.subject.is_some(), "mail_to"),
            ("mail_text", input.mail.text.is_some(), "mail_to"),
            ("payload", input.payload.is_some(), "queue"),
            ("progress_timeout", input.progress_timeout.is_some(), "queue"),
        ];
        match companions.iter().find(|(_, is_given, of)| *is_given && *of != kind) {
            Some((field, _, of)) => {
                let what = format!("means something only together with {}", self.origin.name("action", of));
                Err(self.problem("action", field, what))
            }
            None => Ok(()),
        }
    }

    fn command(&self, input: &ActionInput) -> Result<Action, Problem> {
        let mut env = BTreeMap::new();
        for (key, value) in &input.env {
            if env.insert(key.clone(), value.clone()).is_some() {
                return Err(self.problem("action", "env", format!("{key:?} is given twice")));
            }
        }
        Ok(Action::Command {
            argv: input.command.clone(),
            env,
            dir: input.dir.as_deref().map(|dir| self.absolute(dir)).transpose()?,
            stdin: self.content("stdin", input.stdin.as_deref())?,
            success_codes: input.success_code.clone(),
            user: input.user.clone(),
            limits: ProcessLimits {
                cpu_s: input.limit_cpu.as_deref().map(|text| self.cpu_time(text)).transpose()?,
                memory_bytes: input.limit_memory.as_deref().map(|text| self.size(text)).transpose()?,
                files: input.limit_files,
            },
        })
    }

    /// The system counts whole seconds.
    fn cpu_time(&self, text: &str) -> Result<u64, Problem> {
        let ms = self.duration("action", "limit_cpu", text)?;
        if ms == 0 || ms % 1000 != 0 {
            let what = format!("{text:?} is not a number of whole seconds; expected for example 90s");
            return Err(self.problem("action", "limit_cpu", what));
        }
        Ok(ms / 1000)
    }

    /// Reads bytes, with K, M, G or T for powers of 1024.
    fn size(&self, text: &str) -> Result<u64, Problem> {
        let (digits, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
        let shift = match unit {
            "" => Some(0),
            "K" | "KiB" => Some(10),
            "M" | "MiB" => Some(20),
            "G" | "GiB" => Some(30),
            "T" | "TiB" => Some(40),
            _ => None,
        };
        let bytes = shift.and_then(|shift| digits.parse::<u64>().ok()?.checked_mul(1 << shift));
        bytes.ok_or_else(|| {
            let what = format!("{text:?} is not a size; expected for example 512M or 2G");
            self.problem("action", "limit_memory", what)
        })
    }

    /// Returns a folder as the worker needs it. A relative one is the caller's: it has a meaning only where the worker sees the same
    /// files, so it is used only when it is asked for (`--dir .`).
    fn absolute(&self, dir: &str) -> Result<String, Problem> {
        let mut path = std::path::PathBuf::new();
        for part in self.folder.join(dir).components() {
            match part {
                std::path::Component::CurDir => {}
                // Not resolved further: `..` behind a symbolic link is the worker's to follow.
                part => path.push(part),
            }
        }
        path.into_os_string()
            .into_string()
            .map_err(|_| self.problem("action", "dir", "is not UTF-8"))
    }

    /// Returns the bytes of a text; with flags, `@FILE` stands for the content of a file.
    fn content(&self, field: &str, text: Option<&str>) -> Result<Vec<u8>, Problem> {
        match text {
            None => Ok(Vec::new()),
            Some(text) => match text.strip_prefix('@').filter(|_| self.origin == Origin::Flags) {
                None => Ok(text.as_bytes().to_vec()),
                Some(file) => read_bounded(&self.folder.join(file))
                    .map_err(|what| self.problem("action", field, format!("{file}: {what}"))),
            },
        }
    }

    fn http(&self, input: &ActionInput) -> Result<Action, Problem> {
        let text = input.http.as_deref().unwrap_or_default().trim();
        let (method, url) = text.split_once(char::is_whitespace).unwrap_or(("GET", text));
        let headers = input.header.iter().map(|header| match header.split_once(':') {
            Some((name, value)) if !name.trim().is_empty() => Ok((name.trim().to_owned(), value.trim().to_owned())),
            _ => Err(self.problem("action", "header", format!("{header:?} is not \"Name: value\""))),
        });
        let expected = input.expect_header.iter().map(|text| self.expected_header(text));
        Ok(Action::Http {
            expect_headers: expected.collect::<Result<_, _>>()?,
            method: method.to_ascii_uppercase(),
            url: url.trim().to_owned(),
            headers: headers.collect::<Result<_, _>>()?,
            body: self.content("body", input.body.as_deref())?,
            success_statuses: input.http_status.clone(),
            timeout_ms: match &input.http_timeout {
                Some(timeout) => self.duration("action", "http_timeout", timeout)?,
                None => HTTP_TIMEOUT_MS_DEFAULT,
            },
            expect: match &input.expect {
                Some(text) => {
                    sched_proto::pattern::pattern(text).map_err(|what| self.problem("action", "expect", what))?;
                    Some(text.clone())
                }
                None => None,
            },
        })
    }

    /// Reads a name and an expression for its value.
    fn expected_header(&self, text: &str) -> Result<(String, String), Problem> {
        let problem = |what: String| self.problem("action", "expect_header", what);
        match text.split_once(':') {
            Some((name, regex)) if !name.trim().is_empty() => {
                sched_proto::pattern::pattern(regex.trim()).map_err(problem)?;
                Ok((name.trim().to_owned(), regex.trim().to_owned()))
            }
            _ => Err(problem(format!(
                "{text:?} is not \"Name: regular expression\"; expected for example Content-Type: json"
            ))),
        }
    }

    fn mail(&self, input: &MailInput) -> Result<Action, Problem> {
        let text = self.content("mail_text", input.text.as_deref())?;
        Ok(Action::Mail {
            from: input.from.clone(),
            to: input.to.clone(),
            cc: input.cc.clone(),
            subject: input.subject.clone().ok_or_else(|| {
                let what = "is missing; a mail has one, for example \"Backup is due\"";
                self.problem("action", "mail_subject", what)
            })?,
            text: String::from_utf8(text).map_err(|_| self.problem("action", "mail_text", "is not UTF-8"))?,
        })
    }

    /// JSON is kept in one form, however it was written: the same payload is the same task.
    fn worker(&self, input: &ActionInput) -> Result<Action, Problem> {
        let text = input.payload.as_deref();
        let is_file = self.origin == Origin::Flags && text.is_some_and(|text| text.starts_with('@'));
        let payload = match text {
            Some(text) if !is_file => serde_json::from_str::<serde_json::Value>(text)
                .map_err(|error| {
                    let shown: String = text.chars().take(80).collect();
                    let what =
                        format!("{shown} is not JSON ({error}); expected for example '{{\"width\": 640}}', or @FILE");
                    self.problem("action", "payload", what)
                })?
                .to_string()
                .into_bytes(),
            text => self.content("payload", text)?,
        };
        Ok(Action::Worker {
            queue: input.queue.clone().unwrap_or_default(),
            payload,
            progress_timeout_ms: match &input.progress_timeout {
                Some(text) => Some(self.duration("action", "progress_timeout", text)?),
                None => None,
            },
        })
    }

    fn sample(&self, text: &str) -> Result<Action, Problem> {
        let bad = || {
            let what = format!("{text:?} is not ok or fail, with a number of milliseconds if any, for example ok,500");
            self.problem("action", "sample", what)
        };
        let (word, duration) = text.split_once(',').unwrap_or((text, "0"));
        let succeed = match word.trim() {
            "ok" => true,
            "fail" => false,
            _ => return Err(bad()),
        };
        Ok(Action::Sample {
            succeed,
            duration_ms: duration.trim().parse().map_err(|_| bad())?,
            payload: Vec::new(),
        })
    }
}

/// Reads a file, but no more than could ever be accepted.
fn read_bounded(path: &Path) -> Result<Vec<u8>, String> {
    use std::io::Read as _;
    let most = sched_core::limits::PAYLOAD_BYTES_MAX;
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(|error| error.to_string())?;
    file.take(most as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| error.to_string())?;
    if bytes.len() > most {
        return Err(format!("is larger than {most} bytes; pass a reference instead"));
    }
    Ok(bytes)
}
