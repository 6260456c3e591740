"""A remote worker: takes the runs of queues from the cluster and does them in threads of this process.

A run is done at least once: an attempt whose worker died or was cut off is given to another worker, by default within 12 s. An attempt
is begun at most once by a worker, and its end is sent again until the cluster has recorded it. A worker that has lost contact begins
nothing after 4 s, tells its handlers to stop after 6 s, interrupts them after 8 s and has given everything up after 10 s. A process
that is started again is a new worker, which claims nothing of what the old one held.
"""

from __future__ import annotations

import logging
import secrets
import signal
import threading
from typing import Any, Callable, Dict, Iterable, Mapping, Optional, TypeVar, Union

from .agent import Agent, Identity
from .documents import Duration, duration_ms
from .errors import invalid
from .job import Cancelled, DelayMe, Job
from .transport import addresses

__all__ = ["Cancelled", "DelayMe", "Job", "Worker"]

log = logging.getLogger("sched_client.worker")
Handler = Callable[[Job], Any]
H = TypeVar("H", bound=Handler)

QUEUES_MAX = 32
SLOTS_MAX = 10_000
NAME_BYTES_MAX = 256


class Worker:
    """Serves queues, each with a function of one's own.

    ::

        worker = Worker("http://127.0.0.1:7400", slots=4)

        @worker.task("images")
        def resize(job):
            for percent in (25, 50, 75):
                job.progress(percent, "resizing")
                job.raise_if_cancelled()
            return {"pixels": job.data["width"] ** 2}

        worker.run()

    What a function returns is recorded with the run: bytes as they are, anything else as JSON, at most 16 KiB. An exception fails
    the attempt, with its text as the reason; :class:`DelayMe` puts it off without using up a try.

    ``endpoints`` as for :class:`~sched_client.Client`. ``slots`` is how many runs it does at once, each in a thread. ``name`` must be
    unique in the cluster; without it, it is the first queue and a random number. ``labels`` are for tasks to select by. ``grace`` is
    what a function that was told to stop has before it is interrupted, ``patience`` what functions have to come to an end by
    themselves when the worker leaves.
    """

    def __init__(
        self,
        endpoints: Union[None, str, Iterable[str]] = None,
        *,
        name: Optional[str] = None,
        slots: int = 1,
        labels: Optional[Mapping[str, str]] = None,
        grace: Duration = 5,
        patience: Duration = 20,
    ) -> None:
        if not 1 <= slots <= SLOTS_MAX:
            raise invalid("slots", f"{slots}; expected 1 to {SLOTS_MAX}")
        self._endpoints = addresses(endpoints)
        self._name = name
        self._slots = slots
        self._labels = dict(labels or {})
        self._grace = duration_ms("grace", grace) / 1000
        self._patience = duration_ms("patience", patience) / 1000
        self._handlers: Dict[str, Handler] = {}
        self._agent: Optional[Agent] = None
        self._thread: Optional[threading.Thread] = None

    def task(self, queue: str) -> Callable[[H], H]:
        """Makes a function the one that does the runs of a queue. The function stays what it is."""
        if not queue or len(queue.encode()) > NAME_BYTES_MAX:
            raise invalid("queue", f"has {len(queue.encode())} bytes, expected 1 to {NAME_BYTES_MAX}")
        if queue in self._handlers:
            raise invalid("queue", f"{queue!r} has a function already")
        if len(self._handlers) == QUEUES_MAX:
            raise invalid("queue", f"{QUEUES_MAX} are served already, which is the most")

        def register(handler: H) -> H:
            self._handlers[queue] = handler
            return handler

        return register

    def start(self) -> None:
        """Works in a thread of its own, until :meth:`stop`. Nodes that do not answer are no error: it goes on looking for the leader."""
        if self._thread is not None:
            raise RuntimeError("the worker was started already")
        if not self._handlers:
            raise invalid("queue", "there is none; name one with @worker.task(…)")
        mark = secrets.token_hex(8)
        identity = Identity(
            name=self._name or f"{next(iter(self._handlers))[:48]}-{mark}",
            journal=secrets.randbits(128),
            queues=sorted(self._handlers),
            slots=self._slots,
            labels=self._labels,
            grace=self._grace,
            patience=self._patience,
        )
        self._agent = Agent(identity, dict(self._handlers), self._endpoints)
        self._thread = threading.Thread(target=self._agent.run, name="sched-worker", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Leaves: nothing new is taken, what runs has the patience to end and is then told to stop, results are recorded. Returns when
        the worker has left; some seconds after patience and grace it leaves in any case."""
        if self._agent is None or self._thread is None:
            return
        self._agent.leave()
        self._thread.join()

    def run(self) -> None:
        """Works until the process is asked to end (SIGTERM, SIGINT), then leaves as :meth:`stop` does.

        In another thread than the main one no signal arrives, and it works until :meth:`stop`.
        """
        self.start()
        agent, thread = self._agent, self._thread
        assert agent is not None and thread is not None, "start has set both"
        if threading.current_thread() is not threading.main_thread():
            thread.join()
            return
        signals = (signal.SIGTERM, signal.SIGINT)
        before = {number: signal.signal(number, lambda *_: agent.leave()) for number in signals}
        try:
            # With a bound, so that a signal is seen on every system.
            while thread.is_alive():
                thread.join(0.5)
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
