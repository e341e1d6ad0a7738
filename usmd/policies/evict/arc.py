"""ARC, adaptive replacement cache (Megiddo and Modha, FAST 2003). The target is a real number, as in the paper."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Final

from mypy_extensions import mypyc_attr

from usmd.core.policy import NO_HINTS, EvictPolicy
from usmd.core.remembered import Remembered, Returning
from usmd.core.view import MemoryView

_NONE_PASSED: Final[frozenset[int]] = frozenset()


@mypyc_attr(allow_interpreted_subclasses=True)
class Arc(EvictPolicy):
    """Two LRU lists, of pages touched once and touched again; misses on pages that one evicted make that one longer."""

    heeds = NO_HINTS

    def __init__(self, memory: MemoryView) -> None:
        super().__init__(memory)
        self.t1 = memory.new_list()
        """Pages touched once since they were brought in."""
        self.t2 = memory.new_list()
        """Pages touched again, or missed again soon after their eviction."""
        self.b1 = Remembered()
        """Pages evicted from t1, oldest first; `b2` has those evicted from t2."""
        self.b2 = Remembered()
        self.target = 0.0
        """Target length of t1 (p in the paper)."""
        self.missed = 0
        """Where the last missed page is remembered: in b1 (1), in b2 (2), or nowhere (0)."""
        self.returning = Returning(memory.frame_count)
        """Pages that were in b1 or b2 when they were missed, and are not yet filled."""
        self.forget: int | None = None
        """A victim that will not be remembered."""

    def page_missed(self, page: int) -> None:
        """A miss on a page that t1 evicted raises t1's target; a miss on one that t2 evicted lowers it."""
        once, again = len(self.b1.pages), len(self.b2.pages)
        self.missed = 0
        if self.returning.expect(page, self.b1):
            self.target = min(self.target + max(again / once, 1), self.memory.capacity)
            self.missed = 1
        elif self.returning.expect(page, self.b2):
            self.target = max(self.target - max(once / again, 1), 0)
            self.missed = 2

    def page_filled(self, pfn: int) -> None:
        """Append it to t2 if it was remembered, else to t1."""
        if self.returning.came(self.memory.page(pfn)):
            self.t2.append(pfn)
        else:
            self.t1.append(pfn)

    def page_accessed(self, pfn: int, write: bool) -> None:
        """Make it the most recent page of t2."""
        del write
        if self.t1.discard(pfn):
            self.t2.append(pfn)
        else:
            self.t2.move_to_end(pfn)

    def page_left(self, pfn: int) -> None:
        """Remove it."""
        if not self.t1.discard(pfn):
            self.t2.remove(pfn)

    def page_evicted(self, pfn: int) -> None:
        """Remove it, and remember its page."""
        if self.t1.discard(pfn):
            if pfn != self.forget:
                self.b1.pages[self.memory.page(pfn)] = None
        else:
            self.t2.remove(pfn)
            self.b2.pages[self.memory.page(pfn)] = None
        self.forget = None

    def choose_victims(self) -> Iterator[int]:
        """The paper's REPLACE, after making room among the remembered pages."""
        passed: set[int] = set()
        while True:
            self.forget = None
            pfn = self._victim(passed)
            if pfn is None:
                return
            yield pfn
            if pfn in self.t1 or pfn in self.t2:  # the core refused it
                passed.add(pfn)
            self.missed = 0  # further victims are not for that missed page

    def first_victim(self) -> int:
        """The first of them."""
        self.forget = None
        pfn = self._victim(_NONE_PASSED)
        return -1 if pfn is None else pfn

    def _victim(self, passed: Collection[int]) -> int | None:
        if not self.missed:
            capacity = self.memory.capacity
            seen_once = len(self.t1) + len(self.b1.pages)
            if seen_once >= capacity:
                if self.b1.pages:
                    self.b1.pages.popitem(last=False)
                else:
                    pfn = self.t1.first_besides(passed)
                    self.forget = pfn
                    if pfn is not None:
                        return pfn
            elif seen_once + len(self.t2) + len(self.b2.pages) >= 2 * capacity and self.b2.pages:
                self.b2.pages.popitem(last=False)
        recent = len(self.t1)
        from_t1 = recent > 0 and (recent > self.target or (recent == self.target and self.missed == 2))
        first, second = (self.t1, self.t2) if from_t1 else (self.t2, self.t1)
        pfn = first.first_besides(passed)
        return second.first_besides(passed) if pfn is None else pfn

    def reason(self, pfn: int) -> str:
        """The list of the victim, and the target."""
        if pfn in self.t1:
            return f"least recently used of the {len(self.t1)} pages touched once (target {self.target:.0f})"
        return f"least recently used of the {len(self.t2)} pages touched again"
