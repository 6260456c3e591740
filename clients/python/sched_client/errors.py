"""What can go wrong, each kind a class of its own."""

from __future__ import annotations

from typing import Dict, Optional, Type

from ._proto import scheduler_pb2 as pb


class SchedError(Exception):
    """The parent of everything that this package raises by itself."""


class Unreachable(SchedError):
    """No node gave an answer in time.

    ``outcome_unknown`` says that the call changes something and may have been carried out: look before you repeat it, or repeat
    it under the same ``request_id``. ``said`` is what each node said last.
    """

    def __init__(self, waited: float, said: Dict[str, str], outcome_unknown: bool) -> None:
        lines = [f"no answer from the cluster within {waited:.1f} s"]
        lines += [f"  {endpoint}: {what}" for endpoint, what in said.items()]
        if outcome_unknown:
            lines.append("whether it was carried out is not known: look before you repeat it")
        super().__init__("\n".join(lines))
        self.said = said
        self.outcome_unknown = outcome_unknown


class Refused(SchedError):
    """The cluster answered: no. The subclass says of what kind, the message what would be accepted."""

    def __init__(self, failure: pb.Failure) -> None:
        super().__init__(failure.message)
        self.kind: str = pb.FailureKind.Name(failure.kind).replace("FAILURE_KIND_", "").lower()
        self.retry_after: float = failure.retry_after_ms / 1000
        """When to try again, in seconds; 0 when no such promise is made."""


class NotFound(Refused):
    """There is no such task or run."""


class NameTaken(Refused):
    """The name belongs to another task, ``existing_task``."""

    def __init__(self, failure: pb.Failure) -> None:
        super().__init__(failure)
        self.existing_task: Optional[int] = failure.existing_task if failure.HasField("existing_task") else None


class WrongState(Refused):
    """Not possible in this state."""


class Conflict(Refused):
    """It changed since the caller looked."""


class Invalid(Refused, ValueError):
    """Something is not acceptable; ``field`` says what."""

    def __init__(self, failure: pb.Failure) -> None:
        super().__init__(failure)
        self.field: str = failure.field


class RequestExpired(Refused):
    """The time of the request key has passed: nothing was done."""


class Overloaded(Refused):
    """A bound is reached: nothing was done, try again after ``retry_after``."""


class WorkerUnreachable(Refused):
    """The worker that holds the output does not answer."""


class InternalError(Refused):
    """A fault in the node, or a request that it is too old for."""


_KINDS: Dict[int, Type[Refused]] = {
    pb.FAILURE_KIND_NOT_FOUND: NotFound,
    pb.FAILURE_KIND_NAME_TAKEN: NameTaken,
    pb.FAILURE_KIND_WRONG_STATE: WrongState,
    pb.FAILURE_KIND_CONFLICT: Conflict,
    pb.FAILURE_KIND_STALE_ATTEMPT: Conflict,
    pb.FAILURE_KIND_INVALID: Invalid,
    pb.FAILURE_KIND_REQUEST_EXPIRED: RequestExpired,
    pb.FAILURE_KIND_OVERLOADED: Overloaded,
    pb.FAILURE_KIND_WORKER_UNREACHABLE: WorkerUnreachable,
    pb.FAILURE_KIND_INTERNAL: InternalError,
    pb.FAILURE_KIND_UNSUPPORTED: InternalError,
}


def refusal(failure: pb.Failure) -> Refused:
    """Returns the exception of a refusal."""
    return _KINDS.get(failure.kind, Refused)(failure)


def invalid(field: str, problem: str) -> Invalid:
    """Returns the refusal of something that was found wrong before it was sent."""
    return Invalid(pb.Failure(kind=pb.FAILURE_KIND_INVALID, message=f"{field}: {problem}", field=field))
