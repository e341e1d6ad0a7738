"""CLOCK: first in, first out with a second chance (F. Corbató, "A paging experiment with the Multics system", 1968)."""

from __future__ import annotations

from collections.abc import Iterator

from mypy_extensions import mypyc_attr

from usmd.core.policy import NO_HINTS, EvictPolicy
from usmd.core.view import MemoryView
from usmd.errors import InvalidArgument


@mypyc_attr(allow_interpreted_subclasses=True)
class Clock(EvictPolicy):
    """The oldest page goes first, unless it was touched since the hand last passed it; then it is young again.

    Each page has a counter of touches with `bits` bits: it survives as many passes of the hand as it was touched, up to
    2^bits - 1. One bit is the paper's reference bit.
    """

    heeds = NO_HINTS

    def __init__(self, memory: MemoryView, bits: int = 1) -> None:
        if not 1 <= bits <= 8:
            raise InvalidArgument(f"clock(bits={bits}); allowed are 1 to 8")
        super().__init__(memory)
        self.most = (1 << bits) - 1
        self.queue = memory.new_list()
        self.touched = bytearray(memory.frame_count)

    def page_filled(self, pfn: int) -> None:
        """Append it behind the hand, untouched."""
        self.touched[pfn] = 0
        self.queue.append(pfn)

    def page_accessed(self, pfn: int, write: bool) -> None:
        """Count a touch."""
        del write
        if self.touched[pfn] < self.most:
            self.touched[pfn] += 1

    def pages_accessed(self, frames: list[int]) -> None:
        """Count a touch for each."""
        touched, most = self.touched, self.most
        for pfn in frames:
            if touched[pfn] < most:
                touched[pfn] += 1

    def page_left(self, pfn: int) -> None:
        """Remove it."""
        self.queue.remove(pfn)

    def choose_victims(self) -> Iterator[int]:
        """The hand lowers each counter that it passes, and stops at pages whose counter is 0."""
        queue, touched = self.queue, self.touched
        passed: set[int] = set()
        while (pfn := queue.first_besides(passed)) is not None:
            if touched[pfn]:
                touched[pfn] -= 1
                queue.move_to_end(pfn)
            else:
                yield pfn
                if pfn in queue:  # the core refused it
                    passed.add(pfn)

    def first_victim(self) -> int:
        """The first page whose counter is 0, from the hand on."""
        queue, touched = self.queue, self.touched
        while (pfn := queue.head) >= 0 and touched[pfn]:
            touched[pfn] -= 1
            queue.move_to_end(pfn)
        return pfn

    def reason(self, pfn: int) -> str:
        """What the hand found."""
        del pfn
        return "not touched since the hand last passed it"
