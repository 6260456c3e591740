"""Task documents, as ``schedcli enqueue -f`` takes them, and the messages they stand for.

A document is a mapping with ``schedule``, ``action``, ``policy`` and a few fields beside them; docs/tasks.md lists every field.
Instants may be aware ``datetime`` objects, durations ``timedelta`` objects or numbers of seconds.
"""

from __future__ import annotations

import json
import re
from datetime import datetime, timedelta, timezone, tzinfo
from decimal import Decimal
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Tuple, Union

from ._proto import scheduler_pb2 as pb
from .errors import invalid

Document = Mapping[str, Any]
Instant = Union[datetime, str]
Duration = Union[timedelta, int, float, str]

_UNITS = {"w": 604_800_000, "d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1_000, "ms": 1}
_EXPECTED_DURATION = "expected a duration such as 500ms, 1s, 90m, 1h30m, 2d, 1w or PT5M"
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


def duration_ms(field: str, value: Duration) -> int:
    """Returns a duration in milliseconds."""
    if isinstance(value, bool):
        raise invalid(field, f"{value!r} is not a duration; {_EXPECTED_DURATION}")
    if isinstance(value, (int, float)):
        value = timedelta(seconds=value)
    if isinstance(value, timedelta):
        if value < timedelta(0):
            raise invalid(field, f"{value} is negative; {_EXPECTED_DURATION}")
        return value // timedelta(milliseconds=1)
    text = str(value).strip().lower()
    milliseconds = _iso_duration(text[1:]) if text.startswith("p") else _units(text)
    if milliseconds is None:
        raise invalid(field, f"{value!r} is not a duration; {_EXPECTED_DURATION}")
    return milliseconds


def _units(text: str) -> Optional[int]:
    parts = re.findall(r"(\d+(?:\.\d+)?)(ms|[wdhms])", text)
    units = [unit for _, unit in parts]
    in_order = sorted(set(units), key=list(_UNITS).index) == units
    if not parts or not in_order or "".join(number + unit for number, unit in parts) != text:
        return None
    total = sum(Decimal(number) * _UNITS[unit] for number, unit in parts)
    return int(total) if total == int(total) else None


def _iso_duration(text: str) -> Optional[int]:
    found = re.fullmatch(r"(?:(\d+)w)?(?:(\d+)d)?(?:t(?:(\d+)h)?(?:(\d+)m)?(?:(\d+(?:\.\d+)?)s)?)?", text)
    if found is None or not any(found.groups()):
        return None
    total = sum(Decimal(number) * _UNITS[unit] for number, unit in zip(found.groups(), "wdhms") if number)
    return int(total) if total == int(total) else None


def instant_ms(field: str, value: Instant, zone: tzinfo = timezone.utc) -> int:
    """Returns an instant in milliseconds since 1970 UTC. What has no offset is a local time in ``zone``."""
    if isinstance(value, str):
        text = value.strip()
        text = text[:-1] + "+00:00" if text[-1:] in ("Z", "z") else text
        try:
            value = datetime.fromisoformat(_padded(text))
        except ValueError:
            raise invalid(
                field, f"{value!r} is not an instant; expected RFC 3339, for example 2027-03-01T09:00:00Z"
            ) from None
    if not isinstance(value, datetime):
        raise invalid(field, f"{value!r} is not an instant; expected a datetime, or RFC 3339 such as 2027-03-01T09:00:00Z")
    if value.tzinfo is None:
        value = value.replace(tzinfo=zone)
    return (value - _EPOCH) // timedelta(milliseconds=1)


def _padded(text: str) -> str:
    """Older Pythons read fractions of three or six digits only."""
    return re.sub(r"\.(\d{1,6})\d*", lambda found: "." + found.group(1).ljust(6, "0"), text)


def _zone(name: Optional[str]) -> tzinfo:
    if name is None or name.upper() == "UTC":
        return timezone.utc
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError):
        raise invalid("schedule.tz", f"{name!r} is no known time zone; expected an IANA name such as Europe/Zurich") from None


