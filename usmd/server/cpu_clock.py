"""CPU time of a thread. On a busy machine it shows which call is slow, as elapsed time does not."""

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
    """CPU seconds of the thread that enters it, without full garbage collections.

    A full collection takes long if the daemon has many objects, and the call that happens to start it is not to blame.
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
        """The seconds; only that thread may call this."""
        return time.thread_time() - self._collecting

    def _collects(self, phase: str, info: dict[str, int]) -> None:
        if info["generation"] == _OLDEST and threading.get_ident() == self._thread:
            if phase == "start":
                self._began = time.thread_time()
            else:
                self._collecting += time.thread_time() - self._began


class Spent(NamedTuple):
    """Seconds of the calling thread, from any start: that passed, that it ran, and that it waited for a CPU."""

    passed: float
    ran: float
    waited: float


def spent() -> Spent:
    """How the calling thread has spent its time; `waited` is 0 if the kernel does not report it."""
    try:
        waited = int(_SCHEDSTAT.read_text(encoding="ascii").split()[1]) / 1e9
    except OSError:
        waited = 0.0
    return Spent(time.monotonic(), time.thread_time(), waited)
