"""The optimum (L. Belady, "A study of replacement algorithms for virtual-storage computer", 1966): for replays only."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from heapq import heapify, heappop, heappush

from usmd.core.policy import NO_HINTS, EvictPolicy
from usmd.core.view import MemoryView


class Belady(EvictPolicy):
    """The page that is used again last goes first. It needs the future, which only a replay knows: a yardstick."""

    heeds = NO_HINTS

    def __init__(self, memory: MemoryView) -> None:
        super().__init__(memory)
        self.next_use = array("q", [-1]) * memory.frame_count
        """Number of the access that uses the page next, by frame; -1: the frame is not known."""
        self.heap: list[tuple[int, int]] = []
        """(-next use, frame), with entries that are out of date; the others agree with `next_use`."""
        self.known = 0
        if memory.frame_count:
            memory.next_use(-1)  # raises where nobody knows the future

    def _use(self, pfn: int) -> None:
        number = self.memory.next_use(self.memory.page(pfn))
        self.next_use[pfn] = number
        heappush(self.heap, (-number, pfn))
        if len(self.heap) > 4 * self.known + 64:
            alive = {each for _, each in self.heap if self.next_use[each] >= 0}
            self.heap = [(-self.next_use[each], each) for each in alive]
            heapify(self.heap)

    def page_filled(self, pfn: int) -> None:
        """Its next use is looked up."""
        self.known += 1
        self._use(pfn)

    def page_accessed(self, pfn: int, write: bool) -> None:
        """Its next use is another."""
        del write
        self._use(pfn)

    def page_left(self, pfn: int) -> None:
        """Out."""
        self.known -= 1
        self.next_use[pfn] = -1

    def choose_victims(self) -> Iterator[int]:
        """The farthest next use first."""
        passed: dict[int, int] = {}
        try:
            while self.heap:
                number, pfn = self.heap[0]
                if self.next_use[pfn] != -number or pfn in passed:
                    heappop(self.heap)
                    continue
                yield pfn
                if self.next_use[pfn] >= 0:  # it could not go
                    passed[pfn] = number
        finally:  # also when the core has enough and asks for no more
            for pfn, number in passed.items():
                heappush(self.heap, (number, pfn))

    def reason(self, pfn: int) -> str:
        """The future."""
        return f"of all pages used again last: at access {self.next_use[pfn]}"
