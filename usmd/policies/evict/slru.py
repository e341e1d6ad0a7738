"""Segmented LRU (Karedla, Love and Wherry, "Caching strategies to improve disk system performance", 1994).

The paper has two segments; here there are four of equal size, as in libCacheSim by default. As in libCacheSim, a new
page enters the lowest segment that has room. If the number of segments does not divide memory, the pages beyond the sum
of the segments are evicted once a touch finds the lowest segment too full.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from mypy_extensions import mypyc_attr

from usmd.core.policy import NO_HINTS, EvictPolicy
from usmd.core.view import MemoryView
from usmd.errors import InvalidArgument


@mypyc_attr(allow_interpreted_subclasses=True)
class Slru(EvictPolicy):
    """Each touch lifts a page by one segment; a full segment pushes its least recent page down; the lowest one evicts.

    `segments` is the number of equal parts of memory.
    """

    heeds = NO_HINTS

    def __init__(self, memory: MemoryView, segments: int = 4) -> None:
        if not 1 <= segments <= 64:
            raise InvalidArgument(f"slru(segments={segments}); allowed are 1 to 64")
        super().__init__(memory)
        self.segments = [memory.new_list() for _ in range(segments)]
        self.segment = bytearray(memory.frame_count)
        """Number of the page's segment, by frame."""

    def _limit(self) -> int:
        return max(self.memory.capacity // len(self.segments), 1)

    def _put(self, pfn: int, number: int) -> None:
        self.segment[pfn] = number
        self.segments[number].append(pfn)

    def page_filled(self, pfn: int) -> None:
        """Append it to the lowest segment with room, else to the lowest of all."""
        limit = self._limit()
        self._put(pfn, next((number for number, each in enumerate(self.segments) if len(each) < limit), 0))

    def page_accessed(self, pfn: int, write: bool) -> None:
        """Lift it by one segment, and push pages of segments that are now too full down."""
        del write
        segments, number = self.segments, self.segment[pfn]
        if number == len(segments) - 1:
            segments[number].move_to_end(pfn)
            return
        segments[number].remove(pfn)
        self._put(pfn, number + 1)
        limit = self._limit()
        cold = None
        for upper in range(number + 1, 0, -1):
            while len(segments[upper]) > limit:
                cold = next(iter(segments[upper]))
                segments[upper].remove(cold)
                self._put(cold, upper - 1)
        if cold is not None and self.segment[cold] == 0:
            for cold in list(islice(segments[0], max(len(segments[0]) - limit, 0))):
                self.memory.give_up(cold)

    def page_left(self, pfn: int) -> None:
        """Remove it."""
        self.segments[self.segment[pfn]].remove(pfn)

    def choose_victims(self) -> Iterator[int]:
        """The lowest segment first, in each the least recent page first."""
        for segment in self.segments:
            yield from segment

    def first_victim(self) -> int:
        """The least recent page of the lowest segment that has any."""
        for segment in self.segments:
            if segment.length:
                return segment.head
        return -1

    def reason(self, pfn: int) -> str:
        """Its segment."""
        return f"least recently used of segment {self.segment[pfn] + 1} of {len(self.segments)}"
