"""Least frequently used, counted while a page is in memory."""

from __future__ import annotations

from array import array
from collections.abc import Iterator

from usmd.core.frame_list import FrameList
from usmd.core.policy import NO_HINTS, EvictPolicy
from usmd.core.view import MemoryView


class Lfu(EvictPolicy):
    """The page with fewest touches since it came in goes first; of equals the one that has had as many for longest.

    Constant time a touch: a list for each count (Shah, Mitra and Matani, "An O(1) algorithm for implementing the LFU
    cache eviction scheme", 2010).
    """

    heeds = NO_HINTS

    def __init__(self, memory: MemoryView) -> None:
        super().__init__(memory)
        self.counts = array("Q", bytes(8 * memory.frame_count))
        self.lists: dict[int, FrameList] = {}
        """Pages by count; no list is empty."""
        self.spare: list[FrameList] = []
        """Lists that became empty, for other counts: the number of a list is never given again, and there are 2^32."""
        self.least = 1
        """No page has a lower count."""

    def _add(self, pfn: int, count: int) -> None:
        self.counts[pfn] = count
        found = self.lists.get(count)
        if found is None:
            found = self.lists[count] = self.spare.pop() if self.spare else self.memory.new_list()
        found.append(pfn)

    def page_filled(self, pfn: int) -> None:
        """One touch: the fill."""
        self._add(pfn, 1)
        self.least = 1

    def page_accessed(self, pfn: int, write: bool) -> None:
        """One touch more."""
        del write
        count = self.counts[pfn]
        self.page_left(pfn)
        self._add(pfn, count + 1)

    def page_left(self, pfn: int) -> None:
        """Out of its list."""
        count = self.counts[pfn]
        holder = self.lists[count]
        holder.remove(pfn)
        if not holder:
            self.spare.append(self.lists.pop(count))

    def choose_victims(self) -> Iterator[int]:
        """Fewest touches first."""
        if not self.lists:
            return
        if self.least not in self.lists:
            self.least = min(self.lists)
        yield from self.lists[self.least]
        for count in sorted(self.lists):
            if count > self.least:
                yield from self.lists[count]

    def reason(self, pfn: int) -> str:
        """The count."""
        return f"least frequently used: {self.counts[pfn]} touches since it came in"
