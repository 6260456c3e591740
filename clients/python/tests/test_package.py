"""What is packed is what is in the repository, and what its README shows works."""

from __future__ import annotations

import doctest
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from conftest import Cluster

from generate import FILES, HERE, PACKAGE, compile_protos


def test_the_messages_are_those_of_the_proto_files(tmp_path: Path) -> None:
    compile_protos(f"--python_out={tmp_path}", f"--pyi_out={tmp_path}")
    written = sorted((tmp_path / PACKAGE).iterdir())
    assert len(written) == 2 * len(FILES)
    for file in written:
        found = HERE / PACKAGE / file.name
        assert found.read_bytes() == file.read_bytes(), f"{found} is old: run {HERE / 'generate.py'}"


def test_a_wheel_holds_everything(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", str(tmp_path), "."]
    subprocess.run(command, cwd=HERE, check=True, timeout=300)
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    modules = [f"sched_client/{name}" for name in ("client.py", "worker.py", "tasks.py", "errors.py", "py.typed")]
    messages = [f"sched_client/_proto/{name}_pb2.{kind}" for name in ("scheduler", "worker") for kind in ("py", "pyi")]
    assert set(modules + messages) <= set(names)
    assert not [name for name in names if name.startswith("tests")]


@pytest.mark.parametrize("file", ["README.md"])
def test_what_is_shown_works(file: str, cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCHED_ENDPOINT", cluster.endpoints)
    result = doctest.testfile(str(HERE / file), module_relative=False, optionflags=doctest.ELLIPSIS)
    assert result.failed == 0 and result.attempted > 10


def test_the_docstrings_work() -> None:
    from sched_client import client, tasks

    for module in (client, tasks):
        assert doctest.testmod(module, optionflags=doctest.ELLIPSIS).failed == 0
