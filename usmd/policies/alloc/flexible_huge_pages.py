"""Flexible huge pages: N contiguous pages a fault, for any N (USM's batch allocation)."""

from __future__ import annotations

from typing import Final

from mypy_extensions import mypyc_attr

from usmd.core.hint_values import MAX_SIZE
from usmd.core.hints import Access
from usmd.core.policy import Allocation, AllocPolicy, AsyncRequest, Fault
from usmd.core.view import MemoryView
from usmd.errors import InvalidArgument
from usmd.sizes import format_size

HINTED_PAGES: Final = 16
"""N if a hint asks for more than one page and gives no size: 64 KiB of the usual pages."""


def pages_of(policy: str, size: int, page_size: int) -> int:
    """Pages in a policy's parameter `size`. Raises InvalidArgument."""
    if size < 0 or size % page_size or size > MAX_SIZE:
        raise InvalidArgument(
            f"{policy}(size={size}); allowed are whole pages of {format_size(page_size)} up to {format_size(MAX_SIZE)}"
            ", such as 64K, 64KB or 64KiB (all 65,536 bytes), 2M, 1G"
        )
    return size // page_size


@mypyc_attr(allow_interpreted_subclasses=True)
class FlexibleHugePages(AllocPolicy):
    """N contiguous pages around the fault, for any N: fewer faults if neighbours are touched together.

    `pages` is N, or `size` is N pages in bytes (0: `pages` counts), unless a hint says `FHP=<size>`. A huge page is at
    most 1 GiB. ACCESS=SEQUENTIAL takes the N pages from the fault on, ACCESS=RANDOM only the page itself. If N is 1, it
    is 16 for FHP=AUTO, and for ACCESS=SEQUENTIAL without FHP. `budget` is a share of all frames, 0 to 1: a process that
    holds more gets single pages.
    """

    heeds = frozenset({"FHP", "ACCESS"})
    sizes = ("size",)

    def __init__(self, memory: MemoryView, pages: int = 16, budget: float = 1.0, size: int = 0) -> None:
        if pages < 1 or not 0 <= budget <= 1:
            raise InvalidArgument(
                f"flexible_huge_pages(pages={pages}, budget={budget}); allowed are pages from 1 and budget from 0 to 1"
            )
        super().__init__(memory)
        self.pages = pages_of("flexible_huge_pages", size, memory.page_size) if size else pages
        self.budget = budget

    def allocate(self, fault: Fault, async_rq: AsyncRequest) -> Allocation:
        """The huge page around the fault, cut to its region, its hint and the budget."""
        del async_rq
        if fault.hint is None and self.pages == 1:  # the usual case of the default policy
            return Allocation(fault.page)
        pages, access = self.pages, Access.NORMAL
        first, end = 0, fault.page_count
        if fault.hint is not None:
            hint = fault.hint.hint
            access = hint.access
            first, end = fault.hint.first, min(end, fault.hint.end)
            if hint.fhp_bytes:
                pages = -(-hint.fhp_bytes // self.memory.page_size)
            elif pages == 1 and (hint.fhp_bytes == 0 or access is Access.SEQUENTIAL):
                pages = HINTED_PAGES
        left = int(self.budget * self.memory.frame_count) - self.memory.resident_pages
        if access is Access.RANDOM or pages == 1 or left <= 1:
            return Allocation(fault.page)
        start = fault.page if access is Access.SEQUENTIAL else fault.page - fault.page % pages
        start, end = max(start, first), min(start + pages, end)
        if end - start > left:  # keep the part with the fault: the other parts may be resident already
            start += (fault.page - start) // left * left
            end = min(start + left, end)
        return Allocation(start, end - start)
