use super::*;
use crate::when::SystemZones;

fn read_in(text: &str, zone: &str) -> Result<Events, String> {
    let zones = SystemZones::open();
    let tz = zones.zone(zone).expect("a zone");
    let until = "2028-12-31T23:59:59Z".parse().expect("an instant");
    read(text, &zones, (zone, &tz), until)
}

fn event(lines: &str) -> String {
    format!(
        "BEGIN:VCALENDAR\r\nBEGIN:VEVENT\r\n{}\r\nEND:VEVENT\r\nEND:VCALENDAR\r\n",
        lines.replace('\n', "\r\n")
    )
}

fn days(text: &str) -> Vec<String> {
    let events = read_in(&event(text), "Europe/Zurich").unwrap_or_else(|problem| panic!("{text}: {problem}"));
    assert!(events.intervals.is_empty());
    events.days.iter().map(|day| date_of(*day)).collect()
}

fn intervals(text: &str) -> Vec<String> {
    let events = read_in(&event(text), "Europe/Zurich").unwrap_or_else(|problem| panic!("{text}: {problem}"));
    assert!(events.days.is_empty());
    let shown = |interval: &Interval| format!("{}/{}", interval.from, interval.to).replace(".000", "");
    events.intervals.iter().map(shown).collect()
}

#[test]
fn all_day_events_are_days() {
    assert_eq!(days("DTSTART;VALUE=DATE:20270101"), ["2027-01-01"]);
    assert_eq!(
        days("DTSTART;VALUE=DATE:20271224\nDTEND;VALUE=DATE:20271227"),
        ["2027-12-24", "2027-12-25", "2027-12-26"]
    );
    assert_eq!(
        days("DTSTART;VALUE=DATE:20270301\nDURATION:P2D"),
        ["2027-03-01", "2027-03-02"]
    );
    assert_eq!(days("DTSTART;VALUE=DATE:20270301\nDURATION:P1W").len(), 7);
    assert_eq!(
        days("DTSTART;VALUE=DATE:20260801\nRRULE:FREQ=YEARLY"),
        ["2026-08-01", "2027-08-01", "2028-08-01"]
    );
    assert_eq!(
        days("DTSTART;VALUE=DATE:20270101\nRRULE:FREQ=DAILY;UNTIL=20270104\nEXDATE;VALUE=DATE:20270102,20270103"),
        ["2027-01-01", "2027-01-04"]
    );
    // The first time counts, whether the rule has it or not.
    assert_eq!(
        days("DTSTART;VALUE=DATE:20270102\nRRULE:FREQ=MONTHLY;BYMONTHDAY=1;COUNT=1"),
        ["2027-01-02", "2027-02-01"]
    );
    assert_eq!(
        days("DTSTART;VALUE=DATE:20270102\nRDATE;VALUE=DATE:20270405,20270406"),
        ["2027-01-02", "2027-04-05", "2027-04-06"]
    );
    assert_eq!(days("DTSTART;VALUE=DATE:20270102\nSTATUS:CANCELLED"), [""; 0]);
}

#[test]
fn timed_events_are_intervals() {
    for (text, expected) in [
        (
            "DTSTART:20270101T090000Z\nDTEND:20270101T100000Z",
            "2027-01-01T09:00:00Z/2027-01-01T10:00:00Z",
        ),
        // Without a zone of its own, in the one of the command line.
        (
            "DTSTART:20270101T090000\nDTEND:20270101T100000",
            "2027-01-01T08:00:00Z/2027-01-01T09:00:00Z",
        ),
        (
            "DTSTART;TZID=America/New_York:20270701T090000\nDURATION:PT1H30M",
            "2027-07-01T13:00:00Z/2027-07-01T14:30:00Z",
        ),
        (
            "DTSTART;TZID=\"Europe/London\":20270701T090000\nDTEND:20270701T090000Z",
            "2027-07-01T08:00:00Z/2027-07-01T09:00:00Z",
        ),
        // A day of the local clock in the night of the change.
        (
            "DTSTART:20270327T120000\nDURATION:P1D",
            "2027-03-27T11:00:00Z/2027-03-28T10:00:00Z",
        ),
    ] {
        assert_eq!(intervals(text), [expected], "{text}");
    }
    assert_eq!(
        intervals("DTSTART:20270327T220000\nDTEND:20270328T060000\nRRULE:FREQ=WEEKLY;COUNT=2"),
        [
            "2027-03-27T21:00:00Z/2027-03-28T04:00:00Z",
            "2027-04-03T20:00:00Z/2027-04-04T03:00:00Z"
        ]
    );
}

#[test]
fn what_says_nothing_about_time_is_passed_over() {
    let text = "\u{feff}BEGIN:VCALENDAR\nVERSION:2.0\nPRODID:-//x//EN\nX-WR-CALNAME:Holidays\nBEGIN:VTIMEZONE\nTZID:Europe/Zurich\n\
        BEGIN:STANDARD\nDTSTART:19701025T030000\nRRULE:FREQ=YEARLY\nTZOFFSETFROM:+0200\nEND:STANDARD\nEND:VTIMEZONE\n\
        BEGIN:VEVENT\nUID:1@x\nSUMMARY:New\n  Year\\, folded:with colons\nDTSTART;VAL\n UE=DATE:2027\n\t0101\nX-MS;A=\"b;c:d\":e\n\
        BEGIN:VALARM\nTRIGGER:-PT15M\nEND:VALARM\nTRANSP:TRANSPARENT\nEND:VEVENT\nEND:VCALENDAR\n\n";
    let events = read_in(text, "UTC").expect("reads");
    assert_eq!((events.days.len(), events.count), (1, 1));
}

