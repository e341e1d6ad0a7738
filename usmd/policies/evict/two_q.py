"""2Q, the full version (Johnson and Shasha, VLDB 1994), with the shares that libCacheSim uses by default.

The paper leaves the shares open, and suggests a quarter of memory for A1in and half of memory's pages for A1out. As in
libCacheSim, A1in gives a victim only while it exceeds its share.
"""

from __future__ import annotations

from collections.abc import Iterator

from mypy_extensions import mypyc_attr

from usmd.core.frame_list import FrameList
from usmd.core.policy import NO_HINTS, EvictPolicy
from usmd.core.remembered import Remembered, Returning
from usmd.core.view import MemoryView
from usmd.errors import InvalidArgument


@mypyc_attr(allow_interpreted_subclasses=True)
class TwoQ(EvictPolicy):
    """New pages pass through a first-in-first-out queue; those missed again soon after it enter an LRU list.

    `a_in` and `a_out` are shares of memory: the length of the queue, and the number of pages evicted from it that are
    remembered.
    """

    heeds = NO_HINTS

    def __init__(self, memory: MemoryView, a_in: float = 0.25, a_out: float = 0.5) -> None:
        if not 0 < a_in < 1 or not 0 < a_out <= 16:
            raise InvalidArgument(f"two_q(a_in={a_in}, a_out={a_out}); allowed are a_in between 0 and 1, a_out to 16")
        super().__init__(memory)
        self.in_share, self.out_share = a_in, a_out
        self.a_in = memory.new_list()
        self.a_main = memory.new_list()
        self.a_out = Remembered()
        """Pages evicted from `a_in`, oldest first."""
        self.returning = Returning(memory.frame_count)
        """Pages that were in `a_out` when they were missed, and are not yet filled."""

    def page_missed(self, page: int) -> None:
        """Note whether the page left the queue recently, and so belongs into the LRU list."""
        self.returning.expect(page, self.a_out)

    def page_filled(self, pfn: int) -> None:
        """Append it to the LRU list if it left the queue recently, else to the queue."""
        if self.returning.came(self.memory.page(pfn)):
            self.a_main.append(pfn)
        else:
            self.a_in.append(pfn)

    def page_accessed(self, pfn: int, write: bool) -> None:
        """Make it the most recent of the LRU list. Touches in the queue do not count, because they are correlated."""
        del write
        if pfn in self.a_main:
            self.a_main.move_to_end(pfn)

    def page_left(self, pfn: int) -> None:
        """Remove it."""
        if not self.a_in.discard(pfn):
            self.a_main.remove(pfn)

    def page_evicted(self, pfn: int) -> None:
        """Remove it; from the queue it is remembered."""
        if self.a_in.discard(pfn):
            self.a_out.remember(self.memory.page(pfn), int(self.memory.capacity * self.out_share))
        else:
            self.a_main.remove(pfn)

    def choose_victims(self) -> Iterator[int]:
        """From the queue while it exceeds its share, else from the LRU list."""
        limit = int(self.memory.capacity * self.in_share)
        passed: set[int] = set()
        while True:
            first, second = self._in_turn(limit)
            pfn = first.first_besides(passed)
            if pfn is None:
                pfn = second.first_besides(passed)
            if pfn is None:
                return
            yield pfn
            if pfn in self.a_in or pfn in self.a_main:  # the core refused it
                passed.add(pfn)

    def first_victim(self) -> int:
        """The first of them."""
        first, second = self._in_turn(int(self.memory.capacity * self.in_share))
        return second.head if first.head < 0 else first.head

    def _in_turn(self, limit: int) -> tuple[FrameList, FrameList]:
        return (self.a_in, self.a_main) if self.a_in.length > limit else (self.a_main, self.a_in)

    def reason(self, pfn: int) -> str:
        """Which of the two lists."""
        return "first in of the new pages" if pfn in self.a_in else "least recently used of the pages that came back"
