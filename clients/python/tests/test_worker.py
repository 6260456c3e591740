"""The worker against a real cluster."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Iterator, List

import pytest
from conftest import Cluster, eventually

from sched_client import Client, DelayMe, Job, Worker, errors

#: A run whose worker is gone begins elsewhere within this, in seconds.
ELSEWHERE = 12.0


@pytest.fixture
def client(cluster: Cluster) -> Iterator[Client]:
    with Client(cluster.endpoints) as client:
        yield client


def enqueue(client: Client, queue: str, payload: object = None, **policy: object) -> str:
    """Returns the run of a task that is due at once."""
    action = {"queue": queue, "payload": payload} if payload is not None else {"queue": queue}
    return f"{client.enqueue({'action': action, 'policy': policy}).id}:1"


def test_functions_answer(cluster: Cluster, client: Client) -> None:
    worker = Worker(cluster.endpoints, slots=2, name="py-1")

    @worker.task("answers")
    def answer(job: Job) -> object:
        what = job.data["do"] if job.data else None
        if what == "fail once" and job.attempt == 1:
            raise RuntimeError("not the first time")
        if what == "delay once" and job.attempt == 1:
            raise DelayMe("200ms", "busy")
        if what == "bytes":
            return b"\x00\x01"
        if what == "huge":
            return "x" * 20_000
        if what == "facts":
            return {"queue": job.queue, "run": job.run, "attempt": job.attempt, "name": job.task_name, "token": job.token.index > 0}
        return None

    assert answer.__name__ == "answer", "the function stays what it is"
    waiting = enqueue(client, "answers", {"do": "facts"})
    assert client.get_run(waiting).reason == "waiting for a worker of queue answers"
    worker.start()
    try:
        done = client.wait(waiting, timeout=30)
        assert (done.state, done.worker, done.queue) == ("FINISHED", "py-1", "answers")
        expected = {"attempt": 1, "name": None, "queue": "answers", "run": waiting, "token": True}
        assert json.loads(done.result) == expected
        assert cluster.json("get", waiting)["result"] == expected
        tries = {"tries": 2, "retry_delay": "100ms"}
        done = client.wait(enqueue(client, "answers", {"do": "fail once"}, **tries), timeout=30)
        assert (done.state, done.attempts) == ("FINISHED", 2)
        done = client.wait(enqueue(client, "answers", {"do": "delay once"}), timeout=30)
        assert (done.state, done.attempts) == ("FINISHED", 2)
        done = client.wait(enqueue(client, "answers", {"do": "fail once"}), timeout=30)
        assert (done.state, done.reason) == ("FAILED", "RuntimeError: not the first time")
        assert client.wait(enqueue(client, "answers", {"do": "bytes"}), timeout=30).result == b"\x00\x01"
        done = client.wait(enqueue(client, "answers", {"do": "huge"}), timeout=30)
        assert done.state == "FAILED" and "16384" in done.reason
        done = client.wait(enqueue(client, "answers", {"do": "fail once"}, delivery="at-most-once"), timeout=30)
        assert (done.state, done.attempts) == ("FAILED", 1), "a start that is granted first"
        # Empty payload, and one that is no JSON.
        assert client.wait(enqueue(client, "answers"), timeout=30).state == "FINISHED"
        done = client.wait(enqueue(client, "answers", b"{"), timeout=30)
        assert done.state == "FAILED" and "JSONDecodeError" in done.reason
    finally:
        worker.stop()


def test_progress_cancel_and_time_limit(cluster: Cluster, client: Client) -> None:
    worker = Worker(cluster.endpoints, slots=3, grace=0.3)
    why: List[str] = []

    @worker.task("slow")
    def slow(job: Job) -> None:
        job.log("begun")
        job.progress(40, "half")
        if job.data == "polite":
            assert job.wait_cancelled(60)
            why.append(job.cancel_reason)
            job.raise_if_cancelled()
        if job.data == "stuck":
            assert job.progress_timeout == 0.3
            # Inside a call of the system: nothing can interrupt it.
            time.sleep(20)
        # Never looks: it is interrupted in its own thread.
        while True:
            time.sleep(0.01)

    worker.start()
    try:
        run = enqueue(client, "slow", "polite")
        said = eventually("progress is shown", lambda: client.get_run(run).progress)
        assert (said.percent, said.message) == (40, "half")
        assert cluster.json("get", run)["progress"]["percent"] == 40
        assert cluster.cli("logs", run) == "begun\n40 % half\n"
        client.cancel(run)
        done = client.wait(run, timeout=30)
        assert done.state == "TERMINATED" and why == ["cancelled"] and done.output_tail == b"begun\n40 % half\n"
        rude = enqueue(client, "slow", "rude")
        eventually("it runs", lambda: client.get_run(rude).progress)
        client.cancel(rude)
        assert client.wait(rude, timeout=30).state == "TERMINATED"
        done = client.wait(enqueue(client, "slow", "limited", time_limit="300ms"), timeout=30)
        assert done.state == "FAILED" and "time limit" in done.reason
        for payload, is_left in (("silent", False), ("stuck", True)):
            promise = {"queue": "slow", "payload": payload, "progress_timeout": "300ms"}
            done = client.wait(client.enqueue({"action": promise}).id, timeout=15)
            assert done.state == "FAILED" and "no progress for 0.3 s" in done.reason, done.reason
            assert ("left behind" in done.reason) == is_left
    finally:
        worker.stop()


def test_a_worker_that_leaves_finishes_its_work(cluster: Cluster, client: Client) -> None:
    worker = Worker(cluster.endpoints)
    begun, go_on = threading.Event(), threading.Event()

    @worker.task("leaving")
    def work(job: Job) -> str:
        begun.set()
        assert go_on.wait(60)
        return "done"

    worker.start()
    run = enqueue(client, "leaving")
    assert begun.wait(30)
    stopping = threading.Thread(target=worker.stop)
    stopping.start()
    late = enqueue(client, "leaving")
    eventually("it takes nothing new", lambda: client.get_run(late).state == "PENDING")
    go_on.set()
    stopping.join(30)
    assert not stopping.is_alive()
    assert client.get_run(run).result == b'"done"' and client.get_run(run).attempts == 1
    client.dequeue(int(late.split(":")[0]), kill=True)


def test_settings_are_checked() -> None:
    for settings in ({"slots": 0}, {"slots": 10_001}, {"grace": "soon"}):
        with pytest.raises(errors.Invalid):
            Worker(**settings)  # type: ignore[arg-type]
    worker = Worker()
    with pytest.raises(errors.Invalid, match="none"):
        worker.start()
    worker.task("q")(lambda job: None)
    for queue in ("", "x" * 257, "q"):
        with pytest.raises(errors.Invalid):
            worker.task(queue)


def test_a_job_goes_on_while_its_leader_dies(three: Cluster) -> None:
    worker = Worker(three.endpoints)
    attempts: List[int] = []
    begun, go_on = threading.Event(), threading.Event()

    @worker.task("failover")
    def work(job: Job) -> str:
        attempts.append(job.attempt)
        job.progress(10, "begun")
        begun.set()
        while not go_on.wait(0.05):
            job.raise_if_cancelled()
        return "survived"

    worker.start()
    try:
        with Client(three.endpoints, deadline=30) as client:
            run = enqueue(client, "failover")
            assert begun.wait(30)
            leader = three.leader()
            assert leader is not None
            three.nodes[leader].kill()
            eventually("the new leader knows how far it is", lambda: client.get_run(run).progress)
            go_on.set()
            done = client.wait(run, timeout=30)
            assert (done.state, done.result, done.attempts, attempts) == ("FINISHED", b'"survived"', 1, [1])
    finally:
        go_on.set()
        worker.stop()


WORKER = """
import sys, time
from sched_client import Worker
worker = Worker(sys.argv[1], name=sys.argv[2])
@worker.task("killed")
def work(job):
    print(job.attempt, flush=True)
    while job.attempt == 1:
        time.sleep(0.05)
    return sys.argv[2]
worker.run()
"""


def test_a_run_whose_worker_is_killed_is_done_by_another(cluster: Cluster, client: Client) -> None:
    def start(name: str) -> "subprocess.Popen[str]":
        command = [sys.executable, "-c", WORKER, cluster.endpoints, name]
        folder = str(Path(__file__).resolve().parents[1])
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=folder)

    processes = [start("py-first")]
    try:
        run = enqueue(client, "killed")
        assert processes[0].stdout is not None and processes[0].stdout.readline() == "1\n"
        processes.append(start("py-second"))
        processes[0].kill()
        killed = time.monotonic()
        assert processes[1].stdout is not None and processes[1].stdout.readline() == "2\n"
        took = time.monotonic() - killed
        done = client.wait(run, timeout=30)
        assert (done.state, done.result, done.attempts) == ("FINISHED", b'"py-second"', 2)
        assert took <= ELSEWHERE, f"it began elsewhere after {took:.1f} s"
        # SIGTERM: it leaves in good order.
        processes[1].terminate()
        assert processes[1].wait(30) == 0
    finally:
        for process in processes:
            process.kill()
            process.wait()
            if process.stdout is not None:
                process.stdout.close()
