//! A slow model of cron: it looks at each second or minute and asks every item of every field whether it names what the clock shows.

use crate::support::{Rng, after, at_second, compile, compiled, cron, second, seeds};
use chrono::{DateTime, Datelike, Days, Months, NaiveDate};
use sched_core::schedule::{DstPolicy, Recurrence};

/// What a field is about, and what it may hold.
struct Kind {
    least: i64,
    most: i64,
    /// In percent, how often it is a wildcard.
    open: u64,
    names: &'static [&'static str],
}

const SECOND: Kind = Kind {
    least: 0,
    most: 59,
    open: 10,
    names: &[],
};
const MINUTE: Kind = Kind { open: 30, ..SECOND };
const HOUR: Kind = Kind {
    most: 23,
    open: 40,
    ..SECOND
};
const DAY: Kind = Kind {
    least: 1,
    most: 31,
    open: 40,
    names: &[],
};
const MONTH: Kind = Kind {
    least: 1,
    most: 12,
    open: 70,
    names: &[
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ],
};
const WEEKDAY: Kind = Kind {
    least: 0,
    most: 7,
    open: 45,
    names: &["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"],
};

/// One item of a field's list.
enum Item {
    /// These numbers.
    Numbers(Vec<i64>),
    /// The day so many before the last of the month.
    BeforeLast(i64),
    /// The working day nearest to this day, in the same month.
    Nearest(i64),
    /// The month's last working day.
    LastWorkday,
    /// The last such weekday of the month.
    LastWeekday(i64),
    /// The n-th such weekday of the month.
    Nth(i64, i64),
}

/// A field, as a model and as text.
struct Field {
    items: Vec<Item>,
    text: String,
}

/// Writes a number, sometimes as its name, in letters of any case.
fn written(rng: &mut Rng, kind: &Kind, number: i64) -> String {
    // Sunday's name stands for 0, not for 7.
    let name = match kind.names.get((number - kind.least) as usize) {
        Some(name) if rng.percent(50) => *name,
        _ => return number.to_string(),
    };
    match rng.within(0, 2) {
        0 => name.to_owned(),
        1 => name.to_uppercase(),
        _ => name.to_lowercase(),
    }
}

/// A wildcard, a number, a range, each with or without a step.
fn plain(rng: &mut Rng, kind: &Kind) -> (Item, String) {
    // A step that starts on Sunday as 7 ends there; a wildcard knows Sunday once, as 0.
    let last = if kind.most == 7 { 6 } else { kind.most };
    let stepped = |from: i64, to: i64, step: i64| Item::Numbers((from..=to).step_by(step as usize).collect());
    let (from, step) = (rng.within(kind.least, kind.most), rng.within(1, kind.most));
    let to = rng.within(from, kind.most);
    let (first, second) = (written(rng, kind, from), written(rng, kind, to));
    match rng.within(0, 7) {
        0 => (stepped(kind.least, last, step), format!("*/{step}")),
        1 => (stepped(from, from.max(last), step), format!("{first}/{step}")),
        2 => (stepped(from, to, step), format!("{first}-{second}/{step}")),
        3 | 4 => (stepped(from, to, 1), format!("{first}-{second}")),
        // Over the end of the week.
        5 if kind.most == 7 && from < to => {
            let days = (to..=7).chain(0..=from).collect();
            (Item::Numbers(days), format!("{second}-{first}"))
        }
        _ => (Item::Numbers(vec![from]), first),
    }
}

/// An item that only the day fields have.
fn special(rng: &mut Rng, kind: &Kind) -> (Item, String) {
    let number = rng.within(kind.least, kind.most);
    if kind.most == 7 {
        let name = written(rng, kind, number);
        let nth = rng.within(1, 5);
        return match rng.within(0, 1) {
            0 => (Item::LastWeekday(number), format!("{name}L")),
            _ => (Item::Nth(number, nth), format!("{name}#{nth}")),
        };
    }
    let back = rng.within(1, 30);
    match rng.within(0, 3) {
        0 => (Item::BeforeLast(0), "L".to_owned()),
        1 => (Item::BeforeLast(back), format!("L-{back}")),
        2 => (Item::LastWorkday, "LW".to_owned()),
        _ => (Item::Nearest(number), format!("{number}W")),
    }
}

fn field(rng: &mut Rng, kind: &Kind, specials: u64) -> Field {
    if rng.percent(kind.open) {
        return Field {
            items: vec![Item::Numbers((kind.least..=kind.most).collect())],
            text: (*rng.pick(&["*", "*", "?"])).to_owned(),
        };
    }
    let (items, texts): (Vec<Item>, Vec<String>) = (0..rng.within(1, 3))
        .map(|_| {
            if rng.percent(specials) {
                special(rng, kind)
            } else {
                plain(rng, kind)
            }
        })
        .unzip();
    Field {
        items,
        text: texts.join(","),
    }
}

fn month_end(date: NaiveDate) -> NaiveDate {
    let first = date.with_day(1).expect("a date");
    first + Months::new(1) - Days::new(1)
}

