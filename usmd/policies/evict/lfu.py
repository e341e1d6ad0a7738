"""Least frequently used, counted while a page is in memory."""

from __future__ import annotations

from array import array
from collections.abc import Iterator

from mypy_extensions import mypyc_attr

from usmd.core.frame_list import FrameList
from usmd.core.policy import NO_HINTS, EvictPolicy
from usmd.core.view import MemoryView


@mypyc_attr(allow_interpreted_subclasses=True)
class Lfu(EvictPolicy):
    """The page with the fewest touches since it was brought in goes first; of equals, the one longest at that count.

    A touch takes constant time: there is a list for each count (Shah, Mitra and Matani, "An O(1) algorithm for
    implementing the LFU cache eviction scheme", 2010).
    """

    heeds = NO_HINTS

    def __init__(self, memory: MemoryView) -> None:
        super().__init__(memory)
        self.counts = array("Q", bytes(8 * memory.frame_count))
        self.lists: dict[int, FrameList] = {}
        """Pages by count; no list is empty."""
        self.spare: list[FrameList] = []
        """Empty lists, to be used for other counts: a list's number is never reused, and there are only 2^32."""
        self.least = 1
        """A lower bound of all counts."""

    def _add(self, pfn: int, count: int) -> None:
        self.counts[pfn] = count
        found = self.lists.get(count)
        if found is None:
            found = self.lists[count] = self.spare.pop() if self.spare else self.memory.new_list()
        found.append(pfn)

    def page_filled(self, pfn: int) -> None:
        """Count the fill as one touch."""
        self._add(pfn, 1)
        self.least = 1

    def page_accessed(self, pfn: int, write: bool) -> None:
        """Count a touch."""
        del write
        count = self.counts[pfn]
        self.page_left(pfn)
        self._add(pfn, count + 1)

    def page_left(self, pfn: int) -> None:
        """Remove it."""
        count = self.counts[pfn]
        holder = self.lists[count]
        holder.remove(pfn)
        if not holder:
            self.spare.append(self.lists.pop(count))

    def choose_victims(self) -> Iterator[int]:
        """The fewest touches first."""
        if not self.lists:
            return
        if self.least not in self.lists:
            self.least = min(self.lists)
        yield from self.lists[self.least]
        for count in sorted(self.lists):
            if count > self.least:
                yield from self.lists[count]

    def first_victim(self) -> int:
        """The one with the fewest touches that is longest at that count."""
        if not self.lists:
            return -1
        if self.least not in self.lists:
            self.least = min(self.lists)
        return self.lists[self.least].head

    def reason(self, pfn: int) -> str:
        """The count."""
        return f"least frequently used: {self.counts[pfn]} touches since it came in"
