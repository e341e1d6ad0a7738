"""ARC: adaptive replacement cache (Megiddo and Modha, FAST 2003). Its target is a real number, as in the paper."""

from __future__ import annotations

from collections.abc import Iterator

from usmd.core.policy import NO_HINTS, EvictPolicy
from usmd.core.remembered import Remembered, Returning
from usmd.core.view import MemoryView


class Arc(EvictPolicy):
    """Two LRU lists, for pages touched once and pages touched again; misses on what each evicted move the border."""

    heeds = NO_HINTS

    def __init__(self, memory: MemoryView) -> None:
        super().__init__(memory)
        self.t1 = memory.new_list()
        """Pages touched once since they came in."""
        self.t2 = memory.new_list()
        """Pages touched again, or missed again soon after they went."""
        self.b1 = Remembered()
        """Pages evicted from t1, and in b2 from t2; oldest first."""
        self.b2 = Remembered()
        self.target = 0.0
        """Length that t1 should have (p in the paper)."""
        self.missed = 0
        """Whether the page that was missed last is in b1 (1), in b2 (2), or in neither (0)."""
        self.returning = Returning(memory.frame_count)
        """Pages that were in b1 or b2 when they were missed, and are not filled yet."""
        self.forget: int | None = None
        """A victim that will not be remembered."""

    def page_missed(self, page: int) -> None:
        """A miss on what t1 evicted makes t1 longer, a miss on what t2 evicted makes it shorter."""
        once, again = len(self.b1), len(self.b2)
        self.missed = 0
        if self.returning.expect(page, self.b1):
            self.target = min(self.target + max(again / once, 1), self.memory.capacity)
            self.missed = 1
        elif self.returning.expect(page, self.b2):
            self.target = max(self.target - max(once / again, 1), 0)
            self.missed = 2

    def page_filled(self, pfn: int) -> None:
        """Into t1, or into t2 if it came back."""
        if self.returning.came(self.memory.page(pfn)):
            self.t2.append(pfn)
        else:
            self.t1.append(pfn)

    def page_accessed(self, pfn: int, write: bool) -> None:
        """The most recent of t2."""
        del write
        if self.t1.discard(pfn):
            self.t2.append(pfn)
        else:
            self.t2.move_to_end(pfn)

    def page_left(self, pfn: int) -> None:
        """Out."""
        if not self.t1.discard(pfn):
            self.t2.remove(pfn)

    def page_evicted(self, pfn: int) -> None:
        """Out, and remembered."""
        if self.t1.discard(pfn):
            if pfn != self.forget:
                self.b1[self.memory.page(pfn)] = None
        else:
            self.t2.remove(pfn)
            self.b2[self.memory.page(pfn)] = None
        self.forget = None

    def choose_victims(self) -> Iterator[int]:
        """The paper's REPLACE, after it has made room among what is remembered."""
        passed: set[int] = set()
        while True:
            self.forget = None
            pfn = self._victim(passed)
            if pfn is None:
                return
            yield pfn
            if pfn in self.t1 or pfn in self.t2:  # it could not go
                passed.add(pfn)
            self.missed = 0  # a second victim is for no page in particular

    def _victim(self, passed: set[int]) -> int | None:
        if not self.missed:
            capacity = self.memory.capacity
            seen_once = len(self.t1) + len(self.b1)
            if seen_once >= capacity:
                if self.b1:
                    self.b1.popitem(last=False)
                else:
                    pfn = self.t1.first_besides(passed)
                    self.forget = pfn
                    if pfn is not None:
                        return pfn
            elif seen_once + len(self.t2) + len(self.b2) >= 2 * capacity and self.b2:
                self.b2.popitem(last=False)
        recent = len(self.t1)
        from_t1 = recent > 0 and (recent > self.target or (recent == self.target and self.missed == 2))
        first, second = (self.t1, self.t2) if from_t1 else (self.t2, self.t1)
        pfn = first.first_besides(passed)
        return second.first_besides(passed) if pfn is None else pfn

    def reason(self, pfn: int) -> str:
        """Which list, and where the border is."""
        if pfn in self.t1:
            return f"least recently used of the {len(self.t1)} pages touched once (target {self.target:.0f})"
        return f"least recently used of the {len(self.t2)} pages touched again"
