"""SIEVE: a hand that moves from old to young over pages that keep their place (Zhang et al., NSDI 2024)."""

from __future__ import annotations

from collections.abc import Iterator

from mypy_extensions import mypyc_attr

from usmd.core.policy import NO_HINTS, EvictPolicy
from usmd.core.view import MemoryView


@mypyc_attr(allow_interpreted_subclasses=True)
class Sieve(EvictPolicy):
    """The hand moves from the oldest page to the youngest, spares touched pages, and takes the first untouched one.

    Unlike in CLOCK, a spared page keeps its place. So new pages, which are at the far end, are sifted out before old
    and popular ones.
    """

    heeds = NO_HINTS

    def __init__(self, memory: MemoryView) -> None:
        super().__init__(memory)
        self.queue = memory.new_list()
        self.visited = bytearray(memory.frame_count)
        self.hand: int | None = None
        """The page that the hand looks at next; None: the oldest."""

    def page_filled(self, pfn: int) -> None:
        """Append it as the youngest, not visited."""
        self.visited[pfn] = 0
        self.queue.append(pfn)

    def page_accessed(self, pfn: int, write: bool) -> None:
        """Mark it visited."""
        del write
        self.visited[pfn] = 1

    def pages_accessed(self, frames: list[int]) -> None:
        """Mark them visited."""
        visited = self.visited
        for pfn in frames:
            visited[pfn] = 1

    def page_left(self, pfn: int) -> None:
        """Remove it; if the hand pointed at it, the hand moves on."""
        if pfn == self.hand:
            self.hand = self.queue.after(pfn)
        self.queue.remove(pfn)

    def choose_victims(self) -> Iterator[int]:
        """From the hand on, round and round."""
        queue, visited = self.queue, self.visited
        passed: set[int] = set()
        while len(passed) < len(queue):
            pfn = queue.first if self.hand is None else self.hand
            if pfn is None:
                return
            self.hand = queue.after(pfn)
            if visited[pfn]:
                visited[pfn] = 0
            elif pfn not in passed:
                yield pfn
                if pfn in queue:  # the core refused it
                    passed.add(pfn)

    def first_victim(self) -> int:
        """The first page that was not visited, from the hand on."""
        queue, visited = self.queue, self.visited
        while (pfn := queue.head if self.hand is None else self.hand) >= 0:
            self.hand = queue.after(pfn)
            if not visited[pfn]:
                break
            visited[pfn] = 0
        return pfn

    def reason(self, pfn: int) -> str:
        """What the hand found."""
        del pfn
        return "not touched since the hand last passed it"
