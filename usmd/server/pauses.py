"""Long work in parts: other work of the loop has its turn in between."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Final, TypeVar

ITEMS_A_PART: Final = 128
"""Items handled in one turn of the loop, each in some microseconds."""
TURN_SECONDS: Final = 0.0005
"""After so long the loop has its turn: a turn of work in small steps takes that and one step."""
_T = TypeVar("_T")


async def in_parts(
    items: Iterable[_T], most: int = ITEMS_A_PART, cost: Callable[[_T], int] = lambda _item: 1
) -> AsyncIterator[_T]:
    """Yield items, and let the loop have its turn after those that together cost `most`.

    The daemon serves meanwhile: an item may be gone by its turn.
    """
    done = 0
    for item in items:
        yield item
        done += cost(item)
        if done >= most:
            done = 0
            await asyncio.sleep(0)


class Turns:
    """Work in small steps of unknown length, after each of which `step` is awaited. It begins at once."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._spent = 0.0
        self._cpu = time.thread_time()
        self._began = clock()

    async def step(self) -> None:
        """Let the loop have its turn if this one has taken TURN_SECONDS."""
        if self._clock() - self._began >= TURN_SECONDS:
            self._spent = self.cpu_seconds
            await asyncio.sleep(0)
            self._cpu, self._began = time.thread_time(), self._clock()

    @property
    def cpu_seconds(self) -> float:
        """CPU time that the work has taken, without what was done in between."""
        return self._spent + time.thread_time() - self._cpu
