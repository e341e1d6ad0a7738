"""When hints expire, by region, so that the end of a hint costs nothing for the regions that it does not concern."""

from __future__ import annotations

from heapq import heapify, heappop, heappush
from math import inf
from typing import Final

STALE: Final = 64
"""Entries of the heap that may be out of date beyond one a region; then it is built again."""


class HintEnds:
    """For each region with a hint that expires, the time when the first of them does, or an earlier one."""

    __slots__ = ("_due", "_heap", "next")

    def __init__(self) -> None:
        self._due: dict[int, float] = {}
        self._heap: list[tuple[float, int]] = []
        """(time, region), in heap order; an entry that differs from `_due` is out of date."""
        self.next = inf
        """Time at which the next hint expires, or earlier. Read only."""

    def put(self, region_id: int, time: float) -> None:
        """A hint of a region expires at a time; infinity: none does."""
        if time >= self._due.get(region_id, inf):
            return
        self._due[region_id] = time
        heappush(self._heap, (time, region_id))
        if len(self._heap) > 2 * len(self._due) + STALE:
            self._heap = [(due, each) for each, due in self._due.items()]
            heapify(self._heap)
        self.next = self._heap[0][0]

    def drop(self, region_id: int) -> None:
        """A region is gone."""
        self._due.pop(region_id, None)

    def take(self, now: float) -> list[int]:
        """Regions for which the time has come, in ascending order; `put` each again if more of its hints expire."""
        taken = []
        heap, due = self._heap, self._due
        while heap and heap[0][0] <= now:
            time, region_id = heappop(heap)
            if due.get(region_id) == time:
                del due[region_id]
                taken.append(region_id)
        self.next = heap[0][0] if heap else inf
        return sorted(taken)
