"""`usmd serve` with a meter on its event loop, for `bench.stalls`: the longest stretch of the loop, and of one event.

Usage: `python -m bench.stalls_daemon FILE serve …`. FILE holds the numbers of `Meter`, shared with the benchmark.
"""

from __future__ import annotations

import asyncio
import mmap
import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, ParamSpec, TypeVar

from usmd.cli import main as usmd
from usmd.server.daemon import Daemon
from usmd.server.engine import Engine

_P = ParamSpec("_P")
_T = TypeVar("_T")
_WIDTH: Final = 8


class Meter:
    """Five numbers in a file that two processes map.

    Nanoseconds of the longest stretch, in all and of CPU time, and of the longest event; the deferred work left; and
    the turns of the loop.
    """

    def __init__(self, path: Path) -> None:
        """Map the file; make it if there is none."""
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            os.ftruncate(descriptor, 5 * _WIDTH)
            self._numbers = memoryview(mmap.mmap(descriptor, 5 * _WIDTH)).cast("Q")
        finally:
            os.close(descriptor)

    @property
    def stretch(self) -> float:
        """Seconds of the longest stretch of the loop since `reset`."""
        return self._numbers[0] / 1e9

    @property
    def event(self) -> float:
        """Seconds of the longest event since `reset`, with its commands."""
        return self._numbers[1] / 1e9

    @property
    def cpu(self) -> float:
        """Most CPU seconds of a stretch since `reset`."""
        return self._numbers[3] / 1e9

    @property
    def work_left(self) -> int:
        """Pieces of deferred work left in the core."""
        return self._numbers[2]

    @property
    def turns(self) -> int:
        """Stretches that the loop has recorded."""
        return self._numbers[4]

    def reset(self) -> None:
        """Reset the longest times."""
        self._numbers[0] = self._numbers[1] = self._numbers[3] = 0

    def beat(self, nanoseconds: int, cpu: int, work_left: int) -> None:
        """Record a stretch of the loop, and the work left after it."""
        self._numbers[0] = max(self._numbers[0], nanoseconds)
        self._numbers[3] = max(self._numbers[3], cpu)
        self._numbers[2] = work_left
        self._numbers[4] += 1

    def handled(self, nanoseconds: int) -> None:
        """Record an event."""
        self._numbers[1] = max(self._numbers[1], nanoseconds)


class Clock:
    """Nanoseconds of this thread, without time spent waiting for a CPU, which other programs cause."""

    def __init__(self) -> None:
        self._schedstat = os.open(f"/proc/self/task/{threading.get_native_id()}/schedstat", os.O_RDONLY)

    def now(self) -> int:
        """Time passed; waits for locks, threads and Python's lock are included."""
        return time.perf_counter_ns() - int(os.pread(self._schedstat, 64, 0).split()[1])


def measured(function: Callable[_P, _T], meter: Meter, clock: Clock) -> Callable[_P, _T]:
    """A function whose calls `meter` records as events."""

    def call(*arguments: _P.args, **named: _P.kwargs) -> _T:
        begun = clock.now()
        try:
            return function(*arguments, **named)
        finally:
            meter.handled(max(clock.now() - begun, 0))

    return call


def watch(meter: Meter) -> None:
    """Make the daemon of this process measure itself."""
    run = Daemon.run

    async def measured_run(self: Daemon) -> int:
        loop, clock, queue = asyncio.get_running_loop(), Clock(), self.engine.core.state.work.queue
        last, last_cpu = clock.now(), time.thread_time_ns()

        def beat() -> None:
            nonlocal last, last_cpu
            now, cpu = clock.now(), time.thread_time_ns()
            meter.beat(max(now - last, 0), cpu - last_cpu, len(queue))
            last, last_cpu = now, cpu
            loop.call_soon(beat)

        Engine._handle = measured(Engine._handle, meter, clock)  # type: ignore[method-assign]
        loop.call_soon(beat)
        return await run(self)

    Daemon.run = measured_run  # type: ignore[method-assign]


def main(arguments: Sequence[str]) -> None:
    """Run `usmd` with these arguments, of which the first is the meter's file."""
    watch(Meter(Path(arguments[0])))
    sys.argv = ["usmd", *arguments[1:]]
    usmd()


if __name__ == "__main__":
    main(sys.argv[1:])
