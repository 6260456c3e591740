"""The client against a real cluster: the calls of the original, what they are called now, and what they refuse."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from google.protobuf.json_format import MessageToDict
from conftest import Cluster, eventually

from sched_client import Client, errors
from sched_client.tasks import OneShotTask, SampleOneShotTask, SamplePeriodicTask

#: Every part of a document that both schedcli and this package read.
DOCUMENTS = [
    {"schedule": {"at": "2027-03-01T09:00:00.500Z", "expires": "2027-03-02T09:00:00Z"}, "action": {"sample": "fail,20"}},
    {"schedule": {"at": "2027-03-01T09:00", "tz": "Europe/Zurich", "before": "15m"},
     "action": {"mail": {"to": "a@x.org", "cc": ["b@x.org"], "from": "c@x.org", "subject": "s", "text": "t"}}},
    {"schedule": {"every": "1h30m", "anchor": "2020-01-01T00:00:00Z", "jitter": "5m", "count": 7},
     "action": {"http": "post http://localhost/x", "header": ["A: 1", "a:2"], "body": "b", "http_status": [200, 404],
                "http_timeout": "2s", "expect": "ok", "expect_header": ["Content-Type: json"]},
     "policy": {"time_limit": "none", "catch_up_every": "1m", "missed": "all:2", "put_off_max": "2d"}},
    {"schedule": {"cron": "0 3 * * *", "tz": "Europe/Zurich", "dst": "skip", "not_before": "2027-01-01T00:00:00Z",
                  "until": "2028-01-01T00:00:00Z"},
     "action": {"command": ["/bin/true", "-x"], "env": {"A": "1"}, "dir": "/tmp", "stdin": "in", "success_code": [0, 3],
                "user": "nobody", "limit_cpu": "90s", "limit_memory": "64M", "limit_files": 100}},
    {"schedule": {"rrule": ["FREQ=DAILY;BYHOUR=9"], "dtstart": "2027-03-01T00:00:00Z", "rdate": "2027-03-05T00:00:00Z",
                  "exdate": ["2027-03-06T09:00:00Z"]},
     "action": {"queue": "images", "progress_timeout": "1m30s", "payload": {"b": [1, 2.5, None, True, "ä"], "a": {"z": 1, "y": {}}}}},
    {"schedule": {"manual": True}, "action": {"queue": "images"},
     "policy": {"overlap": "queue-one", "missed": "all:3", "grace": "10m", "tries": 3, "retry_delay": "1s",
                "retry_factor": 1.5, "retry_delay_max": "1m", "delivery": "at-least-once", "time_limit": "1h30m",
                "priority": -7, "group": "g:2", "require": {"a": "1"}, "prefer": {"b": "2"}, "keep_finished": 5,
                "keep_failed": 6, "keep_for": "2d", "notify": ["failure=https://example.org/hook", "end=mailto:a@x.org"]}},
    {"name": "parent-{}", "namespace": "ns", "labels": {"k": "v"}, "owner": "ann", "description": "d",
     "schedule": {"manual": True}, "action": {"sample": "ok"}},
    {"schedule": {"after": ["parent-{}"], "on": "any"}, "namespace": "ns", "action": {"sample": "ok"}},
]  # fmt: skip


def test_documents_mean_what_they_mean_to_schedcli(cluster: Cluster, tmp_path: Path) -> None:
    client = Client(cluster.endpoints)
    for number, document in enumerate(DOCUMENTS):
        text = json.dumps(document)
        ours = client.enqueue(json.loads(text.replace("{}", "py") if "parent" in text else text))
        file = tmp_path / f"{number}.json"
        file.write_text(text.replace("-{}", "-cli"))
        theirs = cluster.json("enqueue", "-f", str(file))
        theirs = theirs[0] if isinstance(theirs, list) else theirs
        left, right = (client.get_task(task).spec for task in (ours.id, theirs["id"]))
        for spec in (left, right):
            # Tasks of their own are named apart.
            spec.ClearField("name")
            if spec.schedule.HasField("after"):
                assert len(spec.schedule.after.tasks) == 1
                spec.schedule.after.ClearField("tasks")
        assert MessageToDict(left) == MessageToDict(right), document


def test_the_calls_of_the_original(cluster: Cluster) -> None:
    with Client(cluster.endpoints) as c:
        later = datetime.now(timezone.utc) + timedelta(hours=1)
        task = OneShotTask(later, {"sample": "ok"}, name="original")
        accepted = c.enqueue(task)
        assert accepted.id == task.id == task.getId() and accepted.state == "QUEUED"
        assert c.getTask(task).name == "original" and c.getTask("original").id == task.id
        moved = c.moveTask(task, later + timedelta(hours=1))
        assert moved.next_run is not None and abs(moved.next_run - later - timedelta(hours=1)) < timedelta(milliseconds=1)
        assert c.dequeue(task).state == "TERMINATED"
        status = c.getStatus()
        assert status.state == status["state"] == "RUNNING" and status.confirmed and dict(status)["nodes"] == 1

        failing = c.enqueue({"action": {"sample": "fail"}})
        run = c.wait(failing, timeout=30)
        assert run.state == "FAILED" and list(c.runs(failing))[0].run == run.run
        assert c.startFailedTask(failing.id) == run.run
        assert c.wait(run.run, timeout=30).attempts == 2

        c.shutdown(msg="upgrade")
        try:
            assert c.getStatus().state == "SHUTDOWN" and c.getStatus().message == "upgrade"
            spooled = [c.enqueue({"action": {"sample": "ok"}}) for _ in range(3)]
            assert [op.task for op in c.getSpool()] == [task.id for task in spooled]
            assert c.getSpool()[0].kind == "enqueue"
            assert c.clearSpool() == 3 and c.getSpool() == []
        finally:
            c.start()
        assert c.getStatus().state == "RUNNING"


def test_what_came_since(cluster: Cluster) -> None:
    with Client(cluster.endpoints) as c:
        task = c.enqueue({"schedule": {"manual": True}, "action": {"command": ["/bin/sh", "-c", "echo $SCHED_PARAM_A"]}})
        run = c.run_task(task, {"A": "hello"})
        assert run is not None
        done = c.wait(run, timeout=30)
        assert (done.state, done.exit_code, done.output_tail) == ("FINISHED", 0, b"hello\n")
        assert b"".join(c.logs(run)) == b"hello\n"
        assert c.pause(task, note="month end").state == "QUEUED" and c.get_task(task).paused
        assert any("month end" in line for line in c.explain(task))
        assert not c.get_task(c.resume(task)).paused
        assert task.id in [found.id for found in c.tasks(states=["queued"])]
        slow = c.enqueue({"action": {"sample": "ok,600000"}})
        run = eventually("it runs", lambda: next(c.runs(slow, states=["RUNNING"]), None)).run
        assert c.cancel(run) == run
        assert c.wait(run, timeout=30).state == "TERMINATED"
        with pytest.raises(TimeoutError):
            c.wait(task, timeout=0.05)


def test_refusals_are_exceptions(cluster: Cluster) -> None:
    with Client(cluster.endpoints) as c:
        with pytest.raises(errors.NotFound, match="999999"):
            c.get_task(999_999)
        with pytest.raises(errors.NotFound):
            c.dequeue("nobody-has-this-name")
        named = {"name": "taken", "schedule": {"manual": True}, "action": {"sample": "ok"}}
        first = c.enqueue(named)
        with pytest.raises(errors.NameTaken) as taken:
            c.enqueue(named)
        assert taken.value.existing_task == first.id
        with pytest.raises(errors.Invalid) as wrong:
            c.enqueue({"action": {"command": [""]}})
        assert wrong.value.field == "action.command.argv"
        with pytest.raises(errors.Invalid, match="manual"):
            c.move_task(first, delay="1h")
        with pytest.raises(errors.WrongState, match="not paused"):
            c.resume(first)
        for bad in ("42", "a:b", "1:"):
            with pytest.raises(errors.Invalid, match="TASK:NUMBER"):
                c.get_run(bad)
    with pytest.raises(errors.Unreachable) as nobody:
        Client("http://127.0.0.1:1", deadline=0.3).enqueue(named)
    assert not nobody.value.outcome_unknown and "127.0.0.1:1" in nobody.value.said


def test_a_request_id_makes_a_repeat_harmless(cluster: Cluster) -> None:
    with Client(cluster.endpoints) as c:
        document = {"schedule": {"manual": True}, "action": {"sample": "ok"}}
        assert c.enqueue(document, request_id="once").id == c.enqueue(document, request_id="once").id
        assert c.enqueue(document).id != c.enqueue(document).id


def test_the_client_follows_the_leader(three: Cluster) -> None:
    with Client(three.endpoints, deadline=30) as c:
        # From any node.
        for address in three.addresses:
            assert Client(address).enqueue(SampleOneShotTask()).id > 0
        before = c.enqueue(SamplePeriodicTask("YEARLY", name="kept"))
        leader = three.leader()
        assert leader is not None
        three.nodes[leader].kill()
        after = c.enqueue(SampleOneShotTask())
        assert after.id > before.id and c.get_task("kept").id == before.id
        assert c.wait(after, timeout=30).state == "FINISHED"
