//! What the words of a script mean.

use sched_core::calendar::{CalendarSpec, Interval};
use sched_core::command::{ClosedRange, DrainItem, FireItem, MissedRange};
use sched_core::config::{Config, Setting};
use sched_core::schedule::Schedule;
use sched_core::session::JournalPosition;
use sched_core::task::{
    Action, Bounds, Delivery, Ending, Group, Missed, NextRun, Notify, NotifyOn, NotifyTo, Overlap, Policy, TaskRef,
    TaskSpec, Tries,
};
use sched_core::{Command, RunId, TaskId, Timestamp, Token};
use std::collections::BTreeMap;

pub(super) struct Line<'a> {
    pub(super) verb: &'a str,
    pub(super) plain: Vec<&'a str>,
    pub(super) options: BTreeMap<&'a str, &'a str>,
}

impl<'a> Line<'a> {
    pub(super) fn parse(line: &'a str) -> Self {
        let mut words = line.split_whitespace();
        let verb = words.next().expect("a line has a verb");
        let (mut plain, mut options) = (Vec::new(), BTreeMap::new());
        for word in words {
            match word.split_once('=') {
                Some((key, value)) if key.chars().all(|c| c.is_ascii_lowercase() || c == '_') => {
                    options.insert(key, value);
                }
                _ => plain.push(word),
            }
        }
        Self { verb, plain, options }
    }

    pub(super) fn has(&self, word: &str) -> bool {
        self.plain.contains(&word)
    }

    pub(super) fn number(&self, key: &str) -> Option<u64> {
        self.options.get(key).map(|value| {
            value
                .parse()
                .unwrap_or_else(|_| panic!("{key}={value} is not a number"))
        })
    }
}

pub(super) fn ms(text: &str) -> Timestamp {
    Timestamp::from_millis(text.parse().unwrap_or_else(|_| panic!("{text:?} is not a time in ms")))
}

pub(super) fn next(text: Option<&&str>) -> NextRun {
    match text {
        None | Some(&"never") => NextRun::Never,
        Some(text) => match text.strip_prefix("gave-up:") {
            Some(retry_at) => NextRun::GaveUp {
                retry_at: ms(retry_at),
                searched_until: ms(retry_at),
            },
            None => NextRun::At(ms(text)),
        },
    }
}

pub(super) fn task_ref(word: &str) -> TaskRef {
    match word.parse() {
        Ok(id) => TaskRef::Id(TaskId(id)),
        Err(_) => TaskRef::Name {
            namespace: "default".into(),
            name: word.into(),
        },
    }
}

pub(super) fn run_id(word: &str) -> RunId {
    word.parse().unwrap_or_else(|e| panic!("{e}"))
}

pub(super) fn token(word: &str) -> Token {
    let (index, position) = word
        .split_once('.')
        .unwrap_or_else(|| panic!("{word:?} is not a token"));
    Token {
        index: index.parse().expect("index"),
        position: position.parse().expect("position"),
    }
}

/// The journal of a worker unless a line names one.
pub(super) fn own_journal(worker: &str) -> u128 {
    worker
        .bytes()
        .fold(0, |journal, byte| (journal << 8) | u128::from(byte))
}

/// `at_record=N` or `at_record=N/x`: the end of a worker's journal, whose hash is `x`.
pub(super) fn position(line: &Line<'_>) -> Option<JournalPosition> {
    let word = line.options.get("at_record")?;
    let (length, head) = word.split_once('/').unwrap_or((word, "1"));
    Some(JournalPosition {
        length: length.parse().expect("length"),
        head: [head.parse().expect("head"); 16],
    })
}

/// `openings=1,2`: what the journal says of its openings, the newest last.
pub(super) fn openings(line: &Line<'_>) -> Vec<u64> {
    let numbers = line.options.get("openings").map(|numbers| numbers.split(','));
    numbers
        .into_iter()
        .flatten()
        .map(|number| number.parse().expect("opening"))
        .collect()
}