class _Fields:
    """Takes fields out of a mapping, and refuses those that nobody took."""

    def __init__(self, part: str, fields: Mapping[str, Any]) -> None:
        if not isinstance(fields, Mapping):
            raise invalid(part, f"{fields!r} is not a mapping")
        self.part = part
        self._fields = dict(fields)

    def name(self, field: str) -> str:
        return f"{self.part}.{field}" if self.part else field

    def take(self, field: str, default: Any = None) -> Any:
        value = self._fields.pop(field, None)
        return default if value is None else value

    def many(self, field: str) -> List[Any]:
        value = self.take(field, [])
        return list(value) if isinstance(value, (list, tuple)) else [value]

    def pairs(self, field: str) -> Dict[str, str]:
        value = self.take(field, {})
        if not isinstance(value, Mapping):
            raise invalid(self.name(field), f"{value!r} is not a mapping of texts to texts")
        return {str(key): str(text) for key, text in value.items()}

    def duration(self, field: str) -> Optional[int]:
        value = self.take(field)
        return None if value is None else duration_ms(self.name(field), value)

    def word(self, field: str, words: Mapping[str, int]) -> int:
        value = self.take(field)
        if value is None:
            return 0
        if value not in words:
            raise invalid(self.name(field), f"{value!r} is not one of {', '.join(words)}")
        return words[value]

    def end(self) -> None:
        for field in self._fields:
            raise invalid(self.name(field), "is no field of a task document, or means nothing together with the others")


def spec_of(document: Document, namespace: str = "default") -> Tuple[pb.TaskSpec, bool, Optional[str]]:
    """Returns the task that a document describes, whether late is all right, and its own request id."""
    fields = _Fields("", document)
    namespace = fields.take("namespace", namespace)
    schedule, bounds = _schedule(_Fields("schedule", fields.take("schedule", {})), namespace)
    spec = pb.TaskSpec(
        namespace=namespace,
        labels=fields.pairs("labels"),
        owner=fields.take("owner", ""),
        description=fields.take("description", ""),
        schedule=schedule,
        action=_action(_Fields("action", fields.take("action", {}))),
        policy=_policy(_Fields("policy", fields.take("policy", {}))),
        bounds=bounds,
    )
    name = fields.take("name")
    if name is not None:
        spec.name = name
    late_ok, request_id = bool(fields.take("late_ok", False)), fields.take("request_id")
    fields.end()
    return spec, late_ok, request_id


def task_ref(task: Union[int, str], namespace: str) -> pb.TaskRef:
    """Returns how a task is named: a number, or digits, are an id."""
    if isinstance(task, int) or task.isdigit():
        return pb.TaskRef(id=int(task))
    return pb.TaskRef(named=pb.NamedTask(namespace=namespace, name=task))


_FORMS = ("at", "in", "every", "cron", "rrule", "manual", "after")
_DST = {"shift": pb.DST_POLICY_SHIFT, "skip": pb.DST_POLICY_SKIP}


def _schedule(fields: _Fields, namespace: str) -> Tuple[pb.Schedule, pb.Bounds]:
    given = {form: fields.take(form) for form in _FORMS}
    forms = [form for form, value in given.items() if value not in (None, False, [], ())]
    if len(forms) > 1:
        raise invalid(f"schedule.{forms[1]}", f"schedule.{forms[0]} is given too; a task has one schedule")
    form = forms[0] if forms else "now"
    value = given.get(form)
    zone_name = fields.take("tz")
    zone = _zone(zone_name)

    def instant(field: str, value: Any) -> int:
        return instant_ms(f"schedule.{field}", value, zone)

    def instants(field: str) -> List[int]:
        return [instant(field, value) for value in fields.many(field)]

    schedule = pb.Schedule()
    if form == "now":
        schedule.now.SetInParent()
    elif form == "at":
        before = fields.duration("before")
        if before is None:
            schedule.at.at_unix_ms = instant("at", value)
        else:
            schedule.before.event_unix_ms = instant("at", value)
            schedule.before.before_ms = before
    elif form == "in":
        schedule.__getattribute__("in").delay_ms = duration_ms("schedule.in", value)
    elif form == "every":
        schedule.every.every_ms = duration_ms("schedule.every", value)
        anchor = fields.take("anchor")
        schedule.every.anchor_unix_ms = 0 if anchor is None else instant("anchor", anchor)
    elif form == "cron":
        schedule.cron.CopyFrom(pb.CronSchedule(expr=value, zone=zone_name or "UTC", dst=fields.word("dst", _DST)))
    elif form == "rrule":
        rules = [str(rule) for rule in (value if isinstance(value, (list, tuple)) else [value])]
        rule = pb.RruleSchedule(rules=rules, zone=zone_name or "UTC", dst=fields.word("dst", _DST))
        rule.rdates_unix_ms.extend(instants("rdate"))
        rule.exdates_unix_ms.extend(instants("exdate"))
        dtstart = fields.take("dtstart")
        if dtstart is not None:
            rule.dtstart_unix_ms = instant("dtstart", dtstart)
        schedule.rrule.CopyFrom(rule)
    elif form == "manual":
        schedule.manual.SetInParent()
    else:
        parents = value if isinstance(value, (list, tuple)) else [value]
        endings = {"success": pb.ENDING_SUCCESS, "failure": pb.ENDING_FAILURE, "any": pb.ENDING_ANY}
        after = pb.AfterSchedule(on=fields.word("on", endings))
        after.tasks.extend(task_ref(parent, namespace) for parent in parents)
        schedule.after.CopyFrom(after)
    bounds = pb.Bounds()
    for field in ("not_before", "until", "expires"):
        at = fields.take(field)
        if at is not None:
            setattr(bounds, f"{field}_unix_ms", instant(field, at))
    bounds.calendars.extend(fields.many("calendars"))
    count, jitter = fields.take("count"), fields.duration("jitter")
    if count is not None:
        bounds.count = count
    if jitter is not None:
        bounds.jitter_ms = jitter
    fields.end()
    return schedule, bounds


