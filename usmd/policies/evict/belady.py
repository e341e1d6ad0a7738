"""The optimum (L. Belady, "A study of replacement algorithms for virtual-storage computer", 1966): for replays only."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from heapq import heapify, heappop, heappush

from mypy_extensions import mypyc_attr

from usmd.core.policy import NO_HINTS, EvictPolicy
from usmd.core.view import MemoryView


@mypyc_attr(allow_interpreted_subclasses=True)
class Belady(EvictPolicy):
    """The page whose next use is farthest goes first. Only a replay knows the future: this is a yardstick."""

    heeds = NO_HINTS

    def __init__(self, memory: MemoryView) -> None:
        super().__init__(memory)
        self.next_use = array("q", [-1]) * memory.frame_count
        """Number of the access that next uses the page, by frame; -1 if the frame holds no page of the process."""
        self.heap: list[tuple[int, int]] = []
        """(-next use, frame). An entry that disagrees with `next_use` is stale."""
        self.passed: list[tuple[int, int]] = []
        """Entries of `heap` that the last choice took out, although the core refused their frames."""
        self.known = 0
        if memory.frame_count:
            memory.next_use(-1)  # raises outside of replays

    def _use(self, pfn: int) -> None:
        number = self.memory.next_use(self.memory.page(pfn))
        self.next_use[pfn] = number
        heappush(self.heap, (-number, pfn))
        if len(self.heap) > 4 * self.known + 64:
            alive = {each for _, each in self.heap if self.next_use[each] >= 0}
            self.heap = [(-self.next_use[each], each) for each in alive]
            heapify(self.heap)

    def page_filled(self, pfn: int) -> None:
        """Look up its next use."""
        self.known += 1
        self._use(pfn)

    def page_accessed(self, pfn: int, write: bool) -> None:
        """Look up its next use."""
        del write
        self._use(pfn)

    def page_left(self, pfn: int) -> None:
        """Remove it."""
        self.known -= 1
        self.next_use[pfn] = -1

    def choose_victims(self) -> Iterator[int]:
        """The farthest next use first."""
        for entry in self.passed:  # here, and not when the last choice ended, because that may never be closed
            heappush(self.heap, entry)
        self.passed.clear()
        refused: set[int] = set()
        while self.heap:
            number, pfn = self.heap[0]
            if self.next_use[pfn] != -number:
                heappop(self.heap)
            elif pfn in refused:
                self.passed.append(heappop(self.heap))
            else:
                yield pfn
                if self.next_use[pfn] >= 0:
                    refused.add(pfn)

    def reason(self, pfn: int) -> str:
        """The number of the next access."""
        return f"of all pages used again last: at access {self.next_use[pfn]}"
