"""Forks the daemons that benchmarks and examples start for themselves, so a start costs no imports.

`make run`, which CI runs too, starts one as a user does.
"""

from __future__ import annotations

import subprocess

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


@pytest.fixture(autouse=True)
def forked_daemons(monkeypatch):
    """For a conftest: fork the daemons of tools.own_daemon."""
    monkeypatch.setattr(own_daemon, "launch", _fork)