def json_bytes(field: str, value: Any) -> bytes:
    """Returns a payload: bytes as they are, anything else as JSON in its one form."""
    if isinstance(value, (bytes, bytearray)):
        return bytes(value)
    try:
        text = json.dumps(value, separators=(",", ":"), sort_keys=True, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise invalid(field, f"cannot be written as JSON: {error}") from None
    return text.encode()


def _bytes(value: Union[str, bytes]) -> bytes:
    return value if isinstance(value, bytes) else value.encode()


def _action(fields: _Fields) -> pb.Action:
    kinds: Dict[str, Callable[[Any, _Fields], pb.Action]] = {
        "command": _command,
        "http": _http,
        "mail": _mail,
        "queue": _worker,
        "sample": _sample,
    }
    given = {kind: fields.take(kind) for kind in kinds}
    chosen = [kind for kind, value in given.items() if value not in (None, [])]
    if not chosen:
        raise invalid("action", f"is missing; expected one of {', '.join(kinds)}")
    if len(chosen) > 1:
        raise invalid(f"action.{chosen[1]}", f"action.{chosen[0]} is given too; a task has one action")
    action = kinds[chosen[0]](given[chosen[0]], fields)
    fields.end()
    return action


def _command(argv: Any, fields: _Fields) -> pb.Action:
    if isinstance(argv, str):
        raise invalid("action.command", f"{argv!r} is a text; expected a list of a program and its arguments")
    command = pb.CommandAction(
        argv=[str(word) for word in argv],
        env=fields.pairs("env"),
        stdin=_bytes(fields.take("stdin", b"")),
        success_codes=fields.many("success_code"),
    )
    for field in ("dir", "user"):
        value = fields.take(field)
        if value is not None:
            setattr(command, field, str(value))
    cpu_ms, memory, files = fields.duration("limit_cpu"), fields.take("limit_memory"), fields.take("limit_files")
    command.limits.SetInParent()
    if cpu_ms is not None:
        if cpu_ms == 0 or cpu_ms % 1000:
            raise invalid("action.limit_cpu", "is not a number of whole seconds; expected for example 90s")
        command.limits.cpu_s = cpu_ms // 1000
    if memory is not None:
        command.limits.memory_bytes = _size("action.limit_memory", memory)
    if files is not None:
        command.limits.files = files
    return pb.Action(command=command)


def _size(field: str, value: Union[int, str]) -> int:
    found = re.fullmatch(r"(\d+)(?:([KMGT])(?:iB)?)?", str(value))
    if found is None:
        raise invalid(field, f"{value!r} is not a size; expected for example 512M or 2G")
    return int(found.group(1)) << (10 * " KMGT".index(found.group(2) or " "))


def _http(text: Any, fields: _Fields) -> pb.Action:
    method, _, url = str(text).strip().partition(" ")
    if not url:
        method, url = "GET", method
    timeout = fields.duration("http_timeout")
    http = pb.HttpAction(
        method=method.upper(),
        url=url.strip(),
        body=_bytes(fields.take("body", b"")),
        success_statuses=fields.many("http_status"),
        timeout_ms=30_000 if timeout is None else timeout,
    )
    for header in fields.many("header"):
        name, colon, value = str(header).partition(":")
        if not colon or not name.strip():
            raise invalid("action.header", f'{header!r} is not "Name: value"')
        http.headers.add(name=name.strip(), value=value.strip())
    for header in fields.many("expect_header"):
        name, colon, value = str(header).partition(":")
        if not colon or not name.strip():
            raise invalid("action.expect_header", f'{header!r} is not "Name: RE", for example "Content-Type: json"')
        http.expect_headers.add(name=name.strip(), value=value.strip())
    expect = fields.take("expect")
    if expect is not None:
        http.expect = expect
    return pb.Action(http=http)


def _mail(value: Any, _: _Fields) -> pb.Action:
    fields = _Fields("action.mail", value)
    mail = pb.MailAction(to=fields.many("to"), cc=fields.many("cc"), text=fields.take("text", ""))
    subject, sender = fields.take("subject"), fields.take("from")
    if subject is None:
        raise invalid("action.mail.subject", 'is missing; a mail has one, for example "Backup is due"')
    mail.subject = subject
    if sender is not None:
        setattr(mail, "from", sender)
    fields.end()
    return pb.Action(mail=mail)


def _worker(queue: Any, fields: _Fields) -> pb.Action:
    worker = pb.WorkerAction(queue=str(queue), payload=json_bytes("action.payload", fields.take("payload", b"")))
    _set(worker, "progress_timeout_ms", fields.duration("progress_timeout"))
    return pb.Action(worker=worker)


def _sample(value: Any, _: _Fields) -> pb.Action:
    found = re.fullmatch(r"(ok|fail)(?:,\s*(\d+))?", str(value))
    if found is None:
        raise invalid("action.sample", f"{value!r} is not ok or fail, with milliseconds if any, for example ok,500")
    return pb.Action(sample=pb.SampleAction(succeed=found.group(1) == "ok", duration_ms=int(found.group(2) or 0)))


_OVERLAP = {
    "allow": pb.OVERLAP_ALLOW,
    "skip": pb.OVERLAP_SKIP,
    "queue-one": pb.OVERLAP_QUEUE_ONE,
    "queue-all": pb.OVERLAP_QUEUE_ALL,
    "replace": pb.OVERLAP_REPLACE,
}
_DELIVERY = {"at-least-once": pb.DELIVERY_AT_LEAST_ONCE, "at-most-once": pb.DELIVERY_AT_MOST_ONCE}
_NOTIFY = {
    "failure": pb.NOTIFY_ON_FAILURE,
    "recovery": pb.NOTIFY_ON_RECOVERY,
    "miss": pb.NOTIFY_ON_MISS,
    "end": pb.NOTIFY_ON_END,
}


def _policy(fields: _Fields) -> pb.Policy:
    policy = pb.Policy(overlap=fields.word("overlap", _OVERLAP), delivery=fields.word("delivery", _DELIVERY))
    _set(policy, "priority", fields.take("priority"))
    _set(policy, "grace_ms", fields.duration("grace"))
    limit = fields.take("time_limit")
    # 0 says that there is none, whatever the cluster's default is.
    if limit == "none":
        policy.time_limit_ms = 0
    elif limit is not None:
        policy.time_limit_ms = duration_ms("policy.time_limit", limit)
    _set(policy, "catch_up_every_ms", fields.duration("catch_up_every"))
    _set(policy.tries, "put_off_ms_max", fields.duration("put_off_max"))
    missed = fields.take("missed")
    if missed is not None:
        found = re.fullmatch(r"skip|latest|all:(\d+)", str(missed))
        if found is None:
            raise invalid("policy.missed", f"{missed!r} is not skip, latest or all:N")
        if found.group(1):
            policy.missed.all.max = int(found.group(1))
        else:
            getattr(policy.missed, str(missed)).SetInParent()
    _set(policy.tries, "max", fields.take("tries"))
    _set(policy.tries, "delay_ms", fields.duration("retry_delay"))
    _set(policy.tries, "delay_ms_max", fields.duration("retry_delay_max"))
    factor = fields.take("retry_factor")
    _set(policy.tries, "factor_percent", None if factor is None else round(factor * 100))
    kept, kept_failed = fields.duration("keep_for"), fields.duration("keep_failed_for")
    _set(policy.retention, "finished_max", fields.take("keep_finished"))
    _set(policy.retention, "failed_max", fields.take("keep_failed"))
    _set(policy.retention, "finished_age_ms_max", kept)
    _set(policy.retention, "failed_age_ms_max", kept if kept_failed is None else kept_failed)
    group = fields.take("group")
    if group is not None:
        name, colon, limit = str(group).rpartition(":")
        if not colon or not limit.strip().isdigit():
            raise invalid("policy.group", f"{group!r} is not NAME:LIMIT, for example reports:2")
        policy.group.CopyFrom(pb.Group(name=name, limit=int(limit)))
    require, prefer = fields.pairs("require"), fields.pairs("prefer")
    if require or prefer:
        policy.placement.CopyFrom(pb.Placement(require=require, prefer=prefer))
    for text in fields.many("notify"):
        event, equals, to = str(text).partition("=")
        if not equals or event not in _NOTIFY:
            raise invalid("policy.notify", f"{text!r} is not EVENT=TO, for example failure=https://example.org/hook")
        if to.startswith("mailto:"):
            policy.notify.add(on=_NOTIFY[event], mail_to=to[len("mailto:") :])
        else:
            policy.notify.add(on=_NOTIFY[event], webhook_url=to)
    fields.end()
    return policy


def _set(message: Any, field: str, value: Optional[int]) -> None:
    if value is not None:
        setattr(message, field, value)


def rule_text(frequency: Any, options: Mapping[str, Any]) -> Tuple[str, Optional[Instant]]:
    """Returns the RRULE of dateutil's arguments, and its dtstart.

    ``frequency`` is one of dateutil's constants (``rrule.MINUTELY``), its name, or a text that is a rule already.
    """
    names: Sequence[str] = ("YEARLY", "MONTHLY", "WEEKLY", "DAILY", "HOURLY", "MINUTELY", "SECONDLY")
    options = {key: value for key, value in options.items() if value is not None}
    dtstart = options.pop("dtstart", None)
    if isinstance(frequency, int) and 0 <= frequency < len(names):
        parts = [f"FREQ={names[frequency]}"]
    elif isinstance(frequency, str) and frequency.upper() in names:
        parts = [f"FREQ={frequency.upper()}"]
    elif isinstance(frequency, str) and "FREQ=" in frequency.upper():
        parts = [frequency]
    else:
        raise invalid("schedule.rrule", f"{frequency!r} is no frequency; expected one of {', '.join(names)}")
    for key, value in options.items():
        if key == "until":
            at = datetime.fromtimestamp(instant_ms("until", value) / 1000, timezone.utc)
            parts.append(f"UNTIL={at:%Y%m%dT%H%M%SZ}")
        elif key == "wkst":
            parts.append(f"WKST={_weekday(value)}")
        elif key in ("byweekday", "byday"):
            parts.append(f"BYDAY={_list(value, _weekday)}")
        elif key in ("interval", "count"):
            parts.append(f"{key.upper()}={int(value)}")
        elif re.fullmatch(r"by(month|monthday|yearday|weekno|hour|minute|second|setpos|easter)", key):
            parts.append(f"{key.upper()}={_list(value, lambda number: str(int(number)))}")
        else:
            raise invalid(f"schedule.{key}", "is no part of a rule; expected dateutil's arguments, for example interval=5")
    return ";".join(parts), dtstart


def _list(value: Any, text: Callable[[Any], str]) -> str:
    return ",".join(text(item) for item in (value if isinstance(value, (list, tuple, set)) else [value]))


def _weekday(value: Any) -> str:
    days = ("MO", "TU", "WE", "TH", "FR", "SA", "SU")
    if isinstance(value, int):
        return days[value]
    if isinstance(value, str):
        return value.upper()
    # One of dateutil's: MO, FR(-1).
    return f"{value.n:+d}{days[value.weekday]}" if value.n else days[value.weekday]
