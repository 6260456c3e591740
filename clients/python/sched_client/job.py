"""What a function of a worker gets, and how it says that it is not done."""

from __future__ import annotations

import json
import threading
import time
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Callable, Dict, Optional, Tuple

from .documents import Duration, duration_ms

#: Output kept while it runs, and of a line.
OUTPUT_BYTES_MAX = 64 * 1024
LINE_BYTES_MAX = 4 * 1024


class DelayMe(Exception):  # noqa: N818
    """Raised by a function: not now, again after ``delay``, without using up a try."""

    def __init__(self, delay: Duration, reason: str = "") -> None:
        super().__init__(reason)
        self.delay_ms = duration_ms("delay", delay)
        self.reason = reason


class Cancelled(BaseException):  # noqa: N818
    """The attempt shall stop: :meth:`Job.raise_if_cancelled` raises it, and so does the worker, in the function's thread, when the grace
    is over. No ``Exception``, so that a function's own ``except Exception`` does not take it for an error of its work."""


@dataclass(frozen=True, order=True)
class Token:
    """The attempt's place in the cluster's log. Tokens of later attempts, of whatever run, are greater: who keeps the greatest that it
    has seen can refuse what an attempt does that was given up."""

    index: int
    position: int


class Output:
    """The newest output of an attempt, and where it stands. The job's lock is held by whoever calls."""

    def __init__(self) -> None:
        self.dropped = 0
        self.kept = bytearray()
        self.ended = False

    def line(self, text: str) -> None:
        """Adds a line."""
        self.kept += text.rstrip().encode(errors="replace")[:LINE_BYTES_MAX] + b"\n"
        if len(self.kept) > OUTPUT_BYTES_MAX:
            over = len(self.kept) - OUTPUT_BYTES_MAX // 2
            del self.kept[:over]
            self.dropped += over

    def read(self, offset: int, limit: int) -> Tuple[int, bytes, int, bool]:
        """Returns offset, bytes, the next offset, and whether nothing follows."""
        offset = min(max(offset, self.dropped), self.dropped + len(self.kept))
        start = offset - self.dropped
        data = bytes(self.kept[start : start + limit])
        return offset, data, offset + len(data), self.ended and start + len(data) == len(self.kept)


class Job:
    """One attempt of a run. ``run`` is the same for all attempts, so that it serves as a key against doing the same work twice."""

    def __init__(
        self,
        *,
        queue: str,
        payload: bytes,
        run: str,
        attempt: int,
        token: Token,
        scheduled_at: datetime,
        time_limit: Optional[float],
        progress_timeout: Optional[float],
        params: Dict[str, str],
        namespace: str,
        task_name: Optional[str],
        heard: Callable[[Token], None],
    ) -> None:
        self.queue = queue
        self.payload = payload
        self.run = run
        """The run, ``TASK:NUMBER``."""
        self.attempt = attempt
        """Which attempt of the run this is, from 1."""
        self.token = token
        self.scheduled_at = scheduled_at
        """When the run was to start: the instant it stands for, however late it is."""
        self.deadline = None if time_limit is None else time.monotonic() + time_limit
        """When the task's time limit is over, by ``time.monotonic()``; then it is told to stop."""
        self.progress_timeout = progress_timeout
        """Seconds that it may go without :meth:`progress`, if its task says so; then it is told to stop. What is logged does not count."""
        self.params = params
        """Parameters of a manual trigger."""
        self.namespace = namespace
        self.task_name = task_name
        self._heard = heard
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._cause = ""
        self._progress: Optional[Tuple[Optional[int], str]] = None
        self._progressed_at = time.monotonic()
        self._output = Output()

    @property
    def data(self) -> Any:
        """The payload, read as JSON; ``None`` when there is none. A payload that is not JSON fails the attempt."""
        return json.loads(self.payload) if self.payload else None

    def progress(self, percent: Optional[int] = None, message: str = "") -> None:
        """Says how far it is: ``schedcli get`` and ``schedcli runs`` show the newest, ``schedcli logs`` all. Cheap."""
        if percent is not None:
            percent = max(0, min(100, int(percent)))
        with self._lock:
            self._progress = (percent, message[:LINE_BYTES_MAX])
            self._progressed_at = time.monotonic()
            self._output.line(message if percent is None else f"{percent} % {message}")
        self._heard(self.token)

    def log(self, line: str) -> None:
        """Writes a line of output, for ``schedcli logs``. The last 64 KiB are kept while it runs, the last 16 KiB with the run."""
        with self._lock:
            self._output.line(line)
        self._heard(self.token)

    @property
    def _silent_at(self) -> Optional[float]:
        """When it has told no progress for too long."""
        return None if self.progress_timeout is None else self._progressed_at + self.progress_timeout

    @property
    def cancelled(self) -> bool:
        """Whether it shall stop: it was cancelled, its time is over, it told no progress for too long, the worker lost contact with the
        cluster, or it is leaving."""
        return self._stop.is_set()

    @property
    def cancel_reason(self) -> str:
        """Why it shall stop; empty while it goes on."""
        return self._cause

    def wait_cancelled(self, timeout: Optional[float] = None) -> bool:
        """Waits until it shall stop, at most so many seconds: what ``time.sleep`` is elsewhere. Returns whether it shall."""
        return self._stop.wait(timeout)

    def raise_if_cancelled(self) -> None:
        """Raises :class:`Cancelled` when it shall stop."""
        if self._stop.is_set():
            raise Cancelled(self._cause)
