//! For each flag that takes a value a wrong one, and what must be said about it. The flags are counted off the command line itself
//! (`src/args/tests.rs`): one that is new and stands neither here nor among those that take any value fails a test. The same rows are
//! read as fields of task documents.

/// A wrong value.
#[derive(Debug)]
pub(crate) struct Wrong {
    /// The verb, or nothing for a flag of all verbs.
    pub(crate) verb: &'static str,
    /// The flag without dashes.
    pub(crate) flag: &'static str,
    /// What else must be given, in words of a shell.
    pub(crate) beside: &'static str,
    /// The wrong value.
    pub(crate) value: &'static str,
    /// How the value is repeated in the message, where it is not as given.
    pub(crate) shown: &'static str,
    /// What would be right, as the message says it.
    pub(crate) right: &'static str,
}

const fn wrong(
    verb: &'static str,
    flag: &'static str,
    beside: &'static str,
    value: &'static str,
    right: &'static str,
) -> Wrong {
    Wrong {
        verb,
        flag,
        beside,
        value,
        shown: value,
        right,
    }
}

/// Of `enqueue`, with an action.
const fn task(flag: &'static str, beside: &'static str, value: &'static str, right: &'static str) -> Wrong {
    wrong("enqueue", flag, beside, value, right)
}

/// The same, where the message repeats a part of the value, or makes it visible.
const fn shown(shown: &'static str, row: Wrong) -> Wrong {
    Wrong { shown, ..row }
}

const INSTANT: &str = "2027-03-01T09:00:00Z";
const DURATION: &str = "90m";
const ZONE: &str = "Europe/Zurich";
const NUMBER: &str = "for example 10";
const NAME: &str = "\"nightly\"";