fn is_workday(date: NaiveDate) -> bool {
    date.weekday().num_days_from_monday() < 5
}

impl Field {
    fn has(&self, number: u32) -> bool {
        self.items
            .iter()
            .any(|item| matches!(item, Item::Numbers(numbers) if numbers.contains(&i64::from(number))))
    }

    fn is_open(&self) -> bool {
        matches!(self.text.as_str(), "*" | "?" | "*/1")
    }

    /// Whether a field of days of the month names a date.
    fn has_day(&self, date: NaiveDate) -> bool {
        let end = month_end(date);
        let nearest = |wanted: i64| {
            let wanted = date.with_day(wanted as u32)?;
            // Nearer first; a weekend has only one working day at a distance of one.
            [0, -1, 1, -2, 2]
                .map(|days| wanted + chrono::Duration::days(days))
                .into_iter()
                .find(|near| near.month() == date.month() && is_workday(*near))
        };
        self.has(date.day())
            || self.items.iter().any(|item| match item {
                Item::BeforeLast(days) => (end - date).num_days() == *days,
                Item::Nearest(day) => nearest(*day) == Some(date),
                Item::LastWorkday => {
                    (0..3).map(|days| end - Days::new(days)).find(|day| is_workday(*day)) == Some(date)
                }
                _ => false,
            })
    }

    /// Whether a field of weekdays names a date.
    fn has_weekday(&self, date: NaiveDate) -> bool {
        let sunday_is_0 = i64::from(date.weekday().num_days_from_sunday());
        let is = |weekday: &i64| weekday % 7 == sunday_is_0;
        let last = month_end(date).day() - date.day() < 7;
        let nth = i64::from((date.day() - 1) / 7 + 1);
        self.items.iter().any(|item| match item {
            Item::Numbers(numbers) => numbers.iter().any(is),
            Item::LastWeekday(weekday) => is(weekday) && last,
            Item::Nth(weekday, n) => is(weekday) && *n == nth,
            _ => false,
        })
    }
}

/// The six fields, from seconds to weekdays.
struct Model([Field; 6]);

impl Model {
    fn random(rng: &mut Rng, seconds: bool) -> Self {
        let mut fields = [
            (SECOND, 0),
            (MINUTE, 0),
            (HOUR, 0),
            (DAY, 40),
            (MONTH, 0),
            (WEEKDAY, 35),
        ]
        .map(|(kind, specials)| field(rng, &kind, specials));
        if !seconds {
            fields[0] = Field {
                items: vec![Item::Numbers(vec![0])],
                text: String::new(),
            };
        }
        Self(fields)
    }

    fn text(&self) -> String {
        let texts: Vec<&str> = self.0.iter().map(|field| field.text.as_str()).collect();
        texts.join(" ").trim().to_owned()
    }

    /// Whether it is due on a day at all: either day field is enough, unless one leaves all days open.
    fn has_date(&self, date: NaiveDate) -> bool {
        let [_, _, _, days, months, weekdays] = &self.0;
        let (day, weekday) = (days.has_day(date), weekdays.has_weekday(date));
        months.has(date.month())
            && if days.is_open() || weekdays.is_open() {
                day && weekday
            } else {
                day || weekday
            }
    }

    /// Returns the first instants after `start` and up to `end`, looking at every second, or every minute when seconds are 0.
    fn first(&self, start: i64, end: i64, most: usize) -> Vec<i64> {
        let [seconds, minutes, hours, ..] = &self.0;
        let step = if seconds.text.is_empty() { 60 } else { 1 };
        let mut found = Vec::new();
        for day in start.div_euclid(86_400)..=end.div_euclid(86_400) {
            let midnight = DateTime::from_timestamp(day * 86_400, 0).expect("an instant");
            if !self.has_date(midnight.date_naive()) {
                continue;
            }
            for second in (0..86_400u32).step_by(step) {
                let at = day * 86_400 + i64::from(second);
                let due = hours.has(second / 3600) && minutes.has(second / 60 % 60) && seconds.has(second % 60);
                if due && start < at && at <= end && found.len() < most {
                    found.push(at);
                }
            }
        }
        found
    }
}

/// Returns the occurrences after `start` and up to `end`, at most so many.
fn found(recurrence: &Recurrence, start: i64, end: i64, most: usize) -> Vec<i64> {
    let mut all: Vec<i64> = after(recurrence, at_second(start), most)
        .into_iter()
        .map(second)
        .collect();
    all.retain(|at| *at <= end);
    all
}

fn check(rng: &mut Rng, seconds: bool) {
    let model = Model::random(rng, seconds);
    let expr = model.text();
    let start = rng.within(0, 2_000_000_000);
    // A few days of seconds, or half a year of minutes.
    let end = start + if seconds { 4 * 86_400 } else { 180 * 86_400 };
    let expected = model.first(start, end, 200);
    match compile(&cron(&expr)) {
        Ok(recurrence) => {
            let found = found(&recurrence, start, end, 200);
            assert_eq!(found, expected, "{expr} after {}", at_second(start));
        }
        Err(error) => assert!(expected.is_empty(), "{expr}: {error}"),
    }
}

