"""The client: the calls of the original, and those that came since."""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass
from datetime import datetime, timezone
from types import TracebackType
from typing import Any, Iterable, Iterator, List, Mapping, Optional, Tuple, Type, Union

from ._proto import scheduler_pb2 as pb
from .documents import Document, Duration, Instant, duration_ms, instant_ms, spec_of, task_ref
from .errors import invalid
from .tasks import Task
from .transport import Transport

#: How long a request key of ours is remembered by the cluster.
_REQUEST_TTL_MS = 10 * 60 * 1000
#: Longest single wait at a node.
_WAIT_SECONDS = 10.0

TaskName = Union[int, str, Task, "Accepted"]


def _at(unix_ms: int) -> datetime:
    return datetime.fromtimestamp(unix_ms / 1000, timezone.utc)


def _optional_at(message: Any, field: str) -> Optional[datetime]:
    return _at(getattr(message, field)) if message.HasField(field) else None


def _next(next_run: pb.NextRun) -> Optional[datetime]:
    return _at(next_run.at_unix_ms) if next_run.WhichOneof("next") == "at_unix_ms" else None


def _run_name(run: pb.RunId) -> str:
    return f"{run.task}:{run.number}"


@dataclass(frozen=True)
class Accepted:
    """A task after a change."""

    id: int
    name: Optional[str]
    state: str
    next_run: Optional[datetime]


@dataclass(frozen=True)
class Progress:
    """What an attempt said last while it runs."""

    percent: Optional[int]
    message: str
    reported_at: datetime


@dataclass(frozen=True)
class Run:
    """One occurrence of a task, ``TASK:NUMBER``."""

    run: str
    task: int
    name: Optional[str]
    state: str
    scheduled_at: datetime
    assigned_at: Optional[datetime]
    started_at: Optional[datetime]
    ended_at: Optional[datetime]
    worker: Optional[str]
    attempts: int
    exit_code: Optional[int]
    reason: str
    queue: Optional[str]
    progress: Optional[Progress]
    result: bytes = b""
    """What a remote worker answered; only :meth:`Client.get_run` fills it."""
    output_tail: bytes = b""
    """The end of its output; only :meth:`Client.get_run` fills it."""

    @classmethod
    def _of(cls, run: pb.Run, result: bytes = b"", output_tail: bytes = b"") -> Run:
        said = run.progress
        progress = None
        if run.HasField("progress"):
            percent = said.percent if said.HasField("percent") else None
            progress = Progress(percent, said.message, _at(said.reported_at_unix_ms))
        return cls(
            run=_run_name(run.id),
            task=run.id.task,
            name=run.task_name if run.HasField("task_name") else None,
            state=pb.RunState.Name(run.state).replace("RUN_STATE_", ""),
            scheduled_at=_at(run.scheduled_at_unix_ms),
            assigned_at=_optional_at(run, "assigned_at_unix_ms"),
            started_at=_optional_at(run, "started_at_unix_ms"),
            ended_at=_optional_at(run, "ended_at_unix_ms"),
            worker=run.worker or None,
            attempts=run.attempts_count,
            exit_code=run.exit_code if run.HasField("exit_code") else None,
            reason=run.reason,
            queue=run.queue if run.HasField("queue") else None,
            progress=progress,
            result=result,
            output_tail=output_tail,
        )


@dataclass(frozen=True)
class TaskInfo:
    """A task with its run-time state."""

    id: int
    name: Optional[str]
    namespace: str
    state: str
    paused: bool
    generation: int
    periodic: bool
    next_run: Optional[datetime]
    created_at: datetime
    runs_created: int
    finished: int
    failed: int
    live: Tuple[str, ...]
    spec: pb.TaskSpec
    """The definition, as it travels."""

    @classmethod
    def _of(cls, task: pb.Task) -> TaskInfo:
        return cls(
            id=task.id,
            name=task.spec.name if task.spec.HasField("name") else None,
            namespace=task.spec.namespace,
            state=_task_state(task.state),
            paused=task.HasField("pause"),
            generation=task.generation,
            periodic=task.periodic,
            next_run=_next(task.next_run),
            created_at=_at(task.created_at_unix_ms),
            runs_created=task.runs_created,
            finished=task.finished,
            failed=task.failed,
            live=tuple(f"{task.id}:{number}" for number in task.live),
            spec=task.spec,
        )


