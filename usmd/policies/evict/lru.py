"""Least recently used: the page whose last known touch is longest ago goes first."""

from __future__ import annotations

from collections.abc import Iterable

from usmd.core.policy import NO_HINTS, EvictPolicy
from usmd.core.view import MemoryView


class Lru(EvictPolicy):
    """The page whose last known touch is longest ago goes first."""

    heeds = NO_HINTS

    def __init__(self, memory: MemoryView) -> None:
        super().__init__(memory)
        self.recency = memory.new_list()

    def page_filled(self, pfn: int) -> None:
        """A fill is a touch."""
        self.recency.append(pfn)

    def page_accessed(self, pfn: int, write: bool) -> None:
        """A touch makes the page the most recent one."""
        del write
        self.recency.move_to_end(pfn)

    def page_left(self, pfn: int) -> None:
        """Out."""
        self.recency.remove(pfn)

    def choose_victims(self) -> Iterable[int]:
        """Least recent first."""
        return self.recency

    def reason(self, pfn: int) -> str:
        """The order of touches."""
        del pfn
        return "least recently used of its process"