/// The table. Each row is a flag; a flag may have several.
pub(crate) const WRONG: &[Wrong] = &[
    // What every verb takes.
    wrong("", "endpoint", "status", "ftp://x", "http"),
    wrong("", "output", "status", "xml", "yaml"),
    shown("a\\tb", wrong("", "namespace", "enqueue --sample ok", "a\tb", NAME)),
    wrong("", "deadline", "status", "soon", DURATION),
    // Schedules.
    task("at", "--sample ok", "noon", INSTANT),
    task("in", "--sample ok", "soon", DURATION),
    task("in", "--sample ok", "11y", "2d"),
    task("every", "--sample ok", "soon", DURATION),
    task("every", "--sample ok", "1ms", "5m"),
    task("anchor", "--sample ok --every 1h", "noon", INSTANT),
    shown(
        "99",
        task("cron", "--sample ok", "99 * * * *", "0 to 59, for example 30"),
    ),
    task("cron", "--sample ok", "0 9 * *", "30 9 * * MON-FRI"),
    shown("OFTEN", task("rrule", "--sample ok", "FREQ=OFTEN", "DAILY")),
    task("dtstart", "--sample ok --rrule FREQ=DAILY", "noon", INSTANT),
    task("rdate", "--sample ok --rrule FREQ=DAILY", "noon", INSTANT),
    task("exdate", "--sample ok --rrule FREQ=DAILY", "noon", INSTANT),
    task("after", "--sample ok", "", "42,nightly"),
    task("on", "--sample ok --after 1", "maybe", "success"),
    task("not-before", "--sample ok --every 1h", "noon", INSTANT),
    task("until", "--sample ok --every 1h", "noon", INSTANT),
    task("expires", "--sample ok --in 1h", "noon", INSTANT),
    task("count", "--sample ok --every 1h", "0", NUMBER),
    task("count", "--sample ok --every 1h", "x", NUMBER),
    task("jitter", "--sample ok --every 1h", "some", DURATION),
    shown("a\\tb", task("calendar", "--sample ok --every 1h", "a\tb", NAME)),
    task("tz", "--sample ok --cron @daily", "Mars/Olympus", ZONE),
    task("dst", "--sample ok --cron @daily", "maybe", "shift"),
    task("before", "--sample ok --at 2030-01-01T09:00:00Z", "early", DURATION),
    // Actions.
    task("env", "-- ls", "nonsense", "KEY=VALUE"),
    shown(
        "/no/such/file",
        task("stdin", "-- cat", "@/no/such/file", "No such file"),
    ),
    task("success-code", "-- ls", "x", NUMBER),
    task("user", "-- ls", "a b", "backup"),
    task("limit-cpu", "-- ls", "1500ms", "90s"),
    task("limit-memory", "-- ls", "9x", "512M"),
    task("limit-files", "-- ls", "x", NUMBER),
    task("expect-header", "--http http://x", "nonsense", "Content-Type: json"),
    shown("nowhere", task("http", "", "GET nowhere", "https://example.org/hook")),
    task("header", "--http http://x", "nonsense", "Name: value"),
    shown(
        "/no/such/file",
        task("body", "--http http://x", "@/no/such/file", "No such file"),
    ),
    task("http-status", "--http http://x", "x", NUMBER),
    task("http-timeout", "--http http://x", "soon", DURATION),
    task("progress-timeout", "--queue q", "soon", DURATION),
    task("expect", "--http http://x", "(ok", "ok|done"),
    shown("a\\tb", task("queue", "", "a\tb", NAME)),
    task("payload", "--queue q", "{x", "{\"width\": 640}"),
    shown(
        "/no/such/file",
        task("payload", "--queue q", "@/no/such/file", "No such file"),
    ),
    task("sample", "", "perhaps", "ok,500"),
    task("mail-to", "--subject s", "Ann <ann@x.org>", "ann@example.org"),
    task("mail-cc", "--mail-to a@x.org --subject s", "bob", "ann@example.org"),
    task("mail-from", "--mail-to a@x.org --subject s", "me", "ann@example.org"),
    shown(
        "a\\nBcc: x@y",
        task("subject", "--mail-to a@x.org", "a\nBcc: x@y", "one line"),
    ),
    shown(
        "/no/such/file",
        task(
            "text",
            "--mail-to a@x.org --subject s",
            "@/no/such/file",
            "No such file",
        ),
    ),
    // Policies.
    task("overlap", "--sample ok", "maybe", "queue-one"),
    task("missed", "--sample ok", "all:x", "all:10"),
    task("missed", "--sample ok", "all:0", "1 to 1000"),
    task("catch-up-every", "--sample ok --missed all:3", "often", DURATION),
    task("grace", "--sample ok", "some", DURATION),
    task("tries", "--sample ok", "0", "1 to 1000"),
    task("tries", "--sample ok", "x", NUMBER),
    task("retry-delay", "--sample ok", "some", DURATION),
    task("retry-factor", "--sample ok", "0.5", "1.5"),
    task("retry-delay-max", "--sample ok", "some", DURATION),
    task("put-off-max", "--sample ok", "some", DURATION),
    task("delivery", "--sample ok", "maybe", "at-least-once"),
    task("on-disconnect", "--sample ok", "maybe", "continue"),
    task("lost-hold", "--sample ok", "some", DURATION),
    task("time-limit", "--sample ok", "some", DURATION),
    task("priority", "--sample ok", "1000", NUMBER),
    task("group", "--sample ok", "reports", "reports:2"),
    task("require", "--sample ok", "gpu", "gpu=yes"),
    task("prefer", "--sample ok", "gpu", "gpu=yes"),
    task("keep-finished", "--sample ok", "x", NUMBER),
    task("keep-failed", "--sample ok", "x", NUMBER),
    task("keep-for", "--sample ok", "some", DURATION),
    task("keep-failed-for", "--sample ok", "some", DURATION),
    task("notify", "--sample ok", "failure", "end=mailto:ann@example.org"),
    // The rest of a task.
    task("file", "", "/no/such/file.yaml", "No such file"),
    task("name", "--sample ok", "42", "t42"),
    task("label", "--sample ok", "nonsense", "gpu=yes"),
    shown("a\\tb", task("owner", "--sample ok", "a\tb", NAME)),
    shown("a\\tb", task("request-id", "--sample ok", "a\tb", NAME)),
    // Other verbs.
    wrong("move", "at", "1", "noon", INSTANT),
    wrong("move", "in", "1", "soon", DURATION),
    wrong("move", "tz", "1 --at 2027-01-01", "Mars/Olympus", ZONE),
    wrong("move", "generation", "1 --in 1h", "x", NUMBER),
    wrong("update", "generation", "1 --tries 2", "x", NUMBER),
    wrong("delete-history", "before", "1 --yes", "noon", INSTANT),
    wrong(
        "delete-history",
        "tz",
        "1 --yes --before 2027-01-01",
        "Mars/Olympus",
        ZONE,
    ),
    wrong("delete-history", "state", "1 --yes", "SLEEPING", "finished"),
    wrong("run", "param", "1", "nonsense", "gpu=yes"),
    shown("a\\tb", wrong("run", "request-id", "1", "a\tb", NAME)),
    wrong("backfill", "from", "1 --to 2027-01-01", "noon", INSTANT),
    wrong("backfill", "to", "1 --from 2027-01-01", "noon", INSTANT),
    wrong(
        "backfill",
        "tz",
        "1 --from 2027-01-01 --to 2027-01-02",
        "Mars/Olympus",
        ZONE,
    ),
    wrong("resolve", "as", "1:1", "done", "finished"),
    wrong("pause", "until", "1", "noon", INSTANT),
    wrong("pause", "tz", "1 --until 2027-01-01", "Mars/Olympus", ZONE),
    wrong("list", "state", "", "SLEEPING", "QUEUED"),
    wrong("list", "label", "", "nonsense", "gpu=yes"),
    wrong("list", "limit", "", "x", NUMBER),
    wrong("runs", "state", "", "SLEEPING", "PENDING"),
    wrong("runs", "limit", "", "x", NUMBER),
    wrong("ledger", "limit", "report", "0", NUMBER),
    wrong("logs", "attempt", "1:1", "0", NUMBER),
    wrong("logs", "tail", "1:1", "x", NUMBER),
    wrong("wait", "timeout", "1", "soon", DURATION),
    wrong("next", "every", "", "soon", DURATION),
    wrong("next", "anchor", "--every 1h", "noon", INSTANT),
    wrong("next", "cron", "", "0 9 * *", "30 9 * * MON-FRI"),
    shown("OFTEN", wrong("next", "rrule", "", "FREQ=OFTEN", "DAILY")),
    wrong("next", "dtstart", "--rrule FREQ=DAILY", "noon", INSTANT),
    wrong("next", "rdate", "--rrule FREQ=DAILY", "noon", INSTANT),
    wrong("next", "exdate", "--rrule FREQ=DAILY", "noon", INSTANT),
    wrong("next", "tz", "--cron @daily", "Mars/Olympus", ZONE),
    wrong("next", "dst", "--cron @daily", "maybe", "shift"),
    wrong("next", "after", "--cron @daily", "noon", INSTANT),
    wrong("next", "count", "--cron @daily", "0", NUMBER),
    wrong("next", "count", "--cron @daily", "10001", NUMBER),
    wrong("show spool", "limit", "", "x", NUMBER),
    wrong("workers", "limit", "", "x", NUMBER),
    wrong("calendar set", "day", "c", "tomorrow", "2027-12-24..2027-12-26"),
    wrong(
        "calendar set",
        "day",
        "c",
        "2027-12-26..2027-12-24",
        "2027-12-24..2027-12-26",
    ),
    wrong("calendar set", "interval", "c", "noon/2027-01-01", INSTANT),
    wrong("calendar set", "tz", "c", "Mars/Olympus", ZONE),
    wrong("calendar set", "generation", "c", "x", NUMBER),
    wrong("calendar import", "until", "c /no/such/file", "noon", INSTANT),
    wrong("calendar import", "tz", "c /no/such/file", "Mars/Olympus", ZONE),
    wrong("calendar import", "generation", "c /no/such/file", "x", NUMBER),
    wrong("calendar delete", "generation", "c", "x", NUMBER),
];