@dataclass(frozen=True)
class SpoolOp:
    """An operation that was accepted and is not yet in the queue."""

    seq: int
    kind: str
    task: int
    name: Optional[str]
    accepted_at: datetime


@dataclass(frozen=True)
class Status:
    """How the cluster is. Also read as a mapping, as the original's was: ``status["running"]``."""

    state: str
    """``RUNNING``, or ``SHUTDOWN``: nothing is fired, operations wait in the spool."""
    message: str
    leader: Optional[int]
    term: int
    nodes: int
    spooled: int
    waiting: int
    ready: int
    running: int
    failed: int
    finished: int
    workers: int
    confirmed: bool
    """False: no quorum confirmed it, the figures may be old."""

    def __getitem__(self, key: str) -> Any:
        try:
            return getattr(self, key)
        except AttributeError:
            raise KeyError(key) from None

    def keys(self) -> Iterable[str]:
        """Returns the names of the fields, so that ``dict(status)`` works."""
        return self.__dataclass_fields__.keys()


def _task_state(state: int) -> str:
    return pb.TaskState.Name(state).replace("TASK_STATE_", "")  # type: ignore[arg-type]


class Client:
    """Talks to a cluster: a proxy of its leader, wherever that is.

    ``endpoints`` are addresses of some nodes, as a list or separated by commas; without it, the environment's ``SCHED_ENDPOINT``, or
    ``http://127.0.0.1:7400``. Any node will do: the client learns who leads and follows it. A call is tried at one node after the
    other for ``deadline`` seconds, each time under one request key, so that it is carried out at most once.

    May be used by several threads. Raises the exceptions of :mod:`sched_client.errors`.

    >>> client = Client("http://127.0.0.1:7400,http://127.0.0.1:7401")  # doctest: +SKIP
    >>> client.enqueue({"schedule": {"in": "1s"}, "action": {"sample": "ok"}})  # doctest: +SKIP
    Accepted(id=42, name=None, state='QUEUED', next_run=datetime.datetime(…))
    """

    def __init__(
        self,
        endpoints: Union[None, str, Iterable[str]] = None,
        *,
        namespace: str = "default",
        deadline: float = 10.0,
    ) -> None:
        self.namespace = namespace
        self._transport = Transport(endpoints, deadline)

    def close(self) -> None:
        """Ends the connections. A client that is not closed ends them when the process does."""
        self._transport.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        self.close()

    def _change(self, method: str, request: Any, request_id: Optional[str] = None) -> Any:
        if request_id is not None:
            request.request.caller.CopyFrom(pb.CallerKey(namespace=self.namespace, key=request_id))
        else:
            request.request.client.CopyFrom(
                pb.ClientKey(
                    expires_at_unix_ms=int(time.time() * 1000) + _REQUEST_TTL_MS,
                    nonce_high=secrets.randbits(64),
                    nonce_low=secrets.randbits(64),
                )
            )
        return self._transport.call(method, request, changes=True)

    def _read(self, method: str, request: Any, poll: float = 0.0) -> Any:
        return self._transport.call(method, request, changes=False, poll=poll)

    def _ref(self, task: TaskName) -> pb.TaskRef:
        if isinstance(task, Accepted):
            task = task.id
        if isinstance(task, Task):
            named = task.id if task.id is not None else task.name
            if named is None:
                raise invalid("task", "is not enqueued, and has no name")
            task = named
        return task_ref(task, self.namespace)

    @staticmethod
    def _run(run: str) -> pb.RunId:
        task, colon, number = run.partition(":")
        if not (colon and task.isdigit() and number.isdigit()):
            raise invalid("run", f"{run!r} is no run; expected TASK:NUMBER, for example 42:3")
        return pb.RunId(task=int(task), number=int(number))

    # ---- tasks ----

    def enqueue(self, task: Union[Task, Document], *, late_ok: bool = False, request_id: Optional[str] = None) -> Accepted:
        """Submits a task: an object of :mod:`sched_client.tasks`, or a task document.

        Once it returns, a majority of the cluster holds the task. A :class:`~sched_client.tasks.Task` gets its ``id``. ``late_ok``
        accepts an instant in the past, and runs at once. A ``request_id`` of one's own makes a repeat harmless for 24 hours, also
        after a crash of this process: the same id gets the first answer.

        Raises :class:`~sched_client.errors.Invalid`, :class:`~sched_client.errors.NameTaken`.
        """
        document: Mapping[str, Any] = task.document() if isinstance(task, Task) else task
        spec, document_late_ok, document_id = spec_of(document, self.namespace)
        request = pb.SubmitRequest(task=spec, late_ok=late_ok or document_late_ok)
        reply = self._change("Submit", request, request_id if request_id is not None else document_id)
        if isinstance(task, Task):
            task.id = reply.id
        return self._accepted(reply)

    @staticmethod
    def _accepted(reply: Any) -> Accepted:
        name = reply.name if reply.HasField("name") else None
        return Accepted(reply.id, name, _task_state(reply.state), _next(reply.next_run))

    def dequeue(self, task: TaskName, *, kill: bool = False) -> Accepted:
        """Takes a task out of the queue: a periodic one does not come back. ``kill`` cancels its live runs, too."""
        return self._accepted(self._change("Dequeue", pb.DequeueRequest(task=self._ref(task), kill=kill)))

    def move_task(self, task: TaskName, start: Union[Instant, None] = None, *, delay: Optional[Duration] = None) -> Accepted:
        """Gives a task a new start: an instant, or a ``delay`` from now.

        It is the instant of a one-shot, the event of an alarm, the dtstart of a rule.
        """
        request = pb.MoveRequest(task=self._ref(task))
        if (start is None) == (delay is None):
            raise invalid("start", "expected either a start or a delay")
        if start is not None:
            request.at_unix_ms = instant_ms("start", start)
        if delay is not None:
            request.in_ms = duration_ms("delay", delay)
        return self._accepted(self._change("Move", request))

    def pause(self, task: TaskName, *, until: Optional[Instant] = None, note: str = "") -> Accepted:
        """Stops firing a task, until then or until it is resumed."""
        request = pb.PauseRequest(task=self._ref(task), note=note)
        if until is not None:
            request.until_unix_ms = instant_ms("until", until)
        return self._accepted(self._change("Pause", request))

    def resume(self, task: TaskName) -> Accepted:
        """Fires a paused task again."""
        return self._accepted(self._change("Resume", pb.ResumeRequest(task=self._ref(task))))

    def run_task(
        self, task: TaskName, params: Optional[Mapping[str, str]] = None, *, request_id: Optional[str] = None
    ) -> Optional[str]:
        """Runs a task now, beside its schedule. Returns the run; nothing when the scheduler is shut down and it waits in the spool."""
        request = pb.TriggerRequest(task=self._ref(task))
        for key, value in (params or {}).items():
            request.params.add(key=key, value=value)
        reply = self._change("Trigger", request, request_id)
        return _run_name(reply.run) if reply.HasField("run") else None

    def get_task(self, task: TaskName) -> TaskInfo:
        """Reads a task, by id or name."""
        return TaskInfo._of(self._read("GetTask", pb.GetTaskRequest(task=self._ref(task))).task)

    def tasks(self, *, states: Iterable[str] = (), labels: Optional[Mapping[str, str]] = None) -> Iterator[TaskInfo]:
        """Reads tasks by ascending id, all of them, page by page."""
        request = pb.ListTasksRequest(namespace=self.namespace, labels=labels or {})
        request.states.extend(pb.TaskState.Value(f"TASK_STATE_{state.upper()}") for state in states)
        while True:
            reply = self._read("ListTasks", request)
            yield from (TaskInfo._of(task) for task in reply.tasks)
            if not reply.cursor:
                return
            request.cursor = reply.cursor

    def explain(self, what: TaskName) -> List[str]:
        """Says in words why a task or a run (``"42:3"``) is where it is, what comes next, and what could prevent it."""
        if isinstance(what, str) and ":" in what:
            return list(self._read("Explain", pb.ExplainRequest(run=self._run(what))).lines)
        return list(self._read("Explain", pb.ExplainRequest(task=self._ref(what))).lines)

    # ---- runs ----

    def start_failed_task(self, what: TaskName) -> str:
        """Gives a failed run a new round of tries: the run ``"42:3"``, or the newest failed run of a task. Returns the run."""
        if isinstance(what, str) and ":" in what:
            run = self._run(what)
        else:
            request = pb.ListRunsRequest(task=self._ref(what), states=[pb.RUN_STATE_FAILED], limit=1)
            runs = self._read("ListRuns", request).runs
            if not runs:
                raise invalid("task", "has no failed run")
            run = runs[0].id
        return _run_name(self._change("Retry", pb.RetryRequest(run=run)).run)

    retry = start_failed_task

    def cancel(self, run: str) -> str:
        """Cancels a run that has not ended. Its worker may need some seconds to end it."""
        return _run_name(self._change("Cancel", pb.CancelRequest(run=self._run(run))).run)

    def get_run(self, run: str) -> Run:
        """Reads one run, with its progress, its result and the end of its output."""
        reply = self._read("GetRun", pb.GetRunRequest(run=self._run(run)))
        return Run._of(reply.run, reply.result, reply.output_tail)

    def runs(self, task: Optional[TaskName] = None, *, states: Iterable[str] = ()) -> Iterator[Run]:
        """Reads the runs of a task, or of all, newest first, page by page."""
        request = pb.ListRunsRequest()
        if task is not None:
            request.task.CopyFrom(self._ref(task))
        request.states.extend(pb.RunState.Value(f"RUN_STATE_{state.upper()}") for state in states)
        while True:
            reply = self._read("ListRuns", request)
            yield from (Run._of(run) for run in reply.runs)
            if not reply.cursor:
                return
            request.cursor = reply.cursor

    def logs(self, run: str, *, follow: bool = False) -> Iterator[bytes]:
        """Reads the output of a run's newest attempt; with ``follow``, until the attempt has ended."""
        request = pb.LogsRequest(run=self._run(run), follow=follow)
        for chunk in self._transport.stream("Logs", request, None):
            if chunk.data:
                yield chunk.data

    def wait(self, what: TaskName, timeout: Optional[float] = None) -> Run:
        """Waits until a task or a run (``"42:3"``) has ended, and returns the run: that of a task is its newest.

        Raises ``TimeoutError`` when ``timeout`` seconds pass first.
        """
        request = pb.WaitRequest()
        if isinstance(what, str) and ":" in what:
            request.run.CopyFrom(self._run(what))
        else:
            request.task.CopyFrom(self._ref(what))
        until = None if timeout is None else time.monotonic() + timeout
        while True:
            left = _WAIT_SECONDS if until is None else min(_WAIT_SECONDS, max(0.0, until - time.monotonic()))
            request.timeout_ms = int(left * 1000)
            reply = self._read("Wait", request, poll=left)
            if reply.ended:
                return self.get_run(_run_name(reply.run.id)) if reply.HasField("run") else Run._of(reply.run)
            if until is not None and time.monotonic() >= until:
                raise TimeoutError(f"{what} has not ended within {timeout} s")

    # ---- the scheduler as a whole ----

    def get_status(self) -> Status:
        """Describes the cluster; also without a quorum, which it then says."""
        reply = self._read("Status", pb.StatusRequest())
        return Status(
            state=pb.SchedulerState.Name(reply.state).replace("SCHEDULER_STATE_", ""),
            message=reply.shutdown_message,
            leader=reply.leader if reply.HasField("leader") else None,
            term=reply.term,
            nodes=len(reply.nodes),
            spooled=reply.spooled,
            waiting=reply.waiting,
            ready=reply.ready,
            running=reply.running,
            failed=reply.failed,
            finished=reply.finished,
            workers=reply.workers,
            confirmed=reply.confirmed,
        )

    status = get_status

    def get_spool(self) -> List[SpoolOp]:
        """Reads the operations that were accepted and are not yet in the queue, oldest first."""
        request, found = pb.ShowSpoolRequest(), []
        while True:
            reply = self._read("ShowSpool", request)
            for op in reply.ops:
                name = op.task_name if op.HasField("task_name") else None
                found.append(SpoolOp(op.seq, op.kind, op.task, name, _at(op.accepted_at_unix_ms)))
            if not reply.cursor:
                return found
            request.cursor = reply.cursor

    def clear_spool(self) -> int:
        """Removes every operation from the spool, and says how many there were."""
        return int(self._change("ClearSpool", pb.ClearSpoolRequest()).removed)

    def shutdown(self, msg: str = "") -> None:
        """Shuts the scheduler down: nothing is fired, operations stay in the spool, the nodes go on running."""
        self._change("Shutdown", pb.ShutdownRequest(message=msg))

    def start(self) -> None:
        """Starts the scheduler again."""
        self._change("Start", pb.StartRequest())

    # ---- the original's names ----

    moveTask = move_task
    startFailedTask = start_failed_task
    clearSpool = clear_spool
    getSpool = get_spool
    getStatus = get_status
    getTask = get_task

