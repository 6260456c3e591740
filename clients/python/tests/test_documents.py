"""Documents and the original's tasks become what the cluster takes; what makes no sense is refused by the name of its field."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest
from dateutil import rrule

from sched_client import tasks
from sched_client.documents import duration_ms, instant_ms, rule_text, spec_of
from sched_client.errors import Invalid
from sched_client.transport import addresses

AT = datetime(2027, 3, 1, 9, tzinfo=timezone.utc)
AT_MS = 1_803_891_600_000


@pytest.mark.parametrize(
    ("text", "expected"),
    [("500ms", 500), ("1s", 1000), ("1h30m", 5_400_000), ("2d", 172_800_000), ("1.5s", 1500), ("PT5M", 300_000),
     ("P1DT12H", 129_600_000), ("P2W", 1_209_600_000), (2, 2000), (0.25, 250), (timedelta(minutes=1), 60_000)],
)  # fmt: skip
def test_durations(text: object, expected: int) -> None:
    assert duration_ms("d", text) == expected  # type: ignore[arg-type]


@pytest.mark.parametrize("text", ["", "1", "s", "1m1h", "1m 1s", "-1s", "1.0001ms", "P", "PT", "P1Y", True, timedelta(-1)])
def test_wrong_durations(text: object) -> None:
    with pytest.raises(Invalid, match="1h30m"):
        duration_ms("d", text)  # type: ignore[arg-type]


@pytest.mark.parametrize("at", [AT, "2027-03-01T09:00:00Z", "2027-03-01T10:00:00.000+01:00", "2027-03-01T09:00"])
def test_instants(at: object) -> None:
    assert instant_ms("at", at) == AT_MS  # type: ignore[arg-type]


def test_local_times_are_those_of_the_zone() -> None:
    document = {"schedule": {"at": "2027-07-01T09:00", "tz": "Europe/Zurich"}, "action": {"sample": "ok"}}
    spec, _, _ = spec_of(document)
    assert spec.schedule.at.at_unix_ms == instant_ms("at", "2027-07-01T07:00:00Z")


@pytest.mark.parametrize(
    ("frequency", "options", "expected"),
    [
        (rrule.MINUTELY, {"bysecond": (40,)}, "FREQ=MINUTELY;BYSECOND=40"),
        (rrule.WEEKLY, {"interval": 2, "byweekday": (rrule.MO, rrule.FR(-1))}, "FREQ=WEEKLY;INTERVAL=2;BYDAY=MO,-1FR"),
        ("daily", {"byhour": 9, "count": 3}, "FREQ=DAILY;BYHOUR=9;COUNT=3"),
        (rrule.YEARLY, {"byeaster": 0, "until": AT}, "FREQ=YEARLY;BYEASTER=0;UNTIL=20270301T090000Z"),
        ("FREQ=HOURLY;BYMINUTE=5", {}, "FREQ=HOURLY;BYMINUTE=5"),
    ],
)
def test_rules_are_dateutils(frequency: object, options: dict, expected: str) -> None:
    assert rule_text(frequency, options) == (expected, None)


def test_the_originals_tasks() -> None:
    mail = tasks.SendMailTask(AT, fromAddr="a@x.org", toAddr="b@x.org", ccAddr=["c@x.org"], subject="s", text="t")
    alarm = tasks.AlarmTask(AT, timedelta(minutes=15), toAddr=["b@x.org"], subject="soon", name="alarm")
    http = tasks.HTTPTask("http://localhost/x", method="POST", body="b", headers={"A": "1"})
    periodic = tasks.PeriodicTask(rrule.DAILY, {"command": ["/bin/true"]}, byhour=9, tz="Europe/Zurich", dtstart=AT)
    spec = spec_of(mail.document())[0]
    assert getattr(spec.action.mail, "from") == "a@x.org" and spec.schedule.at.at_unix_ms == AT_MS
    spec = spec_of(alarm.document())[0]
    assert (spec.schedule.before.event_unix_ms, spec.schedule.before.before_ms, spec.name) == (AT_MS, 900_000, "alarm")
    spec = spec_of(http.document())[0]
    assert (spec.action.http.method, spec.action.http.body, spec.action.http.headers[0].value) == ("POST", b"b", "1")
    assert spec.schedule.HasField("now")
    spec = spec_of(periodic.document())[0]
    assert (list(spec.schedule.rrule.rules), spec.schedule.rrule.zone) == (["FREQ=DAILY;BYHOUR=9"], "Europe/Zurich")
    assert spec.schedule.rrule.dtstart_unix_ms == AT_MS
    assert mail.getStartOn() == AT and mail.getId() is None


SAMPLE = {"sample": "ok"}


@pytest.mark.parametrize(
    ("document", "field"),
    [
        ({"action": {}}, "action"),
        ({"action": {"sample": "maybe"}}, "action.sample"),
        ({"action": {"sample": "ok", "queue": "q"}}, "action.sample"),
        ({"action": {"sample": "ok", "payload": 1}}, "action.payload"),
        ({"action": {"command": "ls -l"}}, "action.command"),
        ({"action": {"queue": "q", "payload": float("nan")}}, "action.payload"),
        ({"action": {"queue": "q", "progress_timeout": "soon"}}, "action.progress_timeout"),
        ({"action": {"http": "GET http://x", "header": "nonsense"}}, "action.header"),
        ({"action": {"mail": {"to": "a@b"}}}, "action.mail.subject"),
        ({"action": SAMPLE, "schedule": {"at": "tomorrow"}}, "schedule.at"),
        ({"action": SAMPLE, "schedule": {"in": "1s", "every": "2s"}}, "schedule.every"),
        ({"action": SAMPLE, "schedule": {"in": "1s", "dtstart": AT}}, "schedule.dtstart"),
        ({"action": SAMPLE, "schedule": {"cron": "@daily", "tz": "Mars/Base"}}, "schedule.tz"),
        ({"action": SAMPLE, "schedule": {"cron": "@daily", "dst": "maybe"}}, "schedule.dst"),
        ({"action": SAMPLE, "policy": {"overlap": "sometimes"}}, "policy.overlap"),
        ({"action": SAMPLE, "policy": {"missed": "all"}}, "policy.missed"),
        ({"action": SAMPLE, "policy": {"group": "g"}}, "policy.group"),
        ({"action": SAMPLE, "policy": {"notify": "never=x"}}, "policy.notify"),
        ({"action": SAMPLE, "polcy": {}}, "polcy"),
    ],
)
def test_what_makes_no_sense_is_named(document: dict, field: str) -> None:
    with pytest.raises(Invalid) as refused:
        spec_of(document)
    assert refused.value.field == field and field in str(refused.value)


def test_endpoints(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SCHED_ENDPOINT", raising=False)
    assert addresses(None) == ["127.0.0.1:7400"]
    monkeypatch.setenv("SCHED_ENDPOINT", "http://a:1/,b, [::1]:2")
    assert addresses(None) == ["a:1", "b:7400", "[::1]:2"]
    assert addresses(["c"]) == ["c:7400"]
    for bad in ("https://a:1", "a:b", "", "http://a/x", []):
        with pytest.raises(ValueError):
            addresses(bad)
