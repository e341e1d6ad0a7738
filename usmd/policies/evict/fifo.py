"""First in, first out: the page that was brought in first goes first (USM's FIFO eviction)."""

from __future__ import annotations

from collections.abc import Iterable

from mypy_extensions import mypyc_attr

from usmd.core.policy import NO_HINTS, EvictPolicy
from usmd.core.view import MemoryView


@mypyc_attr(allow_interpreted_subclasses=True)
class Fifo(EvictPolicy):
    """The page that was brought in first goes first."""

    heeds = NO_HINTS

    def __init__(self, memory: MemoryView) -> None:
        super().__init__(memory)
        self.queue = memory.new_list()

    def page_filled(self, pfn: int) -> None:
        """Append it."""
        self.queue.append(pfn)

    def pages_filled(self, frames: range) -> None:
        """Append them."""
        self.queue.extend(frames)

    def page_left(self, pfn: int) -> None:
        """Remove it."""
        self.queue.remove(pfn)

    def choose_victims(self) -> Iterable[int]:
        """The first in first."""
        return self.queue

    def first_victim(self) -> int:
        """The first in."""
        return self.queue.head

    def reason(self, pfn: int) -> str:
        """The order of arrival."""
        del pfn
        return "first in of its process"
