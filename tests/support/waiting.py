"""Waiting for a condition: the only place where a test polls.

A test waits for whatever a daemon, the kernel or another thread does later. Every wait has a deadline, which is long,
because a busy machine is slow.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TypeVar

SECONDS = 60.0
"""Deadline of a wait. Only a defect reaches it, so it may be long."""
_LOOK_AGAIN = 0.005

_T = TypeVar("_T")


def wait_until(condition: Callable[[], _T], what: str, seconds: float = SECONDS) -> _T:
    """Wait until `condition` is true; returns its value. AssertionError with the last value after `seconds`."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds:g} s: {what}; last: {found!r}")
        time.sleep(_LOOK_AGAIN)
    return found


def wait_equal(get: Callable[[], _T], wanted: _T, what: str, seconds: float = SECONDS) -> None:
    """Wait until `get` returns `wanted`. AssertionError with the last value after `seconds`."""
    deadline = time.monotonic() + seconds
    while (found := get()) != wanted:
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds:g} s: {what}; wanted {wanted!r}, last: {found!r}")
        time.sleep(_LOOK_AGAIN)


async def wait_until_async(condition: Callable[[], _T], what: str, seconds: float = SECONDS) -> _T:
    """As `wait_until`, without blocking the loop: it checks about every millisecond."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds:g} s: {what}; last: {found!r}")
        await asyncio.sleep(0.001)
    return found
