"""First fit: one page a fault, on the lowest free frame (USM's first-fit policy)."""

from __future__ import annotations

from mypy_extensions import mypyc_attr

from usmd.core.policy import NO_HINTS, Allocation, AllocPolicy, AsyncRequest, Fault


@mypyc_attr(allow_interpreted_subclasses=True)
class FirstFit(AllocPolicy):
    """One page a fault, on the lowest free frame; the fault waits for its I/O."""

    heeds = NO_HINTS
    single_page = True

    def come_alone(self, region_id: int, pages: list[int]) -> int:
        """All of them."""
        del region_id
        return len(pages)

    def allocate(self, fault: Fault, async_rq: AsyncRequest) -> Allocation:
        """The faulting page."""
        del async_rq
        return Allocation(fault.page)
