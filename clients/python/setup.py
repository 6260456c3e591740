"""Generates the messages before the package is built; everything else is in pyproject.toml."""

import sys
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py
from setuptools.command.sdist import sdist

sys.path.insert(0, str(Path(__file__).resolve().parent))
from generate import generate  # noqa: E402


class Build(build_py):
    def run(self) -> None:
        generate()
        super().run()


class Archive(sdist):
    def run(self) -> None:
        generate()
        super().run()


setup(cmdclass={"build_py": Build, "sdist": Archive})
