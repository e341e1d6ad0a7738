"""A lock of all test processes: touches are not sampled while a test makes the kernel swap.

Released at the end of the test that took it, by tests/conftest.py.
"""

from __future__ import annotations

import fcntl
import os
import tempfile
from pathlib import Path

_held: list[int] = []


def _take(operation: int) -> None:
    path = Path(tempfile.gettempdir()) / "usmd-tests-kernel-swap.lock"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    _held.append(descriptor)
    fcntl.flock(descriptor, operation)


def stays_off() -> None:
    """No other test makes the kernel swap until this test has ended; waits for one that does."""
    _take(fcntl.LOCK_SH)


def is_used() -> None:
    """This test may make the kernel swap; waits for tests that sample touches."""
    _take(fcntl.LOCK_EX)


def release() -> None:
    """Give back what the test has taken."""
    while _held:
        os.close(_held.pop())
