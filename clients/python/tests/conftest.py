"""Real nodes for the tests: the binaries of target/debug, as processes that end with the tests."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Optional

import pytest

REPOSITORY = Path(__file__).resolve().parents[3]
BINARIES = Path(os.environ.get("TARGET_DIR", REPOSITORY / "target" / "debug"))
#: Something that is due now has happened within this, in seconds, on a busy machine too.
SOON = 30.0

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))


def eventually(what: str, look: Callable[[], Any], limit: float = SOON) -> Any:
    """Looks until it returns something; what it raised last is shown when time is up."""
    until, last = time.monotonic() + limit, None
    while True:
        try:
            found = look()
            if found:
                return found
            last = found
        except Exception as error:  # noqa: BLE001 - shown below
            last = error
        if time.monotonic() >= until:
            raise AssertionError(f"{what}: not within {limit} s: {last!r}")
        time.sleep(0.05)


class Node:
    """One schednode."""

    def __init__(self, folder: Path, name: str, *arguments: str) -> None:
        self.name = name
        self.log = folder / f"{name}.log"
        self._command = [str(BINARIES / "schednode"), *arguments, "--data-dir", str(folder / name), "--name", name]
        self.process: Optional[subprocess.Popen[bytes]] = None

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )

    def printed(self, key: str) -> str:
        """Waits for a line of the greeting."""

        def look() -> Optional[str]:
            assert self.process is not None and self.process.poll() is None, self.log.read_text()
            words = (line.split() for line in self.log.read_text(errors="replace").splitlines())
            return next((line[1] for line in words if len(line) > 1 and line[0] == key), None)

        return str(eventually(f"{self.name} prints {key}", look))

    def kill(self) -> None:
        """kill -9, of what it runs too."""
        if self.process is not None:
            try:
                os.killpg(self.process.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            self.process.wait()
            self.process = None


class Cluster:
    """Nodes that form a cluster."""

    def __init__(self, folder: Path, nodes: int) -> None:
        self.nodes: List[Node] = []
        self.addresses: List[str] = []
        if nodes == 1:
            node = Node(folder, "n1", "dev", "--listen", "127.0.0.1:0", "--peer-listen", "127.0.0.1:0")
            self.nodes.append(node)
            node.start()
            self.addresses.append(node.printed("clients"))
        else:
            ports = _free_ports(2 * nodes)
            clients, peers = ports[:nodes], ports[nodes:]
            members = ",".join(f"127.0.0.1:{port}" for port in peers)
            for number, (client, peer) in enumerate(zip(clients, peers), 1):
                node = Node(
                    folder,
                    f"n{number}",
                    "run",
                    "--listen",
                    f"127.0.0.1:{client}",
                    "--peer-listen",
                    f"127.0.0.1:{peer}",
                    "--initial-cluster",
                    members,
                )
                self.nodes.append(node)
                self.addresses.append(f"127.0.0.1:{client}")
                node.start()
        self.endpoints = ",".join(f"http://{address}" for address in self.addresses)
        eventually("the cluster is ready", lambda: len(self.status()["nodes"]) == nodes and self.leader() is not None)

    def cli(self, *arguments: str, node: Optional[int] = None) -> str:
        """Runs schedcli, and returns what it printed."""
        endpoints = self.endpoints if node is None else f"http://{self.addresses[node]}"
        command = [str(BINARIES / "schedcli"), "--endpoint", endpoints, *arguments]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, f"{command}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def json(self, *arguments: str) -> Any:
        return json.loads(self.cli("--output", "json", *arguments))

    def status(self) -> Dict[str, Any]:
        found = self.json("status")
        assert isinstance(found, dict)
        return found

    def leader(self) -> Optional[int]:
        """Returns the index of the node that leads."""
        status = self.status()
        addresses = {node["id"]: node["client_address"] for node in status["nodes"]}
        address = addresses.get(status["leader"])
        return self.addresses.index(address) if address in self.addresses else None

    def stop(self) -> None:
        for node in self.nodes:
            node.kill()


def _free_ports(count: int) -> List[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """One node, shared by the tests that do no harm to it."""
    started = Cluster(tmp_path_factory.mktemp("one"), 1)
    yield started
    started.stop()


@pytest.fixture
def three(tmp_path: Path) -> Iterator[Cluster]:
    """Three nodes of one's own, to be killed."""
    started = Cluster(tmp_path, 3)
    yield started
    started.stop()
