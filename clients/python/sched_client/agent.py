"""The worker's side of the stream to the leader. One thread owns everything it knows; the functions' threads only send it events.

It follows the leader from node to node while the functions run on. The protocol is described in proto/proto/worker.proto.
"""

from __future__ import annotations

import ctypes
import logging
import queue
import random
import threading
import time
from collections import OrderedDict, deque
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any, Callable, Deque, Dict, Iterator, List, Mapping, Optional, Set, Tuple

import grpc

from ._proto import worker_pb2 as pb
from .documents import json_bytes
from .errors import Invalid
from .job import Cancelled, DelayMe, Job, Token

log = logging.getLogger("sched_client.worker")

PROTOCOL_VERSION = 1
MESSAGE_BYTES_MAX = 16 * 1024 * 1024
#: Seconds: for a connection, and for the session to be committed.
CONNECT_TIMEOUT, WELCOME_TIMEOUT = 3.0, 6.0
BACKOFF = (0.1, 2.0)
#: When the leader says that trying again is useless.
REFUSED_PAUSE = 60.0
#: A report that is not recorded within this time is sent again.
REPEAT_AFTER = 5.0
#: Longest sleep: what is overdue by the clock of contact is seen then.
SLEEP_MAX = 0.5
PROGRESS_EVERY = 0.2
RECORD_PATIENCE = 3.0
#: Seconds that a function may take to end when it was interrupted.
GONE_WITHIN = 1.0
RESULT_BYTES_MAX = OUTPUT_TAIL_BYTES_MAX = 16 * 1024
CHUNK_BYTES_MAX = 256 * 1024
TEXT_BYTES_MAX = 4 * 1024
#: Tokens remembered so that none is begun twice; with more, the lowest go, and what is not above them is refused.
SETTLED_MAX = 100_000
READERS_MAX = 64
OUTPUTS_KEPT_MAX = 64
#: What is still done, by the age of the last contact in tenths of the lease.
GOOD, NO_STARTS, TERMINATE, KILL, GIVEN_UP = range(5)
_STEPS = ((10, GIVEN_UP), (8, KILL), (6, TERMINATE), (4, NO_STARTS))
OPTIONS = [
    ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
    ("grpc.keepalive_time_ms", 2000),
    ("grpc.keepalive_timeout_ms", 4000),
    # Also how long the making of a connection may take.
    ("grpc.min_reconnect_backoff_ms", int(CONNECT_TIMEOUT * 1000)),
    # Each connection is one of its own, dialled at once, not one that gRPC holds back after a failure.
    ("grpc.use_local_subchannel_pool", 1),
]


def boot() -> float:
    """Returns the time since boot, suspension included where the system tells it: a lease runs out while a machine sleeps, too."""
    clock = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if clock is None else time.clock_gettime(clock)


def wall_ms() -> int:
    """Returns this machine's time: for people."""
    return int(time.time() * 1000)


def cut(text: str) -> str:
    """Cuts a text for people to its bound."""
    return text.encode(errors="replace")[:TEXT_BYTES_MAX].decode(errors="ignore")


@dataclass(frozen=True)
class Identity:
    """Who the worker is, and how it works."""

    name: str
    journal: int
    queues: List[str]
    slots: int
    labels: Mapping[str, str]
    grace: float
    patience: float


@dataclass
class Attempt:
    """An attempt that is held, and how far it is: waiting, asking for its grant, running, over."""

    wire: pb.Attempt
    run: Optional[pb.Run] = None
    asks: bool = False
    job: Optional[Job] = None
    thread: Optional[threading.Thread] = None
    number: int = 0
    #: When the function is interrupted, and when it is left behind because it did not end then.
    interrupt_at: Optional[float] = None
    interrupted: bool = False
    leave_at: Optional[float] = None
    started_ms: int = 0
    #: A limit was reached: its end is a failure.
    failed: bool = False
    completed: Optional[pb.Completed] = None
    nack: Optional[pb.Nack] = None
    sent_at: Optional[float] = None

    @property
    def is_over(self) -> bool:
        return self.completed is not None or self.nack is not None

    @property
    def is_running(self) -> bool:
        return self.job is not None and not self.is_over


