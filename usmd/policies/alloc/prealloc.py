"""Pre-allocation: brings in a region's first pages at once, before they are touched (USM's pre-allocation)."""

from __future__ import annotations

from mypy_extensions import mypyc_attr

from usmd.core.policy import NO_HINTS, Allocation, AllocPolicy, AsyncRequest, Fault
from usmd.core.view import MemoryView
from usmd.errors import InvalidArgument


@mypyc_attr(allow_interpreted_subclasses=True)
class Prealloc(AllocPolicy):
    """The first touch of a region brings in `pages` pages from there; each later fault brings in one page."""

    heeds = NO_HINTS

    def __init__(self, memory: MemoryView, pages: int = 64) -> None:
        if pages < 1:
            raise InvalidArgument(f"prealloc(pages={pages}); allowed are pages from 1")
        super().__init__(memory)
        self.pages = pages
        self.touched: set[int] = set()

    def allocate(self, fault: Fault, async_rq: AsyncRequest) -> Allocation:
        """Many pages at the region's first fault, one at each later fault."""
        del async_rq
        if fault.region_id in self.touched:
            return Allocation(fault.page)
        self.touched.add(fault.region_id)
        end = fault.page_count if fault.hint is None else min(fault.hint.end, fault.page_count)
        return Allocation(fault.page, min(self.pages, end - fault.page))
