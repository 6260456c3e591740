//! From what people wrote to a task: every field read, every contradiction named by the field it stands in.

use crate::input::{
    ActionInput, DeliveryWord, DstWord, EndingWord, MailInput, OverlapWord, PolicyInput, ScheduleInput,
};
use crate::notify;
use crate::when;
use jiff::tz::TimeZone;
use sched_core::schedule::{DstPolicy, Recurrence, Schedule, Zones, parse_duration};
use sched_core::task::{
    Action, Bounds, Delivery, Ending, Group, Jitter, Missed, Notify, Overlap, Placement, Policy, ProcessLimits,
    Retention, TaskRef, Tries,
};
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
    fn name(self, part: &str, field: &str) -> String {
        match self {
            Origin::Flags if field == "command" => "CMD".to_owned(),
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

/// Schedules that a bound on occurrences makes sense with.
const RECURRING: [&str; 3] = ["every", "cron", "rrule"];

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
        let companions = [
            ("anchor", input.anchor.is_some(), &["every"][..]),
            ("dtstart", input.dtstart.is_some(), &["rrule"]),
            ("rdate", !input.rdate.is_empty(), &["rrule"]),
            ("exdate", !input.exdate.is_empty(), &["rrule"]),
            ("on", input.on.is_some(), &["after"]),
            ("not_before", input.not_before.is_some(), &RECURRING),
            ("until", input.until.is_some(), &RECURRING),
            ("count", input.count.is_some(), &RECURRING),
            ("jitter", input.jitter.is_some(), &RECURRING),
            ("expires", input.expires.is_some(), &["at", "in", "after", "now"]),
            ("tz", input.tz.is_some(), &["cron", "rrule", "at", "every"]),
            ("dst", input.dst.is_some(), &["cron", "rrule"]),
            ("before", input.before.is_some(), &["at"]),
        ];
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
            ("sample", input.sample.is_some()),
        ];
        let mut kinds = given.iter().filter(|(_, is_given)| *is_given).map(|(kind, _)| *kind);
        match (kinds.next(), kinds.next()) {
            (Some(kind), None) => Ok(kind),
            (None, _) => Err(Problem {
                field: "action".to_owned(),
                what: "is missing; expected one of command, http, mail, sample".to_owned(),
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
            ("mail_cc", !input.mail.cc.is_empty(), "mail_to"),
            ("mail_from", input.mail.from.is_some(), "mail_to"),
            ("mail_subject", input.mail.subject.is_some(), "mail_to"),
            ("mail_text", input.mail.text.is_some(), "mail_to"),
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
        Ok(Action::Http {
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

    /// Reads the policies; what is absent gets its default.
    pub(crate) fn policy(&self, input: &PolicyInput) -> Result<Policy, Problem> {
        let default = Policy::default();
        let duration = |field: &str, text: &Option<String>, default: u64| match text {
            Some(text) => self.duration("policy", field, text),
            None => Ok(default),
        };
        let kept = duration("keep_for", &input.keep_for, default.retention.finished_age_ms_max)?;
        Ok(Policy {
            grace_ms: duration("grace", &input.grace, default.grace_ms)?,
            missed: self.missed(input.missed.as_deref())?,
            overlap: match input.overlap {
                None => default.overlap,
                Some(OverlapWord::Allow) => Overlap::Allow,
                Some(OverlapWord::Skip) => Overlap::Skip,
                Some(OverlapWord::QueueOne) => Overlap::QueueOne,
                Some(OverlapWord::QueueAll) => Overlap::QueueAll,
                Some(OverlapWord::Replace) => Overlap::Replace,
            },
            tries: Tries {
                max: input.tries.unwrap_or(default.tries.max),
                delay_ms: duration("retry_delay", &input.retry_delay, default.tries.delay_ms)?,
                factor_percent: self.factor(input.retry_factor, default.tries.factor_percent)?,
                delay_ms_max: duration("retry_delay_max", &input.retry_delay_max, default.tries.delay_ms_max)?,
            },
            delivery: match input.delivery {
                None => None,
                Some(DeliveryWord::AtLeastOnce) => Some(Delivery::AtLeastOnce),
                Some(DeliveryWord::AtMostOnce) => Some(Delivery::AtMostOnce),
            },
            time_limit_ms: match &input.time_limit {
                Some(text) => Some(self.duration("policy", "time_limit", text)?),
                None => None,
            },
            priority: input.priority.unwrap_or(default.priority),
            retention: Retention {
                finished_max: input.keep_finished.unwrap_or(default.retention.finished_max),
                failed_max: input.keep_failed.unwrap_or(default.retention.failed_max),
                finished_age_ms_max: kept,
                failed_age_ms_max: duration("keep_failed_for", &input.keep_failed_for, kept)?,
            },
            group: input.group.as_deref().map(|text| self.group(text)).transpose()?,
            placement: Placement {
                require: self.labels("require", &input.require)?,
                prefer: self.labels("prefer", &input.prefer)?,
            },
            notify: input
                .notify
                .iter()
                .map(|text| self.notify(text))
                .collect::<Result<_, _>>()?,
        })
    }

    fn notify(&self, text: &str) -> Result<Notify, Problem> {
        notify::read(text).ok_or_else(|| self.problem("policy", "notify", notify::expected(text)))
    }

    fn group(&self, text: &str) -> Result<Group, Problem> {
        let parts = text
            .rsplit_once(':')
            .and_then(|(name, limit)| Some((name, limit.trim().parse().ok()?)));
        match parts {
            Some((name, limit)) => Ok(Group {
                name: name.to_owned(),
                limit,
            }),
            None => Err(self.problem(
                "policy",
                "group",
                format!("{text:?} is not NAME:LIMIT, for example reports:2"),
            )),
        }
    }

    fn labels(&self, field: &str, pairs: &[(String, String)]) -> Result<BTreeMap<String, String>, Problem> {
        let mut labels = BTreeMap::new();
        for (label, value) in pairs {
            if labels.insert(label.clone(), value.clone()).is_some() {
                return Err(self.problem("policy", field, format!("{label:?} is given twice")));
            }
        }
        Ok(labels)
    }

    fn missed(&self, text: Option<&str>) -> Result<Missed, Problem> {
        let Some(text) = text else {
            return Ok(Missed::default());
        };
        let max = || text.strip_prefix("all:")?.trim().parse().ok();
        match text {
            "skip" => Ok(Missed::Skip),
            "latest" => Ok(Missed::Latest),
            _ => match max() {
                Some(max) => Ok(Missed::All { max }),
                None => Err(self.problem("policy", "missed", format!("{text:?} is not skip, latest or all:N"))),
            },
        }
    }

    fn factor(&self, factor: Option<f64>, default: u32) -> Result<u32, Problem> {
        match factor {
            None => Ok(default),
            // Within these bounds the cast is exact to the hundredth.
            Some(factor) if (1.0..=100.0).contains(&factor) => Ok((factor * 100.0).round() as u32),
            Some(factor) => Err(self.problem("policy", "retry_factor", format!("{factor} is not within 1 to 100"))),
        }
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
