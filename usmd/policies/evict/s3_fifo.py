"""S3-FIFO: three first-in-first-out queues (Yang et al., "FIFO queues are all you need for cache eviction", SOSP 2023).

As libCacheSim does by default, and other than the paper: a page needs two touches, not more than one, to move from the
small queue to the main one (`promote_at`); pages that come before the first eviction go to the main queue once the
small one is full, so that memory fills as it will be divided. libCacheSim does not cache at all where the small queue
has less than two pages (memory of less than 20 pages); here they are cached.
"""

from __future__ import annotations

from collections.abc import Iterator

from usmd.core.policy import NO_HINTS, EvictPolicy
from usmd.core.remembered import Remembered, Returning
from usmd.core.view import MemoryView
from usmd.errors import InvalidArgument

MOST_TOUCHES = 3


class S3Fifo(EvictPolicy):
    """New pages pass a small queue and go soon unless touched; those touched, or missed again, get a long one.

    `small` and `ghost` are shares of memory: the small queue, and how many evicted pages are remembered. A page with
    `promote_at` touches moves from the small queue to the main one.
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
        """Pages that were in the ghost queue when they were missed, and are not filled yet."""
        self.touches = bytearray(memory.frame_count)
        self.has_evicted = False
        self._divide(memory.capacity)

    def page_missed(self, page: int) -> None:
        """A page that was evicted not long ago will go to the main queue."""
        self.returning.expect(page, self.ghost)

    def page_filled(self, pfn: int) -> None:
        """Into the small queue, or into the main one if it came back soon, or memory fills for the first time."""
        self.touches[pfn] = 0
        if self.returning and self.returning.came(self.memory.page(pfn)):
            self.main.append(pfn)
        elif self.has_evicted or len(self.small) < self.memory.capacity - self.main_limit:
            self.small.append(pfn)
        else:
            self.main.append(pfn)

    def page_accessed(self, pfn: int, write: bool) -> None:
        """Counted, up to three."""
        del write
        if self.touches[pfn] < MOST_TOUCHES:
            self.touches[pfn] += 1

    def page_left(self, pfn: int) -> None:
        """Out of its queue."""
        if not self.small.discard(pfn):
            self.main.remove(pfn)

    def page_evicted(self, pfn: int) -> None:
        """Out; from the small queue it is remembered."""
        if self.small.discard(pfn):
            self.ghost.remember(self.memory.page(pfn), self.ghost_limit)
        else:
            self.main.remove(pfn)

    def choose_victims(self) -> Iterator[int]:
        """From the main queue when it has more than its share, else from the small one; touched pages stay."""
        self.has_evicted = True
        capacity = self.memory.capacity
        if capacity != self.capacity:
            self._divide(capacity)
        passed: set[int] = set()
        while (pfn := self._victim(passed)) is not None:
            yield pfn
            if pfn in self.small or pfn in self.main:  # it could not go
                passed.add(pfn)

    def _divide(self, capacity: int) -> None:
        self.capacity = capacity
        self.main_limit = capacity - int(capacity * self.small_share)
        self.ghost_limit = int(capacity * self.ghost_share)

    def _victim(self, passed: set[int]) -> int | None:
        """The next victim; those of `passed`, which could not go, are gone over and left to the end of their queue."""
        small, main, touches = self.small, self.main, self.touches
        if main.length <= self.main_limit:
            while (pfn := small.first_besides(passed) if passed else small.head) is not None and pfn >= 0:
                if touches[pfn] < self.promote_at:
                    return pfn
                touches[pfn] = 0
                small.remove(pfn)
                main.append(pfn)
        while (pfn := main.first_besides(passed) if passed else main.head) is not None and pfn >= 0:
            if not touches[pfn]:
                return pfn
            touches[pfn] -= 1
            main.move_to_end(pfn)
        return small.first_besides(passed)

    def reason(self, pfn: int) -> str:
        """Which queue, and what was missing."""
        if pfn in self.small:
            return f"touched fewer than {self.promote_at} times in the small queue"
        return "not touched since it last came to the head of the main queue"
