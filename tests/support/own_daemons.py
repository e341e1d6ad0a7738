"""The daemons that benchmarks and examples start for themselves, forked in tests: a start costs no imports.

`make run`, which CI runs too, starts one as a user does.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.support.daemon import environment
from tests.support.forked import ForkedProcess
from tests.support.served import run_usmd
from tools import own_daemon


@contextmanager
def _started(command: list[str]) -> Iterator[None]:
    process = ForkedProcess(run_usmd, command[command.index("usmd") + 1 :], environ=environment())
    with process:
        try:
            said = []
            for line in process.stderr:
                said.append(line)
                if "ready" in line:
                    break
            else:
                raise RuntimeError(f"{' '.join(command)} ended before it was ready: {''.join(said)}")
            yield
        finally:
            process.terminate()
            process.communicate()


@pytest.fixture(autouse=True)
def forked_daemons(monkeypatch):
    """For a conftest: tools.own_daemon.running forks its daemons."""
    monkeypatch.setattr(own_daemon, "started", _started)
