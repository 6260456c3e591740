"""Finds the leader and makes calls: each attempt with the same request, so that a call is carried out at most once."""

from __future__ import annotations

import os
import random
import threading
import time
from typing import Any, Callable, Dict, Iterable, Iterator, List, Optional, Sequence, Tuple, Union

import grpc
from google.protobuf.message import DecodeError, Message

from ._proto import scheduler_pb2 as pb
from .errors import SchedError, Unreachable, refusal

ENDPOINT_DEFAULT = "http://127.0.0.1:7400"
ENDPOINT_VARIABLE = "SCHED_ENDPOINT"
PORT_DEFAULT = 7400
#: Largest message that either side takes.
MESSAGE_BYTES_MAX = 4 * 1024 * 1024
#: A single attempt; longer calls go to the next node.
ATTEMPT_TIMEOUT = 1.5
BACKOFF = (0.05, 0.5)
#: Addresses of leaders that are remembered beside those that were given.
LEARNED_MAX = 16
OPTIONS = [
    ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
    ("grpc.max_send_message_length", MESSAGE_BYTES_MAX),
    ("grpc.keepalive_time_ms", 5000),
    ("grpc.keepalive_timeout_ms", 5000),
    # A node that comes back is dialled soon, not after gRPC's own minutes.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
]
#: The same call may succeed at another node or a little later.
_AGAIN = {
    pb.FAILURE_KIND_NOT_LEADER,
    pb.FAILURE_KIND_OUTCOME_UNKNOWN,
    pb.FAILURE_KIND_NO_QUORUM,
    pb.FAILURE_KIND_WORKER_UNREACHABLE,
    pb.FAILURE_KIND_STOPPING,
    pb.FAILURE_KIND_OVERLOADED,
}
_SERVICE = pb.DESCRIPTOR.services_by_name["Scheduler"]


def addresses(endpoints: Union[None, str, Iterable[str]]) -> List[str]:
    """Returns ``host:port`` of each endpoint; without any, of those that ``SCHED_ENDPOINT`` names, or of the default."""
    if endpoints is None:
        endpoints = os.environ.get(ENDPOINT_VARIABLE) or ENDPOINT_DEFAULT
    if isinstance(endpoints, str):
        endpoints = endpoints.split(",")
    found = [_authority(endpoint) for endpoint in endpoints]
    if not found:
        raise ValueError(f"no endpoint is given; expected at least one, for example {ENDPOINT_DEFAULT}")
    return found


def _authority(endpoint: str) -> str:
    text = endpoint.strip()
    if text.startswith("https://"):
        raise ValueError(f"endpoint {endpoint!r}: this release speaks plain http, inside a trusted network")
    text = text[len("http://") :] if text.startswith("http://") else text
    text = text.rstrip("/")
    # An IPv6 address keeps its colons inside brackets.
    host, colon, port = text.rpartition(":")
    if not colon or "]" in port:
        host, port = text, str(PORT_DEFAULT)
    if not host or not port.isdigit() or any(c in host for c in "/ @"):
        raise ValueError(f"endpoint {endpoint!r}: expected http://HOST:PORT, for example {ENDPOINT_DEFAULT}")
    return f"{host}:{port}"


def metadata_value(metadata: Optional[Sequence[Tuple[str, Any]]], key: str) -> Any:
    """Returns the value of a key in a call's metadata."""
    return next((value for name, value in metadata or () if name == key), None)


def failure_of(error: grpc.RpcError) -> Optional[pb.Failure]:
    """Returns the failure that an error carries; nothing when no node of the scheduler made it."""
    details = metadata_value(error.trailing_metadata(), "grpc-status-details-bin")
    if not details:
        return None
    try:
        failure = pb.Failure.FromString(details)
    except DecodeError:
        return None
    return failure if failure.kind != pb.FAILURE_KIND_UNSPECIFIED else None


