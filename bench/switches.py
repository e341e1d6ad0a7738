"""The cost of a switch from one uThread to another: greenlets and coroutines that only yield.

Included are the call of `yield_now`, the switch to the scheduler, its choice, and the switch to the next uThread. For
coroutines the scheduler is also measured alone, by awaiting a result of `yield_now` repeatedly. There are no faults.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

import lib_usm
from bench import as_program
from lib_usm import LocalManager
from tools.own_daemon import running

YIELDS: Final = 200_000
"""Yields of all uThreads together."""
ROUNDS: Final = 5
COUNTS: Final = (2, 64, 1024)
AIMS: Final = {"greenlets": 1.5, "coroutines": 0.5}


def greenlets(lm: LocalManager, count: int) -> None:
    """Spawn greenlets that yield."""
    share = YIELDS // count

    def run() -> None:
        yield_now = lm.yield_now
        for _ in range(share):
            yield_now()

    for _ in range(count):
        lm.spawn(run)


def coroutines(lm: LocalManager, count: int) -> None:
    """Spawn coroutines that yield by `await lm.yield_now()`."""
    share = YIELDS // count

    async def run() -> None:
        yield_now = lm.yield_now
        for _ in range(share):
            await yield_now()

    for _ in range(count):
        lm.spawn_async(run)


def coroutines_alone(lm: LocalManager, count: int) -> None:
    """As `coroutines`, without the calls of `yield_now`."""
    share = YIELDS // count

    async def run() -> None:
        token = lm.yield_now()
        for _ in range(share):
            await token

    for _ in range(count):
        lm.spawn_async(run)


def best(client: lib_usm.Client, spawn: Callable[[LocalManager, int], None], count: int) -> float:
    """Microseconds per switch, the best of some rounds."""
    times = []
    for _ in range(ROUNDS):
        lm = LocalManager(client)
        spawn(lm, count)
        began = time.perf_counter()
        lm.run()
        times.append((time.perf_counter() - began) / lm.stats().switches * 1e6)
    return min(times)


def main() -> None:
    """Print a line for each kind."""
    print(f"uThread switches ({YIELDS:,} yields, best of {ROUNDS} rounds; us a switch)")
    with running("--mechanism", "simulated", "--memory", "1MiB") as daemon, lib_usm.connect(daemon.address) as client:
        for name, spawn, aim in (
            ("greenlets", greenlets, AIMS["greenlets"]),
            ("coroutines", coroutines, None),
            ("coroutines, scheduler alone", coroutines_alone, AIMS["coroutines"]),
        ):
            figures = "   ".join(f"{count:5,} uThreads {best(client, spawn, count):5.2f}" for count in COUNTS)
            print(f"  {name:28} {figures}" + (f"   (aim {aim})" if aim is not None else ""))


if __name__ == "__main__":
    as_program(main, __doc__)