class Contact:
    """What may still be done, by the send time of the last acknowledged heartbeat."""

    def __init__(self) -> None:
        self.lease = 10.0
        self.last: Optional[float] = None
        self._sent: Deque[Tuple[int, float]] = deque(maxlen=64)
        self._next = 1

    def welcomed(self, sent: float, lease: float) -> None:
        self.lease = lease
        self.last = sent if self.last is None else max(self.last, sent)
        self._sent.clear()
        self._next = 1

    def send(self, now: float) -> int:
        self._sent.append((self._next, now))
        self._next += 1
        return self._next - 1

    def acknowledged(self, seq: int) -> None:
        # Numbers that were never sent prolong nothing.
        if seq >= self._next or self.last is None:
            return
        while self._sent and self._sent[0][0] <= seq:
            self.last = max(self.last, self._sent.popleft()[1])

    def phase(self, now: float) -> int:
        if self.last is None:
            return GIVEN_UP
        age = now - self.last
        return next((phase for tenths, phase in _STEPS if age >= self.lease * tenths / 10), GOOD)


class Stream:
    """One connection to a node: a thread reads it, and its messages become events."""

    def __init__(self, address: str, hello: pb.Hello, events: queue.SimpleQueue) -> None:
        self.address = address
        # Before it is sent: too early shortens contact, too late would stretch it.
        self.hello_sent = boot()
        self.answer_by = time.monotonic() + CONNECT_TIMEOUT + WELCOME_TIMEOUT
        self.welcomed = False
        self.named = {_token(held.attempt) for held in hello.held}
        self._events = events
        # Few: what waits longer is gathered into larger batches.
        self._outgoing: queue.Queue = queue.Queue(maxsize=4)
        self._outgoing.put(pb.FromWorker(hello=hello))
        self._channel = grpc.insecure_channel(address, options=OPTIONS)
        threading.Thread(target=self._read, name="sched-worker-stream", daemon=True).start()

    def _read(self) -> None:
        reason = "the leader ended the stream"
        try:
            connect = self._channel.stream_stream(
                "/sched.worker.v1.WorkerGateway/Connect",
                request_serializer=pb.FromWorker.SerializeToString,
                response_deserializer=pb.ToWorker.FromString,
            )
            # Fails at once when nobody listens: the next node is asked.
            for message in connect(iter(self._outgoing.get, None), wait_for_ready=False):
                self._events.put(("message", self, message))
        except grpc.RpcError as error:
            reason = str(error.details())
        except ValueError:
            reason = "closed"
        self._events.put(("closed", self, reason))

    def send(self, batch: pb.FromWorker) -> None:
        self._outgoing.put_nowait(batch)

    def has_room(self) -> bool:
        return not self._outgoing.full()

    def finish(self) -> None:
        """Ends this side of the stream after what was sent."""
        try:
            self._outgoing.put(None, timeout=1)
        except queue.Full:
            pass

    def close(self) -> None:
        # Ends the calls on it, and with them the reading thread.
        self._channel.close()
        try:
            self._outgoing.put_nowait(None)
        except queue.Full:
            pass


@dataclass
class Outbox:
    """What waits to be sent. Attempts are only named: what there is to say of them is held."""

    reports: Set[Token] = field(default_factory=set)
    grants: Set[Token] = field(default_factory=set)
    progress: Set[Token] = field(default_factory=set)
    chunks: List[pb.OutputChunk] = field(default_factory=list)
    goodbye: Optional[pb.Goodbye] = None
    heartbeat: bool = False


