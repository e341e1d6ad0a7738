"""Which processes give frames under pressure, how many, and in which order.

The process furthest above its share gives first. What it has above its share is what it could give, divided by its
weight: evictable pages above its guarantee. It gives until it stands where the next one stands, but LEAST pages in one
go, so that a policy is not asked for single pages. With equal weights and no guarantee, the process with most evictable
pages gives first, and two processes of the same size give by turns.

The processes of a user with a weight stand as one with that weight and all their pages. What they give, they give in
the same order among themselves.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from usmd.core.region import PAGE_BITS

if TYPE_CHECKING:
    from usmd.core.region import Process
    from usmd.core.state import State

LEAST: Final = 16
"""Pages that a process gives before the next one gives, if it has as many."""


class Together:
    """The processes of a user with a weight. `above`: pages above what they keep, in sum."""

    __slots__ = ("above", "standings", "weight")

    def __init__(self, weight: int) -> None:
        self.weight = weight
        self.above = 0
        self.standings: list[tuple[float, Process | Together]] = []


def _above(standing: tuple[float, Process | Together]) -> float:
    return standing[0]


class Givers:
    """Says which processes give."""

    def __init__(self, state: State) -> None:
        self._state = state

    def in_turn(self, wanted: int) -> Iterator[tuple[Process, int]]:
        """Processes and how many pages each should give, the one furthest above its share first.

        The caller takes the pages before it asks for the next process. The last one should give all `wanted` pages.
        """
        arriving = self._arriving() if self._state.arriving else None
        standings: list[tuple[float, Process | Together]] = []
        together: dict[int, Together] = {}
        for process in self._state.processes.values():
            # A page may be both unevictable and pinned, so the sum of the two says nothing about the other pages.
            if process.resident > max(process.unevictable, process.pinned):
                moving = 0 if arriving is None else arriving.get(process.process_id, 0)
                stays = process.resident - process.leaving - moving
                if process.memory_min == 0 or stays > process.memory_min:
                    kept = max(process.memory_min, process.unevictable + process.pinned)
                    standing = (stays - kept) / process.weight
                    user = process.user
                    if user is None or not user.weight:
                        standings.append((standing, process))
                        continue
                    if (own := together.get(user.uid)) is None:
                        own = together[user.uid] = Together(user.weight)
                    own.above += stays - kept
                    own.standings.append((standing, process))
        for own in together.values():
            standings.append((own.above / own.weight, own))
        yield from self._turns(standings, wanted)

    def _turns(self, standings: list[tuple[float, Process | Together]], wanted: int) -> Iterator[tuple[Process, int]]:
        if len(standings) > 1:
            standings.sort(key=_above, reverse=True)
        last = len(standings) - 1
        for index, (above, giver) in enumerate(standings):
            gives = wanted
            if index < last:
                gives = max(int((above - standings[index + 1][0]) * giver.weight), LEAST)
            if isinstance(giver, Together):
                for process, part in self._turns(giver.standings, gives):
                    yield process, min(part, gives)
                    gives -= part
                    if gives <= 0:
                        break
            else:
                if giver.memory_min:
                    gives = min(gives, self.most(giver))
                yield giver, gives

    def most(self, process: Process) -> int:
        """Pages that a process may lose to others now."""
        arriving = self._arriving().get(process.process_id, 0) if self._state.arriving else 0
        return max(process.resident - process.leaving - arriving - process.memory_min, 0)

    def _arriving(self) -> dict[int, int]:
        """Process number → its pages in memory that are only on their way to another swap device."""
        state = self._state
        found: dict[int, int] = {}
        for pfn in state.arriving:
            region = state.regions.get(state.frames.page[pfn] >> PAGE_BITS)
            if region is not None:
                number = region.process.process_id
                found[number] = found.get(number, 0) + 1
        return found
