"""Least recently used: the page whose last known touch was longest ago goes first."""

from __future__ import annotations

from collections.abc import Iterable

from mypy_extensions import mypyc_attr

from usmd.core.policy import NO_HINTS, EvictPolicy
from usmd.core.view import MemoryView


@mypyc_attr(allow_interpreted_subclasses=True)
class Lru(EvictPolicy):
    """The page whose last known touch was longest ago goes first."""

    heeds = NO_HINTS

    def __init__(self, memory: MemoryView) -> None:
        super().__init__(memory)
        self.recency = memory.new_list()

    def page_filled(self, pfn: int) -> None:
        """Count the fill as a touch."""
        self.recency.append(pfn)

    def pages_filled(self, frames: range) -> None:
        """Append them."""
        self.recency.extend(frames)

    def page_accessed(self, pfn: int, write: bool) -> None:
        """Make it the most recent."""
        del write
        self.recency.move_to_end(pfn)

    def pages_accessed(self, frames: list[int]) -> None:
        """Make each of them the most recent."""
        self.recency.move_all_to_end(frames)

    def page_left(self, pfn: int) -> None:
        """Remove it."""
        self.recency.remove(pfn)

    def choose_victims(self) -> Iterable[int]:
        """The least recent first."""
        return self.recency

    def first_victim(self) -> int:
        """The least recent."""
        return self.recency.head

    def reason(self, pfn: int) -> str:
        """The order of touches."""
        del pfn
        return "least recently used of its process"