#[test]
fn what_is_not_understood_is_refused_with_its_line() {
    let many = "DTSTART;VALUE=DATE:20200101\nRRULE:FREQ=DAILY;UNTIL=20280101";
    for (text, parts) in [
        ("", &["line 1", "no VEVENT"][..]),
        ("hello", &["line 1", "hello", "NAME:VALUE"]),
        (" x", &["line 1", "continues no line"]),
        ("BEGIN:VCARD", &["line 1", "VCARD"]),
        ("SUMMARY:x", &["line 1", "outside"]),
        (
            "BEGIN:VCALENDAR\nBEGIN:VJOURNAL\nEND:VJOURNAL\nEND:VCALENDAR",
            &["line 2", "VJOURNAL"],
        ),
        ("BEGIN:VCALENDAR\nEND:VEVENT", &["line 2", "END:VEVENT"]),
        (
            "BEGIN:VCALENDAR\nBEGIN:VEVENT\nDTSTART;VALUE=DATE:20270101",
            &["line 2", "cut off"],
        ),
        (&event("SUMMARY:x"), &["line 2", "no DTSTART"]),
        (
            &event("DTSTART:20270101"),
            &["line 3", "DTSTART", "20270101", "20270101T090000Z"],
        ),
        (
            &event("DTSTART;VALUE=DATE:20270230"),
            &["line 3", "20270230", "20270101"],
        ),
        (
            &event("DTSTART:20270101T250000Z\nDURATION:PT1H"),
            &["line 3", "T250000Z"],
        ),
        (&event("DTSTART;VALUE=PERIOD:x"), &["line 3", "PERIOD"]),
        (
            &event("DTSTART;TZID=W. Europe Standard Time:20270101T090000"),
            &["line 3", "W. Europe", "Europe/Zurich"],
        ),
        (
            &event("DTSTART:20270101T090000Z"),
            &["line 3", "neither DTEND nor DURATION"],
        ),
        (
            &event("DTSTART:20270101T090000Z\nDURATION:1h"),
            &["line 4", "1h", "PT2H30M"],
        ),
        (&event("DTSTART:20270101T090000Z\nDURATION:-PT1H"), &["line 4", "-PT1H"]),
        (
            &event("DTSTART:20270101T090000Z\nDTEND:20270101T080000Z"),
            &["line 4", "before it begins"],
        ),
        (
            &event("DTSTART:20270101T090000Z\nDTEND;VALUE=DATE:20270102"),
            &["line 4", "is a day"],
        ),
        (
            &event("DTSTART;VALUE=DATE:20270101\nDTEND:20270102T000000Z"),
            &["line 4", "is a time"],
        ),
        (&event("DTSTART;VALUE=DATE:20270101\nDURATION:PT1H"), &["line 4", "P1D"]),
        (
            &event("DTSTART;VALUE=DATE:20270101\nDTSTART;VALUE=DATE:20270102"),
            &["line 4", "line 3 already"],
        ),
        (
            &event("DTSTART;VALUE=DATE:20270101\nRRULE:FREQ=OFTEN"),
            &["line 4", "OFTEN"],
        ),
        (
            &event("DTSTART;VALUE=DATE:20270101\nRECURRENCE-ID:20270101"),
            &["line 4", "RECURRENCE-ID"],
        ),
        (
            &event("DTSTART;VALUE=DATE:20270101\nEXRULE:FREQ=DAILY"),
            &["line 4", "EXRULE"],
        ),
        (&event(many), &["line 4", "more than 2000", "--until"]),
    ] {
        let problem = read_in(text, "UTC").expect_err(text);
        for part in parts {
            assert!(problem.contains(part), "{text}: {problem} lacks {part:?}");
        }
    }
}

#[test]
fn damaged_files_are_refused_or_read_but_never_panic() {
    // Xorshift: the same damage in every run.
    let mut state = 0x5eed_u64;
    let mut below = |bound: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % bound as u64) as usize
    };
    let whole = event(
        "DTSTART;TZID=Europe/Zurich:20270327T220000\nDURATION:P1DT2H\nRRULE:FREQ=WEEKLY;COUNT=2\nEXDATE:20270403T200000Z",
    );
    let pieces = [
        "\n ",
        ":",
        ";",
        "=",
        "\"",
        "BEGIN:VEVENT\n",
        "END:VEVENT\n",
        "9999",
        "\u{202e}",
        "T",
        "-",
        "\0",
    ];
    for _ in 0..3_000 {
        let mut text = whole.clone();
        for _ in 0..=below(3) {
            let mut at = below(text.len());
            while !text.is_char_boundary(at) {
                at -= 1;
            }
            match below(4) {
                0 => text.truncate(at + 1),
                _ => text.insert_str(at, pieces[below(pieces.len())]),
            }
            if text.is_empty() {
                text.push('x');
            }
        }
        // Either way is fine.
        let _ = read_in(&text, "UTC");
    }
}