class Agent:
    """See the module."""

    def __init__(self, identity: Identity, handlers: Dict[str, Callable[[Job], Any]], endpoints: List[str]) -> None:
        self.identity = identity
        self._handlers = handlers
        self._endpoints = endpoints
        self._next_endpoint = 0
        self._hint: Optional[str] = None
        self._shunned: Optional[str] = None
        self._events: queue.SimpleQueue = queue.SimpleQueue()
        self._heard: Set[Token] = set()
        self._heard_lock = threading.Lock()
        self._stream: Optional[Stream] = None
        self._dial_at = 0.0
        self._backoff = BACKOFF[0]
        self._contact = Contact()
        self._phase = GIVEN_UP
        self._held: Dict[Token, Attempt] = {}
        self._settled: "OrderedDict[Token, None]" = OrderedDict()
        self._forgotten: Optional[Token] = None
        self._outputs: Deque[Tuple[str, int, Job]] = deque(maxlen=OUTPUTS_KEPT_MAX)
        self._readers: List[Tuple[float, pb.OutputRequest]] = []
        self._outbox = Outbox()
        self._heartbeat_every, self._heartbeat_at, self._repeat_at, self._progress_at = 2.0, 0.0, 0.0, 0.0
        self._leaving: Optional[float] = None
        self._told_to_stop = False
        self._gone_by: Optional[float] = None

    # ---- called by other threads ----

    def leave(self) -> None:
        """Asks the worker to leave."""
        self._events.put(("leave", None, None))

    def _note(self, token: Token) -> None:
        with self._heard_lock:
            self._heard.add(token)
            first = len(self._heard) == 1
        if first:
            self._events.put(("heard", None, None))

    # ---- the agent's own thread ----

    def run(self) -> None:
        """Works until the worker has left."""
        while True:
            self._on_time()
            self._begin_waiting()
            self._flush()
            if self._has_left():
                break
            try:
                event = self._events.get(timeout=self._pause())
            except queue.Empty:
                continue
            self._take(*event)
        self._say_goodbye()

    def _take(self, kind: str, source: Any, value: Any) -> None:
        if kind in ("message", "closed") and source is not self._stream:
            return
        if kind == "message":
            self._on_message(source, value)
        elif kind == "closed":
            self._disconnect(value)
        elif kind == "finished":
            self._on_finished(source, value)
        elif kind == "heard":
            with self._heard_lock:
                heard, self._heard = self._heard, set()
            self._outbox.progress |= heard
            self._answer_readers()
        elif kind == "leave":
            self._on_leave()

    def _pause(self) -> float:
        now = time.monotonic()
        welcomed = self._stream is not None and self._stream.welcomed
        wakes = [now + SLEEP_MAX]
        if self._stream is None:
            wakes.append(self._dial_at)
        elif not welcomed:
            wakes.append(self._stream.answer_by)
        else:
            wakes.append(self._heartbeat_at)
            if self._outbox.progress:
                wakes.append(self._progress_at)
        wakes += [until for until, _ in self._readers]
        wakes += [at for attempt in self._held.values() for at in _wakes_of(attempt)]
        return max(0.0, min(wakes) - now) + 0.001

    # ---- time ----

    def _on_time(self) -> None:
        self._on_contact()
        now = time.monotonic()
        if self._stream is None:
            if self._dial_at <= now:
                self._dial()
        elif not self._stream.welcomed:
            if self._stream.answer_by <= now:
                self._disconnect("hello was not answered in time")
        else:
            if self._heartbeat_at <= now:
                self._outbox.heartbeat = True
                self._heartbeat_at = now + self._heartbeat_every
            if self._repeat_at <= now:
                self._repeat_at = now + REPEAT_AFTER
                self._outbox.reports |= self._unreported(now - REPEAT_AFTER)
        if any(until <= now for until, _ in self._readers):
            self._answer_readers()
        for attempt in list(self._held.values()):
            self._watch(attempt, now)
        if self._leaving is not None:
            if not self._told_to_stop and self._leaving <= now:
                self._told_to_stop = True
                for attempt in self._held.values():
                    self._tell_to_stop(attempt, "the worker is stopping")
            if self._gone_by is None and not any(attempt.is_running for attempt in self._held.values()):
                self._gone_by = now + RECORD_PATIENCE

    def _watch(self, attempt: Attempt, now: float) -> None:
        """Tells a function to stop when a limit is reached, interrupts one whose grace is over, and leaves one behind that does not end."""
        job = attempt.job
        if not attempt.is_running or job is None:
            return
        if not job.cancelled:
            silent_at = job._silent_at
            if job.deadline is not None and job.deadline <= now:
                attempt.failed = True
                self._tell_to_stop(attempt, "it ran longer than its time limit")
            elif silent_at is not None and silent_at <= now:
                attempt.failed = True
                self._tell_to_stop(attempt, f"it told no progress for {job.progress_timeout:g} s, its progress timeout")
        if attempt.interrupt_at is not None and attempt.interrupt_at <= now and not attempt.interrupted:
            attempt.interrupted = True
            attempt.leave_at = now + GONE_WITHIN
            self._interrupt(attempt)
        if attempt.leave_at is not None and attempt.leave_at <= now:
            log.warning("run %s is inside a call that cannot be interrupted: its attempt is over, the call is not", job.run)
            verdict = pb.VERDICT_FAILURE if attempt.failed else pb.VERDICT_CANCELLED
            reason = f"{job.cancel_reason}; it was inside a call that cannot be interrupted, and was left behind"
            self._end(attempt, verdict, reason)

    def _tell_to_stop(self, attempt: Attempt, cause: str) -> None:
        job = attempt.job
        if not attempt.is_running or job is None or job.cancelled:
            return
        job._cause = cause
        job._stop.set()
        attempt.interrupt_at = time.monotonic() + self.identity.grace

    def _interrupt(self, attempt: Attempt) -> None:
        """Raises in the function's thread: at its next instruction, so not while it is inside a call of the system or of C."""
        thread = attempt.thread
        if thread is not None and thread.ident is not None and thread.is_alive():
            log.warning("run %s is interrupted: %s", attempt.job and attempt.job.run, attempt.job and attempt.job.cancel_reason)
            ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident), ctypes.py_object(Cancelled))

    def _on_contact(self) -> None:
        phase = self._contact.phase(boot())
        before, self._phase = self._phase, phase
        if phase == before:
            return
        if phase >= NO_STARTS > before and self._stream is not None and self._stream.welcomed:
            # The leader may have been cut off: others are asked while there is time for what runs to go on.
            self._shunned, self._hint = self._stream.address, None
            self._disconnect("no heartbeat was acknowledged", 0.0)
        for attempt in list(self._held.values()):
            run = attempt.run
            if not attempt.is_running or run is None or run.on_disconnect == pb.ON_DISCONNECT_CONTINUE:
                continue
            if phase >= TERMINATE > before:
                self._tell_to_stop(attempt, "the worker lost contact with the cluster")
            if phase >= KILL > before and not attempt.interrupted:
                attempt.interrupt_at = time.monotonic()
        if phase == GIVEN_UP:
            self._contact.last = None
            self._refuse_waiting(pb.NACK_CODE_NO_CONTACT, "contact was lost before the start")

    # ---- the stream ----

    def _dial(self) -> None:
        address = self._hint
        self._hint = None
        if address is None:
            for _ in range(2):
                address = self._endpoints[self._next_endpoint % len(self._endpoints)]
                self._next_endpoint += 1
                if address != self._shunned:
                    break
            self._shunned = None
        self._stream = Stream(address or self._endpoints[0], self._hello(), self._events)

    def _disconnect(self, reason: str, pause: Optional[float] = None) -> None:
        stream, self._stream = self._stream, None
        if stream is None:
            return
        level = logging.INFO if stream.welcomed else logging.DEBUG
        log.log(level, "worker %s: no stream to %s: %s", self.identity.name, stream.address, reason)
        stream.close()
        if pause is None:
            pause = self._backoff * random.uniform(0.5, 1.0)
            self._backoff = min(self._backoff * 2, BACKOFF[1])
        self._dial_at = time.monotonic() + pause
        # What was on its way is sent again after the next Welcome.
        self._outbox = Outbox()
        self._readers = []
        for attempt in self._held.values():
            attempt.sent_at = None

    def _hello(self) -> pb.Hello:
        hello = pb.Hello(
            protocol_version=PROTOCOL_VERSION,
            worker=self.identity.name,
            journal_high=self.identity.journal >> 64,
            journal_low=self.identity.journal & (2**64 - 1),
            slots=self.identity.slots,
            labels=self.identity.labels,
            queues=self.identity.queues,
            draining=self._leaving is not None,
        )
        for attempt in self._held.values():
            if attempt.completed is not None:
                state = pb.HELD_STATE_ENDED
            elif attempt.nack is not None:
                state = pb.HELD_STATE_REFUSED
            else:
                state = pb.HELD_STATE_RUNNING if attempt.job is not None else pb.HELD_STATE_WAITING
            hello.held.add(attempt=attempt.wire, state=state)
        return hello

    def _on_message(self, stream: Stream, message: pb.ToWorker) -> None:
        if message.HasField("welcome") and not stream.welcomed:
            self._on_welcome(stream, message.welcome)
        if message.HasField("redirect"):
            elsewhere = message.redirect.leader not in ("", stream.address)
            self._disconnect("the node does not lead", min(self._backoff, BACKOFF[0]) if elsewhere else None)
            self._hint = message.redirect.leader if elsewhere else None
            return
        if message.HasField("refused"):
            log.warning("worker %s is refused: %s", self.identity.name, message.refused.reason)
            pause = message.refused.retry_after_ms / 1000 or REFUSED_PAUSE
            self._disconnect(message.refused.reason, min(pause, REFUSED_PAUSE))
            return
        if not stream.welcomed:
            self._disconnect("the leader's first message is no welcome")
            return
        if message.HasField("heartbeat_ack"):
            self._contact.acknowledged(message.heartbeat_ack.seq)
        for wire in message.recorded:
            self._recorded(_token(wire))
        for run in message.runs:
            self._on_run(run)
        for wire in message.granted:
            self._on_granted(_token(wire))
        for wire in message.kills:
            self._on_kill(wire)
        for request in message.output_requests:
            self._on_output_request(request)

    def _on_welcome(self, stream: Stream, welcome: pb.Welcome) -> None:
        stream.welcomed = True
        lease = min(max(welcome.lease_ms / 1000, 1.0), 600.0)
        self._contact.welcomed(stream.hello_sent, lease)
        now = time.monotonic()
        self._heartbeat_every = min(max(welcome.heartbeat_ms / 1000, 0.05), lease / 5)
        self._heartbeat_at, self._repeat_at = now, now + REPEAT_AFTER
        self._backoff = BACKOFF[0]
        self._hint = stream.address
        log.info("worker %s: session open with %s, term %d", self.identity.name, stream.address, welcome.term)
        said = {_token(disposition.attempt): disposition.kind for disposition in welcome.dispositions}
        for token in stream.named:
            self._dispose(token, said.get(token, pb.DISPOSITION_KIND_STALE))
        self._outbox.reports |= self._unreported(float("inf"))
        self._outbox.grants |= {token for token, attempt in self._held.items() if attempt.asks}
        self._outbox.progress |= {token for token, attempt in self._held.items() if attempt.is_running}
        if self._leaving is not None:
            self._outbox.goodbye = pb.Goodbye(reason="draining")

    def _dispose(self, token: Token, kind: int) -> None:
        attempt = self._held.get(token)
        if attempt is None or kind == pb.DISPOSITION_KIND_CONTINUE:
            return
        if kind == pb.DISPOSITION_KIND_RECORDED:
            self._recorded(token)
        elif attempt.is_running:
            why = "cancelled" if kind == pb.DISPOSITION_KIND_KILL else "another attempt has taken its place"
            self._tell_to_stop(attempt, why)
        elif not attempt.is_over:
            self._refuse(attempt, pb.NACK_CODE_KILLED, "killed before it started")

    def _flush(self) -> None:
        stream = self._stream
        while stream is not None and stream.welcomed and stream.has_room():
            batch = self._batch()
            if batch is None:
                return
            stream.send(batch)

    def _batch(self) -> Optional[pb.FromWorker]:
        box, batch, now = self._outbox, pb.FromWorker(), time.monotonic()
        # A report has up to 32 KiB of output and result, and the leader's limit for a message is 4 MiB.
        for token in sorted(box.reports)[:64]:
            box.reports.discard(token)
            attempt = self._held.get(token)
            if attempt is None:
                continue
            attempt.sent_at = now
            if attempt.completed is not None:
                batch.completed.append(attempt.completed)
            elif attempt.nack is not None:
                batch.nacks.append(attempt.nack)
        for token in box.grants:
            if token in self._held:
                batch.grant_requests.add(attempt=self._held[token].wire)
        box.grants = set()
        if box.progress and self._progress_at <= now:
            self._progress_at = now + PROGRESS_EVERY
            for token in sorted(box.progress)[:256]:
                box.progress.discard(token)
                self._add_progress(batch, token)
        batch.output.extend(box.chunks[:4])
        del box.chunks[:4]
        # The farewell follows all reports.
        if box.goodbye is not None and not box.reports:
            batch.goodbye.CopyFrom(box.goodbye)
            box.goodbye = None
        if box.heartbeat:
            box.heartbeat = False
            busy = sum(attempt.is_running for attempt in self._held.values())
            batch.heartbeat.seq = self._contact.send(boot())
            batch.heartbeat.free_slots = max(0, self.identity.slots - busy)
        return batch if batch.ByteSize() else None

    def _add_progress(self, batch: pb.FromWorker, token: Token) -> None:
        attempt = self._held.get(token)
        said = attempt.job._progress if attempt is not None and attempt.is_running and attempt.job is not None else None
        if attempt is None or said is None:
            return
        percent, message = said
        progress = batch.progress.add(attempt=attempt.wire, message=cut(message))
        if percent is not None:
            progress.percent = percent

    # ---- attempts ----

    def _on_run(self, run: pb.Run) -> None:
        token = _token(run.attempt)
        if token in self._held:
            if self._held[token].is_over:
                self._outbox.reports.add(token)
            return
        if token in self._settled:
            return
        attempt = Attempt(wire=run.attempt, run=run)
        self._held[token] = attempt
        waiting = sum(not other.is_over for other in self._held.values())
        if self._forgotten is not None and token <= self._forgotten:
            self._refuse(attempt, pb.NACK_CODE_TOO_OLD, "older than what this worker remembers")
        elif self._leaving is not None:
            self._refuse(attempt, pb.NACK_CODE_DRAINING, "the worker is leaving")
        elif waiting > 2 * self.identity.slots:
            self._refuse(attempt, pb.NACK_CODE_FULL, "no slot is free")
        elif run.action.WhichOneof("kind") != "worker" or run.action.worker.queue not in self._handlers:
            # It fails, visibly, instead of going round between workers.
            queue_name = run.action.worker.queue or run.action.WhichOneof("kind")
            self._over(attempt, pb.VERDICT_FAILURE, f"this worker does not serve {queue_name}", wall_ms())

    def _begin_waiting(self) -> None:
        if self._contact.phase(boot()) != GOOD:
            return
        free = self.identity.slots - sum(a.is_running or (a.asks and not a.is_over) for a in self._held.values())
        for token, attempt in sorted(self._held.items()):
            if free <= 0:
                return
            if attempt.is_over or attempt.job is not None or attempt.asks or attempt.run is None:
                continue
            free -= 1
            if attempt.run.delivery == pb.DELIVERY_AT_MOST_ONCE:
                attempt.asks = True
                self._outbox.grants.add(token)
            else:
                self._begin(token, attempt)

    def _on_granted(self, token: Token) -> None:
        attempt = self._held.get(token)
        if attempt is None or not attempt.asks or attempt.job is not None or attempt.is_over:
            return
        if self._contact.phase(boot()) != GOOD:
            self._refuse(attempt, pb.NACK_CODE_NO_CONTACT, "contact was lost before the start")
            return
        self._begin(token, attempt)

    def _begin(self, token: Token, attempt: Attempt) -> None:
        """The one way into running: from here on the token counts as used, whatever happens."""
        run = attempt.run
        assert run is not None, "what waits has its run"
        worker = run.action.worker
        job = Job(
            queue=worker.queue,
            payload=worker.payload,
            run=f"{run.attempt.run.task}:{run.attempt.run.number}",
            attempt=run.attempt_number,
            token=token,
            scheduled_at=datetime.fromtimestamp(run.scheduled_at_ms / 1000, timezone.utc),
            time_limit=run.time_limit_ms / 1000 if run.HasField("time_limit_ms") else None,
            progress_timeout=worker.progress_timeout_ms / 1000 if worker.HasField("progress_timeout_ms") else None,
            params={param.name: param.value for param in run.params},
            namespace=run.namespace,
            task_name=run.task_name or None,
            heard=self._note,
        )
        attempt.job, attempt.number, attempt.asks = job, run.attempt_number, False
        attempt.started_ms = wall_ms()
        attempt.thread = threading.Thread(
            target=self._work, args=(token, attempt, job), name=f"sched-run-{job.run}", daemon=True
        )
        attempt.thread.start()

    def _work(self, token: Token, attempt: Attempt, job: Job) -> None:
        """Runs a function, in its own thread."""
        verdict, reason, delay_ms, result = pb.VERDICT_SUCCESS, "", 0, b""
        try:
            value = self._handlers[job.queue](job)
            result = b"" if value is None else json_bytes("result", value)
            if len(result) > RESULT_BYTES_MAX:
                verdict, result = pb.VERDICT_FAILURE, b""
                reason = f"its result has more than {RESULT_BYTES_MAX} bytes; keep it elsewhere, and return where it is"
        except DelayMe as later:
            verdict, reason, delay_ms = pb.VERDICT_DELAY_ME, later.reason, later.delay_ms
        except Cancelled:
            # A function that reached a limit has failed; all others were given up by somebody else.
            verdict, reason = (pb.VERDICT_FAILURE if attempt.failed else pb.VERDICT_CANCELLED), job.cancel_reason
        except Invalid as problem:
            verdict, reason = pb.VERDICT_FAILURE, str(problem)
        except BaseException as problem:  # noqa: BLE001 - whatever a function raises is the end of its attempt, not of the worker
            log.info("run %s failed", job.run, exc_info=True)
            verdict, reason = pb.VERDICT_FAILURE, f"{type(problem).__name__}: {problem}"
        self._events.put(("finished", token, (verdict, reason, delay_ms, result)))

    def _on_finished(self, token: Token, outcome: Tuple[int, str, int, bytes]) -> None:
        attempt = self._held.get(token)
        # One that was left behind has been reported.
        if attempt is not None and attempt.is_running:
            verdict, reason, delay_ms, result = outcome
            self._end(attempt, verdict, reason, delay_ms, result)

    def _end(self, attempt: Attempt, verdict: int, reason: str, delay_ms: int = 0, result: bytes = b"") -> None:
        """The end of an attempt that has begun."""
        job = attempt.job
        assert job is not None, "it has begun"
        with job._lock:
            job._output.ended = True
        self._outputs.append((job.run, attempt.number, job))
        self._over(attempt, verdict, reason, attempt.started_ms, delay_ms, result)
        self._answer_readers()

    def _over(
        self, attempt: Attempt, verdict: int, reason: str, started: int, delay_ms: int = 0, result: bytes = b""
    ) -> None:
        tail = bytes(attempt.job._output.kept[-OUTPUT_TAIL_BYTES_MAX:]) if attempt.job is not None else b""
        attempt.completed = pb.Completed(
            attempt=attempt.wire,
            result=pb.Result(
                verdict=verdict,  # type: ignore[arg-type]
                reason=cut(reason),
                delay_ms=min(delay_ms, 2**63),
                started_at_ms=started,
                ended_at_ms=wall_ms(),
                output_tail=tail,
                result=result,
            ),
        )
        self._outbox.reports.add(_token(attempt.wire))

    def _refuse(self, attempt: Attempt, code: int, reason: str) -> None:
        attempt.asks = False
        attempt.nack = pb.Nack(attempt=attempt.wire, code=code, reason=reason)  # type: ignore[arg-type]
        self._outbox.reports.add(_token(attempt.wire))

    def _refuse_waiting(self, code: int, reason: str) -> None:
        for attempt in self._held.values():
            if attempt.job is None and not attempt.is_over:
                self._refuse(attempt, code, reason)

    def _on_kill(self, wire: pb.Attempt) -> None:
        token = _token(wire)
        attempt = self._held.get(token)
        if attempt is None:
            if token not in self._settled:
                # One that never came will not begin when it comes late.
                attempt = Attempt(wire=wire)
                self._held[token] = attempt
                self._refuse(attempt, pb.NACK_CODE_KILLED, "killed before it arrived")
        elif attempt.is_running:
            self._tell_to_stop(attempt, "cancelled")
        elif attempt.is_over:
            self._outbox.reports.add(token)
        else:
            self._refuse(attempt, pb.NACK_CODE_KILLED, "killed before it started")

    def _recorded(self, token: Token) -> None:
        attempt = self._held.get(token)
        if attempt is None:
            return
        if attempt.is_running:
            # Somebody else's report under our token: it is no longer ours to run.
            self._tell_to_stop(attempt, "another attempt has taken its place")
        elif not attempt.is_over:
            self._refuse(attempt, pb.NACK_CODE_KILLED, "recorded before it started")
        else:
            del self._held[token]
            self._settled[token] = None
            if len(self._settled) > SETTLED_MAX:
                lowest = min(list(self._settled)[: SETTLED_MAX // 10])
                del self._settled[lowest]
                self._forgotten = lowest if self._forgotten is None else max(self._forgotten, lowest)

    def _unreported(self, sent_before: float) -> Set[Token]:
        return {
            token
            for token, attempt in self._held.items()
            if attempt.is_over and (attempt.sent_at is None or attempt.sent_at < sent_before)
        }

    # ---- output ----

    def _on_output_request(self, request: pb.OutputRequest) -> None:
        if len(self._readers) >= READERS_MAX:
            self._outbox.chunks.append(pb.OutputChunk(request=request.request, status=pb.OUTPUT_STATUS_BUSY))
            return
        self._readers.append((time.monotonic() + min(request.wait_ms / 1000, 30.0), request))
        self._answer_readers()

    def _answer_readers(self) -> None:
        now, readers, self._readers = time.monotonic(), self._readers, []
        for until, request in readers:
            chunk = self._read(request)
            is_idle = chunk.status == pb.OUTPUT_STATUS_OK and not chunk.data and not chunk.end
            if is_idle and now < until:
                self._readers.append((until, request))
            else:
                self._outbox.chunks.append(chunk)

    def _outputs_of(self, run: str) -> Iterator[Tuple[int, Job]]:
        for attempt in self._held.values():
            if attempt.is_running and attempt.job is not None and attempt.job.run == run:
                yield attempt.number, attempt.job
        yield from ((number, job) for name, number, job in self._outputs if name == run)

    def _read(self, request: pb.OutputRequest) -> pb.OutputChunk:
        run, wanted = f"{request.run.task}:{request.run.number}", request.attempt_number
        found = [(number, job) for number, job in self._outputs_of(run) if wanted in (0, number)]
        if not found:
            return pb.OutputChunk(
                request=request.request, status=pb.OUTPUT_STATUS_NOT_FOUND, attempt_number=wanted
            )
        number, job = max(found, key=lambda pair: pair[0])
        with job._lock:
            offset, data, following, end = job._output.read(request.offset, min(request.limit or CHUNK_BYTES_MAX, CHUNK_BYTES_MAX))
        return pb.OutputChunk(
            request=request.request,
            status=pb.OUTPUT_STATUS_OK,
            offset=offset,
            data=data,
            next_offset=following,
            end=end,
            attempt_number=number,
        )

    # ---- leaving ----

    def _on_leave(self) -> None:
        if self._leaving is not None:
            return
        log.info("worker %s leaves", self.identity.name)
        self._leaving = time.monotonic() + self.identity.patience
        self._refuse_waiting(pb.NACK_CODE_DRAINING, "the worker is leaving")
        self._outbox.goodbye = pb.Goodbye(reason="draining")

    def _has_left(self) -> bool:
        if self._leaving is None:
            return False
        now = time.monotonic()
        if any(attempt.is_running for attempt in self._held.values()):
            # A function that does not stop although it was interrupted does not keep the process for ever.
            return now >= self._leaving + self.identity.grace + 2 * RECORD_PATIENCE
        return not self._held or (self._gone_by is not None and self._gone_by <= now)

    def _say_goodbye(self) -> None:
        stream, self._stream = self._stream, None
        if stream is None:
            return
        if stream.welcomed and not self._held and stream.has_room():
            stream.send(pb.FromWorker(goodbye=pb.Goodbye(empty=True)))
            stream.finish()
            # The leader ends the stream: one that is dropped may lose its last batch.
            until = time.monotonic() + 1
            while time.monotonic() < until:
                try:
                    kind, source, _ = self._events.get(timeout=max(0.0, until - time.monotonic()))
                except queue.Empty:
                    break
                if kind == "closed" and source is stream:
                    break
        stream.close()


def _wakes_of(attempt: Attempt) -> Iterator[float]:
    """When something is to be done about a function that runs. Its time limit is seen with the next sleep that ends."""
    if attempt.is_running and attempt.job is not None:
        if attempt.interrupt_at is not None and not attempt.interrupted:
            yield attempt.interrupt_at
        if attempt.leave_at is not None:
            yield attempt.leave_at
        silent_at = attempt.job._silent_at
        if silent_at is not None and not attempt.job.cancelled:
            yield silent_at


def _token(wire: pb.Attempt) -> Token:
    return Token(wire.token.index, wire.token.position)
