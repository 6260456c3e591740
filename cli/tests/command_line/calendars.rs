//! Calendars: set by flags, imported from files, shown, deleted.

use crate::support::{run, run_at};
use sched_client::testing::FakeCluster;

const HOLIDAYS: &str = "BEGIN:VCALENDAR\r\nBEGIN:VEVENT\r\nSUMMARY:New Year\r\nDTSTART;VALUE=DATE:20270101\r\n\
    RRULE:FREQ=YEARLY\r\nEND:VEVENT\r\nBEGIN:VEVENT\r\nDTSTART:20270301T180000\r\nDURATION:PT12H\r\nEND:VEVENT\r\nEND:VCALENDAR\r\n";

#[tokio::test]
async fn calendars_are_set_imported_shown_and_deleted() {
    let cluster = FakeCluster::start(1).await;
    let json = ["-o", "json"];
    let set = [
        "calendar",
        "set",
        "holidays",
        "--day",
        "2027-12-24..2027-12-26",
        "--day",
        "2027-01-01",
    ];
    let interval = [
        "--interval",
        "2027-03-01T18:00/2027-03-02T06:00",
        "--tz",
        "Europe/Zurich",
        "--generation",
        "0",
    ];
    let made = run(&cluster, &[&set[..], &interval[..], &json[..]].concat())
        .await
        .json();
    assert_eq!(
        (&made["days"], &made["intervals"], &made["generation"]),
        (&4.into(), &1.into(), &1.into())
    );
    // It exists by now.
    run(&cluster, &[&set[..], &interval[..]].concat())
        .await
        .failed(1, &["generation 1"]);
    let shown = run(&cluster, &["calendar", "get", "holidays", "-o", "json"])
        .await
        .json();
    assert_eq!(shown["days"][3], "2027-12-26");
    assert_eq!(shown["intervals"][0]["from"], "2027-03-01T17:00:00.000Z");

    let import = [
        "calendar",
        "import",
        "holidays",
        "-",
        "--until",
        "2029-06-01",
        "--tz",
        "Europe/Zurich",
        "-o",
        "json",
    ];
    let endpoints = cluster.endpoints().join(",");
    let made = run_at(&endpoints, &import, HOLIDAYS.as_bytes()).await.json();
    assert_eq!((&made["days"], &made["intervals"]), (&3.into(), &1.into()));
    let shown = run(&cluster, &["calendar", "get", "holidays", "-o", "json"])
        .await
        .json();
    assert_eq!(
        shown["days"],
        serde_json::json!(["2027-01-01", "2028-01-01", "2029-01-01"])
    );
    assert_eq!(shown["intervals"][0]["to"], "2027-03-02T05:00:00.000Z");
    let broken = HOLIDAYS.replace("PT12H", "12 hours");
    run_at(&endpoints, &import, broken.as_bytes())
        .await
        .failed(2, &["standard input, line 9", "12 hours", "PT2H30M"]);

    assert!(
        run(&cluster, &["calendar", "list"])
            .await
            .done()
            .contains("Europe/Zurich")
    );
    run(&cluster, &["calendar", "delete", "holidays"]).await.done();
    run(&cluster, &["calendar", "get", "holidays"])
        .await
        .failed(4, &["does not exist"]);
    let carried_out = cluster.state().carried_out.clone();
    assert_eq!(
        carried_out,
        [
            "set-calendar holidays",
            "set-calendar holidays",
            "delete-calendar holidays"
        ]
    );
}
