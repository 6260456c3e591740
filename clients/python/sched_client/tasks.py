"""The tasks of the original scheduler, under their names. Each is a task document, made with a constructor.

>>> from datetime import datetime, timedelta, timezone
>>> from sched_client.tasks import SampleOneShotTask, SamplePeriodicTask
>>> SampleOneShotTask(datetime(2027, 3, 1, tzinfo=timezone.utc)).document()["action"]
{'sample': 'ok'}
>>> SamplePeriodicTask("MINUTELY", bysecond=(40,)).document()["schedule"]
{'rrule': ['FREQ=MINUTELY;BYSECOND=40']}

What a task does is data, not a method of the object: the cluster runs it long after this process has ended. Work of one's own is a
command, or the payload of a queue that a :class:`~sched_client.Worker` serves.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Dict, Iterable, Mapping, Optional, Sequence, Union

from .documents import Duration, Instant, rule_text


class Task:
    """What a document says, as an object. ``id`` is set by :meth:`Client.enqueue <sched_client.Client.enqueue>`.

    ``action`` and ``policy`` are those of a task document (docs/tasks.md): ``{"queue": "images", "payload": {...}}``,
    ``{"tries": 3}``. ``name`` is unique in the namespace.
    """

    def __init__(
        self,
        action: Mapping[str, Any],
        schedule: Optional[Mapping[str, Any]] = None,
        *,
        name: Optional[str] = None,
        policy: Optional[Mapping[str, Any]] = None,
        owner: str = "",
        description: str = "",
        labels: Optional[Mapping[str, str]] = None,
        late_ok: bool = False,
    ) -> None:
        self.id: Optional[int] = None
        self.schedule: Dict[str, Any] = dict(schedule or {})
        self.action: Dict[str, Any] = dict(action)
        self.policy: Dict[str, Any] = dict(policy or {})
        self.name = name
        self.owner = owner
        self.description = description
        self.labels: Dict[str, str] = dict(labels or {})
        self.late_ok = late_ok

    def document(self) -> Dict[str, Any]:
        """Returns the task document; what is not set is left out."""
        fields = {
            "name": self.name,
            "schedule": self.schedule,
            "action": self.action,
            "policy": self.policy,
            "owner": self.owner,
            "description": self.description,
            "labels": self.labels,
            "late_ok": self.late_ok,
        }
        return {field: value for field, value in fields.items() if value}

    # The original's accessors.

    def getId(self) -> Optional[int]:  # noqa: N802
        """Returns the id, once the task is enqueued."""
        return self.id

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id if self.id is not None else 'not enqueued'} {self.schedule}>"


class OneShotTask(Task):
    """Runs once: at ``start``, or at once without one."""

    def __init__(self, start: Optional[Instant] = None, action: Optional[Mapping[str, Any]] = None, **options: Any) -> None:
        super().__init__(action or {}, {} if start is None else {"at": start}, **options)

    def getStartOn(self) -> Optional[Instant]:  # noqa: N802
        """Returns when it is to run."""
        return self.schedule.get("at")


class PeriodicTask(Task):
    """Runs by a rule, given as ``dateutil.rrule.rrule`` takes it: ``PeriodicTask(rrule.DAILY, byhour=9, action=…)``.

    A ``dtstart`` that is not given is the moment of acceptance. Times are in UTC unless ``tz`` names a zone.
    """

    def __init__(
        self,
        frequency: Union[int, str],
        action: Optional[Mapping[str, Any]] = None,
        *,
        tz: Optional[str] = None,
        name: Optional[str] = None,
        policy: Optional[Mapping[str, Any]] = None,
        owner: str = "",
        description: str = "",
        labels: Optional[Mapping[str, str]] = None,
        **rule: Any,
    ) -> None:
        text, dtstart = rule_text(frequency, rule)
        schedule: Dict[str, Any] = {"rrule": [text]}
        if dtstart is not None:
            schedule["dtstart"] = dtstart
        if tz is not None:
            schedule["tz"] = tz
        super().__init__(
            action or {}, schedule, name=name, policy=policy, owner=owner, description=description, labels=labels
        )


class SampleOneShotTask(OneShotTask):
    """Does nothing, once."""

    def __init__(self, start: Optional[Instant] = None, **options: Any) -> None:
        super().__init__(start, {"sample": "ok"}, **options)


class SamplePeriodicTask(PeriodicTask):
    """Does nothing, by a rule."""

    def __init__(self, frequency: Union[int, str], **options: Any) -> None:
        super().__init__(frequency, {"sample": "ok"}, **options)


def _mail(
    fromAddr: Optional[str], toAddr: Union[str, Sequence[str]], subject: str, text: str, cc: Iterable[str]
) -> Dict[str, Any]:  # noqa: N803
    mail: Dict[str, Any] = {"to": [toAddr] if isinstance(toAddr, str) else list(toAddr), "subject": subject, "text": text}
    if fromAddr is not None:
        mail["from"] = fromAddr
    if cc:
        mail["cc"] = list(cc)
    return {"mail": mail}


class SendMailTask(OneShotTask):
    """Sends a mail, at ``start`` or at once, through the relay that the nodes are set up with."""

    def __init__(
        self,
        start: Optional[Instant] = None,
        *,
        fromAddr: Optional[str] = None,
        toAddr: Union[str, Sequence[str]],
        ccAddr: Iterable[str] = (),
        subject: str,
        text: str = "",
        **options: Any,
    ) -> None:  # noqa: N803
        super().__init__(start, _mail(fromAddr, toAddr, subject, text, ccAddr), **options)


class AlarmTask(SendMailTask):
    """Sends a mail ``before`` an event, which :meth:`Client.move_task <sched_client.Client.move_task>` moves with the event."""

    def __init__(self, event: Instant, before: Duration, **options: Any) -> None:
        super().__init__(event, **options)
        self.schedule["before"] = before


class HTTPTask(OneShotTask):
    """Sends an HTTP request, at ``start`` or at once."""

    def __init__(
        self,
        url: str,
        start: Optional[Instant] = None,
        *,
        method: str = "GET",
        body: Union[str, bytes] = b"",
        headers: Optional[Mapping[str, str]] = None,
        **options: Any,
    ) -> None:
        action: Dict[str, Any] = {"http": f"{method} {url}"}
        if body:
            action["body"] = body
        if headers:
            action["header"] = [f"{name}: {value}" for name, value in headers.items()]
        super().__init__(start, action, **options)


def now() -> datetime:
    """Returns this machine's time, aware and in UTC: the original's ``nowutc``."""
    from datetime import timezone

    return datetime.now(timezone.utc)


nowutc = now