class Transport:
    """Channels to the nodes, and which of them leads. May be used by several threads."""

    def __init__(self, endpoints: Union[None, str, Iterable[str]], deadline: float) -> None:
        self.deadline = deadline
        self._given = addresses(endpoints)
        self._lock = threading.Lock()
        self._leader: Optional[str] = None
        self._learned: List[str] = []
        self._first = 0
        self._channels: Dict[str, grpc.Channel] = {}

    def close(self) -> None:
        """Ends all connections."""
        with self._lock:
            channels, self._channels = self._channels, {}
        for channel in channels.values():
            channel.close()

    def call(self, method: str, request: Message, *, changes: bool, poll: float = 0.0) -> Any:
        """Makes a call until it is answered or its time is up. ``poll`` is how long a node is asked to wait before it answers."""
        began = time.monotonic()
        until = began + self.deadline
        said: Dict[str, str] = {}
        maybe_done = False
        patience: Optional[pb.Failure] = None
        attempt = 0
        while True:
            pause = 0.0
            asked: List[str] = []
            queue = self._in_order()
            while queue:
                address = queue.pop(0)
                if address in asked:
                    continue
                asked.append(address)
                now = time.monotonic()
                if now >= until:
                    break
                limit = min(until - now, ATTEMPT_TIMEOUT) + poll
                try:
                    reply, call = self._method(address, method).with_call(request, timeout=limit)
                except grpc.RpcError as error:
                    failure = failure_of(error)
                    if failure is None:
                        said[address] = f"{error.code().name.lower()}: {error.details()}"
                        maybe_done = maybe_done or error.code() != grpc.StatusCode.UNAVAILABLE
                        self._failed(address)
                        until += min(time.monotonic() - now, poll)
                        continue
                    leader = metadata_value(error.initial_metadata(), "sched-leader") or failure.leader
                    self._learn(leader)
                    if failure.kind not in _AGAIN:
                        raise refusal(failure) from None
                    said[address] = failure.message
                    maybe_done = maybe_done or failure.kind == pb.FAILURE_KIND_OUTCOME_UNKNOWN
                    patience = failure
                    pause = max(pause, failure.retry_after_ms / 1000)
                    if leader and leader not in asked:
                        queue.insert(0, leader)
                    continue
                self._answered(address)
                self._learn(metadata_value(call.initial_metadata(), "sched-leader"))
                return reply
            pause = max(pause, min(BACKOFF[0] * 2**attempt, BACKOFF[1]) * random.uniform(0.5, 1.0))
            attempt += 1
            if time.monotonic() + pause >= until:
                patient = (pb.FAILURE_KIND_OVERLOADED, pb.FAILURE_KIND_WORKER_UNREACHABLE)
                if patience is not None and patience.kind in patient and not (changes and maybe_done):
                    raise refusal(patience)
                raise Unreachable(time.monotonic() - began, said, changes and maybe_done)
            time.sleep(pause)

    def stream(self, method: str, request: Message, timeout: Optional[float]) -> Iterator[Any]:
        """Reads a stream from the first node that begins one."""
        until = time.monotonic() + self.deadline
        said: Dict[str, str] = {}
        while True:
            for address in self._in_order():
                begun = False
                try:
                    for message in self._method(address, method)(request, timeout=timeout):
                        begun = True
                        yield message
                    return
                except grpc.RpcError as error:
                    failure = failure_of(error)
                    if failure is not None and failure.kind not in _AGAIN:
                        raise refusal(failure) from None
                    if begun:
                        raise SchedError(f"the output broke off: {error.details()}") from error
                    said[address] = failure.message if failure is not None else str(error.details())
                    self._failed(address)
            if time.monotonic() >= until:
                raise Unreachable(self.deadline, said, False)
            time.sleep(BACKOFF[1])

    def _method(self, address: str, method: str) -> Callable[..., Any]:
        with self._lock:
            channel = self._channels.get(address)
            if channel is None:
                channel = grpc.insecure_channel(address, options=OPTIONS)
                self._channels[address] = channel
        described = _SERVICE.methods_by_name[method]
        make = channel.unary_stream if getattr(described, "server_streaming", method == "Logs") else channel.unary_unary
        reply = getattr(pb, described.output_type.name)
        return make(  # type: ignore[no-any-return]
            f"/{_SERVICE.full_name}/{method}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=reply.FromString,
        )

    def _in_order(self) -> List[str]:
        """The leader as far as it is known, then the one that answered last, then the rest."""
        with self._lock:
            rotated = self._given[self._first :] + self._given[: self._first]
            leader = [self._leader] if self._leader else []
            return list(dict.fromkeys(leader + rotated + self._learned))

    def _learn(self, leader: Optional[str]) -> None:
        if not leader:
            return
        with self._lock:
            self._leader = leader
            if leader not in self._given and leader not in self._learned:
                self._learned = [leader, *self._learned][:LEARNED_MAX]

    def _answered(self, address: str) -> None:
        with self._lock:
            if address in self._given:
                self._first = self._given.index(address)

    def _failed(self, address: str) -> None:
        with self._lock:
            if self._leader == address:
                self._leader = None
            if address in self._given and len(self._given) > 1:
                self._first = (self._given.index(address) + 1) % len(self._given)