pub(super) fn schedule(line: &Line<'_>) -> Schedule {
    if let (Some(at), Some(before_ms)) = (line.options.get("at"), line.number("before")) {
        Schedule::Before {
            event: ms(at),
            before_ms,
        }
    } else if let Some(at) = line.options.get("at") {
        Schedule::At(ms(at))
    } else if let Some(every) = line.number("every") {
        Schedule::Every {
            every_ms: every,
            anchor: Timestamp::EPOCH,
        }
    } else if let Some(parents) = line.options.get("after") {
        let on = match line.options.get("on") {
            None | Some(&"success") => Ending::Success,
            Some(&"failure") => Ending::Failure,
            Some(_) => Ending::Any,
        };
        Schedule::After {
            parents: parents.split(',').map(task_ref).collect(),
            on,
        }
    } else if line.has("manual") {
        Schedule::Manual
    } else {
        Schedule::Now
    }
}

pub(super) fn policy(line: &Line<'_>) -> Policy {
    let mut policy = Policy::default();
    match line.options.get("overlap") {
        None | Some(&"skip") => {}
        Some(&"allow") => policy.overlap = Overlap::Allow,
        Some(&"queue-one") => policy.overlap = Overlap::QueueOne,
        Some(&"queue-all") => policy.overlap = Overlap::QueueAll,
        Some(&"replace") => policy.overlap = Overlap::Replace,
        Some(other) => panic!("overlap={other}"),
    }
    if let Some(max) = line.number("tries") {
        policy.tries = Tries {
            max: max as u32,
            delay_ms: line.number("delay").unwrap_or(10_000),
            factor_percent: line.number("factor").unwrap_or(200) as u32,
            delay_ms_max: line.number("delay_max").unwrap_or(3_600_000),
            ..Tries::default()
        };
    }
    if let Some(most) = line.number("put_off") {
        policy.tries.put_off_ms_max = most;
    }
    policy.catch_up_every_ms = line.number("pace").unwrap_or(0);
    if let Some(priority) = line.options.get("priority") {
        policy.priority = priority.parse().expect("priority");
    }
    if let Some(keep) = line.number("keep") {
        policy.retention.finished_max = keep as u32;
        policy.retention.failed_max = keep as u32;
    }
    if let Some(age) = line.number("age") {
        policy.retention.finished_age_ms_max = age;
        policy.retention.failed_age_ms_max = line.number("failed_age").unwrap_or(age);
    }
    if line.has("at-most-once") {
        policy.delivery = Some(Delivery::AtMostOnce);
    }
    if let Some(hold) = line.number("lost_hold") {
        policy.lost_hold_ms = hold;
    }
    if let Some((name, limit)) = line.options.get("group").and_then(|group| group.split_once(':')) {
        policy.group = Some(Group {
            name: name.into(),
            limit: limit.parse().expect("limit"),
        });
    }
    policy.placement.require = labels(line, "require");
    policy.placement.prefer = labels(line, "prefer");
    if let Some(url) = line.options.get("notify") {
        policy.notify.push(Notify {
            on: NotifyOn::End,
            to: NotifyTo::Webhook { url: (*url).to_owned() },
        });
    }
    policy.missed = Missed::Latest;
    policy
}

pub(super) fn labels(line: &Line<'_>, key: &str) -> BTreeMap<String, String> {
    let pairs = line
        .options
        .get(key)
        .map(|pairs| pairs.split(','))
        .into_iter()
        .flatten();
    let pair = |pair: &str| {
        pair.split_once(':')
            .map(|(label, value)| (label.to_owned(), value.to_owned()))
    };
    pairs.filter_map(pair).collect()
}

pub(super) fn bounds(line: &Line<'_>) -> Bounds {
    Bounds {
        expires: line.options.get("expires").map(|at| ms(at)),
        count: line.number("count"),
        calendars: line
            .options
            .get("calendars")
            .map(|names| names.split(',').map(str::to_owned).collect())
            .unwrap_or_default(),
        ..Bounds::default()
    }
}

pub(super) fn submit(line: &Line<'_>, name: &str) -> Command {
    let spec = spec(line, name);
    let first = match (spec.schedule.instant(), line.options.get("first")) {
        (Some(at), None) => NextRun::At(at),
        (_, first) => next(first),
    };
    Command::Submit {
        spec: Box::new(spec),
        first,
    }
}

