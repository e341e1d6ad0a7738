"""Waiting for a condition: the only place where a test polls.

What a daemon, a kernel or another thread does later is asserted on by waiting for it. Every wait ends: its deadline is
for what never comes, and is long, because a busy machine is slow and not wrong.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TypeVar

SECONDS = 60.0
"""Deadline of a wait. It is reached by a defect alone, so that it may be long."""
_LOOK_AGAIN = 0.005

_T = TypeVar("_T")


def wait_until(condition: Callable[[], _T], what: str, seconds: float = SECONDS) -> _T:
    """Return what `condition` returns once that is true; AssertionError, naming the last value, after `seconds`."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds:g} s: {what}; last: {found!r}")
        time.sleep(_LOOK_AGAIN)
    return found


def wait_equal(get: Callable[[], _T], wanted: _T, what: str, seconds: float = SECONDS) -> None:
    """Wait until `get` returns `wanted`; AssertionError, with what it returned instead, after `seconds`."""
    deadline = time.monotonic() + seconds
    while (found := get()) != wanted:
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds:g} s: {what}; wanted {wanted!r}, last: {found!r}")
        time.sleep(_LOOK_AGAIN)


async def wait_until_async(condition: Callable[[], _T], what: str, seconds: float = SECONDS) -> _T:
    """As `wait_until`, while the loop goes on: it looks in each turn of the loop, and yields to threads in between."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds:g} s: {what}; last: {found!r}")
        await asyncio.sleep(0.001)
    return found