#[test]
fn equals_looking_at_each_minute() {
    for seed in seeds("equals_looking_at_each_minute") {
        let mut rng = Rng(seed);
        (0..400).for_each(|_| check(&mut rng, false));
    }
}

#[test]
fn equals_looking_at_each_second() {
    for seed in seeds("equals_looking_at_each_second") {
        let mut rng = Rng(seed);
        (0..300).for_each(|_| check(&mut rng, true));
    }
}

/// Returns the first occurrences of 2026 for a task of this name.
fn of_2026(expr: &str, key: &str) -> Vec<i64> {
    let zones = crate::support::Bundled::new();
    let recurrence = Recurrence::compile(&cron(expr), key, &zones).unwrap_or_else(|error| panic!("{expr}: {error}"));
    found(&recurrence, 1_767_225_599, 1_798_761_600, 40)
}

/// Whatever the name, `H` is one of the numbers that it may be, and the expression means what it means with that number in its place.
#[test]
fn h_stands_for_one_number() {
    // The expression around the field, and the numbers that `H` may be there.
    let fields = [
        ("@ 0 12 1 * *", 0..=59),
        ("@ 12 1 * *", 0..=59),
        ("7 @ * * *", 0..=23),
        ("7 5 @ * *", 1..=28),
        ("7 5 1 @ *", 1..=12),
        ("7 5 * * @", 0..=6),
    ];
    for seed in seeds("h_stands_for_one_number") {
        let mut rng = Rng(seed);
        for (around, numbers) in &fields {
            for _ in 0..10 {
                let key = format!("task {}", rng.next());
                let (least, most) = (*numbers.start(), *numbers.end());
                let from = rng.within(least, most);
                let to = rng.within(from, most);
                let step = rng.within(1, most - least);
                let stepped = |first: i64, last: i64| format!("{first}-{last}/{step}");
                let one = |first: i64, _: i64| first.to_string();
                type Form<'a> = (String, i64, i64, i64, &'a dyn Fn(i64, i64) -> String);
                let forms: [Form<'_>; 4] = [
                    ("H".to_owned(), least, most, most, &one),
                    (format!("H({from}-{to})"), from, to, to, &one),
                    (format!("H/{step}"), least, most.min(least + step - 1), most, &stepped),
                    (
                        format!("H({from}-{to})/{step}"),
                        from,
                        to.min(from + step - 1),
                        to,
                        &stepped,
                    ),
                ];
                for (form, first, last, end, write) in forms {
                    let expr = around.replace('@', &form);
                    let ours = of_2026(&expr, &key);
                    assert_eq!(ours, of_2026(&expr, &key), "{expr} is stable");
                    let same = (first..=last).filter(|n| of_2026(&around.replace('@', &write(*n, end)), "") == ours);
                    assert!(same.count() >= 1, "{expr} for {key:?} is none of {first} to {last}");
                }
            }
        }
    }
}

#[test]
fn words_are_short_for_fields() {
    for (word, fields) in [
        ("@yearly", "0 0 1 JAN *"),
        ("@annually", "0 0 0 1 1 ?"),
        ("@monthly", "0 0 1 * ?"),
        ("@weekly", "0 0 * * SUN"),
        ("@daily", "0 0 0 * * *"),
        ("@midnight", "0 0 * * *"),
        ("@hourly", "0 */1 * * *"),
    ] {
        for zone in ["UTC", "America/Havana"] {
            let both = [word, fields].map(|expr| {
                let compiled = compiled(&crate::support::cron_in(expr, zone, DstPolicy::Shift));
                found(&compiled, 1_700_000_000, i64::MAX, 300)
            });
            assert_eq!(both[0], both[1], "{word} {zone}");
        }
    }
}

/// `@every` counts absolute time from the epoch, in every zone.
#[test]
fn every_is_a_multiple_of_its_duration() {
    for seed in seeds("every_is_a_multiple_of_its_duration") {
        let mut rng = Rng(seed);
        for _ in 0..2000 {
            let (hours, minutes, seconds) = (rng.within(0, 99), rng.within(0, 59), rng.within(1, 59));
            let length = hours * 3600 + minutes * 60 + seconds;
            let zone = *rng.pick(&["UTC", "Europe/Zurich", "Australia/Lord_Howe"]);
            let expr = format!("@every {hours}h{minutes}m{seconds}s");
            let recurrence = compiled(&crate::support::cron_in(&expr, zone, DstPolicy::Skip));
            let start = rng.within(0, 4_000_000_000);
            let first = (start / length + 1) * length;
            let expected: Vec<i64> = (0..5).map(|n| first + n * length).collect();
            assert_eq!(found(&recurrence, start, i64::MAX, 5), expected, "{expr} after {start}");
        }
    }
}