/// The whole definition that a task gets; without `next` its run time stays as it is.
pub(super) fn update(line: &Line<'_>, task: &str, generation: u64) -> Command {
    let name = line.options.get("name").copied().unwrap_or(task);
    Command::Update {
        task: task_ref(task),
        generation,
        spec: Box::new(spec(line, name)),
        next: line.options.get("next").map(|at| next(Some(at))),
    }
}

/// `KEY=VALUE` to set, `-KEY` to unset.
pub(super) fn configure(line: &Line<'_>) -> Command {
    let setting = |key: &str| Setting::of(key).unwrap_or_else(|e| panic!("{e}"));
    let mut set = Config::default();
    for (key, value) in &line.options {
        if *key != "req" {
            set.set(setting(key), value).unwrap_or_else(|e| panic!("{e}"));
        }
    }
    let unset = line.plain.iter().filter_map(|word| word.strip_prefix('-'));
    Command::Configure {
        set: Box::new(set),
        unset: unset.map(setting).collect(),
    }
}

fn spec(line: &Line<'_>, name: &str) -> TaskSpec {
    TaskSpec {
        namespace: line.options.get("namespace").copied().unwrap_or("default").to_owned(),
        name: (name != "-").then(|| name.to_owned()),
        labels: line
            .options
            .get("label")
            .map(|v| ("app".to_owned(), (*v).to_owned()))
            .into_iter()
            .collect(),
        owner: String::new(),
        description: String::new(),
        schedule: schedule(line),
        action: action(line),
        policy: policy(line),
        bounds: bounds(line),
    }
}

fn action(line: &Line<'_>) -> Action {
    match line.options.get("queue") {
        Some(queue) => Action::Worker {
            queue: (*queue).to_owned(),
            payload: b"{}".to_vec(),
            progress_timeout_ms: None,
        },
        None => Action::Sample {
            succeed: true,
            duration_ms: 0,
            payload: Vec::new(),
        },
    }
}

pub(super) fn drain_item(word: &str) -> DrainItem {
    let (seq, at) = word.split_once('>').expect("SEQ>NEXT");
    DrainItem {
        seq: seq.parse().expect("seq"),
        next: next(Some(&at)),
    }
}

pub(super) fn times(line: &Line<'_>, key: &str) -> Vec<Timestamp> {
    let list = line.options.get(key).map(|list| list.split(','));
    list.into_iter().flatten().map(ms).collect()
}

pub(super) fn missed_range(text: &str) -> MissedRange {
    let (range, count) = text.split_once('/').expect("FIRST..LAST/COUNT");
    let (first, last) = range.split_once("..").expect("FIRST..LAST");
    MissedRange {
        first: ms(first),
        last: ms(last),
        count: count.parse().expect("count"),
        reason: "test".into(),
    }
}

pub(super) fn fire_item(line: &Line<'_>, task: &str, generation: u64) -> FireItem {
    let runs = times(line, "runs");
    let missed = line.options.get("missed").map(|range| missed_range(range));
    let cursor = line.options.get("cursor").map(|t| ms(t)).unwrap_or_else(|| runs[0]);
    let next = next(line.options.get("next"));
    FireItem {
        task: TaskId(task.parse().expect("task id")),
        generation,
        cursor,
        runs,
        missed,
        next,
        closed: closed_range(line),
        calendars: line.number("calendars").unwrap_or(0),
    }
}

/// `closed=NAME:FIRST..LAST/COUNT`.
fn closed_range(line: &Line<'_>) -> Option<ClosedRange> {
    let (calendar, range) = line.options.get("closed")?.split_once(':').expect("NAME:RANGE");
    let range = missed_range(range);
    Some(ClosedRange {
        first: range.first,
        last: range.last,
        count: range.count,
        calendar: calendar.to_owned(),
    })
}

/// Days by their numbers, intervals as `FROM..TO`, in milliseconds.
pub(super) fn calendar(line: &Line<'_>) -> CalendarSpec {
    let list = |key: &str| line.options.get(key).map(|list| list.split(',')).into_iter().flatten();
    let interval = |text: &str| {
        let (from, to) = text.split_once("..").expect("FROM..TO");
        Interval {
            from: ms(from),
            to: ms(to),
        }
    };
    CalendarSpec::new(
        String::new(),
        "UTC".into(),
        list("days").map(|day| day.parse().expect("a day")).collect(),
        list("intervals").map(interval).collect(),
    )
}
