"""Time that a thread spent, apart from time that passed: what blame for slowness goes by on a busy machine."""

from __future__ import annotations

import gc
import threading
import time
from pathlib import Path
from typing import Final, NamedTuple, Self

_OLDEST: Final = 2
"""The generation of full garbage collections."""
_SCHEDSTAT: Final = Path("/proc/thread-self/schedstat")


class CpuClock:
    """Seconds of CPU time that the thread which enters it has used.

    Without full garbage collections: they take long where the daemon has much to look after, and the call that happens
    to set one off has not made that.
    """

    def __init__(self) -> None:
        self._thread = 0
        self._began = 0.0
        self._collecting = 0.0

    def __enter__(self) -> Self:
        self._thread = threading.get_ident()
        gc.callbacks.append(self._collects)
        return self

    def __exit__(self, *_: object) -> None:
        gc.callbacks.remove(self._collects)

    def __call__(self) -> float:
        """The seconds; for that thread alone."""
        return time.thread_time() - self._collecting

    def _collects(self, phase: str, info: dict[str, int]) -> None:
        if info["generation"] == _OLDEST and threading.get_ident() == self._thread:
            if phase == "start":
                self._began = time.thread_time()
            else:
                self._collecting += time.thread_time() - self._began


class Spent(NamedTuple):
    """Seconds from any start, of the calling thread: that passed, that it ran, and that it waited for a CPU."""

    passed: float
    ran: float
    waited: float


def spent() -> Spent:
    """Where the calling thread's time has gone; a kernel that does not tell what it waited for a CPU gives 0."""
    try:
        waited = int(_SCHEDSTAT.read_text(encoding="ascii").split()[1]) / 1e9
    except OSError:
        waited = 0.0
    return Spent(time.monotonic(), time.thread_time(), waited)
