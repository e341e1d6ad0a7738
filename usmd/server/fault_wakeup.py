"""`memory.fault_wakeup`: where and how the daemon waits for real page faults.

A thread that faults sleeps until it is served. Waking a handler that sleeps on another CPU takes most of that time, so
it matters more where the handler is than what it does. `sleep` leaves that to the kernel. `spin:<us>` keeps the loop
polling for so long after each fault. `follow` moves the loop to the CPU on which the last faults happened, where it can
run as soon as the faulting thread sleeps. `auto` (`wakeup_choice`) chooses among them.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

SLICE_SECONDS: Final = 5e-5
"""How long `spin` polls before other work has its turn."""
FOLLOW_SECONDS: Final = 0.005
"""How often `follow` looks where faults happen."""
LEAVE_SECONDS: Final = 0.1
"""After so long without a fault `follow` lets the kernel choose the CPU again."""


class Sleep:
    """Wait for faults as for everything else."""

    def faulted(self, pid: int, thread: int, now: float, faults: int = 1) -> float:
        """Called at `now` (of the clock), when faults of a process were served, that of `thread` last.

        Returns the time up to which to poll for the next.
        """
        del pid, thread, now, faults
        return 0.0

    def leave(self) -> None:
        """Called when another way is used from now on."""

    def tick(self) -> None:
        """Called every 0.1 s."""


class Spin(Sleep):
    """Poll for `seconds` after each fault; other work has its turn each `SLICE_SECONDS`."""

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._seconds = seconds
        self._until = 0.0
        self._spinning = False

    def faulted(self, pid: int, thread: int, now: float, faults: int = 1) -> float:
        """Begin to spin, or continue."""
        del pid, thread, faults
        self._until = now + self._seconds
        if not self._spinning and self._seconds > SLICE_SECONDS:
            self._spinning = True
            self._spin()
        return min(self._until, now + SLICE_SECONDS)

    def leave(self) -> None:
        """Spin no more."""
        self._until = 0.0

    def _spin(self) -> None:
        # A callback that is due keeps the loop from sleeping: it only polls.
        if self._clock() < self._until:
            asyncio.get_running_loop().call_soon(self._spin)
        else:
            self._spinning = False


class Follow(Sleep):
    """Run on the CPU of the thread that faulted last."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._all = os.sched_getaffinity(0)
        self._on: int | None = None
        self._look_at = 0.0
        self._last = 0.0

    def faulted(self, pid: int, thread: int, now: float, faults: int = 1) -> float:
        """Move to the thread's CPU, but look for it only each `FOLLOW_SECONDS`."""
        del faults
        self._last = now
        if now < self._look_at or not thread:
            return 0.0
        self._look_at = now + FOLLOW_SECONDS
        cpu = cpu_of(pid, thread)
        if cpu is not None and cpu != self._on and cpu in self._all:
            try:
                os.sched_setaffinity(0, {cpu})
            except OSError:  # the CPUs that this process may run on have changed
                self._all = os.sched_getaffinity(0)
                return 0.0
            self._on = cpu
        return 0.0

    def tick(self) -> None:
        """If no thread faults, allow all CPUs again."""
        if self._clock() - self._last > LEAVE_SECONDS:
            self.leave()

    def leave(self) -> None:
        """Allow all CPUs again, also to the threads that were begun meanwhile."""
        if self._on is not None:
            self._on = None
            for task in Path("/proc/self/task").iterdir():
                with suppress(OSError):  # a thread that has just ended
                    os.sched_setaffinity(int(task.name), self._all)


def cpu_of(pid: int, thread: int) -> int | None:
    """The CPU on which a thread ran last; None if it is gone, or if its state cannot be read."""
    try:
        fields = Path(f"/proc/{pid}/task/{thread}/stat").read_text().rpartition(")")[2].split()
        return int(fields[36])  # field 39, of which the name and the two before it are cut off
    except (OSError, IndexError, ValueError):
        return None
