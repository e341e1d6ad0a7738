"""S3-FIFO: three first-in-first-out queues (Yang et al., "FIFO queues are all you need for cache eviction", SOSP 2023).

As libCacheSim does by default, and unlike the paper: a page needs two touches, not more than one, to move from the
small queue to the main one (`promote_at`). Pages that are brought in before the first eviction go to the main queue
once the small one is full, so that memory is divided from the start. If the small queue has less than two pages (memory
of less than 20 pages), libCacheSim does not cache at all; this policy does.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Final

from mypy_extensions import mypyc_attr

from usmd.core.policy import NO_HINTS, EvictPolicy
from usmd.core.remembered import Remembered, Returning
from usmd.core.view import MemoryView
from usmd.errors import InvalidArgument

MOST_TOUCHES: Final = 3
_NONE_PASSED: Final[frozenset[int]] = frozenset()


@mypyc_attr(allow_interpreted_subclasses=True)
class S3Fifo(EvictPolicy):
    """New pages pass through a small queue and leave soon, unless touched or missed again: those enter a long queue.

    `small` and `ghost` are shares of memory: the length of the small queue, and the number of evicted pages that are
    remembered. A page with `promote_at` touches moves from the small queue to the main one.
    """

    heeds = NO_HINTS

    def __init__(self, memory: MemoryView, small: float = 0.1, ghost: float = 0.9, promote_at: int = 2) -> None:
        if not 0 < small < 1 or not 0 <= ghost <= 16 or not 1 <= promote_at <= MOST_TOUCHES:
            raise InvalidArgument(
                f"s3_fifo(small={small}, ghost={ghost}, promote_at={promote_at}); allowed are small between 0 and 1, "
                f"ghost 0 to 16, and promote_at 1 to {MOST_TOUCHES}"
            )
        super().__init__(memory)
        self.small_share, self.ghost_share, self.promote_at = small, ghost, promote_at
        self.small = memory.new_list()
        self.main = memory.new_list()
        self.ghost = Remembered()
        """Pages evicted from the small queue, oldest first."""
        self.returning = Returning(memory.frame_count)
        """Pages that were in the ghost queue when they were missed, and are not yet filled."""
        self.touches = bytearray(memory.frame_count)
        self.has_evicted = False
        self._divide(memory.capacity)

    def page_missed(self, page: int) -> None:
        """Note whether the page was evicted recently, and so belongs into the main queue."""
        self.returning.expect(page, self.ghost)

    def page_filled(self, pfn: int) -> None:
        """Append it to the main queue if it came back or memory fills for the first time, else to the small one."""
        self.touches[pfn] = 0
        if self.returning.pages and self.returning.came(self.memory.page(pfn)):
            self.main.append(pfn)
        elif self.has_evicted or len(self.small) < self.memory.capacity - self.main_limit:
            self.small.append(pfn)
        else:
            self.main.append(pfn)

    def page_accessed(self, pfn: int, write: bool) -> None:
        """Count a touch, up to three."""
        del write
        if self.touches[pfn] < MOST_TOUCHES:
            self.touches[pfn] += 1

    def pages_accessed(self, frames: list[int]) -> None:
        """Count a touch of each, up to three."""
        touches = self.touches
        for pfn in frames:
            if touches[pfn] < MOST_TOUCHES:
                touches[pfn] += 1

    def page_left(self, pfn: int) -> None:
        """Remove it."""
        if not self.small.discard(pfn):
            self.main.remove(pfn)

    def page_evicted(self, pfn: int) -> None:
        """Remove it; from the small queue it is remembered."""
        if self.small.discard(pfn):
            self.ghost.remember(self.memory.page(pfn), self.ghost_limit)
        else:
            self.main.remove(pfn)

    def choose_victims(self) -> Iterator[int]:
        """From the main queue if it exceeds its share, else from the small one; touched pages stay."""
        self._begin_choice()
        passed: set[int] = set()
        while (pfn := self._victim(passed)) >= 0:
            yield pfn
            if pfn in self.small or pfn in self.main:  # the core refused it
                passed.add(pfn)

    def first_victim(self) -> int:
        """The first of them."""
        self._begin_choice()
        return self._victim(_NONE_PASSED)

    def _begin_choice(self) -> None:
        self.has_evicted = True
        capacity = self.memory.capacity
        if capacity != self.capacity:
            self._divide(capacity)

    def _divide(self, capacity: int) -> None:
        self.capacity = capacity
        self.main_limit = capacity - int(capacity * self.small_share)
        self.ghost_limit = int(capacity * self.ghost_share)

    def _victim(self, passed: Collection[int]) -> int:
        """The next victim, or -1. Pages in `passed` were refused by the core and are skipped."""
        small, main, touches = self.small, self.main, self.touches
        if main.length <= self.main_limit:
            while (pfn := small.head_besides(passed) if passed else small.head) >= 0:
                if touches[pfn] < self.promote_at:
                    return pfn
                touches[pfn] = 0
                small.remove(pfn)
                main.append(pfn)
        while (pfn := main.head_besides(passed) if passed else main.head) >= 0:
            if not touches[pfn]:
                return pfn
            touches[pfn] -= 1
            main.move_to_end(pfn)
        return small.head_besides(passed)

    def reason(self, pfn: int) -> str:
        """The queue of the victim, and how few touches it got."""
        if pfn in self.small:
            return f"touched fewer than {self.promote_at} times in the small queue"
        return "not touched since it last came to the head of the main queue"
