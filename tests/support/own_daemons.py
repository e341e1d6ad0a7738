"""Forks the daemons and programs that benchmarks and examples start for themselves, so a start costs no imports.

`make run`, which CI runs too, starts one as a user does.
"""

from __future__ import annotations

import runpy
import subprocess
import sys

import pytest

from tests.support.daemon import environment
from tests.support.forked import ForkedProcess
from tests.support.served import run_usmd
from tools import own_daemon

_LAUNCH = own_daemon.launch


def _fork(command: list[str]) -> ForkedProcess | subprocess.Popen[str]:
    if command[1:3] != ["-m", "usmd"]:
        return _LAUNCH(command)
    return ForkedProcess(run_usmd, command[3:], environ=environment())


def _run_python(arguments: list[str]) -> None:
    kind, program, *rest = arguments
    sys.argv = [program if kind == "-m" else "-c", *rest]
    if kind == "-m":
        runpy.run_module(program, run_name="__main__")
    else:
        exec(program, {"__name__": "__main__"})


def _fork_python(*arguments: str, says: bool = False, hears: bool = False) -> ForkedProcess:
    return ForkedProcess(_run_python, list(arguments), environ=environment(), stdin=hears, stdout=says)


@pytest.fixture(autouse=True)
def forked_daemons(monkeypatch):
    """For a conftest: fork what tools.own_daemon starts."""
    monkeypatch.setattr(own_daemon, "launch", _fork)
    monkeypatch.setattr(own_daemon, "start_python", _fork_python)
