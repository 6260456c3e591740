"""Writes the messages of sched_client/_proto from the repository's .proto files, with grpcio-tools.

Building the package runs it, and so does setting up its tests: what is written is not committed, so that it cannot differ.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
PROTO = HERE.parent.parent / "proto" / "proto"
PACKAGE = Path("sched_client") / "_proto"
FILES = ("scheduler.proto", "worker.proto")


def compile_protos(*arguments: str) -> None:
    """Runs protoc on the files as if they lay in the package, so that what it writes imports itself from there."""
    from grpc_tools import protoc

    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / PACKAGE
        source.mkdir(parents=True)
        for name in FILES:
            shutil.copy(PROTO / name, source / name)
        command = ["protoc", f"-I{folder}", *arguments, *(f"{PACKAGE.as_posix()}/{name}" for name in FILES)]
        if protoc.main(command) != 0:
            sys.exit("protoc failed")


def generate() -> None:
    """Writes the modules, when the .proto files are there: an archive of the package has the modules instead."""
    if PROTO.is_dir():
        compile_protos(f"--python_out={HERE}", f"--pyi_out={HERE}")


if __name__ == "__main__":
    generate()
